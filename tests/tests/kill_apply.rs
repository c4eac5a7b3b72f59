//! SIGKILL at every step of an update: the next look finds the old tree or the new one, the next run completes it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use smart_sync_tests::noise::noise;
use smart_sync_tests::strace::{KILL, points};
use smart_sync_tests::{Host, Saved, Snapshot, Strace, TestEnvironment};

/// The calls that change a tree or the state directory, or make it durable.
const CHANGES: [&str; 9] = [
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "linkat",
    "fchmod",
    "utimensat",
    "ftruncate",
];
const WRITES: [&str; 9] =
    ["write", "fsync", "fdatasync", "syncfs", "rename", "unlink", "mkdir", "flock", "writev"];

/// How many kills there are for a kind of call: more than an update has of each, fewer than takes a minute.
const POINTS_MAX: u32 = 24;

/// What the host had changed itself in a file that the update replaces.
const LOCAL: &str = "edited on the host\n";

/// A host that is about to make an update with every kind of change in it.
struct Update<'environment> {
    host: Host<'environment>,
    before: Saved,
    old: Snapshot,
    old_trust: Vec<u8>,
    new: Snapshot,
    new_trust: Vec<u8>,
    state: BTreeSet<String>,
}

impl<'environment> Update<'environment> {
    /// The first sync of a new host.
    fn first(environment: &'environment TestEnvironment) -> Self {
        let host = Host::new(environment);
        old_tree(&host);
        host.publish().success();
        Self::new(host)
    }

    /// From one version to the next, with a local change in between.
    fn next(environment: &'environment TestEnvironment) -> Self {
        let host = Host::new(environment);
        old_tree(&host);
        host.publish().success();
        host.sync().success();
        // It would look as if it had been published, and be lost, if the size and the time were all that is seen.
        fs::write(host.target().join("replaced/edited"), LOCAL)
            .expect("the files of the test can be changed");
        // The update is published from elsewhere: this host's trust state does not know of it yet.
        let state = Saved::new(environment, "known", &[&environment.state_directory()]);
        change_tree(&host);
        host.publish().success();
        state.restore();
        Self::new(host)
    }

    fn new(host: Host<'environment>) -> Self {
        let environment = host.environment();
        let (target, state) = (host.target(), environment.state_directory());
        fs::create_dir_all(&target).expect("the files of the test can be changed");
        let before = Saved::new(environment, "before", &[&target, &state]);
        let (old, old_trust) = (Snapshot::of(&target), host.trust_state());
        host.sync().success();
        host.assert_synced();
        let (new, new_trust) = (Snapshot::of(&target), host.trust_state());
        let names = names_below(&state);
        before.restore();
        Self { host, before, old, old_trust, new, new_trust, state: names }
    }

    /// Kills the run at each of these calls, and sees to it that the next ones make it whole.
    fn kill_at_each(&self, strace: &Strace<'_>, calls: &[&str]) {
        let counts = strace.count(&self.host.sync_command(), calls);
        let mut kills = 0;
        for (call, count) in counts {
            for when in points(count, POINTS_MAX) {
                self.before.restore();
                let run = strace.run(&self.host.sync_command(), &call, &when.to_string(), KILL);
                if run.code.is_some() {
                    // Which thread wakes up which is not the same on every run, and with it the number of calls.
                    run.success();
                    continue;
                }
                kills += 1;
                self.assert_recovers(&format!("killed at {call} {when}"));
            }
        }
        assert!(kills >= 20, "only {kills} runs were killed");
    }

    fn assert_recovers(&self, what: &str) {
        let trust = self.host.trust_state();
        assert!(
            trust == self.old_trust || trust == self.new_trust,
            "{what}: {}",
            String::from_utf8_lossy(&trust)
        );
        self.host.status().success();
        let found = without_stage(&self.host.target());
        if found != self.old {
            let differences = found.differences(&self.new);
            assert!(differences.is_empty(), "{what}: neither old nor new: {differences:?}");
        }
        let ended = self.host.sync().success();
        let differences = Snapshot::of(&self.host.target()).differences(&self.new);
        assert!(differences.is_empty(), "{what}: {differences:?}\n{}{}", ended.stdout, ended.stderr);
        assert_eq!(self.host.trust_state(), self.new_trust, "{what}");
        let names = names_below(&self.host.environment().state_directory());
        assert_eq!(names, self.state, "{what}: the state directory holds something else");
        if !self.old.nodes().is_empty() {
            assert_eq!(backed_up(&self.host), [LOCAL], "{what}");
        }
    }
}

fn old_tree(host: &Host<'_>) {
    let environment = host.environment();
    for name in
        ["kept", "replaced/one", "replaced/edited", "deleted/one", "deleted/deeper/two", "mode", "kind"]
    {
        environment.write(&format!("tree/{name}"), format!("{name}\n"));
    }
    // More than one piece of a pack: it comes as several writes.
    environment.write("tree/large", noise("large", 400_000));
    symlink("kept", host.tree().join("link")).expect("the files of the test can be changed");
}

fn change_tree(host: &Host<'_>) {
    let (environment, tree) = (host.environment(), host.tree());
    for name in ["replaced/one", "replaced/edited", "made/one", "made/deeper/two"] {
        environment.write(&format!("tree/{name}"), format!("{name} is new\n"));
    }
    environment.write("tree/large", noise("larger", 500_000));
    environment.write("tree/copy", "kept\n");
    fs::remove_dir_all(tree.join("deleted")).expect("the files of the test can be changed");
    fs::set_permissions(tree.join("mode"), fs::Permissions::from_mode(0o755))
        .expect("the files of the test can be changed");
    fs::remove_file(tree.join("link")).expect("the files of the test can be changed");
    symlink("made", tree.join("link")).expect("the files of the test can be changed");
    fs::remove_file(tree.join("kind")).expect("the files of the test can be changed");
    environment.write("tree/kind/file", "where a file was\n");
}

/// The tree without what the next run will use again.
fn without_stage(target: &Path) -> Snapshot {
    let (stage, parked) = (target.join(".smart-sync-stage"), target.with_extension("stage"));
    let is_there = fs::rename(&stage, &parked).is_ok();
    let snapshot = Snapshot::of(target);
    if is_there {
        fs::rename(&parked, &stage).expect("the files of the test can be changed");
    }
    snapshot
}

/// Every path below a directory, with the times in the names of backups left out.
fn names_below(directory: &Path) -> BTreeSet<String> {
    let is_stamp = |name: &str| name.len() > 15 && name.starts_with("20") && name.contains('T');
    let plain = |path: &PathBuf| {
        let names = path.iter().map(|name| name.to_string_lossy().into_owned());
        let names = names.map(|name| if is_stamp(&name) { "TIME".to_owned() } else { name });
        names.collect::<Vec<_>>().join("/")
    };
    Snapshot::of(directory).nodes().keys().map(plain).collect()
}

/// What is kept of the host's own changes to the edited file.
fn backed_up(host: &Host<'_>) -> Vec<String> {
    let state = host.environment().state_directory();
    let nodes = Snapshot::of(&state);
    let kept = nodes.nodes().keys().filter(|path| path.to_string_lossy().contains("/backups/"));
    let edited = kept.filter(|path| path.ends_with("replaced/edited"));
    edited
        .map(|path| fs::read_to_string(state.join(path)).expect("the files of the test can be changed"))
        .collect()
}

#[test]
fn an_update_that_is_killed_at_any_change_is_old_or_new_and_the_next_run_completes_it() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    Update::next(&environment).kill_at_each(&strace, &CHANGES);
}

#[test]
fn an_update_that_is_killed_at_any_write_is_old_or_new_and_the_next_run_completes_it() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    Update::next(&environment).kill_at_each(&strace, &WRITES);
}

#[test]
fn a_first_sync_that_is_killed_anywhere_is_nothing_or_all_and_the_next_run_completes_it() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let calls = ["write", "fsync", "syncfs", "renameat", "mkdirat", "unlinkat", "rename"];
    Update::first(&environment).kill_at_each(&strace, &calls);
}

/// Completing an unfinished run can be killed like any other run.
#[test]
fn a_recovery_that_is_killed_is_completed_by_the_next_run() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let update = Update::next(&environment);
    let strike = |run: &str, when: u32| {
        let killed = strace.run(&update.host.sync_command(), run, &when.to_string(), KILL);
        assert_eq!(killed.code, None, "{run} {when}: {killed:?}");
    };
    // The first kill is in the middle of the changes, the second at each call of the recovery.
    for call in ["renameat", "unlinkat", "write", "fsync", "syncfs"] {
        let mut when = 1;
        loop {
            update.before.restore();
            strike("unlinkat", 10);
            let run = strace.run(&update.host.sync_command(), call, &when.to_string(), KILL);
            if run.code.is_some() {
                run.success();
                break;
            }
            update.assert_recovers(&format!("recovery killed at {call} {when}"));
            when += 1 + when / 6;
        }
        assert!(when > 1, "no {call} in a recovery");
    }
}
