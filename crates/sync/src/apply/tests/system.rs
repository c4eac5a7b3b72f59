//! Trees with all their metadata.

use std::fs;
use std::os::unix::fs::MetadataExt;

use smart_sync_store::manifest::entry::{Attributes, Entry, Fidelity, FileTime, Node, SystemMetadata, Xattr};
use smart_sync_store::manifest::path::TreePath;

use super::fixture::{Host, Tree};
use crate::apply::metadata::Owners;
use crate::apply::plan::Problem;
use crate::apply::scan::Drift;
use crate::apply::step::Steps;

const TIME: FileTime = FileTime { seconds: 1_000_000_000, nanoseconds: 123_456_000 };

fn host() -> Host {
    let mut host = Host::new();
    host.fidelity = Fidelity::System;
    host
}

fn metadata(mode: u32) -> SystemMetadata {
    SystemMetadata {
        mode,
        uid: 0,
        gid: 0,
        user: Box::default(),
        group: Box::default(),
        modified: TIME,
        xattrs: Vec::new(),
        is_sparse: false,
    }
}

fn path(text: &str) -> TreePath {
    if text.is_empty() { TreePath::root() } else { TreePath::new(text.as_bytes()).unwrap() }
}

fn add(tree: &mut Tree, text: &str, node: Node, metadata: Option<SystemMetadata>) {
    tree.entries.push(Entry {
        path: path(text),
        node,
        attributes: Attributes::System(metadata.map(Box::new)),
    });
}

fn sample(text: &[u8]) -> Tree {
    let mut tree = Tree::default();
    let content = tree.content(text);
    let target = tree.content(b"dir/file");
    let sparse = tree.content(&vec![0; 1 << 20]);
    add(&mut tree, "", Node::Directory, Some(metadata(0o755)));
    add(&mut tree, "dir", Node::Directory, Some(metadata(0o750)));
    add(&mut tree, "dir/file", Node::File(content), Some(metadata(0o640)));
    add(&mut tree, "hard", Node::Hardlink(path("dir/file")), None);
    add(&mut tree, "link", Node::Symlink(target), Some(metadata(0o777)));
    let holes = SystemMetadata { is_sparse: true, ..metadata(0o600) };
    add(&mut tree, "sparse", Node::File(sparse), Some(holes));
    tree
}

#[test]
fn modes_times_links_and_holes_come_back() {
    let (host, old, new) = (host(), sample(b"old"), sample(b"newer"));
    for (before, after) in [(&Tree::default(), &old), (&old, &new)] {
        host.apply(before, after);
        let stat = |path: &str| fs::symlink_metadata(host.root.join(path)).unwrap();
        for (path, mode) in [("dir", 0o750), ("dir/file", 0o640), ("sparse", 0o600), ("", 0o755)] {
            assert_eq!(stat(path).mode() & 0o7777, mode, "{path}");
        }
        for path in ["", "dir", "dir/file", "link", "sparse"] {
            assert_eq!((stat(path).mtime(), stat(path).mtime_nsec()), (TIME.seconds, 123_456_000), "{path}");
        }
        assert_eq!((stat("hard").ino(), stat("hard").nlink()), (stat("dir/file").ino(), 2));
        assert!(
            stat("sparse").len() == 1 << 20 && stat("sparse").blocks() < 64,
            "{}",
            stat("sparse").blocks()
        );

        let (ready, _) = host.open(&Steps::default()).unwrap();
        let (_, plan) = host.plan(&ready, after, after).unwrap();
        assert!(plan.is_empty(), "{plan}\n{:?}", plan.actions);
    }
    assert!(host.backups().is_empty(), "{:?}", host.backups());
}

#[test]
fn versions_keep_modes_times_links_and_holes() {
    let mut host = Host::with_generations();
    host.fidelity = Fidelity::System;
    let with = |text: &[u8], mode: u32| {
        let mut tree = sample(text);
        let shared = tree.content(b"in all versions");
        add(&mut tree, "shared", Node::File(shared), Some(metadata(0o444)));
        let changed = tree.content(b"another mode");
        add(&mut tree, "z-mode", Node::File(changed), Some(metadata(mode)));
        tree.entries.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    };
    let versions = [with(b"old", 0o444), with(b"old", 0o400), with(b"newer", 0o400)];
    let mut before = &Tree::default();
    let mut seen = Vec::new();
    for after in &versions {
        host.apply(before, after);
        let root = host.seen().canonicalize().unwrap();
        let stat = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
        for (path, mode) in [("dir", 0o750), ("dir/file", 0o640), ("sparse", 0o600), ("", 0o755)] {
            assert_eq!(stat(path).mode() & 0o7777, mode, "{path}");
        }
        for path in ["", "dir", "dir/file", "link", "sparse", "shared"] {
            assert_eq!((stat(path).mtime(), stat(path).mtime_nsec()), (TIME.seconds, 123_456_000), "{path}");
        }
        assert_eq!((stat("hard").ino(), stat("hard").nlink()), (stat("dir/file").ino(), 2));
        assert!(stat("sparse").len() == 1 << 20 && stat("sparse").blocks() < 64);
        let (ready, _) = host.open(&Steps::default()).unwrap();
        let scan = host.scan(&ready, after).unwrap();
        assert!(scan.is_clean() && scan.files_hashed == 0, "{:?}", scan.findings);
        let (_, plan) = host.plan(&ready, after, after).unwrap();
        assert!(plan.is_empty(), "{plan}\n{:?}", plan.actions);
        seen.push(root);
        before = after;
    }
    // What is writable is nobody else's, and a mode that changes does not change in the version before.
    let inode = |version: usize, path: &str| fs::metadata(seen[version].join(path)).unwrap().ino();
    assert_ne!(inode(0, "dir/file"), inode(1, "dir/file"));
    assert_eq!(fs::metadata(seen[0].join("z-mode")).unwrap().mode() & 0o777, 0o444);
    assert!(host.backups().is_empty(), "{:?}", host.backups());
}

#[test]
fn changed_metadata_are_found_and_restored() {
    let (host, tree) = (host(), sample(b"text"));
    host.apply(&Tree::default(), &tree);
    host.chmod("dir/file", 0o666);
    host.chmod("dir", 0o777);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let found = host.scan(&ready, &tree).unwrap();
    assert!(found.finding(b"dir/file").is_some_and(|finding| finding.drift == Drift::Metadata));
    drop(ready);
    assert!(host.apply(&tree, &tree).is_empty());
    let mode = |path: &str| fs::metadata(host.root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("dir/file"), mode("dir")), (0o640, 0o750));
}

#[test]
fn what_gives_power_is_refused_unless_the_target_allows_it() {
    let mut tree = Tree::default();
    let content = tree.content(b"text");
    let capability = Xattr { name: (*b"security.capability").into(), value: (*b"x").into() };
    let with_xattr = SystemMetadata { xattrs: vec![capability], ..metadata(0o644) };
    let device =
        Node::Device { kind: smart_sync_store::manifest::entry::DeviceKind::Character, major: 1, minor: 3 };
    add(&mut tree, "capability", Node::File(content), Some(with_xattr));
    add(&mut tree, "device", device, Some(metadata(0o666)));
    add(&mut tree, "link", Node::Symlink(content), Some(metadata(0o777)));
    add(&mut tree, "linked", Node::Hardlink(path("link")), None);
    add(&mut tree, "outside", Node::Hardlink(path("not/here")), None);
    add(&mut tree, "pipe", Node::Fifo, Some(metadata(0o600)));
    add(&mut tree, "set-id", Node::File(content), Some(metadata(0o4755)));
    add(&mut tree, "sticky", Node::Directory, Some(metadata(0o1777)));

    let mut host = host();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let (_, plan) = host.plan(&ready, &Tree::default(), &tree).unwrap();
    let name = (*b"security.capability").into();
    let links = [Problem::HardlinkTarget(path("linked")), Problem::HardlinkTarget(path("outside"))];
    let expected = [
        Problem::SystemXattr { path: path("capability"), name },
        Problem::Device(path("device")),
        links[0].clone(),
        links[1].clone(),
        Problem::PipeOrSocket(path("pipe")),
        Problem::SetId(path("set-id")),
    ];
    assert_eq!(plan.problems, expected);

    host.policy.allows_set_id = true;
    host.policy.allows_devices = true;
    host.policy.allows_pipes_and_sockets = true;
    host.policy.allows_system_xattrs = true;
    let (_, plan) = host.plan(&ready, &Tree::default(), &tree).unwrap();
    assert_eq!(plan.problems, links);
    drop(ready);

    tree.entries.retain(|entry| ["pipe", "set-id", "sticky"].iter().any(|name| path(name) == entry.path));
    host.apply(&Tree::default(), &tree);
    let mode = |path: &str| fs::metadata(host.root.join(path)).unwrap().mode();
    assert_eq!(mode("set-id"), 0o10_4755);
    assert_eq!(mode("pipe"), 0o1_0600);
    assert_eq!(mode("sticky"), 0o4_1777);
}

#[test]
fn a_name_that_is_known_here_wins_over_the_number() {
    let owners = Owners::parse(
        b"root:x:0:0:root:/root:/bin/sh\nbad\nalice:x:1007:100::/:/bin/sh\n",
        b"users:x:107:\n",
    );
    assert_eq!(owners.resolve(b"alice", 5, b"users", 6), (1007, 107));
    assert_eq!(owners.resolve(b"bob", 5, b"", 6), (5, 6));
    assert_eq!(owners.resolve(b"bad", 5, b"users", 6), (5, 107));
}
