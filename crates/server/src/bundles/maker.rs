//! What computes bundles. Everything else about them is tested with one that is told what to do.

use std::io::Write;
use std::sync::Arc;

use super::step::{Quality, Step};
use crate::realm::Realm;

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
    /// `out` ends it soon: that is how it is stopped.
    fn make(self: Box<Self>, quality: Quality, out: &mut (dyn Write + Send)) -> anyhow::Result<()>;
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

/// What computes the bundles of a realm.
pub(super) fn of(_realm: &Realm) -> Option<Arc<dyn Maker>> {
    None
}
