//! Sets of targets on trial: who confirms all targets of a profile, what settles them when their pull cannot, and what a
//! reboot has to do with it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use smart_sync_tests::program;
use smart_sync_tests::small_disk::in_namespace;
use smart_sync_tests::strace::{KILL, switches_of};
use smart_sync_tests::supervisors::{end_all, start_again, supervisors, wait_until_none_stands_by};
use smart_sync_tests::{Finished, Profiled, Saved, SmallDisk, Strace, TestEnvironment};

const PROFILE: &str = r#"
[targets."ROOT/srv/site"]
channel = "repos/site"
kind = "generations"

[targets."ROOT/srv/tool"]
channel = "repos/tool"
kind = "generations"
"#;
const ALL: [&str; 2] = ["site", "tool"];
const MAY: &str = "allow = [\"run\", \"check\"]\n";

fn publish(host: &Profiled<'_>, version: &str) {
    for name in ALL {
        host.publish(&format!("repos/{name}"), "main", &[("version", version)]);
    }
}

/// A host whose targets are at their first version. Its profile says `text` of them from then on.
fn host<'e>(environment: &'e TestEnvironment, text: &str) -> Profiled<'e> {
    let host = Profiled::new(environment);
    host.configure(MAY);
    publish(&host, "one");
    host.publish_profile(Profiled::PROFILE, "main", PROFILE);
    host.pull(&[]).success();
    host.publish_profile(Profiled::PROFILE, "main", &format!("{PROFILE}{text}"));
    host
}

/// Runs a command as if it was typed over a connection of ssh.
fn over(connection: &str, command: &mut Command) -> Finished {
    program::run(command.env("SSH_CONNECTION", format!("192.0.2.1 {connection} 192.0.2.2 22")))
}

/// What `status --json` says of the version that a target holds.
fn health(host: &Profiled<'_>, name: &str) -> String {
    let said = host.run(&["status", "--json", "--target", host.target(name).to_str().unwrap()]);
    let said = said.success().stdout;
    let status = said.lines().find(|line| line.contains(r#""event":"status""#)).unwrap();
    let health = status.split(r#""health":""#).nth(1).unwrap();
    health.split('"').next().unwrap().to_owned()
}

/// Follows the channel of a target by itself.
fn sync_alone(host: &Profiled<'_>, name: &str) -> Finished {
    let target = host.target(name);
    host.run(&["--target", target.to_str().unwrap(), "--channel", &format!("repos/{name}")])
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[test]
fn a_pull_that_is_killed_between_two_switches_is_completed_without_anybody() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let host = host(&environment, "");
    publish(&host, "two");
    let directories = [environment.path("srv"), environment.state_directory()];
    let before = Saved::new(&environment, "before", &[&directories[0], &directories[1]]);
    let trace = strace.trace(&host.pull_command(&[]), &["renameat", "renameat2"]);
    let (call, when) = switches_of(&trace, &host.target("site").canonicalize().unwrap()).remove(0);
    before.restore();
    let killed = strace.run(&host.pull_command(&[]), &call, &(when + 1).to_string(), KILL);
    assert_eq!(killed.code, None, "{}", killed.stderr);
    wait_until_none_stands_by(&environment.state_directory());
    assert_eq!(host.versions(&ALL), ["two", "two"]);
    assert!(host.sets().contains("(current)"), "{}", host.sets());
    host.assert_nothing_is_left();
    let pulled = host.pull(&[]).success().stdout;
    assert!(pulled.contains("is up to date: 2 targets, set 2"), "{pulled}");
}

const KILLS: &str = r#"
[[targets."ROOT/srv/tool".run]]
command = ["sh", "-c", "echo $SMART_SYNC_ACTION $(cat version) >> ROOT/ran; test $SMART_SYNC_ACTION = rollback || kill -9 $PPID"]
"#;

#[test]
fn a_pull_that_is_killed_while_commands_run_is_taken_back_without_anybody() {
    let environment = TestEnvironment::new();
    let host = host(&environment, KILLS);
    publish(&host, "two");
    assert_eq!(host.pull(&[]).code, None);
    wait_until_none_stands_by(&environment.state_directory());
    assert_eq!(host.versions(&ALL), ["one", "one"]);
    assert_eq!(read(environment.path("ran")), "update two\nrollback one\n");
    host.assert_nothing_is_left();
    assert_eq!([health(&host, "site"), health(&host, "tool")], ["rolled-back", "rolled-back"]);
    host.pull(&[]).expect_code(8).stderr_contains("ended before it was confirmed");
    // Where there is nothing to go back to, what stands by ends as well.
    let other = TestEnvironment::new();
    let first = Profiled::new(&other);
    first.configure(MAY);
    publish(&first, "one");
    first.publish_profile(Profiled::PROFILE, "main", &format!("{PROFILE}{KILLS}"));
    assert_eq!(first.pull(&[]).code, None);
    wait_until_none_stands_by(&other.state_directory());
    assert_eq!(first.versions(&ALL), ["one", "one"]);
    first.assert_nothing_is_left();
    first.pull(&[]).expect_code(8);
}

#[test]
fn commands_for_going_back_that_kill_the_run_are_run_again_up_to_a_bound() {
    let environment = TestEnvironment::new();
    let kills = |when: &str| {
        let acts = "echo $SMART_SYNC_ACTION >> ROOT/ran; test $SMART_SYNC_ACTION = update && exit 1";
        let run = format!("command = [\"sh\", \"-c\", \"{acts}; {when}\"]");
        format!("\n[[targets.\"ROOT/srv/tool\".run]]\nname = \"kills\"\n{run}\n")
    };
    let host = host(&environment, &kills("test -e ROOT/once || { touch ROOT/once; kill -9 $PPID; }"));
    publish(&host, "two");
    assert_eq!(host.pull(&[]).code, None);
    wait_until_none_stands_by(&environment.state_directory());
    assert_eq!(read(environment.path("ran")), "update\nrollback\nrollback\n");
    assert_eq!([health(&host, "site"), health(&host, "tool")], ["rolled-back", "rolled-back"]);
    host.publish_profile(Profiled::PROFILE, "main", &format!("{PROFILE}{}", kills("kill -9 $PPID")));
    publish(&host, "three");
    assert_eq!(host.pull(&[]).code, None);
    wait_until_none_stands_by(&environment.state_directory());
    assert!(read(environment.path("ran")).ends_with("update\nrollback\nrollback\nrollback\n"));
    assert_eq!(host.versions(&ALL), ["one", "one"]);
    assert_eq!([health(&host, "site"), health(&host, "tool")], ["rollback-failed", "rollback-failed"]);
    assert!(host.sets().contains("(current, not healthy)"), "{}", host.sets());
    host.run(&["confirm", "--profile", Profiled::PROFILE]).expect_code(9);
    host.assert_nothing_is_left();
}

#[test]
fn a_command_that_fills_the_disk_of_the_state_does_not_keep_the_targets_from_going_back() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let disk = SmallDisk::mount(environment.state_directory(), 8 << 20);
    let fills = "test $SMART_SYNC_ACTION = rollback || { cat /dev/zero > ROOT/state/filler; exit 1; }";
    let run = format!("command = [\"sh\", \"-c\", \"{fills}\"]");
    let host = host(&environment, &format!("\n[[targets.\"ROOT/srv/tool\".run]]\n{run}\n"));
    publish(&host, "two");
    host.pull(&[]).expect_code(8).stderr_contains("No space left on device");
    assert_eq!(host.versions(&ALL), ["one", "one"]);
    disk.make_room();
    host.run(&["recover"]).success();
    host.assert_nothing_is_left();
    host.pull(&[]).expect_code(8);
}

const PERSON: &str = "confirm = \"person\"\nconfirm-within = \"1h\"\n";
const RECORD: &str = r#"
[[targets."ROOT/srv/tool".run]]
name = "record"
when = "confirmed"
command = ["sh", "-c", "echo $SMART_SYNC_ACTION $(tr '\\0' ' ' < $SMART_SYNC_CHANGED) >> ROOT/ran"]
"#;

#[test]
fn a_person_confirms_all_targets_together_over_a_new_connection() {
    let environment = TestEnvironment::new();
    let host = host(&environment, RECORD);
    host.configure(&format!("{MAY}{PERSON}"));
    publish(&host, "two");
    let pulled = over("1000", &mut host.pull_command(&[])).success();
    pulled.stderr_contains("type `smart-sync confirm --profile profiles/host` over a new connection");
    assert_eq!(host.versions(&ALL), ["two", "two"]);
    assert_eq!([health(&host, "site"), health(&host, "tool")], ["waiting", "waiting"]);
    assert!(host.sets().contains("(current, not confirmed yet)"), "{}", host.sets());
    assert!(!supervisors(&environment.state_directory()).is_empty());
    let shown = host.run(&["profile", "show", Profiled::PROFILE]).success().stdout;
    assert!(
        shown.contains("# what was pulled here: not confirmed: `smart-sync confirm --profile"),
        "{shown}"
    );

    // Nothing moves any of them meanwhile.
    publish(&host, "three");
    host.pull(&[]).success().stderr_contains("nothing is done before");
    sync_alone(&host, "site").success().stderr_contains("`smart-sync confirm --profile profiles/host`");
    let site = host.target("site");
    let site = site.to_str().unwrap();
    host.run(&["confirm", "--target", site])
        .expect_code(4)
        .stderr_contains("confirm --profile profiles/host");
    host.run(&["rollback", "--target", site]).expect_code(4).stderr_contains("rollback --profile");
    // Nor does what the host itself has to run for one of them.
    host.configure(&format!("{MAY}{PERSON}{RECORD}"));
    host.run(&["rebuild", "--target", host.target("tool").to_str().unwrap()])
        .success()
        .stderr_contains("nothing is done before: type `smart-sync confirm --profile profiles/host`");
    host.configure(&format!("{MAY}{PERSON}"));
    host.run(&["recover"]).success().stderr_contains("not confirmed yet");
    over("1000", &mut host.command(&["confirm"])).expect_code(4).stderr_contains("open a new connection");
    assert_eq!(host.versions(&ALL), ["two", "two"]);
    assert!(!environment.path("ran").exists());
    let confirmed = over("1001", &mut host.command(&["confirm"])).success().stdout;
    assert!(confirmed.contains("profiles/host is confirmed, and is set 2 now"), "{confirmed}");
    wait_until_none_stands_by(&environment.state_directory());
    assert_eq!(read(environment.path("ran")), "confirmed version\n");
    assert_eq!([health(&host, "site"), health(&host, "tool")], ["confirmed", "confirmed"]);
    host.assert_nothing_is_left();
    let again =
        over("1001", &mut host.command(&["confirm", "--profile", Profiled::PROFILE])).success().stdout;
    assert!(again.contains("nothing waits to be confirmed"), "{again}");

    // Somebody who goes back has decided.
    over("1000", &mut host.pull_command(&[])).success();
    assert_eq!(host.versions(&ALL), ["three", "three"]);
    host.run(&["rollback", "--profile", Profiled::PROFILE]).success();
    wait_until_none_stands_by(&environment.state_directory());
    assert_eq!(host.versions(&ALL), ["two", "two"]);
    assert!(host.sets().contains("(current, held"), "{}", host.sets());
    host.run(&["resume", "--profile", Profiled::PROFILE]).success();
    // It was not found to be bad.
    over("1000", &mut host.pull_command(&[])).success();
    let same = ["confirm", "--profile", Profiled::PROFILE, "--same-connection"];
    over("1000", &mut host.command(&same)).success();
    assert_eq!(host.versions(&ALL), ["three", "three"]);
}

#[test]
fn what_nobody_confirms_in_time_goes_back_together() {
    let environment = TestEnvironment::new();
    let waits = "\n[[targets.\"ROOT/srv/tool\".check]]\ncommand = [\"true\"]\n";
    let host = host(&environment, waits);
    let one = PROFILE.replace("repos/tool\"", "repos/tool\"\nconfirm = \"person\"\nconfirm-within = \"1s\"");
    host.publish_profile(Profiled::PROFILE, "main", &one);
    publish(&host, "two");
    host.pull(&[]).success().stderr_contains("within 1 s, else all its targets go back together");
    wait_until_none_stands_by(&environment.state_directory());
    assert_eq!(host.versions(&ALL), ["one", "one"]);
    assert_eq!([health(&host, "site"), health(&host, "tool")], ["rolled-back", "rolled-back"]);
    assert!(host.sets().contains("(current, gone back to)"), "{}", host.sets());
    let confirm = ["confirm", "--profile", Profiled::PROFILE];
    host.run(&confirm).expect_code(8).stderr_contains("not confirmed within 1 s");
    host.run(&["confirm"]).expect_code(8);
    host.pull(&[]).expect_code(8).stderr_contains("not confirmed within 1 s");
    host.assert_nothing_is_left();
    // What makes no sense together is refused.
    let wrong = one.replace("confirm = \"person\"\n", "");
    host.publish_profile(Profiled::PROFILE, "main", &wrong);
    host.pull(&[]).expect_code(6).stderr_contains("it goes with `confirm = \"person\"`");
    host.configure("confirm-within = \"1h\"\n");
    host.pull(&[]).expect_code(6).stderr_contains("the profile profiles/host");
}

#[test]
fn the_first_versions_wait_for_nobody() {
    let environment = TestEnvironment::new();
    let host = Profiled::new(&environment);
    host.configure(&format!("{MAY}{PERSON}"));
    publish(&host, "one");
    host.publish_profile(Profiled::PROFILE, "main", PROFILE);
    host.pull(&[]).success();
    assert_eq!([health(&host, "site"), health(&host, "tool")], ["confirmed", "confirmed"]);
    wait_until_none_stands_by(&environment.state_directory());
    host.assert_nothing_is_left();
    // One that comes to a set later has nothing to go back to either, and the others have.
    let more = "[targets.\"ROOT/srv/more\"]\nchannel = \"repos/site\"\nkind = \"generations\"\n";
    host.publish_profile(Profiled::PROFILE, "main", &format!("{PROFILE}{more}"));
    host.pull(&[]).success();
    assert_eq!(health(&host, "more"), "confirmed");
}

const REBOOT: &str = r#"
[[targets."ROOT/srv/tool".run]]
name = "kernel"
command = ["sh", "-c", "echo $SMART_SYNC_ACTION $(cat version) >> ROOT/ran"]
reboot = true
[[targets."ROOT/srv/tool".run]]
when = "confirmed"
command = ["sh", "-c", "echo $SMART_SYNC_ACTION $(tr '\\0' ' ' < $SMART_SYNC_CHANGED) >> ROOT/ran"]
[[targets."ROOT/srv/site".check]]
name = "not three"
command = ["sh", "-c", "echo check >> ROOT/ran; ! grep -q three version"]
retries = 0
"#;

#[test]
fn a_set_of_which_one_takes_a_reboot_is_looked_at_after_it() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let host = host(&environment, REBOOT);
    let state = environment.state_directory();
    publish(&host, "two");
    host.pull(&[]).expect_code(12).stderr_contains("profiles/host: a reboot is pending");
    wait_until_none_stands_by(&state);
    assert_eq!([health(&host, "site"), health(&host, "tool")], ["reboot-pending", "reboot-pending"]);
    // Until then all of it stays, and nothing else is done.
    publish(&host, "three");
    host.pull(&[]).expect_code(12);
    sync_alone(&host, "site").expect_code(12).stderr_contains("profiles/host waits for a reboot");
    host.run(&["recover"]).expect_code(12);
    host.run(&["confirm"]).expect_code(12);
    let tool = host.target("tool");
    host.run(&["rollback", "--target", tool.to_str().unwrap()])
        .expect_code(4)
        .stderr_contains("start the machine again: all of them are looked at then");
    assert_eq!(host.versions(&ALL), ["two", "two"]);
    assert_eq!(read(environment.path("ran")), "update two\n");

    start_again(&environment, 1);
    let recovered = host.run(&["recover"]).success().stdout;
    assert!(recovered.contains("profiles/host is confirmed after the reboot"), "{recovered}");
    assert_eq!(read(environment.path("ran")), "update two\ncheck\nconfirmed version\n");
    assert_eq!([health(&host, "site"), health(&host, "tool")], ["confirmed", "confirmed"]);
    host.assert_nothing_is_left();

    // One that is not healthy after the reboot.
    host.pull(&[]).expect_code(12);
    assert_eq!(host.versions(&ALL), ["three", "three"]);
    start_again(&environment, 2);
    let back = host.run(&["recover"]).expect_code(8);
    back.stderr_contains("it takes a reboot until what runs are those versions")
        .stderr_contains("all targets of profiles/host are back at set 2");
    assert_eq!(host.versions(&ALL), ["two", "two"]);
    assert!(read(environment.path("ran")).ends_with("update three\ncheck\nrollback two\n"));
    host.run(&["recover"]).success();

    // One that waited for somebody does not survive a reboot.
    host.configure(&format!("{MAY}{PERSON}"));
    host.publish_profile(Profiled::PROFILE, "main", PROFILE);
    publish(&host, "four");
    host.pull(&[]).success();
    // What stands by goes down with the machine.
    end_all(&state);
    start_again(&environment, 3);
    host.run(&["confirm", "--profile", Profiled::PROFILE])
        .expect_code(8)
        .stderr_contains("the machine was started again");
    assert_eq!(host.versions(&ALL), ["two", "two"]);
    wait_until_none_stands_by(&state);
}
