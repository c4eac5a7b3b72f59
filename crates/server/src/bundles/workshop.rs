//! Where bundles are computed: threads of the lowest priority, and a bounded number of everything.
//!
//! The threads are not those of the server's runtime, and what they call runs on a runtime of their own: a thread
//! inherits the priority of the one that starts it, and a request must not be read by a thread that a computation
//! started.

use std::io;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::job::Ground;
use super::step::Quality;
use crate::config::BundleConfig;
use crate::priority;

/// What memory is counted in.
const MIB: u64 = 1 << 20;
/// Threads of one computation that somebody waits for: several computations are better than one that is quicker.
const QUICK_THREADS_MAX: usize = 4;
/// What one thread may need that compresses one batch: a quick variant, and the best one.
const THREAD_MIB: [u64; 2] = [256, 656];

/// Slots, memory, and threads.
pub(super) struct Workshop {
    /// Computations that somebody waits for.
    foreground: Arc<Semaphore>,
    /// Computations that nobody waits for: one of each quality, so that a quick variant need not wait for a better one
    /// of another step.
    background: [Arc<Semaphore>; 2],
    /// Computations that were asked for, under way and waiting.
    queue: Arc<Semaphore>,
    /// Mebibytes.
    memory: Arc<Semaphore>,
    memory_mib: u64,
    /// Threads of one computation.
    threads: [usize; 2],
    runtime: Option<Runtime>,
}

impl Workshop {
    pub(super) fn new(config: &BundleConfig, processors: usize) -> anyhow::Result<Self> {
        let half = (processors / 2).max(1);
        let memory_mib = config.memory_mib.clamp(1, (Semaphore::MAX_PERMITS as u64).min(u32::MAX.into()));
        // More threads than there is memory for would make every large computation one that is never allowed.
        let affordable = |share: u64, each: u64| usize::try_from(share / each).unwrap_or(usize::MAX).max(1);
        let threads = [
            affordable(memory_mib / 2, THREAD_MIB[0]).min(half).min(QUICK_THREADS_MAX),
            affordable(prepared_mib(memory_mib), THREAD_MIB[1]).min(half),
        ];
        let slots = (half / threads[0]).max(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bundle-io")
            .enable_all()
            .on_thread_start(priority::lower)
            .build()
            .context("starting the threads that compute bundles")?;
        Ok(Self {
            foreground: Arc::new(Semaphore::new(slots)),
            background: [Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1))],
            queue: Arc::new(Semaphore::new(config.queue.saturating_add(slots).min(Semaphore::MAX_PERMITS))),
            memory: Arc::new(Semaphore::new(usize::try_from(memory_mib).unwrap_or(usize::MAX))),
            memory_mib,
            threads,
            runtime: Some(runtime),
        })
    }

    /// A place among those who are computed for or wait for it, if there is one.
    pub(super) fn place_in_queue(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.queue).try_acquire_owned().ok()
    }

    /// Waits for a slot for a computation that somebody waits for.
    pub(super) async fn foreground_slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.foreground).acquire_owned().await.ok()
    }

    /// A slot for a computation that nobody waits for, if there is one now.
    pub(super) fn background_slot(&self, quality: Quality) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.background[at(quality)]).try_acquire_owned().ok()
    }

    /// Whether so much memory may be used for one computation. What is prepared leaves some for those who wait.
    pub(super) const fn may_ever_use(&self, bytes: u64, ground: Ground) -> bool {
        let most = match ground {
            Ground::Waited => self.memory_mib,
            Ground::Prepared => prepared_mib(self.memory_mib),
        };
        bytes <= most.saturating_mul(MIB)
    }

    /// A share of the memory. Who is waited for waits for it; what is prepared comes later. Called on a thread of the
    /// workshop, with what [`Self::may_ever_use`] allows.
    pub(super) fn memory(&self, bytes: u64, ground: Ground) -> Option<OwnedSemaphorePermit> {
        let mebibytes = u32::try_from(bytes.div_ceil(MIB).clamp(1, self.memory_mib)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory);
        match ground {
            Ground::Waited => self.handle().block_on(memory.acquire_many_owned(mebibytes)).ok(),
            Ground::Prepared => memory.try_acquire_many_owned(mebibytes).ok(),
        }
    }

    /// Starts a thread of the lowest priority.
    pub(super) fn thread(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let handle = self.handle();
        let working = move || {
            priority::lower();
            let _runtime = handle.enter();
            work();
        };
        thread::Builder::new().name("bundle".to_owned()).spawn(working).map(drop)
    }

    /// The number of threads of a computation.
    pub(super) const fn threads(&self, quality: Quality) -> usize {
        self.threads[at(quality)]
    }

    /// Threads for one computation. They are its own: a shared one would be taken by another until that has ended.
    pub(super) fn pool(&self, quality: Quality) -> anyhow::Result<ThreadPool> {
        let handle = self.handle();
        let spawn = move |worker: rayon::ThreadBuilder| {
            let handle = handle.clone();
            let working = move || {
                priority::lower();
                let _runtime = handle.enter();
                worker.run();
            };
            thread::Builder::new().name(format!("bundle-{quality}")).spawn(working).map(drop)
        };
        let pool = ThreadPoolBuilder::new().num_threads(self.threads(quality)).spawn_handler(spawn).build();
        pool.context("starting the threads that compute a bundle")
    }

    /// The runtime for what computations read and store.
    pub(super) fn handle(&self) -> Handle {
        self.runtime.as_ref().expect("the runtime is there until the workshop is dropped").handle().clone()
    }
}

/// What of the memory may go into what is prepared.
const fn prepared_mib(memory_mib: u64) -> u64 {
    memory_mib - memory_mib / 4
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed everywhere where this may be dropped.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

const fn at(quality: Quality) -> usize {
    match quality {
        Quality::Quick => 0,
        Quality::Best => 1,
    }
}
