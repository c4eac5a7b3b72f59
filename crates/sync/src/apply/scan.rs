//! What a target holds, compared with what was applied there.
//!
//! One walk over the target, merged directory by directory with the stat cache, on all threads of the current
//! pool. A file whose state is the one in which its content was verified is not read; all others are hashed, and
//! so are a few of the former in turn, because a disk can change what a file system does not know of. Directories
//! are opened by their path from the root, so that the number of open handles does not grow with the tree.

mod examine;
mod named;
mod walk;

use std::collections::HashMap;

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::{Fidelity, FileTime, Xattr};

use super::error::ApplyError;
use super::stat::{FileKind, Stat};
use super::stat_cache::StatCache;
use super::tree_dir::TreeDir;

/// Tells whether the host keeps a path, given as bytes, and whether it is a directory, to itself. It is asked
/// from the top down: what lies below an excluded directory is excluded.
pub type Excluded<'a> = &'a (dyn Fn(&[u8], bool) -> bool + Sync);

/// Which files are read although nothing says that they changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehash {
    /// About this many; which ones follows from the seed, and as many consecutive seeds as there are samples in
    /// the tree cover all of it.
    Sample {
        /// How many; none are read if this is 0.
        files: usize,
        /// Which ones; a number that grows by one with each scan.
        seed: u64,
    },
    /// All of them.
    Everything,
}

/// What of a target is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything below its directory, so that what is not tracked is found too.
    Everything,
    /// The paths of manifests alone: the directory is the host's, and holds much more.
    NamedPaths,
}

/// How to scan.
#[derive(Clone, Copy)]
pub struct ScanOptions<'a> {
    /// What the host keeps to itself.
    pub excluded: Excluded<'a>,
    /// What the applied manifest keeps, and so what is compared.
    pub fidelity: Fidelity,
    /// What is read in any case.
    pub rehash: Rehash,
    /// The time now. Files that changed since are hashed again next time.
    pub started: FileTime,
    /// Whether the files are those of other versions too.
    pub have_many_names: bool,
    /// What is looked at.
    pub extent: Extent,
}

/// How a tracked path differs from what was applied there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// Nothing stands there.
    Missing,
    /// Something of another type does.
    Type,
    /// Its content is another one.
    Content,
    /// Its content is right, its executable bit is not.
    ExecutableBit,
    /// Its content is right, its other metadata may not be (`system` manifests).
    Metadata,
}

impl Drift {
    /// As a person calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Type => "type changed",
            Self::Content => "content changed",
            Self::ExecutableBit => "mode changed",
            Self::Metadata => "metadata changed",
        }
    }
}

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the file system says.
    pub stat: Stat,
    /// Its content, where it was read.
    pub content: Option<ContentId>,
    /// Its extended attributes, where metadata are kept.
    pub xattrs: Vec<Xattr>,
}

/// A tracked path that differs from what was applied. A directory that only its files imply has one of its own
/// when something else stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub path: Box<[u8]>,
    /// How it differs.
    pub drift: Drift,
    /// What stands there now.
    pub found: Option<Found>,
}

/// A path that is not tracked. What lies below an untracked directory is not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untracked {
    /// Where.
    pub path: Box<[u8]>,
    /// What it is.
    pub kind: FileKind,
}

/// What a scan found.
#[derive(Debug)]
pub struct Scan {
    /// The cache, brought up to date.
    pub cache: StatCache,
    /// Whether that changed anything in it, so that it should be saved.
    pub is_cache_changed: bool,
    /// What differs, in the order of the paths.
    pub findings: Vec<Finding>,
    /// What is not tracked, in the order of the paths.
    pub untracked: Vec<Untracked>,
    /// What was left alone because it is excluded, in the order of the paths.
    pub excluded: Vec<Untracked>,
    /// Directories on which another file system begins.
    pub mounts: Vec<Box<[u8]>>,
    /// How many files were read.
    pub files_hashed: usize,
    /// When the scan began.
    pub taken: FileTime,
    pub(super) examined: HashMap<Box<[u8]>, Found>,
}

impl Scan {
    /// Whether all that was applied is there as it was applied.
    pub const fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// What was found at a tracked path, if it differs.
    pub fn finding(&self, path: &[u8]) -> Option<&Finding> {
        let at = self.findings.binary_search_by(|finding| (*finding.path).cmp(path)).ok()?;
        Some(&self.findings[at])
    }

    /// The untracked path that this one is or lies below.
    pub fn untracked_above(&self, path: &[u8]) -> Option<&Untracked> {
        above(&self.untracked, path)
    }

    /// The excluded path that this one is or lies below.
    pub fn excluded_above(&self, path: &[u8]) -> Option<&Untracked> {
        above(&self.excluded, path)
    }

    /// Excluded paths below a directory.
    pub fn excluded_below(&self, path: &[u8]) -> impl Iterator<Item = &Untracked> {
        let start = self.excluded.partition_point(|found| *found.path <= *path);
        let prefix = [path, b"/"].concat();
        self.excluded[start..]
            .iter()
            .skip_while({
                let prefix = prefix.clone();
                move |found| *found.path < *prefix
            })
            .take_while(move |found| found.path.starts_with(&prefix))
    }
}

/// Compares a target with the cache of what was applied there.
pub fn scan(tree: &TreeDir, cache: StatCache, options: &ScanOptions<'_>) -> Result<Scan, ApplyError> {
    match options.extent {
        Extent::Everything => walk::walk(tree, cache, options),
        Extent::NamedPaths => named::look(tree, cache, options),
    }
}

fn above<'a>(sorted: &'a [Untracked], path: &[u8]) -> Option<&'a Untracked> {
    if sorted.is_empty() {
        return None;
    }
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).find_map(|end| {
        let at = sorted.binary_search_by(|found| (*found.path).cmp(&path[..end])).ok()?;
        Some(&sorted[at])
    })
}

/// Whether a path, or a directory that it lies below, is excluded.
pub(super) fn is_excluded(excluded: Excluded<'_>, path: &[u8], is_directory: bool) -> bool {
    let parents = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    parents.into_iter().any(|parent| excluded(parent, true)) || excluded(path, is_directory)
}
