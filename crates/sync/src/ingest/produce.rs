//! The reading side: entries with their contents hashed and cut.

use std::sync::mpsc::SyncSender;

use rayon::prelude::*;
use smart_sync_store::content::{ContentHasher, CutContent, cut_content};
use smart_sync_store::manifest::{Attributes, Content, Entry, Node, TreePath};
use smart_sync_store::recipe::{self, BuiltRecipe};

use super::{Batch, IngestError, Made, Piece, Statistics};
use crate::source::{
    ContentReader, Contents, Handle, Known, SourceEntry, SourceError, SourceNode, TreeSource, is_lfs_pointer,
};

/// The number of bytes of contents after which a batch is complete.
const BATCH_BYTES: u64 = 8 << 20;
/// The number of entries after which a batch is complete.
const BATCH_ENTRIES: usize = 8192;
/// A content with more bytes than this is not read as a whole.
const WHOLE_BYTES_MAX: u64 = 8 << 20;
/// The number of bytes of a large content that are handed on together.
const PIECE_BYTES: usize = 8 << 20;
/// How often a file that changes while it is read is tried.
const ATTEMPTS: usize = 3;

/// Reads a source and hands its parts to the other thread.
pub(super) struct Producer<'a> {
    source: &'a mut dyn TreeSource,
    contents: &'a dyn Contents,
    sender: SyncSender<Batch>,
    waiting: Vec<SourceEntry>,
    waiting_bytes: u64,
    statistics: Statistics,
}

/// Says that the other thread has ended; its error is the one to report.
struct Stopped;

impl<'a> Producer<'a> {
    pub(super) fn new(
        source: &'a mut dyn TreeSource,
        contents: &'a dyn Contents,
        sender: SyncSender<Batch>,
    ) -> Self {
        let statistics = Statistics::default();
        Self { source, contents, sender, waiting: Vec::new(), waiting_bytes: 0, statistics }
    }

    /// Reads the source to its end.
    pub(super) fn run(mut self) -> Result<Statistics, IngestError> {
        while let Some(entry) = self.source.next_entry()? {
            let unread = match &entry.node {
                SourceNode::Content { size, known: None, .. } => *size,
                _ => 0,
            };
            let sent = if unread > WHOLE_BYTES_MAX {
                self.flush()?.and(self.send_large(entry)?)
            } else {
                self.waiting.push(entry);
                self.waiting_bytes += unread;
                let is_full = self.waiting_bytes >= BATCH_BYTES || self.waiting.len() >= BATCH_ENTRIES;
                if is_full { self.flush()? } else { Ok(()) }
            };
            if sent.is_err() {
                return Ok(self.statistics);
            }
        }
        // Whether the other thread still listens does not matter after the last batch.
        let _ = self.flush()?;
        Ok(self.statistics)
    }

    /// Has the waiting contents read on all processors.
    fn flush(&mut self) -> Result<Result<(), Stopped>, IngestError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let read: Vec<(Made, Option<ReadContent>)> = waiting
            .into_par_iter()
            .map_init(|| self.contents.reader(), |reader, entry| make(self.contents, reader, entry))
            .collect::<Result<_, SourceError>>()?;
        let mut batch = Batch { entries: Vec::with_capacity(read.len()), ..Batch::default() };
        batch.begun_bytes =
            read.iter().flat_map(|(_, content)| content).map(|read| read.known.content.size).sum();
        for (made, content) in read {
            if let Some(content) = content {
                self.remember(&made.entry.path, &content);
                batch.add_content(content);
            }
            batch.entries.push(made);
        }
        Ok(self.send(batch))
    }

    fn send_large(&mut self, entry: SourceEntry) -> Result<Result<(), Stopped>, IngestError> {
        let mut reader = self.contents.reader();
        let sender = &self.sender;
        let mut begun_bytes = match &entry.node {
            SourceNode::Content { size, .. } => *size,
            SourceNode::Plain(_) => 0,
        };
        let (made, content) = make_large(self.contents, &mut *reader, entry, &mut |piece| {
            // An end of the other thread is noticed when the last part is sent.
            let begun_bytes = std::mem::take(&mut begun_bytes);
            let _ = sender.send(Batch { pieces: vec![piece], begun_bytes, ..Batch::default() });
        })?;
        drop(reader);
        let mut batch = Batch::default();
        self.remember(&made.entry.path, &content);
        batch.add_content(content);
        batch.entries.push(made);
        Ok(self.send(batch))
    }

    fn remember(&mut self, path: &TreePath, content: &ReadContent) {
        self.statistics.contents_read += 1;
        self.statistics.bytes_read += content.known.content.size;
        self.source.remember(path, &content.handle, &content.known);
    }

    fn send(&self, batch: Batch) -> Result<(), Stopped> {
        self.sender.send(batch).map_err(|_| Stopped)
    }
}

/// A content that was read.
pub(super) struct ReadContent {
    pub(super) known: Known,
    pub(super) handle: Handle,
    piece: Piece,
    recipe: Option<BuiltRecipe>,
}

impl Batch {
    pub(super) fn add_content(&mut self, content: ReadContent) {
        if !content.piece.chunks.is_empty() {
            self.pieces.push(content.piece);
        }
        self.recipes.extend(content.recipe.into_iter().flat_map(|recipe| recipe.objects));
    }
}

/// Makes an entry, and reads its content if it is not known.
fn make(
    contents: &dyn Contents,
    reader: &mut Box<dyn ContentReader + '_>,
    entry: SourceEntry,
) -> Result<(Made, Option<ReadContent>), SourceError> {
    let (is_symlink, known, size, handle) = match entry.node {
        SourceNode::Plain(node) => {
            let entry = Entry { path: entry.path, node, attributes: entry.attributes };
            return Ok((Made { entry, unread: None, is_lfs_pointer: false }, None));
        }
        SourceNode::Content { is_symlink, size, handle, known } => (is_symlink, known, size, handle),
    };
    if let Some(known) = known {
        let node = node(is_symlink, known.content);
        let made = Made {
            entry: Entry { path: entry.path, node, attributes: entry.attributes },
            is_lfs_pointer: known.is_lfs_pointer,
            unread: Some(handle),
        };
        return Ok((made, None));
    }
    let target = Target { path: entry.path, attributes: entry.attributes, size, handle };
    let (target, content) =
        read_again_if_changed(contents, target, |target| read_whole(&mut **reader, target))?;
    Ok((made(target, is_symlink, &content), Some(content)))
}

/// Reads a large content in pieces.
fn make_large(
    contents: &dyn Contents,
    reader: &mut dyn ContentReader,
    entry: SourceEntry,
    take: &mut dyn FnMut(Piece),
) -> Result<(Made, ReadContent), SourceError> {
    let SourceNode::Content { is_symlink, size, handle, .. } = entry.node else {
        unreachable!("only contents are large");
    };
    let target = Target { path: entry.path, attributes: entry.attributes, size, handle };
    let (target, content) =
        read_again_if_changed(contents, target, |target| read_in_pieces(reader, target, take))?;
    Ok((made(target, is_symlink, &content), content))
}

/// Reads a content that was known and that the destination lacks.
pub(super) fn read_known(
    contents: &dyn Contents,
    reader: &mut dyn ContentReader,
    entry: &Entry,
    handle: Handle,
    take: &mut dyn FnMut(Piece),
) -> Result<(Entry, ReadContent), SourceError> {
    let size = entry.content().map_or(0, |content| content.size);
    let is_symlink = matches!(entry.node, Node::Symlink(_));
    let target = Target { path: entry.path.clone(), attributes: entry.attributes.clone(), size, handle };
    let (target, content) =
        read_again_if_changed(contents, target, |target| read_in_pieces(reader, target, take))?;
    Ok((made(target, is_symlink, &content).entry, content))
}

/// A content to read, and the entry it belongs to.
struct Target {
    path: TreePath,
    attributes: Attributes,
    size: u64,
    handle: Handle,
}

fn made(target: Target, is_symlink: bool, content: &ReadContent) -> Made {
    let node = node(is_symlink, content.known.content);
    let entry = Entry { path: target.path, node, attributes: target.attributes };
    Made { entry, unread: None, is_lfs_pointer: content.known.is_lfs_pointer }
}

fn node(is_symlink: bool, content: Content) -> Node {
    if is_symlink { Node::Symlink(content) } else { Node::File(content) }
}

fn read_again_if_changed(
    contents: &dyn Contents,
    mut target: Target,
    mut read: impl FnMut(&Target) -> Result<ReadContent, SourceError>,
) -> Result<(Target, ReadContent), SourceError> {
    for _ in 1..ATTEMPTS {
        match read(&target) {
            Err(SourceError::Changed(path)) => {
                let Some((attributes, size, handle)) = contents.look_again(&path)? else {
                    return Err(SourceError::Changed(path));
                };
                target = Target { path, attributes, size, handle };
            }
            result => return result.map(|content| (target, content)),
        }
    }
    read(&target).map(|content| (target, content))
}

fn read_whole(reader: &mut dyn ContentReader, target: &Target) -> Result<ReadContent, SourceError> {
    if target.size > WHOLE_BYTES_MAX {
        // It was small when it was listed; the next publication finds it large.
        return Err(SourceError::Changed(target.path.clone()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(target.size).unwrap_or_default());
    reader.read(&target.path, &target.handle, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    let cut = cut_content(&bytes, |_, _| ());
    let is_lfs_pointer = matches!(target.handle, Handle::Blob(_)) && is_lfs_pointer(&bytes);
    let piece = Piece { bytes, chunks: cut.chunks.clone() };
    read_content(&cut, target, is_lfs_pointer, piece)
}

fn read_in_pieces(
    reader: &mut dyn ContentReader,
    target: &Target,
    take: &mut dyn FnMut(Piece),
) -> Result<ReadContent, SourceError> {
    let mut hasher = ContentHasher::new(target.size);
    let mut piece = Piece { bytes: Vec::new(), chunks: Vec::new() };
    let mut is_pointer = false;
    reader.read(&target.path, &target.handle, &mut |bytes| {
        is_pointer = is_lfs_pointer(bytes) && bytes.len() as u64 == target.size;
        let updated = hasher.update(bytes, |chunk, bytes| {
            piece.bytes.extend_from_slice(bytes);
            piece.chunks.push(*chunk);
            if piece.bytes.len() >= PIECE_BYTES {
                take(std::mem::replace(&mut piece, Piece { bytes: Vec::new(), chunks: Vec::new() }));
            }
        });
        updated.map_err(|_| SourceError::Changed(target.path.clone()))
    })?;
    let cut = hasher.finish().map_err(|_| SourceError::Changed(target.path.clone()))?;
    let is_lfs_pointer = is_pointer && matches!(target.handle, Handle::Blob(_));
    read_content(&cut, target, is_lfs_pointer, piece)
}

fn read_content(
    cut: &CutContent,
    target: &Target,
    is_lfs_pointer: bool,
    piece: Piece,
) -> Result<ReadContent, SourceError> {
    if matches!(&target.handle, Handle::Blob(blob) if *blob != cut.content.blob) {
        return Err(SourceError::WrongBlob(target.path.clone()));
    }
    let recipe = recipe::build(cut.content.id, &cut.chunks);
    let known = Known { content: cut.content, is_lfs_pointer };
    Ok(ReadContent { known, handle: target.handle.clone(), piece, recipe })
}
