//! Applying a tree in a plain directory: what is there, what has to be done, and doing it all or nothing.
//!
//! A caller takes these steps, each of which needs the one before:
//!
//! 1. [`Target::open`](run::Target::open), [`lock`](run::Target::lock), [`recover`](run::LockedTarget::recover);
//! 2. [`scan`](scan::scan) against the [stat cache](stat_cache::StatCache) of the applied manifest (or one made
//!    from its entries), and [`examine`](scan::Scan::examine) with the wanted entries;
//! 3. [`plan`](plan::plan), then [`preflight`](preflight::preflight), which adds what the file system refuses;
//! 4. [`begin`](run::ReadyTarget::begin), each [need](plan::Need) of the plan into the
//!    [stage](run::Staging::stage), [`prepare`](run::Staging::prepare);
//! 5. [`flip`](run::Prepared::flip), [`commit`](run::Flipped::commit).
//!
//! Everything up to *flip* leaves the tree alone. The crash protocol is described in the module `journal`.

mod backup;
mod checksum;
pub mod error;
mod flip;
mod fresh;
mod hash;
pub mod journal;
pub mod ledger;
mod listing;
pub mod lock;
pub mod metadata;
mod op;
pub mod overlay;
pub mod partial;
pub mod plan;
pub mod preflight;
pub mod receive;
mod record;
pub mod run;
pub mod scan;
pub mod stage;
pub mod stat;
pub mod stat_cache;
pub mod step;
pub mod tree_dir;
mod tree_walk;
pub mod versions;

pub use backup::{Backup, Stamp};
pub use record::Version;

#[cfg(test)]
mod tests;
