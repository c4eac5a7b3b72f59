//! Targets and hosts that a run cannot use, what it says of each, and that nothing is changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use smart_sync_tests::noise::noise;
use smart_sync_tests::program::{self, Running};
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::small_disk::in_namespace;
use smart_sync_tests::{CountingProxy, Host, SmallDisk, Snapshot, TestEnvironment};

fn host(environment: &TestEnvironment) -> Host<'_> {
    let host = Host::new(environment);
    environment.write("tree/a", "content of a\n");
    environment.write("tree/d/b", "content of b\n");
    host.publish().success();
    host
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode can be set");
}

/// A run with no more rights than the modes of files give, even for root.
fn without_overrides(environment: &TestEnvironment, command: &Command) -> Command {
    let mut limited = if rustix::process::geteuid().is_root() {
        let mut limited = environment.command("setpriv");
        limited.args(["--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]);
        limited.arg(command.get_program());
        limited
    } else {
        environment.command(command.get_program())
    };
    limited.args(command.get_args());
    limited
}

/// A run that has begun to fetch, and holds its target until the proxy lets it go on.
fn held(host: &Host<'_>) -> (Running, CountingProxy) {
    host.environment().write("tree/large", noise("large", 3_000_000));
    host.environment().write("tree/d/b", "content of b, changed\n");
    host.publish().success();
    let proxy = CountingProxy::start(host.realm.server().address(), Protocol::Http).expect("a free port");
    proxy.hold_received_after(1_000_000);
    let mut run = Running::start(&mut host.sync_command_from(&proxy.url()));
    while proxy.totals().received <= 1_000_000 && run.is_alive() {
        std::thread::yield_now();
    }
    (run, proxy)
}

#[test]
fn a_second_run_is_told_who_works_on_the_target() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    host.sync().success();
    let (first, proxy) = held(&host);
    let refused = host.sync().expect_code(1);
    let who = format!("the target is being worked on by process {} (smart-sync, since 20", first.process());
    assert!(refused.stderr.contains(&who), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: wait for it to end"), "{}", refused.stderr);
    proxy.release();
    first.wait().success();
    host.assert_synced();
}

#[test]
fn a_target_that_cannot_be_written_to_is_left_as_it_is() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    host.sync().success();
    let before = Snapshot::of(&host.target());
    environment.write("tree/d/b", "changed\n");
    host.publish().success();
    for (directory, named) in [
        ("host", "the target itself: no permission to write there"),
        ("host/d", "d: no permission to write there"),
    ] {
        let directory = environment.path(directory);
        set_mode(&directory, 0o555);
        let refused = program::run(&mut without_overrides(&environment, &host.sync_command())).expect_code(3);
        set_mode(&directory, 0o755);
        assert!(refused.stderr.contains("nothing was changed: "), "{}", refused.stderr);
        assert!(refused.stderr.contains(named), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("hint: run this as a user who may write there"),
            "{}",
            refused.stderr
        );
        before.assert_same(&Snapshot::of(&host.target()));
    }
    host.sync().success();
    host.assert_synced();
}

#[test]
fn a_target_on_a_read_only_file_system_is_named_as_such() {
    if !in_namespace() {
        return;
    }
    let environment = TestEnvironment::new();
    let disk = SmallDisk::mount(environment.path("host"), 1 << 20);
    let host = host(&environment);
    let remount = |mode: &str| {
        let mut mount = Command::new("mount");
        program::run(mount.args(["-o", &format!("remount,{mode}")]).arg(disk.directory())).success();
    };
    remount("ro");
    let refused = host.sync().expect_code(3);
    let said = "nothing was changed: the target is on a file system that is mounted read-only\n";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    remount("rw");
    host.sync().success();
}

#[test]
fn a_path_that_is_no_directory_is_named_with_what_to_do() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    environment.write("file", "a file\n");
    symlink("nowhere", environment.path("dangling")).unwrap();
    for (target, code, message) in [
        ("file", 4, "is not a directory"),
        ("dangling", 1, "hint: name an existing directory"),
        ("absent/below", 1, "hint: make the directories above it first"),
    ] {
        let arguments =
            ["--server", host.realm.server().url(), "--channel", Host::CHANNEL, "--target", target];
        environment.run_client(arguments).expect_code(code).stderr_contains(message);
    }
    assert_eq!(fs::read_to_string(environment.path("file")).unwrap(), "a file\n");
    assert!(!environment.path("nowhere").exists() && !environment.path("absent").exists());
}

#[test]
fn a_first_sync_that_fails_leaves_no_directory_behind() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    let fail = |arguments: &[&str], code: i32| {
        program::run(host.sync_command().args(arguments)).expect_code(code);
    };
    fail(&["--ref", "absent"], 1);
    assert!(!host.target().exists());
    let dead = host.sync_command_from("http://127.0.0.1:1");
    program::run(&mut { dead }).expect_code(5);
    assert!(!host.target().exists());
    // One that somebody else has made is not ours to remove.
    fs::create_dir(host.target()).expect("the files of the test can be changed");
    fail(&["--ref", "absent"], 1);
    assert!(host.target().exists());
    host.sync().success();
    host.assert_synced();
}

#[test]
fn a_link_to_the_target_is_the_target() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    fs::create_dir(environment.path("elsewhere")).unwrap();
    symlink("elsewhere", host.target()).unwrap();
    host.sync().success();
    host.assert_synced();
    assert!(fs::symlink_metadata(host.target()).unwrap().is_symlink(), "the link is still one");
    let arguments = ["status", "--target", "elsewhere"];
    environment.run_client(arguments).success();
}

#[test]
fn what_takes_the_place_of_a_target_during_a_run_is_not_touched() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    host.sync().success();
    let (run, proxy) = held(&host);
    let (moved, other) = (environment.path("moved"), environment.path("other"));
    fs::rename(host.target(), &moved).unwrap();
    environment.write("other/d/b", "belongs to somebody else\n");
    symlink(&other, host.target()).unwrap();
    proxy.release();
    // The run holds the directory, not its name.
    run.wait().success();
    Snapshot::as_git(&host.tree()).assert_same(&Snapshot::as_git(&moved));
    assert_eq!(fs::read_to_string(other.join("d/b")).unwrap(), "belongs to somebody else\n");
    assert_eq!(Snapshot::of(&other).nodes().len(), 2);
}

#[test]
fn a_directory_that_becomes_a_link_during_a_run_is_not_written_through() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    host.sync().success();
    let (run, proxy) = held(&host);
    environment.write("other/b", "belongs to somebody else\n");
    fs::rename(host.target().join("d"), environment.path("moved")).unwrap();
    symlink(environment.path("other"), host.target().join("d")).unwrap();
    proxy.release();
    run.wait();
    assert_eq!(fs::read_to_string(environment.path("other/b")).unwrap(), "belongs to somebody else\n");
    assert_eq!(Snapshot::of(&environment.path("other")).nodes().len(), 1);
    host.sync().success();
    host.assert_synced();
    assert_eq!(fs::read_to_string(environment.path("other/b")).unwrap(), "belongs to somebody else\n");
}

#[test]
fn a_state_directory_that_others_can_get_at_or_that_cannot_be_read_is_refused() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    host.sync().success();
    let before = Snapshot::of(&host.target());
    let state = environment.state_directory();
    set_mode(&state, 0o777);
    let refused = host.sync().expect_code(3);
    assert!(refused.stderr.contains("hint: chmod 700 "), "{}", refused.stderr);
    set_mode(&state, 0o700);
    for (directory, mode) in
        [(state.clone(), 0o000), (state.join("trust"), 0o000), (state.join("targets"), 0o500)]
    {
        set_mode(&directory, mode);
        let refused = program::run(&mut without_overrides(&environment, &host.sync_command()));
        set_mode(&directory, 0o700);
        if mode == 0o500 {
            // Nothing is made in it: this target is known.
            refused.success();
        } else {
            let refused = refused.expect_code(3);
            assert!(refused.stderr.contains("Permission denied"), "{}", refused.stderr);
        }
    }
    before.assert_same(&Snapshot::of(&host.target()));
    host.sync().success();
}

#[test]
fn without_a_network_the_address_is_named_and_nothing_changes() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    host.sync().success();
    let before = Snapshot::of(&host.target());
    let command = host.sync_command();
    let url = host.realm.server().url().to_owned();
    let target = host.target();
    drop(host);
    let mut again = environment.command(command.get_program());
    let refused = program::run(again.args(command.get_args())).expect_code(5);
    assert!(refused.stderr.contains(&format!("{url}/v1/update/")), "{}", refused.stderr);
    assert!(refused.stderr.contains("Connection refused"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: check the address and the network"), "{}", refused.stderr);
    assert!(!refused.stderr.contains('?'), "a query is shown: {}", refused.stderr);
    before.assert_same(&Snapshot::of(&target));
}

#[test]
fn a_configuration_or_a_token_that_is_wrong_is_named_by_file_and_line() {
    let environment = TestEnvironment::new();
    let host = host(&environment);
    let configuration = environment.configuration_file();
    for (text, mode, code, message) in [
        ("target = \"/t\"\nchanel = \"x\"\n", 0o644, 6, "config.toml, line 2, `chanel`: unknown field"),
        ("targets = [\n", 0o644, 6, "config.toml, line 1"),
        (
            "[realms.\"test.example\"]\nservers = [\"https://sync.example.org\"]\ntoken = \"sst_secret\"\n",
            0o644,
            3,
            "hint: chmod 600",
        ),
    ] {
        environment.write("etc/config.toml", text);
        set_mode(&configuration, mode);
        let refused = host.sync().expect_code(code);
        assert!(refused.stderr.contains(message), "{text}: {}", refused.stderr);
        assert!(!refused.stderr.contains("sst_secret"), "{}", refused.stderr);
    }
    environment.write("etc/config.toml", "");
    let token = environment.write("home/.config/smart-sync/token", "sst_secret\n");
    set_mode(&token, 0o640);
    let refused = host.sync().expect_code(3);
    assert!(refused.stderr.contains("can be read by others (mode 0640)"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("sst_secret"), "{}", refused.stderr);
    assert!(!host.target().exists() || Snapshot::of(&host.target()) == Snapshot::default());
}
