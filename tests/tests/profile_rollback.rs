//! Going back with all targets of a profile, by hand and by itself: what runs for it, what cannot go back, and what
//! brings it to its end.

use std::fs;

use smart_sync_tests::strace::switches_of;
use smart_sync_tests::supervisors::wait_until_none_stands_by;
use smart_sync_tests::{Finished, Profiled, Saved, Strace, TestEnvironment};

const PROFILE: &str = r#"
[targets."ROOT/srv/site"]
channel = "repos/site"
kind = "generations"

[targets."ROOT/srv/tool"]
channel = "repos/tool"
kind = "generations"
"#;
const ALL: [&str; 2] = ["site", "tool"];

fn publish(host: &Profiled<'_>, version: &str) {
    for name in ALL {
        host.publish(&format!("repos/{name}"), "main", &[("version", version)]);
    }
}

/// A host whose profile says `text` beside what its targets are. Nothing was pulled yet.
fn host<'e>(environment: &'e TestEnvironment, text: &str) -> Profiled<'e> {
    let host = Profiled::new(environment);
    host.configure("allow = [\"run\", \"check\"]\n");
    host.publish_profile(Profiled::PROFILE, "main", &format!("{PROFILE}{text}"));
    host
}

/// The same with two sets, for which nothing was run.
fn with_two_sets<'e>(environment: &'e TestEnvironment, text: &str) -> Profiled<'e> {
    let host = host(environment, text);
    for version in ["one", "two"] {
        publish(&host, version);
        host.pull(&["--skip-rebuild"]).success();
    }
    host
}

fn rollback(host: &Profiled<'_>, words: &[&str]) -> Finished {
    host.run(&[&["rollback", "--profile", Profiled::PROFILE], words].concat())
}

const REBOOT: &str = r#"
[[targets."ROOT/srv/tool".run]]
command = ["true"]
reboot = true
"#;

#[test]
fn what_takes_a_reboot_ends_with_twelve_where_its_target_was_switched() {
    let environment = TestEnvironment::new();
    let host = with_two_sets(&environment, REBOOT);
    host.publish("repos/site", "main", &[("version", "three")]);
    host.pull(&["--skip-rebuild"]).success();
    rollback(&host, &[]).success();
    assert_eq!(host.versions(&ALL), ["two", "two"]);
    let back = rollback(&host, &["1"])
        .expect_code(12)
        .stderr_contains("it takes a reboot until what runs are those versions");
    assert!(back.stdout.contains("all targets of profiles/host are at set 1 now"), "{}", back.stdout);
    assert_eq!(host.versions(&ALL), ["one", "one"]);
    rollback(&host, &["2", "--skip-rebuild"]).success();
}

const KILLS: &str = r#"
[[targets."ROOT/srv/tool".run]]
command = ["sh", "-c", "echo $SMART_SYNC_ACTION >> ROOT/ran; kill -9 $PPID"]
"#;

#[test]
fn what_runs_for_it_is_begun_three_times_at_most_where_it_kills_the_run() {
    let environment = TestEnvironment::new();
    let host = with_two_sets(&environment, KILLS);
    assert_eq!(rollback(&host, &[]).code, None);
    wait_until_none_stands_by(&environment.state_directory());
    assert_eq!(fs::read_to_string(environment.path("ran")).unwrap(), "rollback\n".repeat(3));
    assert_eq!(host.versions(&ALL), ["one", "one"]);
    assert!(host.sets().contains("(current, held)"), "{}", host.sets());
    host.run(&["recover"]).success();
    host.pull(&[]).success().stderr_contains("was taken back to set 1 and stays there");
}

#[test]
fn what_was_left_out_is_left_out_by_whoever_brings_it_to_its_end() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let host = with_two_sets(&environment, &KILLS.replace("; kill -9 $PPID", ""));
    let state = environment.state_directory();
    let before = Saved::new(&environment, "before", &[&environment.path("srv"), &state]);
    let back = || host.command(&["rollback", "--profile", Profiled::PROFILE, "--skip-rebuild"]);
    let trace = strace.trace(&back(), &["renameat", "renameat2"]);
    wait_until_none_stands_by(&state);
    let (call, when) = switches_of(&trace, &host.target("tool").canonicalize().unwrap()).remove(0);
    before.restore();
    assert_eq!(strace.kill_alone(&back(), &call, &(when + 1).to_string()).code, None);
    wait_until_none_stands_by(&state);
    assert_eq!(host.versions(&ALL), ["one", "one"]);
    assert!(host.sets().contains("(current, held)"), "{}", host.sets());
    assert!(!environment.path("ran").exists());
    host.run(&["resume", "--profile", Profiled::PROFILE]).success();
    host.pull(&[]).success();
    assert_eq!(fs::read_to_string(environment.path("ran")).unwrap(), "update\n");
}

const CHECK: &str = r#"
[[targets."ROOT/srv/tool".check]]
name = "not bad"
command = ["sh", "-c", "! grep -q bad version"]
retries = 0
"#;

#[test]
fn a_set_that_is_tried_again_in_its_place_has_nothing_to_go_back_to() {
    let environment = TestEnvironment::new();
    let host = host(&environment, CHECK);
    publish(&host, "bad");
    host.pull(&[]).expect_code(9).stderr_contains("there is nothing to go back to for");
    host.pull(&[]).expect_code(8);
    let again = host.pull(&["--retry-failed"]).expect_code(9);
    again.stderr_contains("there is nothing to go back to for").stderr_contains("srv/site");
    assert_eq!(host.versions(&ALL), ["bad", "bad"]);
    publish(&host, "good");
    host.pull(&[]).success();
}
