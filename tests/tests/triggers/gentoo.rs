//! Packages of Gentoo, and the configuration of Portage.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use smart_sync_tests::folding_disk::in_namespace_of_root;
use smart_sync_tests::{BtrfsDisk, TestEnvironment, program};

use super::{CHECK, Machine, names};

#[test]
fn packages_are_pretended_before_they_are_merged_and_nothing_takes_them_back() {
    let environment = TestEnvironment::new();
    let emerge = "[[run]]\nemerge = { sets = [\"@world\"], getbinpkg = true, options = [\"--update\"], root = \"ROOT/mnt\" }\n";
    let machine = Machine::new(&environment, &format!("{emerge}{CHECK}"));
    environment.write("mnt/etc/conf.d/net", "by hand");
    let merge =
        "case \"$*\" in *--pretend*) echo would merge ;; *) touch ROOT/mnt/etc/conf.d/._cfg0000_net ;; esac";
    let merge = merge.replace("ROOT/", &machine.path("").to_string_lossy());
    machine.programs.add("emerge", &merge);
    machine.publish("one");
    let synced = machine.sync(&[]).success().stderr_contains("1 file of configuration waits to be merged");
    assert!(synced.stdout.contains("emerge @world (pretending): would merge"), "{}", synced.stdout);
    assert!(synced.stderr.contains("etc/conf.d/._cfg0000_net"), "{}", synced.stderr);
    insta::assert_snapshot!(machine.recorded());
    assert_eq!(fs::read_to_string(machine.path("mnt/etc/conf.d/net")).unwrap(), "by hand");
    // What cannot be done ends it before anything is.
    machine.programs.add("emerge", "case \"$*\" in *--pretend*) echo all ebuilds are masked; exit 1 ;; esac");
    machine.publish("two");
    machine.sync(&[]).expect_code(8).stderr_contains("all ebuilds are masked");
    assert_eq!(machine.recorded().lines().count(), 1);
    machine.programs.add("emerge", "");
    machine.publish("bad");
    machine.sync(&[]).expect_code(8).stderr_contains("stay as emerge left them");
    assert_eq!(machine.recorded().lines().count(), 2);
}

#[test]
fn portage_is_configured_by_lists_of_the_tree_and_goes_back_with_it() {
    let environment = TestEnvironment::new();
    let text = "[[run]]\nportage = { profile = \"17.1/desktop\", into = \"ROOT/portage\" }\n";
    let machine = Machine::new(&environment, &format!("{text}{CHECK}"));
    environment.write("portage/make.conf", "USE=\"own\"\n");
    environment.write("portage/package.use/own", "app-misc/own x\n");
    for (path, content) in [
        ("common.uses", "# for all\n*/* -X"),
        ("17.1/desktop.uses", "app-misc/a b\n"),
        ("common.pkgs", "app-misc/a\n"),
        ("common.conf", "FEATURES=\"buildpkg\"\n"),
        ("common.services", "touch /tmp/never\n"),
    ] {
        machine.host.write(path, content);
    }
    machine.publish("one");
    machine.sync(&[]).success().stderr_contains("add the line `source ");
    let read = |path: &str| fs::read_to_string(machine.path("portage").join(path)).unwrap();
    insta::assert_snapshot!(read("package.use/smart-sync"));
    assert!(read("make.conf.smart-sync").ends_with("FEATURES=\"buildpkg\"\n"));
    assert_eq!(names(machine.path("portage")), ["make.conf", "make.conf.smart-sync", "package.use", "sets"]);
    assert_eq!(names(machine.path("portage/package.use")), ["own", "smart-sync"]);

    // What is gone back to says what there is.
    let make_conf = format!("source {}\n", machine.path("portage/make.conf.smart-sync").display());
    environment.write("portage/make.conf", make_conf);
    fs::remove_file(machine.path("tree/common.pkgs")).unwrap();
    machine.host.write("common.mask", "app-misc/b\n");
    machine.publish("bad");
    let back = machine.sync(&[]).expect_code(8);
    assert!(!back.stderr.contains("source "), "{}", back.stderr);
    assert_eq!(names(machine.path("portage/sets")), ["smart-sync"]);
    assert_eq!(names(machine.path("portage/package.mask")), [""; 0]);

    // What a channel must not say refuses all of it.
    machine.host.write("common.conf", "FETCHCOMMAND=\"id\"\n");
    machine.host.write("common.uses", "app-misc/new c\n");
    machine.publish("two");
    machine.sync(&[]).expect_code(8).stderr_contains("common.conf: FETCHCOMMAND is for the host to decide");
    assert!(read("package.use/smart-sync").contains("*/* -X"));
}

/// A root that is a subvolume of btrfs, beside a machine whose target keeps its versions as directories.
#[test]
fn a_snapshot_of_the_root_is_taken_before_packages_are_merged() {
    if !in_namespace_of_root() {
        return;
    }
    let environment = TestEnvironment::new();
    let Some(_disk) = BtrfsDisk::mount(&environment.path("image"), &environment.path("disk")) else {
        return;
    };
    let root = environment.path("disk/root");
    let btrfs = |words: &[&str], path: &Path| {
        program::run(environment.command("btrfs").args(words).arg(path)).success();
    };
    btrfs(&["subvolume", "create"], &root);
    fs::create_dir_all(root.join("etc")).unwrap();
    let emerge = "[[run]]\nemerge = { sets = [\"@world\"], root = \"ROOT/disk/root\", keep = 2 }\n";
    let machine = Machine::new(&environment, &format!("{emerge}{CHECK}"));
    let merge = "case \"$*\" in *--pretend*) ;; *) cat version > ROOT/disk/root/etc/merged ;; esac";
    machine.programs.add("emerge", &merge.replace("ROOT/", &machine.path("").to_string_lossy()));
    machine.publish("one");
    let shown = machine.sync(&["--dry-run"]).success().stdout;
    assert!(shown.contains("would take a snapshot of ") && shown.contains("/disk/root into "), "{shown}");
    assert!(shown.contains("would, when all is well, keep the newest 2 snapshots of "), "{shown}");
    let store = environment.path("disk/.smart-sync-snapshots");
    assert!(!store.exists());
    let synced = machine.sync(&[]).success();
    assert!(!synced.stderr.contains("cannot be taken back"), "{}", synced.stderr);
    assert!(synced.stdout.contains(".smart-sync-snapshots/smart-sync-"), "{}", synced.stdout);
    assert_eq!(store.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    // What others keep there is none of ours, whatever it is called.
    btrfs(&["subvolume", "create"], &store.join("smart-sync-20200101T000000Z-00000000"));
    fs::create_dir(store.join("smart-sync-by-hand")).unwrap();
    for version in ["two", "three"] {
        machine.publish(version);
        machine.sync(&[]).success();
    }
    // Each holds what was there before it; the oldest has gone.
    let merged = || {
        let names = names(store.clone());
        let read = |name: &String| fs::read_to_string(store.join(name).join("etc/merged")).ok();
        names.iter().map(read).collect::<Vec<_>>()
    };
    let text = |version: &str| Some(version.to_owned());
    let mut expected = vec![None, text("one"), text("two"), None];
    assert_eq!(sorted(merged()), sorted(expected.clone()));

    // One that is not healthy says how to get back.
    machine.publish("bad");
    let back = machine.sync(&[]).expect_code(8).stderr_contains("stay as emerge left them");
    let back = back.stderr_contains("is what was there before: `btrfs subvolume snapshot ");
    back.stderr_contains("rootflags=subvolid=NUMBER");
    expected.push(text("three"));
    assert_eq!(sorted(merged()), sorted(expected.clone()));
    // So does a rebuild, from which nothing goes back.
    program::run(machine.host.sync_command().args(["--skip-rebuild", "--retry-failed"])).success();
    let back =
        machine.run(&["rebuild"]).expect_code(9).stderr_contains("nothing that ran knows how to go back");
    back.stderr_contains("is what was there before: `btrfs subvolume snapshot ");
    expected.push(text("bad"));
    assert_eq!(sorted(merged()), sorted(expected.clone()));
    // What is not even pretended leaves the root alone, and takes no snapshot.
    machine.programs.add("emerge", "exit 1");
    machine.publish("four");
    let back = machine.sync(&[]).expect_code(8);
    assert!(!back.stderr.contains("stay as emerge left them"), "{}", back.stderr);
    assert_eq!(sorted(merged()), sorted(expected));

    // Where it goes is said, or that none is wanted.
    let configured = |snapshot: &str| {
        let emerge = emerge.replace("keep = 2", snapshot);
        machine.configure(&format!("{emerge}{CHECK}"));
        machine.programs.add("emerge", "");
        machine.publish(snapshot);
        machine.sync(&[]).success()
    };
    configured("snapshot = \"ROOT/disk/kept\"");
    assert_eq!(names(environment.path("disk/kept")).len(), 1);
    configured("snapshot = false").stderr_contains("no snapshot is taken: none is wanted");
    assert_eq!(names(environment.path("disk/kept")).len(), 1);
}

fn sorted(mut found: Vec<Option<String>>) -> Vec<Option<String>> {
    found.sort();
    found
}
