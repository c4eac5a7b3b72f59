//! What an update changes, and what it leaves alone.

use std::fs;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::fixture::{APPLY_TIME, Disk, Host, Spec, Stands, Tree, disk_of};
use crate::apply::plan::{Change, Displaced};
use crate::apply::step::Steps;

fn file(text: &str) -> Stands {
    Stands::File(0o644, text.into())
}

#[test]
fn an_update_changes_what_differs_and_keeps_the_rest() {
    let old = &[
        ("bin/tool", Spec::File("tool")),
        ("deleted/deep/x", Spec::File("x")),
        ("kept", Spec::File("kept")),
        ("link", Spec::Link("kept")),
        ("sub", Spec::Submodule),
    ];
    let new = &[
        ("bin/tool", Spec::Executable("tool")),
        ("kept", Spec::File("kept")),
        ("link", Spec::Link("bin")),
        ("moved/x", Spec::File("x")),
        ("sub", Spec::Submodule),
    ];
    let (host, before, after) = (Host::new(), Tree::new(old), Tree::new(new));
    host.apply(&Tree::default(), &before);
    assert_eq!(host.disk(), disk_of(old));
    let stat = |path: &str| fs::symlink_metadata(host.root.join(path)).unwrap();
    let (kept, tool) = (stat("kept"), stat("bin/tool"));
    assert_eq!((kept.mtime(), kept.mtime_nsec()), (APPLY_TIME.seconds, 5));

    let (ready, _) = host.open(&Steps::default()).unwrap();
    let (_, plan) = host.plan(&ready, &before, &after).unwrap();
    assert_eq!(plan.fetches().count(), 1, "only the link's target is new: {plan}");
    insta::assert_snapshot!(plan, @r"
    set mode bin/tool
    delete   deleted/deep/x
    replace  link (a symbolic link, 3 bytes)
    create   moved/x (a file, 1 bytes)
    2 unchanged, 1 content to fetch (3 bytes), 1 already here
    ");
    drop(ready);

    assert!(host.apply(&before, &after).is_empty());
    assert_eq!(host.disk(), disk_of(new));
    assert_eq!(stat("kept").ino(), kept.ino());
    assert_eq!((stat("bin/tool").ino(), stat("bin/tool").mtime()), (tool.ino(), tool.mtime()));

    let (ready, _) = host.open(&Steps::default()).unwrap();
    let (scan, plan) = host.plan(&ready, &after, &after).unwrap();
    assert!(plan.is_empty() && scan.is_clean(), "{plan}");
    assert_eq!(scan.files_hashed, 0);
}

#[test]
fn modes_do_not_depend_on_what_stood_there() {
    let (host, old) = (Host::new(), Tree::new(&[("a", Spec::File("1")), ("b", Spec::Executable("2"))]));
    host.apply(&Tree::default(), &old);
    host.chmod("a", 0o600);
    host.chmod("b", 0o700);
    let new = &[("a", Spec::File("3")), ("b", Spec::Executable("4"))];
    assert!(host.apply(&old, &Tree::new(new)).is_empty());
    assert_eq!(host.disk(), disk_of(new));
}

#[test]
fn local_changes_of_every_kind_are_kept_and_the_tree_is_restored() {
    let specs = &[
        ("content", Spec::File("content")),
        ("deleted", Spec::File("deleted")),
        ("dir/x", Spec::File("x")),
        ("kept-as-wanted", Spec::File("old")),
        ("mode", Spec::File("mode")),
        ("now-a-directory", Spec::File("file")),
        ("now-a-link", Spec::File("file")),
    ];
    let (host, tree) = (Host::new(), Tree::new(specs));
    host.apply(&Tree::default(), &tree);
    host.write("content", "edited!");
    fs::remove_file(host.root.join("deleted")).unwrap();
    fs::remove_dir_all(host.root.join("dir")).unwrap();
    host.write("dir", "a file now");
    host.chmod("mode", 0o755);
    fs::remove_file(host.root.join("now-a-directory")).unwrap();
    host.write("now-a-directory/with", "something");
    fs::remove_file(host.root.join("now-a-link")).unwrap();
    host.link(std::path::Path::new("content"), "now-a-link");
    host.write("kept-as-wanted", "new");
    let mut wanted = specs.to_vec();
    wanted[3].1 = Spec::File("new");

    host.apply(&tree, &Tree::new(&wanted));
    assert_eq!(host.disk(), disk_of(&wanted));
    let expected = Disk::from([
        ("content".into(), file("edited!")),
        ("dir".into(), file("a file now")),
        ("now-a-directory/with".into(), file("something")),
        ("now-a-link".into(), Stands::Link("content".into())),
    ]);
    assert_eq!(host.backups(), expected);
}

#[test]
fn a_change_made_after_the_scan_is_kept_too() {
    let (host, old) = (Host::new(), Tree::new(&[("a", Spec::File("a")), ("b", Spec::File("b"))]));
    let new = &[("a", Spec::File("new"))];
    host.apply(&Tree::default(), &old);
    let (root, journal) = (host.root.clone(), host.state.join("journal"));
    let steps = Steps::heard_by(move |effect| {
        if effect == "syncfs" && journal.exists() && root.join("b").exists() {
            fs::write(root.join("a"), "late edit").unwrap();
            fs::write(root.join("b"), "late edit").unwrap();
        }
        Ok(())
    });
    host.run(&old, &Tree::new(new), &steps).unwrap();
    assert_eq!(host.disk(), disk_of(new));
    let late = file("late edit");
    assert_eq!(host.backups(), Disk::from([("a".into(), late.clone()), ("b".into(), late)]));
}

#[test]
fn the_first_apply_adopts_what_is_equal_and_keeps_what_is_not() {
    let (host, tree) = (
        Host::new(),
        Tree::new(&[
            ("blocked/x", Spec::File("x")),
            ("dir/equal", Spec::Executable("equal")),
            ("other", Spec::File("ours")),
        ]),
    );
    host.write("blocked", "a file");
    host.write("dir/equal", "equal");
    host.write("dir/local", "local");
    host.write("other", "theirs, longer");
    host.write("untracked/deep/file", "untracked");
    let inode = fs::metadata(host.root.join("dir/equal")).unwrap().ino();
    let mut saved = host.apply(&Tree::default(), &tree);
    saved.sort();
    assert_eq!(saved, ["blocked", "other"]);
    assert_eq!(fs::metadata(host.root.join("dir/equal")).unwrap().ino(), inode);
    let expected = Disk::from([
        ("blocked/x".into(), file("x")),
        ("dir/equal".into(), Stands::File(0o755, "equal".into())),
        ("dir/local".into(), file("local")),
        ("other".into(), file("ours")),
        ("untracked/deep/file".into(), file("untracked")),
    ]);
    assert_eq!(host.disk(), expected);
}

#[test]
fn excluded_paths_are_neither_touched_nor_applied() {
    let mut host = Host::new();
    let old = Tree::new(&[("var/ours", Spec::File("1")), ("x", Spec::File("x"))]);
    host.apply(&Tree::default(), &old);
    host.excluded = |path, _| path == b"var" || path.ends_with(b".socket");
    host.write("var/local", "local");
    host.write("var/ours", "changed");
    host.write("run.socket", "socket");
    let new = Tree::new(&[("var/new", Spec::File("2")), ("y", Spec::File("y"))]);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let (_, plan) = host.plan(&ready, &old, &new).unwrap();
    assert_eq!(plan.left_out.iter().map(ToString::to_string).collect::<Vec<_>>(), ["var/new"]);
    drop(ready);
    host.apply(&old, &new);
    let expected = Disk::from([
        ("run.socket".into(), file("socket")),
        ("var/local".into(), file("local")),
        ("var/ours".into(), file("changed")),
        ("y".into(), file("y")),
    ]);
    assert_eq!(host.disk(), expected);
}

#[test]
fn deletions_are_exact_and_directories_go_only_when_empty() {
    let old = Tree::new(&[
        ("a/1", Spec::File("1")),
        ("a/b/2", Spec::File("2")),
        ("c/d/3", Spec::File("3")),
        ("e", Spec::Directory),
        ("sub", Spec::Submodule),
    ]);
    let host = Host::new();
    host.apply(&Tree::default(), &old);
    host.write("c/local", "local");
    host.write("sub/checkout", "local");
    host.apply(&old, &Tree::default());
    let expected = Disk::from([("c/local".into(), file("local")), ("sub/checkout".into(), file("local"))]);
    assert_eq!(host.disk(), expected);
    assert_eq!(host.backups(), Disk::new());
}

#[test]
fn a_plan_never_gives_up_what_is_not_ours() {
    let (host, old) = (Host::new(), Tree::new(&[("a", Spec::File("a"))]));
    host.apply(&Tree::default(), &old);
    host.write("a", "mine");
    host.write("b", "mine as well");
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let wanted = Tree::new(&[("a", Spec::File("x")), ("b", Spec::File("y"))]);
    let (_, plan) = host.plan(&ready, &old, &wanted).unwrap();
    let puts: Vec<_> =
        plan.actions.iter().filter(|action| matches!(action.change, Change::Put(..))).collect();
    assert!(puts.len() == 2 && puts.iter().all(|action| action.displaced == Displaced::Local), "{plan}");
}

const NAMES: [&str; 4] = ["a", "a-b", "b", "c"];
const TEXTS: [&str; 4] = ["", "one", "two", "three"];

fn any_spec() -> impl Strategy<Value = Spec> {
    prop_oneof![
        4 => prop::sample::select(&TEXTS[..]).prop_map(Spec::File),
        1 => prop::sample::select(&TEXTS[..]).prop_map(Spec::Executable),
        1 => prop::sample::select(&TEXTS[1..]).prop_map(Spec::Link),
    ]
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..4).prop_map(|names| names.join("/"))
}

/// A tree in which no path lies below a file.
fn any_tree() -> impl Strategy<Value = Vec<(String, Spec)>> {
    prop::collection::btree_map(any_path(), any_spec(), 0..10).prop_map(|tree| {
        let is_below = |path: &str, other: &str| path.starts_with(&format!("{other}/"));
        let paths: Vec<_> = tree.keys().cloned().collect();
        tree.into_iter().filter(|(path, _)| !paths.iter().any(|other| is_below(path, other))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever two trees and whatever the host did in between: the wanted tree is there, and nothing that the
    /// host wrote is lost.
    #[test]
    fn any_tree_follows_any_other_and_nothing_local_is_lost(
        old in any_tree(),
        new in any_tree(),
        local in prop::collection::vec((any_path(), any::<bool>()), 0..4),
    ) {
        fn specs(tree: &[(String, Spec)]) -> Vec<(&str, Spec)> {
            tree.iter().map(|(path, spec)| (path.as_str(), *spec)).collect()
        }
        let (host, before, after) = (Host::new(), Tree::new(&specs(&old)), Tree::new(&specs(&new)));
        host.apply(&Tree::default(), &before);
        prop_assert_eq!(host.disk(), disk_of(&specs(&old)));
        let mut written = Vec::new();
        for (number, (path, removes)) in local.iter().enumerate() {
            let path = host.root.join(path);
            let text = format!("local {number}");
            if *removes {
                _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
                written.retain(|(other, _): &(std::path::PathBuf, _)| !other.starts_with(&path));
            } else if path.symlink_metadata().is_err()
                && path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok())
                && fs::write(&path, &text).is_ok()
            {
                written.push((path, text));
            }
        }
        host.apply(&before, &after);
        let (disk, backups) = (host.disk(), host.backups());
        for (path, stands) in disk_of(&specs(&new)) {
            prop_assert_eq!(disk.get(&path), Some(&stands), "{}", path);
        }
        for (path, text) in written {
            let is_kept = disk.values().chain(backups.values()).any(|found| *found == file(&text));
            prop_assert!(is_kept, "{} is lost", path.display());
        }
        host.apply(&after, &after);
        prop_assert_eq!(host.disk(), disk);
    }
}
