//! Types, modes, owners and attributes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use smart_sync_store::manifest::entry::{
    Attributes, DeviceKind, Entry, Fidelity, Node, SystemMetadata, Xattr,
};
use smart_sync_store::manifest::path::TreePath;

use super::{Case, Make};
use crate::apply::metadata::Owners;
use crate::apply::plan::Problem;
use crate::apply::tests::fixture::{APPLY_TIME, Host, Spec, Tree, refused};
use crate::apply::versions::Kind;

pub(super) const CASES: &[Case] = &[
    ("114, 115: hard links to what is not an earlier file of the tree", hard_links_to_elsewhere),
    ("116, 117: devices, pipes and sockets", devices_and_pipes),
    ("118: set-id bits", set_id_bits),
    ("119: what everybody may write to, and sticky directories", wide_modes),
    ("120: users of other hosts", foreign_users),
    ("121, 122: attributes of the system", attributes_of_the_system),
    ("123: a link called .gitmodules", a_link_called_gitmodules),
    ("an empty target of a link", an_empty_link),
];

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

fn metadata(mode: u32) -> SystemMetadata {
    SystemMetadata {
        mode,
        uid: 0,
        gid: 0,
        user: Box::default(),
        group: Box::default(),
        modified: APPLY_TIME,
        xattrs: Vec::new(),
        is_sparse: false,
    }
}

fn add(tree: &mut Tree, text: &str, node: Node, metadata: Option<SystemMetadata>) {
    let attributes = Attributes::System(metadata.map(Box::new));
    tree.entries.push(Entry { path: path(text), node, attributes });
}

fn with_metadata(make: Make<'_>) -> Host {
    let mut host = make();
    host.fidelity = Fidelity::System;
    host
}

fn mode(host: &Host, path: &str) -> u32 {
    fs::symlink_metadata(host.seen().join(path)).unwrap().mode() & 0o7777
}

fn hard_links_to_elsewhere(make: Make<'_>) {
    let host = with_metadata(make);
    let mut tree = Tree::default();
    let content = tree.content(b"text");
    add(&mut tree, "link", Node::Symlink(content), Some(metadata(0o777)));
    add(&mut tree, "linked", Node::Hardlink(path("link")), None);
    add(&mut tree, "outside", Node::Hardlink(path("not/here")), None);
    let expected = ["linked", "outside"].map(|at| Problem::HardlinkTarget(path(at)));
    let found = host.problems(&Tree::default(), &tree);
    assert!(expected.iter().all(|problem| found.contains(problem)), "{found:?}");
    assert!(host.disk().is_empty());

    // One to an earlier file is one, but where that is nothing that could be given back.
    let mut tree = Tree::default();
    let content = tree.content(b"text");
    add(&mut tree, "file", Node::File(content), Some(metadata(0o644)));
    add(&mut tree, "other", Node::Hardlink(path("file")), None);
    if host.kind == Kind::Overlay {
        let problem = Problem::NotForOverlay((*b"other").into(), "an overlay holds no hard links");
        return refused(&host, &Tree::default(), &tree, &[problem]);
    }
    host.apply(&Tree::default(), &tree);
    let inode = |path: &str| fs::metadata(host.seen().join(path)).unwrap().ino();
    assert_eq!(inode("file"), inode("other"));
}

fn devices_and_pipes(make: Make<'_>) {
    let mut host = with_metadata(make);
    let mut tree = Tree::default();
    let device = Node::Device { kind: DeviceKind::Block, major: 8, minor: 0 };
    add(&mut tree, "device", device, Some(metadata(0o666)));
    add(&mut tree, "pipe", Node::Fifo, Some(metadata(0o600)));
    add(&mut tree, "socket", Node::Socket, Some(metadata(0o600)));
    let mut expected = vec![
        Problem::Device(path("device")),
        Problem::PipeOrSocket(path("pipe")),
        Problem::PipeOrSocket(path("socket")),
    ];
    let not_for_overlays = [
        Problem::NotForOverlay((*b"device").into(), "an overlay holds no devices"),
        Problem::NotForOverlay((*b"pipe").into(), "an overlay holds no pipes and sockets"),
        Problem::NotForOverlay((*b"socket").into(), "an overlay holds no pipes and sockets"),
    ];
    if host.kind == Kind::Overlay {
        expected.extend(not_for_overlays.clone());
    }
    refused(&host, &Tree::default(), &tree, &expected);

    // Where they are allowed they are made, but for devices of a machine, which only root makes.
    host.policy.allows_devices = true;
    host.policy.allows_pipes_and_sockets = true;
    if host.kind == Kind::Overlay {
        return refused(&host, &Tree::default(), &tree, &not_for_overlays);
    }
    tree.entries.remove(0);
    host.apply(&Tree::default(), &tree);
    assert_eq!((mode(&host, "pipe"), mode(&host, "socket")), (0o600, 0o600));
}

fn set_id_bits(make: Make<'_>) {
    let mut host = with_metadata(make);
    let mut tree = Tree::default();
    let content = tree.content(b"text");
    add(&mut tree, "gid", Node::File(content), Some(metadata(0o2755)));
    add(&mut tree, "uid", Node::File(content), Some(metadata(0o4755)));
    let expected = ["gid", "uid"].map(|at| Problem::SetId(path(at)));
    refused(&host, &Tree::default(), &tree, &expected);
    host.policy.allows_set_id = true;
    host.apply(&Tree::default(), &tree);
    // What several versions share cannot be written to.
    assert_eq!((mode(&host, "gid") & 0o7111, mode(&host, "uid") & 0o7111), (0o2111, 0o4111));
}

fn wide_modes(make: Make<'_>) {
    let host = with_metadata(make);
    let mut tree = Tree::default();
    let content = tree.content(b"text");
    add(&mut tree, "everybody", Node::Directory, Some(metadata(0o777)));
    add(&mut tree, "file", Node::File(content), Some(metadata(0o666)));
    add(&mut tree, "tmp", Node::Directory, Some(metadata(0o1777)));
    host.apply(&Tree::default(), &tree);
    let modes = ["everybody", "file", "tmp"].map(|path| mode(&host, path));
    assert_eq!(modes, [0o777, 0o666, 0o1777]);
}

fn foreign_users(make: Make<'_>) {
    let host = with_metadata(make);
    let mut tree = Tree::default();
    let content = tree.content(b"text");
    let foreign =
        SystemMetadata { uid: 54_321, gid: 54_321, user: (*b"nobody-here").into(), ..metadata(0o644) };
    add(&mut tree, "file", Node::File(content), Some(foreign));
    // Whoever may not give files away has them.
    host.apply(&Tree::default(), &tree);
    let owner = |host: &Host| fs::metadata(host.seen().join("file")).unwrap().uid();
    assert_eq!(owner(&host), rustix::process::geteuid().as_raw());
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut host = with_metadata(make);
    host.policy.owners = Some(Owners::parse(b"root:x:0:0:root:/root:/bin/sh\n", b"root:x:0:\n"));
    host.apply(&Tree::default(), &tree);
    assert_eq!(owner(&host), 54_321, "the number counts where the name is not known");
}

fn attributes_of_the_system(make: Make<'_>) {
    let host = with_metadata(make);
    let mut tree = Tree::default();
    let content = tree.content(b"text");
    let names: [&[u8]; 4] =
        [b"security.capability", b"system.posix_acl_access", b"trusted.overlay.opaque", b"user.x"];
    for (at, name) in ["a", "b", "c", "d"].iter().zip(names) {
        let xattr = Xattr { name: name.into(), value: (*b"x").into() };
        let with = SystemMetadata { xattrs: vec![xattr], ..metadata(0o644) };
        add(&mut tree, at, Node::File(content), Some(with));
    }
    let problem = |at: &str, name: &[u8]| Problem::SystemXattr { path: path(at), name: name.into() };
    let expected: Vec<Problem> =
        ["a", "b", "c"].iter().zip(names).map(|(at, name)| problem(at, name)).collect();
    refused(&host, &Tree::default(), &tree, &expected);
}

fn a_link_called_gitmodules(make: Make<'_>) {
    let host = make();
    let specs = &[(".gitmodules", Spec::Link("../outside/precious"))];
    host.apply(&Tree::default(), &Tree::new(specs));
    assert_eq!(host.looks(), host.looks_like(specs));
    host.check_outside();
}

fn an_empty_link(make: Make<'_>) {
    let tree = Tree::new(&[("l", Spec::Link(""))]);
    refused(&make(), &Tree::default(), &tree, &[Problem::LinkTarget(path("l"))]);
}
