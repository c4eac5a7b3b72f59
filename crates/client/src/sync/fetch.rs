//! Bringing contents from packs into the stage.
//!
//! Ranges are asked for several at a time and taken in their order, so that a content is written from its beginning
//! to its end and hashed on the way. Every chunk is compared with its id before anything is done with it, every
//! content with its own when it is complete. What is in memory is a few ranges and frames, whatever the sizes.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use rayon::prelude::*;
use smart_sync_store::id::ContentId;
use smart_sync_store::object::{ObjectKey, VerifiedObject};
use smart_sync_store::pack::decode_raw;
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::fetch_plan::{Destination, FetchPlan, PackRange};
use smart_sync_sync::wire::fetch_map::{ContentParts, FetchMap, FrameChunk};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::assembly::{Assembly, is_in_order};
use super::former::FormerVersions;
use super::session::Needs;
use crate::failure::{DAMAGED_HINT, Exit, Failure};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::Progress;
use crate::realm::remote::{Remote, RemoteError};

/// The number of bytes after whose arrival the disk is set to work.
const WRITE_OUT_BYTES: u64 = 32 << 20;
/// Frames that are decoded at the same time.
const FRAMES: usize = 4;
/// How often a range is asked for, over all servers.
const ATTEMPTS: usize = 4;

/// What is needed to fetch.
pub struct Fetcher<'a> {
    /// Who is asked, in this order.
    pub remotes: &'a [Remote],
    /// Where the requests run.
    pub runtime: &'a Handle,
    /// Whether to go on.
    pub interrupt: &'a Interrupt,
    /// Where contents whose chunks come out of order wait.
    pub spool_directory: &'a Path,
    /// Ranges that are asked for at the same time.
    pub connections: usize,
    /// What is not staged yet.
    pub needs: &'a Needs<'a>,
    /// Where it goes.
    pub stage: &'a Stage<'a>,
}

/// What is about to be fetched.
pub struct Fetch {
    plan: Arc<FetchPlan>,
    former: FormerVersions,
    /// The byte from which on each content is fetched, where that is not the first.
    resumed: HashMap<ContentId, u64>,
}

impl Fetch {
    /// The number of bytes that will be asked for.
    pub fn bytes(&self) -> u64 {
        self.plan.bytes()
    }
}

impl Fetcher<'_> {
    /// Finds out what of a map has to be fetched: what is needed, and neither was received by an earlier run nor is
    /// in the files that it replaces.
    pub fn plan(&self, map: FetchMap) -> Result<Fetch, Failure> {
        let chunks: Vec<&FrameChunk> = map.frames.iter().flat_map(|frame| &frame.chunks).collect();
        let mut resumed = HashMap::new();
        let mut former = FormerVersions::default();
        for (index, content) in map.contents.iter().enumerate() {
            let Some(need) = self.needs.get(content.id).filter(|_| content.chunks.len() > 1) else {
                continue;
            };
            let from = resume_from(&chunks, content, need, self.stage)?;
            if from > 0 {
                resumed.insert(content.id, from);
            }
            if self.interrupt.is_requested() {
                return Err(interrupted());
            }
            former.look(index, content, &chunks, need, self.stage);
        }
        let wanted_from = |content: &ContentParts| {
            let need = self.needs.get(content.id);
            need.map(|_| resumed.get(&content.id).copied().unwrap_or(0))
        };
        drop(chunks);
        let plan = FetchPlan::with_local(map, wanted_from, |content, chunk| former.has(content, chunk.id));
        Ok(Fetch { plan: Arc::new(plan), former, resumed })
    }

    /// Fetches what was planned.
    pub fn fetch(&self, fetch: Fetch, progress: &mut Progress) -> Result<(), Failure> {
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(1);
            let writing_out =
                scope.spawn(move || receiver.into_iter().try_for_each(|()| self.stage.write_out()));
            let fetched = self.fetch_ranges(fetch, progress, &sender);
            drop(sender);
            let written = writing_out.join().unwrap_or_else(|panic| resume_unwind(panic));
            fetched.and(written.map_err(Failure::from))
        })
    }

    /// Asks for the ranges and writes what is in them; says each time that much came.
    fn fetch_ranges(
        &self,
        fetch: Fetch,
        progress: &mut Progress,
        much_came: &SyncSender<()>,
    ) -> Result<(), Failure> {
        let Fetch { plan, former, resumed } = fetch;
        let mut received = 0;
        let mut assembly =
            Assembly::new(&plan, &former, &resumed, self.needs, self.stage, self.spool_directory);
        let mut ranges = self.download(&plan);
        for range in plan.ranges() {
            let mut bytes = ranges.blocking_recv().unwrap_or_else(|| Err(interrupted()))?;
            if self.interrupt.is_requested() {
                return Err(interrupted());
            }
            for frames in range.frames.chunks(FRAMES) {
                let decoded = match decode_all(&plan, range, frames, &bytes) {
                    Ok(decoded) => decoded,
                    Err(failure) => {
                        bytes = self.fetch_again(&plan, range, failure)?;
                        decode_all(&plan, range, frames, &bytes)?
                    }
                };
                for chunks in decoded {
                    assembly.take(chunks)?;
                }
            }
            progress.advance(range.length());
            received += range.length();
            if received >= WRITE_OUT_BYTES {
                received = 0;
                // It may still be busy with what came before, or have failed, which is told at the end.
                let _ = much_came.try_send(());
            }
        }
        assembly.finish()
    }

    /// Asks the other servers for a range that did not hold what it should, until one has it unharmed.
    fn fetch_again(&self, plan: &FetchPlan, range: &PackRange, failure: Failure) -> Result<Bytes, Failure> {
        let path = format!("pack/{}", plan.map().packs[range.pack as usize].id);
        for remote in self.remotes.iter().skip(1) {
            let asked = async { Ok(remote.get_range(&path, range.bytes.start, range.bytes.end).await) };
            if let Ok(bytes) = self.runtime.block_on(self.interrupt.guard(asked))?
                && decode_all(plan, range, &range.frames, &bytes).is_ok()
            {
                return Ok(bytes);
            }
        }
        Err(failure)
    }

    /// Asks for the ranges; they come out in their order.
    fn download(&self, plan: &Arc<FetchPlan>) -> mpsc::Receiver<Result<Bytes, Failure>> {
        let (sender, receiver) = mpsc::channel(1);
        let (plan, remotes, interrupt) = (Arc::clone(plan), self.remotes.to_vec(), self.interrupt.clone());
        let connections = self.connections;
        self.runtime.spawn(async move {
            let requests = (0..plan.ranges().len()).map(|index| {
                let (plan, remotes) = (Arc::clone(&plan), remotes.clone());
                async move {
                    let range = &plan.ranges()[index];
                    let pack = plan.map().packs[range.pack as usize].id;
                    get_range(&remotes, &format!("pack/{pack}"), range).await
                }
            });
            let mut answers = stream::iter(requests).buffered(connections);
            while let Ok(Some(answer)) = interrupt.guard(async { Ok(answers.next().await) }).await {
                let is_failure = answer.is_err();
                if sender.send(answer.map_err(Failure::from)).await.is_err() || is_failure {
                    return;
                }
            }
        });
        receiver
    }
}

/// Asks one server after the other until one gives the range.
pub(crate) async fn get_range(
    remotes: &[Remote],
    path: &str,
    range: &PackRange,
) -> Result<Bytes, RemoteError> {
    let mut attempt = 0;
    loop {
        let remote = &remotes[attempt % remotes.len()];
        match remote.get_range(path, range.bytes.start, range.bytes.end).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => {
                attempt += 1;
                tracing::debug!(%error, attempt, "a range did not come");
                if attempt >= ATTEMPTS.max(remotes.len()) {
                    return Err(error);
                }
            }
        }
    }
}

/// A chunk that is what it should be, and the places it goes to.
pub(crate) type Placed = (Bytes, Vec<Destination>);

/// The wanted chunks of several frames of a range.
fn decode_all(
    plan: &FetchPlan,
    range: &PackRange,
    frames: &[usize],
    bytes: &Bytes,
) -> Result<Vec<Vec<Placed>>, Failure> {
    frames.par_iter().map(|frame| decode(plan, range, *frame, bytes)).collect()
}

/// The chunks of a frame of a range that are wanted, each compared with its id.
pub(crate) fn decode(
    plan: &FetchPlan,
    range: &PackRange,
    index: usize,
    bytes: &Bytes,
) -> Result<Vec<Placed>, Failure> {
    let map = plan.map();
    let frame = &map.frames[index];
    let start = usize::try_from(frame.offset - range.bytes.start).expect("a range fits in memory");
    let stored = bytes.slice(start..start + frame.stored as usize);
    let pack = map.packs[frame.pack as usize].id;
    let raw = decode_raw(frame.codec, &stored, frame.raw).map_err(|reason| {
        Failure::message(Exit::Refused, format!("a frame of pack {pack} is not what was announced: {reason}"))
            .hint(DAMAGED_HINT)
    })?;
    plan.chunks_of(index)
        .map(|(chunk, places)| {
            let bytes = raw.slice(chunk.start as usize..(chunk.start + chunk.length) as usize);
            let verified = VerifiedObject::verify(ObjectKey::chunk(chunk.id), bytes)
                .map_err(|error| Failure::new(Exit::Refused, error).context(format!("in pack {pack}")))
                .map_err(|failure| failure.hint(DAMAGED_HINT))?;
            Ok((verified.into_bytes(), places.to_vec()))
        })
        .collect()
}

/// The byte from which on a content has to be fetched: after whole chunks that an earlier run received.
fn resume_from(
    chunks: &[&FrameChunk],
    content: &ContentParts,
    need: &Need,
    stage: &Stage<'_>,
) -> Result<u64, Failure> {
    if !is_in_order(content) {
        return Ok(0);
    }
    let partial = stage.partial_len(&need.content)?;
    let mut end = 0;
    for ordinal in &content.chunks {
        let next = end + u64::from(chunks[*ordinal as usize].length);
        if next > partial {
            break;
        }
        end = next;
    }
    // The last chunk is fetched in any case, so that the content is completed by the common way.
    Ok(if end == content.size { 0 } else { end })
}
