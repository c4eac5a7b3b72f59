//! Which package: its category, its name and its version (PMS, section 3.1).

use std::fmt;
use std::str::FromStr;

use super::version::Version;

/// The most bytes of a category, a name or a slot.
const NAME_BYTES_MAX: usize = 128;

/// A package and its version, as in `sys-apps/portage-3.0.83-r1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpv {
    /// The category.
    pub category: String,
    /// The name.
    pub name: String,
    /// The version.
    pub version: Version,
}

/// A text that names no package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no category, name and version of a package")]
pub struct CpvError(String);

impl FromStr for Cpv {
    type Err = CpvError;

    fn from_str(text: &str) -> Result<Self, CpvError> {
        let read = || {
            let (category, rest) = text.split_once('/')?;
            let (name, version) = split_version(rest)?;
            is_category(category).then(|| Self {
                category: category.to_owned(),
                name: name.to_owned(),
                version,
            })
        };
        read().ok_or_else(|| CpvError(text.chars().take(NAME_BYTES_MAX).collect()))
    }
}

impl fmt::Display for Cpv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.category, self.name, self.version)
    }
}

/// Takes a name and a version apart, if the text is both. A name must not end with what could be a version, so there
/// is at most one way to do so.
pub(super) fn split_version(text: &str) -> Option<(&str, Version)> {
    let mut dashes = text.match_indices('-').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let (name, version) = dashes.find_map(|(name, version)| Some((name, version.parse().ok()?)))?;
    is_name(name).then_some((name, version))
}

/// Whether a category may be called so.
pub(super) fn is_category(text: &str) -> bool {
    is_word(text, b"+-._")
}

/// Whether a package may be called so.
pub(super) fn is_name(text: &str) -> bool {
    let mut ends = text.match_indices('-').map(|(at, _)| &text[at + 1..]);
    is_word(text, b"+-_") && ends.all(|end| end.parse::<Version>().is_err())
}

/// Whether a slot may be called so.
pub(super) fn is_slot(text: &str) -> bool {
    is_word(text, b"+-._")
}

fn is_word(text: &str, others: &[u8]) -> bool {
    let bytes = text.as_bytes();
    (1..=NAME_BYTES_MAX).contains(&bytes.len())
        && (bytes[0].is_ascii_alphanumeric() || bytes[0] == b'_')
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || others.contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_version_are_told_apart() {
        let check = |text: &str, name: &str, version: &str| {
            let cpv: Cpv = text.parse().unwrap();
            assert_eq!((cpv.name.as_str(), cpv.version.as_str()), (name, version), "{text}");
            assert_eq!(cpv.to_string(), text);
        };
        check("app-test/hello-1.0-r1", "hello", "1.0-r1");
        check("x11-libs/gtk+-3.24.41", "gtk+", "3.24.41");
        check("dev-libs/a-b-c-1_p2", "a-b-c", "1_p2");
        check("media-fonts/font-100dpi-1", "font-100dpi", "1");
        check("dev-db/foo-2bar-9999", "foo-2bar", "9999");
        check("virtual/_-1", "_", "1");
    }

    #[test]
    fn what_names_no_package_is_refused() {
        for text in [
            "",
            "a",
            "a/b",
            "a-1",
            "a/b-",
            "a/-1",
            "a/1",
            "/b-1",
            "a/b-1/c",
            "a/b-1-2",
            "a/b-1-r1-2",
            "-a/b-1",
            ".a/b-1",
            "a/+b-1",
            "a/b.c-1",
            "a/b c-1",
            "a/../b-1",
            "a/b-1-r1-r2",
            "a\u{1b}/b-1",
        ] {
            assert!(text.parse::<Cpv>().is_err(), "{text:?}");
        }
    }
}
