//! `[upstream]` and `[[mirror]]`: what comes from others, and how they are asked.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

/// The shortest and the longest time between two looks at an upstream, in seconds.
const EVERY_SECONDS: std::ops::RangeInclusive<u64> = 60..=30 * 86_400;

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
    /// Mirrors whose upstreams are looked at at once.
    pub(crate) looks: usize,
    /// Days after which `mirror prune` may forget a file that nothing names any more; never where that is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) forget_days: Option<u64>,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self { connections: 16, connections_per_host: 4, stall_seconds: 30, looks: 2, forget_days: None }
    }
}

/// A channel whose files come from upstream: when they are asked for, or as upstream gets them.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) names_from: Option<String>,
    /// The key that publishes what came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    /// Whether everything that is named is fetched before anybody asks for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) prefetch: bool,
    /// The architectures that are wanted, as upstream calls them; all where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) architectures: Vec<String>,
    /// The variants that are wanted of each of them; all where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) variants: Vec<String>,
    /// How many of the newest versions of each thing are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) newest: Option<usize>,
    /// Which version that came hosts follow; the one that a person has made current where that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<Current>,
    /// Files and directories with the OpenPGP keys that may have signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keyring: Vec<PathBuf>,
    /// Whether what nobody has signed is taken.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) allow_unsigned: bool,
    /// The file upstream that has the digests of all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digests: Option<String>,
    /// A file of this machine that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digests_file: Option<PathBuf>,
    /// How often upstream is looked at while the server runs, such as `6h`; never where this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) every: Option<String>,
    /// The most that one look may bring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_gib: Option<u64>,
}

/// Which version hosts follow by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Current {
    /// The newest.
    Newest,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl MirrorConfig {
    /// How often upstream is looked at, in seconds.
    pub(crate) fn every_seconds(&self) -> anyhow::Result<Option<u64>> {
        let Some(text) = &self.every else { return Ok(None) };
        let said = || format!("every = {text:?}: a number with m, h or d behind it, from 1m to 30d");
        let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
        let unit: u64 = match unit {
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => 0,
        };
        let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        let seconds = seconds.with_context(said)?;
        ensure!(EVERY_SECONDS.contains(&seconds), said());
        Ok(Some(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_upstream_is_looked_at_is_a_number_with_a_unit() {
        let seconds = |text: &str| {
            let every = Some(text.to_owned());
            MirrorConfig { every, ..MirrorConfig::default() }.every_seconds()
        };
        assert_eq!(MirrorConfig::default().every_seconds().unwrap(), None);
        for (text, expected) in [("1m", 60), ("6h", 21_600), ("7d", 604_800), ("30d", 2_592_000)] {
            assert_eq!(seconds(text).unwrap(), Some(expected));
        }
        for text in ["", "m", "6", "0h", "59s", "31d", "-1h", "6 h", "6é", "99999999999999999999d"] {
            let error = seconds(text).unwrap_err().to_string();
            assert!(error.contains("from 1m to 30d"), "{text}: {error}");
        }
    }
}
