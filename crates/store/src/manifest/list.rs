//! What one directory holds, found by seeking from name to name.
//!
//! Entries are sorted by whole paths, so all that lies below a subdirectory stands between two of its siblings and
//! is stepped over with one seek. A subdirectory that has an entry of its own is met twice, as itself and as the
//! prefix of what is below it; it is reported the first time.

use super::entry::{Entry, Fidelity, Node};
use super::path::TreePath;
use super::read::{Manifest, PageSource, ReadError};
use super::walk::{Head, Walk};

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its whole path.
    pub path: TreePath,
    /// Its entry; none for a directory that what is below it implies.
    pub entry: Option<Entry>,
}

impl Child {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        self.path.file_name()
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.entry.as_ref().is_none_or(|entry| entry.node == Node::Directory)
    }

    /// Where a listing goes on after this child.
    pub fn position(&self) -> Vec<u8> {
        // The least path that is greater than this one and all that lies below it, or only than this one.
        let (end, path) = (if self.entry.is_none() { b'/' + 1 } else { 0 }, self.path.as_bytes());
        [path, &[end]].concat()
    }
}

/// The children of a directory, in the order in which their entries stand in the manifest. After an error there
/// are no more.
pub struct Children<'a, S> {
    walk: Walk<'a, S>,
    /// The directory with a slash, or nothing for the tree itself.
    prefix: Vec<u8>,
    /// Subdirectories that were reported with an entry and below which entries may still follow.
    reported: Vec<TreePath>,
    /// Where an earlier listing had stopped.
    after: Vec<u8>,
    is_done: bool,
}

impl<'a, S: PageSource> Children<'a, S> {
    pub(super) fn open(
        manifest: &'a Manifest<S>,
        directory: &TreePath,
        after: Option<&[u8]>,
    ) -> Result<Option<Self>, ReadError> {
        let mut prefix = directory.as_bytes().to_vec();
        if !directory.is_root() {
            prefix.push(b'/');
        }
        let mut walk = Walk::new(manifest);
        walk.seek(&prefix)?;
        if !directory.is_root() && !is_below(&walk, &prefix) {
            let is_empty_directory =
                manifest.get(directory)?.is_some_and(|entry| entry.node == Node::Directory);
            if !is_empty_directory {
                return Ok(None);
            }
        }
        let after = after.filter(|after| **after > *prefix).unwrap_or_default().to_vec();
        if !after.is_empty() {
            walk.seek(&after)?;
        }
        Ok(Some(Self { walk, prefix, reported: Vec::new(), after, is_done: false }))
    }

    fn advance(&mut self) -> Result<Option<Child>, ReadError> {
        loop {
            self.walk.descend()?;
            let Some(Head::Entry(entry)) = self.walk.head() else { return Ok(None) };
            let path = entry.path.as_bytes();
            let Some(rest) = path.strip_prefix(&self.prefix[..]) else { return Ok(None) };
            if rest.is_empty() {
                self.walk.skip();
                continue;
            }
            let Some(slash) = rest.iter().position(|byte| *byte == b'/') else {
                let child = Child { path: entry.path.clone(), entry: Some(entry.clone()) };
                self.reported.retain(|before| path.starts_with(before.as_bytes()));
                if child.is_directory() && self.walk.manifest().fidelity() == Fidelity::Git {
                    self.reported.push(child.path.clone());
                }
                self.walk.skip();
                return Ok(Some(child));
            };
            let Ok(path) = TreePath::new(&path[..self.prefix.len() + slash]) else { return Ok(None) };
            let is_new = !self.was_reported(&path)?;
            let child = Child { path, entry: None };
            self.walk.seek(&child.position())?;
            if is_new {
                return Ok(Some(child));
            }
        }
    }

    /// Whether a directory that is met as a prefix has been reported as an entry.
    fn was_reported(&self, path: &TreePath) -> Result<bool, ReadError> {
        let manifest = self.walk.manifest();
        if manifest.fidelity() == Fidelity::System || self.reported.contains(path) {
            return Ok(true);
        }
        // An earlier listing may have reported it and stopped at a name that begins with its name.
        Ok(self.after.starts_with(path.as_bytes()) && manifest.get(path)?.is_some())
    }
}

/// Whether the next entry lies below the directory that `prefix` names.
fn is_below<S: PageSource>(walk: &Walk<'_, S>, prefix: &[u8]) -> bool {
    walk.head().is_some_and(|head| head.last_path().as_bytes().starts_with(prefix))
}

impl<S: PageSource> Iterator for Children<'_, S> {
    type Item = Result<Child, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.advance();
        self.is_done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
