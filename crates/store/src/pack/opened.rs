//! A publisher's pack, looked at once: while its chunks are decoded, the contents that they make are named too.
//!
//! The recipes are read first, so that the chunks, a few frames at a time, can go to the digests of the contents that they
//! belong to. What was found out need not be read again when a publication says it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use rayon::prelude::*;

use super::frame::FrameDecoder;
use super::naming::{DecodedFrame, Naming};
use super::pool::Pool;
use super::rows::{Recipes, Row};
use super::verify::{range_of, recipes_of};
use super::{Frame, FrameObject, PackError, PackIndex, RecipeOf, VerifiedPack, decode_frame};
use crate::id::{ObjectId, PackId};
use crate::object::{ObjectKey, ObjectKind, VerifiedObject};

/// The decoded bytes that are looked at together: few enough to stay in a processor's cache between two digests.
const WINDOW_RAW_LEN: u32 = 4 << 20;

/// A publisher's pack of which the recipes have been read.
///
/// Verified to the end, it has named the contents that lie in it in the order in which they are read. Some of their chunks
/// may be elsewhere in the store: whoever has them hands them in.
#[derive(Debug)]
pub struct OpenedPack {
    bytes: Bytes,
    index: PackIndex,
    recipes: Vec<RecipeOf>,
    found: Recipes,
    rows: Vec<Row>,
}

impl OpenedPack {
    /// Reads the index and every recipe.
    pub fn open(bytes: Bytes) -> Result<Self, PackError> {
        let index = PackIndex::of_pack(&bytes)?;
        let mut found = Recipes::default();
        let mut recipes = Vec::new();
        for frame in index.frames().iter().filter(|frame| has_layouts(frame)) {
            let objects = decode_frame(frame, &bytes.slice(range_of(frame)))?;
            recipes.extend(recipes_of(&objects, |object, layout| found.add(object, layout))?);
        }
        let chunks: Vec<FrameObject> = other_frames(&index)
            .flat_map(|frame| &frame.objects)
            .filter(|object| object.key.kind == ObjectKind::Chunk)
            .copied()
            .collect();
        let rows = found.rows(&chunks);
        Ok(Self { bytes, index, recipes, found, rows })
    }

    /// Chunks that are not in the pack and that its contents need. They have a few megabytes in all.
    pub fn wanted(&self) -> Vec<ObjectKey> {
        let held: HashSet<ObjectKey> = self.index.objects().map(|object| object.key).collect();
        self.borrowed().map(ObjectKey::chunk).filter(|key| !held.contains(key)).collect()
    }

    /// Decodes every frame and hashes every object and every content that can be named. A pack that says of one of them
    /// that it is another is refused. Of what is wanted, as much as there is has to be handed in.
    pub fn verify(self, wanted: Vec<VerifiedObject>) -> Result<VerifiedPack, PackError> {
        let mut borrowed: HashMap<ObjectId, VerifiedObject> =
            wanted.into_iter().map(|object| (object.id(), object)).collect();
        self.borrow_from_itself(&mut borrowed)?;
        let Self { bytes, index, mut recipes, found, rows } = self;
        let frames: Vec<&Frame> = other_frames(&index).collect();
        let mut naming = Naming::new(found, rows, borrowed);
        let (mut memory, decoders) = (Vec::new(), Pool::new());
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let (window, after) = rest.split_at(window_len(rest));
            naming.take(&decode_window(window, &bytes, &mut memory, &decoders)?)?;
            rest = after;
        }
        let named = naming.finish();
        let proven: HashSet<ObjectId> = named.recipes.into_iter().collect();
        for recipe in &mut recipes {
            recipe.is_proven = proven.contains(&recipe.recipe);
        }
        let id = PackId::from_bytes(*blake3::hash(&bytes).as_bytes());
        Ok(VerifiedPack { id, bytes, index, recipes, contents: named.contents })
    }

    /// Every chunk that is needed where it does not lie, once.
    fn borrowed(&self) -> impl Iterator<Item = ObjectId> {
        let ids = self.rows.iter().flat_map(|row| &row.borrowed).map(|chunk| chunk.id);
        ids.collect::<HashSet<_>>().into_iter()
    }

    /// Takes out the chunks of the pack that are needed in other places too.
    fn borrow_from_itself(&self, borrowed: &mut HashMap<ObjectId, VerifiedObject>) -> Result<(), PackError> {
        let needed: HashSet<ObjectKey> = self.borrowed().map(ObjectKey::chunk).collect();
        if needed.is_empty() {
            return Ok(());
        }
        for frame in other_frames(&self.index) {
            if frame.objects.iter().any(|object| needed.contains(&object.key)) {
                let objects = decode_frame(frame, &self.bytes.slice(range_of(frame)))?;
                let objects = objects.iter().filter(|object| needed.contains(&object.key()));
                borrowed.extend(objects.map(|object| (object.id(), object.detached())));
            }
        }
        Ok(())
    }
}

fn has_layouts(frame: &Frame) -> bool {
    frame.objects.iter().any(|object| matches!(object.key.kind, ObjectKind::Recipe | ObjectKind::RecipePage))
}

/// The frames without recipes, where the chunks are.
fn other_frames(index: &PackIndex) -> impl Iterator<Item = &Frame> {
    index.frames().iter().filter(|frame| !has_layouts(frame))
}

/// The number of frames that are looked at together.
fn window_len(frames: &[&Frame]) -> usize {
    let mut raw = 0;
    let fits = |frame: &&&Frame| {
        raw += frame.raw;
        raw <= WINDOW_RAW_LEN
    };
    frames.iter().take_while(fits).count().max(1)
}

/// Decodes frames and verifies their objects, on all processors.
fn decode_window<'a>(
    frames: &[&'a Frame],
    pack: &'a Bytes,
    memory: &'a mut Vec<u8>,
    decoders: &Pool<FrameDecoder>,
) -> Result<Vec<DecodedFrame<'a>>, PackError> {
    memory.resize(frames.iter().map(|frame| frame.raw as usize).sum(), 0);
    let mut rooms = Vec::with_capacity(frames.len());
    let mut rest = &mut memory[..];
    for frame in frames {
        let (room, after) = rest.split_at_mut(frame.raw as usize);
        rooms.push((*frame, room));
        rest = after;
    }
    rooms
        .into_par_iter()
        .map(|(frame, room)| {
            let stored = &pack[range_of(frame)];
            let raw = decoders.lend(FrameDecoder::new, |decoder| decoder.decode(frame, stored, room))?;
            Ok((frame, raw))
        })
        .collect()
}

#[cfg(test)]
mod tests;
