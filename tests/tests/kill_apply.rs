//! SIGKILL at every step of an update: the next look finds the old tree or the new one, the next run completes it.
//!
//! With `SMART_SYNC_LONG` in the environment there are at least 200 kills of each update, at all of its calls, else a
//! sample of them.

use smart_sync_tests::strace::{KILL, points};
use smart_sync_tests::{Strace, TestEnvironment, Update};

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
/// The same where there is time for all of them.
const POINTS_MAX_LONG: u32 = 200;

/// How many points there are for a kind of call, and how many kills in all there have to be at least.
fn extent() -> (u32, usize) {
    if std::env::var_os("SMART_SYNC_LONG").is_some() { (POINTS_MAX_LONG, 200) } else { (POINTS_MAX, 20) }
}

/// Kills the run at each of these calls, and sees to it that the next ones make it whole. Where that are too few kills,
/// it begins anew: what the threads of a run do at the same time is not the same twice.
fn kill_at_each(update: &Update<'_>, strace: &Strace<'_>, calls: &[&str]) {
    let (points_max, kills_min) = extent();
    let counts = strace.count(&update.host.sync_command(), calls);
    let all: Vec<(String, u32)> = counts
        .into_iter()
        .flat_map(|(call, count)| points(count, points_max).into_iter().map(move |when| (call.clone(), when)))
        .collect();
    let mut kills = 0;
    loop {
        let before = kills;
        for (call, when) in &all {
            update.restore();
            let run = strace.run(&update.host.sync_command(), call, &when.to_string(), KILL);
            if run.code.is_some() {
                // Which thread wakes up which is not the same on every run, and with it the number of calls.
                run.success();
                continue;
            }
            kills += 1;
            update.assert_recovers(&format!("killed at {call} {when}"));
        }
        if kills >= kills_min {
            return;
        }
        assert!(kills > before + all.len() / 2, "only {kills} runs of {} were killed", all.len());
    }
}

#[test]
fn an_update_that_is_killed_at_any_change_is_old_or_new_and_the_next_run_completes_it() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    kill_at_each(&Update::next(&environment), &strace, &CHANGES);
}

#[test]
fn an_update_that_is_killed_at_any_write_is_old_or_new_and_the_next_run_completes_it() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    kill_at_each(&Update::next(&environment), &strace, &WRITES);
}

#[test]
fn a_first_sync_that_is_killed_anywhere_is_nothing_or_all_and_the_next_run_completes_it() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let calls = ["write", "fsync", "syncfs", "renameat", "mkdirat", "unlinkat", "rename"];
    kill_at_each(&Update::first(&environment), &strace, &calls);
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
            update.restore();
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
