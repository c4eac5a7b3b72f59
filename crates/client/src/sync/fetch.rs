//! Bringing contents from packs into the stage.
//!
//! Ranges are asked for several at a time and taken in their order, so that a content is written from its beginning
//! to its end and hashed on the way. Every chunk is compared with its id before anything is done with it, every
//! content with its own when it is complete. What is in memory is a few ranges and frames, whatever the sizes.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use rayon::prelude::*;
use smart_sync_store::id::ContentId;
use smart_sync_store::object::{ObjectKey, VerifiedObject};
use smart_sync_store::pack::decode_raw;
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::stage::{ContentWriter, Stage};
use smart_sync_sync::fetch_plan::{Destination, FetchPlan, PackRange};
use smart_sync_sync::source::tar::spool_file;
use smart_sync_sync::wire::fetch_map::{ContentParts, FetchMap};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::failure::{DAMAGED_HINT, Exit, Failure};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::Progress;
use crate::realm::remote::{Remote, RemoteError};

/// Ranges that are asked for at the same time.
const CONNECTIONS: usize = 4;
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
}

impl Fetcher<'_> {
    /// Fetches what is needed and is in the map; `needs` are those that are not staged yet.
    pub fn fetch(
        &self,
        map: FetchMap,
        needs: &HashMap<ContentId, &Need>,
        stage: &Stage<'_>,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let mut from = HashMap::new();
        for content in &map.contents {
            if let Some(need) = needs.get(&content.id) {
                from.insert(content.id, resume_from(&map, content, need, stage)?);
            }
        }
        let plan = Arc::new(FetchPlan::new(map, |content| from.get(&content.id).copied()));
        let mut contents = Contents::new(&plan, needs, &from, stage, self.spool_directory);
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
                    contents.take(chunks)?;
                }
            }
            progress.advance(range.length());
        }
        contents.finish()
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
        self.runtime.spawn(async move {
            let requests = (0..plan.ranges().len()).map(|index| {
                let (plan, remotes) = (Arc::clone(&plan), remotes.clone());
                async move {
                    let range = &plan.ranges()[index];
                    let pack = plan.map().packs[range.pack as usize].id;
                    get_range(&remotes, &format!("pack/{pack}"), range).await
                }
            });
            let mut answers = stream::iter(requests).buffered(CONNECTIONS);
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
    map: &FetchMap,
    content: &ContentParts,
    need: &Need,
    stage: &Stage<'_>,
) -> Result<u64, Failure> {
    if content.chunks.len() < 2 || !is_in_order(content) {
        return Ok(0);
    }
    let partial = stage.partial_len(&need.content)?;
    let lengths: Vec<u64> =
        map.frames.iter().flat_map(|frame| &frame.chunks).map(|chunk| u64::from(chunk.length)).collect();
    let mut end = 0;
    for ordinal in &content.chunks {
        let next = end + lengths[*ordinal as usize];
        if next > partial {
            break;
        }
        end = next;
    }
    // The last chunk is fetched in any case, so that the content is completed by the common way.
    Ok(if end == content.size { 0 } else { end })
}

/// Whether the chunks of a content come in the order in which it needs them.
fn is_in_order(content: &ContentParts) -> bool {
    content.chunks.is_sorted()
}

/// Contents on their way into the stage.
struct Contents<'a> {
    plan: &'a FetchPlan,
    needs: &'a HashMap<ContentId, &'a Need>,
    from: &'a HashMap<ContentId, u64>,
    stage: &'a Stage<'a>,
    writers: HashMap<u32, ContentWriter<'a>>,
    spool: Spool<'a>,
}

/// Chunks of contents that need them in another order than that in which they come.
struct Spool<'a> {
    directory: &'a Path,
    file: Option<File>,
    length: u64,
    /// Where the bytes of a place are.
    places: HashMap<(u32, u64), (u64, usize)>,
}

impl<'a> Contents<'a> {
    fn new(
        plan: &'a FetchPlan,
        needs: &'a HashMap<ContentId, &'a Need>,
        from: &'a HashMap<ContentId, u64>,
        stage: &'a Stage<'a>,
        directory: &'a Path,
    ) -> Self {
        let spool = Spool { directory, file: None, length: 0, places: HashMap::new() };
        Self { plan, needs, from, stage, writers: HashMap::new(), spool }
    }

    fn take(&mut self, chunks: Vec<Placed>) -> Result<(), Failure> {
        // Contents of one chunk are many, and each is a file to be made: all processors make them.
        let (whole, parts): (Vec<_>, Vec<_>) =
            chunks.into_iter().partition(|(bytes, places)| self.is_whole(bytes, places));
        let (plan, needs, stage) = (self.plan, self.needs, self.stage);
        whole.into_par_iter().try_for_each(|(bytes, places)| {
            let content = &plan.map().contents[places[0].content as usize];
            write_whole(needs, stage, content.id, &bytes)
        })?;
        for (bytes, places) in parts {
            let mut spooled = None;
            for place in places {
                self.write(&bytes, place, &mut spooled)?;
            }
        }
        Ok(())
    }

    fn is_whole(&self, bytes: &Bytes, places: &[Destination]) -> bool {
        matches!(places, [place] if self.content(*place).size == bytes.len() as u64)
    }

    fn content(&self, place: Destination) -> &'a ContentParts {
        &self.plan.map().contents[place.content as usize]
    }

    fn write(&mut self, bytes: &Bytes, place: Destination, spooled: &mut Option<u64>) -> Result<(), Failure> {
        let content = self.content(place);
        if !is_in_order(content) {
            return self.spool.keep(bytes, place, spooled);
        }
        let writer = match self.writers.remove(&place.content) {
            Some(writer) => writer,
            None => self.stage.writer(need(self.needs, content.id)?, self.from[&content.id])?,
        };
        let mut writer = writer;
        writer.write(bytes)?;
        if writer.position() == content.size {
            writer.finish()?;
        } else {
            self.writers.insert(place.content, writer);
        }
        Ok(())
    }

    /// Writes the contents whose chunks came in another order.
    fn finish(mut self) -> Result<(), Failure> {
        let Some(file) = self.spool.file.take() else { return Ok(()) };
        for (index, content) in self.plan.map().contents.iter().enumerate() {
            if !self.plan.is_wanted(index) || is_in_order(content) {
                continue;
            }
            let index = u32::try_from(index).expect("contents are counted in 32 bits");
            let mut writer = self.stage.writer(need(self.needs, content.id)?, 0)?;
            while writer.position() < content.size {
                let (at, length) = self.spool.places[&(index, writer.position())];
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, at)?;
                writer.write(&bytes)?;
            }
            writer.finish()?;
        }
        Ok(())
    }
}

impl Spool<'_> {
    fn keep(&mut self, bytes: &Bytes, place: Destination, spooled: &mut Option<u64>) -> Result<(), Failure> {
        let at = if let Some(at) = *spooled {
            at
        } else {
            if self.file.is_none() {
                self.file = Some(spool_file(self.directory)?);
            }
            let file = self.file.as_ref().expect("the file was made just now");
            let at = self.length;
            file.write_all_at(bytes, at)?;
            self.length += bytes.len() as u64;
            *spooled = Some(at);
            at
        };
        self.places.insert((place.content, place.offset), (at, bytes.len()));
        Ok(())
    }
}

fn write_whole(
    needs: &HashMap<ContentId, &Need>,
    stage: &Stage<'_>,
    content: ContentId,
    bytes: &[u8],
) -> Result<(), Failure> {
    Ok(stage.put(need(needs, content)?, bytes)?)
}

fn need<'a>(needs: &HashMap<ContentId, &'a Need>, content: ContentId) -> Result<&'a Need, Failure> {
    needs.get(&content).copied().ok_or_else(|| {
        Failure::message(Exit::General, format!("content {content} was fetched and is not needed"))
    })
}
