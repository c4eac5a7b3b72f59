//! Making packs, in memory.
//!
//! Objects keep the order in which they are added, so that the files of a tree are neighbours; pages and recipes go
//! into frames of their own, so that reading a manifest does not mean reading contents. Frames wait until a few can
//! be compressed at once on all processors; the number that waits is fixed, so that the bytes of a pack do
//! not depend on the machine.

use std::collections::HashSet;

use rayon::prelude::*;
use zstd::bulk::Compressor;

use super::frame::compress;
use super::pool::Pool;
use super::{Codec, Frame, FrameObject, INDEX_LEN_MAX, MAGIC, PACK_LEN_MAX, PACK_RAW_MAX, PackIndex};
use super::{PackTrailer, RecipeOf, VerifiedPack};
use crate::id::PackId;
use crate::object::{ObjectKey, ObjectKind};
use crate::recipe::Recipe;

/// The number of bytes after which a frame is closed. Who wants one chunk fetches its frame; larger frames save three
/// bytes in a hundred where files are large, and nothing where they are small.
const FRAME_RAW_TARGET: usize = 256 << 10;
/// The number of frames that are compressed at once.
const BATCH: usize = 8;
/// The most bytes that an object takes in the index, and a frame without its objects.
const OBJECT_ENTRY_LEN_MAX: usize = 1 + 32 + 4;
const FRAME_ENTRY_LEN_MAX: usize = 1 + 4 + 4 + 4;
/// Room for one more object of the largest kind: a writer that is not full takes any object.
const ROOM: usize = (1 << 20) + OBJECT_ENTRY_LEN_MAX + 3 * FRAME_ENTRY_LEN_MAX;
/// Numbers of frames and the like at both ends.
const FRAMING_LEN_MAX: usize = MAGIC.len() + 10 + PackTrailer::LEN;

/// The pack takes no more objects: finish it and begin another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pack is full")]
pub struct PackFull;

/// Collects objects into a pack.
#[derive(Debug)]
pub struct PackWriter {
    level: i32,
    pack: Vec<u8>,
    frames: Vec<Frame>,
    chunks: OpenFrame,
    metadata: OpenFrame,
    waiting: Vec<OpenFrame>,
    compressors: Pool<Option<Compressor<'static>>>,
    held: HashSet<ObjectKey>,
    recipes: Vec<RecipeOf>,
    /// The bytes of all objects that are not in `pack` yet.
    unpacked_len: usize,
    raw_len: u64,
    index_len_max: usize,
}

#[derive(Debug, Default)]
struct OpenFrame {
    raw: Vec<u8>,
    objects: Vec<FrameObject>,
}

impl PackWriter {
    /// Begins a pack whose frames are compressed with this level of zstd (1 to 22).
    pub fn new(level: i32) -> Self {
        Self {
            level,
            pack: MAGIC.to_vec(),
            frames: Vec::new(),
            chunks: OpenFrame::default(),
            metadata: OpenFrame::default(),
            waiting: Vec::new(),
            compressors: Pool::new(),
            held: HashSet::new(),
            recipes: Vec::new(),
            unpacked_len: 0,
            raw_len: 0,
            index_len_max: 0,
        }
    }

    /// Whether nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether the pack should be finished. A pack that is not full takes any object.
    pub const fn is_full(&self) -> bool {
        let len_max = self.pack.len() + self.unpacked_len + self.index_len_max + FRAMING_LEN_MAX;
        len_max + ROOM > PACK_LEN_MAX
            || self.index_len_max + ROOM > INDEX_LEN_MAX
            || self.raw_len + ROOM as u64 > PACK_RAW_MAX
    }

    /// Whether objects of so many bytes would probably fit, if they compress as those in the pack do.
    pub fn has_probable_room_for(&self, len: u64) -> bool {
        let packed_from = self.raw_len - self.unpacked_len as u64;
        let to_come = len.saturating_add(self.unpacked_len as u64);
        let packed = self.pack.len() as u64;
        let expected = to_come.saturating_mul(packed).checked_div(packed_from).unwrap_or(to_come);
        packed.saturating_add(expected).saturating_add((self.index_len_max + FRAMING_LEN_MAX + ROOM) as u64)
            <= PACK_LEN_MAX as u64
    }

    /// Whether the pack is large enough to be ended, if there is a reason to.
    pub const fn is_half_full(&self) -> bool {
        self.pack.len() + self.index_len_max > PACK_LEN_MAX / 2
    }

    /// Whether this object is in the pack.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.held.contains(key)
    }

    /// Adds an object; one that is there already is not added twice. The name is not compared with the bytes here:
    /// whoever reads the pack does that.
    pub fn add(&mut self, key: ObjectKey, bytes: &[u8]) -> Result<(), PackFull> {
        debug_assert!(!bytes.is_empty() && bytes.len() <= key.kind.len_max(), "{key}: {} bytes", bytes.len());
        if self.is_full() {
            return Err(PackFull);
        }
        if !self.held.insert(key) {
            return Ok(());
        }
        if key.kind == ObjectKind::Recipe
            && let Ok(recipe) = Recipe::decode(bytes)
        {
            self.recipes.push(RecipeOf::new(&recipe, key.id, true));
        }
        let open = match key.kind {
            ObjectKind::Chunk => &mut self.chunks,
            ObjectKind::Page | ObjectKind::Recipe | ObjectKind::RecipePage => &mut self.metadata,
        };
        let closed = (open.raw.len() + bytes.len() > FRAME_RAW_TARGET).then(|| std::mem::take(open));
        if open.raw.is_empty() {
            open.raw.reserve(FRAME_RAW_TARGET.max(bytes.len()));
        }
        open.raw.extend_from_slice(bytes);
        let len = u32::try_from(bytes.len()).expect("an object has at most 1 MiB");
        open.objects.push(FrameObject { key, len });
        self.unpacked_len += bytes.len();
        self.raw_len += bytes.len() as u64;
        self.index_len_max += OBJECT_ENTRY_LEN_MAX;
        if let Some(frame) = closed {
            self.close(frame);
        }
        Ok(())
    }

    /// Ends the pack; nothing if nothing was added.
    pub fn finish(self) -> Option<(PackId, Vec<u8>)> {
        self.end().map(|(id, bytes, _)| (id, bytes))
    }

    /// Ends a pack whose every object was named here from its bytes, and whose recipes were made here from the
    /// contents that they make; nothing if nothing was added. It need not be decoded and hashed again.
    pub fn finish_own(mut self) -> Option<VerifiedPack> {
        let recipes = std::mem::take(&mut self.recipes);
        let (id, bytes, index) = self.end()?;
        Some(VerifiedPack::own(id, bytes.into(), index, recipes))
    }

    fn end(mut self) -> Option<(PackId, Vec<u8>, PackIndex)> {
        let (chunks, metadata) = (std::mem::take(&mut self.chunks), std::mem::take(&mut self.metadata));
        self.close(chunks);
        self.close(metadata);
        self.compress_waiting();
        if self.frames.is_empty() {
            return None;
        }
        let index = PackIndex::new(self.frames);
        self.pack.extend_from_slice(&index.encode());
        let id = PackId::from_bytes(*blake3::hash(&self.pack).as_bytes());
        Some((id, self.pack, index))
    }

    fn close(&mut self, frame: OpenFrame) {
        if frame.objects.is_empty() {
            return;
        }
        self.index_len_max += FRAME_ENTRY_LEN_MAX;
        self.waiting.push(frame);
        if self.waiting.len() == BATCH {
            self.compress_waiting();
        }
    }

    fn compress_waiting(&mut self) {
        let (level, compressors) = (self.level, &self.compressors);
        let compressed: Vec<(Codec, u32, Vec<u8>, Vec<FrameObject>)> = std::mem::take(&mut self.waiting)
            .into_par_iter()
            .map(|frame| {
                let raw = u32::try_from(frame.raw.len()).expect("a frame has at most 4 MiB");
                let new = || Compressor::new(level).ok();
                let (codec, stored) =
                    compressors.lend(new, |compressor| compress(compressor.as_mut(), frame.raw));
                (codec, raw, stored, frame.objects)
            })
            .collect();
        for (codec, raw, bytes, objects) in compressed {
            let offset = u32::try_from(self.pack.len()).expect("a pack has at most 64 MiB");
            let stored = u32::try_from(bytes.len()).expect("a frame is never stored in more than its bytes");
            self.unpacked_len -= raw as usize;
            self.pack.extend_from_slice(&bytes);
            self.frames.push(Frame { offset, codec, stored, raw, objects });
        }
    }
}
