//! What computes bundles. Everything else about them is tested with one that is told what to do.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use smart_sync_store::Store;
use smart_sync_store::domain::Domain;
use smart_sync_sync::bundle::BATCH_BYTES_MAX;
use smart_sync_sync::bundle::encode::{Effort, batch_memory};
use smart_sync_sync::bundle::plan::Draft;

use super::step::{Quality, Step};
use crate::realm::bundle::{StoreContents, make_bundle, plan_bundle};

/// Computes bundles. All of it is called on threads that may block.
pub(crate) trait Maker: Send + Sync {
    /// Compares the two manifests, which says how much work the bundle is.
    fn plan(&self, step: &Step) -> anyhow::Result<Box<dyn Work>>;
}

/// A bundle that can be computed.
pub(crate) trait Work: Send {
    /// What it has to look at.
    fn estimate(&self) -> Estimate;

    /// The bytes of memory that computing it takes at most, on so many threads at once.
    fn memory(&self, quality: Quality, threads: usize) -> u64;

    /// Writes the bundle from its first byte to its last. What is to be sent at once is written at once. An error of
    /// `out` ends it soon, and so does `is_cancelled` before there is anything to write.
    fn make(
        self: Box<Self>,
        quality: Quality,
        is_cancelled: &AtomicBool,
        out: &mut (dyn Write + Send),
    ) -> anyhow::Result<()>;
}

/// What a bundle has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Estimate {
    /// Bytes of contents that only the new manifest has.
    pub(crate) new_bytes: u64,
    /// Bytes of contents that they are compared with.
    pub(crate) base_bytes: u64,
}

impl Estimate {
    /// All bytes that have to be read.
    pub(crate) const fn bytes(&self) -> u64 {
        self.new_bytes.saturating_add(self.base_bytes)
    }
}

/// Makes bundles of what a store has.
pub(super) struct StoreMaker {
    pub(super) store: Arc<Store>,
    /// A directory for what lies between two steps.
    pub(super) scratch: PathBuf,
}

impl Maker for StoreMaker {
    fn plan(&self, step: &Step) -> anyhow::Result<Box<dyn Work>> {
        let draft = plan_bundle(&self.store, &step.domain, step.from, step.to)?;
        let (store, scratch) = (Arc::clone(&self.store), self.scratch.clone());
        Ok(Box::new(StoreWork { store, scratch, domain: step.domain.clone(), draft }))
    }
}

struct StoreWork {
    store: Arc<Store>,
    scratch: PathBuf,
    domain: Domain,
    draft: Draft,
}

/// What an edit or a content of a draft takes, with its path.
const DRAFT_ENTRY_BYTES: u64 = 512;

impl Work for StoreWork {
    fn estimate(&self) -> Estimate {
        let (new_bytes, base_bytes) = self.draft.bytes();
        Estimate { new_bytes, base_bytes }
    }

    fn memory(&self, quality: Quality, threads: usize) -> u64 {
        let entries = (self.draft.edits.len() + self.draft.items.len()) as u64;
        let Estimate { new_bytes, base_bytes } = self.estimate();
        let batches = new_bytes.max(base_bytes).div_ceil(BATCH_BYTES_MAX / 2).min(threads as u64);
        entries * DRAFT_ENTRY_BYTES + batches.max(1) * batch_memory(new_bytes, base_bytes, effort(quality))
    }

    fn make(
        self: Box<Self>,
        quality: Quality,
        is_cancelled: &AtomicBool,
        out: &mut (dyn Write + Send),
    ) -> anyhow::Result<()> {
        let source = StoreContents::new(&self.store, &self.domain, &self.scratch, is_cancelled);
        make_bundle(&source, self.draft, effort(quality), out).map(drop)
    }
}

const fn effort(quality: Quality) -> Effort {
    match quality {
        Quality::Quick => Effort::Quick,
        Quality::Best => Effort::Best,
    }
}
