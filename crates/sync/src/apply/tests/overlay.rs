//! Trees that are laid over directories of others.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use proptest::prelude::*;

use super::fixture::{Disk, Host, Spec, Stands, Tree, disk_of};
use crate::apply::Stamp;
use crate::apply::ledger::read;
use crate::apply::plan::Problem;
use crate::apply::step::Steps;

const OLD: &[(&str, Spec)] = &[
    ("etc/app/conf", Spec::File("published")),
    ("etc/hosts", Spec::File("published too")),
    ("usr/bin/tool", Spec::Executable("tool")),
];
const NEW: &[(&str, Spec)] = &[
    ("etc/app/conf", Spec::File("published again")),
    ("etc/app/link", Spec::Link("conf")),
    ("usr/bin/tool", Spec::Executable("tool")),
];

/// A host with files of its own.
fn host() -> Host {
    let host = Host::with_overlay();
    host.write("etc/hosts", "the host's own");
    host.write("etc/passwd", "untouched");
    fs::set_permissions(host.root.join("etc/hosts"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(host.root.join("etc"), fs::Permissions::from_mode(0o711)).unwrap();
    host
}

fn own() -> Disk {
    Disk::from([
        ("etc/hosts".into(), Stands::File(0o600, "the host's own".into())),
        ("etc/passwd".into(), Stands::File(0o644, "untouched".into())),
    ])
}

fn with(specs: &[(&str, Spec)]) -> Disk {
    let mut disk = own();
    disk.extend(disk_of(specs));
    disk
}

fn take_away(host: &Host) -> usize {
    let (ready, _) = host.open(&Steps::default()).unwrap();
    ready.take_away(&Stamp::new(b"stamp").unwrap()).unwrap().0
}

#[test]
fn a_tree_lies_over_what_is_there_and_is_taken_away_without_a_trace() {
    let (host, old, new) = (host(), Tree::new(OLD), Tree::new(NEW));
    assert!(host.apply(&Tree::default(), &old).is_empty());
    assert_eq!(host.disk(), with(OLD));
    assert_eq!(fs::metadata(host.root.join("etc")).unwrap().mode() & 0o7777, 0o711);
    // What the tree does not have any more is given back.
    assert!(host.apply(&old, &new).is_empty());
    assert_eq!(host.disk(), with(NEW));
    assert_eq!(read(&host.ledger()).unwrap().len(), 6, "three files and links, three directories");
    assert_eq!(take_away(&host), 6);
    assert_eq!(host.disk(), own());
    assert!(read(&host.ledger()).unwrap().is_empty());
}

#[test]
fn a_plan_says_what_is_kept_and_what_is_given_back() {
    let (host, old, new) = (host(), Tree::new(OLD), Tree::new(NEW));
    let shown = |applied: &Tree, wanted: &Tree| {
        let (ready, _) = host.open(&Steps::default()).unwrap();
        host.plan(&ready, applied, wanted).unwrap().1.to_string()
    };
    insta::assert_snapshot!(shown(&Tree::default(), &old), @r"
    create   etc/app/conf (a file, 9 bytes)
    replace  etc/hosts (a file, 13 bytes), what stands there is kept
    create   usr/bin/tool (a file, 4 bytes)
    0 unchanged, 3 contents to fetch (26 bytes), 0 already here
    ");
    host.apply(&Tree::default(), &old);
    insta::assert_snapshot!(shown(&old, &new), @r"
    replace  etc/app/conf (a file, 15 bytes)
    create   etc/app/link (a symbolic link, 4 bytes)
    restore  etc/hosts
    1 unchanged, 2 contents to fetch (19 bytes), 0 already here
    ");
}

#[test]
fn what_was_edited_or_deleted_by_hand_is_drift() {
    let (host, old, new) = (host(), Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    host.write("etc/app/conf", "edited");
    fs::remove_file(host.root.join("usr/bin/tool")).unwrap();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let scan = host.scan(&ready, &old).unwrap();
    let paths: Vec<_> = scan.findings.iter().map(|finding| &*finding.path).collect();
    assert_eq!(paths, [&b"etc/app/conf"[..], b"usr/bin/tool"]);
    drop(ready);
    assert_eq!(host.apply(&old, &new).len(), 1);
    assert_eq!(host.disk(), with(NEW));
    let backups = host.backups();
    assert_eq!(backups.values().collect::<Vec<_>>(), [&Stands::File(0o644, "edited".into())]);
}

#[test]
fn nothing_but_the_paths_of_manifests_is_looked_at() {
    let (host, old) = (host(), Tree::new(OLD));
    host.apply(&Tree::default(), &old);
    host.write("elsewhere/much/more", "x");
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let scan = host.scan(&ready, &old).unwrap();
    assert!(scan.is_clean() && scan.untracked.is_empty());
    assert_eq!(scan.files_hashed, 0, "what was placed is known");
}

#[test]
fn a_version_is_gone_back_to_with_what_is_kept_of_it() {
    let (host, old, new) = (host(), Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    host.apply(&old, &new);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let kept = ready.target().kept().unwrap();
    assert_eq!(kept.iter().map(|kept| kept.number).collect::<Vec<_>>(), [1, 2]);
    drop(ready);
    // Nothing can be had from elsewhere.
    let without = Tree { contents: std::collections::HashMap::new(), ..old.clone() };
    host.run_as(&new, &without, kept[0].version.clone(), &Steps::default()).unwrap();
    assert_eq!(host.disk(), with(OLD));
    let (ready, _) = host.open(&Steps::default()).unwrap();
    assert_eq!(ready.target().kept().unwrap(), kept);
    ready.retain_contents(&old.contents.keys().copied().collect()).unwrap();
    let gone = new.entries[1].content().unwrap().id;
    assert!(ready.target().kept_content(gone).unwrap().is_none());
    assert!(ready.target().kept_content(old.entries[0].content().unwrap().id).unwrap().is_some());
}

#[test]
fn a_file_of_the_host_that_became_a_directory_of_ours_is_given_back() {
    let host = host();
    let trees = [
        Tree::new(&[("etc/hosts", Spec::File("file"))]),
        Tree::new(&[("etc/hosts/a", Spec::File("a")), ("etc/hosts/b/c", Spec::File("c"))]),
        Tree::new(&[("etc/hosts", Spec::Link("passwd"))]),
        Tree::default(),
    ];
    let mut applied = Tree::default();
    for tree in &trees {
        host.apply(&applied, tree);
        applied = tree.clone();
    }
    assert_eq!(host.disk(), own());
    host.apply(&applied, &trees[0]);
    host.apply(&trees[0], &trees[1]);
    assert_eq!(take_away(&host), 4);
    assert_eq!(host.disk(), own());
}

/// A tree of some of these paths; a path below another one that is a file is left out.
fn tree_of(choice: &[Option<u8>]) -> Vec<(&'static str, Spec)> {
    const PATHS: [&str; 6] = ["a", "a/b", "a/b/c", "d", "d/e", "f/g"];
    let mut specs: Vec<(&'static str, Spec)> = Vec::new();
    for (path, chosen) in PATHS.into_iter().zip(choice) {
        let is_below = specs.iter().any(|(above, _)| path.starts_with(&format!("{above}/")));
        match chosen {
            Some(0) if !is_below => specs.push((path, Spec::Link("somewhere"))),
            Some(1) if !is_below => specs.push((path, Spec::File("one"))),
            Some(_) if !is_below => specs.push((path, Spec::File("two"))),
            _ => {}
        }
    }
    specs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A tree that is refused changes nothing, one that is not is all there, and in the end the host is what it was.
    #[test]
    fn whatever_is_laid_over_a_host_can_be_taken_away(
        own in prop::collection::vec(prop::option::of(0u8..2), 6),
        trees in prop::collection::vec(prop::collection::vec(prop::option::of(0u8..3), 6), 1..5),
    ) {
        let host = Host::with_overlay();
        for (path, spec) in tree_of(&own) {
            match spec {
                Spec::Link(target) => {
                    fs::create_dir_all(host.root.join(path).parent().unwrap()).unwrap();
                    host.link(std::path::Path::new(target), path);
                }
                _ => host.write(path, "the host's own"),
            }
        }
        let before = host.disk();
        let mut applied = Tree::default();
        for specs in trees.iter().map(|choice| tree_of(choice)) {
            let tree = Tree::new(&specs);
            let stood = host.disk();
            if host.problems(&applied, &tree).is_empty() {
                host.apply(&applied, &tree);
                let found = host.disk();
                for (path, stands) in disk_of(&specs) {
                    prop_assert_eq!(found.get(&path), Some(&stands), "{}", path);
                }
                applied = tree;
            } else {
                prop_assert_eq!(host.disk(), stood);
            }
        }
        take_away(&host);
        prop_assert_eq!(host.disk(), before);
    }
}

#[test]
fn what_an_overlay_cannot_undo_is_refused_before_anything_changes() {
    let host = host();
    host.link(std::path::Path::new("usr/lib"), "lib");
    host.write("srv/data/x", "x");
    let before = host.disk();
    let check = |specs: &[(&str, Spec)], expected: &str| {
        let found = host.problems(&Tree::default(), &Tree::new(specs));
        assert!(found.iter().any(|problem| problem.to_string().contains(expected)), "{found:?}");
    };
    check(&[("lib/modules/x", Spec::File("x"))], "lib: a symbolic link, which is not followed");
    check(&[("etc/hosts/x", Spec::File("x"))], "etc/hosts: what stands there is not a directory");
    check(&[("srv/data", Spec::File("x"))], "a directory of the host stands there");
    assert_eq!(host.disk(), before);
    // The state of this program may lie below.
    let state = host.state.strip_prefix(host.root.parent().unwrap()).unwrap();
    let mut above = Host::with_overlay();
    above.root = above.root.parent().unwrap().to_owned();
    let name: &'static str = String::leak(format!("{}/applied", state.display()));
    let found = above.problems(&Tree::default(), &Tree::new(&[(name, Spec::File("x"))]));
    assert!(found.iter().any(|problem| matches!(problem, Problem::InAnother(..))), "{found:?}");
}

#[test]
fn a_path_that_another_target_placed_is_refused() {
    let (host, old) = (host(), Tree::new(OLD));
    host.apply(&Tree::default(), &old);
    let mut other = Host::with_overlay();
    fs::remove_dir(other.ledger()).unwrap();
    std::os::unix::fs::symlink(host.ledger(), other.ledger()).unwrap();
    other.root = host.root.join("etc");
    let wanted = Tree::new(&[("hosts", Spec::File("other")), ("of-its-own", Spec::File("x"))]);
    let found = other.problems(&Tree::default(), &wanted);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(matches!(&found[0], Problem::PlacedByAnother(path, _) if **path == *b"hosts"), "{found:?}");
    let wanted = Tree::new(&[("of-its-own", Spec::File("x"))]);
    other.apply(&Tree::default(), &wanted);
    assert_eq!(take_away(&host), 6);
    assert_eq!(take_away(&other), 1);
    assert_eq!(host.disk(), own());
}

#[test]
fn a_directory_swapped_for_a_link_in_the_middle_leads_nowhere() {
    use std::sync::atomic::{AtomicBool, Ordering};
    for swapped_at in ["rename", "copy", "syncfs", "write journal", "write ledger"] {
        let (host, old, new) = (host(), Tree::new(OLD), Tree::new(NEW));
        host.apply(&Tree::default(), &old);
        let (root, outside, done) = (host.root.clone(), host.outside.clone(), AtomicBool::new(false));
        let journal = host.state.join("journal");
        let steps = Steps::heard_by(move |effect| {
            if effect == swapped_at && journal.exists() && !done.swap(true, Ordering::SeqCst) {
                fs::rename(root.join("etc/app"), root.join("etc/app-moved")).unwrap();
                std::os::unix::fs::symlink(&outside, root.join("etc/app")).unwrap();
            }
            Ok(())
        });
        let outcome = host.run(&old, &new, &steps);
        host.check_outside();
        fs::remove_file(host.root.join("etc/app")).unwrap();
        fs::rename(host.root.join("etc/app-moved"), host.root.join("etc/app")).unwrap();
        let (ready, _) = host.open(&Steps::default()).unwrap();
        let applied = ready.target().applied().unwrap().unwrap().manifest();
        drop(ready);
        let holds = if applied == new.version().manifest() { &new } else { &old };
        host.apply(holds, &new);
        assert_eq!(host.disk(), with(NEW), "swapped at {swapped_at}: {outcome:?}");
        host.check_outside();
    }
}
