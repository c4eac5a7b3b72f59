//! The whole ceremony: a realm whose root keys were never on the server, from the keys to a host that follows it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::Path;

use smart_sync_tests::program::{self, Finished};
use smart_sync_tests::server::{create_token, serve};
use smart_sync_tests::{Server, Snapshot, TestEnvironment};

const ORIGIN: &str = "test.example";

/// A key in `NAME.key`, and its public half as a root document has it.
fn generate(environment: &TestEnvironment, name: &str, file: &str, form: &str) -> String {
    let made = environment.run_client(["key", "generate", name, "-o", &format!("{file}.key")]).success();
    let line = made.stdout.lines().find_map(|line| line.strip_prefix(form));
    line.unwrap_or_else(|| panic!("no {form} in {}", made.stdout)).trim().to_owned()
}

fn root(environment: &TestEnvironment, arguments: &[&str]) -> Finished {
    environment.run_client([&["root"][..], arguments].concat())
}

/// Every key on a machine of its own, and a document of which two of three holders have to sign every version. It is
/// in `root.note`, its fingerprint is returned.
fn hold_ceremony(environment: &TestEnvironment) -> String {
    let signature = |name: &str, file: &str| generate(environment, name, file, "signature ");
    let alice = signature("test.example/root/alice", "alice");
    let bob = signature("test.example/root/bob", "bob");
    let carol = signature("test.example/root/carol", "carol");
    let publish = signature("test.example/publish", "publish");
    let log = signature(ORIGIN, "log");
    let clock = generate(environment, "test.example/clock", "clock", "cosignature ");
    signature("test.example/other", "other");
    let roles = [
        format!("root 2 {alice} {bob} {carol}"),
        format!("log 1 {log}"),
        format!("clock 1 {clock}"),
        format!("publish repos/* 1 {publish}"),
    ];
    let mut new = vec!["new", ORIGIN, "-o", "draft"];
    new.extend(roles.iter().flat_map(|role| ["--role", role]));
    root(environment, &new).success();
    fs::copy(environment.path("draft"), environment.path("draft.carol")).unwrap();
    fs::copy(environment.path("draft"), environment.path("unsigned")).unwrap();
    root(environment, &["sign", "draft", "--key", "alice.key"]).success();
    root(environment, &["sign", "draft.carol", "--key", "carol.key"]).success();
    root(environment, &["assemble", "draft", "-o", "root.note"]).expect_code(7);
    let whole = root(environment, &["assemble", "draft", "draft.carol", "-o", "root.note"]).success();
    assert!(whole.stdout.contains("smart-sync-server init --root root.note"), "{}", whole.stdout);
    let fingerprint = whole.stdout.split_whitespace().find(|word| word.starts_with("sha256:"));
    fingerprint.expect("the fingerprint is shown").to_owned()
}

fn init(environment: &TestEnvironment, arguments: &[&str]) -> Finished {
    let mut command = environment.server();
    command.args(["init", "--data"]).arg(environment.path("realm")).args(arguments);
    program::run(&mut command)
}

fn publish(environment: &TestEnvironment, server: &Server, data: &Path) {
    let token = create_token(environment, data, "publish", "repos/");
    let mut command = environment.client();
    command.args(["publish", "tree", "--channel", "repos/x", "--server", server.url()]);
    command.args(["--key", "publish.key"]).env("SMART_SYNC_TOKEN", token);
    program::run(&mut command).success();
}

fn sync(environment: &TestEnvironment, server: &Server) -> Finished {
    environment.run_client(["--server", server.url(), "--channel", "repos/x", "--target", "host"])
}

fn assert_synced(environment: &TestEnvironment) {
    Snapshot::as_git(&environment.path("tree")).assert_same(&Snapshot::as_git(&environment.path("host")));
}

#[test]
fn a_realm_begins_with_a_root_document_that_was_signed_elsewhere() {
    let environment = TestEnvironment::new();
    let fingerprint = hold_ceremony(&environment);
    let made =
        init(&environment, &["--root", "root.note", "--log-key", "log.key", "--clock-key", "clock.key"])
            .success();
    assert!(made.stdout.contains(&format!("--root {fingerprint}")), "{}", made.stdout);
    let data = environment.path("realm");
    let mut keys: Vec<_> =
        fs::read_dir(data.join("keys")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    keys.sort();
    assert_eq!(keys, ["clock.key", "log.key"], "no key that could publish or replace others is here");
    environment.run_server(["log", "audit", "--data", data.to_str().unwrap()]).success();

    let server = Server::start(&mut serve(&environment, &data));
    environment.run_client(["trust", "add", server.url(), "--root", &fingerprint]).success();
    environment.write("tree/a", "content of a");
    publish(&environment, &server, &data);
    sync(&environment, &server).success();
    assert_synced(&environment);
}

#[test]
fn a_clock_elsewhere_signs_for_a_realm_that_begins_without_its_key() {
    let environment = TestEnvironment::new();
    let fingerprint = hold_ceremony(&environment);
    let made = init(&environment, &["--root", "root.note", "--log-key", "log.key"]).success();
    assert!(made.stdout.contains("smart-sync-server clock --server URL"), "{}", made.stdout);
    let data = environment.path("realm");
    let server = Server::start(&mut serve(&environment, &data));
    let clock = || {
        let arguments =
            ["clock", "--interval", "0", "--key", "clock.key", "--state", "clock", "--root", &fingerprint];
        environment.run_server([&arguments[..], &["--server", server.url()]].concat()).success();
    };
    clock();
    environment.run_client(["trust", "add", server.url(), "--root", &fingerprint]).success();
    environment.write("tree/a", "content of a");
    let mut command = environment.server();
    command.args([
        "publish-local",
        "--channel",
        "repos/x",
        "--kind",
        "tree",
        "--key",
        "publish.key",
        "--data",
    ]);
    program::run(command.arg(&data).arg("tree")).success();
    sync(&environment, &server).expect_code(1);
    clock();
    sync(&environment, &server).success();
    assert_synced(&environment);
}

#[test]
fn a_realm_does_not_begin_with_what_is_not_whole() {
    let environment = TestEnvironment::new();
    hold_ceremony(&environment);
    let check = |arguments: &[&str], code: i32, expected: &str| {
        init(&environment, arguments).expect_code(code).stderr_contains(expected);
        assert!(!environment.path("realm").exists(), "nothing is made: {arguments:?}");
    };
    let with = |file: &'static str| ["--root", file, "--log-key", "log.key"];
    check(&with("unsigned"), 7, "smart-sync root assemble");
    check(&with("draft"), 7, "1 of 2");
    check(&with("absent"), 1, "reading absent");
    check(&["--root", "root.note", "--log-key", "other.key"], 4, "is not a log key of the root document");
    check(&[&with("root.note")[..], &["--clock-key", "log.key"]].concat(), 4, "is not a clock key");
    check(&[&with("root.note")[..], &["--origin", "other.example"]].concat(), 4, "not of other.example");
    check(&[&with("root.note")[..], &["--publish", "x"]].concat(), 4, "cannot be used with");
    check(&["--root", "root.note"], 4, "--log-key");
    check(&[], 4, "--origin");
}
