//! The names that records carry: origins, channels, kinds and refs.
//!
//! A name is checked once, where it comes in; after that its type says that it keeps its rules. All of them are
//! short texts without white space, so that a line of a record can be split at its spaces.

mod file_segment;
mod refs;
mod typed;

use std::fmt;
use std::str::FromStr;

pub use file_segment::{decode_file_segment, update_path};
pub use refs::{RefName, RefText};
pub use typed::{RefQuery, TypedRef};

/// A text that is not the name it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {what}: {rule}")]
pub struct NameError {
    what: &'static str,
    rule: &'static str,
    found: String,
}

impl NameError {
    fn new(what: &'static str, rule: &'static str, found: &str) -> Self {
        Self { what, rule, found: found.chars().take(80).collect() }
    }
}

/// The name of a realm, written like a host name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Box<str>);

/// The name of a line of trees inside a realm: `repos/nixos`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Box<str>);

/// What a channel carries: `repo`, `binpkgs`, `kernel`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(Box<str>);

/// The channels that a publish key may write to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ChannelPattern {
    /// This one channel.
    Exact(Channel),
    /// Every channel below this name, but not the name itself: `repos/*`.
    Below(Channel),
}

impl Origin {
    const BYTES_MAX: usize = 253;
}

impl Channel {
    const BYTES_MAX: usize = 255;
    const COMPONENTS_MAX: usize = 16;

    /// The channel as it stands in a URL: one segment, `/` percent-encoded.
    pub fn to_url_segment(&self) -> String {
        refs::encode_segment(&self.0)
    }

    /// Reads a channel from one segment of a URL.
    pub fn from_url_segment(segment: &str) -> Result<Self, NameError> {
        refs::decode_segment("a channel", segment)?.parse()
    }
}

impl ChannelPattern {
    /// Whether the pattern covers the channel. The slash belongs to the pattern, so that `nixos/*` has nothing to
    /// say about `nixos-evil`.
    pub fn matches(&self, channel: &Channel) -> bool {
        match self {
            Self::Exact(name) => name == channel,
            Self::Below(name) => {
                channel.0.strip_prefix(&*name.0).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
            }
        }
    }

    /// How closely the pattern names a channel that it matches: the exact name before all, then the longest.
    pub fn closeness(&self) -> (bool, usize) {
        match self {
            Self::Exact(name) => (true, name.0.len()),
            Self::Below(name) => (false, name.0.len()),
        }
    }
}

macro_rules! texts {
    ($($name:ident)*) => {$(
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}

texts! { Origin Channel Kind }

impl FromStr for Origin {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let good = bytes.len() <= Self::BYTES_MAX
            && bytes.first().is_some_and(is_end)
            && bytes.last().is_some_and(is_end)
            && bytes.iter().all(|byte| is_end(byte) || matches!(byte, b'.' | b'-'));
        let rule = "lower-case letters, digits, dots and dashes, with a letter or digit at both ends, \
                    at most 253 bytes";
        if good { Ok(Self(text.into())) } else { Err(NameError::new("an origin", rule, text)) }
    }
}

impl FromStr for Channel {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        fn is_component(component: &str) -> bool {
            component.starts_with(|first: char| first.is_ascii_alphanumeric())
                && component
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-'))
        }
        let good = text.len() <= Self::BYTES_MAX
            && text.split('/').count() <= Self::COMPONENTS_MAX
            && text.split('/').all(is_component);
        let rule = "up to 16 components joined by `/`, each a letter or digit and then letters, digits, \
                    `.`, `_`, `+`, `-`, at most 255 bytes";
        if good { Ok(Self(text.into())) } else { Err(NameError::new("a channel", rule, text)) }
    }
}

impl FromStr for Kind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = text.len() <= 32
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let rule = "lower-case letters, digits and dashes, beginning with a letter, at most 32 bytes";
        if good { Ok(Self(text.into())) } else { Err(NameError::new("a kind", rule, text)) }
    }
}

impl FromStr for ChannelPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix("/*") {
            Some(name) => name.parse().map(Self::Below),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "{name}/*"),
        }
    }
}

impl fmt::Debug for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelPattern({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: FromStr + fmt::Display>(text: &str, good: bool) {
        let parsed = text.parse::<T>();
        assert_eq!(parsed.is_ok(), good, "{text:?}");
        if let Ok(name) = parsed {
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn origins_are_written_like_host_names() {
        check::<Origin>("lab.example.org", true);
        check::<Origin>("a", true);
        check::<Origin>(&"a".repeat(253), true);
        for wrong in
            ["", "Lab", ".lab", "lab.", "-lab", "lab_1", "lab example", "läb", "lab\n", &"a".repeat(254)]
        {
            check::<Origin>(wrong, false);
        }
    }

    #[test]
    fn channels_cannot_climb_or_hide() {
        for good in ["repos/nixos", "distfiles", "a/b/c", "x86_64-pc", "gtk+3.0"] {
            check::<Channel>(good, true);
        }
        check::<Channel>(&["a"; 16].join("/"), true);
        check::<Channel>(&["a"; 17].join("/"), false);
        check::<Channel>(&"a".repeat(256), false);
        for wrong in
            ["", "/a", "a/", "a//b", "..", "a/../b", ".git", "a/.b", "-a", "a b", "a\0", "a/*", "a%2fb", "é"]
        {
            check::<Channel>(wrong, false);
        }
    }

    #[test]
    fn kinds_are_one_word() {
        check::<Kind>("repo", true);
        check::<Kind>("binpkgs-2", true);
        for wrong in ["", "2repo", "-repo", "Repo", "a b", &"a".repeat(33)] {
            check::<Kind>(wrong, false);
        }
    }

    #[test]
    fn a_pattern_covers_what_is_below_its_slash_and_nothing_else() {
        for (pattern, channel, expected) in [
            ("nixos/*", "nixos/main", true),
            ("nixos/*", "nixos/a/b", true),
            ("nixos/*", "nixos", false),
            ("nixos/*", "nixos-evil", false),
            ("nixos/*", "nixos-evil/main", false),
            ("nixos", "nixos", true),
            ("nixos", "nixos/main", false),
        ] {
            let pattern: ChannelPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&channel.parse().unwrap()), expected, "{pattern} against {channel}");
        }
        for wrong in ["*", "/*", "a/*/b", "a*", "a/**", "a/*/*"] {
            check::<ChannelPattern>(wrong, false);
        }
        let closeness = |text: &str| text.parse::<ChannelPattern>().unwrap().closeness();
        assert!(
            closeness("a/b") > closeness("a/*"),
            "both are three bytes long, but one is the channel itself"
        );
        assert!(closeness("a/b/*") > closeness("a/*"));
    }

    #[test]
    fn a_channel_is_one_segment_of_a_url() {
        let channel: Channel = "repos/gtk+3".parse().unwrap();
        assert_eq!(channel.to_url_segment(), "repos%2Fgtk%2B3");
        assert_eq!(Channel::from_url_segment("repos%2Fgtk%2B3"), Ok(channel.clone()));
        assert_eq!(Channel::from_url_segment("repos%2fgtk+3"), Ok(channel));
        for wrong in ["%2e%2e", "a%2f..%2fb", "a%", "a%zz", "a%00", "%ff"] {
            assert!(Channel::from_url_segment(wrong).is_err(), "{wrong}");
        }
    }
}
