//! Where trees come from: git repositories, directories, tar streams.
//!
//! A source gives entries in the order of a manifest and says for each content how it is read, but reads none
//! itself: that happens later, on several threads, and only for contents that are not known already.

pub mod assembled;
pub mod cache;
pub mod directory;
pub mod git;
pub mod listed;
pub mod tar;

use std::io;
use std::sync::Arc;

use smart_sync_store::id::{BlobId, TreeId};
use smart_sync_store::manifest::{
    Attributes, Content, Fidelity, GitTreeError, ManifestSummary, Node, PathError, Shown, TreePath,
};

pub use cache::FileStat;

/// A content whose names are known without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its names.
    pub content: Content,
    /// Whether it is not the file itself but a pointer to where Git LFS keeps it.
    pub is_lfs_pointer: bool,
}

/// How a content is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handle {
    /// A blob of a git repository.
    Blob(BlobId),
    /// A file in a directory, as it was when the directory was read.
    File(FileStat),
    /// A part of a spool file.
    Spooled {
        /// Where it begins.
        offset: u64,
        /// Its number of bytes.
        len: u64,
    },
    /// The bytes themselves.
    Bytes(Box<[u8]>),
    /// Not at all: the place that is published to has it, and nobody else is known to.
    Published,
}

/// What stands at a path of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceNode {
    /// Something without a content.
    Plain(Node),
    /// A file or a symbolic link.
    Content {
        /// Whether it is a symbolic link.
        is_symlink: bool,
        /// The number of bytes that it should have.
        size: u64,
        /// How it is read.
        handle: Handle,
        /// What is known of it already.
        known: Option<Known>,
    },
}

/// An entry of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// Where it is.
    pub path: TreePath,
    /// Its metadata.
    pub attributes: Attributes,
    /// What it is.
    pub node: SourceNode,
}

/// Something that the publisher should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Something was left out.
    Skipped {
        /// Where it is.
        path: Vec<u8>,
        /// What it is.
        what: &'static str,
    },
    /// A file is published as the pointer that Git LFS left in its place.
    LfsPointer(TreePath),
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Skipped { path, what } => write!(f, "{} is left out: {what}", Shown(path)),
            Self::LfsPointer(path) => {
                write!(f, "{path} is published as the Git LFS pointer that it is in the repository")
            }
        }
    }
}

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A path that no manifest can hold.
    #[error("{} cannot be published: {reason}", Shown(path))]
    Path {
        /// The path.
        path: Vec<u8>,
        /// What is wrong with it.
        reason: PathError,
    },
    /// The operating system refused.
    #[error("{operation} {}", Shown(path))]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: Vec<u8>,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file was written to while it was read, each time it was tried.
    #[error("{0} changes while it is read; publish it from a snapshot, or stop what writes to it")]
    Changed(TreePath),
    /// A content of a tree that was published is gone where it was published to, and is not here.
    #[error("{0} was published before, its content is lost there, and it is not here")]
    Lost(TreePath),
    /// A git repository could not be read.
    #[error(transparent)]
    Git(#[from] git::GitError),
    /// A tar stream could not be read.
    #[error(transparent)]
    Tar(#[from] tar::TarError),
    /// The tree that was read is not the one that git names.
    #[error("the entries of git tree {expected} make tree {found}: the repository is damaged")]
    WrongTree {
        /// The tree that was asked for.
        expected: TreeId,
        /// The tree that the entries make.
        found: TreeId,
    },
    /// A content is not what git calls it.
    #[error("{0} does not have the content that git names: the repository is damaged")]
    WrongBlob(TreePath),
    /// An entry is not of git in a tree that should be.
    #[error(transparent)]
    NotOfGit(#[from] GitTreeError),
}

impl SourceError {
    pub(crate) fn errno(operation: &'static str, path: &[u8]) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Io { operation, path: path.to_vec(), source: errno.into() }
    }
}

/// A tree that can be published.
pub trait TreeSource: Send {
    /// How much of a file's metadata it has.
    fn fidelity(&self) -> Fidelity;

    /// The next entry in the order of a manifest, or nothing at the end.
    fn next_entry(&mut self) -> Result<Option<SourceEntry>, SourceError>;

    /// What reads the contents, from any thread.
    fn contents(&self) -> Arc<dyn Contents>;

    /// Keeps what was found out by reading a content, for the next time.
    fn remember(&mut self, path: &TreePath, handle: &Handle, known: &Known);

    /// The git tree id that the entries must have, where there is one.
    fn expected_tree(&self) -> Option<TreeId>;

    /// The manifest that this tree was found to have before.
    fn known_manifest(&mut self) -> Option<ManifestSummary>;

    /// Keeps what manifest the tree has, for the next time.
    fn remember_manifest(&mut self, manifest: &ManifestSummary);

    /// Whether the tree can be gone through once more, and most of its contents may be known without being read.
    fn can_begin_again(&self) -> bool {
        false
    }

    /// Goes back to before the first entry, as if none had been given.
    fn begin_again(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    /// What the publisher should hear of, as found since the last call.
    fn take_warnings(&mut self) -> Vec<Warning>;
}

/// Reads the contents of a source.
pub trait Contents: Send + Sync {
    /// A reader for one thread.
    fn reader(&self) -> Box<dyn ContentReader + '_>;

    /// Looks again at a file that changed while it was read: its metadata, its size and how it is read now.
    fn look_again(&self, path: &TreePath) -> Result<Option<(Attributes, u64, Handle)>, SourceError>;
}

/// Takes the bytes of a content, piece by piece; an error ends the reading.
pub type TakeBytes<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), SourceError>;

/// Reads contents one after the other.
pub trait ContentReader {
    /// Gives all bytes of a content to `take`. A file that is not the one that was listed, or that changed on the
    /// way, is [`SourceError::Changed`]; by then `take` may have had bytes of it.
    fn read(&mut self, path: &TreePath, handle: &Handle, take: TakeBytes<'_>) -> Result<(), SourceError>;
}

/// Whether these are the first bytes of a pointer file of Git LFS.
pub(crate) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.len() < 1024 && bytes.starts_with(b"version https://git-lfs.github.com/spec/v1\n")
}

/// Takes bytes from outside as a path of a tree.
pub(crate) fn tree_path(bytes: Vec<u8>) -> Result<TreePath, SourceError> {
    TreePath::new(&bytes[..]).map_err(|reason| SourceError::Path { path: bytes, reason })
}
