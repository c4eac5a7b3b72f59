//! The way back on machines of other kinds: those that are started again, those that systemd runs on, and those whose
//! disk a command has filled.
//!
//! Each test has a mount namespace of its own, in which the files are what they are on such a machine.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use smart_sync_tests::small_disk::in_namespace;
use smart_sync_tests::supervisors::{start_again, supervisors, wait_until_none_stands_by};
use smart_sync_tests::{Finished, Profiled, SmallDisk, TestEnvironment, Versioned, program};

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// A host that follows a channel, has its first version, and is configured as `text` says from then on.
fn host<'e>(environment: &'e TestEnvironment, text: &str) -> Versioned<'e> {
    let host = Versioned::new(environment, "generations", "machine");
    configure(&host, "");
    publish(&host, "one");
    host.sync().success();
    configure(&host, text);
    host
}

fn configure(host: &Versioned<'_>, text: &str) {
    let target = host.target();
    let target = target.display();
    let text = text.replace("[[run]]", &format!("[[targets.\"{target}\".run]]"));
    let text = text.replace("[[check]]", &format!("[[targets.\"{target}\".check]]"));
    let text = format!("[targets.\"{target}\"]\nkind = \"generations\"\n{text}");
    host.host.environment().write("etc/config.toml", text);
}

fn publish(host: &Versioned<'_>, version: &str) {
    host.write("version", version);
    host.host.publish().success();
}

fn version(host: &Versioned<'_>) -> String {
    read(host.seen().join("version"))
}

fn status(host: &Versioned<'_>) -> String {
    host.run(&["status"]).success().stdout
}

const REBOOT: &str = r#"
[[run]]
name = "kernel"
command = ["sh", "-c", "echo $SMART_SYNC_ACTION $(cat version) >> ../../../ran"]
reboot = true
[[run]]
when = "confirmed"
command = ["sh", "-c", "echo $SMART_SYNC_ACTION $(tr '\\0' ' ' < $SMART_SYNC_CHANGED) >> ../../../ran"]
[[check]]
name = "not three"
command = ["sh", "-c", "echo check >> ../../../ran; ! grep -q three version"]
retries = 0
"#;

#[test]
fn a_version_that_takes_a_reboot_is_looked_at_after_it() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let host = host(&environment, REBOOT);
    publish(&host, "two");
    host.sync().expect_code(12).stderr_contains("a reboot is pending");
    wait_until_none_stands_by(&host.state());
    // Until then it stays, and nothing else is done.
    assert!(status(&host).contains("looked at when the machine is started again"), "{}", status(&host));
    host.run(&["recover"]).expect_code(12);
    host.run(&["confirm"]).expect_code(12);
    publish(&host, "three");
    host.sync().expect_code(12);
    assert_eq!((version(&host).as_str(), &*read(environment.path("machine/ran"))), ("two", "update two\n"));

    start_again(&environment, 1);
    let recovered = host.run(&["recover"]).success().stdout;
    assert!(recovered.contains("is confirmed after the reboot"), "{recovered}");
    assert!(!recovered.contains("nothing was interrupted"), "{recovered}");
    assert_eq!(read(environment.path("machine/ran")), "update two\ncheck\nconfirmed version\n");
    assert!(status(&host).contains("confirmed\n"), "{}", status(&host));

    // One that is not healthy after the reboot.
    host.sync().expect_code(12);
    assert_eq!(version(&host), "three");
    start_again(&environment, 2);
    host.run(&["recover"])
        .expect_code(8)
        .stderr_contains("it takes a reboot until what runs is that version");
    assert_eq!(version(&host), "two");
    assert!(read(environment.path("machine/ran")).ends_with("update three\ncheck\nrollback two\n"));
    host.run(&["recover"]).success();
}

#[test]
fn a_version_that_waited_for_somebody_does_not_survive_a_reboot() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let host = host(&environment, "confirm = \"person\"\nconfirm-within = \"1h\"\n");
    publish(&host, "two");
    host.sync().success();
    start_again(&environment, 1);
    // Too late: the machine is not what it was when it was asked for.
    host.run(&["confirm"]).expect_code(8).stderr_contains("the machine was started again");
    assert_eq!(version(&host), "one");
    wait_until_none_stands_by(&host.state());
}

/// Programs that write down how they were called, in place of those of systemd.
struct Systemd {
    path: String,
    called: PathBuf,
}

impl Systemd {
    fn new(environment: &TestEnvironment) -> Self {
        program::run(environment.command("mount").args(["-t", "tmpfs", "none", "/run"])).success();
        fs::create_dir_all("/run/systemd/system").unwrap();
        let called = environment.path("called");
        let systemd = Self {
            path: format!("{}:{}", environment.path("stand-ins").display(), std::env::var("PATH").unwrap()),
            called,
        };
        systemd.stand_in(environment, "systemctl", "exit 0");
        systemd.stand_in(environment, "systemd-run", "exit 0");
        systemd
    }

    fn stand_in(&self, environment: &TestEnvironment, name: &str, ends: &str) {
        // Each word on a line of its own, so that spaces in one do not make it two.
        let text = format!(
            "#!/bin/sh\n{{ echo \"# $(basename $0)\"; printf '%s\\n' \"$@\"; }} >> {}\n{ends}\n",
            self.called.display()
        );
        let path = environment.write(&format!("stand-ins/{name}"), text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, command: &mut Command) -> Finished {
        program::run(command.env("PATH", &self.path))
    }

    /// The calls since this was asked the last time: each a program and its words.
    fn calls(&self) -> Vec<Vec<String>> {
        let text = read(&self.called);
        fs::write(&self.called, "").unwrap();
        let calls = text.split("# ").filter(|call| !call.is_empty());
        calls.map(|call| call.lines().map(ToOwned::to_owned).collect()).collect()
    }
}

/// The value of an option of a call.
fn option<'c>(call: &'c [String], name: &str) -> &'c str {
    call.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}

#[test]
fn where_systemd_runs_a_timer_of_it_stands_by() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let host = host(&environment, "confirm = \"person\"\nconfirm-within = \"5m\"\n");
    let systemd = Systemd::new(&environment);
    publish(&host, "two");
    systemd.run(&mut host.sync_command()).success();
    assert!(supervisors(&host.state()).is_empty());
    let calls = systemd.calls();
    let [run, window, stop] = &calls[..] else { panic!("{calls:?}") };
    // Once for the run, once for the time after it, and the first is stopped when the second is there.
    assert_eq!((&*run[0], &*window[0], &*stop[0]), ("systemd-run", "systemd-run", "systemctl"));
    assert_eq!((option(run, "--on-active"), option(window, "--on-active")), ("60s", "300s"));
    let unit = option(run, "--unit");
    assert!(unit.starts_with("smart-sync-back-"), "{unit}");
    assert_eq!(stop.last().unwrap(), &format!("{unit}.timer"));
    let program = window.iter().position(|word| word == "--").unwrap() + 1;
    let [program, words @ ..] = &window[program..] else { panic!("{window:?}") };
    let (config, state, target) = (environment.configuration_file(), host.state(), host.target());
    let [config, state, target] = [&config, &state, &target].map(|path| path.to_str().unwrap());
    let expected = ["--quiet", "--config", config, "--state-dir", state, "recover", "--target", target];
    assert_eq!(words, expected);

    // A timer that comes too early changes nothing, whatever becomes of the clock.
    let fired = || Command::new(program).args(words).env_clear().env("PATH", &systemd.path).output().unwrap();
    assert!(fired().status.success());
    assert_eq!(version(&host), "two");
    systemd.calls();
    // Whoever runs the tests may do so over a connection.
    systemd.run(host.command(&["confirm"]).env("SSH_CONNECTION", "192.0.2.1 1000 192.0.2.2 22")).success();
    let calls = systemd.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].last().unwrap().ends_with("-*.timer"), "{calls:?}");

    // It takes back what a run has left that was killed.
    configure(
        &host,
        "[[run]]\ncommand = [\"sh\", \"-c\", \"test $SMART_SYNC_ACTION = rollback || kill -9 $PPID\"]\n",
    );
    publish(&host, "three");
    assert_eq!(systemd.run(&mut host.sync_command()).code, None);
    assert_eq!(version(&host), "three");
    assert_eq!(fired().status.code(), Some(8));
    assert_eq!(version(&host), "two");
}

#[test]
fn what_cannot_be_taken_back_is_not_begun() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let host = host(&environment, "[[check]]\ncommand = [\"true\"]\n");
    let systemd = Systemd::new(&environment);
    systemd.stand_in(&environment, "systemd-run", "echo 'Failed to connect to bus' >&2; exit 1");
    publish(&host, "two");
    let refused = systemd.run(&mut host.sync_command()).expect_code(1);
    let refused = refused.stderr_contains("cannot be armed").stderr_contains("Failed to connect to bus");
    refused.stderr_contains("nothing was changed");
    assert_eq!(version(&host), "one");
    systemd.stand_in(&environment, "systemd-run", "exit 0");
    systemd.run(&mut host.sync_command()).success();
    assert_eq!(version(&host), "two");
}

/// All targets of a profile have one way back.
#[test]
fn a_set_has_one_timer_and_is_not_begun_where_that_cannot_be_armed() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let host = Profiled::new(&environment);
    let profile = ["site", "tool"].map(|name| {
        format!("[targets.\"ROOT/srv/{name}\"]\nchannel = \"repos/{name}\"\nkind = \"generations\"\n")
    });
    host.publish_profile(Profiled::PROFILE, "main", &profile.concat());
    let publish = |version: &str| {
        for name in ["site", "tool"] {
            host.publish(&format!("repos/{name}"), "main", &[("version", version)]);
        }
    };
    publish("one");
    host.pull(&[]).success();
    host.configure("confirm = \"person\"\nconfirm-within = \"5m\"\n");
    let systemd = Systemd::new(&environment);
    systemd.stand_in(&environment, "systemd-run", "echo 'Failed to connect to bus' >&2; exit 1");
    publish("two");
    let refused = systemd.run(&mut host.pull_command(&[])).expect_code(1);
    refused.stderr_contains("cannot be armed").stderr_contains("nothing was changed");
    assert_eq!(host.versions(&["site", "tool"]), ["one", "one"]);
    host.run(&["status", "--target", host.target("site").to_str().unwrap()]).success();
    systemd.stand_in(&environment, "systemd-run", "exit 0");
    systemd.calls();
    systemd.run(&mut host.pull_command(&[])).success();
    assert_eq!(host.versions(&["site", "tool"]), ["two", "two"]);
    let calls = systemd.calls();
    let [run, window, stop] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((option(run, "--on-active"), option(window, "--on-active")), ("60s", "300s"));
    assert_eq!(stop.last().unwrap(), &format!("{}.timer", option(run, "--unit")));
    let words = &window[window.len() - 3..];
    assert_eq!(words, ["recover", "--profile", Profiled::PROFILE]);
    let connection = "192.0.2.1 1000 192.0.2.2 22";
    let confirm = ["confirm", "--profile", Profiled::PROFILE];
    systemd.run(host.command(&confirm).env("SSH_CONNECTION", connection)).success();
    let calls = systemd.calls();
    assert!(calls.len() == 1 && calls[0].last().unwrap().ends_with("-*.timer"), "{calls:?}");
}

#[test]
fn versions_stay_that_are_confirmed_or_mounted() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let host = host(&environment, "keep = 1\n");
    let first = fs::read_link(host.target().join("current")).unwrap();
    let place = environment.path("mounted");
    fs::create_dir(&place).unwrap();
    let mut mount = environment.command("mount");
    program::run(mount.arg("--bind").arg(host.target().join(first)).arg(&place)).success();
    let check = |command: &str| format!("keep = 1\n[[check]]\ncommand = [\"{command}\"]\nretries = 0\n");
    for (number, command, code) in [(2, "true", 0), (3, "false", 8), (4, "false", 8)] {
        configure(&host, &check(command));
        publish(&host, &format!("number {number}"));
        host.sync().expect_code(code);
    }
    // The first is mounted, the second was confirmed; of the others the newest one stays.
    assert_eq!(host.generations(), (vec![1, 2, 4], 2));
    assert_eq!(read(place.join("version")), "one");
    program::run(environment.command("umount").arg(&place)).success();
    configure(&host, "keep = 1\n");
    publish(&host, "number 5");
    host.sync().success();
    assert_eq!(host.generations(), (vec![2, 5], 5));
    host.run(&["prune", "--keep", "1", "--yes"]).success();
    assert_eq!(host.generations(), (vec![2, 5], 5));
}

#[test]
fn a_command_that_fills_the_disk_does_not_keep_the_target_from_going_back() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let disk = SmallDisk::mount(environment.path("machine"), 8 << 20);
    let host = host(&environment, "");
    let fills = "test $SMART_SYNC_ACTION = rollback || { cat /dev/zero > ../../../filler; exit 1; }";
    configure(&host, &format!("[[run]]\nname = \"fills\"\ncommand = [\"sh\", \"-c\", \"{fills}\"]\n"));
    publish(&host, "two");
    host.sync().expect_code(8).stderr_contains("No space left on device");
    assert_eq!(version(&host), "one");
    disk.make_room();
    assert!(status(&host).contains("gone back to"), "{}", status(&host));
    host.sync().expect_code(8);
}
