//! `[upstream]` and `[[mirror]]`: what comes from others, and how they are asked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How upstreams are asked.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct UpstreamConfig {
    /// Files that are fetched at once.
    pub(crate) connections: usize,
    /// The same of one host.
    pub(crate) connections_per_host: usize,
    /// Seconds for which an upstream may give nothing.
    pub(crate) stall_seconds: u64,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self { connections: 16, connections_per_host: 4, stall_seconds: 30 }
    }
}

/// A channel whose files come from upstream when they are asked for.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct MirrorConfig {
    /// What it is called.
    pub(crate) name: String,
    /// Where it is served.
    pub(crate) channel: String,
    /// What kind of tree that is.
    pub(crate) kind: String,
    /// The URLs of the directories that upstreams have the files in, the best one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sources: Vec<String>,
    /// Files with more of them, a URL on each line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) source_lists: Vec<PathBuf>,
    /// A channel, or a directory, in which it is written which files there are and what each has to be.
    pub(crate) names_from: String,
    /// The key that publishes what came, with `mirror sync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}
