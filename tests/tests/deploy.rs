//! Several hosts at once: a stand-in for ssh runs the real program on each, so that health and going back are real.

use std::fs;

use rustix::process::Signal;
use smart_sync_tests::program::Running;
use smart_sync_tests::{Fleet, TestEnvironment};

/// A check that one version does not pass.
const CHECK: &str =
    "[[check]]\nname = \"not bad\"\ncommand = [\"sh\", \"-c\", \"! grep -q bad version\"]\nretries = 0\n";

#[test]
fn canaries_go_first_and_one_that_is_not_well_keeps_all_others_from_it() {
    let environment = TestEnvironment::new();
    let fleet = Fleet::new(&environment, &["one", "two", "three", "four"]);
    let names = ["one", "two", "three", "four"];
    for name in names {
        fleet.configure(name, CHECK);
    }
    fleet.publish("good");
    let said = fleet.deploy(&["one", "two", "three", "four", "--canary", "2"]).success().stdout;
    assert!(said.contains("one: applied: repos/tree branch:main number 1, manifest "), "{said}");
    assert!(said.contains("4 hosts: 4 applied"), "{said}");
    assert_eq!(fleet.order()[..2], ["one", "two"]);
    let said = fleet.deploy(&["one", "two"]).success().stdout;
    assert!(said.contains("2 hosts: 2 up to date"), "{said}");
    fleet.order();

    // The second canary finds it, and the others keep what they have.
    fleet.configure("one", "");
    fleet.publish("bad");
    let ended = fleet.deploy(&["one", "two", "three", "four", "--canary", "2"]).expect_code(8);
    assert!(ended.stderr.contains("two: rolled back (status 8)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("the check not bad fails"), "{}", ended.stderr);
    assert!(ended.stderr.contains("two is not well: no other host was touched"), "{}", ended.stderr);
    assert!(ended.stdout.contains("4 hosts: 1 applied, 1 rolled back, 2 not tried"), "{}", ended.stdout);
    assert_eq!(fleet.order(), ["one", "two"]);
    assert_eq!(names.map(|name| fleet.version(name)), ["bad", "good", "good", "good"]);

    // Without canaries, one that goes back does not keep the others from it.
    fleet.publish("bad again");
    fleet.configure("three", "");
    let ended = fleet.deploy(&["two", "three", "four", "one", "--parallel", "2"]).expect_code(8);
    assert!(ended.stdout.contains("4 hosts: 2 applied, 2 rolled back"), "{}", ended.stdout);
    assert_eq!(names.map(|name| fleet.version(name)), ["bad again", "good", "bad again", "good"]);
}

#[test]
fn hosts_that_are_away_or_have_no_program_keep_the_others_from_nothing() {
    let environment = TestEnvironment::new();
    let fleet = Fleet::new(&environment, &["bare", "well", "silent", "odd"]);
    fleet.write("bare", "ssh", "exec env PATH=/nowhere /bin/sh -c \"$line\"\n");
    // It says what a terminal would act on, without end, and then what no program of ours says.
    fleet.write("odd", "ssh", "yes \"$(printf '\\033[2J')\" | head -c 3000000; echo nonsense >&2; exit 77\n");
    fleet.write("silent", "ssh", "exec sleep 1000\n");
    fleet.publish("good");
    let late = fleet.deploy(&["silent", "--timeout", "1s"]).expect_code(5);
    let expected = "silent: in an unknown state (status 5): it took longer than it may";
    assert!(late.stderr.contains(expected), "{}", late.stderr);
    let ended = fleet.deploy(&["bare", "gone", "odd", "well", "--parallel", "1"]).expect_code(2);
    for expected in [
        "bare: failed (status 2): smart-sync was not found there",
        "gone: not reached (status 5): ssh: Could not resolve hostname gone",
        "odd: failed (status 1): nonsense",
    ] {
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
    assert!(ended.stdout.contains("well: applied"), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\u{1b}') && !ended.stderr.contains('\u{1b}'));
    assert_eq!(fleet.version("well"), "good");
    let ended = fleet.deploy(&["gone", "well"]).expect_code(5);
    assert!(ended.stdout.contains("2 hosts: 1 up to date, 1 not reached"), "{}", ended.stdout);
    assert!(ended.stdout.contains("gone: try: ssh gone"), "{}", ended.stdout);
}

#[test]
fn hosts_and_groups_of_the_configuration_are_reached_as_it_says() {
    let environment = TestEnvironment::new();
    let fleet = Fleet::new(&environment, &["web1", "web2"]);
    let config = "[hosts.a]\nssh = \"root@web1\"\ngroups = [\"web\"]\n[hosts.web2]\ngroups = [\"web\"]\n";
    environment.write("etc/config.toml", config);
    fleet.publish("good");
    let target = fleet.target("web1");
    let target = target.to_str().unwrap();
    // What a host would do is shown, and nothing else happens.
    let shown = fleet.deploy(&["a", "--dry-run", "--", "--ref", "main", "--target", target]).success().stdout;
    assert!(shown.contains("a: create   version") || shown.contains("version (a file"), "{shown}");
    assert!(shown.contains("a: nothing was changed") && shown.contains("1 host: 1 done"), "{shown}");
    assert_eq!(fleet.version("web1"), "");
    let asked = fleet.asked();
    assert!(asked[0].contains("-o BatchMode=yes"), "{asked:?}");
    assert!(
        asked[0].ends_with(&format!("-- root@web1 smart-sync --json --ref main --target {target} --dry-run")),
        "{asked:?}"
    );
    // For programs: an event for each host, and standard error stays empty.
    let ended = fleet.deploy(&["@web", "--json"]).success();
    assert_eq!(ended.stderr, "");
    let events: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let hosts: Vec<_> = events.iter().filter(|event| event["event"] == "host").collect();
    let mut found: Vec<_> = hosts
        .iter()
        .map(|event| {
            (
                event["host"].as_str().unwrap(),
                event["ssh"].as_str().unwrap(),
                event["state"].as_str().unwrap(),
            )
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, [("a", "root@web1", "applied"), ("web2", "web2", "applied")]);
    assert!(hosts.iter().all(|event| event["seq"] == 1 && event["exit"] == 0 && event["changes"] == 1));
    // Other commands as well.
    let ended = fleet.deploy(&["@web", "--", "status"]).success();
    assert!(ended.stdout.contains("web2: done: no local changes"), "{}", ended.stdout);
    fleet.publish("better");
    let ended = fleet.deploy(&["@web", "--", "--check-only"]).expect_code(10);
    assert!(
        ended.stdout.contains("a: an update is available: repos/tree branch:main number 2"),
        "{}",
        ended.stdout
    );

    fleet.order();
    fleet.deploy(&["@mail"]).expect_code(4).stderr_contains("in the group mail");
    fleet.deploy(&["a", "--", "--no-such-thing"]).expect_code(4).stderr_contains("--no-such-thing");
    fleet.deploy(&["-oProxyCommand=id", "a"]).expect_code(4);
    fleet.deploy(&["--", "--ref", "main"]).expect_code(4);
    assert!(fleet.order().is_empty());
}

/// The stand-in answers the confirmation: what it does on a host is a matter of that host.
#[test]
fn what_went_well_is_confirmed_from_a_new_connection() {
    let environment = TestEnvironment::new();
    let fleet = Fleet::new(&environment, &["well", "lost", "bad"]);
    let confirm = |status: u8| format!("case \"$line\" in *\" confirm\"*) exit {status};; esac\n");
    fleet.write("well", "ssh", &confirm(0));
    fleet.write("lost", "ssh", &confirm(255));
    fleet.configure("bad", CHECK);
    fleet.publish("bad");
    let ended = fleet.deploy(&["well", "lost", "bad", "--confirm", "--parallel", "1"]).expect_code(9);
    assert!(ended.stdout.contains("1 change, confirmed"), "{}", ended.stdout);
    assert!(ended.stderr.contains("lost: not confirmed (status 5)"), "{}", ended.stderr);
    // One that is not well has nothing to confirm.
    assert_eq!(fleet.order(), ["well", "well", "lost", "lost", "bad"]);
    let asked = fleet.asked();
    assert!(!asked[0].contains("ControlPath"), "{asked:?}");
    assert!(asked[1].contains("-o ControlMaster=no -o ControlPath=none"), "{asked:?}");
    assert!(asked[1].ends_with("-- well smart-sync --json confirm"), "{asked:?}");
}

#[test]
fn an_interrupted_run_ends_its_connections_and_says_what_it_does_not_know() {
    let environment = TestEnvironment::new();
    let fleet = Fleet::new(&environment, &["well", "slow", "after"]);
    // The host is at work until somebody reads this pipe, which nobody does.
    let pipe = environment.path("pipe");
    fleet.write("slow", "ssh", &format!("mkfifo {0}; echo $$ > {0}.pid; echo > {0}\n", pipe.display()));
    fleet.publish("good");
    let mut command = fleet.command(&["deploy", "well", "slow", "after", "--parallel", "1"]);
    let mut running = Running::start(&mut command);
    let pid = environment.path("pipe.pid");
    while fs::read_to_string(&pid).unwrap_or_default().trim().is_empty() {
        assert!(running.is_alive(), "it ended");
        environment.run_client(["--version"]).success();
    }
    running.signal(Signal::INT);
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stdout.contains("well: applied"), "{}", ended.stdout);
    assert!(ended.stderr.contains("in an unknown state: slow"), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("3 hosts: 1 applied, 1 in an unknown state, 1 not tried"),
        "{}",
        ended.stdout
    );
    assert_eq!(fleet.version("after"), "");
    let pid = fs::read_to_string(&pid).unwrap();
    let process = format!("/proc/{}/stat", pid.trim());
    let state = fs::read_to_string(process).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "it is still there: {state}");
}
