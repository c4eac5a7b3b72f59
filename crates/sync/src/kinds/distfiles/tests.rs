//! What becomes of distfiles that are published and not in the directory.

use std::cell::Cell;
use std::collections::BTreeSet;

use smart_sync_store::content::name_content;

use super::*;
use crate::kinds::retired::GRACE_SECONDS;

const NOW: u64 = 1_000_000_000;

fn current(names: &[&str], retired: &[(&str, u64)]) -> Current {
    let dist = Dist { size: 1, blake2b: [1; 64], sha512: [2; 64] };
    let files = names.iter().map(|name| ((*name).to_owned(), (dist, name_content(name.as_bytes()))));
    let retired = retired.iter().map(|(name, since)| (tree_path(name).unwrap(), *since));
    Current { files: files.collect(), retired: retired.collect() }
}

/// What stays, `NAME` or `NAME since SECONDS`, and how many because they are needed and because nobody has asked.
fn kept(current: Current, absent: Absent, needed: Option<&[&str]>) -> (Vec<String>, u64, u64) {
    let ask = || Ok(needed.into_iter().flatten().map(|name| (*name).to_owned()).collect());
    let mut files = Files::new();
    let asked: Option<Needed<'_>> = needed.is_some().then_some(&ask as Needed<'_>);
    let staying = keep(&mut files, current, absent, asked, UnixTime::new(NOW).unwrap()).unwrap();
    let shown = files.keys().map(|name| match staying.retired.get(&tree_path(name).unwrap()) {
        Some(since) => format!("{name} since {since}"),
        None => name.clone(),
    });
    (shown.collect(), staying.needed, staying.overdue)
}

#[test]
fn what_a_kept_tree_names_never_goes() {
    let over = NOW - GRACE_SECONDS;
    let published = || current(&["a", "b", "c", "d"], &[("a", over), ("b", over), ("c", over + 1)]);
    let now = format!("d since {NOW}");
    let since_then = format!("c since {}", over + 1);
    for (absent, needed, expected) in [
        (Absent::Goes, Some(&["a", "d"][..]), (vec!["a", &*since_then, "d"], 2, 0)),
        (Absent::Goes, Some(&[]), (vec![&*since_then, &*now], 0, 0)),
        (Absent::Stays, Some(&["b", "x"]), (vec!["b", &*since_then, "d"], 1, 0)),
    ] {
        let (names, count, overdue) = kept(published(), absent, needed);
        assert_eq!((names.iter().map(String::as_str).collect(), count, overdue), expected, "{needed:?}");
    }
}

#[test]
fn nothing_goes_as_long_as_nobody_has_asked_what_is_needed() {
    let over = NOW - GRACE_SECONDS;
    let (names, needed, overdue) = kept(current(&["a", "b"], &[("a", over)]), Absent::Goes, None);
    assert_eq!(names, [format!("a since {over}"), format!("b since {NOW}")]);
    assert_eq!((needed, overdue), (0, 1));
}

#[test]
fn it_is_asked_once_and_only_where_something_would_go() {
    let asked = Cell::new(0);
    let ask = || {
        asked.set(asked.get() + 1);
        Ok(BTreeSet::new())
    };
    let now = UnixTime::new(NOW).unwrap();
    keep(&mut Files::new(), current(&["a", "b"], &[]), Absent::Stays, Some(&ask), now).unwrap();
    assert_eq!(asked.get(), 0);
    keep(&mut Files::new(), current(&["a", "b"], &[]), Absent::Goes, Some(&ask), now).unwrap();
    assert_eq!(asked.get(), 1);
    let failing =
        || -> Result<BTreeSet<String>, KindError> { Err(KindError::Unread("no server".to_owned())) };
    assert!(keep(&mut Files::new(), current(&["a"], &[]), Absent::Goes, Some(&failing), now).is_err());
}
