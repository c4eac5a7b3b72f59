//! Going back by hand: to which version, what runs for that, and what brings it to its end.

use std::fs;
use std::path::Path;

use smart_sync_tests::program;
use smart_sync_tests::strace::{KILL, points_of};
use smart_sync_tests::supervisors::wait_until_none_stands_by;
use smart_sync_tests::{Saved, Strace, TestEnvironment, Versioned};

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Writes the table of the target, with these lines behind it.
fn configure(host: &Versioned<'_>, text: &str) {
    let target = host.target();
    let target = target.display();
    let text = text.replace("[[run]]", &format!("[[targets.\"{target}\".run]]"));
    let text = text.replace("[[check]]", &format!("[[targets.\"{target}\".check]]"));
    let text = format!("[targets.\"{target}\"]\nkind = \"generations\"\n{text}");
    host.host.environment().write("etc/config.toml", text);
}

/// Brings the target to a version with this content, whatever comes of it.
fn follow(host: &Versioned<'_>, version: &str, code: i32) {
    host.write("version", version);
    host.host.publish().success();
    host.sync().expect_code(code);
}

fn version(host: &Versioned<'_>) -> String {
    read(host.seen().join("version"))
}

/// What was recorded since this was asked last.
fn ran(host: &Versioned<'_>) -> String {
    let path = host.host.environment().path("machine/ran");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(&path);
    text
}

/// Generation 1 is confirmed, 2 was never looked at, 3 is not healthy, and 4 is current and confirmed.
const RECORD: &str = r#"
[[run]]
name = "last"
when = "confirmed"
command = ["sh", "-c", "echo last $SMART_SYNC_ACTION $(cat version) >> ../../../ran"]
[[run]]
name = "record"
command = ["sh", "-c", "echo $SMART_SYNC_ACTION $(cat version) $(tr '\\0' ' ' < $SMART_SYNC_CHANGED) >> ../../../ran; ! grep -q fails version"]
[[run]]
command = ["sh", "-c", "echo conf >> ../../../ran"]
paths = ["conf/"]
[[check]]
name = "not bad"
command = ["sh", "-c", "! grep -q bad version"]
retries = 0
"#;

fn four_versions(host: &Versioned<'_>) {
    configure(host, RECORD);
    follow(host, "one", 0);
    host.write("version", "two");
    host.host.publish().success();
    program::run(host.sync_command().arg("--skip-rebuild")).success();
    follow(host, "bad", 8);
    follow(host, "four", 0);
    assert_eq!(host.generations(), (vec![1, 2, 3, 4], 4));
    ran(host);
}

#[test]
fn what_is_configured_runs_for_the_version_that_is_gone_back_to() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    four_versions(&host);
    let shown = host.run(&["rollback", "--dry-run"]).success().stdout;
    assert!(shown.contains("would be at generation 1: "), "{shown}");
    assert!(shown.contains("would run record: sh -c ") && !shown.contains("conf >>"), "{shown}");
    assert!(shown.contains("nothing was changed"), "{shown}");
    assert_eq!((version(&host), ran(&host)), ("four".to_owned(), String::new()));

    // Past one that is not healthy and one that nobody looked at, to one that was confirmed.
    let back = host.run(&["rollback"]).success().stdout;
    assert!(
        back.contains("generation 3 is passed over: it was not healthy when it was tried (the"),
        "{back}"
    );
    assert!(back.contains("generation 2 is passed over: it was never confirmed"), "{back}");
    assert!(back.contains("running record") && back.contains("is at generation 1 now"), "{back}");
    assert_eq!(
        (version(&host), ran(&host)),
        ("one".to_owned(), "rollback one version\nlast rollback one\n".to_owned())
    );
    wait_until_none_stands_by(&host.state());
    host.run(&["rollback"]).expect_code(4).stderr_contains("before the current one is kept");

    // Forward as well, and to one that is known not to be healthy, for whoever names it.
    host.run(&["rollback", "2", "--skip-rebuild"]).success();
    assert_eq!((version(&host), ran(&host)), ("two".to_owned(), String::new()));
    host.run(&["rollback", "3"]).success().stderr_contains("generation 3 was not healthy when it was tried");
    assert_eq!(version(&host), "bad");
    assert_eq!(ran(&host), "rollback bad version\nlast rollback bad\n");
    host.run(&["rollback", "9"]).expect_code(4).stderr_contains("generation 9 of");
}

#[test]
fn where_all_earlier_versions_are_not_healthy_somebody_has_to_name_one() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    configure(&host, RECORD);
    follow(&host, "bad", 9);
    follow(&host, "two", 0);
    let refused = host.run(&["rollback"]).expect_code(4);
    refused.stderr_contains("that was healthy is kept").stderr_contains("`smart-sync rollback NUMBER`");
    assert_eq!(version(&host), "two");
    host.run(&["rollback", "1"]).success();
    assert_eq!(version(&host), "bad");
}

#[test]
fn a_command_that_fails_is_said_and_the_target_stays_where_it_was_taken_to() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    configure(&host, "");
    follow(&host, "fails", 0);
    follow(&host, "two", 0);
    configure(&host, RECORD);
    let failed =
        host.run(&["rollback"]).expect_code(9).stderr_contains("is back at generation 1, but record");
    failed.stderr_contains("the target stays at this version");
    assert_eq!(version(&host), "fails");
    let status = host.run(&["status"]).success().stdout;
    assert!(status.contains("not healthy: going back to it: record ended with status 1"), "{status}");
    wait_until_none_stands_by(&host.state());
    host.sync().success().stderr_contains("stays there");
    assert_eq!(version(&host), "fails");
}

/// As one does that cuts off whoever typed it.
#[test]
fn what_runs_is_brought_to_its_end_where_it_kills_the_run() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    configure(&host, "");
    follow(&host, "one", 0);
    follow(&host, "two", 0);
    let kills = "echo $SMART_SYNC_ACTION $(cat version) >> ../../../ran; \
                 test -e ../../../killed || { touch ../../../killed; kill -9 $PPID; }";
    configure(&host, &format!("[[run]]\ncommand = [\"sh\", \"-c\", \"{kills}\"]\n"));
    assert_eq!(host.run(&["rollback"]).code, None);
    wait_until_none_stands_by(&host.state());
    assert_eq!((version(&host), ran(&host)), ("one".to_owned(), "rollback one\n".repeat(2)));
    // It is held, and nothing says that it is not healthy.
    let listed = host.run(&["generations"]).success().stdout;
    assert!(listed.contains("(current, held)") && !listed.contains("not healthy"), "{listed}");
    host.run(&["recover"]).success();
    assert_eq!(ran(&host), "");
}

/// Generation 1 records what runs for it, and 2 is current.
fn two_versions(host: &Versioned<'_>, text: &str) {
    configure(host, "");
    follow(host, "one", 0);
    configure(host, text);
    follow(host, "two", 0);
    let _ = ran(host);
}

const RECORDED: &str =
    "[[run]]\ncommand = [\"sh\", \"-c\", \"echo $SMART_SYNC_ACTION $(cat version) >> ../../../ran\"]\n";
const RENAMES: [&str; 3] = ["rename", "renameat", "renameat2"];

/// Readers see the earlier version already, and nothing has run for it; nor is it said yet that it stays there.
#[test]
fn going_back_that_is_killed_right_after_the_switch_is_brought_to_its_end() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let host = Versioned::new(&environment, "generations", "machine");
    two_versions(&host, RECORDED);
    let before = Saved::new(&environment, "before", &[&host.target(), &host.state()]);
    let trace = strace.trace(&host.command(&["rollback"]), &RENAMES);
    wait_until_none_stands_by(&host.state());
    let (call, when) = points_of(&trace, |line| line.contains("/held\"")).remove(0);
    before.restore();
    let _ = ran(&host);
    let killed = strace.run(&host.command(&["rollback"]), &call, &when.to_string(), KILL);
    assert_eq!(killed.code, None, "{}", killed.stderr);
    // What stands by may have been hit as well, and was not where it is not.
    wait_until_none_stands_by(&host.state());
    host.run(&["recover"]).success();
    assert_eq!(version(&host), "one");
    assert!(ran(&host).contains("rollback one\n"));
    let listed = host.run(&["generations"]).success().stdout;
    assert!(listed.contains("(current, held"), "{listed}");
    host.sync().success().stderr_contains("stays there");
}

/// A version that waits for somebody is not taken for one that nobody asks about, because somebody was about to leave it.
#[test]
fn going_back_that_is_killed_before_the_switch_leaves_no_version_on_trial_for_good() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let host = Versioned::new(&environment, "generations", "machine");
    two_versions(&host, &format!("confirm = \"person\"\nconfirm-within = \"1h\"\n{RECORDED}"));
    let before = Saved::new(&environment, "before", &[&host.target(), &host.state()]);
    let trace = strace.trace(&host.command(&["rollback"]), &RENAMES);
    wait_until_none_stands_by(&host.state());
    // That it is left is noted, and what stands by for that is not yet there.
    let (call, when) = points_of(&trace, |line| line.contains("/way-back\"")).remove(0);
    before.restore();
    let killed = strace.run(&host.command(&["rollback"]), &call, &when.to_string(), KILL);
    assert_eq!(killed.code, None, "{}", killed.stderr);
    assert_eq!(version(&host), "two");
    host.run(&["recover"]).expect_code(8).stderr_contains("somebody who was about to leave it");
    assert_eq!(version(&host), "one");
    let status = host.run(&["status"]).success().stdout;
    assert!(status.contains("gone back to, because the one after it was not healthy"), "{status}");
}

/// The same where a target goes back by itself.
#[test]
fn a_target_that_goes_back_and_is_killed_right_after_the_switch_runs_what_belongs_to_that() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let host = Versioned::new(&environment, "generations", "machine");
    two_versions(&host, RECORDED);
    configure(&host, &format!("{RECORDED}[[check]]\ncommand = [\"false\"]\nretries = 0\n"));
    host.write("version", "three");
    host.host.publish().success();
    let before = Saved::new(&environment, "before", &[&host.target(), &host.state()]);
    let trace = strace.trace_to(8, &host.sync_command(), &["rename"]);
    wait_until_none_stands_by(&host.state());
    // It is noted once more when readers were switched.
    let noted = points_of(&trace, |line| line.contains("/pending\""));
    let (call, when) = noted.last().expect("it is noted that it goes back");
    before.restore();
    let _ = ran(&host);
    let killed = strace.run(&host.sync_command(), call, &when.to_string(), KILL);
    assert_eq!(killed.code, None, "{}", killed.stderr);
    wait_until_none_stands_by(&host.state());
    let recovered = host.run(&["recover"]);
    assert!([Some(0), Some(8)].contains(&recovered.code), "{}", recovered.stderr);
    assert_eq!(version(&host), "two");
    let ran = ran(&host);
    assert!(ran.contains("update three\n") && ran.contains("rollback two\n"), "{ran}");
    let status = host.run(&["status"]).success().stdout;
    assert!(status.contains("gone back to, because the one after it was not healthy"), "{status}");
}

#[test]
fn what_takes_a_reboot_is_said() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    configure(&host, "");
    follow(&host, "one", 0);
    follow(&host, "two", 0);
    configure(&host, "[[run]]\ncommand = [\"true\"]\nreboot = true\n");
    host.run(&["rollback"])
        .expect_code(12)
        .stderr_contains("it takes a reboot until what runs is that version");
    host.run(&["resume"]).success();
    assert_eq!(version(&host), "one");
}
