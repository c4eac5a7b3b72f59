//! What happens after an update: commands of the host's configuration, checks, and going back when they fail.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rustix::process::Signal;
use smart_sync_tests::program::{self, Running};
use smart_sync_tests::supervisors::end_all;
use smart_sync_tests::{TestEnvironment, Versioned};

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Writes the table of the target, with these lines behind it.
fn configure(host: &Versioned<'_>, kind: &str, text: &str) {
    let target = host.target();
    let target = target.display();
    let text = text.replace("[[run]]", &format!("[[targets.\"{target}\".run]]"));
    let text = text.replace("[[check]]", &format!("[[targets.\"{target}\".check]]"));
    let text = format!("[targets.\"{target}\"]\nkind = \"{kind}\"\n{text}");
    host.host.environment().write("etc/config.toml", text);
}

fn publish(host: &Versioned<'_>, version: &str) {
    host.write("version", version);
    host.write("conf/settings", "the same in all");
    host.host.publish().success();
}

const RECORD: &str = r#"
[[run]]
name = "record"
command = ["sh", "-c", "echo $SMART_SYNC_ACTION $(cat version) $SMART_SYNC_REF >> ../../../ran"]
[[run]]
command = ["sh", "-c", "echo conf >> ../../../ran"]
paths = ["conf/"]
[[check]]
name = "not three"
command = ["sh", "-c", "! grep -q three version"]
retries = 1
interval = "0s"
"#;

#[test]
fn a_version_that_is_not_healthy_is_taken_back_and_remembered() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    // The version before stays until the new one is confirmed, however few are kept.
    configure(&host, "generations", &format!("keep = 1\n{RECORD}"));
    publish(&host, "one");
    host.sync().success();
    publish(&host, "two");
    let shown = program::run(host.sync_command().arg("--dry-run")).success().stdout;
    assert!(shown.contains("would run record") && !shown.contains("conf >>"), "{shown}");
    assert!(shown.contains("would check not three"), "{shown}");
    host.sync().success();
    // No change, no command.
    host.sync().success();
    assert_eq!(
        read(environment.path("machine/ran")),
        "update one branch:main\nconf\nupdate two branch:main\n"
    );

    publish(&host, "three");
    host.sync().expect_code(8).stderr_contains("the check not three fails");
    assert_eq!(read(host.seen().join("version")), "two");
    assert!(
        read(environment.path("machine/ran"))
            .ends_with("update three branch:main\nrollback two branch:main\n")
    );
    // It is not tried again by itself, whatever is done to get it.
    let before = read(environment.path("machine/ran"));
    host.sync().expect_code(8).stderr_contains("--retry-failed tries it again");
    assert_eq!(read(environment.path("machine/ran")), before);
    program::run(host.sync_command().arg("--retry-failed")).expect_code(8);
    // Another version is; and the same one without the checks.
    program::run(host.sync_command().args(["--retry-failed", "--skip-rebuild"])).success();
    assert_eq!(read(host.seen().join("version")), "three");
    publish(&host, "four");
    host.sync().success();
    assert_eq!(read(host.seen().join("version")), "four");
}

#[test]
fn a_command_that_fails_hangs_or_leaves_daemons_is_ended_with_all_of_it() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    configure(&host, "generations", "");
    publish(&host, "one");
    host.sync().success();
    let failing = |command: &str, expected: &str, version: &str| {
        let command = toml_text(command);
        configure(
            &host,
            "generations",
            &format!("[[run]]\ncommand = [\"sh\", \"-c\", {command}]\ntimeout = \"1s\"\n"),
        );
        publish(&host, version);
        // Going back runs it too, and fails as well: that is the worse of both.
        host.sync().expect_code(9).stderr_contains(expected);
        assert_eq!(read(host.seen().join("version")), "one");
    };
    failing("echo some words; exit 3", "some words", "two");
    failing("kill -9 $$", "was ended by signal 9", "three");
    failing("setsid sleep 1000 & sleep 1000", "took longer than 1 s, and was ended", "four");
    failing("kill -STOP $$", "took longer than 1 s", "five");
    // One that only fails on the way forward.
    let command = toml_text(
        "test $SMART_SYNC_ACTION = rollback || yes | head -c 30000000; test $SMART_SYNC_ACTION = rollback",
    );
    configure(
        &host,
        "generations",
        &format!("[[run]]\nname = \"forward\"\ncommand = [\"sh\", \"-c\", {command}]\n"),
    );
    publish(&host, "six");
    host.sync().expect_code(8).stderr_contains("forward ended with status 1");
    // One that is killed with this program's own parent, and one that leaves a daemon.
    let command = toml_text("setsid sleep 1000 & exit 0");
    configure(
        &host,
        "generations",
        &format!("[[run]]\nname = \"leaves\"\ncommand = [\"sh\", \"-c\", {command}]\n"),
    );
    publish(&host, "seven");
    host.sync().success().stderr_contains("leaves had left 1 process running, which were ended");
    assert_eq!(read(host.seen().join("version")), "seven");
}

fn toml_text(text: &str) -> String {
    format!("'{text}'")
}

/// The run dies while a command runs, and what stands by dies with it: as in a crash of the machine.
#[test]
fn an_unconfirmed_version_is_taken_back_by_the_command_of_the_boot_unit() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    configure(&host, "generations", "");
    publish(&host, "one");
    host.sync().success();
    let crash = |version: &str| {
        let (begun, go_on) = (environment.path("begun"), environment.path("go-on"));
        for fifo in [&begun, &go_on] {
            let _ = fs::remove_file(fifo);
            program::run(environment.command("mkfifo").arg(fifo)).success();
        }
        let waits = format!(
            "test $SMART_SYNC_ACTION = rollback || {{ echo > {}; read line < {}; }}",
            begun.display(),
            go_on.display()
        );
        configure(&host, "generations", &format!("[[run]]\ncommand = [\"sh\", \"-c\", '{waits}']\n"));
        publish(&host, version);
        let run = Running::start(&mut host.sync_command());
        read(&begun);
        end_all(&host.state());
        run.signal(Signal::KILL);
        assert_eq!(run.wait().code, None);
        fs::write(&go_on, "\n").unwrap();
        assert_eq!(read(host.seen().join("version")), version);
    };
    crash("two");
    host.run(&["recover"]).expect_code(8).stderr_contains("ended before it was confirmed");
    assert_eq!(read(host.seen().join("version")), "one");
    host.run(&["recover"]).success();
    host.sync().expect_code(8);
    assert_eq!(read(host.seen().join("version")), "one");
    // The next sync would have done the same.
    crash("three");
    host.sync().expect_code(8).stderr_contains("ended before it was confirmed");
    assert_eq!(read(host.seen().join("version")), "one");
}

#[test]
fn checks_ask_ports_and_addresses() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    configure(&host, "generations", "");
    publish(&host, "one");
    host.sync().success();
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = host.host.realm.server().url().to_owned();
    let good =
        format!("[[check]]\ntcp = \"{}\"\n[[check]]\nhttp = \"{url}/files/\"\n", open.local_addr().unwrap());
    configure(&host, "generations", &good);
    publish(&host, "two");
    host.sync().success();
    let bad = [
        (format!("tcp = \"{closed}\""), "takes no connections"),
        (format!("http = \"http://{closed}/\""), "does not answer"),
        (format!("http = \"{url}/no/such/thing\""), "answers with 404"),
        ("command = [\"no-such-program\"]".to_owned(), "cannot be started"),
    ];
    for (number, (check, expected)) in bad.iter().enumerate() {
        configure(&host, "generations", &format!("[[check]]\n{check}\nretries = 0\n"));
        publish(&host, &format!("bad {number}"));
        host.sync().expect_code(8).stderr_contains(expected);
        assert_eq!(read(host.seen().join("version")), "two");
    }
}

#[test]
fn a_plain_directory_has_nothing_to_go_back_to() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "directory", "machine");
    configure(&host, "directory", "[[run]]\nname = \"fails\"\ncommand = [\"false\"]\n");
    publish(&host, "one");
    host.sync().expect_code(9).stderr_contains("there is none to go back to: fails ended with status 1");
    assert_eq!(read(host.seen().join("version")), "one");
    host.sync().expect_code(8);
    // Repaired, it is tried again when somebody says so.
    configure(&host, "directory", "[[run]]\nname = \"repaired\"\ncommand = [\"true\"]\n");
    let repaired = program::run(host.sync_command().arg("--retry-failed")).success();
    assert!(repaired.stdout.contains("running repaired"), "{}", repaired.stdout);
    host.sync().success();
}

#[test]
fn a_command_that_prints_a_gigabyte_fills_no_memory() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    // When all of it was taken, the command asks how much memory this program has had at most.
    let prints = "echo begins; head -c 1073741824 /dev/zero; echo; echo ends; \
                  grep VmHWM /proc/$PPID/status > ../../../memory";
    configure(
        &host,
        "generations",
        &format!("[[run]]\nname = \"prints\"\ncommand = [\"sh\", \"-c\", \"{prints}\"]\n"),
    );
    publish(&host, "one");
    let said = program::run(host.sync_command().arg("--verbose")).success().stderr;
    // "begins", zeros and "ends", with a line feed behind each, without 64 KiB from both ends.
    let expected = ["prints: begins\n", "prints: [1073610765 bytes left out]\n", "prints: ends\n"];
    for line in expected {
        assert!(said.contains(line), "no {line:?} among {} bytes", said.len());
    }
    // A byte that a terminal would act on takes five of them.
    assert!(said.len() < 1 << 20, "{} bytes were shown", said.len());
    let memory = read(environment.path("machine/memory"));
    let kibibytes: u64 = memory.split_whitespace().nth(1).expect("a number").parse().expect("of kibibytes");
    assert!(kibibytes < 128 << 10, "{kibibytes} KiB were taken");
}

#[test]
fn a_target_that_is_named_from_where_somebody_stands_is_the_one_of_the_configuration() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    configure(&host, "generations", &format!("channel = \"repos/tree\"\n{RECORD}"));
    publish(&host, "one");
    let relative = |words: &[&str], from: &str, target: &str| {
        let mut command = environment.client();
        command.env("SMART_SYNC_STATE_DIR", host.state()).args(words).args(["--target", target]);
        program::run(command.current_dir(environment.path(from)))
    };
    let synced = relative(&[], "", "machine/host").success().stdout;
    assert!(synced.contains("running record"), "{synced}");
    publish(&host, "three");
    relative(&[], "machine", "./host/").expect_code(8).stderr_contains("the check not three fails");
    std::os::unix::fs::symlink("machine/host", environment.path("link")).expect("a link can be made");
    publish(&host, "four");
    let synced = relative(&[], "machine", "../link").success().stdout;
    assert!(synced.contains("running record"), "{synced}");
}
