//! The test environment itself: what it isolates, and what its snapshots see.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use smart_sync_tests::{Server, Snapshot, TestEnvironment, program};

#[test]
fn a_command_sees_only_the_environment_of_its_test() {
    let environment = TestEnvironment::new();
    let printed = program::run(&mut environment.command("env")).success().stdout;
    let names: Vec<&str> =
        printed.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for name in ["HOME", "SMART_SYNC_STATE_DIR", "SMART_SYNC_CONFIG", "PATH"] {
        assert!(names.contains(&name), "{name} is not in:\n{printed}");
    }
    assert!(!names.iter().any(|name| name.starts_with("CARGO")), "something of the caller is in:\n{printed}");
    let home = environment.home();
    assert!(printed.contains(&format!("HOME={}", home.display())));
}

#[test]
fn commits_have_the_same_ids_on_every_run() {
    let first = TestEnvironment::new();
    let second = TestEnvironment::new();
    let ids = [&first, &second].map(|environment| {
        let repository = environment.repository("repository");
        repository.write("a/b", "content");
        (repository.commit("one"), repository.commit("two"))
    });
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0].0, ids[0].1);
}

#[test]
fn snapshots_tell_apart_content_mode_kind_and_target() {
    let environment = TestEnvironment::new();
    let tree = environment.path("tree");
    let file = environment.write("tree/file", "content");
    environment.write("tree/.git/HEAD", "ref");
    symlink("file", tree.join("link")).unwrap();
    let before = Snapshot::of(&tree);
    let before_git = Snapshot::as_git(&tree);
    assert!(before.differences(&Snapshot::of(&tree)).is_empty());

    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(before.differences(&Snapshot::of(&tree)).len(), 2);
    assert_eq!(before_git, Snapshot::as_git(&tree), "git keeps no more than the executable bit");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o744)).unwrap();
    assert_ne!(before_git, Snapshot::as_git(&tree));

    fs::remove_file(tree.join("link")).unwrap();
    symlink("other", tree.join("link")).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    let changed: Vec<String> = before.differences(&Snapshot::of(&tree));
    assert!(changed.iter().any(|line| line == "+ link link -> other"), "{changed:?}");
    assert!(changed.iter().any(|line| line.ends_with("empty/")), "{changed:?}");
}

/// A command that runs a shell script as a server would run.
fn script(environment: &TestEnvironment, text: &str) -> std::process::Command {
    let mut command = environment.command("sh");
    command.args(["-c", text]);
    command
}

#[test]
fn a_server_is_ready_when_it_says_where_it_listens_and_stops_when_asked() {
    let environment = TestEnvironment::new();
    let text = "trap 'kill $!; exit 3' TERM; echo starting >&2; echo listening on http://127.0.0.1:9 >&2; \
                while :; do sleep 1000 & wait; done";
    let server = Server::start(&mut script(&environment, text));
    assert_eq!(server.url(), "http://127.0.0.1:9");
    assert_eq!(server.address(), "127.0.0.1:9");
    assert!(server.log().starts_with("starting\n"));
    assert_eq!(server.stop().code(), Some(3));
}

#[test]
#[should_panic(expected = "no such directory")]
fn a_server_that_ends_at_once_shows_what_it_said() {
    let environment = TestEnvironment::new();
    Server::start(&mut script(&environment, "echo no such directory >&2; exit 1"));
}
