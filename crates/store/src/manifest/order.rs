//! The rules that entries keep among each other.
//!
//! Everything that stands below a path `p` begins with `p`, and so does everything sorted between the two. The
//! entries that can still have something below them are therefore those whose paths are prefixes of the last one:
//! the checker keeps only their lengths, and its memory is bounded by the length of a path.

use super::entry::{Attributes, Entry, Fidelity, GitMode, Node};
use super::path::TreePath;

/// Two entries that cannot stand in one tree, or not in this order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The same path twice.
    #[error("{0} is there twice")]
    Duplicate(TreePath),
    /// A path that sorts before the one in front of it.
    #[error("{0} is not in its place: entries are sorted by the bytes of their paths")]
    Unsorted(TreePath),
    /// A path below a file or anything else that is not a directory.
    #[error("{path} lies below {above}, which is not a directory")]
    BelowNonDirectory {
        /// The lower path.
        path: TreePath,
        /// The path above it.
        above: TreePath,
    },
    /// A path below a directory that is there because it is empty.
    #[error("{path} lies below {above}, which is there as an empty directory")]
    BelowEmptyDirectory {
        /// The lower path.
        path: TreePath,
        /// The path above it.
        above: TreePath,
    },
    /// A path of a `system` manifest whose directory has no entry.
    #[error("the directory of {0} has no entry")]
    NoParent(TreePath),
}

/// What an entry allows below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    Nothing,
    /// Nothing either, because `git` manifests name a plain directory only when it is empty.
    NothingYet,
    Anything,
}

/// Checks the order and the hierarchy of entries as they stream by.
#[derive(Debug)]
pub struct OrderChecker {
    fidelity: Fidelity,
    is_whole: bool,
    last: Option<Vec<u8>>,
    /// The entries whose paths are prefixes of the last path, by their lengths.
    prefixes: Vec<(usize, Below)>,
}

impl OrderChecker {
    /// For all the entries of a manifest.
    pub const fn whole(fidelity: Fidelity) -> Self {
        Self { fidelity, is_whole: true, last: None, prefixes: Vec::new() }
    }

    /// For a run of entries: what went before is not known, and an entry is not missed if it may have been there.
    pub const fn part(fidelity: Fidelity) -> Self {
        Self { fidelity, is_whole: false, last: None, prefixes: Vec::new() }
    }

    /// Takes the next entry.
    pub fn push(&mut self, entry: &Entry) -> Result<(), OrderError> {
        let path = entry.path.as_bytes();
        if let Some(last) = &self.last {
            match path.cmp(last) {
                std::cmp::Ordering::Less => return Err(OrderError::Unsorted(entry.path.clone())),
                std::cmp::Ordering::Equal => return Err(OrderError::Duplicate(entry.path.clone())),
                std::cmp::Ordering::Greater => {}
            }
            let shared = shared_len(last, path);
            while self.prefixes.last().is_some_and(|(len, _)| *len > shared) {
                self.prefixes.pop();
            }
        }
        self.check_above(&entry.path)?;
        self.prefixes.push((path.len(), below(entry)));
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(path);
        Ok(())
    }

    fn check_above(&self, path: &TreePath) -> Result<(), OrderError> {
        let bytes = path.as_bytes();
        let parent_len = path.parent().map_or(0, <[u8]>::len);
        let mut has_parent = path.is_root();
        for (len, below) in &self.prefixes {
            if *len != 0 && bytes.get(*len) != Some(&b'/') {
                continue;
            }
            let above = || TreePath::new(&bytes[..*len]).unwrap_or_else(|_| TreePath::root());
            match below {
                Below::Anything => has_parent |= *len == parent_len,
                Below::Nothing => {
                    return Err(OrderError::BelowNonDirectory { path: path.clone(), above: above() });
                }
                Below::NothingYet => {
                    return Err(OrderError::BelowEmptyDirectory { path: path.clone(), above: above() });
                }
            }
        }
        if self.fidelity == Fidelity::System && self.is_whole && !has_parent {
            return Err(OrderError::NoParent(path.clone()));
        }
        Ok(())
    }
}

fn below(entry: &Entry) -> Below {
    match (&entry.node, &entry.attributes) {
        (Node::Directory, Attributes::Git(GitMode::DIRECTORY)) => Below::NothingYet,
        (Node::Directory, _) => Below::Anything,
        _ => Below::Nothing,
    }
}

/// The number of bytes that two paths begin with in common.
pub(super) fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
