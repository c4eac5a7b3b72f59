//! Repositories behind GitHub's REST API as a source of trees.
//!
//! Nothing here needs a signature, so nothing here is trusted further than it can be proven: the server says which
//! commit a ref is and which tree a commit has; from the tree's id down, every name, mode and byte is hashed and
//! compared. Where the API cannot be used, the git program fetches the same objects, which are proven the same way.

mod address;
mod cache;
mod clock;
mod download;
mod error;
mod git;
mod http;
mod limits;
mod listing;
mod resolve;
#[cfg(test)]
mod tests;
mod tree_id;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smart_sync_store::id::{BlobId, CommitId, TreeId};
use smart_sync_store::manifest::entry::GitMode;
use smart_sync_store::manifest::path::TreePath;
use smart_sync_sync::name::RefQuery;

pub use address::{Address, ParseAddressError};
pub use clock::{Clock, SystemClock};
pub use download::VerifiedBlob;
pub use error::SourceError;

use crate::output::Output;
use crate::token::Token;
use cache::Cache;
use download::Route;
use git::Git;
use http::Http;

/// How a repository is read.
#[derive(Clone)]
pub struct Options {
    /// Opens private repositories and raises the rate limit.
    pub token: Option<Token>,
    /// A folder for answers and objects that are kept; private to the user.
    pub folder: PathBuf,
    /// How many requests run at the same time.
    pub connections: usize,
    /// How long a connection may bring next to nothing.
    pub stall: Duration,
    /// How long a rate limit is waited for.
    pub rate_limit_wait: Duration,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A commit and its tree, as the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The commit.
    pub commit: CommitId,
    /// Its tree.
    pub tree: TreeId,
}

/// A whole tree whose listing hashes to its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTree {
    /// The commit.
    pub commit: CommitId,
    /// Its tree.
    pub tree: TreeId,
    /// What it holds, sorted by path. A directory stands here only where its files do not imply it: an empty one,
    /// or one with an unusual mode.
    pub entries: Vec<RemoteEntry>,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteEntry {
    /// Where it is.
    pub path: TreePath,
    /// Its mode in git.
    pub mode: GitMode,
    /// What it is.
    pub node: RemoteNode,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteNode {
    /// A file or the target of a symbolic link, by the mode.
    Blob {
        /// What git calls it.
        id: BlobId,
        /// Number of bytes, as the server says; the download proves it.
        size: u64,
    },
    /// A commit of another repository.
    Submodule(CommitId),
    /// A directory.
    Directory,
}

/// What has been asked for and received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests to the API and for files.
    pub requests: u64,
    /// Bytes of bodies, after decompression.
    pub bytes: u64,
}

/// Something worth telling while a repository is read.
#[derive(Debug)]
pub enum Notice<'a> {
    /// A rate limit is waited for.
    Waiting {
        /// The limit.
        error: &'a SourceError,
    },
    /// Something failed and is tried again.
    Retrying {
        /// What failed.
        error: &'a SourceError,
    },
    /// The server cut the listing off; it is completed directory by directory.
    ListingInParts,
    /// The API cannot be used; git is used instead.
    UsingGit {
        /// Why not.
        error: &'a SourceError,
    },
    /// The token is not sent, because the connection to this host is not encrypted.
    TokenWithheld {
        /// The host.
        host: String,
    },
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { error } => write!(f, "waiting: {error}"),
            Self::Retrying { error } => write!(f, "trying again: {error}"),
            Self::ListingInParts => {
                f.write_str("the listing was cut off; completing it directory by directory")
            }
            Self::UsingGit { error } => write!(f, "fetching with git instead of the API: {error}"),
            Self::TokenWithheld { host } => {
                write!(f, "the token is not sent, because the connection to {host} is not encrypted")
            }
        }
    }
}

/// Tells people what is worth knowing, and the rest to those who asked for it.
pub fn tell_to(output: &Output) -> Tell {
    let output = output.clone();
    Arc::new(move |notice| match notice {
        Notice::Waiting { .. } | Notice::UsingGit { .. } | Notice::TokenWithheld { .. } => {
            output.warning(&notice.to_string());
        }
        Notice::Retrying { .. } | Notice::ListingInParts => output.detail(&notice.to_string()),
    })
}

/// Takes notices.
pub type Tell = Arc<dyn Fn(Notice<'_>) + Send + Sync>;

/// A repository.
pub struct Repository {
    api: Api,
    git: Git,
    uses_git: AtomicBool,
    tell: Tell,
}

/// The API of a repository.
struct Api {
    address: Address,
    http: Http,
    cache: Cache,
    route: Route,
    spool: PathBuf,
    connections: usize,
    tell: Tell,
}

impl Repository {
    /// Prepares to read a repository; nothing is sent yet.
    pub fn new(address: Address, options: &Options, tell: Tell) -> Result<Self, SourceError> {
        let folder = options.folder.join(address.folder_name());
        let spool = folder.join("spool");
        let http = Http::new(address.api_base(), options, tell.clone())?;
        let git = Git::new(git::folder(&folder), address.git().clone(), http.token().cloned(), spool.clone());
        let api = Api {
            http,
            cache: Cache::new(&folder),
            route: Route::default(),
            spool,
            connections: options.connections.max(1),
            tell: tell.clone(),
            address,
        };
        Ok(Self { api, git, uses_git: AtomicBool::new(false), tell })
    }

    /// Finds the commit that is meant and its tree.
    pub async fn resolve(&self, requested: &RefQuery) -> Result<Head, SourceError> {
        if let Some(found) = self.by_api(self.api.resolve(requested)).await? {
            return Ok(found);
        }
        self.git.resolve(requested, &self.api.address.to_string()).await
    }

    /// Lists a tree, and proves the listing.
    pub async fn tree(&self, head: &Head) -> Result<RemoteTree, SourceError> {
        if let Some(tree) = self.by_api(self.api.tree(head)).await? {
            return Ok(tree);
        }
        let fetched = self.git.fetch(head.commit).await?;
        listing::to_tree(&fetched, &self.git.rows(&fetched).await?)
    }

    /// Downloads the blobs of these entries of a tree, each one once, and hands them to `sink` as they come.
    ///
    /// Whatever reaches `sink` has the id it should have. An error may leave some blobs delivered.
    pub async fn download(
        &self,
        tree: &RemoteTree,
        entries: &[RemoteEntry],
        sink: &mut dyn FnMut(VerifiedBlob) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let mut wanted = download::distinct(entries);
        let mut delivered = HashSet::new();
        let mut counting = |blob: VerifiedBlob| {
            delivered.insert(blob.id);
            sink(blob)
        };
        if let Some(()) = self.by_api(self.api.download(tree.commit, &wanted, &mut counting)).await? {
            return Ok(());
        }
        wanted.retain(|blob| !delivered.contains(&blob.id));
        self.git.fetch(tree.commit).await?;
        self.git.download(&wanted, sink).await
    }

    /// What has been asked for and received through the API so far.
    pub fn cost(&self) -> Cost {
        self.api.http.cost()
    }

    /// What the API answers, or nothing where git has to be asked: once it has, it is asked for the rest too, so that
    /// one run sees one server.
    async fn by_api<T>(
        &self,
        answer: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<Option<T>, SourceError> {
        if self.uses_git.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let error = match answer.await {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) if error.git_may_help() => error,
            Err(error) => return Err(error),
        };
        if !git::is_installed() {
            return Err(SourceError::GitMissing(Some(Box::new(error))));
        }
        (self.tell)(Notice::UsingGit { error: &error });
        self.uses_git.store(true, Ordering::Relaxed);
        Ok(None)
    }
}

/// Where repositories keep what they keep, below the state directory.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("repositories")
}
