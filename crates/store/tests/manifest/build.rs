//! What can be built, and that it depends on the tree alone.

use proptest::prelude::*;
use smart_sync_store::gc::Reference;
use smart_sync_store::manifest::{BuildError, Entry, Fidelity, Node, OrderError, Page, references};

use crate::tree::*;

#[track_caller]
fn check_refused(fidelity: Fidelity, entries: &[Entry], expected: &str) {
    let error = try_build(fidelity, entries, &mut Pages::default()).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_is_no_tree_is_refused() {
    let git = |entries: &[Entry], expected: &str| check_refused(Fidelity::Git, entries, expected);
    git(&[file("a", 1), file("a", 2)], "a is there twice");
    git(
        &[file("b", 1), file("a", 2)],
        "a is not in its place: entries are sorted by the bytes of their paths",
    );
    git(&[file("a", 1), file("a-b", 2), file("a/x", 3)], "a/x lies below a, which is not a directory");
    git(&[git_entry("l", 0o120_000, 1), file("l/x/y", 3)], "l/x/y lies below l, which is not a directory");
    git(
        &[git_entry("a", 0o040_000, 0), file("a!", 2), file("a/x", 3)],
        "a/x lies below a, which is there as an empty directory",
    );
    git(
        &[system_entry("a", Node::Fifo)],
        "a cannot stand in a manifest: its attributes are not of the manifest's fidelity",
    );

    let root = || system_entry("", Node::Directory);
    let system = |entries: &[Entry], expected: &str| check_refused(Fidelity::System, entries, expected);
    system(&[], "a system manifest begins with the entry of the tree itself");
    system(&[system_entry("a", Node::Fifo)], "the directory of a has no entry");
    system(&[root(), system_entry("a/b", Node::Fifo)], "the directory of a/b has no entry");
    system(
        &[root(), system_entry("a", Node::Hardlink(path("b")))],
        "a cannot stand in a manifest: a hard link names no earlier entry",
    );
    let huge = |name: &str| {
        let mut content = content(1);
        content.size = u64::MAX;
        system_entry(name, Node::File(content))
    };
    system(&[root(), huge("a"), huge("b")], "the sizes of the contents add up to more than 64 bits can hold");
}

#[test]
fn a_directory_with_another_mode_may_have_something_below_it() {
    let entries = [git_entry("a", 0o040_755, 0), file("a!", 1), file("a/x", 2)];
    assert_eq!(manifest(Fidelity::Git, &entries).entries(), 3);
}

#[test]
fn the_empty_tree_is_one_page() {
    let (pages, summary) = build(Fidelity::Git, &[]);
    assert_eq!((pages.pages.len(), summary.entries, summary.bytes), (1, 0, 0));
    assert_eq!(manifest(Fidelity::Git, &[]).iter().count(), 0);
}

#[test]
fn a_large_tree_has_pages_of_bounded_size_and_few_levels() {
    let entries = many_files(200_000);
    let (pages, summary) = build(Fidelity::Git, &entries);
    let decoded: Vec<Page> = pages.pages.values().map(|bytes| Page::decode(bytes).unwrap()).collect();
    assert!(pages.pages.values().all(|bytes| bytes.len() < 128 << 10));
    assert!(decoded.iter().map(Page::level).max().unwrap() <= 4);
    assert_eq!(decoded.iter().filter(|page| page.level() == 0).map(Page::entries).sum::<u64>(), 200_000);
    assert_eq!(summary.entries, 200_000);
    let root = &pages.pages[&summary.id.root_page()];
    assert_eq!(summary.root_length, root.len() as u64);
    // Every page but the root is referred to once, and so is every content.
    let references: Vec<Reference> =
        pages.pages.values().flat_map(|bytes| references(bytes).unwrap()).collect();
    let (of_pages, of_contents): (Vec<Reference>, Vec<Reference>) =
        references.into_iter().partition(|reference| matches!(reference, Reference::Page(_)));
    assert_eq!((of_pages.len(), of_contents.len()), (pages.pages.len() - 1, 200_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_built_is_read_back(git in git_entries(400), system in system_entries(200)) {
        for (fidelity, entries) in [(Fidelity::Git, git), (Fidelity::System, system)] {
            let read: Vec<Entry> = manifest(fidelity, &entries).iter().map(Result::unwrap).collect();
            prop_assert_eq!(read, entries);
        }
    }

    #[test]
    fn order_errors_do_not_depend_on_page_boundaries(entries in git_entries(300), at: prop::sample::Index) {
        prop_assume!(!entries.is_empty());
        let mut twice = entries.clone();
        let at = at.index(entries.len());
        twice.insert(at, entries[at].clone());
        let error = try_build(Fidelity::Git, &twice, &mut Pages::default()).unwrap_err();
        prop_assert_eq!(error, BuildError::Order(OrderError::Duplicate(entries[at].path.clone())));
    }
}
