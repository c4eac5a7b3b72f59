//! `[git]` and `[rsync]`: how trees are served besides.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Which trees are also served as repositories of git.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct GitConfig {
    /// Their channels; none is, where this is empty.
    pub(crate) channels: Vec<String>,
    /// How many of the newest publications a repository keeps as commits.
    pub(crate) commits: u64,
    /// Requests that git answers at once; others wait for their turn.
    pub(crate) requests: usize,
}

impl Default for GitConfig {
    fn default() -> Self {
        Self { channels: Vec::new(), commits: 500, requests: 16 }
    }
}

/// Which trees are also served by rsync.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct RsyncConfig {
    /// Where to listen; nothing is served by rsync where this is empty.
    pub(crate) listen: Vec<SocketAddr>,
    /// Transfers at once.
    pub(crate) connections: usize,
    /// Transfers at once to one address.
    pub(crate) connections_per_address: usize,
    /// Minutes that a tree stays after a newer one has come, for transfers that have begun.
    pub(crate) grace_minutes: u64,
    /// The channel of each module, by the name of the module.
    pub(crate) modules: BTreeMap<String, String>,
}

impl Default for RsyncConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            connections: 64,
            connections_per_address: 8,
            grace_minutes: 60,
            modules: BTreeMap::new(),
        }
    }
}
