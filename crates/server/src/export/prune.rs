//! What goes from an export, and when.
//!
//! A reader that was told of a file may still be reading it when the next export no longer speaks of it. So a file is
//! noted when that happens first, and goes after a grace. Only files that an export writes are ever touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Where files of an export lie that may become superfluous.
const OURS: [&str; 7] = ["bundle/", "pack/", "page/", "tile/", "v1/delta/", "v1/root/", "v1/update/"];

/// What becomes of files that nothing speaks of.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Outcome {
    /// They go.
    pub(super) removed: Vec<String>,
    /// They stay, and since when nothing has spoken of them.
    pub(super) noted: BTreeMap<String, u64>,
}

/// Decides what goes of the files that are `present`: nothing without a grace.
pub(super) fn decide<'a>(
    present: impl Iterator<Item = &'a str>,
    expected: &BTreeSet<String>,
    noted: &BTreeMap<String, u64>,
    now: u64,
    grace: Option<u64>,
) -> Outcome {
    let mut outcome = Outcome::default();
    for path in present {
        if expected.contains(path) || !OURS.iter().any(|ours| path.starts_with(ours)) {
            continue;
        }
        // A clock that was set back does not make the grace longer than it is.
        let since = noted.get(path).copied().unwrap_or(now).min(now);
        if grace.is_some_and(|grace| now - since >= grace) {
            outcome.removed.push(path.to_owned());
        } else {
            outcome.noted.insert(path.to_owned(), since);
        }
    }
    outcome
}

/// The list as it is kept: a line for each file, with the time and the path. What is no such line is passed over, and
/// its file noted anew.
pub(super) fn read(bytes: Option<&[u8]>) -> BTreeMap<String, u64> {
    let text = String::from_utf8_lossy(bytes.unwrap_or_default());
    let line = |line: &str| {
        let (time, path) = line.split_once(' ')?;
        Some((path.to_owned(), time.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// The list as it is kept.
pub(super) fn write(noted: &BTreeMap<String, u64>) -> String {
    noted.iter().fold(String::new(), |mut text, (path, since)| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{since} {path}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(noted: &[(&str, u64)], now: u64, grace: Option<u64>, removed: &[&str], kept: &[(&str, u64)]) {
        let present = ["checkpoint", "index.html", "pack/old", "pack/new", "tile/0/000.p/4"];
        let expected = ["checkpoint", "pack/new"].map(ToOwned::to_owned).into();
        let map = |pairs: &[(&str, u64)]| {
            pairs.iter().map(|(path, time)| ((*path).to_owned(), *time)).collect::<BTreeMap<_, _>>()
        };
        let outcome = decide(present.into_iter(), &expected, &map(noted), now, grace);
        assert_eq!(
            (outcome.removed, &outcome.noted),
            (removed.iter().map(ToString::to_string).collect(), &map(kept))
        );
        assert_eq!(read(Some(write(&outcome.noted).as_bytes())), outcome.noted);
    }

    #[test]
    fn a_file_goes_a_grace_after_nothing_speaks_of_it_any_more() {
        let both = |time| [("pack/old", time), ("tile/0/000.p/4", time)];
        check(&[], 100, None, &[], &both(100));
        check(&[], 100, Some(50), &[], &both(100));
        check(&both(100), 149, Some(50), &[], &both(100));
        check(&both(100), 150, None, &[], &both(100));
        check(&both(100), 150, Some(50), &["pack/old", "tile/0/000.p/4"], &[]);
        check(&[("pack/old", 100)], 150, Some(50), &["pack/old"], &[("tile/0/000.p/4", 150)]);
        check(&[], 100, Some(0), &["pack/old", "tile/0/000.p/4"], &[]);
        // The clock was wrong.
        check(&both(1000), 100, Some(50), &[], &both(100));
        // A file that is spoken of again is forgotten.
        check(&[("pack/new", 1)], 100, Some(100), &[], &both(100));
    }

    #[test]
    fn a_list_that_was_damaged_is_begun_anew() {
        assert_eq!(read(Some(b"x pack/a\n5\n\xff\n7 pack/b\n")), BTreeMap::from([("pack/b".to_owned(), 7)]));
        assert_eq!(read(None), BTreeMap::new());
    }
}
