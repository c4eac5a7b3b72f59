//! `server.toml`: what an operator decides about one server.
//!
//! Every value has a default, unknown keys are errors, and the file is read once at start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use smart_sync_sync::name::{Channel, ChannelPattern};

use crate::retention::{Retention, RetentionConfig, Typed};

/// The settings of a server.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The name of the realm.
    pub(crate) origin: String,
    /// Where to listen.
    #[serde(default = "default_listen")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Certificate and key, both PEM; plain HTTP without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<TlsConfig>,
    /// Channels that are invisible without a token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) private: Vec<String>,
    /// Base URLs of mirrors that are asked for a larger log before anything is signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) peers: Vec<String>,
    /// Seconds between two signatures of the clock of this server; 0 when it runs elsewhere.
    #[serde(default = "default_clock_interval")]
    pub(crate) clock_interval_seconds: u64,
    /// What a client may ask of the server.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// How much the server does for small updates.
    #[serde(default)]
    pub(crate) bundles: BundleConfig,
    /// What is done to store compressed artifacts in less room.
    #[serde(default)]
    pub(crate) see_through: SeeThroughConfig,
    /// Which versions of channels are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) retention: Vec<RetentionConfig>,
    /// How upstreams are asked.
    #[serde(default)]
    pub(crate) upstream: UpstreamConfig,
    /// Channels whose files come from upstream when they are asked for.
    #[serde(default, rename = "mirror", skip_serializing_if = "Vec::is_empty")]
    pub(crate) mirrors: Vec<MirrorConfig>,
    /// Which trees are also served as repositories of git.
    #[serde(default)]
    pub(crate) git: GitConfig,
    /// Which trees are also served by rsync.
    #[serde(default)]
    pub(crate) rsync: RsyncConfig,
}

/// Where the certificate lies.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TlsConfig {
    /// The chain, PEM.
    pub(crate) certificate: PathBuf,
    /// The private key, PEM.
    pub(crate) key: PathBuf,
}

/// What a client may ask of the server.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Limits {
    /// Connections at once.
    pub(crate) connections: usize,
    /// Connections at once from one address.
    pub(crate) connections_per_address: usize,
    /// Requests a second from one address, on average.
    pub(crate) requests_per_second: u32,
    /// Requests from one address before the average counts.
    pub(crate) requests_burst: u32,
    /// Seconds until the headers of a request must be there.
    pub(crate) header_seconds: u64,
    /// Seconds that a body may pause.
    pub(crate) body_idle_seconds: u64,
    /// Seconds that requests in progress get when the server stops.
    pub(crate) stop_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: 256,
            requests_per_second: 500,
            requests_burst: 5000,
            header_seconds: 10,
            body_idle_seconds: 30,
            stop_seconds: 30,
        }
    }
}

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

fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([127, 0, 0, 1], 8480))]
}

const fn default_clock_interval() -> u64 {
    60
}

impl Config {
    /// The settings of a new server.
    pub(crate) fn new(origin: String) -> Self {
        Self {
            origin,
            listen: default_listen(),
            tls: None,
            private: Vec::new(),
            peers: Vec::new(),
            clock_interval_seconds: default_clock_interval(),
            limits: Limits::default(),
            bundles: BundleConfig::default(),
            see_through: SeeThroughConfig::default(),
            retention: Vec::new(),
            upstream: UpstreamConfig::default(),
            mirrors: Vec::new(),
            git: GitConfig::default(),
            rsync: RsyncConfig::default(),
        }
    }

    /// Reads and checks the file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let config: Self = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        config.private_patterns().with_context(|| format!("in {}: private", path.display()))?;
        Retention::new(&config.retention, Typed::default())
            .with_context(|| format!("in {}: retention", path.display()))?;
        config.git_channels().with_context(|| format!("in {}: git.channels", path.display()))?;
        config.rsync_modules().with_context(|| format!("in {}: rsync.modules", path.display()))?;
        ensure!(
            config.rsync.listen.is_empty() || !config.rsync.modules.is_empty(),
            "in {}: rsync is to listen, and [rsync.modules] names no channel",
            path.display()
        );
        Ok(config)
    }

    /// The private channels.
    pub(crate) fn private_patterns(&self) -> anyhow::Result<Vec<ChannelPattern>> {
        self.private.iter().map(|pattern| Ok(pattern.parse()?)).collect()
    }

    /// The channels that are served as repositories of git.
    pub(crate) fn git_channels(&self) -> anyhow::Result<BTreeSet<Channel>> {
        self.git.channels.iter().map(|channel| Ok(channel.parse()?)).collect()
    }

    /// The channels that are served by rsync, by the names of their modules. Whoever asks by rsync has no token, so
    /// that no private channel may be among them.
    pub(crate) fn rsync_modules(&self) -> anyhow::Result<BTreeMap<String, Channel>> {
        let private = self.private_patterns()?;
        let mut modules = BTreeMap::new();
        for (name, channel) in &self.rsync.modules {
            ensure!(
                is_module_name(name),
                "{name:?} cannot be a module: letters, digits, `.`, `_` and `-`, a letter or digit first, at most 64, \
                 and not `global`"
            );
            let channel: Channel = channel.parse()?;
            ensure!(
                !private.iter().any(|pattern| pattern.matches(&channel)),
                "{channel} is private, and rsync would give it to everybody\n\
                 hint: take it out of [rsync.modules]; over git it is served to whoever has a token"
            );
            modules.insert(name.clone(), channel);
        }
        Ok(modules)
    }
}

/// What stands between brackets in a configuration of rsync, and in URLs.
fn is_module_name(name: &str) -> bool {
    name.len() <= 64
        && !name.eq_ignore_ascii_case("global")
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let config = Config::new("lab.example.org".into());
        let text = toml::to_string(&config).unwrap();
        let read: Config = toml::from_str(&text).unwrap();
        assert_eq!(toml::to_string(&read).unwrap(), text);
        assert_eq!(read.listen, default_listen());
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let error = toml::from_str::<Config>("origin = \"a\"\nlisten-on = []").unwrap_err();
        assert!(error.to_string().contains("listen-on"), "{error}");
    }
    #[test]
    fn what_is_private_is_no_module_and_names_are_those_of_rsync() {
        let modules = |text: &str| {
            let text = format!("origin = \"a\"\nprivate = [\"repos/secret/*\"]\n[rsync.modules]\n{text}");
            toml::from_str::<Config>(&text).unwrap().rsync_modules().map_err(|error| error.to_string())
        };
        assert_eq!(modules("gentoo-portage = \"repos/gentoo\"").unwrap().len(), 1);
        let refused = [
            ("a = \"repos/secret/x\"", "repos/secret/x is private"),
            ("a = \"../etc\"", "is not a channel"),
            ("global = \"repos/a\"", "cannot be a module"),
            ("\"a]\\npath = /\" = \"repos/a\"", "cannot be a module"),
            ("\"\" = \"repos/a\"", "cannot be a module"),
            ("\"&include\" = \"repos/a\"", "cannot be a module"),
        ];
        for (text, expected) in refused {
            let error = modules(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
