//! Looking things up in manifests, and manifests that must not be believed.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use smart_sync_store::codec::put_number;
use smart_sync_store::id::{ManifestId, ObjectId};
use smart_sync_store::manifest::{Child, Entry, Fidelity, Found, Manifest, Node, ReadError, TreePath};

use crate::tree::*;

fn names(manifest: &Manifest<Pages>, directory: &TreePath) -> Option<Vec<Child>> {
    Some(manifest.children(directory, None).unwrap()?.map(Result::unwrap).collect())
}

#[test]
fn a_directory_is_listed_without_reading_what_lies_deeper() {
    let manifest = manifest(Fidelity::Git, &many_files(200_000));
    manifest.source().reads.set(0);
    let children = names(&manifest, &TreePath::root()).unwrap();
    assert_eq!(children.len(), 1);
    assert_eq!((children[0].name(), children[0].is_directory()), (&b"src"[..], true));
    assert!(manifest.source().reads.get() < 10, "{} pages read", manifest.source().reads.get());

    manifest.source().reads.set(0);
    let children = names(&manifest, &path("src/m7/p141")).unwrap();
    assert_eq!(children.len(), 25);
    assert!(manifest.source().reads.get() < 10, "{} pages read", manifest.source().reads.get());
    assert_eq!(names(&manifest, &path("src/m7/p999999")), None);
    assert_eq!(names(&manifest, &path("src/m7/p141/file_3540.rs")), None);
}

#[test]
fn a_wide_directory_is_listed_in_parts() {
    let entries: Vec<Entry> = (0..50_000).map(|n| file(&format!("d/{n:06}"), n)).collect();
    let manifest = manifest(Fidelity::Git, &entries);
    let first: Vec<Child> =
        manifest.children(&path("d"), None).unwrap().unwrap().take(100).map(Result::unwrap).collect();
    manifest.source().reads.set(0);
    let position = first[99].position();
    let mut next = manifest.children(&path("d"), Some(&position)).unwrap().unwrap();
    assert_eq!(next.next().unwrap().unwrap().name(), b"000100");
    assert!(manifest.source().reads.get() < 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn listings_and_lookups_agree_with_the_entries(git in git_entries(300), system in system_entries(150), probe in "[ab!0/-]{1,6}") {
        for (fidelity, entries) in [(Fidelity::Git, git), (Fidelity::System, system)] {
            let manifest = manifest(fidelity, &entries);
            let mut directories = BTreeSet::from([TreePath::root()]);
            for entry in &entries {
                prop_assert_eq!(manifest.get(&entry.path).unwrap(), Some(entry.clone()));
                if entry.node == Node::Directory {
                    directories.insert(entry.path.clone());
                }
                let bytes = entry.path.as_bytes();
                directories.extend((1..bytes.len()).filter(|at| bytes[*at] == b'/').map(|at| TreePath::new(&bytes[..at]).unwrap()));
            }
            for directory in &directories {
                check_listing(&manifest, directory, &entries, &directories)?;
            }
            if let Ok(probe) = TreePath::new(probe.as_bytes()) {
                let expected = match entries.iter().find(|entry| entry.path == probe) {
                    Some(entry) => Some(Found::Entry(entry.clone())),
                    None => directories.contains(&probe).then_some(Found::ImpliedDirectory),
                };
                prop_assert_eq!(manifest.find(&probe).unwrap(), expected);
                let from: Vec<Entry> = manifest.iter_from(probe.as_bytes()).unwrap().map(Result::unwrap).collect();
                let start = entries.partition_point(|entry| entry.path < probe);
                prop_assert_eq!(&from[..], &entries[start..]);
            }
        }
    }
}

fn check_listing(
    manifest: &Manifest<Pages>,
    directory: &TreePath,
    entries: &[Entry],
    directories: &BTreeSet<TreePath>,
) -> Result<(), TestCaseError> {
    let parent =
        |path: &TreePath| path.parent().unwrap_or_default() == directory.as_bytes() && !path.is_root();
    let expected: BTreeSet<&TreePath> =
        entries.iter().map(|entry| &entry.path).chain(directories).filter(|path| parent(path)).collect();
    let listed = names(manifest, directory).unwrap();
    prop_assert_eq!(listed.len(), expected.len(), "{:?}", &listed);
    prop_assert_eq!(listed.iter().map(|child| &child.path).collect::<BTreeSet<_>>(), expected);
    // One at a time, each listing going on where the last one stopped.
    let mut position: Option<Vec<u8>> = None;
    for child in &listed {
        let next = manifest.children(directory, position.as_deref()).unwrap().unwrap().next();
        prop_assert_eq!(&next.unwrap().unwrap(), child);
        position = Some(child.position());
    }
    prop_assert!(
        manifest.children(directory, position.as_deref()).unwrap().unwrap().next().is_none()
            || listed.is_empty()
    );
    Ok(())
}

/// Reads a whole manifest whose root page is `root`, after some of its pages were exchanged.
fn read_all(pages: Pages, root: ObjectId) -> Result<usize, ReadError> {
    let manifest = Manifest::open(pages, ManifestId::from_root_page(root), None)?;
    manifest.iter().try_fold(0, |count, entry| entry.map(|_| count + 1))
}

/// A page of level 1 over pages, with sums as given.
fn parent_page(items: &[(&str, &[u8], u64, u64)]) -> Vec<u8> {
    let mut page = b"ssmp\x01\x01\x00".to_vec();
    put_number(&mut page, items.len() as u64);
    let mut before = "";
    for (last, bytes, entries, sum) in items {
        let shared = before.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
        put_number(&mut page, shared as u64);
        put_number(&mut page, (last.len() - shared) as u64);
        page.extend_from_slice(&last.as_bytes()[shared..]);
        page.extend_from_slice(ObjectId::of(bytes).as_bytes());
        for number in [bytes.len() as u64, *entries, *sum] {
            put_number(&mut page, number);
        }
        before = last;
    }
    page
}

fn leaf(entries: &[Entry]) -> Vec<u8> {
    let (pages, summary) = build(Fidelity::Git, entries);
    pages.pages[&summary.id.root_page()].to_vec()
}

/// A name at which a page of level 0 ends.
fn closing_name(from: &str) -> String {
    (0..10_000)
        .map(|n| format!("{from}{n}"))
        .find(|name| blake3::hash(name.as_bytes()).as_bytes()[0].trailing_zeros() >= 6)
        .unwrap()
}

#[track_caller]
fn check_forged(children: &[&[u8]], root: Vec<u8>, expected: Result<usize, &str>) {
    let mut pages = Pages::default();
    let id = ObjectId::of(&root);
    for bytes in children.iter().map(|bytes| bytes.to_vec()).chain([root]) {
        pages.pages.insert(ObjectId::of(&bytes), Bytes::from(bytes));
    }
    let found = read_all(pages, id).map_err(|error| std::error::Error::source(&error).unwrap().to_string());
    assert_eq!(found, expected.map_err(str::to_owned));
}

#[test]
fn pages_are_held_against_their_parents() {
    let end = closing_name("b");
    let first = leaf(&[file("a", 1), file(&end, 2)]);
    let second = leaf(&[file("x", 4)]);
    let check = |items: &[(&str, &[u8], u64, u64)], expected: Result<usize, &str>| {
        check_forged(&[&first, &second], parent_page(items), expected);
    };
    check(&[(&end, &first, 2, 3), ("x", &second, 1, 4)], Ok(3));
    check(&[(&end, &first, 2, 4), ("x", &second, 1, 4)], Err("its sums are not those its parent gives"));
    check(&[(&end, &first, 3, 3), ("x", &second, 1, 4)], Err("its sums are not those its parent gives"));
    check(&[("c", &first, 2, 3), ("x", &second, 1, 4)], Err("its last path is not the one its parent gives"));
    check(&[(&end, &first, u64::MAX, 3), ("x", &second, 1, 4)], Err("the sums of a page do not fit 64 bits"));
    check(&[(&end, &first, 2, 3)], Err("it is not the root of a manifest"));
    // A page that stops before a boundary, so that the same tree would have another id.
    let early = leaf(&[file("a", 1)]);
    check_forged(
        &[&early, &second],
        parent_page(&[("a", &early, 1, 1), ("x", &second, 1, 4)]),
        Err("it ends before its end"),
    );
    // Pages that overlap.
    let again = leaf(&[file("a", 1), file("x", 4)]);
    check_forged(
        &[&first, &again],
        parent_page(&[(&end, &first, 2, 3), ("x", &again, 2, 5)]),
        Err("its first path does not follow the page before it"),
    );
}

#[test]
fn a_path_below_a_file_is_found_across_pages() {
    let end = closing_name("a!");
    let first = leaf(&[file("a", 1), file(&end, 2)]);
    let second = leaf(&[file("a/x", 4)]);
    check_forged(
        &[&first, &second],
        parent_page(&[(&end, &first, 2, 3), ("a/x", &second, 1, 4)]),
        Err("a/x lies below a, which is not a directory"),
    );
}

#[test]
fn a_page_that_is_missing_or_exchanged_is_named() {
    let (pages, summary) = build(Fidelity::Git, &many_files(2_000));
    let root = summary.id.root_page();
    let child = *pages.pages.keys().find(|id| **id != root).unwrap();
    let mut missing = pages.clone();
    missing.pages.remove(&child);
    assert!(matches!(read_all(missing, root), Err(ReadError::Absent(id)) if id == child));
    for (id, bytes) in &pages.pages {
        let mut flipped = bytes.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let mut forged = pages.clone();
        forged.pages.insert(*id, flipped.into());
        assert!(matches!(read_all(forged, root), Err(ReadError::Corrupt { page, .. }) if page == *id));
    }
    let wrong_length = Manifest::open(pages, summary.id, Some(summary.root_length + 1));
    assert!(matches!(wrong_length, Err(ReadError::Corrupt { .. })));
}
