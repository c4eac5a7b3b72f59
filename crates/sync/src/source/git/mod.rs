//! Trees of git repositories, read from their objects without a checkout.
//!
//! What git holds is published as git holds it: bytes without filters, modes as they are, pointers of Git LFS as
//! pointers, submodules as commits. Replacement objects and grafts are not followed, and the repository's
//! configuration has no say. A blob is in memory while it is hashed; that is the bound on memory.

mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix::objs::Kind;
use smart_sync_store::id::{BlobId, CommitId, TreeId};
use smart_sync_store::manifest::{Attributes, Fidelity, ManifestSummary, Shown, TreePath};

use super::cache::ContentCache;
use super::{
    ContentReader, Contents, Handle, Known, SourceEntry, SourceError, SourceNode, TakeBytes, TreeSource,
    Warning,
};
pub use walk::{TreeItem, parse_tree};
use walk::{TreeWalk, WalkNode};

/// Why a git repository could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no repository, or it cannot be opened.
    #[error("opening the git repository {}", path.display())]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// What git's library says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The repository names its objects with SHA-256.
    #[error("{} is a SHA-256 repository; only SHA-1 repositories can be published for now", .0.display())]
    Sha256(PathBuf),
    /// Nothing has this name.
    #[error("{0:?} is no branch, tag or commit of the repository")]
    NoSuchRevision(String),
    /// Several commits begin with these digits.
    #[error("{0:?} is the beginning of several object ids; give more digits")]
    Ambiguous(String),
    /// A tag of something that is no commit.
    #[error("{0:?} names a {1}, not a commit")]
    NotACommit(String, String),
    /// An object is not there. A partial or shallow clone lacks objects.
    #[error("git object {id} is missing from the repository{}", of_path(path))]
    Missing {
        /// The object.
        id: String,
        /// The path that needs it; empty where none does.
        path: Vec<u8>,
    },
    /// An object could not be read.
    #[error("reading git object {id}")]
    Object {
        /// The object.
        id: String,
        /// What git's library says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A tree is not written as git writes trees.
    #[error("git tree {id} is malformed: {reason}")]
    MalformedTree {
        /// The tree.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The references could not be read.
    #[error("reading the references of the repository")]
    References(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn of_path(path: &[u8]) -> String {
    if path.is_empty() { String::new() } else { format!(" ({})", Shown(path)) }
}

/// A commit with what a publication says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GitCommit {
    /// The commit.
    pub id: CommitId,
    /// Its tree.
    pub tree: TreeId,
    /// When it was made, in seconds since 1970.
    pub time: i64,
}

/// The two kinds of reference that are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReferenceKind {
    /// `refs/heads/`.
    Branch,
    /// `refs/tags/`.
    Tag,
}

/// A branch or tag and the commit that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitReference {
    /// Branch or tag.
    pub kind: ReferenceKind,
    /// The name without `refs/heads/` or `refs/tags/`.
    pub name: Vec<u8>,
    /// The commit, annotated tags peeled.
    pub commit: GitCommit,
}

/// A git repository, bare or not, a linked worktree or a plain one.
#[derive(Clone)]
pub struct GitRepository {
    shared: Arc<gix::ThreadSafeRepository>,
}

/// Finds blobs of a repository by their ids.
pub struct BlobFinder(gix::Repository);

impl BlobFinder {
    /// The bytes of a blob, if one of this size is there and can be read. git's ids are not what trust rests on: the
    /// bytes are to be verified like any others.
    pub fn find(&self, blob: BlobId, size: u64) -> Option<Vec<u8>> {
        let id = gix::ObjectId::from(*blob.as_bytes());
        let header = self.0.try_find_header(id).ok()??;
        if header.kind() != Kind::Blob || header.size() != size {
            return None;
        }
        Some(self.0.try_find_object(id).ok()??.detach().data)
    }
}

impl GitRepository {
    /// Opens the repository at a path, or the one whose worktree is there.
    pub fn open(path: &Path) -> Result<Self, GitError> {
        let options = gix::open::Options::isolated().config_overrides(["core.useReplaceRefs=false"]);
        let opened = gix::ThreadSafeRepository::open_opts(path, options);
        let shared = opened.map_err(|error| {
            if names_sha256(path) {
                GitError::Sha256(path.to_owned())
            } else {
                GitError::Open { path: path.to_owned(), source: error.into() }
            }
        })?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The blobs of the repository, whatever refers to them.
    pub fn blobs(&self) -> BlobFinder {
        BlobFinder(self.shared.to_thread_local())
    }

    /// All branches and tags that lead to commits, in the order of their names.
    pub fn references(&self) -> Result<Vec<GitReference>, GitError> {
        let repository = self.shared.to_thread_local();
        let platform = repository.references().map_err(|error| GitError::References(error.into()))?;
        let mut references = Vec::new();
        for (kind, prefix) in
            [(ReferenceKind::Branch, &b"refs/heads/"[..]), (ReferenceKind::Tag, b"refs/tags/")]
        {
            let found = match kind {
                ReferenceKind::Branch => platform.local_branches(),
                ReferenceKind::Tag => platform.tags(),
            };
            for reference in found.map_err(|error| GitError::References(error.into()))? {
                let mut reference = reference.map_err(|error| GitError::References(error.into()))?;
                let name = reference.name().as_bstr().to_vec();
                let shown = Shown(&name).to_string();
                let id = reference.peel_to_id().map_err(|error| GitError::References(error.into()))?.detach();
                match commit(&repository, id, &shown) {
                    Ok(commit) => {
                        let name = name.strip_prefix(prefix).unwrap_or(&name).to_vec();
                        references.push(GitReference { kind, name, commit });
                    }
                    // A tag of a blob or tree, as some projects have for keys, is nothing that could be synced.
                    Err(GitError::NotACommit(..)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(references)
    }

    /// The branch that is checked out, or that would be; none where a commit is checked out by itself.
    pub fn checked_out(&self) -> Result<Option<Vec<u8>>, GitError> {
        let repository = self.shared.to_thread_local();
        let head = repository.head_name().map_err(|error| GitError::References(error.into()))?;
        Ok(head.and_then(|name| name.as_bstr().strip_prefix(b"refs/heads/").map(<[u8]>::to_vec)))
    }

    /// Finds a commit: by a full reference name, `HEAD`, a branch, a tag, an object id, or the beginning of one.
    pub fn resolve(&self, revision: &str) -> Result<GitCommit, GitError> {
        let repository = self.shared.to_thread_local();
        let names = [revision.to_owned(), format!("refs/heads/{revision}"), format!("refs/tags/{revision}")];
        let is_full = revision == "HEAD" || revision.starts_with("refs/");
        for name in if is_full { &names[..1] } else { &names[1..] } {
            let Ok(Some(mut reference)) = repository.try_find_reference(name.as_str()) else { continue };
            if reference.name().as_bstr() != name.as_str() {
                continue;
            }
            let id = reference.peel_to_id().map_err(|error| GitError::References(error.into()))?.detach();
            return commit(&repository, id, revision);
        }
        let id = object_id(&repository, revision)?;
        commit(&repository, id, revision)
    }

    /// The tree of a commit as a source, with what is remembered of blobs that were read before.
    pub fn tree(&self, commit: &GitCommit, cache: ContentCache) -> Result<GitSource, SourceError> {
        let walk = TreeWalk::new(self.shared.to_thread_local(), commit.tree)?;
        Ok(GitSource { shared: Arc::clone(&self.shared), walk, tree: commit.tree, cache })
    }
}

/// Whether the configuration of a repository that could not be opened asks for SHA-256.
fn names_sha256(path: &Path) -> bool {
    [path.join(".git/config"), path.join("config")].iter().any(|file| {
        std::fs::read_to_string(file).is_ok_and(|text| {
            text.lines().any(|line| {
                let line = line.to_ascii_lowercase().replace([' ', '\t'], "");
                line.starts_with("objectformat=sha256")
            })
        })
    })
}

fn object_id(repository: &gix::Repository, revision: &str) -> Result<gix::ObjectId, GitError> {
    let no_such = || GitError::NoSuchRevision(revision.to_owned());
    let lower = revision.to_ascii_lowercase();
    if lower.len() == 40 {
        return gix::ObjectId::from_hex(lower.as_bytes()).map_err(|_| no_such());
    }
    if lower.len() < 4 || lower.len() > 40 || !lower.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(no_such());
    }
    let prefix = gix::hash::Prefix::from_hex(&lower).map_err(|_| no_such())?;
    match repository.objects.lookup_prefix(prefix, None) {
        Ok(Some(Ok(id))) => Ok(id),
        Ok(Some(Err(()))) => Err(GitError::Ambiguous(revision.to_owned())),
        Ok(None) => Err(no_such()),
        Err(source) => Err(GitError::Object { id: lower, source: source.into() }),
    }
}

fn commit(repository: &gix::Repository, id: gix::ObjectId, name: &str) -> Result<GitCommit, GitError> {
    let failed =
        |source: Box<dyn std::error::Error + Send + Sync>| GitError::Object { id: id.to_string(), source };
    let object = repository.try_find_object(id).map_err(|error| failed(error.into()))?;
    let object = object.ok_or_else(|| match name.len() {
        40 => GitError::NoSuchRevision(name.to_owned()),
        _ => GitError::Missing { id: id.to_string(), path: Vec::new() },
    })?;
    let object = object.peel_tags_to_end().map_err(|error| failed(error.into()))?;
    if object.kind != Kind::Commit {
        return Err(GitError::NotACommit(name.to_owned(), object.kind.to_string()));
    }
    let commit = object.try_into_commit().map_err(|error| failed(error.into()))?;
    let tree = commit.tree_id().map_err(|error| failed(error.into()))?.detach();
    let time = commit.committer().map_err(|error| failed(error.into()))?.seconds();
    Ok(GitCommit {
        id: CommitId::from_bytes(sha1_bytes(&commit.id)),
        tree: TreeId::from_bytes(sha1_bytes(&tree)),
        time,
    })
}

fn sha1_bytes(id: &gix::oid) -> [u8; 20] {
    id.as_bytes().try_into().expect("only SHA-1 repositories are opened")
}

/// The tree of a commit.
pub struct GitSource {
    shared: Arc<gix::ThreadSafeRepository>,
    walk: TreeWalk,
    tree: TreeId,
    cache: ContentCache,
}

impl GitSource {
    /// What is remembered, for the next publication.
    pub fn into_cache(self) -> ContentCache {
        self.cache
    }
}

impl TreeSource for GitSource {
    fn fidelity(&self) -> Fidelity {
        Fidelity::Git
    }

    fn next_entry(&mut self) -> Result<Option<SourceEntry>, SourceError> {
        let Some((path, mode, node)) = self.walk.next()? else { return Ok(None) };
        let node = match node {
            WalkNode::Plain(node) => SourceNode::Plain(node),
            WalkNode::Blob(blob) => {
                let known = self.cache.blob(&blob);
                let size = match known {
                    Some(known) => known.content.size,
                    None => self.walk.blob_size(&path, blob)?,
                };
                SourceNode::Content { is_symlink: mode.is_symlink(), size, handle: Handle::Blob(blob), known }
            }
        };
        Ok(Some(SourceEntry { path, attributes: Attributes::Git(mode), node }))
    }

    fn contents(&self) -> Arc<dyn Contents> {
        Arc::new(Blobs(Arc::clone(&self.shared)))
    }

    fn remember(&mut self, _path: &TreePath, _handle: &Handle, known: &Known) {
        self.cache.remember_blob(known);
    }

    fn expected_tree(&self) -> Option<TreeId> {
        Some(self.tree)
    }

    fn known_manifest(&mut self) -> Option<ManifestSummary> {
        self.cache.tree(&self.tree)
    }

    fn remember_manifest(&mut self, manifest: &ManifestSummary) {
        self.cache.remember_tree(self.tree, manifest);
    }

    fn take_warnings(&mut self) -> Vec<Warning> {
        Vec::new()
    }
}

/// The blobs of a repository.
struct Blobs(Arc<gix::ThreadSafeRepository>);

impl Contents for Blobs {
    fn reader(&self) -> Box<dyn ContentReader + '_> {
        Box::new(BlobReader(self.0.to_thread_local()))
    }

    fn look_again(&self, _path: &TreePath) -> Result<Option<(Attributes, u64, Handle)>, SourceError> {
        Ok(None)
    }
}

struct BlobReader(gix::Repository);

impl ContentReader for BlobReader {
    fn read(&mut self, path: &TreePath, handle: &Handle, take: TakeBytes<'_>) -> Result<(), SourceError> {
        let Handle::Blob(blob) = handle else { return Ok(()) };
        take(&find(&self.0, *blob.as_bytes(), Kind::Blob, path.as_bytes())?.data)
    }
}

/// Finds an object that a path needs.
fn find<'a>(
    repository: &'a gix::Repository,
    id: [u8; 20],
    kind: Kind,
    path: &[u8],
) -> Result<gix::Object<'a>, GitError> {
    let id = gix::ObjectId::from(id);
    let object = repository
        .try_find_object(id)
        .map_err(|source| GitError::Object { id: id.to_string(), source: source.into() })?
        .ok_or_else(|| GitError::Missing { id: id.to_string(), path: path.to_vec() })?;
    if object.kind == kind {
        Ok(object)
    } else {
        let source = format!("it is a {} and should be a {kind}", object.kind).into();
        Err(GitError::Object { id: id.to_string(), source })
    }
}

/// The number of bytes of a blob, without reading all of it.
fn blob_size(repository: &gix::Repository, blob: BlobId, path: &[u8]) -> Result<u64, GitError> {
    let id = gix::ObjectId::from(*blob.as_bytes());
    let header = repository
        .try_find_header(id)
        .map_err(|source| GitError::Object { id: id.to_string(), source: source.into() })?
        .ok_or_else(|| GitError::Missing { id: id.to_string(), path: path.to_vec() })?;
    Ok(header.size())
}
