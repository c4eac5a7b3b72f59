//! Links, in the tree and put there meanwhile, are never followed.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fixture::{Host, IN_PLACE, Spec, Stands, Tree, disk_of};
use crate::apply::error::ApplyError;
use crate::apply::run::ReadyTarget;
use crate::apply::stat::FileKind;
use crate::apply::step::Steps;
use crate::apply::tree_dir::{RootLink, TreeDir};

const OLD: &[(&str, Spec)] =
    &[("dir/file", Spec::File("old")), ("dir/precious", Spec::File("ours")), ("other", Spec::File("other"))];
const NEW: &[(&str, Spec)] =
    &[("dir/file", Spec::File("new")), ("dir/more", Spec::File("more")), ("other", Spec::File("other"))];

fn holds_tree(ready: &ReadyTarget, tree: &Tree) -> bool {
    ready.target().applied().unwrap().is_some_and(|applied| applied.manifest() == tree.version().manifest())
}

fn both_lookups(path: &std::path::Path) -> [TreeDir; 2] {
    let open = || TreeDir::open(path, RootLink::Refuse, Steps::default()).unwrap();
    [open(), open().without_openat2()]
}

#[test]
fn no_path_leads_through_a_link_or_out_of_the_root() {
    let host = Host::new();
    host.link(&host.outside, "link");
    host.link(std::path::Path::new(".."), "up");
    for tree in both_lookups(&host.root) {
        for path in
            ["link/precious", "up/outside/precious", "../outside/precious", "link/../x", "./x", "x//y", ""]
        {
            let path = path.as_bytes();
            assert!(tree.open_file(path).is_err());
            assert!(tree.create_file(path).is_err());
            assert!(tree.remove_file(path).is_err());
            assert!(tree.make_symlink(b"x", path).is_err());
        }
        assert!(tree.stat(b"link/precious").unwrap().is_none());
        assert_eq!(tree.stat(b"link").unwrap().unwrap().kind, FileKind::Symlink);
        assert!(tree.open_directory(b"link").is_err());
        assert!(tree.set_mode(b"link", 0o777).is_err());
        assert!(tree.set_mode(b"link/precious", 0o777).is_err());
        assert!(tree.make_directory(b"link", 0o755).is_err());
        assert!(tree.make_directory(b"link/below", 0o755).is_err());
    }
    host.check_outside();
}

#[test]
fn both_lookups_reach_the_same_files() {
    let host = Host::new();
    host.write("a/b/c", "deep");
    for tree in both_lookups(&host.root) {
        assert!(tree.open_directory(b"a/b").unwrap().as_fd().try_clone_to_owned().is_ok());
        assert_eq!(tree.stat(b"a/b/c").unwrap().unwrap().size, 4);
        assert!(tree.stat(b"a/b/c/d").unwrap().is_none());
    }
}

#[test]
fn a_root_that_is_a_link_is_followed_only_when_asked() {
    let host = Host::new();
    symlink(&host.root, host.outside.join("link")).unwrap();
    let link = host.outside.join("link");
    let refused = TreeDir::open(&link, RootLink::Refuse, Steps::default());
    assert!(matches!(refused, Err(ApplyError::Io { .. })));
    TreeDir::open(&link, RootLink::Follow, Steps::default()).unwrap();
}

#[test]
fn a_directory_replaced_by_a_link_is_not_written_or_deleted_through() {
    for make in IN_PLACE {
        let host = make();
        let (old, new) = (Tree::new(OLD), Tree::new(NEW));
        host.apply(&Tree::default(), &old);
        fs::remove_dir_all(host.root.join("dir")).unwrap();
        host.link(&host.outside, "dir");
        assert_eq!(host.apply(&old, &new), ["dir"]);
        assert_eq!(host.disk(), disk_of(NEW));
        host.check_outside();
        let link = Stands::Link(host.outside.to_string_lossy().into_owned());
        assert_eq!(host.backups().get("dir"), Some(&link));
    }
}

#[test]
fn a_file_replaced_by_a_link_is_not_written_through() {
    for make in IN_PLACE {
        let host = make();
        let (old, new) = (Tree::new(OLD), Tree::new(NEW));
        host.apply(&Tree::default(), &old);
        for path in ["dir/file", "dir/precious"] {
            fs::remove_file(host.root.join(path)).unwrap();
            host.link(&host.outside.join("precious"), path);
        }
        let mut saved = host.apply(&old, &new);
        saved.sort();
        assert_eq!(saved, ["dir/file", "dir/precious"]);
        assert_eq!(host.disk(), disk_of(NEW));
        host.check_outside();
    }
}

#[test]
fn a_directory_swapped_for_a_link_in_the_middle_of_a_flip_leads_nowhere() {
    let at = ["rename", "unlink", "syncfs", "make directory", "chmod"];
    for (make, swapped_at) in IN_PLACE.into_iter().flat_map(|make| at.map(|at| (make, at))) {
        let (host, old, new) = (make(), Tree::new(OLD), Tree::new(NEW));
        host.apply(&Tree::default(), &old);
        let (root, outside, done) = (host.root.clone(), host.outside.clone(), AtomicBool::new(false));
        let journal = host.state.join("journal");
        let steps = Steps::heard_by(move |effect| {
            if effect == swapped_at && journal.exists() && !done.swap(true, Ordering::SeqCst) {
                fs::rename(root.join("dir"), root.join("dir-moved")).unwrap();
                symlink(&outside, root.join("dir")).unwrap();
            }
            Ok(())
        });
        // It may fail or succeed; what is outside is not touched, and the next runs put the tree right.
        let outcome = host.run(&old, &new, &steps);
        host.check_outside();
        let (ready, _) = host.open(&Steps::default()).unwrap();
        let holds = if holds_tree(&ready, &new) { &new } else { &old };
        drop(ready);
        host.apply(holds, &new);
        host.check_outside();
        let mut disk = host.disk();
        disk.retain(|path, _| !path.starts_with("dir-moved"));
        assert_eq!(disk, disk_of(NEW), "swapped at {swapped_at}, {outcome:?}");
    }
}

#[test]
fn links_that_point_anywhere_are_made_as_links() {
    for make in IN_PLACE {
        let host = make();
        let specs = &[
            ("absolute", Spec::Link("/etc/passwd")),
            ("loop", Spec::Link("loop")),
            ("up", Spec::Link("../../outside/precious")),
            ("z", Spec::Link("not there")),
        ];
        let tree = Tree::new(specs);
        host.apply(&Tree::default(), &tree);
        assert_eq!(host.disk(), disk_of(specs));
        host.apply(&tree, &Tree::new(&[("z", Spec::File("file"))]));
        assert_eq!(host.disk(), disk_of(&[("z", Spec::File("file"))]));
        host.check_outside();
    }
}
