//! Refs as people type them: `main`, `tag:v2.1`, `main@2026-11-01`.
//!
//! A name without its kind is a question with several possible answers. It is settled by asking for each candidate
//! in turn and believing "there is none" only where it is proven, so that nobody on the way can pass off a tag as
//! the branch of the same name.

use std::fmt;
use std::str::FromStr;

use super::refs::{decode_segment, encode_segment};
use super::{NameError, RefName, RefText};
use crate::time::UnixTime;

/// A ref with or without its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypedRef {
    /// With its kind.
    Exact(RefName),
    /// Without: a branch or a tag.
    Bare(RefText),
}

/// What stands after `--ref`: a ref, and the date that it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefQuery {
    /// The ref.
    pub reference: TypedRef,
    /// The last second that counts; none asks for what is current.
    pub at: Option<UnixTime>,
}

impl TypedRef {
    /// The refs that may be meant, in the order in which they are to be asked for.
    pub fn candidates(&self) -> Vec<RefName> {
        match self {
            Self::Exact(name) => vec![name.clone()],
            Self::Bare(name) => {
                [RefName::branch(name.as_str()), RefName::tag(name.as_str())].into_iter().flatten().collect()
            }
        }
    }
}

/// Forty hexadecimal digits are a commit, as for git; a branch of such a name has to be typed as `branch:…`.
impl FromStr for TypedRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            return text.parse().map(Self::Exact);
        }
        if let Ok(commit) = text.parse() {
            return Ok(Self::Exact(RefName::Commit(commit)));
        }
        RefName::branch(text)?;
        text.parse().map(Self::Bare)
    }
}

impl fmt::Display for TypedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Bare(name) => write!(f, "{name}"),
        }
    }
}

impl RefQuery {
    /// The form that URLs use: one segment.
    pub fn to_url_segment(&self) -> String {
        let reference = match &self.reference {
            TypedRef::Exact(name) => name.to_url_segment(),
            TypedRef::Bare(name) => encode_segment(name.as_str()),
        };
        match self.at {
            Some(at) => format!("{reference}@{}", encode_segment(&at.to_string())),
            None => reference,
        }
    }

    /// Reads one segment of a URL.
    pub fn from_url_segment(segment: &str) -> Result<Self, NameError> {
        decode_segment("a ref", segment)?.parse()
    }
}

/// A date follows the last `@` if it parses as one; otherwise the `@` belongs to the name.
impl FromStr for RefQuery {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some((reference, date)) = text.rsplit_once('@')
            && let Some(at) = UnixTime::parse_typed(date)
        {
            return Ok(Self { reference: reference.parse()?, at: Some(at) });
        }
        Ok(Self { reference: text.parse()?, at: None })
    }
}

impl fmt::Display for RefQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reference)?;
        match self.at {
            Some(at) => write!(f, "@{at}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef01234567";

    #[track_caller]
    fn check(text: &str, candidates: &[&str], at: Option<&str>) {
        let query: RefQuery = text.parse().unwrap();
        let found: Vec<_> = query.reference.candidates().iter().map(ToString::to_string).collect();
        assert_eq!(found, candidates, "{text}");
        assert_eq!(query.at.map(|at| at.to_string()).as_deref(), at, "{text}");
        assert_eq!(RefQuery::from_url_segment(&query.to_url_segment()), Ok(query), "{text}");
    }

    #[test]
    fn a_name_without_its_kind_has_candidates_and_a_date_follows_the_last_at() {
        check("main", &["branch:main", "tag:main"], None);
        check("tag:v2.1", &["tag:v2.1"], None);
        check(HEX, &[&format!("commit:{HEX}")], None);
        check(&HEX[..12], &[&format!("branch:{}", &HEX[..12]), &format!("tag:{}", &HEX[..12])], None);
        check("main@2026-11-01", &["branch:main", "tag:main"], Some("2026-11-01T23:59:59Z"));
        check("branch:a/b@2026-11-01T08:00:00+01:00", &["branch:a/b"], Some("2026-11-01T07:00:00Z"));
        check("a@b", &["branch:a@b", "tag:a@b"], None);
        check("a@b@2026-11-01", &["branch:a@b", "tag:a@b"], Some("2026-11-01T23:59:59Z"));
    }

    #[test]
    fn what_is_no_ref_is_refused() {
        for wrong in ["", "@2026-11-01", "head:main", "a b", "commit:abc", "branch:", "a..b"] {
            assert!(wrong.parse::<RefQuery>().is_err(), "{wrong:?}");
        }
    }
}
