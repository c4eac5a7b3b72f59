//! Values that stand in several tables of a configuration, and how they are read from text.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use smart_sync_sync::name::RefQuery;

use crate::reference;

/// A path that does not depend on where the program was started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbsolutePath(pub PathBuf);

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path = PathBuf::from(String::deserialize(deserializer)?);
        if path.is_absolute() { Ok(Self(path)) } else { Err(D::Error::custom("the path is not absolute")) }
    }
}

/// A length of time, written as `90s`, `15m`, `36h` or `14d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

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
