//! From ranges of packs to files in the stage.
//!
//! Every chunk is compared with its id and written to its places at once, while it is in the processor's cache, by
//! whichever thread decoded it: in which order does not matter for a file. Contents that are hashed while they come
//! are handed on for that, in the order of the ranges; see the module `assembly`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use smart_sync_store::id::ContentId;
use smart_sync_store::object::{ObjectKey, VerifiedObject};
use smart_sync_store::pack::decode_raw;
use smart_sync_sync::apply::partial::Partial;
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::fetch_plan::{Destination, FetchPlan, PackRange};
use smart_sync_sync::wire::fetch_map::{ContentParts, FrameChunk};

use super::session::Needs;
use crate::failure::{DAMAGED_HINT, Exit, Failure};

/// Files of contents that are kept open at most; with one more, all are closed.
const OPEN_MAX: usize = 64;

/// Bytes that were written, of a content that is hashed while it comes.
pub(super) struct Landed {
    pub(super) bytes: Bytes,
    pub(super) place: Destination,
}

/// Where decoded chunks are brought.
pub(super) struct Landing<'a> {
    plan: &'a FetchPlan,
    needs: &'a Needs<'a>,
    stage: &'a Stage<'a>,
    /// Of each content of the map, whether it [is in order](ContentParts::is_in_order).
    in_order: Vec<bool>,
    open: Mutex<HashMap<u32, Arc<Partial<'a>>>>,
}

impl<'a> Landing<'a> {
    pub(super) fn new(plan: &'a FetchPlan, needs: &'a Needs<'a>, stage: &'a Stage<'a>) -> Self {
        let in_order = plan.map().contents.iter().map(ContentParts::is_in_order).collect();
        Self { plan, needs, stage, in_order, open: Mutex::default() }
    }

    pub(super) fn is_in_order(&self, content: u32) -> bool {
        self.in_order[content as usize]
    }

    /// Decodes frames of a range and writes their chunks.
    pub(super) fn land(
        &self,
        range: &PackRange,
        frames: &[usize],
        bytes: &Bytes,
    ) -> Result<Vec<Landed>, Failure> {
        let mut landed = Vec::new();
        for frame in frames {
            let Frame { raw, chunks } = decode(self.plan, range, *frame, bytes)?;
            let mut run: Option<Run> = None;
            for (chunk, places) in chunks {
                for place in places {
                    if run.as_mut().is_some_and(|run| run.goes_on_with(&chunk, *place)) {
                        continue;
                    }
                    let next = Run { bytes: chunk.clone(), place: *place };
                    if let Some(run) = run.replace(next) {
                        landed.extend(self.write(raw.slice(run.bytes), run.place)?);
                    }
                }
            }
            if let Some(run) = run {
                landed.extend(self.write(raw.slice(run.bytes), run.place)?);
            }
        }
        Ok(landed)
    }

    /// Writes bytes to their place. Returns them if their content is to be hashed with them.
    fn write(&self, bytes: Bytes, place: Destination) -> Result<Option<Landed>, Failure> {
        let content = &self.plan.map().contents[place.content as usize];
        if content.size == bytes.len() as u64 {
            self.stage.put(need(self.needs, content.id)?, &bytes)?;
            return Ok(None);
        }
        self.partial(place.content)?.write_at(place.offset, &bytes)?;
        Ok(self.is_in_order(place.content).then_some(Landed { bytes, place }))
    }

    /// The file of a content.
    pub(super) fn partial(&self, content: u32) -> Result<Arc<Partial<'a>>, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(partial) = open.get(&content) {
            return Ok(Arc::clone(partial));
        }
        let id = self.plan.map().contents[content as usize].id;
        let partial = Arc::new(self.stage.partial(need(self.needs, id)?)?);
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        open.insert(content, Arc::clone(&partial));
        Ok(partial)
    }

    /// Lets go of the file of a content that is complete.
    pub(super) fn close(&self, content: u32) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&content);
    }
}

pub(super) fn need<'a>(needs: &Needs<'a>, content: ContentId) -> Result<&'a Need, Failure> {
    needs.get(content).ok_or_else(|| {
        Failure::message(Exit::General, format!("content {content} was fetched and is not needed"))
    })
}

/// Bytes of a decoded frame that are written at once: chunks that follow each other there and in their content.
struct Run {
    bytes: Range<usize>,
    place: Destination,
}

impl Run {
    /// Takes the next chunk where it follows what is here.
    fn goes_on_with(&mut self, chunk: &Range<usize>, place: Destination) -> bool {
        let follows = place.content == self.place.content
            && chunk.start == self.bytes.end
            && place.offset == self.place.offset + self.bytes.len() as u64;
        if follows {
            self.bytes.end = chunk.end;
        }
        follows
    }
}

/// A decoded frame.
pub(crate) struct Frame<'a> {
    /// Its bytes. What is not in a chunk that is wanted was not compared with anything.
    pub(crate) raw: Bytes,
    /// The chunks that are wanted, each compared with its id, and the places where they go.
    pub(crate) chunks: Vec<(Range<usize>, &'a [Destination])>,
}

/// Decodes a frame of a range, and compares the chunks of it that are wanted with their ids.
pub(crate) fn decode<'a>(
    plan: &'a FetchPlan,
    range: &PackRange,
    index: usize,
    bytes: &Bytes,
) -> Result<Frame<'a>, Failure> {
    let map = plan.map();
    let frame = &map.frames[index];
    let start = usize::try_from(frame.offset - range.bytes.start).expect("a range fits in memory");
    let stored = bytes.slice(start..start + frame.stored as usize);
    let pack = map.packs[frame.pack as usize].id;
    let raw = decode_raw(frame.codec, &stored, frame.raw).map_err(|reason| {
        Failure::message(Exit::Refused, format!("a frame of pack {pack} is not what was announced: {reason}"))
            .hint(DAMAGED_HINT)
    })?;
    let verified = |(chunk, places): (&FrameChunk, &'a [Destination])| {
        let at = chunk.start as usize..(chunk.start + chunk.length) as usize;
        VerifiedObject::verify(ObjectKey::chunk(chunk.id), raw.slice(at.clone()))
            .map_err(|error| Failure::new(Exit::Refused, error).context(format!("in pack {pack}")))
            .map_err(|failure| failure.hint(DAMAGED_HINT))?;
        Ok::<_, Failure>((at, places))
    };
    let chunks = plan.chunks_of(index).map(verified).collect::<Result<_, _>>()?;
    Ok(Frame { raw, chunks })
}
