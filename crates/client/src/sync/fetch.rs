//! Bringing contents from packs into the stage.
//!
//! Ranges are asked for several at a time, from all mirrors. What comes is decoded and written by all processors and taken in its
//! order, so that a content can be hashed on the way. Every chunk is compared with its id before anything is done
//! with it, every content with its own when it is complete. What is in memory is a few ranges and frames, whatever the
//! sizes.

use std::collections::{HashMap, VecDeque};
use std::io::Read as _;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use rayon::in_place_scope;
use smart_sync_store::id::{ContentId, ContentIdHasher, ObjectId};
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::fetch_plan::{FetchPlan, PackRange};
use smart_sync_sync::wire::fetch_map::{ContentParts, FetchMap, FrameChunk};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::assembly::{Assembly, Hashing};
use super::former::FormerVersions;
use super::landing::{Landed, Landing};
use super::session::Needs;
use super::write_out::{WritingOut, writing_out};
use crate::failure::{Exit, Failure};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{Output, Progress};
use crate::realm::mirrors::{Arrived, Mirrors};
use crate::realm::remote::Remote;

/// Jobs for each processor that are under way or done and not yet taken: none waits for the thread that takes them.
const JOBS_PER_PROCESSOR: usize = 2;
/// The most jobs, however many processors there are.
const JOBS_MAX: usize = 32;
/// The decoded bytes at which a job is not made larger.
const JOB_RAW_BYTES: usize = 1 << 20;

/// What is needed to fetch.
pub struct Fetcher<'a> {
    /// Who is asked, the best one first.
    pub remotes: &'a [Remote],
    /// Where the requests run.
    pub runtime: &'a Handle,
    /// Whether to go on.
    pub interrupt: &'a Interrupt,
    /// The most ranges that are asked for at the same time.
    pub connections: usize,
    /// Where it is said that a server is passed over.
    pub output: &'a Output,
    /// What is not staged yet.
    pub needs: &'a Needs<'a>,
    /// Where it goes.
    pub stage: &'a Stage<'a>,
}

/// What is about to be fetched.
pub struct Fetch {
    plan: Arc<FetchPlan>,
    former: FormerVersions,
    /// The beginnings of contents that an earlier run received.
    received: HashMap<ContentId, ContentIdHasher>,
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
        let mut received = HashMap::new();
        let mut former = FormerVersions::default();
        for (index, content) in map.contents.iter().enumerate() {
            let Some(need) = self.needs.get(content.id) else { continue };
            if content.size != need.content.size {
                return Err(wrong_size(content, need));
            }
            if content.chunks.len() == 1 {
                continue;
            }
            if let Some(hasher) = hash_received(&chunks, content, need, self.stage)? {
                received.insert(content.id, hasher);
            }
            if self.interrupt.is_requested() {
                return Err(interrupted());
            }
            if let Some(file) = self.stage.former(need) {
                former.look(index, content, &chunks, file);
            }
        }
        let wanted_from = |content: &ContentParts| {
            let need = self.needs.get(content.id);
            need.map(|_| received.get(&content.id).map_or(0, ContentIdHasher::count))
        };
        drop(chunks);
        let plan = FetchPlan::with_local(map, wanted_from, |content, chunk| former.has(content, chunk.id));
        Ok(Fetch { plan: Arc::new(plan), former, received })
    }

    /// Fetches what was planned.
    pub fn fetch(&self, fetch: Fetch, progress: &mut Progress) -> Result<(), Failure> {
        writing_out(self.stage, |disk| self.fetch_ranges(fetch, progress, disk))
    }

    /// Asks for the ranges and writes what is in them.
    fn fetch_ranges(
        &self,
        fetch: Fetch,
        progress: &mut Progress,
        disk: &mut WritingOut,
    ) -> Result<(), Failure> {
        let Fetch { plan, former, received } = fetch;
        let landing = Landing::new(&plan, self.needs, self.stage);
        let mut assembly = Assembly {
            plan: &plan,
            former: &former,
            needs: self.needs,
            stage: self.stage,
            landing: &landing,
            hashing: Hashing::new(received),
        };
        let mirrors = Arc::new(Mirrors::new(self.remotes.to_vec(), self.connections, self.output.clone()));
        let mut ranges = self.download(&plan, &mirrors);
        let mut jobs = plan.ranges().iter().flat_map(|range| jobs(plan.map(), range));
        let jobs_max = (JOBS_PER_PROCESSOR * rayon::current_num_threads()).min(JOBS_MAX);
        // Other threads decode and write, and this one takes what they are done with in the order of the ranges.
        in_place_scope(|scope| {
            let mut under_way = VecDeque::new();
            let mut arrived = Arrived { bytes: Bytes::new(), from: 0 };
            loop {
                while under_way.len() < jobs_max
                    && let Some(job) = jobs.next()
                {
                    if job.is_first {
                        arrived = ranges.blocking_recv().unwrap_or_else(|| Err(interrupted()))?;
                    }
                    if self.interrupt.is_requested() {
                        return Err(interrupted());
                    }
                    let (sender, receiver) = sync_channel(1);
                    under_way.push_back((job.length, receiver));
                    let (plan, landing, mirrors) = (&plan, &landing, &mirrors);
                    let arrived = arrived.clone();
                    scope.spawn(move |_| {
                        // Nobody waits for it any more after another one failed.
                        let _ = sender.send(self.land(plan, landing, mirrors, &job, &arrived));
                    });
                }
                let Some((length, landed)) = under_way.pop_front() else { return Ok(()) };
                assembly.take(landed.recv().unwrap_or_else(|_| Err(interrupted()))?)?;
                progress.advance(length);
                disk.advance(length);
            }
        })?;
        assembly.finish(self.interrupt)
    }

    /// Decodes and writes some frames of a range. Where they are not what they should be, the other servers are asked
    /// for the range, until one has it unharmed.
    fn land(
        &self,
        plan: &FetchPlan,
        landing: &Landing<'_>,
        mirrors: &Mirrors,
        job: &Job<'_>,
        arrived: &Arrived,
    ) -> Result<Vec<Landed>, Failure> {
        let range = job.range;
        let failure = match landing.land(range, job.frames, &arrived.bytes) {
            Err(failure) if failure.exit() == Exit::Refused => failure,
            landed => return landed,
        };
        let path = format!("pack/{}", plan.map().packs[range.pack as usize].id);
        let place = (path.as_str(), range.bytes.start, range.bytes.end);
        let passes = |bytes: &Bytes| match landing.land(range, job.frames, bytes) {
            Err(failure) if failure.exit() == Exit::Refused => None,
            landed => Some(landed),
        };
        let replacing = mirrors.replace(arrived.from, failure, place, passes);
        self.runtime.block_on(self.interrupt.guard(replacing))
    }

    /// Asks for the ranges; they come out in their order.
    fn download(
        &self,
        plan: &Arc<FetchPlan>,
        mirrors: &Arc<Mirrors>,
    ) -> mpsc::Receiver<Result<Arrived, Failure>> {
        let (sender, receiver) = mpsc::channel(1);
        let (plan, mirrors, interrupt) = (Arc::clone(plan), Arc::clone(mirrors), self.interrupt.clone());
        self.runtime.spawn(async move {
            let ask = async |range: &PackRange| {
                let pack = plan.map().packs[range.pack as usize].id;
                mirrors.get_range(&format!("pack/{pack}"), range.bytes.start, range.bytes.end).await
            };
            let mut ranges = plan.ranges().iter();
            let mut under_way = FuturesOrdered::new();
            loop {
                while under_way.len() < mirrors.under_way_max()
                    && let Some(range) = ranges.next()
                {
                    under_way.push_back(ask(range));
                }
                let next = interrupt.guard(async { Ok(under_way.next().await) }).await;
                let Ok(Some(answer)) = next else { return };
                let is_failure = answer.is_err();
                if sender.send(answer.map_err(Failure::from)).await.is_err() || is_failure {
                    return;
                }
            }
        });
        receiver
    }
}

/// Frames of a range that are decoded by one thread, one after the other.
struct Job<'a> {
    range: &'a PackRange,
    frames: &'a [usize],
    /// Whether it is the first of its range.
    is_first: bool,
    /// The bytes of the range that are done with when this is.
    length: u64,
}

/// Divides a range so that a job does not take much more memory than another, however far its frames unfold.
fn jobs<'a>(map: &FetchMap, range: &'a PackRange) -> Vec<Job<'a>> {
    let (mut jobs, mut first, mut raw) = (Vec::new(), 0, 0);
    for (index, frame) in range.frames.iter().enumerate() {
        raw += map.frames[*frame].raw as usize;
        let end = index + 1;
        let is_last = end == range.frames.len();
        if raw >= JOB_RAW_BYTES || is_last {
            let length = if is_last { range.length() } else { 0 };
            jobs.push(Job { range, frames: &range.frames[first..end], is_first: first == 0, length });
            (first, raw) = (end, 0);
        }
    }
    jobs
}

fn wrong_size(content: &ContentParts, need: &Need) -> Failure {
    let (id, found, expected) = (content.id, content.size, need.content.size);
    let text = format!("a server names {found} bytes for content {id}, which has {expected}");
    Failure::message(Exit::Refused, text).hint("nothing was changed; try another mirror with --server")
}

/// Hashes what an earlier run received of a content, as far as that are whole chunks of it, and forgets the rest.
fn hash_received(
    chunks: &[&FrameChunk],
    content: &ContentParts,
    need: &Need,
    stage: &Stage<'_>,
) -> Result<Option<ContentIdHasher>, Failure> {
    let Some(mut file) = stage.received(need)? else { return Ok(None) };
    let mut hasher = ContentIdHasher::default();
    let mut buffer = Vec::new();
    // The last chunk is fetched in any case, so that the content is completed by the common way.
    let all_but_last = content.chunks.split_last().map_or(&[][..], |(_, others)| others);
    if content.is_in_order() {
        for ordinal in all_but_last {
            let chunk = chunks[*ordinal as usize];
            buffer.resize(chunk.length as usize, 0);
            if file.read_exact(&mut buffer).is_err() || ObjectId::of(&buffer) != chunk.id {
                break;
            }
            hasher.update(&buffer);
        }
    }
    stage.keep_received(need, hasher.count())?;
    Ok(Some(hasher).filter(|hasher| hasher.count() > 0))
}
