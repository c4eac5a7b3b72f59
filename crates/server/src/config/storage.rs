//! What a server does for small updates and for little room.

use serde::{Deserialize, Serialize};

/// How much the server does for small updates.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct BundleConfig {
    /// Whether there are bundles at all.
    pub(crate) enabled: bool,
    /// The room that stored bundles may take.
    pub(crate) store_mib: u64,
    /// The memory that computing bundles may take, for all of them together.
    pub(crate) memory_mib: u64,
    /// Contents, new ones and their bases, that may be looked at while a client waits.
    pub(crate) on_demand_mib: u64,
    /// The same for a first install, which has much to look at and can be had by chunks as well.
    pub(crate) install_on_demand_mib: u64,
    /// The same for a bundle that is prepared.
    pub(crate) prepare_mib: u64,
    /// Computations that may wait for their turn.
    pub(crate) queue: usize,
    /// The number of steps from 2, 4, 8, … versions ago that are prepared for each ref.
    pub(crate) ladder: u32,
    /// How often any other step is asked for before it is worth a better bundle.
    pub(crate) hot: u32,
}

impl Default for BundleConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            store_mib: 10 * 1024,
            memory_mib: 960,
            on_demand_mib: 1024,
            install_on_demand_mib: 128,
            prepare_mib: 8 * 1024,
            queue: 4,
            ladder: 3,
            hot: 3,
        }
    }
}

/// What the server does to store compressed artifacts in less room.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct SeeThroughConfig {
    /// Whether it looks for such artifacts by itself.
    pub(crate) enabled: bool,
    /// The longest that whoever asks for one may have to wait until it is rebuilt.
    pub(crate) rebuild_seconds: u64,
    /// Whether originals stay beside what they are rebuilt from, so that nobody waits.
    pub(crate) keep_originals: bool,
    /// Larger ones are left as they are.
    pub(crate) size_max_mib: u64,
}

impl Default for SeeThroughConfig {
    fn default() -> Self {
        Self { enabled: true, rebuild_seconds: 5, keep_originals: false, size_max_mib: 2048 }
    }
}
