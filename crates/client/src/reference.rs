//! What `--ref` asks for, in git's spellings too.
//!
//! The names themselves are those of [`smart_sync_sync::name`]; here is only what people carry over from git:
//! `refs/heads/…`, `refs/tags/…`, and commit ids in upper case.

use smart_sync_store::id::CommitId;
use smart_sync_sync::name::{NameError, RefQuery};
use smart_sync_sync::time::UnixTime;

/// The shortest abbreviation of a commit id that git takes.
const ABBREVIATION_MIN: usize = 4;

/// Parses what stands after `--ref`.
pub fn parse(text: &str) -> Result<RefQuery, NameError> {
    if let Some(branch) = text.strip_prefix("refs/heads/") {
        return format!("branch:{branch}").parse();
    }
    if let Some(tag) = text.strip_prefix("refs/tags/") {
        return format!("tag:{tag}").parse();
    }
    match text.to_ascii_lowercase() {
        id if id.parse::<CommitId>().is_ok() => id.parse(),
        _ => text.parse(),
    }
}

/// Parses what stands after `--at`.
pub fn parse_time(text: &str) -> Result<UnixTime, &'static str> {
    UnixTime::parse_typed(text).ok_or("a date such as 2026-11-01, or a time such as 2026-11-01T12:00Z")
}

/// What is followed when nobody says anything else.
pub fn main() -> RefQuery {
    "main".parse().expect("`main` is the name of a branch")
}

/// Whether a name may also be the beginning of a commit id.
pub fn is_abbreviation(name: &str) -> bool {
    (ABBREVIATION_MIN..40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(parse(text).map(|query| query.to_string()).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn spellings_of_git_are_understood() {
        let id = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        check("main", "main");
        check("refs/heads/a/b", "branch:a/b");
        check("refs/tags/v1@2026-11-01", "tag:v1@2026-11-01T23:59:59Z");
        check("refs/pull/7/head", "refs/pull/7/head");
        check(id, &format!("commit:{id}"));
        check(&id.to_uppercase(), &format!("commit:{id}"));
        check("DEADBEEF", "DEADBEEF");
        for wrong in ["", "a b", "a..b", "refs/heads/", "a\u{1b}[31m"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_hexadecimal_names_may_be_abbreviated_commits() {
        assert!(is_abbreviation("dead"));
        assert!(!is_abbreviation("dea"));
        assert!(!is_abbreviation("main"));
    }
}
