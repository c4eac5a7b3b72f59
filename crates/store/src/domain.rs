//! Visibility domains: who may know that an object is here.
//!
//! A private channel's packs, its deduplication and the answers to "do you have this chunk" stay inside its domain.
//! Every lookup is made in one domain, and an object of another domain is simply absent.

use std::fmt;
use std::str::FromStr;

/// The name of a visibility domain: formed as a channel's name, so that a channel can have a domain of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Box<str>);

/// A text that does not name a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a domain: {0:?} (components of ASCII letters, digits, '.', '_', '+' and '-', each beginning with a letter \
     or digit, joined by '/'; at most 16 of them and 255 bytes)"
)]
pub struct ParseDomainError(String);

impl Domain {
    /// The most bytes of a name.
    pub const LEN_MAX: usize = 255;
    const COMPONENTS_MAX: usize = 16;

    /// The domain of everything that is not private.
    pub fn public() -> Self {
        Self("public".into())
    }

    /// The name.
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = ParseDomainError;

    fn from_str(text: &str) -> Result<Self, ParseDomainError> {
        let is_good = text.len() <= Self::LEN_MAX
            && text.split('/').count() <= Self::COMPONENTS_MAX
            && text.split('/').all(is_component);
        if is_good { Ok(Self(text.into())) } else { Err(ParseDomainError(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_component(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_channels() {
        for good in ["public", "repos/nixos", "dotfiles/alice", "a", "gtk+3.0_x-1"] {
            assert_eq!(good.parse::<Domain>().unwrap().as_str(), good);
        }
        let deep = ["a"; 17].join("/");
        let long = "a".repeat(256);
        for bad in ["", "/", "a/", "/a", "a//b", "../a", ".a", "-a", "a b", "ä", "a\n", "a\\b", &deep, &long]
        {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
    }
}
