//! What `--ref` asks for.
//!
//! One text stands for a branch, a tag or a commit, in git's spellings and in those of a smart-sync URL, and
//! perhaps for a date. The text is parsed once, here; who resolves it sees which of these it is.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use smart_sync_store::id::CommitId;
use smart_sync_store::manifest::path::Shown;

/// The longest name of a ref, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// The shortest abbreviation of a commit id that git takes.
const ABBREVIATION_MIN: usize = 4;

/// What a ref is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefTarget {
    /// A branch, else a tag, else, if it can be one, the beginning of a commit id.
    Any(String),
    /// A branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// A commit by its whole id.
    Commit(CommitId),
    /// A ref outside branches and tags, without `refs/` in front.
    Other(String),
}

/// What is asked for: a ref, and perhaps as of when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedRef {
    /// The ref.
    pub target: RefTarget,
    /// The last second that counts.
    pub at: Option<Timestamp>,
}

/// A text that is not the name of a ref.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not the name of a ref: {reason}")]
pub struct ParseRefError {
    shown: String,
    reason: &'static str,
}

impl RequestedRef {
    /// What is followed when nobody says anything else.
    pub fn main() -> Self {
        Self { target: RefTarget::Any("main".to_owned()), at: None }
    }
}

impl FromStr for RequestedRef {
    type Err = ParseRefError;

    fn from_str(text: &str) -> Result<Self, ParseRefError> {
        let (name, at) = match text.rsplit_once('@') {
            Some((name, date)) => match parse_date(date) {
                Some(at) => (name, Some(at)),
                None => (text, None),
            },
            None => (text, None),
        };
        let refused = |reason| ParseRefError { shown: Shown(text.as_bytes()).to_string(), reason };
        Ok(Self { target: parse_target(name).map_err(refused)?, at })
    }
}

impl fmt::Display for RequestedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            RefTarget::Any(name) => f.write_str(name)?,
            RefTarget::Branch(name) => write!(f, "branch:{name}")?,
            RefTarget::Tag(name) => write!(f, "tag:{name}")?,
            RefTarget::Commit(id) => write!(f, "commit:{id}")?,
            RefTarget::Other(name) => write!(f, "refs/{name}")?,
        }
        match self.at {
            Some(at) => write!(f, "@{at}"),
            None => Ok(()),
        }
    }
}

/// Whether a name may also be the beginning of a commit id.
pub fn is_abbreviation(name: &str) -> bool {
    (ABBREVIATION_MIN..40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A date means its whole day, a time without an offset means UTC.
fn parse_date(text: &str) -> Option<Timestamp> {
    // The date parser would take more than a date; what has no date in front is part of the name.
    let looks_like_a_date = text.len() >= 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    if !looks_like_a_date {
        return None;
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let end = if text.len() == 10 {
        text.parse::<Date>().ok()?.at(23, 59, 59, 0)
    } else {
        text.parse::<DateTime>().ok()?
    };
    TimeZone::UTC.to_timestamp(end).ok()
}

fn parse_target(name: &str) -> Result<RefTarget, &'static str> {
    if let Some(hex) = name.strip_prefix("commit:") {
        return hex.parse().map(RefTarget::Commit).map_err(|_| "a commit is named by 40 hexadecimal digits");
    }
    if let Ok(id) = name.to_ascii_lowercase().parse() {
        return Ok(RefTarget::Commit(id));
    }
    let named = |name: &str, make: fn(String) -> RefTarget| check_name(name).map(|()| make(name.to_owned()));
    if let Some(branch) = name.strip_prefix("branch:").or_else(|| name.strip_prefix("refs/heads/")) {
        named(branch, RefTarget::Branch)
    } else if let Some(tag) = name.strip_prefix("tag:").or_else(|| name.strip_prefix("refs/tags/")) {
        named(tag, RefTarget::Tag)
    } else if let Some(other) = name.strip_prefix("refs/") {
        named(other, RefTarget::Other)
    } else {
        named(name, RefTarget::Any)
    }
}

/// The rules of `git check-ref-format`, and no white space.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("it is longer than 255 bytes");
    }
    if name.starts_with('-') {
        return Err("it begins with `-`");
    }
    if name.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Err("it holds white space or a control character");
    }
    if name.contains(['~', '^', ':', '?', '*', '[', '\\']) || name.contains("@{") || name == "@" {
        return Err("it holds one of ~ ^ : ? * [ \\ @{");
    }
    if name.contains("..") || name.ends_with('.') {
        return Err("it holds `..` or ends in `.`");
    }
    // Git takes `.LOCK`, so this is no question of the extension.
    let is_lock = |part: &str| part.as_bytes().ends_with(b".lock");
    let is_bad = |part: &str| part.is_empty() || part.starts_with('.') || is_lock(part);
    if name.split('/').any(is_bad) {
        return Err("a part between slashes is empty, begins with `.` or ends in `.lock`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match text.parse::<RequestedRef>() {
            Ok(found) => {
                format!("{:?} {}", found.target, found.at.map_or_else(String::new, |at| at.to_string()))
            }
            Err(error) => error.reason.to_owned(),
        };
        assert_eq!(found.trim(), expected, "{text:?}");
    }

    #[test]
    fn every_spelling_of_a_ref_is_understood() {
        let id = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        check("main", "Any(\"main\")");
        check("v2.1", "Any(\"v2.1\")");
        check("deadbeef", "Any(\"deadbeef\")");
        check("feature/a@b", "Any(\"feature/a@b\")");
        check("branch:tag", "Branch(\"tag\")");
        check("refs/heads/a/b", "Branch(\"a/b\")");
        check("tag:v1", "Tag(\"v1\")");
        check("refs/tags/v1", "Tag(\"v1\")");
        check("refs/pull/7/head", "Other(\"pull/7/head\")");
        check(id, &format!("Commit(CommitId({id}))"));
        check(&id.to_uppercase(), &format!("Commit(CommitId({id}))"));
        check(&format!("commit:{id}"), &format!("Commit(CommitId({id}))"));
    }

    #[test]
    fn a_date_follows_the_last_at_sign_if_it_is_one() {
        check("main@2026-11-01", "Any(\"main\") 2026-11-01T23:59:59Z");
        check("main@2026-11-01T12:00", "Any(\"main\") 2026-11-01T12:00:00Z");
        check("main@2026-11-01T12:00:30+02:00", "Any(\"main\") 2026-11-01T10:00:30Z");
        check("a@b@2026-11-01", "Any(\"a@b\") 2026-11-01T23:59:59Z");
        check("main@2026-13-01", "Any(\"main@2026-13-01\")");
        check("main@yesterday", "Any(\"main@yesterday\")");
        check("main@2026-11-0é", "Any(\"main@2026-11-0é\")");
    }

    #[test]
    fn what_git_would_not_take_is_refused() {
        for name in
            ["", "a b", "a..b", "a~1", "a^", "a:b", "a?", "*", "[", "a\\b", "a.lock", ".a", "a/.b", "a//b"]
        {
            assert!(name.parse::<RequestedRef>().is_err(), "{name:?}");
        }
        for name in ["/a", "a/", "a.", "@", "a@{1}", "-a", "a\nb", "a\u{1b}[31m", "refs/", "commit:main"] {
            assert!(name.parse::<RequestedRef>().is_err(), "{name:?}");
        }
        assert!("a".repeat(256).parse::<RequestedRef>().is_err());
        let error = "a\u{1b}[31m".parse::<RequestedRef>().unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
    }

    #[test]
    fn only_hexadecimal_names_may_be_abbreviated_commits() {
        assert!(is_abbreviation("dead"));
        assert!(!is_abbreviation("dea"));
        assert!(!is_abbreviation("main"));
    }
}
