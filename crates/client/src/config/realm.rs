//! What a configuration says of a realm: who is asked, and how fresh the answer must be.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use smart_sync_sync::name::Origin;

use super::Span;
use crate::server_url::ServerUrl;
use crate::token::Token;

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

/// A realm's origin, as a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RealmName(pub Origin);

impl<'de> Deserialize<'de> for RealmName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
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
