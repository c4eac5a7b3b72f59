//! `server.toml`: what an operator decides about one server.
//!
//! Every value has a default, unknown keys are errors, and the file is read once at start.

mod limits;
mod mirror;
mod storage;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use smart_sync_sync::name::{Channel, ChannelPattern};

use crate::retention::{Retention, RetentionConfig, Typed};
pub(crate) use limits::{Limits, TlsConfig};
pub(crate) use mirror::{Current, MirrorConfig, UpstreamConfig};
pub(crate) use storage::{BundleConfig, SeeThroughConfig};
pub(crate) use views::{GitConfig, RsyncConfig};

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
