//! The configuration file.
//!
//! Only the shape of the file is here, with each value parsed into the type it is used as, so that a mistake is
//! reported with the line it stands in. What the values mean together with the command line is decided in
//! [`crate::settings`]. Unknown keys are errors: a misspelt key that is ignored is a protection that is missing.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use smart_sync_sync::apply::versions::Kind;
use smart_sync_sync::name::{Channel, Origin, RefQuery};

use crate::after::check::Check;
use crate::after::confirmation::ConfirmedBy;
use crate::after::trigger::Trigger;
use crate::failure::{Exit, Failure};
use crate::github::Address;
use crate::hosts::config::{HostConfig, ReportConfig};
use crate::hosts::name::Destination;
use crate::prefer::Prefer;
use crate::profile::config::{ProfileConfig, ProfileName};
use crate::profile::merge::Layer;
use crate::reference;
use crate::server_url::ServerUrl;
use crate::token::{Token, TokenError, check_private};
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

/// A realm: its servers and how fresh its word must be.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RealmConfig {
    /// Its servers; those after the first are mirrors.
    #[serde(deserialize_with = "servers")]
    pub servers: Vec<ServerUrl>,
    /// A token for its servers.
    #[serde(default, deserialize_with = "token")]
    pub token: Option<Token>,
    /// How old the proof of freshness may be; the root document decides when this is left out.
    pub max_age: Option<Span>,
}

/// A target: which tree it follows, and what is kept away from it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TargetConfig {
    /// The realm, where there are several.
    pub realm: Option<RealmName>,
    /// The channel.
    #[serde(default, deserialize_with = "optional_from_text")]
    pub channel: Option<Channel>,
    /// A repository instead of a realm and a channel.
    #[serde(default, deserialize_with = "optional_from_text")]
    pub source: Option<Address>,
    /// The ref.
    #[serde(default, rename = "ref", deserialize_with = "optional_ref")]
    pub reference: Option<RefQuery>,
    /// Patterns of paths that belong to this host, in place of the usual ones.
    pub exclude: Option<Vec<String>>,
    /// Patterns in addition to `exclude`, or to the usual ones.
    #[serde(default)]
    pub exclude_also: Vec<String>,
    /// Which kinds of manifest are taken; both when left out.
    pub fidelity: Option<Fidelity>,
    /// What is refused unless it stands here.
    #[serde(default)]
    pub allow: Vec<Allowed>,
    /// How it is kept; decided by the file system when left out.
    pub kind: Option<TargetKind>,
    /// How many versions are kept.
    pub keep: Option<Keep>,
    /// Commands that run after an update.
    #[serde(default)]
    pub run: Vec<Trigger>,
    /// What has to be well after an update.
    #[serde(default)]
    pub check: Vec<Check>,
    /// Who confirms an update.
    pub confirm: Option<ConfirmedBy>,
    /// How long a person has for it.
    pub confirm_within: Option<Span>,
    /// What `validate` looks at in its tree.
    #[serde(default)]
    pub validate: Vec<Item>,
}

/// How a target is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// A directory that is changed in place; earlier versions are not kept.
    Directory,
    /// A directory for each version, and the link `current` to one of them.
    Generations,
    /// A subvolume of btrfs, and a snapshot for each version.
    Btrfs,
    /// A dataset of ZFS that is changed in place, and a snapshot for each version.
    Zfs,
    /// A tree that is laid over directories of others, such as / or a home: only its own paths are touched.
    Overlay,
}

impl From<TargetKind> for Kind {
    fn from(kind: TargetKind) -> Self {
        match kind {
            TargetKind::Directory => Self::Directory,
            TargetKind::Generations => Self::Generations,
            TargetKind::Btrfs => Self::Btrfs,
            TargetKind::Zfs => Self::Zfs,
            TargetKind::Overlay => Self::Overlay,
        }
    }
}

/// From 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep(pub usize);

/// How the network is used.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkConfig {
    /// How many files are downloaded at the same time.
    pub connections: Option<Connections>,
    /// How long a connection may bring next to nothing before it is given up.
    pub stall: Option<Span>,
    /// How long a rate limit is waited for; a longer one is reported.
    pub rate_limit_wait: Option<Span>,
    /// What is refused unless it stands here.
    #[serde(default)]
    pub allow: Vec<AllowedOnNetwork>,
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

/// How much of a file's metadata a manifest keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fidelity {
    /// The executable bit and symbolic links.
    Git,
    /// Modes, owners, times, extended attributes and hard links.
    System,
}

impl Fidelity {
    /// Whether a tree of this fidelity is meant.
    pub const fn is(self, fidelity: smart_sync_store::manifest::Fidelity) -> bool {
        use smart_sync_store::manifest::Fidelity as Kept;
        matches!((self, fidelity), (Self::Git, Kept::Git) | (Self::System, Kept::System))
    }
}

/// What a target takes only when it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allowed {
    /// Device files.
    Devices,
    /// Sockets and named pipes.
    Sockets,
    /// Files that run as their owner or group.
    SetId,
    /// A publication that holds excluded paths; what is excluded is left out of it.
    ExcludedPaths,
}

/// What is done on the network only when the configuration says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllowedOnNetwork {
    /// A token is sent to a server over `http:`, where whoever is on the way can read it.
    TokenOverHttp,
}

/// A realm's origin, as a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RealmName(pub Origin);

/// A path that does not depend on where the program was started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbsolutePath(pub PathBuf);

/// A length of time, written as `90s`, `15m`, `36h` or `14d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// From 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections(pub usize);

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that `--config` names is not there.
    #[error("there is no configuration at {}", .0.display())]
    Absent(PathBuf),
    /// It cannot be read.
    #[error("reading the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something wrong.
    #[error("{}, line {line}{key}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key in that line, for the message.
        key: KeyInLine,
        /// What is wrong.
        message: String,
    },
    /// It holds a token, and others can read it.
    #[error("the configuration holds a token")]
    Exposed(#[source] TokenError),
}

/// The key that stands in a line, where one does.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyInLine(Option<String>);

impl fmt::Display for KeyInLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |key| write!(f, ", `{key}`"))
    }
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

/// The line of an error in a text, from 1, and the key that stands there.
pub(crate) fn place_of(text: &str, error: &toml::de::Error) -> (usize, KeyInLine) {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    (line, KeyInLine(text.lines().nth(line - 1).and_then(key_of_line)))
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed(error) => error.hint(),
            Self::Absent(_) => {
                Some(format!("without --config and SMART_SYNC_CONFIG, {DEFAULT_PATH} is read if it is there"))
            }
            _ => None,
        }
    }
}

/// What a line names; never its value, which may be a secret.
fn key_of_line(line: &str) -> Option<String> {
    let line = line.trim();
    let key = match line.strip_prefix('[') {
        Some(table) => table.split(']').next()?,
        None => line.split_once('=')?.0,
    };
    let key = key.trim();
    (!key.is_empty()).then(|| key.to_owned())
}

impl<'de> Deserialize<'de> for RealmName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::from(String::deserialize(deserializer)?);
        if path.is_absolute() { Ok(Self(path)) } else { Err(D::Error::custom("the path is not absolute")) }
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a length of time is a number and s, m, h or d, such as 90s or 14d";
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(EXPECTED)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(EXPECTED),
        };
        let number: u32 = number.parse().map_err(|_| EXPECTED)?;
        Ok(Self(Duration::from_secs(u64::from(number) * seconds)))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Connections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match usize::deserialize(deserializer)? {
            number @ 1..=64 => Ok(Self(number)),
            _ => Err(D::Error::custom("connections are between 1 and 64")),
        }
    }
}

impl FromStr for Keep {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number| (1..=1000).contains(number));
        number.map(Self).ok_or("between 1 and 1000 versions are kept")
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        usize::deserialize(deserializer)?.to_string().parse().map_err(D::Error::custom)
    }
}

fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ServerUrl>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.is_empty() {
        return Err(D::Error::custom("a realm needs at least one server"));
    }
    texts
        .iter()
        .map(|text| text.parse().map_err(|error| D::Error::custom(format!("`{text}`: {error}"))))
        .collect()
}

fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Token::parse(&text, "the configuration").map(Some).map_err(D::Error::custom)
}

pub(crate) fn optional_ref<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RefQuery>, D::Error> {
    reference::parse(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

pub(crate) fn optional_from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::Unreadable { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Exit::Permission
            }
            ConfigError::Exposed(_) => Exit::Permission,
            _ => Exit::Configuration,
        };
        let hint = error.hint();
        hint.into_iter().fold(Self::new(exit, error), Self::hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const EVERYTHING: &str = r#"
target = "/etc/nixos"
validate-sets = ["host", "nixos"]

[realms."lab.example.org"]
servers = ["https://sync.lab.example.org", "https://mirror.lab.example.org/sync"]
token = "sst_secret"
max-age = "14d"

[targets."/etc/nixos"]
realm = "lab.example.org"
channel = "repos/nixos"
ref = "branch:main"
exclude-also = ["hardware-configuration.nix"]
fidelity = "git"
allow = ["set-id"]
kind = "btrfs"
keep = 5
[[targets."/etc/nixos".run]]
name = "rebuild"
command = ["nixos-rebuild", "switch"]
paths = ["*.nix"]
timeout = "1h"
[[targets."/etc/nixos".check]]
http = "http://localhost/healthz"
grace = "5s"
retries = 10
[[targets."/etc/nixos".check]]
unit = "sshd.service"

[targets."/srv/repo"]
source = "github:owner/repo"
exclude = [".git/"]

[network]
connections = 4
stall = "30s"
rate-limit-wait = "2m"
allow = ["token-over-http"]

[watch]
every = "2h"
jitter = "0s"
windows = ["Sat 02:00-05:00"]

[[validate]]
directory = "/var/lib/images"
mode = "0711"
[[targets."/etc/nixos".validate]]
executable = "scripts/*.sh"
severity = "warn"
[hosts.web1]
ssh = "root@web1.example.org"
groups = ["web"]

[report]
name = "this"
realm = "lab.example.org"
server = "https://sync.lab.example.org"
"#;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let error = Config::parse(Path::new("config.toml"), text).unwrap_err().to_string();
        assert_eq!(error, expected);
    }

    #[test]
    fn every_key_is_understood() {
        let config = Config::parse(Path::new("config.toml"), EVERYTHING).unwrap();
        assert_eq!(config.target, Some(AbsolutePath("/etc/nixos".into())));
        let realm = &config.realms[&RealmName("lab.example.org".parse().unwrap())];
        assert_eq!(realm.servers[1].to_string(), "https://mirror.lab.example.org/sync");
        assert_eq!(realm.max_age, Some(Span(Duration::from_secs(14 * 86_400))));
        assert_eq!(config.targets.len(), 2);
        let nixos = &config.targets[&AbsolutePath("/etc/nixos".into())];
        assert_eq!(nixos.run[0].title(), "rebuild");
        assert_eq!(nixos.check.iter().map(Check::mistake).collect::<Vec<_>>(), [None, None]);
        assert_eq!((nixos.kind, nixos.keep), (Some(TargetKind::Btrfs), Some(Keep(5))));
        assert_eq!(config.validate_sets, Some(vec![SetName::Host, SetName::Nixos]));
        assert_eq!((config.validate.len(), nixos.validate.len()), (1, 1));
        assert_eq!(config.network.connections, Some(Connections(4)));
        assert_eq!(config.network.allow, [AllowedOnNetwork::TokenOverHttp]);
        let Ok(window) = "Sat 02:00-05:00".parse() else { panic!("it is a window") };
        let (every, jitter) = (Some(Span(Duration::from_secs(7200))), Some(Span(Duration::ZERO)));
        assert_eq!(config.watch, WatchConfig { every, jitter, windows: vec![window] });
        let web = &config.hosts[&"web1".parse::<Destination>().unwrap()];
        assert_eq!(web.ssh.as_ref().map(Destination::as_str), Some("root@web1.example.org"));
        assert_eq!(config.report.as_ref().map(|report| report.name.as_str()), Some("this"));
        assert!(!format!("{config:?}").contains("sst_secret"));
    }

    #[test]
    fn the_example_of_the_documentation_is_one() {
        let page = include_str!("../../../docs/configuration.md");
        let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        // The page leaves the secret out.
        Config::parse(Path::new("example"), &example.replace('…', "secret")).unwrap();
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        check(
            "target = \"/etc\"\nchanel = \"x\"\n",
            "config.toml, line 2, `chanel`: unknown field `chanel`, expected one of `target`, `realms`, `targets`, `bytes-from`, `prefer`, `network`, `watch`, `validate-sets`, `validate`, `hosts`, `report`, `profiles`",
        );
        check(
            "\n[network]\nstall = \"soon\"",
            "config.toml, line 3, `stall`: a length of time is a number and s, m, h or d, such as 90s or 14d",
        );
        check(
            "[realms.a]\nservers = [\"ftp://a\"]",
            "config.toml, line 2, `servers`: `ftp://a`: `ftp:` cannot be read from; a server is reached over http: or https:, an export also in a directory",
        );
        check(
            "[network]\nconnections = 0",
            "config.toml, line 2, `connections`: connections are between 1 and 64",
        );
        check("target = \"etc\"", "config.toml, line 1, `target`: the path is not absolute");
    }

    #[test]
    fn no_error_shows_a_token() {
        let error =
            Config::parse(Path::new("c"), "[realms.a]\nservers = []\ntoken = \"sst secret\"").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    #[test]
    fn a_file_with_a_token_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        std::fs::write(&path, EVERYTHING).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Config::load(Some(&path)).unwrap_err();
        assert!(error.hint().unwrap().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Config::load(Some(&path)).unwrap();
        assert!(matches!(Config::load(Some(&path.with_file_name("none"))), Err(ConfigError::Absent(_))));
    }
}
