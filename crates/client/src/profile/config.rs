//! What the configuration of a host says of profiles: how they are found, and what they may do.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use smart_sync_sync::name::{Channel, RefQuery};

use crate::after::confirmation::{Confirmation, ConfirmedBy};
use crate::config::{AbsolutePath, Allowed, RealmName, Span, optional_ref};

/// A profile's channel, as a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileName(pub Channel);

/// A profile: where it is looked for, and what it may do here.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProfileConfig {
    /// The realm, where there are several.
    pub realm: Option<RealmName>,
    /// The ref.
    #[serde(default, rename = "ref", deserialize_with = "optional_ref")]
    pub reference: Option<RefQuery>,
    /// What it may name beside trees.
    #[serde(default)]
    pub allow: Vec<ProfileAllowed>,
    /// Directories that it may place targets in.
    #[serde(default)]
    pub under: Vec<AbsolutePath>,
    /// Whether `watch` pulls it.
    #[serde(default)]
    pub follow: bool,
    /// Who confirms a pull, beside what its targets say.
    pub confirm: Option<ConfirmedBy>,
    /// How long a person has for it.
    pub confirm_within: Option<Span>,
}

impl ProfileConfig {
    /// Who confirms a pull. What is none was refused with the configuration.
    pub fn confirmation(&self) -> Confirmation {
        Confirmation::of(self.confirm, self.confirm_within).unwrap_or_default()
    }
}

/// What a profile may do only where the host says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileAllowed {
    /// Name commands that run after an update.
    Run,
    /// Name what has to be well after an update.
    Check,
    /// Let targets take device files.
    Devices,
    /// Let targets take sockets and named pipes.
    Sockets,
    /// Let targets take files that run as their owner or group.
    SetId,
    /// Let targets take publications that hold excluded paths.
    ExcludedPaths,
}

impl ProfileAllowed {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Run, Self::Check, Self::Devices, Self::Sockets, Self::SetId, Self::ExcludedPaths];

    /// What lets a profile say this of a target.
    pub const fn for_target(allowed: Allowed) -> Self {
        match allowed {
            Allowed::Devices => Self::Devices,
            Allowed::Sockets => Self::Sockets,
            Allowed::SetId => Self::SetId,
            Allowed::ExcludedPaths => Self::ExcludedPaths,
        }
    }

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Check => "check",
            Self::Devices => "devices",
            Self::Sockets => "sockets",
            Self::SetId => "set-id",
            Self::ExcludedPaths => "excluded-paths",
        }
    }
}

impl<'de> Deserialize<'de> for ProfileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}
