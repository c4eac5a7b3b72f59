//! Storing what a content is rebuilt from, in place of the content.
//!
//! A content is always stored as it came first. Later it may be taken apart, and if what that takes is worth it, the
//! parts are stored with a recipe that has been proven: then the content as it came is garbage, unless it is to be kept
//! beside them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use super::contents::{ChunkReading, ContentWalk};
use super::{Repack, Store};
use crate::catalogue::Timestamp;
use crate::chunk::ChunkRef;
use crate::content::ContentHasher;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::id::{BlobId, ContentId};
use crate::manifest::entry::Content;
use crate::object::{ObjectKey, VerifiedObject};
use crate::recipe::{self, Method, Plain, Recipe, build_rebuilt};
use crate::unpack::{
    Dissector, Limits, Named, PROBE_LEN, Program, is_promising, least_rebuild_time, rebuild_from, write_plain,
};

/// The bytes of chunks that are compressed together to find out what they take.
const SAMPLE_BYTES: usize = 256 << 10;
/// The level of zstd for that.
const SAMPLE_LEVEL: i32 = 3;
/// The level of zstd for what is stored: it is compressed once, by nobody who waits.
const LEVEL: i32 = 15;

/// The bytes of a content for each chunk that it may be rebuilt from, beside a few that are free.
const CHUNK_SHARE: u64 = 1024;
const CHUNKS_FREE: u64 = 16;

/// What contents of this store may ask for while they are rebuilt here.
///
/// Their programs were made by this store and have run before: corrections that would make a library run without an end
/// are not among them.
pub(super) fn own_limits() -> Limits {
    Limits::default()
}

/// A content that was taken apart, on a disk.
pub struct Apart {
    content: Content,
    plain: Plain,
    chunks: Vec<ChunkRef>,
    file: File,
    rebuild_time: Duration,
}

impl Apart {
    /// The content.
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// How long a rebuild takes, roughly.
    pub const fn rebuild_time(&self) -> Duration {
        self.rebuild_time
    }

    fn read(&self, chunk: &ChunkRef) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; chunk.len as usize];
        self.file.read_exact_at(&mut bytes, chunk.offset).map_err(failed("reading a plain stream"))?;
        Ok(bytes)
    }
}

impl Store {
    /// Whether a content begins as one that could be taken apart and rebuilt within that time, and is not stored so
    /// already.
    pub async fn could_be_apart(
        &self,
        domain: &Domain,
        content: &Content,
        time_max: Duration,
    ) -> Result<bool, StoreError> {
        for stored in self.catalogue.recipes_of(domain, content.id)? {
            if let Ok(Recipe { method: Method::Rebuilt(_), .. }) =
                self.recipe(domain, content.id, stored).await
            {
                return Ok(false);
            }
        }
        let end = content.size.min(PROBE_LEN as u64);
        let mut reading = self.reading(domain, content, 0..end).await?;
        let mut head = Vec::new();
        while let Some(bytes) = reading.next(self).await? {
            head.extend_from_slice(&bytes);
        }
        Ok(is_promising(&head, content.size) && least_rebuild_time(&head, content.size) <= time_max)
    }

    /// Has a content taken apart; nothing if nothing in it can be seen through and rebuilt.
    pub async fn take_apart(
        &self,
        domain: &Domain,
        content: &Content,
        dissector: &dyn Dissector,
    ) -> Result<Option<Apart>, StoreError> {
        let mut source = self.rebuilt.scratch_file()?;
        let mut reading = self.reading(domain, content, 0..content.size).await?;
        while let Some(bytes) = reading.next(self).await? {
            source.write_all(&bytes).map_err(failed("writing a content"))?;
        }
        source.seek(SeekFrom::Start(0)).map_err(failed("reading a content"))?;
        let dissected = match dissector.dissect(source, content.size) {
            Ok(Some(dissected)) => dissected,
            Ok(None) => return Ok(None),
            // It took more than it was given, for instance.
            Err(error) => {
                tracing::debug!(%error, content = %content.id, "a content is not taken apart");
                return Ok(None);
            }
        };
        let program = Program::decode(&dissected.program).ok();
        let time = program.and_then(|program| program.summary().rebuild_time());
        let Some(rebuild_time) = time else { return Ok(None) };
        let file = self.rebuilt.scratch_file()?;
        let mut out = BufWriter::with_capacity(1 << 18, &file);
        let cut = write_plain(dissected, &mut out)
            .and_then(|cut| out.flush().map(|()| cut))
            .map_err(failed("writing a plain stream"))?;
        drop(out);
        let (plain, chunks) = (cut.plain, cut.chunks);
        // Nobody who is told where all of this lies should have to hold more for it than for other contents.
        let chunks_max = content.size / CHUNK_SHARE + CHUNKS_FREE;
        if plain.size() > Plain::size_max(content.size) || chunks.len() as u64 > chunks_max {
            return Ok(None);
        }
        Ok(Some(Apart { content: *content, plain, chunks, file, rebuild_time }))
    }

    /// How many bytes it would take to store these contents taken apart, beside all that is stored already, roughly.
    pub fn weigh(&self, domain: &Domain, aparts: &[Apart]) -> Result<u64, StoreError> {
        let mut seen = HashSet::new();
        let (mut sum, mut sample) = (0, Vec::with_capacity(2 * SAMPLE_BYTES));
        let mut compressor =
            zstd::bulk::Compressor::new(SAMPLE_LEVEL).map_err(failed("compressing a sample"))?;
        let mut weigh = |sample: &mut Vec<u8>| -> Result<u64, StoreError> {
            let packed = compressor.compress(sample).map_err(failed("compressing a sample"))?.len();
            sample.clear();
            Ok(packed as u64)
        };
        for apart in aparts {
            let keys: Vec<_> = apart.chunks.iter().map(|chunk| ObjectKey::chunk(chunk.id)).collect();
            for (chunk, location) in apart.chunks.iter().zip(self.locate(domain, &keys)?) {
                if location.is_none() && seen.insert(chunk.id) {
                    sample.extend_from_slice(&apart.read(chunk)?);
                    if sample.len() >= SAMPLE_BYTES {
                        sum += weigh(&mut sample)?;
                    }
                }
            }
        }
        Ok(sum + if sample.is_empty() { 0 } else { weigh(&mut sample)? })
    }

    /// Stores a content taken apart, once it has been rebuilt from its parts. Unless the original is to be kept, what
    /// only that needs is garbage when this returns.
    pub async fn keep_apart(
        &self,
        domain: &Domain,
        apart: &Apart,
        keeps_original: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut rebuilt = Named::new(io::sink());
        let (size, limits) = (apart.content.size, own_limits());
        let made = rebuild_from(&apart.file, &apart.plain, size, &limits, &mut rebuilt);
        if made.is_err() || rebuilt.finish().0 != apart.content.id {
            return Err(failed("rebuilding a content")(io::Error::other("its parts do not make it")));
        }
        let keys: Vec<_> = apart.chunks.iter().map(|chunk| ObjectKey::chunk(chunk.id)).collect();
        let mut missing: HashSet<_> = self.missing(domain, &keys, now)?.into_iter().collect();
        let mut packs = Repack::own(self, domain, LEVEL, now);
        for (chunk, key) in apart.chunks.iter().zip(keys) {
            if missing.remove(&key) {
                packs.add(&verified(key, apart.read(chunk)?)?).await?;
            }
        }
        let recipe = build_rebuilt(apart.content.id, apart.content.size, apart.plain, &apart.chunks);
        for (kind, id, bytes) in recipe.objects {
            packs.add(&verified(ObjectKey::new(kind, id), bytes)?).await?;
        }
        packs.finish().await?;
        if keeps_original { Ok(()) } else { self.catalogue.prefer(domain, apart.content.id, recipe.id) }
    }
}

/// Contents that are stored as they are again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Originals {
    /// How many.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Stores all contents as they are that are kept taken apart alone. What they were rebuilt from stays beside them.
    pub async fn store_originals(&self, now: Timestamp) -> Result<Originals, StoreError> {
        let mut stored = Originals::default();
        for (domain, id) in self.catalogue.preferred()? {
            stored.bytes += self.store_original(&domain, id, now).await?;
            stored.contents += 1;
        }
        Ok(stored)
    }

    /// The contents that are kept taken apart alone and that this program cannot rebuild: their encoders are others
    /// than those that are built in.
    pub async fn not_rebuildable(&self) -> Result<Vec<(Domain, ContentId)>, StoreError> {
        let mut found = Vec::new();
        for (domain, id) in self.catalogue.preferred()? {
            let Some(kept) = self.catalogue.recipes_of(&domain, id)?.first().copied() else { continue };
            let recipe = self.recipe(&domain, id, kept).await?;
            let Method::Rebuilt(plain) = recipe.method else { continue };
            let walk = ContentWalk::new(&domain, id, kept, recipe, 0..plain.program);
            let (mut reading, mut program) = (ChunkReading::new(walk), Vec::new());
            while let Some(bytes) = reading.next(self).await? {
                program.extend_from_slice(&bytes);
            }
            let time = Program::decode(&program).ok().and_then(|program| program.summary().rebuild_time());
            if time.is_none() {
                found.push((domain, id));
            }
        }
        Ok(found)
    }

    async fn store_original(
        &self,
        domain: &Domain,
        id: ContentId,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let Some(kept) = self.catalogue.recipes_of(domain, id)?.first().copied() else { return Ok(0) };
        let size = self.recipe(domain, id, kept).await?.size;
        let content = Content { size, blob: BlobId::from_bytes([0; 20]), id };
        let mut reading = self.reading(domain, &content, 0..size).await?;
        let mut hasher = ContentHasher::new(size);
        let mut packs = Repack::own(self, domain, LEVEL, now);
        let mut cut = Vec::new();
        let odd = |error| failed("reading a content")(io::Error::other(error));
        while let Some(bytes) = reading.next(self).await? {
            hasher
                .update(&bytes, |chunk, bytes| cut.push((ObjectKey::chunk(chunk.id), bytes.to_vec())))
                .map_err(odd)?;
            for (key, bytes) in cut.drain(..) {
                packs.add(&verified(key, bytes)?).await?;
            }
        }
        let chunks = hasher.finish().map_err(odd)?.chunks;
        for (kind, id, bytes) in recipe::build(id, &chunks).into_iter().flat_map(|built| built.objects) {
            packs.add(&verified(ObjectKey::new(kind, id), bytes)?).await?;
        }
        packs.finish().await?;
        self.catalogue.prefer_none(domain, id)?;
        Ok(size)
    }
}

fn verified(key: ObjectKey, bytes: Vec<u8>) -> Result<VerifiedObject, StoreError> {
    VerifiedObject::verify(key, bytes.into())
        .map_err(|error| failed("reading a plain stream")(io::Error::other(error)))
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { operation, path: "in the scratch directory".to_owned(), source }
}
