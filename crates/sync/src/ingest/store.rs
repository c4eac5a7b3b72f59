//! The storing side: what the destination lacks goes into packs, and the entries into the manifest.

use std::collections::HashSet;
use std::sync::mpsc::{self, Receiver};

use smart_sync_store::chunk::ChunkRef;
use smart_sync_store::id::{ObjectId, TreeId};
use smart_sync_store::manifest::{
    BuildError, Content, Entry, Fidelity, GitTreeHasher, ManifestBuilder, ManifestSummary,
};
use smart_sync_store::object::{ObjectKey, ObjectKind};
use smart_sync_store::pack::PackWriter;

use super::produce::read_known;
use super::{Batch, Destination, IngestError, IngestOptions, Ingested, MISSING_MAX, Made, Piece, Statistics};
use crate::source::{Contents, Handle, SourceError, Warning};

/// The number of bytes of manifest pages that are kept before they are sent.
const PAGE_BYTES_KEPT: usize = 16 << 20;
/// The number of bytes of contents after which the destination is asked again while known contents are read.
const REREAD_BYTES: usize = 16 << 20;

/// Asks, packs and sends.
pub(super) struct Storing<'a> {
    sending: Sending<'a>,
    manifest: Manifest,
    git_tree: Option<GitTreeHasher>,
    expected_tree: Option<TreeId>,
    warnings: Vec<Warning>,
}

/// The manifest so far. Pages are kept apart from the contents, so that they lie together in the last packs.
struct Manifest {
    builder: Builder,
    finished: Receiver<Page>,
    kept: Vec<Page>,
    kept_bytes: usize,
}

/// A page of the manifest, by name and bytes.
type Page = (ObjectId, Vec<u8>);

type Builder = ManifestBuilder<Box<dyn FnMut(ObjectId, Vec<u8>) -> Result<(), BuildError>>>;

impl Manifest {
    fn new(fidelity: Fidelity) -> Self {
        let (sender, finished) = mpsc::channel();
        let emit = move |id, bytes| {
            // The receiver lives as long as the builder, except while the last pages are thrown away after an error.
            let _ = sender.send((id, bytes));
            Ok(())
        };
        let builder = ManifestBuilder::new(fidelity, Box::new(emit) as Box<_>);
        Self { builder, finished, kept: Vec::new(), kept_bytes: 0 }
    }

    fn push(&mut self, entry: &Entry) -> Result<(), BuildError> {
        self.builder.push(entry)?;
        for page in self.finished.try_iter() {
            self.kept_bytes += page.1.len();
            self.kept.push(page);
        }
        Ok(())
    }

    fn take_pages(&mut self) -> Vec<Page> {
        self.kept_bytes = 0;
        std::mem::take(&mut self.kept)
    }

    fn finish(mut self) -> Result<(ManifestSummary, Vec<Page>), BuildError> {
        let summary = self.builder.finish()?;
        self.kept.extend(self.finished.try_iter());
        Ok((summary, self.kept))
    }
}

impl<'a> Storing<'a> {
    pub(super) fn new(
        destination: &'a mut dyn Destination,
        fidelity: Fidelity,
        expected_tree: Option<TreeId>,
        options: IngestOptions,
    ) -> Self {
        Self {
            sending: Sending::new(destination, options),
            manifest: Manifest::new(fidelity),
            git_tree: (fidelity == Fidelity::Git).then(GitTreeHasher::new),
            expected_tree,
            warnings: Vec::new(),
        }
    }

    /// Takes the next part of the tree.
    pub(super) fn take(
        &mut self,
        batch: Batch,
        contents: &dyn Contents,
        show: &mut dyn FnMut(&Entry),
    ) -> Result<(), IngestError> {
        self.sending.send_batch(&batch)?;
        for entry in self.settle(batch.entries, contents)? {
            show(&entry);
            self.manifest.push(&entry)?;
            if let Some(git_tree) = &mut self.git_tree {
                git_tree.push(&entry).map_err(SourceError::from)?;
            }
        }
        if self.manifest.kept_bytes >= PAGE_BYTES_KEPT {
            self.sending.send_pages(&self.manifest.take_pages())?;
        }
        Ok(())
    }

    /// Sends what is left, and the root page last.
    pub(super) fn finish(mut self) -> Result<Ingested, IngestError> {
        let git_tree = self.git_tree.take().map(GitTreeHasher::finish);
        if let (Some(expected), Some(found)) = (self.expected_tree, git_tree)
            && expected != found
        {
            return Err(SourceError::WrongTree { expected, found }.into());
        }
        let Self { mut sending, manifest, warnings, .. } = self;
        let (manifest, pages) = manifest.finish()?;
        sending.send_pages(&pages)?;
        sending.flush()?;
        Ok(Ingested { manifest, git_tree, warnings, statistics: sending.statistics })
    }

    /// Asks for the contents that were not read, and reads those that the destination lacks.
    fn settle(&mut self, made: Vec<Made>, contents: &dyn Contents) -> Result<Vec<Entry>, IngestError> {
        let unread = made.iter().filter(|made| made.unread.is_some());
        let contents_known: HashSet<Content> =
            unread.filter_map(|made| made.entry.content().copied()).collect();
        let mut missing = self.sending.missing_contents(contents_known)?;
        let mut reading = Reading { contents, batch: Batch::default(), bytes: 0 };
        let mut entries = Vec::with_capacity(made.len());
        for made in made {
            if made.is_lfs_pointer {
                self.warnings.push(Warning::LfsPointer(made.entry.path.clone()));
            }
            let Some(handle) = made.unread else {
                entries.push(made.entry);
                continue;
            };
            // Two entries may have one content: it is read once.
            if !made.entry.content().is_some_and(|content| missing.remove(content)) {
                self.sending.statistics.contents_known += 1;
                entries.push(made.entry);
                continue;
            }
            entries.push(self.read(&mut reading, &made.entry, handle)?);
        }
        self.sending.send_batch(&reading.batch)?;
        Ok(entries)
    }

    fn read(
        &mut self,
        reading: &mut Reading<'_>,
        entry: &Entry,
        handle: Handle,
    ) -> Result<Entry, IngestError> {
        let mut failed = None;
        let mut reader = reading.contents.reader();
        let (entry, content) =
            read_known(reading.contents, &mut *reader, entry, handle, &mut |piece: Piece| {
                reading.bytes += piece.bytes.len();
                reading.batch.pieces.push(piece);
                if reading.bytes >= REREAD_BYTES && failed.is_none() {
                    failed = self.sending.send_batch(&std::mem::take(&mut reading.batch)).err();
                    reading.bytes = 0;
                }
            })?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.sending.statistics.contents_read += 1;
        self.sending.statistics.bytes_read += content.known.content.size;
        reading.batch.add_content(content);
        Ok(entry)
    }
}

/// Known contents that are being read after all.
struct Reading<'a> {
    contents: &'a dyn Contents,
    batch: Batch,
    bytes: usize,
}

/// Packs what the destination lacks.
struct Sending<'a> {
    destination: &'a mut dyn Destination,
    level: i32,
    pack: PackWriter,
    statistics: Statistics,
}

impl<'a> Sending<'a> {
    fn new(destination: &'a mut dyn Destination, options: IngestOptions) -> Self {
        let level = options.compression_level;
        Self { destination, level, pack: PackWriter::new(level), statistics: Statistics::default() }
    }

    /// Sends the chunks and recipes of a batch, recipes after the chunks that they name.
    fn send_batch(&mut self, batch: &Batch) -> Result<(), IngestError> {
        let chunks =
            batch.pieces.iter().flat_map(|piece| &piece.chunks).map(|chunk| ObjectKey::chunk(chunk.id));
        let recipes = batch.recipes.iter().map(|(kind, id, _)| ObjectKey::new(*kind, *id));
        let mut missing = self.missing(chunks.chain(recipes).collect())?;
        self.make_room_for(batch, &missing)?;
        for piece in &batch.pieces {
            let mut rest = &piece.bytes[..];
            for chunk in &piece.chunks {
                let (bytes, after) = rest.split_at(chunk.len as usize);
                self.add(ObjectKey::chunk(chunk.id), bytes, &mut missing)?;
                rest = after;
            }
        }
        for (kind, id, bytes) in &batch.recipes {
            self.add(ObjectKey::new(*kind, *id), bytes, &mut missing)?;
        }
        Ok(())
    }

    /// Ends the open pack before contents that would not fit: in one pack with its recipe, a content is proven when the
    /// pack arrives, and is fetched from one place.
    fn make_room_for(&mut self, batch: &Batch, missing: &HashSet<ObjectKey>) -> Result<(), IngestError> {
        let chunks = || batch.pieces.iter().flat_map(|piece| &piece.chunks);
        let len: u64 = chunks().map(|chunk| u64::from(chunk.len)).sum();
        let is_missing = |chunk: &&ChunkRef| missing.contains(&ObjectKey::chunk(chunk.id));
        let missing_len: u64 = chunks().filter(is_missing).map(|chunk| u64::from(chunk.len)).sum();
        // What is still to come of a large content is likely as new as its beginning.
        let expected = u128::from(batch.begun_bytes) * u128::from(missing_len) / u128::from(len.max(1));
        let expected = u64::try_from(expected).unwrap_or(u64::MAX);
        if self.pack.is_half_full() && !self.pack.has_probable_room_for(expected) {
            self.flush()?;
        }
        Ok(())
    }

    fn send_pages(&mut self, pages: &[Page]) -> Result<(), IngestError> {
        let mut missing =
            self.missing(pages.iter().map(|(id, _)| ObjectKey::new(ObjectKind::Page, *id)).collect())?;
        for (id, bytes) in pages {
            self.add(ObjectKey::new(ObjectKind::Page, *id), bytes, &mut missing)?;
        }
        Ok(())
    }

    /// Which of these objects neither the destination nor the open pack has.
    fn missing(&mut self, keys: HashSet<ObjectKey>) -> Result<HashSet<ObjectKey>, IngestError> {
        let keys: Vec<ObjectKey> = keys.into_iter().filter(|key| !self.pack.contains(key)).collect();
        let mut missing = HashSet::with_capacity(keys.len());
        for keys in keys.chunks(MISSING_MAX) {
            let answers = self.destination.missing(keys).map_err(|source| IngestError::Destination {
                operation: "asking for what is missing",
                source,
            })?;
            missing.extend(where_missing(keys, &answers)?);
        }
        Ok(missing)
    }

    /// Which of these contents the destination could not give back.
    fn missing_contents(&mut self, contents: HashSet<Content>) -> Result<HashSet<Content>, IngestError> {
        let contents: Vec<Content> = contents.into_iter().filter(|content| content.size > 0).collect();
        let mut missing = HashSet::new();
        for contents in contents.chunks(MISSING_MAX) {
            let answers = self.destination.missing_contents(contents).map_err(|source| {
                IngestError::Destination { operation: "asking for what is missing", source }
            })?;
            missing.extend(where_missing(contents, &answers)?);
        }
        Ok(missing)
    }

    fn add(
        &mut self,
        key: ObjectKey,
        bytes: &[u8],
        missing: &mut HashSet<ObjectKey>,
    ) -> Result<(), IngestError> {
        if !missing.remove(&key) {
            return Ok(());
        }
        if self.pack.is_full() {
            self.flush()?;
        }
        self.statistics.objects_sent += 1;
        self.statistics.bytes_of_objects += bytes.len() as u64;
        self.pack.add(key, bytes).expect("a pack that is not full takes any object");
        Ok(())
    }

    /// Sends the open pack, if anything is in it.
    fn flush(&mut self) -> Result<(), IngestError> {
        let pack = std::mem::replace(&mut self.pack, PackWriter::new(self.level));
        let Some(pack) = pack.finish_own() else { return Ok(()) };
        self.statistics.packs_sent += 1;
        self.statistics.bytes_sent += pack.bytes().len() as u64;
        self.destination
            .put_pack(&pack)
            .map_err(|source| IngestError::Destination { operation: "storing a pack", source })
    }
}

/// The questions whose answer is yes.
fn where_missing<T: Copy>(asked: &[T], answers: &[bool]) -> Result<Vec<T>, IngestError> {
    if asked.len() != answers.len() {
        return Err(IngestError::BadAnswer { asked: asked.len(), answered: answers.len() });
    }
    Ok(asked.iter().zip(answers).filter(|(_, is_missing)| **is_missing).map(|(asked, _)| *asked).collect())
}
