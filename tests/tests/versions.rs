//! Targets that keep their versions, with the real programs: on any file system, and on btrfs.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smart_sync_tests::folding_disk::in_namespace_of_root;
use smart_sync_tests::noise::noise;
use smart_sync_tests::program;
use smart_sync_tests::versioned::tree_without;
use smart_sync_tests::{BtrfsDisk, TestEnvironment, Versioned};

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Runs a test on a target of each kind that this machine can have.
fn on_directories(test: fn(&Versioned<'_>)) {
    let environment = TestEnvironment::new();
    test(&Versioned::new(&environment, "generations", "machine"));
}

fn on_btrfs(test: fn(&Versioned<'_>)) {
    if !in_namespace_of_root() {
        return;
    }
    let environment = TestEnvironment::new();
    let Some(_disk) = BtrfsDisk::mount(&environment.path("image"), &environment.path("machine")) else {
        return;
    };
    test(&Versioned::new(&environment, "btrfs", "machine"));
}

/// With a program that stands in for `zfs`.
fn on_dataset(test: fn(&Versioned<'_>)) {
    let environment = TestEnvironment::new();
    test(&Versioned::new(&environment, "zfs", "machine"));
}

fn on_overlay(test: fn(&Versioned<'_>)) {
    let environment = TestEnvironment::new();
    test(&Versioned::new(&environment, "overlay", "machine"));
}

fn publish_first(host: &Versioned<'_>) {
    for name in ["kept", "changed", "deleted/one", "edited", "sub/kept"] {
        host.write(name, format!("{name}\n"));
    }
    host.write("large", noise("large", 300_000));
    symlink("kept", host.host.tree().join("link")).unwrap();
    host.host.publish().success();
}

fn publish_second(host: &Versioned<'_>) {
    host.write("changed", "changed again\n");
    host.write("edited", "published\n");
    host.write("made/new", "new\n");
    fs::remove_dir_all(host.host.tree().join("deleted")).unwrap();
    host.host.publish().success();
}

fn lifecycle(host: &Versioned<'_>) {
    publish_first(host);
    host.sync().success();
    assert_eq!(host.generations(), (vec![1], 1));
    assert_eq!(tree_without(&host.seen(), &[]), tree_without(&host.host.tree(), &[]));
    let first = tree_without(&host.seen(), &[]);

    // What the host adds stays through all versions, and what it changes is kept aside.
    host.edit("mine", "untracked\n");
    host.edit("var/data", "excluded\n");
    host.edit("edited", "by hand\n");
    host.run(&["verify"]).expect_code(11);
    publish_second(host);
    host.sync().success().stderr_contains("local change: edited");
    assert_eq!(host.generations(), (vec![1, 2], 2));
    let own = ["mine", "var"];
    assert_eq!(tree_without(&host.seen(), &own), tree_without(&host.host.tree(), &[]));
    assert_eq!(read(host.seen().join("mine")), "untracked\n");
    assert_eq!(read(host.seen().join("var/data")), "excluded\n");
    host.run(&["verify", "--full"]).success();
    let backups = tree_without(&host.state(), &[]);
    let backups = backups.iter().filter(|(path, _)| path.contains("/backups/"));
    assert_eq!(backups.map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>(), [b"by hand\n"]);

    let shown = host.run(&["diff", "--generations", "1", "2"]).success().stdout;
    assert!(shown.contains("-changed\n+changed again\n"), "{shown}");

    // Back, and held there; what was made since stays. A version whose files the host has changed is made again.
    host.edit("var/later", "made later\n");
    host.run(&["rollback"]).success();
    let (all, back) = host.generations();
    assert!(all == [1, 2] && back == 1 || all == [1, 2, 3] && back == 3, "{all:?} {back}");
    assert_eq!(read(host.seen().join("changed")), "changed\n");
    assert_eq!(read(host.seen().join("var/later")), "made later\n");
    host.sync().success().stderr_contains("stays there");
    assert_eq!(host.generations(), (all, back));
    host.run(&["resume"]).success();
    let synced = host.sync().success();
    let (all, newest) = host.generations();
    assert!(newest > back && newest > 2);
    assert_eq!(read(host.seen().join("changed")), "changed again\n");
    assert!(!synced.stdout.contains("downloading"), "it was all here: {}", synced.stdout);

    // Pinned and current versions stay, the rest goes.
    host.run(&["pin", &back.to_string()]).success();
    let shown = host.run(&["prune", "--keep", "1"]).success().stdout;
    assert!(shown.contains("would be removed; nothing was changed"), "{shown}");
    assert_eq!(host.generations().0, all);
    host.run(&["prune", "--keep", "1", "--yes"]).success();
    assert_eq!(host.generations().0, [back, newest]);
    host.run(&["rollback", "2"]).expect_code(4);
    host.run(&["rollback", &back.to_string()]).success();
    assert_eq!(tree_without(&host.seen(), &own), first);
}

fn mount(words: &[&str], at: &Path) {
    program::run(Command::new("mount").args(words).arg(at)).success();
}

/// Neither readers nor what is mounted may be switched to where nobody expects them.
fn nothing_is_switched_below_a_mount(host: &Versioned<'_>) {
    publish_first(host);
    host.write("mnt/in", "below\n");
    host.host.publish().success();
    host.sync().success();
    publish_second(host);
    host.sync().success();
    let (before, current) = (tree_without(&host.seen(), &["mnt"]), host.generations());
    let place = host.seen().canonicalize().unwrap().join("mnt");
    mount(&["-t", "tmpfs", "none"], &place);
    fs::write(place.join("precious"), "mounted").unwrap();
    let refused = host.run(&["rollback"]).expect_code(1);
    assert!(refused.stderr.contains("another file system is mounted at "), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: unmount it"), "{}", refused.stderr);
    // Nothing is left that a later run would have to settle, and readers have what they had.
    let settled = host.run(&["recover"]).success();
    assert!(settled.stdout.contains("nothing was interrupted"), "{}", settled.stdout);
    assert_eq!((tree_without(&host.seen(), &["mnt"]), host.generations()), (before.clone(), current.clone()));
    assert_eq!(read(place.join("precious")), "mounted");
    host.write("changed", "once more\n");
    host.host.publish().success();
    host.sync().expect_code(1).stderr_contains("another file system is mounted there");
    assert_eq!(read(place.join("precious")), "mounted");
    program::run(Command::new("umount").arg(&place)).success();
    host.run(&["rollback"]).success();
    assert_eq!(read(host.seen().join("changed")), "changed\n");
    host.run(&["resume"]).success();
    host.sync().success();
}

#[test]
fn versions_in_directories_are_not_switched_below_a_mount() {
    if in_namespace_of_root() {
        on_directories(nothing_is_switched_below_a_mount);
    }
}

#[test]
fn a_subvolume_is_not_exchanged_below_a_mount_or_where_it_is_one() {
    on_btrfs(|host| {
        nothing_is_switched_below_a_mount(host);
        // It becomes a mount point of its own: what is mounted there is the same, and cannot be exchanged.
        let target = host.target().canonicalize().unwrap();
        let current = host.generations();
        mount(&["--bind", target.to_str().unwrap()], &target);
        host.run(&["rollback"])
            .expect_code(4)
            .stderr_contains("it is a mount point, which cannot be exchanged");
        let settled = host.run(&["recover"]).success();
        assert!(settled.stdout.contains("nothing was interrupted"), "{}", settled.stdout);
        assert_eq!(host.generations(), current);
        program::run(Command::new("umount").arg(&target)).success();
        host.run(&["rollback"]).success();
    });
}

#[test]
fn versions_in_directories_live_and_go() {
    on_directories(lifecycle);
}

#[test]
fn versions_in_snapshots_live_and_go() {
    on_btrfs(lifecycle);
}

#[test]
fn versions_of_a_dataset_live_and_go() {
    on_dataset(lifecycle);
}

#[test]
fn versions_of_an_overlay_live_and_go() {
    on_overlay(lifecycle);
}

/// Readers check what they see, each through a directory that it opened once, while versions alternate.
fn readers_never_see_a_mix(host: &Versioned<'_>) {
    let names: Vec<String> = (0..12).map(|number| format!("d{number}/file")).collect();
    for version in ["one", "two"] {
        for name in &names {
            host.write(name, version);
        }
        host.host.publish().success();
        host.sync().success();
    }
    let (checks_wanted, turns_wanted): (u64, u32) =
        if std::env::var_os("SMART_SYNC_LONG").is_some() { (10_000, 200) } else { (500, 10) };
    let (checks, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let seen = host.seen();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let Ok(directory) = fs::File::open(&seen) else { continue };
                let found: Vec<String> = names
                    .iter()
                    .map(|name| {
                        let flags = rustix::fs::OFlags::RDONLY;
                        let file = rustix::fs::openat(&directory, name, flags, rustix::fs::Mode::empty());
                        let file = file.unwrap_or_else(|error| panic!("{name}: {error}"));
                        std::io::read_to_string(fs::File::from(file)).unwrap()
                    })
                    .collect();
                assert!(found.iter().all(|text| *text == found[0]), "a mix: {found:?}");
                checks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut turns = 0;
        while checks.load(Ordering::Relaxed) < checks_wanted || turns < turns_wanted {
            let to = if turns % 2 == 0 { "1" } else { "2" };
            let ended = host.run(&["rollback", to]);
            if ended.code != Some(0) {
                is_over.store(true, Ordering::Relaxed);
            }
            ended.success();
            turns += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn readers_of_directories_never_see_a_mix() {
    on_directories(readers_never_see_a_mix);
}

#[test]
fn readers_of_snapshots_never_see_a_mix() {
    on_btrfs(readers_never_see_a_mix);
}

/// A version that was changed where it is kept is not gone back to as it is.
#[test]
fn a_damaged_version_is_made_again_or_the_way_back_says_what_is_missing() {
    let environment = TestEnvironment::new();
    let mut host = Versioned::new(&environment, "generations", "machine");
    publish_first(&host);
    host.sync().success();
    let first = host.seen().canonicalize().unwrap();
    publish_second(&host);
    host.sync().success();
    let replace = |path: &str| {
        fs::remove_file(first.join(path)).unwrap();
        fs::write(first.join(path), "damaged\n").unwrap();
    };
    // The other version has it.
    replace("sub/kept");
    host.run(&["rollback"]).success().stderr_contains("changed: sub/kept");
    assert_eq!(host.generations(), (vec![1, 2, 3], 3));
    assert_eq!(read(host.seen().join("sub/kept")), "sub/kept\n");
    assert_eq!(read(host.seen().join("changed")), "changed\n");
    host.run(&["prune", "--keep", "1", "--yes"]).success();

    // Nobody but the server has it.
    host.run(&["resume"]).success();
    host.sync().success();
    assert_eq!(host.generations(), (vec![3, 4], 4));
    let third = fs::read_dir(host.target().join("versions")).unwrap().map(|entry| entry.unwrap().path());
    let third = third.filter(|path| path.join("deleted/one").exists()).last().unwrap();
    fs::remove_file(third.join("deleted/one")).unwrap();
    let server = i32::try_from(host.host.realm.server().process()).ok();
    let server = server.and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    host.host.realm.wait_until_dead();
    host.run(&["rollback"]).expect_code(9).stderr_contains("cannot be made again, and nothing was changed");
    assert_eq!(host.generations(), (vec![3, 4], 4));
    let host = host.restart_at_its_address();
    host.run(&["rollback"]).success().stderr_contains("changed: deleted/one");
    assert_eq!(read(host.seen().join("deleted/one")), "deleted/one\n");
}

/// Files are shared by their names where blocks cannot be, and a write to such a file is refused or found.
#[test]
fn files_that_are_shared_are_read_only() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    publish_first(&host);
    host.sync().success();
    publish_second(&host);
    host.sync().success();
    let kept = fs::metadata(host.seen().join("kept")).unwrap();
    if kept.nlink() > 1 {
        assert_eq!(kept.mode() & 0o222, 0);
    }
}

#[test]
fn what_cannot_keep_versions_is_left_alone_and_said_so() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    publish_first(&host);
    fs::create_dir(host.target()).unwrap();
    fs::write(host.target().join("precious"), "mine").unwrap();
    host.sync().expect_code(4).stderr_contains("it holds `precious`, and no versions");
    assert_eq!(fs::read_dir(host.target()).unwrap().count(), 1);
    fs::remove_file(host.target().join("precious")).unwrap();
    host.sync().success();
    // It is decided once.
    let url = host.host.realm.server().url();
    let words = ["--channel", smart_sync_tests::Host::CHANNEL, "--server", url, "--kind", "directory"];
    host.run(&words).expect_code(6).stderr_contains("is kept as `generations`");
}

#[test]
fn a_target_without_versions_says_so() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "directory", "machine");
    publish_first(&host);
    host.sync().success();
    for words in [&["generations"][..], &["rollback"], &["pin", "1"], &["prune"]] {
        host.run(words).expect_code(4).stderr_contains("changed in place");
    }
    host.run(&["recover"]).success();
}
