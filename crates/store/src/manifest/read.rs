//! Reads manifests page by page, each page checked against what its parent says of it.
//!
//! The reader does no IO of its own: pages come from a [`PageSource`], and a page is believed only if its bytes
//! have the id that was asked for. What a reader holds is one page of each level.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Entry, Fidelity};
use super::list::Children;
use super::order::{OrderChecker, OrderError};
use super::page::{Page, PageItem};
use super::path::TreePath;
use super::walk::{Head, Walk};
use crate::codec::DecodeError;
use crate::id::{ManifestId, ObjectId};

/// Why a source has no page to give.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It does not have the page.
    #[error("it is not there")]
    Absent,
    /// It may have the page but could not read it.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// Where the pages of manifests are.
///
/// A page is asked for each time it is read: a source that is slow keeps those that it gave last.
pub trait PageSource {
    /// The bytes of a page.
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError>;

    /// Whether the source has compared the bytes with the id that was asked for, so that the reader need not.
    fn is_verified(&self) -> bool {
        false
    }

    /// A page that was decoded before, and the number of its bytes, where the source keeps some.
    fn decoded(&self, _id: &ObjectId) -> Option<(Arc<Page>, u64)> {
        None
    }

    /// Is shown a page that was decoded, and the number of its bytes, to keep it if it likes.
    fn keep(&self, _id: &ObjectId, _page: &Arc<Page>, _length: u64) {}
}

impl<S: PageSource + ?Sized> PageSource for &S {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        (**self).page(id)
    }

    fn is_verified(&self) -> bool {
        (**self).is_verified()
    }

    fn decoded(&self, id: &ObjectId) -> Option<(Arc<Page>, u64)> {
        (**self).decoded(id)
    }

    fn keep(&self, id: &ObjectId, page: &Arc<Page>, length: u64) {
        (**self).keep(id, page, length);
    }
}

impl<S: PageSource + ?Sized> PageSource for Arc<S> {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        (**self).page(id)
    }

    fn is_verified(&self) -> bool {
        (**self).is_verified()
    }

    fn decoded(&self, id: &ObjectId) -> Option<(Arc<Page>, u64)> {
        (**self).decoded(id)
    }

    fn keep(&self, id: &ObjectId, page: &Arc<Page>, length: u64) {
        (**self).keep(id, page, length);
    }
}

/// Pages in memory.
impl<H: BuildHasher> PageSource for HashMap<ObjectId, Bytes, H> {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        self.get(id).cloned().ok_or(PageError::Absent)
    }
}

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A page is missing.
    #[error("manifest page {0} is missing")]
    Absent(ObjectId),
    /// A page could not be read.
    #[error("reading manifest page {page}")]
    Source {
        /// The page.
        page: ObjectId,
        /// What the source says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A page is not what it should be.
    #[error("manifest page {page} is corrupt")]
    Corrupt {
        /// The page.
        page: ObjectId,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The pages are well-formed, and the tree they describe is not.
    #[error("manifest {manifest} does not describe a tree")]
    Order {
        /// The manifest.
        manifest: ManifestId,
        /// What is wrong with it.
        #[source]
        source: OrderError,
    },
}

impl ReadError {
    fn corrupt(page: ObjectId, reason: impl Into<String>) -> Self {
        Self::Corrupt { page, source: DecodeError::invalid(reason) }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An entry.
    Entry(Entry),
    /// A directory that has no entry because what is below it implies it.
    ImpliedDirectory,
}

/// A manifest whose root page has been read and checked.
#[derive(Debug, Clone)]
pub struct Manifest<S> {
    source: S,
    id: ManifestId,
    root: Arc<Page>,
    root_length: u64,
}

impl<S: PageSource> Manifest<S> {
    /// Reads the root page. `root_length` is the length that a publication gives, where there is one.
    pub fn open(source: S, id: ManifestId, root_length: Option<u64>) -> Result<Self, ReadError> {
        let page = id.root_page();
        let (root, length) = read_page(&source, page, root_length)?;
        let has_sense = match (root.level(), root.len(), root.fidelity()) {
            (0, 0, fidelity) => fidelity == Fidelity::Git,
            (0, _, Fidelity::System) => root.path(0).is_some_and(TreePath::is_root),
            (0, _, Fidelity::Git) => true,
            (_, len, _) => len >= 2,
        };
        if !has_sense {
            return Err(ReadError::corrupt(page, "it is not the root of a manifest"));
        }
        Ok(Self { source, id, root, root_length: length })
    }

    /// Its id.
    pub const fn id(&self) -> ManifestId {
        self.id
    }

    /// The number of bytes of the root page.
    pub const fn root_length(&self) -> u64 {
        self.root_length
    }

    /// How much of a file's metadata it keeps.
    pub fn fidelity(&self) -> Fidelity {
        self.root.fidelity()
    }

    /// The number of entries.
    pub fn entries(&self) -> u64 {
        self.root.entries()
    }

    /// The sum of the sizes of the contents.
    pub fn bytes(&self) -> u64 {
        self.root.bytes()
    }

    /// Where its pages come from.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// The root page.
    pub const fn root(&self) -> &Arc<Page> {
        &self.root
    }

    /// All entries in the order of their paths. Every rule that a manifest has is checked on the way: one that
    /// was read to its end is well-formed.
    pub fn iter(&self) -> Entries<'_, S> {
        Entries { walk: Walk::new(self), order: Some(OrderChecker::whole(self.fidelity())) }
    }

    /// The entries from the first one on whose path is not less than `path`.
    pub fn iter_from(&self, path: &[u8]) -> Result<Entries<'_, S>, ReadError> {
        let mut walk = Walk::new(self);
        walk.seek(path)?;
        Ok(Entries { walk, order: Some(OrderChecker::part(self.fidelity())) })
    }

    /// The entry at a path.
    pub fn get(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let mut walk = Walk::new(self);
        walk.seek(path.as_bytes())?;
        Ok(match walk.head() {
            Some(Head::Entry(entry)) if entry.path == *path => Some(entry.clone()),
            _ => None,
        })
    }

    /// What stands at a path, implied directories included.
    pub fn find(&self, path: &TreePath) -> Result<Option<Found>, ReadError> {
        if let Some(entry) = self.get(path)? {
            return Ok(Some(Found::Entry(entry)));
        }
        if path.is_root() {
            return Ok(Some(Found::ImpliedDirectory));
        }
        let below = [path.as_bytes(), b"/"].concat();
        let mut walk = Walk::new(self);
        walk.seek(&below)?;
        Ok(match walk.head() {
            Some(Head::Entry(entry)) if entry.path.as_bytes().starts_with(&below) => {
                Some(Found::ImpliedDirectory)
            }
            _ => None,
        })
    }

    /// What a directory holds, found without reading what lies deeper; none where there is no such directory.
    /// `after` is the [`Child::position`](super::Child::position) of the last child that was seen.
    pub fn children(
        &self,
        directory: &TreePath,
        after: Option<&[u8]>,
    ) -> Result<Option<Children<'_, S>>, ReadError> {
        Children::open(self, directory, after)
    }

    /// Reads the page that `item` stands for, checks that it is what the item says, and that it follows `low`.
    pub(super) fn load(
        &self,
        item: &PageItem,
        level: u8,
        low: Option<&[u8]>,
        is_last: bool,
    ) -> Result<Arc<Page>, ReadError> {
        let (page, _) = read_page(&self.source, item.page, Some(item.length))?;
        let wrong = if page.fidelity() != self.fidelity() || page.level() != level {
            "its fidelity or level is not that of its place"
        } else if page.last_path() != Some(&item.last_path) {
            "its last path is not the one its parent gives"
        } else if page.path(0).map(TreePath::as_bytes) <= low && low.is_some() {
            "its first path does not follow the page before it"
        } else if low.is_none()
            && level == 0
            && self.fidelity() == Fidelity::System
            && !page.path(0).is_some_and(TreePath::is_root)
        {
            "the entry of the tree itself is missing"
        } else if (page.entries(), page.bytes()) != (item.entries, item.bytes) {
            "its sums are not those its parent gives"
        } else if !is_last && !page.is_closed() {
            "it ends before its end"
        } else {
            return Ok(page);
        };
        Err(ReadError::corrupt(item.page, wrong))
    }
}

fn read_page<S: PageSource>(
    source: &S,
    id: ObjectId,
    length: Option<u64>,
) -> Result<(Arc<Page>, u64), ReadError> {
    let check_length = |found: u64| match length {
        Some(length) if length != found => {
            let text = format!("it has {found} bytes, which is not the length it should have");
            Err(ReadError::corrupt(id, text))
        }
        _ => Ok(found),
    };
    if let Some((page, found)) = source.decoded(&id) {
        return Ok((page, check_length(found)?));
    }
    let bytes = source.page(&id).map_err(|error| match error {
        PageError::Absent => ReadError::Absent(id),
        PageError::Failed(source) => ReadError::Source { page: id, source },
    })?;
    let found = check_length(bytes.len() as u64)?;
    if !source.is_verified() && ObjectId::of(&bytes) != id {
        return Err(ReadError::corrupt(id, "its bytes do not have its id"));
    }
    let page = Page::decode(&bytes).map_err(|source| ReadError::Corrupt { page: id, source })?;
    let page = Arc::new(page);
    source.keep(&id, &page, found);
    Ok((page, found))
}

impl<'a, S: PageSource> IntoIterator for &'a Manifest<S> {
    type Item = Result<Entry, ReadError>;
    type IntoIter = Entries<'a, S>;

    fn into_iter(self) -> Entries<'a, S> {
        self.iter()
    }
}

/// Entries in the order of their paths. After an error there are no more.
pub struct Entries<'a, S> {
    walk: Walk<'a, S>,
    order: Option<OrderChecker>,
}

impl<S: PageSource> Entries<'_, S> {
    fn advance(&mut self, order: &mut OrderChecker) -> Result<Option<Entry>, ReadError> {
        self.walk.descend()?;
        let Some(Head::Entry(entry)) = self.walk.head() else { return Ok(None) };
        order.push(entry).map_err(|source| ReadError::Order { manifest: self.walk.manifest().id, source })?;
        let entry = entry.clone();
        self.walk.skip();
        Ok(Some(entry))
    }
}

impl<S: PageSource> Iterator for Entries<'_, S> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut order = self.order.take()?;
        match self.advance(&mut order) {
            Ok(entry) => {
                self.order = Some(order);
                entry.map(Ok)
            }
            Err(error) => Some(Err(error)),
        }
    }
}
