//! SIGKILL and power cuts in targets that keep their versions: readers see the old version or the new one at any
//! moment, and `recover` leaves nothing behind.
//!
//! With `SMART_SYNC_LONG` in the environment there are 200 rounds of each, else a sample of them.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::Path;

use smart_sync_tests::folding_disk::in_namespace_of_root;
use smart_sync_tests::noise::noise;
use smart_sync_tests::program;
use smart_sync_tests::strace::{KILL, points};
use smart_sync_tests::supervisors::wait_until_none_stands_by;
use smart_sync_tests::versioned::{Tree, tree_without};
use smart_sync_tests::{BtrfsDisk, Saved, Strace, TestEnvironment, Versioned};

/// The calls that change something on disk or make it durable.
const CALLS: [&str; 17] = [
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "linkat",
    "fchmod",
    "utimensat",
    "ftruncate",
    "write",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "unlink",
    "mkdir",
    "ioctl",
];
/// What readers see that is of no version: the host's own, and what is staged where a tree is changed in place.
const OWN: [&str; 2] = ["mine", ".smart-sync-stage"];

fn is_long() -> bool {
    std::env::var_os("SMART_SYNC_LONG").is_some()
}

fn rounds() -> u32 {
    if is_long() { 200 } else { 34 }
}

/// The next one of numbers that look as if there were no order in them.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// A host with an update before it.
struct Round<'e> {
    host: Versioned<'e>,
    old: Tree,
    new: Tree,
}

impl<'e> Round<'e> {
    fn new(host: Versioned<'e>) -> Self {
        for name in ["kept", "sub/kept", "changed", "deleted/one", "deleted/deeper/two"] {
            host.write(name, format!("{name}\n"));
        }
        host.write("large", noise("large", 200_000));
        host.host.publish().success();
        host.sync().success();
        host.edit("mine", "the host's own\n");
        let old = tree_without(&host.seen(), &OWN);
        Self { host, old, new: Tree::new() }
    }

    fn publish(&mut self) {
        let host = &self.host;
        host.write("changed", "changed again\n");
        host.write("made/deeper/new", "new\n");
        host.write("large", noise("larger", 220_000));
        fs::remove_dir_all(host.host.tree().join("deleted")).unwrap();
        host.host.publish().success();
        self.new = tree_without(&host.host.tree(), &[]);
    }

    /// What readers see is whole, whatever has happened.
    #[track_caller]
    fn check_seen(&self, what: &str) {
        let seen = tree_without(&self.host.seen(), &OWN);
        assert!(seen == self.old || seen == self.new, "{what}: a mix: {:?}", seen.keys());
        let mine = fs::read_to_string(self.host.seen().join("mine"));
        assert_eq!(mine.unwrap_or_else(|error| panic!("{what}: {error}")), "the host's own\n");
    }

    /// The command of the boot unit settles everything, and the next run succeeds.
    #[track_caller]
    fn check_recovers(&self, what: &str) {
        self.host.run(&["recover"]).success();
        self.check_seen(what);
        self.host.run(&["verify", "--full"]).success();
        self.host.sync().success();
        let seen = tree_without(&self.host.seen(), &OWN);
        assert_eq!(seen.keys().collect::<Vec<_>>(), self.new.keys().collect::<Vec<_>>(), "{what}");
        assert!(seen == self.new, "{what}: not the new one");
        let (all, current) = self.host.generations();
        assert_eq!(all, (1..=current).collect::<Vec<_>>(), "{what}");
        self.check_no_leftovers(what, all.len());
    }

    #[track_caller]
    fn check_no_leftovers(&self, what: &str, versions: usize) {
        let names = |directory: &Path| -> Vec<String> {
            let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
            entries.map(|name| name.to_string_lossy().into_owned()).collect()
        };
        let target = self.host.target();
        assert!(!target.join(".smart-sync-stage").exists(), "{what}: something is staged");
        if target.join(".zfs").exists() {
            assert_eq!(names(&target.join(".zfs/snapshot")).len(), versions, "{what}");
            assert_eq!(names(&target.join(".zfs/holds")).len(), versions, "{what}");
            return self.check_no_journal(what);
        }
        let store = target.with_file_name(".host.smart-sync");
        if !target.join("versions").exists() && !store.exists() {
            let left: Vec<_> =
                names(&target).into_iter().filter(|name| name.starts_with(".smart-sync")).collect();
            assert!(left.is_empty(), "{what}: {left:?}");
            self.host.run(&["ledger", "verify"]).success();
            return self.check_no_journal(what);
        }
        let (store, work) = if store.exists() {
            (store.clone(), store.join("work"))
        } else {
            (target.join("versions"), target.join("versions/.work"))
        };
        let kept = names(&store).into_iter().filter(|name| name.starts_with("smart-sync-")).count();
        assert_eq!(kept, versions, "{what}: {:?}", names(&store));
        let expected = ["empty", "left", "begun", "switched"];
        let left: Vec<_> = names(&work).into_iter().filter(|name| !expected.contains(&&**name)).collect();
        assert!(left.is_empty(), "{what}: {left:?}");
        self.check_no_journal(what);
    }

    #[track_caller]
    fn check_no_journal(&self, what: &str) {
        let state = fs::read_dir(self.host.state().join("targets")).unwrap().next().unwrap().unwrap().path();
        assert!(!state.join("journal").exists(), "{what}: a journal is left");
    }
}

/// The points of a command at which it is killed: all kinds of calls, each here and there.
fn kills(strace: &Strace<'_>, round: &Round<'_>, restore: &dyn Fn()) -> Vec<(String, u32)> {
    restore();
    let counts = strace.count(&round.host.sync_command(), &CALLS);
    let mut all: Vec<(String, u32)> = counts
        .into_iter()
        .flat_map(|(call, count)| points(count, 200).into_iter().map(move |when| (call.clone(), when)))
        .collect();
    let mut seed = 20_261_129;
    let mut chosen = Vec::new();
    while !all.is_empty() && chosen.len() < rounds() as usize {
        let at = usize::try_from(next(&mut seed)).unwrap() % all.len();
        chosen.push(all.swap_remove(at));
    }
    chosen
}

#[test]
fn an_update_of_directories_that_is_killed_anywhere_shows_one_version() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let mut round = Round::new(Versioned::new(&environment, "generations", "machine"));
    round.publish();
    let (target, state) = (round.host.target(), round.host.state());
    let before = Saved::new(&environment, "before", &[&target, &state]);
    let restore = || before.restore();
    let mut killed = 0;
    for (call, when) in kills(&strace, &round, &restore) {
        restore();
        let what = format!("killed at {call} {when}");
        let ended = strace.run(&round.host.sync_command(), &call, &when.to_string(), KILL);
        round.check_seen(&what);
        if ended.code.is_none() {
            killed += 1;
            round.check_recovers(&what);
        }
    }
    assert!(killed > rounds() / 2, "only {killed} runs were killed");
}

/// The same where what is applied has to prove itself. What stands by is hit as well as the run: strace follows it.
#[test]
fn an_update_with_a_check_that_is_killed_anywhere_goes_back_or_is_confirmed() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let mut round = Round::new(Versioned::new(&environment, "generations", "machine"));
    let (target, state) = (round.host.target(), round.host.state());
    let table = target.display();
    environment.write(
        "etc/config.toml",
        format!("[targets.\"{table}\"]\nkind = \"generations\"\n[[targets.\"{table}\".check]]\ncommand = [\"true\"]\n"),
    );
    round.publish();
    let before = Saved::new(&environment, "before", &[&target, &state]);
    let restore = || before.restore();
    let mut killed = 0;
    // A round takes twice as long as the others do.
    let rounds = if is_long() { rounds() } else { rounds() / 2 };
    for (call, when) in kills(&strace, &round, &restore).into_iter().take(rounds as usize) {
        restore();
        let what = format!("killed at {call} {when}");
        let ended = strace.run(&round.host.sync_command(), &call, &when.to_string(), KILL);
        wait_until_none_stands_by(&state);
        round.check_seen(&what);
        if ended.code.is_some() {
            continue;
        }
        killed += 1;
        // Where what stands by was hit too, this takes its place.
        let recovered = round.host.run(&["recover"]);
        assert!([Some(0), Some(8)].contains(&recovered.code), "{what}: {}", recovered.stderr);
        round.check_seen(&what);
        round.host.run(&["recover"]).success();
        program::run(round.host.sync_command().arg("--retry-failed")).success();
        let seen = tree_without(&round.host.seen(), &OWN);
        assert!(seen == round.new, "{what}: not the new one");
        let status = round.host.run(&["status"]).success().stdout;
        assert!(status.contains("confirmed\n") && !status.contains("not confirmed"), "{what}: {status}");
        let left = fs::read_dir(state.join("targets")).unwrap().next().unwrap().unwrap().path();
        for name in ["pending", "way-back", "ballast", "journal"] {
            assert!(!left.join(name).exists(), "{what}: {name} is left");
        }
    }
    assert!(killed > rounds / 2, "only {killed} runs were killed");
}

#[test]
fn an_update_of_a_dataset_that_is_killed_anywhere_is_completed_or_was_not_begun() {
    in_place_rounds("zfs");
}

#[test]
fn an_update_of_an_overlay_that_is_killed_anywhere_is_completed_or_was_not_begun() {
    in_place_rounds("overlay");
}

/// Readers of what is changed in place may see a mix until the run is completed; after that they see one version.
fn in_place_rounds(kind: &'static str) {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let mut round = Round::new(Versioned::new(&environment, kind, "machine"));
    round.publish();
    let (target, state) = (round.host.target(), round.host.state());
    let before = Saved::new(&environment, "before", &[&target, &state]);
    let restore = || before.restore();
    let mut ended_early = 0;
    for (call, when) in kills(&strace, &round, &restore) {
        restore();
        let what = format!("killed at {call} {when}");
        let ended = strace.run(&round.host.sync_command(), &call, &when.to_string(), KILL);
        // The program that makes a snapshot may be what is hit: then the run has failed.
        if ended.code != Some(0) {
            ended_early += 1;
            round.check_recovers(&what);
        }
    }
    assert!(ended_early > rounds() / 2, "only {ended_early} runs were killed");
}

/// A disk that can be put back to what it was: the image is copied while nothing is mounted.
fn btrfs_rounds(test: impl Fn(&Strace<'_>, &Round<'_>, &mut BtrfsDisk, &str, u32) -> Option<i32>) {
    if !in_namespace_of_root() {
        return;
    }
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let image = environment.path("image");
    let Some(disk) = BtrfsDisk::mount(&image, &environment.path("machine")) else { return };
    let mut round = Round::new(Versioned::new(&environment, "btrfs", "machine"));
    round.publish();
    let mut disk = disk;
    let before = environment.path("image.before");
    disk.save(&before);
    let disk = std::cell::RefCell::new(disk);
    let restore = || disk.borrow_mut().restore(&before);
    let mut ended_early = 0;
    for (call, when) in kills(&strace, &round, &restore) {
        restore();
        let code = test(&strace, &round, &mut disk.borrow_mut(), &call, when);
        // A program that makes a snapshot may be what is hit: then the run has failed.
        ended_early += u32::from(code != Some(0));
    }
    assert!(ended_early > rounds() / 2, "only {ended_early} runs were killed");
}

#[test]
fn an_update_of_snapshots_that_is_killed_anywhere_shows_one_version() {
    btrfs_rounds(|strace, round, _, call, when| {
        let what = format!("killed at {call} {when}");
        let ended = strace.run(&round.host.sync_command(), call, &when.to_string(), KILL);
        round.check_seen(&what);
        round.check_recovers(&what);
        ended.code
    });
}

#[test]
fn an_update_of_snapshots_with_a_power_cut_shows_one_version() {
    btrfs_rounds(|strace, round, disk, call, when| {
        let what = format!("cut at {call} {when}");
        let ended = strace.run(&round.host.sync_command(), call, &when.to_string(), KILL);
        disk.cut();
        round.check_seen(&what);
        round.check_recovers(&what);
        ended.code
    });
}
