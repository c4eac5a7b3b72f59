//! A maker that does what a test tells it to, and bundles that it makes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use futures::TryStreamExt as _;
use smart_sync_store::backend::Backend;
use tempfile::TempDir;

use super::maker::{Estimate, Work};
use super::{Bundles, Maker, Quality, Reader, Settings, Step};
use crate::config::BundleConfig;

/// What a computation does next. One whose orders end before its end has failed.
pub(crate) enum Order {
    Write(Vec<u8>),
    Panic,
    End,
}

/// Computes what it is told, and without orders the text of [`made`].
#[derive(Default)]
pub(crate) struct Fake {
    orders: Mutex<VecDeque<Receiver<Order>>>,
    /// Why estimates fail, if they do.
    pub(crate) fault: Mutex<Option<fn() -> anyhow::Error>>,
    /// Bytes that the next bundle would have to look at.
    pub(crate) bytes: AtomicU64,
    /// Bytes of memory that it takes.
    pub(crate) memory: AtomicU64,
    pub(crate) estimated: AtomicUsize,
    pub(crate) made: AtomicUsize,
}

/// What is made without orders.
pub(crate) fn made(step: &Step, quality: Quality) -> Vec<u8> {
    let mut bytes = format!("{quality} of {step}").into_bytes();
    if quality == Quality::Best {
        bytes.truncate(20);
    }
    bytes
}

impl Fake {
    /// Gives orders to the next computation that has none.
    pub(crate) fn order(&self) -> Sender<Order> {
        let (sender, receiver) = channel();
        self.orders.lock().unwrap().push_back(receiver);
        sender
    }

    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }
}

impl Maker for Arc<Fake> {
    fn plan(&self, step: &Step) -> anyhow::Result<Box<dyn Work>> {
        self.estimated.fetch_add(1, Ordering::SeqCst);
        if let Some(fault) = *self.fault.lock().unwrap() {
            return Err(fault());
        }
        Ok(Box::new(FakeWork { fake: Self::clone(self), step: step.clone() }))
    }
}

struct FakeWork {
    fake: Arc<Fake>,
    step: Step,
}

impl Work for FakeWork {
    fn estimate(&self) -> Estimate {
        Estimate { new_bytes: self.fake.bytes.load(Ordering::SeqCst), base_bytes: 0 }
    }

    fn memory(&self, _: Quality, _: usize) -> u64 {
        self.fake.memory.load(Ordering::SeqCst)
    }

    fn make(
        self: Box<Self>,
        quality: Quality,
        _: &AtomicBool,
        out: &mut (dyn Write + Send),
    ) -> anyhow::Result<()> {
        self.fake.made.fetch_add(1, Ordering::SeqCst);
        let orders = self.fake.orders.lock().unwrap().pop_front();
        let Some(orders) = orders else { return Ok(out.write_all(&made(&self.step, quality))?) };
        loop {
            match orders.recv() {
                Ok(Order::Write(bytes)) => out.write_all(&bytes)?,
                Ok(Order::Panic) => panic!("as it was told"),
                Ok(Order::End) => return Ok(()),
                Err(_) => return Err(io::Error::other("as it was told").into()),
            }
        }
    }
}

/// Bundles in a directory of their own.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) backend: Backend,
    pub(crate) fake: Arc<Fake>,
    pub(crate) bundles: Arc<Bundles>,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(BundleConfig::default(), |directory| Backend::local(directory).unwrap()).await
    }

    pub(crate) async fn with(
        config: BundleConfig,
        backend: impl FnOnce(&std::path::Path) -> Backend,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (backend, fake) = (backend(directory.path()), Arc::<Fake>::default());
        let bundles = open(&backend, &fake, config, &directory).await;
        Self { directory, backend, fake, bundles }
    }

    /// The same bundles after a restart.
    pub(crate) async fn restart(self) -> Self {
        let config = self.bundles.settings.config.clone();
        let bundles = open(&self.backend, &self.fake, config, &self.directory).await;
        Self { bundles, ..self }
    }
}

async fn open(
    backend: &Backend,
    fake: &Arc<Fake>,
    config: BundleConfig,
    directory: &TempDir,
) -> Arc<Bundles> {
    let maker: Arc<dyn Maker> = Arc::new(Arc::clone(fake));
    // One slot for those who wait, and one in the background.
    let spool = directory.path().join("spool");
    let settings = Settings { config, spool, processors: 2, now: || 1_000_000 };
    Bundles::open(backend.clone(), maker, settings).await.unwrap()
}

/// All bytes of a bundle.
pub(crate) async fn read(reader: Reader) -> anyhow::Result<Vec<u8>> {
    let pieces: Vec<_> = reader.pieces(0..u64::MAX).try_collect().await?;
    Ok(pieces.concat())
}

/// Waits for something that other threads bring about.
pub(crate) async fn until(mut has_come: impl FnMut() -> bool) {
    while !has_come() {
        tokio::task::yield_now().await;
    }
}
