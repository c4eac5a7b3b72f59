//! The configuration file.
//!
//! Only the shape of the file is here, with each value parsed into the type it is used as, so that a mistake is
//! reported with the line it stands in. What the values mean together with the command line is decided in
//! [`crate::settings`]. Unknown keys are errors: a misspelt key that is ignored is a protection that is missing.

mod error;
mod network;
mod realm;
mod target;
mod value;

pub use self::error::{ConfigError, KeyInLine};
pub use self::network::{AllowedOnNetwork, Connections, NetworkConfig};
pub use self::realm::{RealmConfig, RealmName};
pub use self::target::{Allowed, Fidelity, Keep, TargetConfig, TargetKind};
pub use self::value::{AbsolutePath, Span};

pub(crate) use self::error::place_of;
pub(crate) use self::value::{optional_from_text, optional_ref};

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Deserialize;

use crate::hosts::config::{HostConfig, ReportConfig};
use crate::hosts::name::Destination;
use crate::prefer::Prefer;
use crate::profile::config::{ProfileConfig, ProfileName};
use crate::profile::merge::Layer;
use crate::token::check_private;
use crate::validate::item::Item;
use crate::validate::sets::SetName;
use crate::watch::windows::Window;

/// Where the configuration is when `--config` does not say.
pub const DEFAULT_PATH: &str = "/etc/smart-sync/config.toml";

/// The largest file that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The whole file.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The target that is synced when `--target` does not say.
    pub target: Option<AbsolutePath>,
    /// The realms this host follows, by their origin.
    #[serde(default)]
    pub realms: BTreeMap<RealmName, RealmConfig>,
    /// The targets of this host, by their directory.
    #[serde(default)]
    pub targets: BTreeMap<AbsolutePath, TargetConfig>,
    /// Git repositories that contents are looked for in before they are fetched.
    #[serde(default)]
    pub bytes_from: Vec<AbsolutePath>,
    /// What updates should take as little of as possible.
    pub prefer: Option<Prefer>,
    /// How the network is used.
    #[serde(default)]
    pub network: NetworkConfig,
    /// How targets are watched.
    #[serde(default)]
    pub watch: WatchConfig,
    /// The sets of checks that `validate` makes; decided by what the host is when left out.
    pub validate_sets: Option<Vec<SetName>>,
    /// Checks in addition to those.
    #[serde(default)]
    pub validate: Vec<Item>,
    /// Other hosts, by their name.
    #[serde(default)]
    pub hosts: BTreeMap<Destination, HostConfig>,
    /// To whom this host reports how it stands; to nobody where this is left out.
    pub report: Option<ReportConfig>,
    /// What profiles may do on this host, by their channel.
    #[serde(default)]
    pub profiles: BTreeMap<ProfileName, ProfileConfig>,
    /// The table `targets` once more, with the lines of its values.
    #[serde(skip)]
    pub lines: Layer,
}

/// How targets are watched.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WatchConfig {
    /// How often servers are asked that have not told of anything.
    pub every: Option<Span>,
    /// The longest wait after something was published.
    pub jitter: Option<Span>,
    /// When targets may be changed.
    #[serde(default)]
    pub windows: Vec<Window>,
}

impl Config {
    /// Reads the file that `--config` names, or the usual one, which may be missing.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return named.map_or(Ok(Self::default()), |path| Err(ConfigError::Absent(path.to_owned())));
            }
            opened => opened.map_err(unreadable)?,
        };
        let mode = file.metadata().map_err(unreadable)?.mode();
        let mut text = String::new();
        let read = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        if read as u64 > CONFIG_BYTES_MAX {
            return Err(unreadable(std::io::Error::other("it is larger than 1 MiB")));
        }
        let config = Self::parse(path, &text)?;
        if config.realms.values().any(|realm| realm.token.is_some()) {
            check_private(path, mode).map_err(ConfigError::Exposed)?;
        }
        Ok(config)
    }

    /// Parses the text of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, key) = place_of(text, &error);
            ConfigError::Wrong { path: path.to_owned(), line, key, message: error.message().to_owned() }
        })?;
        Ok(Self { lines: Layer::of_host(text), ..config })
    }
}

#[cfg(test)]
mod tests;
