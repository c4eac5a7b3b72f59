//! Profiles: several targets as one, with the real programs.

use std::fs;
use std::sync::Mutex;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use smart_sync_sync::time::UnixTime;
use smart_sync_tests::hostile::{HostileServer, Reply, forward};
use smart_sync_tests::program::{self, Running};
use smart_sync_tests::server::create_token;
use smart_sync_tests::supervisors::end_all;
use smart_sync_tests::{Profiled, TestEnvironment};

const PROFILE: &str = r#"
[targets."ROOT/srv/site"]
channel = "repos/site"
kind = "generations"

[targets."ROOT/srv/tool"]
channel = "repos/tool"
kind = "generations"

[targets."ROOT/srv/plain"]
channel = "repos/plain"
"#;
const ALL: [&str; 3] = ["site", "tool", "plain"];

/// Publishes the trees of all targets.
fn publish(host: &Profiled<'_>, version: &str) {
    for name in ALL {
        host.publish(&format!("repos/{name}"), "main", &[("version", version), ("same", "the same in all")]);
    }
}

fn configured(environment: &TestEnvironment) -> Profiled<'_> {
    let host = Profiled::new(environment);
    publish(&host, "one");
    host.publish_profile(Profiled::PROFILE, "main", PROFILE);
    host
}

#[test]
fn all_targets_become_what_the_profile_says_and_go_back_together() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    host.pull(&["--check-only"]).expect_code(10);
    let shown = host.pull(&["--dry-run"]).success().stdout;
    assert!(shown.contains("/srv/site:") && shown.contains("nothing was changed"), "{shown}");
    assert_eq!(host.versions(&ALL), ["", "", ""]);
    let pulled = host.pull(&[]).success().stdout;
    assert!(pulled.contains("number 1 is set 1 now: 3 of 3 targets changed"), "{pulled}");
    assert_eq!(host.versions(&ALL), ["one", "one", "one"]);
    let again = host.pull(&[]).success().stdout;
    assert!(again.contains("is up to date: 3 targets, set 1"), "{again}");
    // One for each ref.
    assert!(again.contains("4 requests"), "{again}");
    host.pull(&["--check-only"]).success();

    host.publish("repos/site", "main", &[("version", "two")]);
    host.publish("repos/tool", "main", &[("version", "two")]);
    let pulled = host.pull(&["--json"]).success().stdout;
    assert!(pulled.contains("\"event\":\"set\",\"profile\":\"profiles/host\",\"set\":2"), "{pulled}");
    assert_eq!(host.versions(&ALL), ["two", "two", "one"]);
    let listed = host.run(&["generations", "--profile", Profiled::PROFILE]).success().stdout;
    assert!(listed.contains("/srv/site generation 2: repos/site branch:main number 2"), "{listed}");
    assert_eq!(listed.matches("(current)").count(), 1, "{listed}");

    let back = host.run(&["rollback", "--profile", Profiled::PROFILE]).success().stdout;
    assert!(back.contains("all targets of profiles/host are at set 1 now"), "{back}");
    assert_eq!(host.versions(&ALL), ["one", "one", "one"]);
    // They stay there, each of them and all together.
    host.pull(&[]).success().stderr_contains("was taken back to set 1 and stays there");
    let site = host.target("site");
    let site = site.to_str().unwrap();
    let follow = ["--target", site, "--channel", "repos/site"];
    host.run(&follow).success().stderr_contains("stays there");
    assert_eq!(host.versions(&ALL), ["one", "one", "one"]);
    let listed = host.run(&["generations", "--profile", Profiled::PROFILE]).success().stdout;
    assert!(listed.contains("(current, held)"), "{listed}");
    host.run(&["resume", "--profile", Profiled::PROFILE]).success();
    host.pull(&[]).success();
    assert_eq!(host.versions(&ALL), ["two", "two", "one"]);
    host.run(&["rollback", "--profile", Profiled::PROFILE, "7"]).expect_code(4);

    // What a plain directory was is not kept.
    host.publish("repos/plain", "main", &[("version", "three")]);
    host.pull(&[]).success();
    host.run(&["rollback", "--profile", Profiled::PROFILE]).expect_code(4).stderr_contains("is not kept by");
    assert_eq!(host.versions(&ALL), ["two", "two", "three"]);
}

#[test]
fn a_target_that_is_not_named_any_more_is_left_as_it_is() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    host.pull(&[]).success();
    let (shorter, _) = PROFILE.split_once("[targets.\"ROOT/srv/plain\"]").unwrap();
    host.publish_profile(Profiled::PROFILE, "main", shorter);
    let pulled = host.pull(&[]).success().stdout;
    assert!(pulled.contains("/srv/plain is not in profiles/host any more; it is left as it is"), "{pulled}");
    assert_eq!(host.version("plain"), "one");
}

#[test]
fn two_profiles_do_not_have_targets_in_each_other() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    host.pull(&[]).success();
    let other = |path: &str| {
        let text = format!("[targets.\"ROOT/srv/{path}\"]\nchannel = \"repos/site\"\n");
        host.publish_profile("profiles/other", "main", &text);
        let under = host.rooted("ROOT/srv");
        host.run(&["pull", "profiles/other", "--under", &under])
    };
    other("site/inner").expect_code(6).stderr_contains("a target of profiles/host");
    assert_eq!(host.version("site"), "one");
    other("plain").success().stderr_contains("is a target of profiles/host too");
    other("own").success();
    assert_eq!(host.version("own"), "one");
}

#[test]
fn versions_that_sets_need_are_kept() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    host.publish_profile(Profiled::PROFILE, "main", &PROFILE.replace("kind =", "keep = 1\nkind ="));
    host.pull(&[]).success();
    for version in ["two", "three"] {
        host.publish("repos/site", "main", &[("version", version)]);
        host.pull(&[]).success();
    }
    let site = host.target("site");
    host.run(&["prune", "--keep", "1", "--yes", "--target", site.to_str().unwrap()]).success();
    host.run(&["rollback", "--profile", Profiled::PROFILE, "1"]).success();
    assert_eq!(host.versions(&ALL), ["one", "one", "one"]);
}

const CHECKS: &str = r#"
[[targets."ROOT/srv/tool".run]]
name = "record"
command = ["sh", "-c", "echo $SMART_SYNC_ACTION $(cat version) with $(cat ../../../site/current/version) >> ROOT/ran"]
[[targets."ROOT/srv/tool".check]]
name = "not bad"
command = ["sh", "-c", "! grep -q bad version"]
retries = 0
"#;

#[test]
fn where_one_target_is_not_healthy_all_go_back() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    let (versioned, _) = PROFILE.split_once("[targets.\"ROOT/srv/plain\"]").unwrap();
    host.publish_profile(Profiled::PROFILE, "main", &format!("{versioned}{CHECKS}"));
    // It names commands, and the host does not let it.
    let pulled = host.pull(&[]).success();
    pulled.stderr_contains("what profiles/host says of check, run does not count");
    assert!(!environment.path("ran").exists());
    host.configure("allow = [\"run\", \"check\"]\n");
    publish(&host, "two");
    host.pull(&[]).success();
    let ran = || fs::read_to_string(environment.path("ran")).unwrap();
    assert_eq!(ran(), "update two with two\n");

    publish(&host, "bad");
    host.pull(&[]).expect_code(8).stderr_contains("the check not bad fails");
    assert_eq!(host.versions(&["site", "tool"]), ["two", "two"]);
    assert_eq!(ran(), "update two with two\nupdate bad with bad\nrollback two with two\n");
    host.pull(&[]).expect_code(8).stderr_contains("--retry-failed tries them again");
    host.pull(&["--retry-failed"]).expect_code(8);
    let listed = host.run(&["generations", "--profile", Profiled::PROFILE]).success().stdout;
    assert_eq!(listed.matches("profiles/host branch:main").count(), 2, "{listed}");
    publish(&host, "three");
    host.pull(&[]).success();
    assert_eq!(host.versions(&["site", "tool"]), ["three", "three"]);
    // What keeps no versions stays, and that is said.
    host.publish_profile(Profiled::PROFILE, "main", &format!("{PROFILE}{CHECKS}"));
    publish(&host, "bad again");
    host.pull(&[]).expect_code(9).stderr_contains("there is nothing to go back to for");
    assert_eq!(host.versions(&ALL), ["three", "three", "bad again"]);
}

#[test]
fn what_is_configured_runs_for_a_set_that_is_gone_back_to() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    let (versioned, _) = PROFILE.split_once("[targets.\"ROOT/srv/plain\"]").unwrap();
    host.configure("allow = [\"run\", \"check\"]\n");
    host.publish_profile(Profiled::PROFILE, "main", &format!("{versioned}{CHECKS}"));
    for version in ["one", "two", "three"] {
        publish(&host, version);
        host.pull(&[]).success();
    }
    let ran = || {
        let text = fs::read_to_string(environment.path("ran")).unwrap_or_default();
        let _ = fs::remove_file(environment.path("ran"));
        text
    };
    ran();
    let back = |words: &[&str]| {
        let words = [&["rollback", "--profile", Profiled::PROFILE], words].concat();
        host.run(&words)
    };
    let shown = back(&["--dry-run"]).success().stdout;
    assert!(shown.contains("would be at set 2: ") && shown.contains("would run "), "{shown}");
    assert_eq!((host.versions(&["site", "tool"]), ran()), (vec!["three".into(); 2], String::new()));
    back(&[]).success();
    assert_eq!(ran(), "rollback two with two\n");
    back(&["1", "--skip-rebuild"]).success();
    assert_eq!((host.versions(&["site", "tool"]), ran()), (vec!["one".into(); 2], String::new()));
    // One that fails is said, and they stay where they were taken to.
    let fails =
        CHECKS.replace("command = [\"sh\", \"-c\", \"echo", "command = [\"sh\", \"-c\", \"exit 3; echo");
    host.run(&["resume", "--profile", Profiled::PROFILE]).success();
    host.publish_profile(Profiled::PROFILE, "main", &format!("{versioned}{fails}"));
    host.pull(&["--skip-rebuild"]).success();
    publish(&host, "four");
    host.pull(&["--skip-rebuild"]).success();
    back(&[]).expect_code(9).stderr_contains("are at set 4, but ");
    assert_eq!(host.versions(&["site", "tool"]), ["three", "three"]);
    host.pull(&[]).success().stderr_contains("stays there");
}

#[test]
fn a_run_that_dies_while_commands_run_is_taken_back_by_the_next_one() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    let (versioned, _) = PROFILE.split_once("[targets.\"ROOT/srv/plain\"]").unwrap();
    host.publish_profile(Profiled::PROFILE, "main", versioned);
    host.configure("allow = [\"run\", \"check\"]\n");
    host.pull(&[]).success();
    publish(&host, "two");
    let (begun, go_on) = (environment.path("begun"), environment.path("go-on"));
    for fifo in [&begun, &go_on] {
        program::run(environment.command("mkfifo").arg(fifo)).success();
    }
    let waits = format!(
        "test $SMART_SYNC_ACTION = rollback || {{ echo > {}; read line < {}; }}",
        begun.display(),
        go_on.display()
    );
    let run = format!("[[targets.\"ROOT/srv/tool\".run]]\ncommand = [\"sh\", \"-c\", '{waits}']\n");
    host.publish_profile(Profiled::PROFILE, "main", &format!("{versioned}{run}"));
    let pull = Running::start(&mut host.pull_command(&[]));
    fs::read_to_string(&begun).unwrap();
    // What stands by dies with it, as in a crash of the machine.
    end_all(&environment.state_directory());
    pull.signal(Signal::KILL);
    assert_eq!(pull.wait().code, None);
    fs::write(&go_on, "\n").unwrap();
    assert_eq!(host.versions(&["site", "tool"]), ["two", "two"]);
    // Nobody syncs a target that may go back.
    let site = host.target("site");
    let follow = ["--target", site.to_str().unwrap(), "--channel", "repos/site"];
    host.run(&follow).expect_code(1).stderr_contains("`smart-sync recover` settles");
    // Nobody goes anywhere who only asks where that would be.
    let asks = ["rollback", "--profile", Profiled::PROFILE, "--dry-run"];
    host.run(&asks).expect_code(1).stderr_contains("is not settled, and nothing was changed");
    // Somebody who has one of the targets is not a run that settles the set.
    let targets = environment.state_directory().join("targets");
    let states = fs::read_dir(targets).unwrap().map(|entry| entry.unwrap().path());
    let locks: Vec<_> = states.map(|state| fs::File::open(state.join("lock")).unwrap()).collect();
    for lock in &locks {
        flock(lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    }
    host.run(&["recover", "--profile", Profiled::PROFILE]).expect_code(1);
    assert_eq!(host.versions(&["site", "tool"]), ["two", "two"]);
    drop(locks);
    host.run(&["recover"]).expect_code(8).stderr_contains("ended before it was confirmed");
    assert_eq!(host.versions(&["site", "tool"]), ["one", "one"]);
    host.run(&["recover"]).success();
    host.pull(&[]).expect_code(8);
}

const OVERLAY: &str = r#"
[targets."ROOT/srv/machine"]
channel = "repos/machine"
kind = "overlay"
[targets."ROOT/srv/machine/inner"]
channel = "repos/site"
kind = "generations"
[[targets."ROOT/srv/machine/inner".check]]
name = "not bad"
command = ["sh", "-c", "! grep -q bad version"]
retries = 0
"#;

#[test]
fn an_overlay_is_switched_and_goes_back_with_the_others() {
    let environment = TestEnvironment::new();
    let host = Profiled::new(&environment);
    host.configure("allow = [\"check\"]\n");
    let machine = host.target("machine");
    fs::create_dir_all(machine.join("etc")).unwrap();
    fs::write(machine.join("etc/hosts"), "the host's own").unwrap();
    let read = |path: &str| fs::read_to_string(machine.join(path)).unwrap();
    let seen = || (read("etc/hosts"), read("inner/current/version"));
    let publish = |version: &str, hosts: &[(&str, &str)]| {
        host.publish("repos/site", "main", &[("version", version)]);
        host.publish("repos/machine", "main", hosts);
    };
    host.publish_profile(Profiled::PROFILE, "main", OVERLAY);
    publish("one", &[("etc/hosts", "published"), ("etc/first", "first")]);
    host.pull(&[]).success();
    assert_eq!(seen(), ("published".to_owned(), "one".to_owned()));
    publish("two", &[("etc/second", "second")]);
    host.pull(&[]).success();
    assert_eq!(seen(), ("the host's own".to_owned(), "two".to_owned()));
    publish("bad", &[("etc/hosts", "bad"), ("etc/third", "third")]);
    host.pull(&[]).expect_code(8).stderr_contains("the check not bad fails");
    assert_eq!(seen(), ("the host's own".to_owned(), "two".to_owned()));
    assert!(machine.join("etc/second").exists() && !machine.join("etc/third").exists());
    host.run(&["rollback", "--profile", Profiled::PROFILE]).success();
    assert_eq!(seen(), ("published".to_owned(), "one".to_owned()));
    host.run(&["ledger", "verify"]).success();
    host.run(&["resume", "--profile", Profiled::PROFILE]).success();

    // Nothing is placed in the other target, by whoever pulls or syncs the overlay.
    publish("two", &[("inner/current/version", "of the overlay")]);
    host.pull(&[]).expect_code(1).stderr_contains("no target was changed");
    let alone = ["--target", machine.to_str().unwrap(), "--channel", "repos/machine"];
    host.run(&alone).expect_code(1).stderr_contains("nothing was changed");
    assert_eq!(seen(), ("published".to_owned(), "one".to_owned()));
    // What is no overlay lies around nothing, and an overlay is placed where the host lets it.
    host.publish_profile(Profiled::PROFILE, "main", &OVERLAY.replace("kind = \"overlay\"\n", ""));
    host.pull(&[]).expect_code(6).stderr_contains("lies in the target");
    let etc = "[targets.\"ROOT/etc\"]\nchannel = \"repos/machine\"\nkind = \"overlay\"\n";
    host.publish_profile(Profiled::PROFILE, "main", etc);
    host.pull(&[]).expect_code(6).stderr_contains("does not let it place one there");
}

#[test]
fn where_one_target_cannot_be_made_none_is_changed() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    host.pull(&[]).success();
    publish(&host, "two");
    // The last one is not what its table lets it be, which is seen when the others are ready.
    host.publish_profile(Profiled::PROFILE, "main", &format!("{PROFILE}fidelity = \"system\"\n"));
    host.pull(&[]).expect_code(7).stderr_contains("no target was changed");
    assert_eq!(host.versions(&ALL), ["one", "one", "one"]);
    host.publish_profile(Profiled::PROFILE, "main", &PROFILE.replace("repos/plain", "repos/none"));
    host.pull(&[]).expect_code(1).stderr_contains("repos/none");
    assert_eq!(host.versions(&ALL), ["one", "one", "one"]);
    host.publish_profile(Profiled::PROFILE, "main", PROFILE);
    host.pull(&[]).success();
    assert_eq!(host.versions(&ALL), ["two", "two", "two"]);
}

#[test]
fn profiles_build_on_each_other_and_the_host_has_the_last_word() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    host.publish("repos/site", "tag:v1", &[("version", "v1")]);
    host.publish_profile(
        "profiles/common",
        "tag:v3",
        "\n[targets.\"ROOT/srv/site\"]\nchannel = \"repos/site\"\nref = \"main\"\n",
    );
    host.publish_profile(
        "profiles/role",
        "main",
        "extends = [\"profiles/common@v3\"]\n[targets.\"ROOT/srv/site\"]\nkind = \"generations\"\n",
    );
    let top = "extends = [\"profiles/role\"]\n[targets.\"ROOT/srv/tool\"]\nchannel = \"repos/tool\"\n";
    // Anybody with a key and a token publishes one.
    let token = create_token(&environment, host.realm.data(), "publish", "profiles/");
    environment.write("top/profile.toml", host.rooted(top));
    let key = host.realm.key("publish");
    let words = [
        "publish",
        "top",
        "--channel",
        Profiled::PROFILE,
        "--kind",
        "profile",
        "--key",
        key.to_str().unwrap(),
    ];
    program::run(host.command(&words).env("SMART_SYNC_TOKEN", &token)).success();

    host.configure("[targets.\"ROOT/srv/site\"]\nref = \"v1\"\n");
    let shown = host.run(&["profile", "show", Profiled::PROFILE]).success().stdout;
    let expected = host.rooted(
        "# profiles/host branch:main number 2

[targets.\"ROOT/srv/site\"]
channel = \"repos/site\"   # profiles/common tag:v3, profile.toml line 3
kind = \"generations\"   # profiles/role branch:main, profile.toml line 3
ref = \"v1\"   # the configuration, line 4

[targets.\"ROOT/srv/tool\"]
channel = \"repos/tool\"   # profiles/host branch:main, profile.toml line 3
",
    );
    assert_eq!(shown, expected);
    let json = host.run(&["profile", "show", Profiled::PROFILE, "--json"]).success().stdout;
    assert!(
        json.contains(
            "\"key\":\"ref\",\"value\":\"v1\",\"from\":\"the configuration, line 4\",\"used\":true"
        ),
        "{json}"
    );
    host.pull(&[]).success();
    assert_eq!(host.versions(&["site", "tool"]), ["v1", "one"]);

    // What is shown is a configuration.
    environment.write("etc/config.toml", &shown);
    let shown = host.run(&["profile", "show", Profiled::PROFILE]).success().stdout;
    assert_eq!(shown.matches("# the configuration, line").count(), 4, "{shown}");

    host.configure("");
    host.publish_profile("profiles/role", "main", "extends = [\"profiles/host\"]\n");
    host.pull(&[]).expect_code(6).stderr_contains("profiles/host builds on itself");
    host.run(&["pull", "repos/site"]).expect_code(7).stderr_contains("the kind");
}

#[test]
fn everything_is_as_of_one_date() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    let time_of = |channel: &str| -> u64 {
        let log = host.run(&["log", "--channel", channel, "--json"]).success().stdout;
        let first = log.lines().next().unwrap();
        let (_, rest) = first.split_once("\"time\":").unwrap();
        rest.split(|character: char| !character.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let then = time_of(Profiled::PROFILE);
    // What is published in the same second is of the same moment: it is published to another channel until that is over.
    for number in 0_u64.. {
        host.publish("repos/clock", "main", &[("version", &number.to_string())]);
        if time_of("repos/clock") > then {
            break;
        }
    }
    publish(&host, "two");
    let (shorter, _) = PROFILE.split_once("[targets.\"ROOT/srv/plain\"]").unwrap();
    host.publish_profile(Profiled::PROFILE, "main", shorter);
    host.pull(&[]).success();
    assert_eq!(host.versions(&ALL), ["two", "two", ""]);
    let date = UnixTime::new(then).unwrap().to_string();
    host.pull(&["--at", &date]).success();
    assert_eq!(host.versions(&ALL), ["one", "one", "one"]);
    let listed = host.run(&["generations", "--profile", Profiled::PROFILE]).success().stdout;
    assert!(listed.contains("as of "), "{listed}");
    host.pull(&["--ref", &format!("main@{date}")]).success();
    host.pull(&["--ref", &format!("main@{date}"), "--at", &date]).expect_code(4);
    host.pull(&["--at", "2020-01-01"]).expect_code(1);
    host.pull(&[]).success();
    assert_eq!(host.versions(&ALL), ["two", "two", "one"]);
}

#[test]
fn what_a_hostile_profile_says_changes_nothing() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    host.pull(&[]).success();
    publish(&host, "two");
    let target = |path: &str| format!("{PROFILE}[targets.\"{path}\"]\nchannel = \"repos/site\"\n");
    let cases: Vec<(String, i32, &str)> = vec![
        (format!("# {}", "x".repeat(1 << 20)), 6, "larger than 256 KiB"),
        (format!("a = {}", "[".repeat(200_000)), 6, "profile.toml line 1"),
        (format!("{PROFILE}\nunknown = 1\n"), 6, "unknown field `unknown`"),
        (format!("{PROFILE}\ntoken = \"sst_x\"\n"), 6, "unknown field `token`"),
        (format!("{PROFILE}\nsource = \"github:o/r\"\n"), 6, "names channels of its own realm"),
        (target("/"), 6, "the state of smart-sync is kept there"),
        (format!("{}kind = \"overlay\"\n", target("/")), 6, "does not let it place one there"),
        (target("ROOT/srv/../etc"), 6, "without `.`, `..`"),
        (target("srv/relative"), 6, "not absolute"),
        (target("ROOT/srv/site/inner"), 6, "lies in the target"),
        (target("ROOT/state/targets"), 6, "the state of smart-sync is kept there"),
        (target("ROOT"), 6, "the state of smart-sync is kept there"),
        (target("ROOT/etc/x"), 6, "does not let it place one there"),
        (target("ROOT/srv/link/x"), 6, "does not let it place one there"),
        (target("ROOT/srv/missing/x"), 1, "looking for a place"),
        ("extends = [\"profiles/none\"]\n".to_owned(), 1, "profiles/none"),
        ("extends = [\"repos/site\"]\n".to_owned(), 7, "the kind"),
    ];
    std::os::unix::fs::symlink("../etc", host.target("link")).unwrap();
    for (text, code, expected) in cases {
        host.publish_profile(Profiled::PROFILE, "main", &text);
        host.pull(&[]).expect_code(code).stderr_contains(expected);
        assert_eq!(host.versions(&ALL), ["one", "one", "one"], "{expected}");
    }
    host.publish(Profiled::PROFILE, "main", &[("other.toml", "")]);
    host.pull(&[]).expect_code(6).stderr_contains("holds no profile.toml");
    host.publish_profile(Profiled::PROFILE, "main", PROFILE);
    host.pull(&[]).success();
    assert_eq!(host.versions(&ALL), ["two", "two", "two"]);
}

#[test]
fn a_profile_is_followed_with_all_that_it_names() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    host.publish_profile("profiles/common", "main", "");
    host.publish_profile(Profiled::PROFILE, "main", &format!("extends = [\"profiles/common\"]\n{PROFILE}"));
    host.configure("follow = true\n");
    let words = ["watch", "--jitter", "0s", "--every", "1000d"];
    let mut watching = Running::start(&mut host.command(&words));
    // The server is left alone meanwhile: it answers only so many requests of one address.
    let mut wait_for = |names: &[&str], expected: &[&str]| {
        while host.versions(names) != expected {
            assert!(watching.is_alive(), "it ended");
            host.run(&["--version"]).success();
        }
    };
    wait_for(&ALL, &["one", "one", "one"]);
    host.publish("repos/tool", "main", &[("version", "two")]);
    wait_for(&ALL, &["one", "two", "one"]);
    // A channel that is named later is followed as well, and a profile that cannot be used does not end it.
    let more = "[targets.\"ROOT/srv/more\"]\nchannel = \"repos/more\"\n";
    host.publish("repos/more", "main", &[("version", "one")]);
    host.publish_profile("profiles/common", "main", "nonsense");
    host.publish_profile("profiles/common", "main", more);
    wait_for(&["more"], &["one"]);
    host.publish("repos/more", "main", &[("version", "two")]);
    wait_for(&["more"], &["two"]);
    watching.signal(Signal::TERM);
    assert_eq!(watching.wait().code, Some(0));
}

/// Somebody publishes to two channels while the host reads: it gets both or none.
#[test]
fn everything_is_read_from_one_state_of_the_log() {
    let environment = TestEnvironment::new();
    let host = configured(&environment);
    let commands = ["site", "tool"].map(|name| {
        environment.write(&format!("later/{name}/version"), "two");
        let mut command = environment.server();
        let channel = format!("repos/{name}");
        command.args(["publish-local", "--channel", &channel, "--kind", "tree", "--data"]);
        command.arg(host.realm.data()).arg(environment.path(&format!("later/{name}")));
        command
    });
    let (address, commands) = (host.realm.server().address().to_owned(), Mutex::new(Some(commands)));
    let server = HostileServer::start(move |request| {
        // The first target was asked for, and the second one is.
        if request.path.contains("update/repos~2ftool/")
            && let Some(commands) = commands.lock().unwrap().take()
        {
            for mut command in commands {
                program::run(&mut command).success();
            }
        }
        forward(&address, request).unwrap_or(Reply::Close)
    });
    host.pull(&["--server", &server.url()]).success();
    assert_eq!(host.versions(&ALL), ["two", "two", "one"]);
    let asked = server.take_requests();
    let of_site = asked.iter().filter(|request| request.path.contains("update/repos~2fsite/")).count();
    assert_eq!(of_site, 2, "{asked:?}");
}
