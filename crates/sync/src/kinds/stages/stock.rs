//! Which builds a tree has: those of the directory and those that were published, and the newest of them.

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::manifest::{Content, TreePath};

use super::name::{Beside, Medium, Place, Series, Stamp};
use crate::kinds::KindError;
use crate::source::assembled::Part;

/// A file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) part: Part,
    pub(super) size: u64,
}

/// Media with what lies beside them.
pub(super) type Stock = BTreeMap<Medium, BTreeMap<Beside, Kept>>;

/// The media of the tree that is published.
pub(super) fn published(files: &BTreeMap<TreePath, Content>) -> Stock {
    let mut stock = Stock::new();
    for (path, content) in files {
        if let Some(Place::Medium { medium, beside, is_copy: false }) = Place::parse(path) {
            let kept = Kept { part: Part::Published(*content), size: content.size };
            stock.entry(medium).or_default().insert(beside, kept);
        }
    }
    stock.retain(|_, files| files.contains_key(&Beside::Itself));
    stock
}

/// The builds of each series, by their times.
pub(super) fn builds(stock: &Stock) -> BTreeMap<Series, BTreeSet<Stamp>> {
    let mut builds: BTreeMap<Series, BTreeSet<Stamp>> = BTreeMap::new();
    for medium in stock.keys() {
        builds.entry(medium.series()).or_default().insert(medium.name.stamp.clone());
    }
    builds
}

/// Takes out all but the newest builds of each series and those that a text names; how many went.
pub(super) fn drop_old(stock: &mut Stock, named: &BTreeSet<(Series, Stamp)>, newest: usize) -> u64 {
    let mut gone = 0;
    for (series, stamps) in builds(stock) {
        for stamp in stamps.iter().rev().skip(newest.max(1)) {
            if !named.contains(&(series.clone(), stamp.clone())) {
                stock.retain(|medium, _| medium.series() != series || medium.name.stamp != *stamp);
                gone += 1;
            }
        }
    }
    gone
}

/// The build of each series that is its newest: the one that a text names, or that of the latest time.
pub(super) fn newest(stock: &Stock, named: &BTreeSet<(Series, Stamp)>) -> BTreeMap<Series, Stamp> {
    let mut newest: BTreeMap<Series, Stamp> = BTreeMap::new();
    for (series, stamps) in builds(stock) {
        newest.extend(stamps.last().map(|stamp| (series, stamp.clone())));
    }
    for (series, stamp) in named {
        if newest.contains_key(series) {
            newest.insert(series.clone(), stamp.clone());
        }
    }
    newest
}

/// The files of a tree, each of the newest builds twice.
pub(super) fn parts(
    stock: &Stock,
    newest: &BTreeMap<Series, Stamp>,
) -> Result<BTreeMap<TreePath, Part>, KindError> {
    let mut parts = BTreeMap::new();
    for (medium, files) in stock {
        let is_newest = newest.get(&medium.series()) == Some(&medium.name.stamp);
        for (beside, kept) in files {
            parts.insert(medium.path(*beside)?, kept.part.clone());
            if is_newest {
                parts.insert(medium.current_path(*beside)?, kept.part.clone());
            }
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::super::name::MediumName;
    use super::*;

    fn medium(name: &str) -> Medium {
        Medium { area: "amd64/autobuilds".to_owned(), name: MediumName::parse(name).expect("a name") }
    }

    fn stock(names: &[&str]) -> Stock {
        let kept = || Kept { part: Part::Made(Box::default()), size: 0 };
        names.iter().map(|name| (medium(name), [(Beside::Itself, kept())].into())).collect()
    }

    fn build(name: &str) -> (Series, Stamp) {
        let medium = medium(name);
        (medium.series(), medium.name.stamp)
    }

    #[test]
    fn the_newest_builds_of_each_series_stay_and_those_that_a_text_names() {
        let all = ["a-20260101.iso", "a-20260102.iso", "a-20260103.iso", "a-20260104.iso", "b-20250101.iso"];
        let check = |newest: usize, named: &[&str], expected: &[&str]| {
            let mut left = stock(&all);
            let named = named.iter().map(|name| build(name)).collect();
            let gone = drop_old(&mut left, &named, newest);
            assert_eq!(left, stock(expected), "{newest}");
            assert_eq!(gone, (all.len() - expected.len()) as u64);
        };
        check(4, &[], &all);
        check(2, &[], &all[2..]);
        check(1, &["a-20260101.iso"], &[all[0], all[3], all[4]]);
        check(0, &[], &all[3..]);
    }

    #[test]
    fn the_files_of_the_newest_build_are_there_twice() {
        let stock = stock(&["a-20260101.iso", "a-20260102.iso", "a-20260102.tar.xz"]);
        let paths = |named: &[&str]| {
            let named = named.iter().map(|name| build(name)).collect();
            let parts = parts(&stock, &newest(&stock, &named)).expect("paths");
            let current = parts.keys().map(ToString::to_string).filter(|path| path.contains("current"));
            (parts.len(), current.collect::<Vec<_>>())
        };
        let [iso, tar] = ["iso", "tar.xz"].map(|end| format!("amd64/autobuilds/current-a/a-20260102.{end}"));
        assert_eq!(paths(&[]), (5, vec![iso, tar]));
        assert_eq!(
            paths(&["a-20260101.iso"]),
            (4, vec!["amd64/autobuilds/current-a/a-20260101.iso".to_owned()])
        );
        assert_eq!(paths(&["other-20260101.iso"]).0, 5);
    }
}
