//! Whether what an upstream has now can follow what it had before. Pure.
//!
//! An upstream that was emptied, set back or taken over still answers. What it has then is not published: what is served
//! stays as it is until a person has looked, and says that this is meant.

use std::collections::BTreeMap;

use smart_sync_store::count::counted;

/// Fewer things than these say nothing by becoming fewer.
const HANDFUL: usize = 8;
/// The most reasons that are said one by one.
const REASONS_MAX: usize = 10;

/// What an upstream has, as far as it is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How many files.
    pub(super) files: usize,
    /// How far it is with each thing.
    pub(super) marks: BTreeMap<String, u64>,
}

/// Why what there is now does not follow what was accepted before; nothing where it does.
pub(super) fn reasons(before: &Seen, now: &Seen) -> Vec<String> {
    let mut reasons = Vec::new();
    let has_shrunk = |before: usize, now: usize| before > HANDFUL && now * 4 < before * 3;
    if has_shrunk(before.files, now.files) {
        let had = counted(before.files as u64, "file", "files");
        reasons.push(format!("upstream had {had}, and has {}", now.files));
    }
    for (name, mark) in &before.marks {
        match now.marks.get(name) {
            None => reasons.push(format!("{name} is gone; it was at {mark}")),
            Some(now) if now < mark => reasons.push(format!("{name} went back from {mark} to {now}")),
            Some(_) => {}
        }
    }
    if let Some(more) = reasons.len().checked_sub(REASONS_MAX).filter(|more| *more > 0) {
        reasons.truncate(REASONS_MAX);
        reasons.push(format!("and {more} more"));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(files: usize, marks: &[(&str, u64)]) -> Seen {
        Seen { files, marks: marks.iter().map(|(name, mark)| ((*name).to_owned(), *mark)).collect() }
    }

    #[track_caller]
    fn check(before: &Seen, now: &Seen, expected: &[&str]) {
        assert_eq!(reasons(before, now), expected);
    }

    #[test]
    fn an_upstream_that_grows_is_not_held() {
        check(&Seen::default(), &seen(100, &[("amd64", 5)]), &[]);
        check(&seen(100, &[("amd64", 5)]), &seen(75, &[("amd64", 5), ("arm64", 1)]), &[]);
        check(&seen(8, &[]), &seen(0, &[]), &[]);
    }

    #[test]
    fn one_that_shrinks_or_goes_back_is() {
        check(&seen(100, &[]), &seen(74, &[]), &["upstream had 100 files, and has 74"]);
        check(&seen(9, &[]), &seen(0, &[]), &["upstream had 9 files, and has 0"]);
        check(
            &seen(1, &[("amd64", 5), ("arm64", 7), ("x86", 1)]),
            &seen(1, &[("amd64", 4), ("x86", 1)]),
            &["amd64 went back from 5 to 4", "arm64 is gone; it was at 7"],
        );
        let many: Vec<(String, u64)> = (0..30).map(|number| (format!("n{number:02}"), 1)).collect();
        let marks: Vec<(&str, u64)> = many.iter().map(|(name, mark)| (&**name, *mark)).collect();
        let reasons = reasons(&seen(1, &marks), &seen(1, &[]));
        assert_eq!((reasons.len(), reasons.last().map(String::as_str)), (11, Some("and 20 more")));
    }

    proptest! {
        #[test]
        fn what_stays_or_grows_is_never_held(
            files in 0..10_000usize, more in 0..10_000usize,
            marks in prop::collection::btree_map("[a-z]{1,3}", 0..100u64, 0..10), ahead in 0..100u64,
        ) {
            let before = Seen { files, marks: marks.clone() };
            let marks = marks.into_iter().map(|(name, mark)| (name, mark + ahead)).collect();
            prop_assert_eq!(reasons(&before, &Seen { files: files + more, marks }), Vec::<String>::new());
        }
    }
}
