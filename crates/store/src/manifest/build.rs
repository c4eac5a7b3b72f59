//! Builds the pages of a manifest from its entries.
//!
//! One page of each level is open at a time, so memory is bounded by the depth of the pages and not by the size of
//! the tree. A finished page is handed out at once.

use super::entry::{Entry, Fidelity};
use super::order::{OrderChecker, OrderError};
use super::page::{LEVEL_MAX, PageItem, PageWriter, PushError};
use super::path::TreePath;
use crate::id::{ManifestId, ObjectId};

/// Why entries do not make a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Entries that do not go together.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// An entry that no manifest can hold.
    #[error("{path} cannot stand in a manifest: {reason}")]
    Entry {
        /// Where it is.
        path: TreePath,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than 64 bits can count.
    #[error("the sizes of the contents add up to more than 64 bits can hold")]
    Overflow,
    /// A `system` manifest without an entry for the tree itself.
    #[error("a system manifest begins with the entry of the tree itself")]
    NoRoot,
    /// More levels than a manifest may have.
    #[error("the manifest needs more than {LEVEL_MAX} levels of pages")]
    TooManyLevels,
}

/// A manifest that is built, as a publication names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestSummary {
    /// Its id.
    pub id: ManifestId,
    /// The number of bytes of the root page.
    pub root_length: u64,
    /// The number of entries.
    pub entries: u64,
    /// The sum of the sizes of the contents.
    pub bytes: u64,
}

/// Takes entries in the order of their paths and gives pages to `emit`, each as soon as it is finished, children
/// before their parents and the root last.
#[derive(Debug)]
pub struct ManifestBuilder<F> {
    fidelity: Fidelity,
    order: OrderChecker,
    levels: Vec<Level>,
    emit: F,
}

#[derive(Debug)]
struct Level {
    writer: PageWriter,
    /// The only page so far, whose parent is not begun until there is a second one.
    first: Option<PageItem>,
    has_parent: bool,
}

impl<F, E> ManifestBuilder<F>
where
    F: FnMut(ObjectId, Vec<u8>) -> Result<(), E>,
    E: From<BuildError>,
{
    /// Starts with no entries.
    pub fn new(fidelity: Fidelity, emit: F) -> Self {
        Self { fidelity, order: OrderChecker::whole(fidelity), levels: vec![Level::new(fidelity, 0)], emit }
    }

    /// Adds the next entry.
    pub fn push(&mut self, entry: &Entry) -> Result<(), E> {
        self.order.push(entry).map_err(BuildError::Order)?;
        self.levels[0].writer.push_entry(entry).map_err(|error| match error {
            PushError::Entry(reason) => BuildError::Entry { path: entry.path.clone(), reason },
            PushError::Overflow => BuildError::Overflow,
        })?;
        self.close_pages()
    }

    /// Ends the manifest.
    pub fn finish(mut self) -> Result<ManifestSummary, E> {
        let mut index = 0;
        loop {
            let level = &mut self.levels[index];
            let is_empty_tree = index == 0 && !level.has_parent && level.first.is_none();
            if is_empty_tree && level.writer.is_empty() && self.fidelity == Fidelity::System {
                return Err(BuildError::NoRoot.into());
            }
            if !level.writer.is_empty() || is_empty_tree {
                self.end_page(index)?;
            }
            let level = &mut self.levels[index];
            if let Some(root) = level.first.take() {
                return Ok(ManifestSummary {
                    id: ManifestId::from_root_page(root.page),
                    root_length: root.length,
                    entries: root.entries,
                    bytes: root.bytes,
                });
            }
            index += 1;
        }
    }

    fn close_pages(&mut self) -> Result<(), E> {
        let mut index = 0;
        while index < self.levels.len() && self.levels[index].writer.is_closed() {
            self.end_page(index)?;
            index += 1;
        }
        Ok(())
    }

    /// Hands out the open page of a level and tells the level above of it.
    fn end_page(&mut self, index: usize) -> Result<(), E> {
        let level = &mut self.levels[index];
        let (item, bytes) = level.writer.finish();
        (self.emit)(item.page, bytes)?;
        let level = &mut self.levels[index];
        if !level.has_parent && level.first.is_none() {
            level.first = Some(item);
            return Ok(());
        }
        level.has_parent = true;
        if let Some(first) = level.first.take() {
            let parent = u8::try_from(index + 1).ok().filter(|parent| *parent <= LEVEL_MAX);
            self.levels.push(Level::new(self.fidelity, parent.ok_or(BuildError::TooManyLevels)?));
            self.push_page(index + 1, first)?;
        }
        self.push_page(index + 1, item)
    }

    fn push_page(&mut self, index: usize, item: PageItem) -> Result<(), E> {
        Ok(self.levels[index].writer.push_page(item).map_err(|_| BuildError::Overflow)?)
    }
}

impl Level {
    fn new(fidelity: Fidelity, level: u8) -> Self {
        Self { writer: PageWriter::new(fidelity, level), first: None, has_parent: false }
    }
}
