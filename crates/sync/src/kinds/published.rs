//! The tree that is published now, as a kind reads it to go on from it.

use std::collections::BTreeMap;

use smart_sync_store::manifest::{Content, TreePath};

use super::retired::{self, Retired};
use super::{Before, KindError};

/// The files of that tree.
pub(super) struct PublishedFiles<'a> {
    before: &'a dyn Before,
    contents: BTreeMap<TreePath, Content>,
}

impl<'a> PublishedFiles<'a> {
    /// Reads what there is.
    pub(super) fn open(before: &'a dyn Before) -> Result<Self, KindError> {
        Ok(Self { before, contents: before.files()? })
    }

    /// The content of a file that another one names.
    pub(super) fn content(&self, path: &TreePath) -> Result<Content, KindError> {
        let missing = || KindError::Before(format!("{path} is named there, and is not there"));
        self.contents.get(path).copied().ok_or_else(missing)
    }

    /// The bytes of a file that was made, if it is there.
    pub(super) fn made(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, KindError> {
        let Some(content) = self.contents.get(&tree_path(name)?) else { return Ok(None) };
        Ok(self.before.read(&[*content], bytes_max)?.pop())
    }

    /// The files that nothing names any more.
    pub(super) fn retired(&self) -> Result<Retired, KindError> {
        match self.made(retired::FILE, retired::BYTES_MAX)? {
            Some(text) => retired::parse(&text).map_err(KindError::Before),
            None => Ok(Retired::new()),
        }
    }
}

/// A name that stands in a file of such a tree, as a path of it.
pub(super) fn tree_path(name: &str) -> Result<TreePath, KindError> {
    TreePath::new(name.as_bytes()).map_err(|error| KindError::Before(format!("{name}: {error}")))
}
