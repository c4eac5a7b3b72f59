//! Bundles: everything that turns one manifest into another, computed once, stored, and streamed while it is computed.
//!
//! A bundle is a cache of what follows from two manifests: all of them may be deleted at any time. So nothing about
//! them is written anywhere but into their names, and whatever cannot be had (no room, no time, a fault) is answered by
//! saying so at once: the client then fetches chunks. Every computation runs on a thread of its own, at the lowest
//! priority, and holds a share of what all of them may use; a few wait for their turn; all others are refused.
//!
//! [`policy`] decides what is prepared and what goes, [`job`] computes one bundle, and this module keeps the list of what
//! is stored and under way. What is under way is in the list from its first byte on, so many who ask at once follow
//! one computation, and it goes on when the first of them goes away.

mod demand;
mod job;
mod maker;
mod policy;
mod reader;
mod shelf;
mod spool;
pub(crate) mod step;
mod tend;
mod workshop;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt as _;
use smart_sync_store::backend::{Backend, Listed};
use smart_sync_store::catalogue::Timestamp;
use smart_sync_store::error::Fault;
use tokio::sync::Notify;

use demand::Demand;
use job::{Done, Failure, Ground, Job};
pub(crate) use maker::Maker;
pub(crate) use reader::Reader;
use reader::Source;
use shelf::Shelf;
pub(crate) use step::{BundleFile, FromText, Quality, Step, Variant, parse_from};
pub(crate) use tend::tend;
use workshop::Workshop;

use crate::config::BundleConfig;
use crate::realm::Realm;

/// How long a request waits for its computation to begin.
const TURN: Duration = Duration::from_secs(5);
/// How long it is remembered that a step cannot be had.
const REFUSED_SECONDS: u64 = 600;
/// Steps of which that is remembered.
const REFUSED_MAX: usize = 4096;
/// What nobody has written to for so long was left by a process that was killed.
const UNFINISHED_SECONDS: u64 = 600;

/// The bundles of a realm, unless its operator wants none.
pub(crate) async fn open(realm: &Realm) -> anyhow::Result<Option<Arc<Bundles>>> {
    let config = realm.config.bundles.clone();
    if !config.enabled {
        return Ok(None);
    }
    let maker = Arc::new(maker::StoreMaker { store: Arc::clone(&realm.store), scratch: realm.data.spool() });
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let settings = Settings { config, spool: realm.data.spool(), processors, now: crate::http::now };
    Ok(Some(Bundles::open(realm.store.backend().clone(), maker, settings).await?))
}

/// All stored bundles, in the order of their names.
pub(crate) async fn list(backend: &Backend) -> anyhow::Result<Vec<BundleFile>> {
    let listed: Vec<Listed<BundleFile>> = backend.list_all().try_collect().await?;
    let mut files: Vec<_> = listed.into_iter().map(|listed| listed.file).collect();
    files.sort();
    Ok(files)
}

/// Why there is no bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A manifest of the step is not here.
    NotFound,
    /// More would have to be looked at than may be while somebody waits.
    TooLarge,
    /// Others are being computed.
    Busy,
    /// It was tried, and failed.
    Failed,
}

/// The bundles of a server.
pub(crate) struct Bundles {
    backend: Backend,
    maker: Arc<dyn Maker>,
    settings: Settings,
    workshop: Workshop,
    state: Mutex<State>,
    /// Wakes whoever tends the bundles: something was published, or a computation has ended.
    news: Notify,
}

/// How a server deals with bundles.
pub(crate) struct Settings {
    /// What the operator decided.
    pub(crate) config: BundleConfig,
    /// Where bundles are written while they are computed.
    pub(crate) spool: PathBuf,
    /// The processors of this machine.
    pub(crate) processors: usize,
    /// Seconds since 1970.
    pub(crate) now: fn() -> u64,
}

#[derive(Default)]
struct State {
    shelf: Shelf,
    jobs: HashMap<(Step, Quality), Arc<Job>>,
    demand: Demand,
    /// Steps that cannot be had while somebody waits, and since when that is known.
    refused: HashMap<Step, (Refusal, u64)>,
    /// What is not prepared: it was tried in vain, or there was no room for it.
    settled: HashSet<(Step, Quality)>,
    is_closed: bool,
}

impl Bundles {
    /// Finds out what is stored, and removes what a process left that was killed while it stored something.
    pub(crate) async fn open(
        backend: Backend,
        maker: Arc<dyn Maker>,
        settings: Settings,
    ) -> anyhow::Result<Arc<Self>> {
        let workshop = Workshop::new(&settings.config, settings.processors)?;
        let bundles = Arc::new(Self {
            backend,
            maker,
            settings,
            workshop,
            state: Mutex::default(),
            news: Notify::new(),
        });
        let before = bundles.now().saturating_sub(UNFINISHED_SECONDS);
        let before = Timestamp(i64::try_from(before).unwrap_or(i64::MAX));
        let removed = bundles.backend.remove_unfinished::<BundleFile>(before)?;
        if removed > 0 {
            tracing::info!(removed, "unfinished bundles removed");
        }
        bundles.look().await?;
        Ok(bundles)
    }

    /// Finds out what is stored, also by other processes. What is not as long as its name says is removed.
    pub(crate) async fn look(&self) -> anyhow::Result<()> {
        let added = self.state().shelf.added();
        let listed: Vec<Listed<BundleFile>> = self.backend.list_all().try_collect().await?;
        let (whole, torn): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|listed| listed.length == listed.file.length);
        for Listed { file, length, .. } in torn {
            tracing::warn!(%file, length, "a bundle of the wrong length is removed");
            self.backend.delete(&file).await?;
        }
        self.state().shelf.settle(whole, added, self.now());
        Ok(())
    }

    /// A bundle of the step: the best that is stored, or the one that is being computed, or one whose computation
    /// begins now.
    pub(crate) async fn get(self: &Arc<Self>, step: &Step) -> Result<Reader, Refusal> {
        self.note(step);
        let job = loop {
            if let Some(reader) = self.stored(step).await {
                return Ok(reader);
            }
            if let Some(job) = self.join(step)? {
                break job;
            }
        };
        let started = tokio::time::timeout(TURN, job.started()).await;
        started.unwrap_or(Err(Refusal::Busy))
    }

    fn note(&self, step: &Step) {
        let now = self.now();
        let count = self.state().demand.note(step, now);
        if count == self.settings.config.hot {
            self.news.notify_one();
        }
    }

    /// Computes a bundle of the step, and waits until it is stored; one that is not kept has been computed all the same.
    pub(crate) async fn store(self: &Arc<Self>, step: &Step) -> Result<(), Refusal> {
        self.get(step).await?.whole().await.map_err(|_| Refusal::Failed)?;
        while self.state().jobs.keys().any(|(job, _)| job == step) {
            self.news.notified().await;
        }
        Ok(())
    }

    /// A certain variant of a step, stored or being computed, for whoever has begun to read it.
    pub(crate) async fn variant(&self, step: &Step, is_it: impl Fn(&Variant) -> bool) -> Option<Reader> {
        let (found, job) = {
            let state = self.state();
            let mut kept = state.shelf.of(step).iter();
            let found = kept.find(|kept| is_it(&kept.file.variant));
            let found = found.map(|kept| (kept.file.clone(), Arc::clone(&kept.reading)));
            let mut jobs = [Quality::Quick, Quality::Best].into_iter();
            let job = jobs.find_map(|quality| {
                state.jobs.get(&(step.clone(), quality)).filter(|job| is_it(&job.variant)).cloned()
            });
            (found, job)
        };
        match (found, job) {
            (Some((file, reading)), _) => self.reader(&file, reading).await,
            (None, Some(job)) => job.reader(),
            (None, None) => None,
        }
    }

    /// The stored variant with which a step is answered.
    pub(crate) async fn stored(&self, step: &Step) -> Option<Reader> {
        loop {
            let (file, reading) = {
                let mut state = self.state();
                state.shelf.note(step, self.now());
                let kept = state.shelf.first(step)?;
                (kept.file.clone(), Arc::clone(&kept.reading))
            };
            if let Some(reader) = self.reader(&file, reading).await {
                return Some(reader);
            }
        }
    }

    /// The bytes of a stored bundle, if it has at most so many.
    pub(crate) async fn short(&self, step: &Step, length_max: u64) -> Option<Vec<u8>> {
        let reader = self.stored(step).await?;
        let length = reader.length().filter(|length| *length <= length_max)?;
        self.note(step);
        let pieces: Vec<_> = reader.pieces(0..length).try_collect().await.ok()?;
        Some(pieces.concat()).filter(|bytes| bytes.len() as u64 == length)
    }

    /// The stored variants of a step, the one with which it is answered first.
    pub(crate) fn variants(&self, step: &Step) -> Vec<BundleFile> {
        let state = self.state();
        let mut kept: Vec<_> = state.shelf.of(step).iter().collect();
        kept.sort_by_key(|kept| (kept.replaced.is_some(), kept.file.length));
        kept.into_iter().map(|kept| kept.file.clone()).collect()
    }

    /// Opens a stored bundle. One that cannot be opened is forgotten: it was removed by somebody else.
    async fn reader(&self, file: &BundleFile, reading: Arc<()>) -> Option<Reader> {
        match self.source(file).await {
            Ok(source) => Some(Reader { variant: file.variant, source, _reading: reading }),
            Err(error) => {
                tracing::warn!(%file, error = format!("{error:#}"), "a stored bundle cannot be read");
                self.state().shelf.remove(file);
                None
            }
        }
    }

    async fn source(&self, file: &BundleFile) -> anyhow::Result<Source> {
        let Some(path) = self.backend.local_path(file) else {
            anyhow::ensure!(self.backend.len(file).await? == Some(file.length), "it is not there any more");
            return Ok(Source::Stored { backend: self.backend.clone(), file: file.clone() });
        };
        let opened = tokio::task::spawn_blocking(move || std::fs::File::open(path)).await??;
        Ok(Source::File { file: Arc::new(opened), length: file.length })
    }

    /// The computation of a quick variant that is under way, or a new one; nothing if a bundle was stored meanwhile.
    fn join(self: &Arc<Self>, step: &Step) -> Result<Option<Arc<Job>>, Refusal> {
        let mut state = self.state();
        if let Some(job) = state.jobs.get(&(step.clone(), Quality::Quick)) {
            // A first install that is prepared was too much to wait for, and still is.
            let is_too_much = step.from.is_none() && job.is_prepared();
            return if is_too_much { Err(Refusal::Busy) } else { Ok(Some(Arc::clone(job))) };
        }
        if state.shelf.first(step).is_some() {
            return Ok(None);
        }
        if state.is_closed {
            return Err(Refusal::Busy);
        }
        let now = self.now();
        if let Some((refusal, since)) = state.refused.get(step) {
            if now.saturating_sub(*since) < REFUSED_SECONDS {
                return Err(*refusal);
            }
            state.refused.remove(step);
        }
        let place = self.workshop.place_in_queue().ok_or(Refusal::Busy)?;
        let job = Job::new(step.clone(), Quality::Quick, Ground::Waited).map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "beginning a bundle");
            Refusal::Failed
        })?;
        state.jobs.insert(job.key(), Arc::clone(&job));
        drop(state);
        let (bundles, queued) = (Arc::clone(self), Arc::clone(&job));
        tokio::spawn(async move {
            match bundles.workshop.foreground_slot().await {
                Some(slot) => bundles.begin(&queued, (slot, place)),
                None => bundles.end(&queued, Err(Failure::Refused(Refusal::Busy))),
            }
        });
        Ok(Some(job))
    }

    /// Begins to prepare a bundle, if there is a slot for it.
    fn prepare(self: &Arc<Self>, step: &Step, quality: Quality) -> Preparation {
        let job = {
            let mut state = self.state();
            let Ok(job) = Job::new(step.clone(), quality, Ground::Prepared) else {
                return Preparation::NoSlot;
            };
            if state.jobs.contains_key(&job.key()) {
                return Preparation::UnderWay;
            }
            let slot = self.workshop.background_slot(quality).filter(|_| !state.is_closed);
            let Some(slot) = slot else { return Preparation::NoSlot };
            state.jobs.insert(job.key(), Arc::clone(&job));
            (job, slot)
        };
        self.begin(&job.0, job.1);
        Preparation::Begun
    }

    fn begin(self: &Arc<Self>, job: &Arc<Job>, slot: impl Send + 'static) {
        let (bundles, working) = (Arc::clone(self), Arc::clone(job));
        let begun = self.workshop.thread(move || {
            let outcome = job::run(&bundles, &working);
            // The slot is free before anybody is told, so that who is told can take it.
            drop(slot);
            bundles.end(&working, outcome);
        });
        if let Err(error) = begun {
            self.end(job, Err(Failure::Fault(anyhow::Error::new(error).context("starting a thread"))));
        }
    }

    /// Takes note of how a computation ended.
    fn end(&self, job: &Arc<Job>, outcome: Result<Done, Failure>) {
        let now = self.now();
        // What did not begin for lack of memory would not begin now either.
        let is_news = !matches!(outcome, Err(Failure::Refused(Refusal::Busy)));
        let mut state = self.state();
        state.jobs.remove(&job.key());
        let refusal = match outcome {
            Ok(Done::Stored(file)) => {
                state.shelf.add(file, now);
                None
            }
            Ok(Done::NotKept) => {
                state.settled.insert(job.key());
                None
            }
            Err(failure) => Some(Self::refuse(&mut state, job, failure, now)),
        };
        drop(state);
        job.ended(refusal.unwrap_or(Refusal::Failed));
        if is_news {
            self.news.notify_one();
        }
    }

    fn refuse(state: &mut State, job: &Arc<Job>, failure: Failure, now: u64) -> Refusal {
        let (step, quality) = (&job.step, job.quality);
        let refusal = match failure {
            Failure::Refused(refusal) => refusal,
            // It was not the step's fault.
            Failure::Stopped => return Refusal::Busy,
            Failure::Fault(error) if is_absent(&error) => {
                tracing::info!(%step, %quality, error = format!("{error:#}"), "not all of a step is here");
                Refusal::NotFound
            }
            Failure::Fault(error) => {
                tracing::error!(%step, %quality, error = format!("{error:#}"), "computing a bundle");
                Refusal::Failed
            }
        };
        if refusal == Refusal::Busy {
            return refusal;
        }
        // What is too much while somebody waits may be prepared all the same.
        if job.is_prepared() || refusal != Refusal::TooLarge {
            bounded(&mut state.settled);
            state.settled.insert(job.key());
        }
        if quality == Quality::Quick {
            if state.refused.len() >= REFUSED_MAX {
                state.refused.clear();
            }
            state.refused.insert(step.clone(), (refusal, now));
        }
        refusal
    }

    /// Stops what nobody waits for, and begins nothing any more.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        for job in state.jobs.values().filter(|job| !job.is_followed()) {
            job.cancel();
        }
    }

    /// Stops everything. What breaks off is not stored.
    pub(crate) fn stop(&self) {
        self.close();
        for job in self.state().jobs.values() {
            job.cancel();
        }
    }

    /// Says that something was published.
    pub(crate) fn announce(&self) {
        self.news.notify_one();
    }

    fn now(&self) -> u64 {
        (self.settings.now)()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of the wish to prepare a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preparation {
    /// It is being computed.
    Begun,
    /// It was being computed already.
    UnderWay,
    /// Later, perhaps.
    NoSlot,
}

/// Keeps a set from growing without end: forgetting costs a computation that was in vain before.
fn bounded<T>(set: &mut HashSet<T>) {
    if set.len() >= REFUSED_MAX {
        set.clear();
    }
}

/// Whether an error comes from something that is not here, such as a manifest whose pages were collected.
fn is_absent(error: &anyhow::Error) -> bool {
    use smart_sync_store::error::StoreError;
    use smart_sync_store::manifest::PageError;
    let is_absent = |error: &StoreError| error.fault() == Fault::Absent;
    error.chain().any(|cause| {
        // What an error of IO was made of is not in its chain.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause.downcast_ref().is_some_and(is_absent)
            || inner.and_then(|inner| inner.downcast_ref()).is_some_and(is_absent)
            || cause.downcast_ref().is_some_and(|error: &PageError| matches!(error, PageError::Absent))
    })
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
