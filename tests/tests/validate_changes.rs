//! Local changes of targets, as `validate` finds them and takes them back.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use smart_sync_tests::versioned::tree_without;
use smart_sync_tests::{TestEnvironment, Versioned};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// A host of each kind whose files were edited, deleted, and changed so that only their content tells.
#[test]
fn local_changes_are_found_and_taken_back_with_a_backup() {
    for kind in ["directory", "generations", "overlay", "zfs"] {
        let environment = TestEnvironment::new();
        let host = Versioned::new(&environment, kind, kind);
        let table = format!("[targets.\"{}\"]\nkind = \"{kind}\"\n", host.target().display());
        environment.write("etc/config.toml", format!("validate-sets = []\n{table}"));
        for name in ["edited", "deleted", "same-size", "kept"] {
            host.write(name, format!("{name} as published\n"));
        }
        host.host.publish().success();
        host.sync().success();
        let well = host.run(&["validate", "--verbose"]).success().stderr;
        assert!(well.contains("it is as it was applied; every file was read"), "{kind}: {well}");

        host.edit("edited", "by hand\n");
        fs::remove_file(host.seen().join("deleted")).unwrap();
        host.write("kept", "published later\n");
        host.host.publish().success();
        let quick = host.run(&["validate", "--quick"]).success();
        assert!(quick.stderr.contains("2 paths differ from what was applied"), "{kind}: {}", quick.stderr);
        assert!(quick.stderr.contains("missing: deleted"), "{kind}: {}", quick.stderr);
        // What looks as before is found by reading it.
        let path = host.seen().join("same-size");
        let before = fs::metadata(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, "SAME-SIZE as published\n").unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(before.modified().unwrap())
            .unwrap();
        fs::set_permissions(&path, before.permissions()).unwrap();
        let shown = host.run(&["validate", "--fix"]).success();
        assert!(
            shown.stdout.contains("would restore 3 paths of "),
            "{kind}: {}{}",
            shown.stdout,
            shown.stderr
        );
        assert_eq!(fs::read_to_string(host.seen().join("edited")).unwrap(), "by hand\n");

        let fixed = host.run(&["validate", "--fix", "--yes"]).success();
        assert!(
            fixed.stdout.contains("done: restore 3 paths of "),
            "{kind}: {}{}",
            fixed.stdout,
            fixed.stderr
        );
        for name in ["edited", "deleted", "same-size", "kept"] {
            let text = fs::read_to_string(host.seen().join(name)).unwrap();
            assert_eq!(text, format!("{name} as published\n"), "{kind}: it does not follow its ref");
        }
        let backups = tree_without(&host.state(), &[]);
        let mut backups: Vec<_> = backups
            .iter()
            .filter(|(path, _)| path.contains("/backups/"))
            .map(|(_, bytes)| &bytes[..])
            .collect();
        backups.sort_unstable();
        assert_eq!(backups, [&b"SAME-SIZE as published\n"[..], b"by hand\n"], "{kind}");
        host.run(&["verify", "--full"]).success();
        // And it goes on as before.
        host.sync().success();
        assert_eq!(fs::read_to_string(host.seen().join("kept")).unwrap(), "published later\n", "{kind}");
    }
}

/// A repair of what was published is a local change: it is made again after what was published is restored.
#[test]
fn restoring_and_repairing_do_not_undo_each_other() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "directory", "machine");
    let check = format!(
        "validate-sets = []\n[targets.\"{}\"]\nkind = \"directory\"\n[[targets.\"{0}\".validate]]\nexecutable = \"bin/*.sh\"\n",
        host.target().display()
    );
    environment.write("etc/config.toml", check);
    host.write("bin/a.sh", "#!/bin/sh\n");
    fs::set_permissions(environment.path("tree/bin/a.sh"), fs::Permissions::from_mode(0o644)).unwrap();
    host.write("other", "published");
    host.host.publish().success();
    host.sync().success();
    for _ in 0..2 {
        host.edit("other", "by hand");
        host.run(&["validate", "--fix", "--yes"]).success();
        assert_eq!(mode(&host.seen().join("bin/a.sh")), 0o755);
        assert_eq!(fs::read_to_string(host.seen().join("other")).unwrap(), "published");
    }
}

#[test]
fn a_version_that_waits_to_be_confirmed_is_left_alone() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    let target = host.target();
    let table = format!(
        "validate-sets = []\n[targets.\"{}\"]\nkind = \"generations\"\nconfirm = \"person\"\n",
        target.display()
    );
    environment.write("etc/config.toml", table);
    host.write("file", "one");
    host.host.publish().success();
    host.sync().success();
    host.run(&["confirm"]);
    host.write("file", "two");
    host.host.publish().success();
    host.sync().success();
    host.edit("file", "by hand");
    let fixed = host.run(&["validate", "--fix", "--yes"]).success();
    assert!(fixed.stderr.contains("not done: restore 1 path"), "{}", fixed.stderr);
    assert!(fixed.stderr.contains("was not confirmed yet"), "{}", fixed.stderr);
    assert_eq!(fs::read_to_string(host.seen().join("file")).unwrap(), "by hand");
    host.run(&["confirm"]).success();
    host.run(&["validate", "--fix", "--yes"]).success();
    assert_eq!(fs::read_to_string(host.seen().join("file")).unwrap(), "two");
}

#[test]
fn a_target_that_another_run_works_on_is_not_waited_for() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "directory", "machine");
    let table = format!("validate-sets = []\n[targets.\"{}\"]\n", host.target().display());
    environment.write("etc/config.toml", table);
    host.write("file", "published");
    host.host.publish().success();
    host.sync().success();
    host.edit("file", "by hand");
    let targets: Vec<_> = fs::read_dir(host.state().join("targets")).unwrap().collect();
    let lock = targets[0].as_ref().unwrap().path().join("lock");
    let lock = fs::File::open(lock).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let found = host.run(&["validate", "--verbose"]).success().stderr;
    assert!(found.contains("not looked at: it is being worked on by "), "{found}");
    drop(lock);
    let found = host.run(&["validate"]).success().stderr;
    assert!(found.contains("1 path differs from what was applied"), "{found}");
}
