//! One computation of a bundle.

use std::fs::File;
use std::io::Seek as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use tokio::sync::watch;

use super::maker::Work;
use super::reader::{Reader, Source};
use super::spool::{Spool, SpoolWriter, spool};
use super::step::{BundleFile, Quality, Step, Variant};
use super::{Bundles, Refusal};

/// Why a bundle is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// Somebody waits for it.
    Waited,
    /// Somebody may want it.
    Prepared,
}

/// A computation, under way or about to be.
pub(super) struct Job {
    pub(super) step: Step,
    pub(super) quality: Quality,
    pub(super) variant: Variant,
    ground: Ground,
    is_cancelled: Arc<AtomicBool>,
    stage: watch::Sender<Stage>,
    /// One for the job, and one for each reader.
    reading: Arc<()>,
}

#[derive(Clone)]
enum Stage {
    Waiting,
    Started(Spool),
    Ended(Refusal),
}

/// How a computation came to its end.
#[derive(Debug)]
pub(super) enum Done {
    /// It is stored.
    Stored(BundleFile),
    /// What is stored already is no larger.
    NotKept,
}

/// Why it did not.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not begin.
    Refused(Refusal),
    /// It was told to stop.
    Stopped,
    /// It failed.
    Fault(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Fault(error)
    }
}

impl Job {
    pub(super) fn new(step: Step, quality: Quality, ground: Ground) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            step,
            quality,
            variant: Variant::new(quality)?,
            ground,
            is_cancelled: Arc::default(),
            stage: watch::Sender::new(Stage::Waiting),
            reading: Arc::default(),
        }))
    }

    pub(super) fn key(&self) -> (Step, Quality) {
        (self.step.clone(), self.quality)
    }

    /// Waits until there is something to follow.
    pub(super) async fn started(&self) -> Result<Reader, Refusal> {
        // Who waits is a reader already, so that the computation is not taken for one that nobody needs.
        let reading = Arc::clone(&self.reading);
        let mut stage = self.stage.subscribe();
        let stage = stage.wait_for(|stage| !matches!(stage, Stage::Waiting)).await;
        match stage.map(|stage| stage.clone()) {
            Ok(Stage::Started(spool)) => Ok(self.read(spool, reading)),
            Ok(Stage::Ended(refusal)) => Err(refusal),
            Ok(Stage::Waiting) | Err(_) => Err(Refusal::Busy),
        }
    }

    /// Follows it, if it has begun.
    pub(super) fn reader(&self) -> Option<Reader> {
        match self.stage.borrow().clone() {
            Stage::Started(spool) => Some(self.read(spool, Arc::clone(&self.reading))),
            _ => None,
        }
    }

    fn read(&self, spool: Spool, reading: Arc<()>) -> Reader {
        Reader { variant: self.variant, source: Source::Spool(spool), _reading: reading }
    }

    /// Says to those who still wait for a beginning that there is none.
    pub(super) fn ended(&self, refusal: Refusal) {
        self.stage.send_if_modified(|stage| {
            let is_waiting = matches!(stage, Stage::Waiting);
            if is_waiting {
                *stage = Stage::Ended(refusal);
            }
            is_waiting
        });
    }

    /// Whether somebody waits for its bytes.
    pub(super) fn is_followed(&self) -> bool {
        Arc::strong_count(&self.reading) > 1
    }

    /// Whether it is computed before anybody has asked.
    pub(super) fn is_prepared(&self) -> bool {
        self.ground == Ground::Prepared
    }

    /// Makes the next byte that is written an error.
    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }
}

/// Computes a bundle and stores it, on a thread of the workshop.
pub(super) fn run(bundles: &Bundles, job: &Job) -> Result<Done, Failure> {
    let ground = job.ground;
    let begun = Instant::now();
    let config = &bundles.settings.config;
    let work = shielded(|| bundles.maker.plan(&job.step)).context("comparing the manifests")?;
    let estimate = work.estimate();
    let most = match ground {
        Ground::Waited if job.step.from.is_none() => config.on_demand_mib.min(config.install_on_demand_mib),
        Ground::Waited => config.on_demand_mib,
        Ground::Prepared => config.prepare_mib,
    };
    let needed = work.memory(job.quality, bundles.workshop.threads(job.quality));
    if estimate.bytes() > most.saturating_mul(1 << 20) || !bundles.workshop.may_ever_use(needed, ground) {
        tracing::info!(step = %job.step, quality = %job.quality, bytes = estimate.bytes(), "too large a step");
        return Err(Failure::Refused(Refusal::TooLarge));
    }
    let memory = bundles.workshop.memory(needed, ground);
    let Some(_memory) = memory else { return Err(Failure::Refused(Refusal::Busy)) };
    let length_max = most.max(config.store_mib).saturating_mul(1 << 20);
    let (writer, spool) = spool(&bundles.settings.spool, Arc::clone(&job.is_cancelled), length_max)?;
    job.stage.send_replace(Stage::Started(spool.clone()));
    let failed = |error| {
        let is_cancelled = job.is_cancelled.load(Ordering::Relaxed);
        if is_cancelled { Failure::Stopped } else { Failure::Fault(error) }
    };
    let length = make(bundles, job, work, writer).map_err(failed)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (step, quality) = (&job.step, job.quality);
    let (new_bytes, base_bytes) = (estimate.new_bytes, estimate.base_bytes);
    tracing::info!(%step, %quality, length, seconds, new_bytes, base_bytes, "bundle computed");
    keep(bundles, job, &spool.file, length)
}

/// Writes the bundle into the spool; returns its length. The last thing that happens to the spool is that it is whole.
fn make(bundles: &Bundles, job: &Job, work: Box<dyn Work>, mut out: SpoolWriter) -> anyhow::Result<u64> {
    let pool = bundles.workshop.pool(job.quality)?;
    shielded(|| pool.install(|| work.make(job.quality, &job.is_cancelled, &mut out)))?;
    Ok(out.finish())
}

/// Stores what lies in the spool, unless what is stored is better. Who follows it has it in either case.
fn keep(bundles: &Bundles, job: &Job, spooled: &File, length: u64) -> Result<Done, Failure> {
    let replaced = bundles.state().shelf.first(&job.step).map(|kept| kept.file.clone());
    let is_better = |stored: &BundleFile| stored.length < length || stored.variant.quality > job.quality;
    let is_over = length > bundles.settings.config.store_mib.saturating_mul(1 << 20);
    if is_over || replaced.as_ref().is_some_and(is_better) {
        tracing::info!(step = %job.step, quality = %job.quality, length, is_over, "the bundle is not kept");
        return Ok(Done::NotKept);
    }
    let file = BundleFile { step: job.step.clone(), variant: job.variant, length };
    let mut source = spooled.try_clone().context("reading the spool")?;
    source.rewind().context("reading the spool")?;
    let storing = bundles.backend.put_from(&file, &mut source);
    bundles.workshop.handle().block_on(storing).context("storing the bundle")?;
    if let Some(replaced) = replaced {
        let (from, to) = (replaced.length, length);
        tracing::info!(step = %job.step, from, to, "a smaller bundle takes the place of the quick one");
    }
    Ok(Done::Stored(file))
}

/// Calls what computes, whose panics are its own.
fn shielded<T>(compute: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(compute))
        .unwrap_or_else(|_| Err(anyhow::anyhow!("what computes bundles has panicked")))
}
