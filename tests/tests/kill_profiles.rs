//! SIGKILL while a profile is pulled: readers of each target see one version at any moment, and the next run makes all
//! targets new, or leaves all of them old.
//!
//! With `SMART_SYNC_LONG` in the environment there are 200 rounds, else a sample of them.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::process::Command;

use smart_sync_tests::program;
use smart_sync_tests::strace::{KILL, points};
use smart_sync_tests::supervisors::wait_until_none_stands_by;
use smart_sync_tests::{Profiled, Saved, Strace, TestEnvironment};

/// The calls that change something on disk or make it durable.
const CALLS: [&str; 13] = [
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "linkat",
    "fsync",
    "syncfs",
    "write",
    "rename",
    "unlink",
    "ftruncate",
    "fchmod",
];
const ALL: [&str; 4] = ["site", "plain", "files", "tool"];
const PROFILE: &str = r#"
[targets."ROOT/srv/site"]
channel = "repos/site"
kind = "generations"
[targets."ROOT/srv/plain"]
channel = "repos/plain"
[targets."ROOT/srv/files"]
channel = "repos/files"
kind = "overlay"
[targets."ROOT/srv/tool"]
channel = "repos/tool"
kind = "generations"
"#;

fn rounds() -> usize {
    if std::env::var_os("SMART_SYNC_LONG").is_some() { 200 } else { 26 }
}

fn publish(host: &Profiled<'_>, version: &str) {
    for name in ALL {
        host.publish(
            &format!("repos/{name}"),
            "main",
            &[("version", version), (version, "only in this one")],
        );
    }
}

/// The points at which a command is killed: all kinds of calls, each here and there.
fn kills(strace: &Strace<'_>, command: &Command, rounds: usize) -> Vec<(String, u32)> {
    let counts = strace.count(command, &CALLS);
    let mut all: Vec<(String, u32)> = counts
        .into_iter()
        .flat_map(|(call, count)| points(count, 40).into_iter().map(move |when| (call.clone(), when)))
        .collect();
    let mut seed = 20_261_129_u64;
    let mut chosen = Vec::new();
    while !all.is_empty() && chosen.len() < rounds {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chosen.push(all.swap_remove(usize::try_from(seed >> 33).unwrap() % all.len()));
    }
    chosen
}

#[test]
fn a_pull_that_is_killed_anywhere_leaves_all_targets_old_or_is_completed() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let host = Profiled::new(&environment);
    host.publish_profile(Profiled::PROFILE, "main", PROFILE);
    publish(&host, "old");
    host.pull(&[]).success();
    publish(&host, "new");
    let before =
        Saved::new(&environment, "before", &[&environment.path("srv"), &environment.state_directory()]);
    let points = kills(&strace, &host.pull_command(&[]), rounds());
    let (mut killed, mut completed) = (0, 0);
    for (call, when) in points {
        before.restore();
        let what = format!("killed at {call} {when}");
        let ended = strace.run(&host.pull_command(&[]), &call, &when.to_string(), KILL);
        // What stands by completes it, unless that was hit as well: strace follows it.
        wait_until_none_stands_by(&environment.state_directory());
        for version in host.versions(&["site", "tool"]) {
            assert!(version == "old" || version == "new", "{what}: {version}");
        }
        if ended.code.is_some() {
            continue;
        }
        killed += 1;
        // Whoever looks at one target first does not decide for it alone.
        let site = host.target("site");
        host.run(&["status", "--target", site.to_str().unwrap()]).success();
        host.run(&["recover"]).success();
        let versions = host.versions(&ALL);
        assert!(versions == ["old"; 4] || versions == ["new"; 4], "{what}: {versions:?}");
        completed += usize::from(versions == ["new"; 4]);
        program::run(&mut host.pull_command(&[])).success();
        assert_eq!(host.versions(&ALL), ["new"; 4], "{what}");
        for name in ALL {
            host.run(&["verify", "--full", "--target", host.target(name).to_str().unwrap()]).success();
        }
        host.run(&["ledger", "verify"]).success();
        host.run(&["rollback", "--profile", Profiled::PROFILE]).expect_code(4).stderr_contains("srv/plain");
    }
    assert!(killed > rounds() / 2, "only {killed} runs were killed");
    assert!(completed > 0 && completed < killed, "{completed} of {killed} were completed");
}

/// The same where the set has to prove itself. What stands by is hit as well as the run: strace follows it.
#[test]
fn a_pull_with_a_check_that_is_killed_anywhere_goes_back_or_is_confirmed() {
    const NAMES: [&str; 3] = ["site", "files", "tool"];
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let host = Profiled::new(&environment);
    host.configure("allow = [\"check\"]\n");
    let versioned = PROFILE.replace("[targets.\"ROOT/srv/plain\"]\nchannel = \"repos/plain\"\n", "");
    let check = "[[targets.\"ROOT/srv/tool\".check]]\ncommand = [\"true\"]\n";
    host.publish_profile(Profiled::PROFILE, "main", &format!("{versioned}{check}"));
    publish(&host, "old");
    host.pull(&[]).success();
    publish(&host, "new");
    let state = environment.state_directory();
    let before = Saved::new(&environment, "before", &[&environment.path("srv"), &state]);
    let points = kills(&strace, &host.pull_command(&[]), rounds() / 2);
    let mut killed = 0;
    for (call, when) in points {
        before.restore();
        let what = format!("killed at {call} {when}");
        let ended = strace.run(&host.pull_command(&[]), &call, &when.to_string(), KILL);
        wait_until_none_stands_by(&state);
        if ended.code.is_some() {
            continue;
        }
        killed += 1;
        // Where what stands by was hit too, this takes its place.
        let recovered = host.run(&["recover"]);
        assert!([Some(0), Some(8)].contains(&recovered.code), "{what}: {}", recovered.stderr);
        host.run(&["recover"]).success();
        let versions = host.versions(&NAMES);
        assert!(versions == ["old"; 3] || versions == ["new"; 3], "{what}: {versions:?}");
        program::run(&mut host.pull_command(&["--retry-failed"])).success();
        assert_eq!(host.versions(&NAMES), ["new"; 3], "{what}");
        host.run(&["ledger", "verify"]).success();
        for directory in ["profiles", "targets"].map(|name| state.join(name)) {
            for left in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
                for name in ["pending", "pending-changed", "way-back", "ballast", "journal"] {
                    assert!(!left.join(name).exists(), "{what}: {} is left in {}", name, left.display());
                }
            }
        }
    }
    assert!(killed > rounds() / 4, "only {killed} runs were killed");
}

#[test]
fn going_back_that_is_killed_anywhere_is_not_begun_or_completed() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let host = Profiled::new(&environment);
    let versioned =
        PROFILE.replace("channel = \"repos/plain\"", "channel = \"repos/plain\"\nkind = \"generations\"");
    host.publish_profile(Profiled::PROFILE, "main", &versioned);
    for version in ["old", "new"] {
        publish(&host, version);
        host.pull(&[]).success();
    }
    let directories = [environment.path("srv"), environment.state_directory()];
    let before = Saved::new(&environment, "before", &[&directories[0], &directories[1]]);
    let back = host.command(&["rollback", "--profile", Profiled::PROFILE]);
    let points = kills(&strace, &back, rounds() / 2);
    let (mut killed, mut completed) = (0, 0);
    for (call, when) in points {
        before.restore();
        let what = format!("killed at {call} {when}");
        let ended = strace.kill_alone(&back, &call, &when.to_string());
        // What stands by completes it, where that was there already.
        wait_until_none_stands_by(&environment.state_directory());
        if ended.code.is_some() {
            continue;
        }
        killed += 1;
        host.run(&["recover"]).success();
        let versions = host.versions(&ALL);
        assert!(versions == ["old"; 4] || versions == ["new"; 4], "{what}: {versions:?}");
        let listed = host.run(&["generations", "--profile", Profiled::PROFILE]).success().stdout;
        if versions == ["old"; 4] {
            completed += 1;
            assert!(listed.contains("(current, held)"), "{what}: {listed}");
        }
        program::run(&mut host.command(&["rollback", "--profile", Profiled::PROFILE, "2"])).success();
        assert_eq!(host.versions(&ALL), ["new"; 4], "{what}");
    }
    assert!(killed > rounds() / 4, "only {killed} runs were killed");
    assert!(completed > 0, "none of {killed} was completed");
}
