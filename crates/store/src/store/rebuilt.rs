//! Contents that are rebuilt from their plain streams, and those that were rebuilt lately.
//!
//! Rebuilding takes time and both the plain stream and the content on a disk, so what was rebuilt stays for a while, in
//! files that have no name and go with the process. A block of such a file is compared with its digest when it is
//! read, as everything is that leaves the store.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use futures::channel::oneshot;

use super::Store;
use super::contents::{ChunkReading, ContentWalk};
use super::plain::own_limits;
use crate::catalogue::StoredRecipe;
use crate::domain::Domain;
use crate::error::{RecipeError, StoreError};
use crate::id::{ContentId, ObjectId};
use crate::recipe::{Plain, Recipe};
use crate::unpack::{Named, RebuildError, rebuild_from};

/// The bytes of rebuilt contents that are kept.
const KEPT_BYTES_MAX: u64 = 1 << 30;
/// The number of those that are kept: each holds a file open.
const KEPT_MAX: usize = 256;
/// The bytes that are read and compared at once.
const BLOCK: usize = 256 << 10;
/// Contents that are rebuilt at the same time.
const LANES: usize = 2;

/// Rebuilt contents.
#[derive(Debug)]
pub(super) struct RebuiltFiles {
    scratch: PathBuf,
    /// The one that was asked for last is the last.
    kept: Mutex<VecDeque<Arc<RebuiltFile>>>,
    /// Whoever rebuilds a content holds the lane of its id, so that no two rebuild the same.
    lanes: [futures::lock::Mutex<()>; LANES],
}

/// A content that was rebuilt.
#[derive(Debug)]
pub(super) struct RebuiltFile {
    id: ContentId,
    file: File,
    size: u64,
    blocks: Vec<ObjectId>,
}

impl RebuiltFiles {
    pub(super) fn new(scratch: PathBuf) -> Self {
        Self { scratch, kept: Mutex::default(), lanes: Default::default() }
    }

    /// A place for bytes that goes with whoever holds it.
    pub(super) fn scratch_file(&self) -> Result<File, StoreError> {
        tempfile::tempfile_in(&self.scratch).map_err(self.failed("making a scratch file in"))
    }

    pub(super) fn failed(&self, operation: &'static str) -> impl Fn(io::Error) -> StoreError {
        let path = self.scratch.display().to_string();
        move |source| StoreError::Io { operation, path: path.clone(), source }
    }

    fn get(&self, id: ContentId) -> Option<Arc<RebuiltFile>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().position(|file| file.id == id)?;
        let file = kept.remove(place)?;
        kept.push_back(Arc::clone(&file));
        Some(file)
    }

    fn put(&self, file: Arc<RebuiltFile>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(file);
        let mut bytes: u64 = kept.iter().map(|file| file.size).sum();
        // The last one stays however large it is: whoever asked for it reads it in parts.
        while kept.len() > 1 && (bytes > KEPT_BYTES_MAX || kept.len() > KEPT_MAX) {
            let Some(oldest) = kept.pop_front() else { break };
            bytes -= oldest.size;
        }
    }

    fn lane(&self, id: ContentId) -> &futures::lock::Mutex<()> {
        &self.lanes[usize::from(id.as_bytes()[0]) % LANES]
    }
}

impl RebuiltFile {
    /// Reads from a place to the end of the block that it is in, or to an earlier one.
    pub(super) fn read(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let number = usize::try_from(range.start / BLOCK as u64).expect("blocks are listed in memory");
        let start = number as u64 * BLOCK as u64;
        let end = self.size.min(start + BLOCK as u64);
        let within = |at: u64| usize::try_from(at - start).expect("a place in a block");
        let mut block = vec![0; within(end)];
        let read = self.file.read_exact_at(&mut block, start);
        let damaged = |source| StoreError::Io {
            operation: "reading rebuilt content",
            path: self.id.to_string(),
            source,
        };
        read.map_err(damaged)?;
        if ObjectId::of(&block) != self.blocks[number] {
            return Err(damaged(io::Error::other("it was damaged after it was rebuilt")));
        }
        Ok(Bytes::from(block).slice(within(range.start)..within(range.end.min(end))))
    }
}

impl Store {
    /// A content as its recipe rebuilds it. That it is the content has been found out when this returns.
    pub(super) async fn rebuilt(
        &self,
        domain: &Domain,
        stored: StoredRecipe,
        recipe: Recipe,
        plain: Plain,
    ) -> Result<Arc<RebuiltFile>, StoreError> {
        let id = recipe.content;
        if let Some(file) = self.rebuilt.get(id) {
            return Ok(file);
        }
        let _lane = self.rebuilt.lane(id).lock().await;
        if let Some(file) = self.rebuilt.get(id) {
            return Ok(file);
        }
        let file = Arc::new(self.rebuild(domain, stored, recipe, plain).await?);
        self.rebuilt.put(Arc::clone(&file));
        Ok(file)
    }

    async fn rebuild(
        &self,
        domain: &Domain,
        stored: StoredRecipe,
        recipe: Recipe,
        plain: Plain,
    ) -> Result<RebuiltFile, StoreError> {
        let (id, size) = (recipe.content, recipe.size);
        let wrong = |source| StoreError::Recipe { content: id, recipe: stored.id, source: Box::new(source) };
        let mut spool = self.rebuilt.scratch_file()?;
        let walk = ContentWalk::new(domain, id, stored, recipe, 0..plain.size());
        let mut reading = ChunkReading::new(walk);
        while let Some(bytes) = reading.next(self).await? {
            spool.write_all(&bytes).map_err(self.rebuilt.failed("writing a plain stream in"))?;
        }
        let out = self.rebuilt.scratch_file()?;
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || {
            let blocks = Blocks { file: out, digests: Vec::new(), open: Vec::new() };
            let mut writer = BufWriter::with_capacity(BLOCK, Named::new(blocks));
            let rebuilt = rebuild_from(&spool, &plain, size, &own_limits(), &mut writer)
                .and_then(|()| writer.into_inner().map_err(|error| RebuildError::Output(error.into_error())));
            // Whoever waited may have gone away.
            let _ = sender.send(rebuilt.map(Named::finish));
        });
        let failed = self.rebuilt.failed("rebuilding a content in");
        let rebuilt = receiver.await.map_err(|_| failed(io::Error::other("its thread has ended")))?;
        let (found, blocks) = rebuilt.map_err(|error| wrong(error.into()))?;
        if found != id {
            return Err(wrong(RecipeError::Digest(found)));
        }
        let (file, blocks) = blocks.finish();
        Ok(RebuiltFile { id, file, size, blocks })
    }
}

/// Writes to a file and notes the digest of each block.
struct Blocks {
    file: File,
    digests: Vec<ObjectId>,
    open: Vec<u8>,
}

impl Blocks {
    fn finish(mut self) -> (File, Vec<ObjectId>) {
        if !self.open.is_empty() {
            self.digests.push(ObjectId::of(&self.open));
        }
        (self.file, self.digests)
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.open.len());
        self.file.write_all(&bytes[..taken])?;
        self.open.extend_from_slice(&bytes[..taken]);
        if self.open.len() == BLOCK {
            self.digests.push(ObjectId::of(&self.open));
            self.open.clear();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
