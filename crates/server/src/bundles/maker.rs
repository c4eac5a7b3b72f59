//! What computes bundles. Everything else about them is tested with one that is told what to do.

use std::io::Write;

use std::sync::Arc;

use super::step::{Quality, Step};
use crate::realm::Realm;

/// What a bundle would have to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Estimate {
    /// Bytes of contents that only the new manifest has.
    pub(crate) new_bytes: u64,
    /// Bytes of contents that they are compared with.
    pub(crate) base_bytes: u64,
    /// Entries that differ.
    pub(crate) entries: u64,
}

impl Estimate {
    /// All bytes that have to be read.
    pub(crate) const fn bytes(&self) -> u64 {
        self.new_bytes.saturating_add(self.base_bytes)
    }
}

/// Computes bundles. All of it is called on threads that may block.
pub(crate) trait Maker: Send + Sync {
    /// What the bundle would have to look at, which costs a comparison of two manifests.
    fn estimate(&self, step: &Step) -> anyhow::Result<Estimate>;

    /// The bytes of memory that making it takes at most.
    fn memory(&self, estimate: &Estimate, quality: Quality) -> u64;

    /// Writes the bundle from its first byte to its last. An error of `out` ends it soon: that is how it is stopped.
    fn make(&self, step: &Step, quality: Quality, out: &mut (dyn Write + Send)) -> anyhow::Result<()>;
}

/// What computes the bundles of a realm.
pub(super) fn of(_realm: &Realm) -> Option<Arc<dyn Maker>> {
    None
}
