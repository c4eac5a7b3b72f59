//! The bytes of pages, which must never change.

use smart_sync_store::manifest::{
    Attributes, Content, DeviceKind, Entry, Fidelity, FileTime, Node, Page, SystemMetadata, Xattr,
};

use crate::tree::*;

/// Compares the root page of a tree with the file that holds it. `GOLDEN_WRITE=1` writes a file that is not there.
#[track_caller]
fn check(name: &str, fidelity: Fidelity, entries: &[Entry]) {
    let (pages, summary) = build(fidelity, entries);
    let root = &pages.pages[&summary.id.root_page()];
    let file = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("GOLDEN_WRITE").is_some() && !std::path::Path::new(&file).exists() {
        std::fs::write(&file, root).unwrap();
    }
    let golden = std::fs::read(&file).unwrap();
    assert!(golden == root[..], "{name} is not what is written today");
    Page::decode(&golden).unwrap();
    let read: Vec<Entry> = manifest(fidelity, entries).iter().map(Result::unwrap).collect();
    assert_eq!(read, entries);
}

#[test]
fn git_pages_are_what_they_were() {
    let large = Content { size: 5 << 32, ..content(9) };
    check(
        "manifest-git.page",
        Fidelity::Git,
        &[
            file(".gitignore", 1),
            git_entry("bin", 0o040_755, 0),
            git_entry("bin/run", 0o100_755, 2),
            git_entry("bin/run.old", 0o100_664, 3),
            git_entry("empty", 0o040_000, 0),
            Entry { node: Node::File(large), ..file("large.iso", 0) },
            git_entry("link", 0o120_000, 4),
            git_entry("vendor/library", 0o160_000, 0),
        ],
    );
    check("manifest-git-empty.page", Fidelity::Git, &[]);
}

#[test]
fn pages_of_pages_are_what_they_were() {
    check("manifest-git-level-1.page", Fidelity::Git, &many_files(700));
}

#[test]
fn system_pages_are_what_they_were() {
    let with = |text: &str, node: Node, metadata: SystemMetadata| Entry {
        attributes: Attributes::System(Some(Box::new(metadata))),
        ..system_entry(text, node)
    };
    let old = SystemMetadata {
        uid: 0,
        gid: u32::MAX,
        user: Box::default(),
        group: Box::default(),
        modified: FileTime { seconds: -2, nanoseconds: 999_999_999 },
        xattrs: vec![
            Xattr { name: (*b"security.capability").into(), value: Box::new([1, 0, 0, 2]) },
            Xattr { name: (*b"user.comment").into(), value: Box::default() },
        ],
        ..metadata(0o4755)
    };
    check(
        "manifest-system.page",
        Fidelity::System,
        &[
            system_entry("", Node::Directory),
            system_entry("dev", Node::Directory),
            system_entry("dev/null", Node::Device { kind: DeviceKind::Character, major: 1, minor: 3 }),
            system_entry("dev/sda", Node::Device { kind: DeviceKind::Block, major: 8, minor: 1 << 19 }),
            with("disk", Node::File(content(1)), SystemMetadata { is_sparse: true, ..metadata(0o600) }),
            system_entry("link", Node::Symlink(content(2))),
            system_entry("other name", Node::Hardlink(path("disk"))),
            system_entry("pipe", Node::Fifo),
            system_entry("socket", Node::Socket),
            with("sudo", Node::File(content(3)), old),
        ],
    );
}
