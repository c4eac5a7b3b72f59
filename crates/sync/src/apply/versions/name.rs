//! The names of versions, which also say what is ours.

use std::fmt;

use smart_sync_store::id::{ManifestId, to_hex};

use crate::apply::backup::Stamp;

/// What every name begins with. Nothing without it is ever removed.
const MARK: &str = "smart-sync-";
/// What follows the time in the name of what was not a version when it was left.
const LEFT: &str = "-left";
/// Versions of one second and one manifest, at most.
const SAME_MAX: u32 = 1000;

/// The name of a version: `smart-sync-20260101T120000Z-1a2b3c4d`, the time and the beginning of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionName(Box<str>);

impl VersionName {
    /// The most bytes that a name has.
    pub const BYTES_MAX: usize = 100;

    /// The first of the names for a tree and a time that is not taken.
    pub fn free(stamp: &Stamp, manifest: ManifestId, is_taken: impl Fn(&Self) -> bool) -> Option<Self> {
        let stamp = std::str::from_utf8(stamp.as_bytes()).ok()?;
        Self::first_free(&format!("{MARK}{stamp}-{}", to_hex(&manifest.as_bytes()[..4])), is_taken)
    }

    /// The name of what readers saw until a switch, where it holds what nothing else does.
    pub(super) fn left(stamp: &Stamp, is_taken: impl Fn(&Self) -> bool) -> Option<Self> {
        let stamp = std::str::from_utf8(stamp.as_bytes()).ok()?;
        Self::first_free(&format!("{MARK}{stamp}{LEFT}"), is_taken)
    }

    /// Whether this is such a name.
    pub(super) fn is_left(&self) -> bool {
        self.0.contains(LEFT)
    }

    fn first_free(first: &str, is_taken: impl Fn(&Self) -> bool) -> Option<Self> {
        let others = (2..=SAME_MAX).map(|number| format!("{first}-{number}"));
        let mut names = std::iter::once(first.to_owned()).chain(others);
        names.find_map(|name| Self::parse(name.as_bytes()).filter(|name| !is_taken(name)))
    }

    /// Takes what may be a name.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let rest = text.strip_prefix(MARK)?;
        let is_plain = rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        (is_plain && !rest.is_empty() && bytes.len() <= Self::BYTES_MAX).then(|| Self(text.into()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_when_and_what_and_is_given_once() {
        let stamp = Stamp::new(b"20260101T120000Z").unwrap();
        let manifest = ManifestId::from_bytes([0xab; 32]);
        let first = VersionName::free(&stamp, manifest, |_| false).unwrap();
        assert_eq!(first.as_str(), "smart-sync-20260101T120000Z-abababab");
        let second = VersionName::free(&stamp, manifest, |name| *name == first).unwrap();
        assert_eq!(second.as_str(), "smart-sync-20260101T120000Z-abababab-2");
        for text in ["smart-sync-", "other-20260101T120000Z-ab", "smart-sync-../x", "smart-sync-a/b"] {
            assert_eq!(VersionName::parse(text.as_bytes()), None, "{text}");
        }
    }
}
