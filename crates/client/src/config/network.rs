//! What a configuration says of the network.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::Span;

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

/// What is done on the network only when the configuration says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllowedOnNetwork {
    /// A token is sent to a server over `http:`, where whoever is on the way can read it.
    TokenOverHttp,
}

/// From 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections(pub usize);

impl<'de> Deserialize<'de> for Connections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match usize::deserialize(deserializer)? {
            number @ 1..=64 => Ok(Self(number)),
            _ => Err(D::Error::custom("connections are between 1 and 64")),
        }
    }
}
