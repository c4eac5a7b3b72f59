//! Looking into what is published without having it: `log`, `ls`, `cat`, `diff`.

use std::process::Stdio;

use smart_sync_tests::{Finished, Realm, TestEnvironment};

const CHANNEL: &str = "repos/x";

/// A realm with two versions of a repository, on a host that trusts it.
fn scene(environment: &TestEnvironment) -> Realm {
    let realm = Realm::start(environment, "realm");
    environment.run_client(["trust", "add", realm.server().url(), "--root", realm.fingerprint()]).success();
    let repository = environment.repository("repository");
    repository.write("README", "one\ntwo\nthree\n");
    repository.write("gone", "gone\n");
    repository.write("bin/tool", [0, 1, 2]);
    repository.write("large", "0123456789abcdef\n".repeat(600_000));
    repository.write("odd\u{1b}[31m", "odd\n");
    repository.write("empty", "");
    repository.commit("one");
    repository.tag("v1");
    let publish = |reference: &str| {
        let source = repository.directory();
        realm.publish_local(environment, CHANNEL, reference, source, &["--git", "HEAD"]).success();
    };
    publish("tag:v1");
    publish("main");
    repository.write("README", "one\n2\nthree\n");
    repository.write("bin/tool", [0, 1, 3]);
    repository.write("new", "new\n");
    repository.git(["rm", "--quiet", "gone"]);
    repository.commit("two");
    publish("main");
    realm
}

fn look(environment: &TestEnvironment, arguments: &[&str]) -> Finished {
    environment.run_client([arguments, &["--channel", CHANNEL]].concat())
}

/// What is different on every run is replaced by its name.
fn redacted(text: &str) -> String {
    let word = |word: &str| match word {
        _ if word.len() == 20 && word.ends_with('Z') => "TIME".to_owned(),
        word => word.to_owned(),
    };
    let lines = text.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n");
    lines.collect()
}

#[test]
fn the_history_of_a_ref_is_listed_newest_first() {
    let environment = TestEnvironment::new();
    let _realm = scene(&environment);
    insta::assert_snapshot!(redacted(&look(&environment, &["log"]).success().stdout), @r"
        2  TIME  leaf 6  blake3:7057159214fe39b7b6d19a70afdd654ab0d132dc48a79ee15894b790fbd633dc  6 entries, 9.73 MiB  commit 7946a3f4a526f63a47f5a8a6b334ec0ab557b9bf
        1  TIME  leaf 4  blake3:f729e8e631c137e97825c5310b9344dbc8934d0f16594e32aa8319421a0abb67  6 entries, 9.73 MiB  commit ecdf3007db55b22718ddc64715dc3538ba334e3c
    ");
    let one = look(&environment, &["log", "-n", "1", "--json"]).success().stdout;
    let event: serde_json::Value = serde_json::from_str(one.trim()).expect("one event");
    assert_eq!((&event["event"], &event["seq"]), (&"publication".into(), &2.into()));
    assert_eq!(event["leaf"], 6, "the root document is leaf 0, and heads follow each publication");
    look(&environment, &["log", "--ref", "nothing"]).expect_code(1).stderr_contains("has no branch:nothing");
}

#[test]
fn a_history_longer_than_one_answer_is_followed_to_its_beginning() {
    let environment = TestEnvironment::new();
    let realm = scene(&environment);
    for number in 0..103 {
        environment.write("tree/a", format!("{number}"));
        realm.publish_local(&environment, "repos/y", "main", &environment.path("tree"), &[]).success();
    }
    let history = environment.run_client(["log", "--channel", "repos/y", "-n", "1000"]).success().stdout;
    let numbers: Vec<u64> =
        history.lines().map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (1..=103).rev().collect::<Vec<_>>());
}

#[test]
fn trees_are_listed_one_directory_or_all_of_it() {
    let environment = TestEnvironment::new();
    let _realm = scene(&environment);
    let listed = |arguments: &[&str]| look(&environment, &[&["ls"][..], arguments].concat()).success().stdout;
    insta::assert_snapshot!(listed(&[]), @r"
    README
    bin/
    empty
    large
    new
    odd\u{1b}[31m
    ");
    insta::assert_snapshot!(listed(&["bin/"]), @"bin/tool");
    insta::assert_snapshot!(listed(&["README", "-l", "--ref", "v1"]), @"100644                           14 blake3:10e1a16f0805bd7128d2ff11264ffd33566f0ad1d980ebd0f2b3848815d2e72b README");
    insta::assert_snapshot!(listed(&["-R", "--ref", "v1"]), @r"
    README
    bin/tool
    empty
    gone
    large
    odd\u{1b}[31m
    ");
    look(&environment, &["ls", "nothing"]).expect_code(1).stderr_contains("has no nothing");
    look(&environment, &["ls", "../etc"]).expect_code(4);
    let entry = look(&environment, &["ls", "README", "--json"]).success().stdout;
    let entry: serde_json::Value = serde_json::from_str(entry.trim()).expect("one event");
    assert_eq!((&entry["path"], &entry["size"]), (&"README".into(), &12.into()));
}

#[test]
fn files_are_written_as_they_are() {
    let environment = TestEnvironment::new();
    let _realm = scene(&environment);
    let cat = |path: &str| look(&environment, &["cat", path]);
    assert_eq!(cat("README").success().stdout, "one\n2\nthree\n");
    assert_eq!(cat("empty").success().stdout, "");
    assert_eq!(cat("large").success().stdout, "0123456789abcdef\n".repeat(600_000));
    assert_eq!(look(&environment, &["cat", "README", "--ref", "v1"]).success().stdout, "one\ntwo\nthree\n");
    cat("bin").expect_code(4).stderr_contains("bin is no file");
    cat("nothing").expect_code(1);
    // A reader that has seen enough is no failure.
    let mut command = environment.client();
    command.args(["cat", "large", "--channel", CHANNEL]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("starting the client");
    drop(child.stdout.take());
    assert!(child.wait().expect("waiting for the client").success());
}

#[test]
fn what_differs_is_shown_as_names_or_texts() {
    let environment = TestEnvironment::new();
    let _realm = scene(&environment);
    insta::assert_snapshot!(look(&environment, &["diff", "v1", "main"]).success().stdout, @r"
    diff README
    --- a/README
    +++ b/README
    @@ -1,3 +1,3 @@
     one
    -two
    +2
     three
    diff bin/tool
    contents differ, and are not texts of at most 1 MiB
    diff gone
    removed file 100644
    --- a/gone
    +++ /dev/null
    @@ -1 +0,0 @@
    -gone
    diff new
    new file 100644
    --- /dev/null
    +++ b/new
    @@ -0,0 +1 @@
    +new
    ");
    insta::assert_snapshot!(look(&environment, &["diff", "v1", "main", "--names-only"]).success().stdout, @r"
    M README
    M bin/tool
    D gone
    A new
    ");
    assert_eq!(look(&environment, &["diff", "main", "main"]).success().stdout, "");
}

#[test]
fn what_a_server_has_damaged_is_not_shown() {
    let environment = TestEnvironment::new();
    let realm = scene(&environment);
    let mut packs: Vec<_> = walk(&realm.data().join("store"));
    packs.retain(|path| path.extension().is_some_and(|extension| extension == "pack"));
    for pack in packs {
        let mut bytes = std::fs::read(&pack).expect("reading a pack");
        // The first frames hold contents; pages and the index lie behind them.
        bytes[40] ^= 1;
        std::fs::write(&pack, bytes).expect("writing a pack");
    }
    let paths = ["README", "bin/tool", "large", "new", "odd\u{1b}[31m"];
    let runs: Vec<Finished> = paths.iter().map(|path| look(&environment, &["cat", path])).collect();
    assert!(runs.iter().any(|run| run.code != Some(0)), "{runs:?}");
    for run in runs.iter().filter(|run| run.code != Some(0)) {
        assert_eq!(run.stdout, "", "{run:?}");
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("reading a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
