//! Who confirms a new version, what takes a target back when nobody does, and what a reboot has to do with it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use smart_sync_tests::program::{self, Running};
use smart_sync_tests::supervisors::{supervisors, wait_until_none_stands_by};
use smart_sync_tests::{Finished, Strace, TestEnvironment, Versioned};

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// A host that follows a channel, has its first version, and is configured as `text` says.
fn host<'e>(environment: &'e TestEnvironment, text: &str) -> Versioned<'e> {
    let host = Versioned::new(environment, "generations", "machine");
    configure(&host, text);
    publish(&host, "one");
    host.sync().success();
    host
}

/// Writes the table of the target.
fn configure(host: &Versioned<'_>, text: &str) {
    let target = host.target();
    let target = target.display();
    let text = text.replace("[[run]]", &format!("[[targets.\"{target}\".run]]"));
    let text = text.replace("[[check]]", &format!("[[targets.\"{target}\".check]]"));
    host.host
        .environment()
        .write("etc/config.toml", format!("[targets.\"{target}\"]\nkind = \"generations\"\n{text}"));
}

fn publish(host: &Versioned<'_>, version: &str) {
    host.write("version", version);
    host.host.publish().success();
}

fn version(host: &Versioned<'_>) -> String {
    read(host.seen().join("version"))
}

/// What `status --json` says of the version that the target holds.
fn health(host: &Versioned<'_>) -> String {
    let said = host.run(&["status", "--json"]).success().stdout;
    let status = said.lines().find(|line| line.contains(r#""event":"status""#)).unwrap();
    let health = status.split(r#""health":""#).nth(1).unwrap();
    health.split('"').next().unwrap().to_owned()
}

/// Runs a command as if it was typed over a connection of ssh.
fn over(connection: &str, command: &mut Command) -> Finished {
    program::run(command.env("SSH_CONNECTION", format!("192.0.2.1 {connection} 192.0.2.2 22")))
}

#[test]
fn a_person_confirms_over_a_new_connection() {
    let environment = TestEnvironment::new();
    let record = "[[run]]\nname = \"record\"\nwhen = \"confirmed\"\n\
                  command = [\"sh\", \"-c\", \"tr '\\\\0' ' ' < $SMART_SYNC_CHANGED >> ../../../ran\"]\n";
    let host = host(&environment, &format!("confirm = \"person\"\nconfirm-within = \"1h\"\n{record}"));
    // There is nothing to go back to from the first one.
    assert_eq!(health(&host), "confirmed");
    assert_eq!(read(environment.path("machine/ran")), "version ");
    publish(&host, "two");
    over("1000", &mut host.sync_command()).success().stderr_contains("smart-sync confirm --target");
    assert_eq!((version(&host), health(&host)), ("two".to_owned(), "waiting".to_owned()));
    let listed = host.run(&["generations"]).success().stdout;
    assert!(listed.contains("(confirmed)") && listed.contains("(current, not confirmed yet)"), "{listed}");
    assert!(!supervisors(&host.state()).is_empty());

    // Nothing moves it meanwhile.
    publish(&host, "three");
    host.sync().success().stderr_contains("nothing is done before");
    host.run(&["recover"]).success().stderr_contains("not confirmed yet");
    assert_eq!(version(&host), "two");
    let confirm = || host.command(&["confirm"]);
    over("1000", &mut confirm()).expect_code(4).stderr_contains("open a new connection");
    assert_eq!(health(&host), "waiting");
    let confirmed = over("1001", &mut confirm()).success().stdout;
    assert!(confirmed.contains("is confirmed"), "{confirmed}");
    wait_until_none_stands_by(&host.state());
    assert_eq!(read(environment.path("machine/ran")), "version version ");
    assert_eq!((version(&host), health(&host)), ("two".to_owned(), "confirmed".to_owned()));
    let again = over("1001", &mut confirm()).success().stdout;
    assert!(again.contains("nothing waits to be confirmed"), "{again}");
    over("1000", &mut host.sync_command()).success();
    over("1000", confirm().arg("--same-connection")).success();
    assert_eq!((version(&host), health(&host)), ("three".to_owned(), "confirmed".to_owned()));
}

#[test]
fn what_nobody_confirms_in_time_is_taken_back() {
    let environment = TestEnvironment::new();
    let host = host(&environment, "confirm = \"person\"\nconfirm-within = \"1s\"\n");
    publish(&host, "two");
    host.sync().success();
    wait_until_none_stands_by(&host.state());
    assert_eq!((version(&host), health(&host)), ("one".to_owned(), "rolled-back".to_owned()));
    host.run(&["confirm"]).expect_code(8).stderr_contains("not confirmed within 1 s");
    host.sync().expect_code(8).stderr_contains("not confirmed within 1 s");
    publish(&host, "three");
    configure(&host, "");
    host.sync().success();
    assert_eq!((version(&host), health(&host)), ("three".to_owned(), "unchecked".to_owned()));
}

#[test]
fn somebody_who_goes_back_has_decided() {
    let environment = TestEnvironment::new();
    let host = host(&environment, "confirm = \"person\"\nconfirm-within = \"1h\"\n");
    publish(&host, "two");
    host.sync().success();
    let shown = program::run(host.sync_command().arg("--dry-run")).success().stdout;
    assert!(!shown.contains("would wait"), "{shown}");
    host.run(&["rollback"]).success();
    wait_until_none_stands_by(&host.state());
    assert_eq!((version(&host), health(&host)), ("one".to_owned(), "confirmed".to_owned()));
    // It was not found to be bad.
    host.run(&["resume"]).success();
    // Who names the version that waits has decided for it.
    host.sync().success();
    assert_eq!((version(&host), health(&host)), ("two".to_owned(), "waiting".to_owned()));
    let number = host.generations().1.to_string();
    let stays = host.run(&["rollback", &number]).success().stdout;
    assert!(stays.contains("already") && stays.contains("it does not wait any more"), "{stays}");
    wait_until_none_stands_by(&host.state());
    assert_eq!((version(&host), health(&host)), ("two".to_owned(), "unchecked".to_owned()));
    host.run(&["rollback", "1"]).success();
    host.run(&["resume"]).success();
    let shown = program::run(host.sync_command().arg("--dry-run")).success().stdout;
    assert!(shown.contains("would wait 1 h for somebody who confirms it"), "{shown}");
    over("1000", &mut host.sync_command()).success();
    assert_eq!((version(&host), health(&host)), ("two".to_owned(), "waiting".to_owned()));
    over("1001", &mut host.command(&["confirm"])).success();
}

/// A program that runs on after an update inherits what commands leave, and ends that; what stands by is not among it.
#[test]
fn what_stands_by_outlives_commands_and_the_run_also_in_later_updates() {
    let environment = TestEnvironment::new();
    let host = host(&environment, "");
    let [begun, go_on] = ["begun", "go-on"].map(|name| environment.path(name));
    for fifo in [&begun, &go_on] {
        program::run(environment.command("mkfifo").arg(fifo)).success();
    }
    let command = format!(
        "true; test $SMART_SYNC_ACTION = rollback || {{ echo > {}; read line < {}; }}",
        begun.display(),
        go_on.display()
    );
    configure(
        &host,
        &format!(
            "[[run]]\ncommand = [\"sh\", \"-c\", \"sleep 1000 & exit 0\"]\n\
             [[run]]\ncommand = [\"sh\", \"-c\", \"{command}\"]\n"
        ),
    );
    let url = host.host.realm.server().url();
    let watch = ["watch", "--channel", "repos/tree", "--server", url, "--jitter", "0s"];
    let watch = Running::start(&mut host.command(&watch));
    for number in ["two", "three"] {
        publish(&host, number);
        read(&begun);
        assert_eq!(version(&host), number);
        assert!(!supervisors(&host.state()).is_empty());
        if number == "two" {
            fs::write(&go_on, "\n").unwrap();
        }
    }
    watch.signal(Signal::KILL);
    assert_eq!(watch.wait().code, None);
    fs::write(&go_on, "\n").unwrap();
    wait_until_none_stands_by(&host.state());
    assert_eq!((version(&host), health(&host)), ("two".to_owned(), "rolled-back".to_owned()));
}

/// A command that kills the run, as a crash does.
const KILLS: &str = "[[run]]\nname = \"kills\"\n\
                     command = [\"sh\", \"-c\", \"test $SMART_SYNC_ACTION = rollback || kill -9 $PPID\"]\n";

#[test]
fn a_run_that_is_killed_is_taken_back_without_anybody() {
    let environment = TestEnvironment::new();
    let host = host(&environment, "");
    configure(&host, KILLS);
    publish(&host, "two");
    assert_eq!(host.sync().code, None);
    wait_until_none_stands_by(&host.state());
    assert_eq!((version(&host), health(&host)), ("one".to_owned(), "rolled-back".to_owned()));
    host.sync().expect_code(8).stderr_contains("ended before it was confirmed");
}

#[test]
fn commands_for_going_back_that_kill_the_run_are_run_again_up_to_a_bound() {
    let environment = TestEnvironment::new();
    let host = host(&environment, "");
    let check = |kills: &str| {
        let command = format!(
            "echo $SMART_SYNC_ACTION >> ../../../ran; test $SMART_SYNC_ACTION = update && exit 1; {kills}"
        );
        let run = format!("[[run]]\nname = \"kills\"\ncommand = [\"sh\", \"-c\", \"{command}\"]\n");
        configure(&host, &run);
    };
    check("test -e ../../../once || { touch ../../../once; kill -9 $PPID; }");
    publish(&host, "two");
    assert_eq!(host.sync().code, None);
    wait_until_none_stands_by(&host.state());
    assert_eq!(read(environment.path("machine/ran")), "update\nrollback\nrollback\n");
    assert_eq!((version(&host), health(&host)), ("one".to_owned(), "rolled-back".to_owned()));
    check("kill -9 $PPID");
    publish(&host, "three");
    assert_eq!(host.sync().code, None);
    wait_until_none_stands_by(&host.state());
    assert!(read(environment.path("machine/ran")).ends_with("update\nrollback\nrollback\nrollback\n"));
    assert_eq!((version(&host), health(&host)), ("one".to_owned(), "rollback-failed".to_owned()));
    host.run(&["recover"]).success();
}

#[test]
fn a_run_that_is_at_work_is_left_alone_and_taken_back_once_it_is_dead() {
    let environment = TestEnvironment::new();
    let host = host(&environment, "");
    let (begun, go_on) = (environment.path("begun"), environment.path("go-on"));
    for fifo in [&begun, &go_on] {
        program::run(environment.command("mkfifo").arg(fifo)).success();
    }
    let waits = format!("echo > {}; read line < {}", begun.display(), go_on.display());
    configure(
        &host,
        &format!("[[check]]\ncommand = [\"sh\", \"-c\", '{waits}']\nretries = 0\ntimeout = \"1h\"\n"),
    );
    publish(&host, "two");
    let run = Running::start(&mut host.sync_command());
    read(&begun);
    assert_eq!(version(&host), "two");
    let left = host.run(&["recover"]).success().stdout;
    assert!(left.contains("is being worked on"), "{left}");
    host.run(&["confirm"]).expect_code(1).stderr_contains("is being worked on");
    assert_eq!(supervisors(&host.state()).len(), 1);
    assert_eq!(version(&host), "two");
    run.signal(Signal::KILL);
    assert_eq!(run.wait().code, None);
    wait_until_none_stands_by(&host.state());
    assert_eq!((version(&host), health(&host)), ("one".to_owned(), "rolled-back".to_owned()));
    // What the run had started waits no longer either.
    fs::write(&go_on, "\n").unwrap();
}

#[test]
fn what_cannot_be_noted_as_confirmed_is_taken_back() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let host = host(&environment, "");
    configure(&host, "[[check]]\ncommand = [\"true\"]\n");
    publish(&host, "two");
    let targets = host.state().join("targets");
    let state = fs::read_dir(targets).unwrap().next().unwrap().unwrap().path();
    let note = state.join("verdict.tmp");
    let full = strace.fail_on_path(&host.sync_command(), "write", note.to_str().unwrap(), "1+", "ENOSPC");
    full.expect_code(8).stderr_contains("is not healthy: writing").stderr_contains("will not be remembered");
    wait_until_none_stands_by(&host.state());
    assert_eq!(version(&host), "one");
    host.sync().expect_code(8);
}

#[test]
fn the_realm_has_to_be_reachable_where_a_check_says_so() {
    let environment = TestEnvironment::new();
    let host = host(&environment, "");
    let check = "[[check]]\nserver = true\nretries = 0\n";
    configure(&host, check);
    publish(&host, "two");
    host.sync().success();
    assert_eq!(health(&host), "confirmed");
    // The update is what cuts the host off.
    let server = host.host.realm.server().process();
    configure(
        &host,
        &format!("[[run]]\nname = \"cut\"\ncommand = [\"sh\", \"-c\", \"kill -9 {server}; true\"]\n{check}"),
    );
    publish(&host, "three");
    host.sync().expect_code(8).stderr_contains("the check the server answers fails");
    assert_eq!((version(&host), health(&host)), ("two".to_owned(), "rolled-back".to_owned()));
}
