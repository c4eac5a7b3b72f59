//! Trees that are laid over directories of others, with the real programs.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use smart_sync_tests::folding_disk::in_namespace_of_root;
use smart_sync_tests::versioned::{Tree, tree_without};
use smart_sync_tests::{Host, TestEnvironment, Versioned, program, skipped};

/// A host whose target holds files of its own.
fn host(environment: &TestEnvironment) -> Versioned<'_> {
    let host = Versioned::new(environment, "overlay", "machine");
    host.edit("etc/hosts", "the host's own\n");
    host.edit("etc/passwd", "untouched\n");
    fs::set_permissions(host.seen().join("etc/hosts"), fs::Permissions::from_mode(0o600)).unwrap();
    host
}

fn publish(host: &Versioned<'_>, files: &[(&str, &str)]) {
    let tree = host.host.tree();
    if tree.exists() {
        fs::remove_dir_all(&tree).unwrap();
    }
    for (path, text) in files {
        host.write(path, text);
    }
    host.host.publish().success();
}

fn seen(host: &Versioned<'_>) -> Tree {
    tree_without(&host.seen(), &[])
}

#[test]
fn what_stood_there_is_listed_kept_and_given_back() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    let before = seen(&host);
    publish(&host, &[("etc/app/conf", "one\n"), ("etc/hosts", "published\n")]);
    let shown = program::run(host.sync_command().arg("--dry-run")).success().stdout;
    assert!(shown.contains("replace  etc/hosts (a file, 10 bytes), what stands there is kept"), "{shown}");
    assert_eq!(seen(&host), before);
    host.sync().success();
    let listed = host.run(&["ledger", "list"]).success().stdout;
    let hosts = host.target().canonicalize().unwrap().join("etc/hosts");
    assert!(
        listed.contains(&format!("{}  a file, where a file stood; the target", hosts.display())),
        "{listed}"
    );
    let events = host.run(&["ledger", "list", "--json"]).success().stdout;
    assert!(events.contains(r#""placed":"a directory","before":null"#), "{events}");
    host.run(&["ledger", "verify"]).success().stdout_contains("3 paths are as placed");

    host.edit("etc/app/conf", "by hand\n");
    host.run(&["ledger", "verify"]).expect_code(11).stdout_contains("changed: /");
    host.run(&["verify"]).expect_code(11);
    host.sync().success();
    host.run(&["ledger", "verify"]).success();

    let shown = host.run(&["ledger", "remove"]).success().stdout;
    assert!(shown.contains("3 paths would be given back; nothing was changed"), "{shown}");
    host.run(&["ledger", "verify"]).success();
    host.run(&["ledger", "remove", "--yes"]).success().stdout_contains("3 paths given back");
    assert_eq!(seen(&host), before);
    let mode = fs::metadata(host.seen().join("etc/hosts")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    host.run(&["ledger", "list"]).success().stdout_contains("nothing was placed");
    host.run(&["status"]).success().stdout_contains("nothing was applied");
    // It can be laid over it again, and be of another kind as well.
    host.sync().success();
    host.run(&["ledger", "remove", "--yes"]).success();
    assert_eq!(seen(&host), before);
}

#[test]
fn going_back_gives_back_and_takes_again() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    let before = seen(&host);
    publish(&host, &[("etc/hosts", "one\n"), ("etc/only-first", "first\n")]);
    host.sync().success();
    publish(&host, &[("etc/only-second", "second\n")]);
    host.sync().success();
    assert_eq!(fs::read_to_string(host.seen().join("etc/hosts")).unwrap(), "the host's own\n");
    assert!(!host.seen().join("etc/only-first").exists());
    host.run(&["rollback"]).success().stdout_contains("is at generation 1 now");
    assert_eq!(fs::read_to_string(host.seen().join("etc/hosts")).unwrap(), "one\n");
    assert!(!host.seen().join("etc/only-second").exists());
    host.run(&["ledger", "remove", "--yes"]).success();
    assert_eq!(seen(&host), before);
}

#[test]
fn what_belongs_to_another_target_or_lies_behind_a_link_is_refused() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    let (outer, inner) = (host.target(), host.target().join("srv/site"));
    fs::create_dir_all(&inner).unwrap();
    symlink("usr/lib", outer.join("lib")).unwrap();
    let realm = host.host.realm.server().url();
    let sections = format!(
        "[targets.\"{}\"]\nkind = \"overlay\"\n[targets.\"{}\"]\nkind = \"directory\"\n",
        outer.display(),
        inner.display()
    );
    environment.write("etc/config.toml", &sections);
    let before = seen(&host);
    let refused = |path: &str, reason: &str| {
        publish(&host, &[(path, "x")]);
        host.sync().expect_code(1).stderr_contains(reason).stderr_contains("nothing was changed");
        assert_eq!(seen(&host), before);
    };
    refused("srv/site/file", "which an overlay leaves alone");
    refused("lib/modules/x", "lib: a symbolic link, which is not followed");
    refused("etc", "a directory of the host stands there");

    // Another overlay below, which places what this one wants as well.
    publish(&host, &[("hosts", "of the other\n")]);
    let below = outer.join("etc");
    let mut other = environment.client();
    other.env("SMART_SYNC_STATE_DIR", host.state());
    other.args(["--channel", Host::CHANNEL, "--server", realm, "--kind", "overlay", "--target"]).arg(&below);
    program::run(&mut other).success();
    publish(&host, &[("etc/hosts", "of this one\n")]);
    host.sync()
        .expect_code(1)
        .stderr_contains("etc/hosts: the target ")
        .stderr_contains("placed something there");
    assert_eq!(fs::read_to_string(below.join("hosts")).unwrap(), "of the other\n");
}

#[test]
fn a_tree_lies_over_several_file_systems() {
    if !in_namespace_of_root() {
        return;
    }
    let environment = TestEnvironment::new();
    let host = host(&environment);
    let boot = host.target().join("boot");
    fs::create_dir_all(&boot).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&boot).status();
    if !mounted.is_ok_and(|status| status.success()) {
        skipped("a file system in memory cannot be mounted");
        return;
    }
    host.edit("boot/kernel", "the host's kernel\n");
    let before = seen(&host);
    publish(&host, &[("boot/kernel", "ours\n"), ("boot/loader/entry", "entry\n"), ("etc/hosts", "ours\n")]);
    host.sync().success();
    assert_eq!(fs::read_to_string(boot.join("kernel")).unwrap(), "ours\n");
    assert_eq!(fs::read_to_string(boot.join("loader/entry")).unwrap(), "entry\n");
    publish(&host, &[("boot/kernel", "ours, newer\n")]);
    host.sync().success();
    assert!(!boot.join("loader").exists());
    host.run(&["rollback"]).success();
    assert_eq!(fs::read_to_string(boot.join("kernel")).unwrap(), "ours\n");
    host.run(&["ledger", "verify"]).success();
    host.run(&["ledger", "remove", "--yes"]).success();
    assert_eq!(seen(&host), before);
    Command::new("umount").arg(&boot).status().unwrap();
}
