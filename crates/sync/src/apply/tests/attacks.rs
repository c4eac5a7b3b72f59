//! No path leads through a link, whichever way the kernel offers to look it up.

use std::os::fd::AsFd;
use std::os::unix::fs::symlink;

use super::fixture::Host;
use crate::apply::error::ApplyError;
use crate::apply::stat::FileKind;
use crate::apply::step::Steps;
use crate::apply::tree_dir::{RootLink, TreeDir};

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
