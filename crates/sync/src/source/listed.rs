//! A tree that is looked at as a whole before it is published as it is.
//!
//! Whoever judges a tree has to judge what is published, and nothing that is only at the same paths. So the source is
//! gone through once; what is given to a publisher afterwards are the same entries, with the handles that they were
//! looked at by. A file that changes in between is not published.

use std::sync::Arc;

use rayon::prelude::*;
use smart_sync_store::id::TreeId;
use smart_sync_store::manifest::{Attributes, Fidelity, ManifestSummary, TreePath};

use super::{
    ContentReader, Contents, Handle, Known, SourceEntry, SourceError, SourceNode, TakeBytes, TreeSource,
    Warning,
};

/// All entries of a source, and what reads their contents.
pub struct Listing {
    entries: Vec<SourceEntry>,
    contents: Arc<dyn Contents>,
}

/// Reads the content of one entry.
pub type ReadEntry<'a> = &'a mut dyn FnMut(TakeBytes<'_>) -> Result<(), SourceError>;

impl Listing {
    /// The entries, in the order of a manifest.
    pub fn entries(&self) -> &[SourceEntry] {
        &self.entries
    }

    /// The regular files, with their sizes.
    pub fn files(&self) -> impl Iterator<Item = (&SourceEntry, u64)> {
        self.entries.iter().filter_map(|entry| Some((entry, entry.file_size()?)))
    }

    /// What stands at a path.
    pub fn find(&self, path: &[u8]) -> Option<&SourceEntry> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).ok()?;
        self.entries.get(at)
    }

    /// Whether something lies below a path.
    pub fn has_below(&self, directory: &[u8]) -> bool {
        let directory = [directory, b"/"].concat();
        let at = self.entries.partition_point(|entry| entry.path.as_bytes() < &directory[..]);
        self.entries.get(at).is_some_and(|entry| entry.path.as_bytes().starts_with(&directory))
    }

    /// The bytes of the regular file at a path, if there is one that has no more than so many.
    pub fn read_small(&self, path: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let Some(entry) = self.find(path) else { return Ok(None) };
        if entry.file_size().is_none_or(|size| size > bytes_max) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        each_piece(entry, &mut *self.contents.reader(), &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(Some(bytes))
    }

    /// Has contents read on all processors, each by one call of `look`, which is given an entry and a function that
    /// reads it. What was found comes in the order of the entries.
    pub fn look_at<'b, T: Send>(
        &self,
        entries: &[&'b SourceEntry],
        look: impl Fn(&'b SourceEntry, ReadEntry<'_>) -> Result<T, SourceError> + Sync,
    ) -> Result<Vec<T>, SourceError> {
        entries
            .par_iter()
            .copied()
            .map_init(
                || self.contents.reader(),
                |reader, entry| look(entry, &mut |take| each_piece(entry, &mut **reader, take)),
            )
            .collect()
    }
}

fn each_piece(
    entry: &SourceEntry,
    reader: &mut dyn ContentReader,
    take: TakeBytes<'_>,
) -> Result<(), SourceError> {
    match &entry.node {
        SourceNode::Content { handle, .. } => reader.read(&entry.path, handle, take),
        SourceNode::Plain(_) => Err(SourceError::Changed(entry.path.clone())),
    }
}

/// A source that has been gone through, and is published as it was then.
pub struct ListedSource<'a> {
    source: &'a mut dyn TreeSource,
    listing: Listing,
    warnings: Vec<Warning>,
    has_told: bool,
    given: usize,
}

impl<'a> ListedSource<'a> {
    /// Goes through a source to its end.
    pub fn read(source: &'a mut dyn TreeSource) -> Result<Self, SourceError> {
        let mut entries = Vec::new();
        while let Some(entry) = source.next_entry()? {
            entries.push(entry);
        }
        let (contents, warnings) = (source.contents(), source.take_warnings());
        Ok(Self { source, listing: Listing { entries, contents }, warnings, has_told: false, given: 0 })
    }

    /// What it consists of.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Leaves entries out, or has others published in their place, at the same paths. For directories: what git names by
    /// a commit is published as it is.
    pub fn change(&mut self, keep: impl FnMut(&mut SourceEntry) -> bool) {
        self.listing.entries.retain_mut(keep);
    }
}

impl SourceNode {
    /// A regular file with these bytes.
    pub fn of_bytes(bytes: Box<[u8]>) -> Self {
        Self::Content {
            is_symlink: false,
            size: bytes.len() as u64,
            handle: Handle::Bytes(bytes),
            known: None,
        }
    }
}

impl SourceEntry {
    /// The number of bytes of a regular file.
    pub fn file_size(&self) -> Option<u64> {
        match &self.node {
            SourceNode::Content { is_symlink: false, size, .. } => Some(*size),
            _ => None,
        }
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        matches!(self.node, SourceNode::Content { is_symlink: true, .. })
    }
}

impl TreeSource for ListedSource<'_> {
    fn fidelity(&self) -> Fidelity {
        self.source.fidelity()
    }

    fn next_entry(&mut self) -> Result<Option<SourceEntry>, SourceError> {
        let next = self.listing.entries.get(self.given).cloned();
        self.given += usize::from(next.is_some());
        Ok(next)
    }

    fn contents(&self) -> Arc<dyn Contents> {
        Arc::new(AsListed(Arc::clone(&self.listing.contents)))
    }

    fn remember(&mut self, path: &TreePath, handle: &Handle, known: &Known) {
        self.source.remember(path, handle, known);
    }

    fn expected_tree(&self) -> Option<TreeId> {
        self.source.expected_tree()
    }

    fn known_manifest(&mut self) -> Option<ManifestSummary> {
        self.source.known_manifest()
    }

    fn remember_manifest(&mut self, manifest: &ManifestSummary) {
        self.source.remember_manifest(manifest);
    }

    fn can_begin_again(&self) -> bool {
        self.source.can_begin_again()
    }

    fn begin_again(&mut self) -> Result<(), SourceError> {
        (self.given, self.has_told) = (0, false);
        Ok(())
    }

    fn take_warnings(&mut self) -> Vec<Warning> {
        if std::mem::replace(&mut self.has_told, true) { Vec::new() } else { self.warnings.clone() }
    }
}

/// The contents of a source, each as it was when it was listed.
struct AsListed(Arc<dyn Contents>);

impl Contents for AsListed {
    fn reader(&self) -> Box<dyn ContentReader + '_> {
        self.0.reader()
    }

    fn look_again(&self, _path: &TreePath) -> Result<Option<(Attributes, u64, Handle)>, SourceError> {
        Ok(None)
    }
}
