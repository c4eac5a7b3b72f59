//! Refs as records and URLs write them.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use smart_sync_store::id::CommitId;

use super::NameError;

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest ref in the form that records use, in bytes.
const REF_BYTES_MAX: usize = 255;

const WHAT: &str = "a ref";
const FORMS: &str = "expected branch:NAME, tag:NAME or commit:HEX, at most 255 bytes";

/// The name of a branch or a tag, as `git check-ref-format` allows it, and without any white space or control
/// character that git would let through.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefText(Box<str>);

/// A name in a channel.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum RefName {
    /// Moves from publication to publication.
    Branch(RefText),
    /// Written once.
    Tag(RefText),
    /// A commit of the repository that the channel carries.
    Commit(CommitId),
}

impl RefText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RefText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RefText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefText({})", self.0)
    }
}

impl FromStr for RefText {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = |rule| Err(NameError::new("the name of a branch or tag", rule, text));
        let is_forbidden = |character: char| {
            character.is_whitespace()
                || character.is_control()
                || matches!(character, '~' | '^' | ':' | '?' | '*' | '[' | '\\')
        };
        if text.is_empty() || text.len() > REF_BYTES_MAX {
            return refused("it has to have 1 to 255 bytes");
        }
        if text.contains(is_forbidden) {
            return refused("white space, control characters and ~ ^ : ? * [ \\ are not allowed");
        }
        if text.contains("..") || text.contains("@{") || text.ends_with('.') {
            return refused("`..`, `@{` and a dot at the end are not allowed");
        }
        let is_component =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.as_bytes().ends_with(b".lock");
        if !text.split('/').all(is_component) {
            return refused("its parts must not be empty, begin with a dot or end in `.lock`");
        }
        Ok(Self(text.into()))
    }
}

impl RefName {
    /// Takes the name of a branch.
    pub fn branch(name: &str) -> Result<Self, NameError> {
        name.parse().map(Self::Branch)?.within_limit()
    }

    /// Takes the name of a tag.
    pub fn tag(name: &str) -> Result<Self, NameError> {
        name.parse().map(Self::Tag)?.within_limit()
    }

    /// Whether this is a tag, which is written once.
    pub const fn is_tag(&self) -> bool {
        matches!(self, Self::Tag(_))
    }

    /// The form that records use: `branch NAME`, `tag NAME`, `commit HEX`.
    pub fn to_record(&self) -> String {
        let (kind, name) = self.parts();
        format!("{kind} {name}")
    }

    /// Reads the form that records use.
    pub fn from_record(text: &str) -> Result<Self, NameError> {
        let (kind, name) = text.split_once(' ').ok_or_else(|| NameError::new(WHAT, FORMS, text))?;
        Self::from_parts(kind, name, text)
    }

    /// The form that URLs use: one segment, the kind and its colon as they are, the name percent-encoded.
    pub fn to_url_segment(&self) -> String {
        let (kind, name) = self.parts();
        format!("{kind}:{}", encode_segment(&name))
    }

    fn from_parts(kind: &str, name: &str, whole: &str) -> Result<Self, NameError> {
        match kind {
            "branch" => Self::branch(name),
            "tag" => Self::tag(name),
            "commit" => match name.parse() {
                Ok(commit) => Ok(Self::Commit(commit)),
                Err(_) => Err(NameError::new("a commit", "expected 40 lower-case hexadecimal digits", name)),
            },
            _ => Err(NameError::new(WHAT, FORMS, whole)),
        }
    }

    fn parts(&self) -> (&'static str, String) {
        match self {
            Self::Branch(name) => ("branch", name.to_string()),
            Self::Tag(name) => ("tag", name.to_string()),
            Self::Commit(id) => ("commit", id.to_string()),
        }
    }

    fn within_limit(self) -> Result<Self, NameError> {
        let text = self.to_record();
        if text.len() <= REF_BYTES_MAX { Ok(self) } else { Err(NameError::new(WHAT, FORMS, &text)) }
    }
}

/// The form that people type: `branch:NAME`, `tag:NAME`, `commit:HEX`.
impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.parts();
        write!(f, "{kind}:{name}")
    }
}

impl fmt::Debug for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefName({self})")
    }
}

impl FromStr for RefName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (kind, name) = text.split_once(':').ok_or_else(|| NameError::new(WHAT, FORMS, text))?;
        Self::from_parts(kind, name, text)
    }
}

/// Refs are sorted as their record forms are: by bytes.
impl Ord for RefName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_record().cmp(&other.to_record())
    }
}

impl PartialOrd for RefName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

pub(super) fn encode_segment(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Decodes a segment of a URL. A percent sign that does not begin an escape is refused rather than taken as itself.
pub(super) fn decode_segment(what: &'static str, segment: &str) -> Result<String, NameError> {
    let refused = || NameError::new(what, "expected one percent-encoded segment of a URL, in UTF-8", segment);
    let is_escape =
        |part: &str| part.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if segment.contains('/') || !segment.split('%').skip(1).all(is_escape) {
        return Err(refused());
    }
    Ok(percent_decode_str(segment).decode_utf8().map_err(|_| refused())?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(name: &str, good: bool) {
        assert_eq!(RefName::branch(name).is_ok(), good, "{name:?}");
        assert_eq!(name.parse::<RefText>().is_ok(), good || name.len() == 249, "{name:?}");
    }

    #[test]
    fn names_are_those_that_git_allows() {
        for good in ["main", "v2.1", "feature/x", "a@b", "@", "x@2026-11-01", "-x", "größe", "release/25.11"]
        {
            check(good, true);
        }
        for wrong in [
            "", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a..b", "a.", "a b", "a\tb",
            "a\u{a0}b", "a\u{85}b", "a\0b", "a\x7fb", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a@{1}",
            "a\nb",
        ] {
            check(wrong, false);
        }
        check(&"a".repeat(248), true);
        check(&"a".repeat(249), false);
        check(&"a".repeat(256), false);
    }

    #[test]
    fn each_form_is_read_back() {
        let hex = "0123456789abcdef0123456789abcdef01234567";
        for (record, typed, segment) in [
            ("branch feature/x", "branch:feature/x", "branch:feature%2Fx"),
            ("tag v2.1", "tag:v2.1", "tag:v2.1"),
            (&format!("commit {hex}"), &format!("commit:{hex}"), &format!("commit:{hex}")),
        ] {
            let name = RefName::from_record(record).unwrap();
            assert_eq!(name.to_record(), record);
            assert_eq!(name.to_string(), typed);
            assert_eq!(typed.parse(), Ok(name.clone()));
            assert_eq!(name.to_url_segment(), segment);
            assert_eq!(decode_segment(WHAT, segment).unwrap().parse(), Ok(name));
        }
        for wrong in ["main", "branch", "branch  a", "commit abc", "head main", "tag:v1", &hex.to_uppercase()]
        {
            assert!(RefName::from_record(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn segments_come_back(text in ".{0,40}") {
            prop_assert_eq!(decode_segment(WHAT, &encode_segment(&text)), Ok(text));
        }
    }
}
