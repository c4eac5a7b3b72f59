//! Comparing manifests.

use std::collections::BTreeMap;

use proptest::prelude::*;
use smart_sync_store::manifest::{Change, Entry, Fidelity, TreePath, diff};

use crate::tree::*;

/// Compares two trees and counts the pages that were read.
fn changes(old: &[Entry], new: &[Entry]) -> (Vec<Change>, usize) {
    let (old, new) = (manifest(Fidelity::Git, old), manifest(Fidelity::Git, new));
    old.source().reads.set(0);
    new.source().reads.set(0);
    let changes = diff(&old, &new).map(Result::unwrap).collect();
    (changes, old.source().reads.get() + new.source().reads.get())
}

/// What a comparison of all entries gives.
fn expected_changes(old: &[Entry], new: &[Entry]) -> Vec<Change> {
    let mut both: BTreeMap<&TreePath, (Option<&Entry>, Option<&Entry>)> = BTreeMap::new();
    for entry in old {
        both.entry(&entry.path).or_default().0 = Some(entry);
    }
    for entry in new {
        both.entry(&entry.path).or_default().1 = Some(entry);
    }
    both.into_values()
        .filter_map(|pair| match pair {
            (Some(old), Some(new)) if old == new => None,
            (Some(old), Some(new)) => Some(Change::Changed { old: old.clone(), new: new.clone() }),
            (Some(old), None) => Some(Change::Removed(old.clone())),
            (None, new) => new.cloned().map(Change::Added),
        })
        .collect()
}

#[test]
fn the_cost_follows_the_change_and_not_the_tree() {
    let old = many_files(200_000);
    let mut new = old.clone();
    for at in [3, 40_000, 40_001, 150_000, 199_999] {
        new[at] = file(std::str::from_utf8(old[at].path.as_bytes()).unwrap(), 1 << 40);
    }
    let (found, pages) = changes(&old, &new);
    assert_eq!(found, expected_changes(&old, &new));
    // Five paths of at most four levels in each manifest.
    assert!(pages <= 2 * 5 * 4, "{pages} pages read");
    assert_eq!(changes(&old, &old).1, 0);
}

#[test]
fn insertions_and_deletions_cost_little_too() {
    let old = many_files(200_000);
    let mut new = old.clone();
    new.drain(100_000..100_300);
    new.extend((0..300).map(|n| file(&format!("src/new/{n}"), n)));
    new.sort_by(|a, b| a.path.cmp(&b.path));
    let (found, pages) = changes(&old, &new);
    assert_eq!(found, expected_changes(&old, &new));
    assert!(pages <= 100, "{pages} pages read");
}

#[test]
fn trees_of_different_depth_are_compared() {
    let large = many_files(30_000);
    let small: Vec<Entry> = large[15_000..15_010].to_vec();
    for (old, new) in [(&large, &small), (&small, &large), (&large, &Vec::new())] {
        assert_eq!(changes(old, new).0, expected_changes(old, new));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_diff_is_what_comparing_all_entries_gives(old in git_entries(400), new in git_entries(400)) {
        prop_assert_eq!(changes(&old, &new).0, expected_changes(&old, &new));
    }

    #[test]
    fn applying_a_diff_gives_the_new_manifest_whatever_the_history(old in git_entries(400), edits in git_entries(40)) {
        let mut tree: BTreeMap<TreePath, Entry> = old.iter().map(|entry| (entry.path.clone(), entry.clone())).collect();
        for edit in edits {
            // Only edits that leave a tree a tree: a file in place of a file.
            if let Some(entry) = tree.get_mut(&edit.path).filter(|entry| entry.content().is_some() && edit.content().is_some()) {
                *entry = edit;
            } else {
                tree.remove(&edit.path);
            }
        }
        let new: Vec<Entry> = tree.into_values().collect();
        let mut applied: BTreeMap<TreePath, Entry> = old.iter().map(|entry| (entry.path.clone(), entry.clone())).collect();
        for change in changes(&old, &new).0 {
            match change {
                Change::Removed(entry) => prop_assert_eq!(applied.remove(&entry.path), Some(entry)),
                Change::Added(entry) => prop_assert_eq!(applied.insert(entry.path.clone(), entry), None),
                Change::Changed { old, new } => prop_assert_eq!(applied.insert(new.path.clone(), new), Some(old)),
            }
        }
        let applied: Vec<Entry> = applied.into_values().collect();
        prop_assert_eq!(build(Fidelity::Git, &applied).1, build(Fidelity::Git, &new).1);
    }
}
