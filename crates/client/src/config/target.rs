//! What a configuration says of a target: which tree it follows, how it is kept, and what protects it.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use smart_sync_sync::apply::versions::Kind;
use smart_sync_sync::name::{Channel, RefQuery};

use super::value::{optional_from_text, optional_ref};
use super::{RealmName, Span};
use crate::after::check::Check;
use crate::after::confirmation::ConfirmedBy;
use crate::after::trigger::Trigger;
use crate::github::Address;
use crate::validate::item::Item;

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

/// From 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep(pub usize);

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
