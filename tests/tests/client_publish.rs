//! Publishing with the client: from every kind of source, again, at the same time, interrupted, and refused.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Barrier;

use smart_sync_tests::http::get;
use smart_sync_tests::noise::noise;
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::server::create_token;
use smart_sync_tests::{CountingProxy, Finished, PublishingHost, Realm, TestEnvironment, program, skipped};

/// The last event of a run with `--json`.
fn last_event(finished: &Finished) -> serde_json::Value {
    serde_json::from_str(finished.stdout.lines().last().expect("there is an event")).expect("events are JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of the tests are text")
}

#[test]
fn a_directory_is_published_and_sent_once() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("tree/a", "content of a");
    environment.write("tree/d/large", noise("large", 3_000_000));
    environment.write("tree/var/local", "belongs to the host");
    let would = scene.publish(&["tree", "--channel", "repos/x", "--dry-run", "--json"]).success();
    let would = last_event(&would);
    assert_eq!(would["event"], "would_publish");
    assert!(would["upload"].as_u64() > Some(3_000_000), "{would}");
    assert_eq!(get(&environment, &scene.realm.url("files/repos/x/main/a"), None).status, 404);

    let first = last_event(&scene.publish(&["tree", "--channel", "repos/x", "--json"]).success());
    assert_eq!(
        (&first["event"], &first["seq"], &first["entries"]),
        (&"published".into(), &1.into(), &2.into())
    );
    assert_eq!(first["uploaded"], would["upload"], "a dry run says what is sent");
    assert_eq!(scene.file("repos/x/main/a"), "content of a");
    let again = last_event(&scene.publish(&["tree", "--channel", "repos/x", "--json"]).success());
    assert_eq!((&again["event"], &again["seq"]), (&"unchanged".into(), &1.into()));

    environment.write("tree/a", "changed");
    let second = last_event(&scene.publish(&["tree", "--channel", "repos/x", "--json"]).success());
    assert_eq!((&second["event"], &second["seq"]), (&"published".into(), &2.into()));
    assert!(second["uploaded"].as_u64() < Some(2_000), "{second}");
    // The same tree in another channel of the same visibility is there already.
    let other = last_event(&scene.publish(&["tree", "--channel", "repos/y", "--json"]).success());
    assert_eq!((&other["event"], &other["uploaded"]), (&"published".into(), &0.into()));
    scene.assert_sound();
}

#[test]
fn a_repository_is_published_without_a_checkout_at_one_ref_or_all() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    let repository = environment.repository("repository");
    repository.write("a", "one");
    let one = repository.commit("one");
    repository.tag("v1");
    repository.write("a", "two");
    let two = repository.commit("two");
    repository.git(["branch", "side"]);
    let mut clone = environment.command("git");
    program::run(clone.args(["clone", "--quiet", "--bare", "repository", "bare"])).success();

    let at_tag = ["--git", "bare", "--channel", "repos/x", "--ref", "v1"];
    scene.publish(&at_tag).success();
    assert_eq!(scene.file("repos/x/tag:v1/a"), "one");
    scene.publish(&["--git", "bare", "--channel", "repos/x", "--ref", &one]).success();
    assert_eq!(scene.file(&format!("repos/x/commit:{one}/a")), "one");
    scene.publish(&["--git", "bare", "--channel", "repos/x"]).success();
    assert_eq!(scene.file("repos/x/main/a"), "two");
    let all = ["--git", "bare", "--channel", "repos/x", "--all-refs"];
    let published = scene.publish(&all).success().stdout;
    assert!(published.contains("1 ref published, 2 unchanged"), "{published}");
    let refs = get(&environment, &scene.realm.url("v1/refs/repos%2Fx"), None).expect(200).text();
    assert!(refs.contains(&two) && refs.contains("branch:side"), "{refs}");

    // A tag that moved is refused, and keeps no other ref from being published.
    repository.write("a", "three");
    repository.commit("three");
    repository.git(["tag", "--force", "v1"]);
    let moved = scene.publish(&["--git", "repository", "--channel", "repos/x", "--all-refs"]).expect_code(1);
    assert!(moved.stderr.contains("a tag is written once"), "{moved:?}");
    assert_eq!(
        (scene.file("repos/x/tag:v1/a"), scene.file("repos/x/main/a")),
        ("one".into(), "three".into())
    );
    scene.publish(&["--git", "bare", "--channel", "repos/x", "--ref", "nothing"]).expect_code(4);
    scene.publish(&["--git", "tmp", "--channel", "repos/x"]).expect_code(4);
    scene.assert_sound();
}

#[test]
fn a_tar_is_published_from_standard_input() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("tree/d/a", "content of a");
    let mut tar = environment.command("tar");
    let mut tar = tar.args(["c", "-C", "tree", "."]).stdout(Stdio::piped()).spawn().expect("starting tar");
    let mut command = scene.command(&["-", "--channel", "repos/x", "--ref", "tag:v1", "--kind", "files"]);
    let status =
        command.stdin(tar.stdout.take().expect("it is piped")).status().expect("starting the client");
    assert!(status.success() && tar.wait().expect("waiting for tar").success());
    assert_eq!(scene.file("repos/x/tag:v1/d/a"), "content of a");
    let refs = get(&environment, &scene.realm.url("v1/refs/repos%2Fx"), None).expect(200).text();
    assert!(refs.contains("\"kind\":\"files\""), "{refs}");
    scene.publish(&["tree", "--channel", "repos/x", "--kind", "files", "--ref", "tag:v1"]).success();
    environment.write("tree/d/a", "changed");
    scene.publish(&["tree", "--channel", "repos/x", "--ref", "tag:v1"]).expect_code(1);
}

#[test]
fn metadata_is_published_where_it_is_asked_for_and_odd_files_are_named() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("tree/a", "content of a");
    let _socket = UnixListener::bind(environment.path("tree/odd")).expect("binding a socket");
    let published = scene.publish(&["tree", "--channel", "repos/x", "--fidelity", "git"]).success();
    assert!(published.stderr.contains("odd is left out"), "{published:?}");
    scene.publish(&["tree", "--channel", "repos/s", "--fidelity", "system"]).success();
    let listed = environment.run_client(["ls", "-l", "--channel", "repos/s"]).success().stdout;
    assert!(listed.contains("- 0644 "), "{listed}");
}

#[test]
fn a_ref_is_withdrawn_and_a_branch_published_again() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("tree/a", "content of a");
    for reference in ["branch:main", "tag:v1"] {
        scene.publish(&["tree", "--channel", "repos/x", "--ref", reference]).success();
        scene.publish(&["--withdraw", "--channel", "repos/x", "--ref", reference]).success();
        let gone = environment.run_client(["ls", "--channel", "repos/x", "--ref", reference]).expect_code(1);
        gone.stderr_contains("was withdrawn");
    }
    scene.publish(&["--withdraw", "--channel", "repos/x", "--ref", "nothing"]).expect_code(1);
    scene.publish(&["tree", "--channel", "repos/x", "--ref", "tag:v1"]).expect_code(1);
    let again = scene.publish(&["tree", "--channel", "repos/x", "--json"]).success();
    assert_eq!(last_event(&again)["seq"], 3);
    let history = environment.run_client(["log", "--channel", "repos/x"]).success().stdout;
    assert!(history.contains("    2  ") && history.contains("withdrawn"), "{history}");
    scene.assert_sound();
}

#[test]
fn of_two_who_publish_at_once_each_is_in_the_log_or_told_otherwise() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    for publisher in ["one", "two"] {
        environment.write(&format!("{publisher}/a"), publisher);
    }
    let mut accepted = 0;
    for round in 0..3 {
        let start = Barrier::new(2);
        let publish = |publisher: &str| {
            environment.write(&format!("{publisher}/round"), format!("{round}"));
            start.wait();
            scene.publish(&[publisher, "--channel", "repos/x"])
        };
        let finished: Vec<Finished> = std::thread::scope(|scope| {
            let running = [scope.spawn(|| publish("one")), scope.spawn(|| publish("two"))];
            running.map(|thread| thread.join().expect("a publisher ends")).into()
        });
        for run in &finished {
            match run.code {
                Some(0) => accepted += 1,
                Some(1) => assert!(run.stderr.contains("somebody else published"), "{run:?}"),
                _ => panic!("{run:?}"),
            }
        }
        assert!(finished.iter().any(|run| run.code == Some(0)), "{finished:?}");
    }
    let history = environment.run_client(["log", "--channel", "repos/x", "-n", "100"]).success().stdout;
    assert_eq!(history.lines().count(), accepted, "{history}");
    scene.assert_sound();
}

#[test]
fn a_publication_that_is_killed_leaves_nothing_but_pieces_for_the_next() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    for file in 0..40 {
        environment.write(&format!("tree/file{file:02}"), noise(&format!("{file}"), 100_000));
    }
    environment.write("tree/large", noise("large", 80_000_000));
    let proxy = CountingProxy::start(scene.realm.server().address(), Protocol::Http).expect("a free port");
    let url = proxy.url();
    let arguments = ["tree", "--channel", "repos/x", "--server", &url];
    let mut completed = 0;
    for requests in 0..12 {
        let before = proxy.totals().requests;
        let mut child = scene
            .command(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting the client");
        let has_ended = loop {
            if let Some(status) = child.try_wait().expect("looking at the client") {
                break status.success();
            }
            if proxy.totals().requests >= before + requests {
                break false;
            }
            std::thread::yield_now();
        };
        // It may have ended in between.
        let _ = child.kill();
        child.wait().expect("waiting for the client");
        completed += u32::from(has_ended);
        scene.realm.run(&environment, &["log", "audit"]).success();
    }
    scene.publish(&arguments).success();
    let listed = environment.run_client(["ls", "--channel", "repos/x"]).success().stdout;
    assert_eq!(listed.lines().count(), 41, "after {completed} complete runs:\n{listed}");
    scene.assert_sound();
}

#[test]
fn who_may_not_publish_is_told_before_anything_is_sent() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("tree/a", "content of a");
    let publish = |key: &PathBuf, token: &str, channel: &str| {
        let mut command = environment.client();
        command.args(["publish", "tree", "--channel", channel, "--key"]).arg(key);
        program::run(command.env("SMART_SYNC_TOKEN", token))
    };
    let (key, token) = (scene.realm.key("publish"), scene.realm.token());
    publish(&key, "sst_wrong", "repos/x").expect_code(3).stderr_contains("SMART_SYNC_TOKEN");
    publish(&key, "", "repos/x").expect_code(3).stderr_contains("a token goes into");
    publish(&key, token, "other/x").expect_code(7).stderr_contains("repos/*");
    let other = publish(&scene.realm.key("root"), token, "repos/x").expect_code(7);
    other.stderr_contains("keys that may: test.example/publish");
    publish(&environment.path("absent"), token, "repos/x").expect_code(4);
    let packs = scene.realm.data().join("store/packs");
    assert!(!packs.exists() || fs::read_dir(packs).unwrap().next().is_none(), "something was sent");
    environment.run_client(["trust", "reset", Realm::ORIGIN, "--yes"]).success();
    publish(&key, token, "repos/x").expect_code(7).stderr_contains("no realm is trusted yet");
}

#[test]
fn a_private_channel_is_published_to_and_followed_with_a_token() {
    let environment = TestEnvironment::new();
    let realm = Realm::start_with(&environment, "realm", "", &["--private", "repos/secret/*"]);
    environment.run_client(["trust", "add", realm.server().url(), "--root", realm.fingerprint()]).success();
    let scene = PublishingHost { environment: &environment, realm };
    for (number, content) in ["one", "two"].iter().enumerate() {
        environment.write("tree/a", content);
        let published = scene.publish(&["tree", "--channel", "repos/secret/x", "--json"]).success();
        assert_eq!(last_event(&published)["seq"], number + 1);
    }
    let look = |arguments: &[&str], token: &str| {
        let mut command = environment.client();
        command.args(arguments).args(["--channel", "repos/secret/x"]).env("SMART_SYNC_TOKEN", token);
        program::run(&mut command)
    };
    let reader = create_token(&environment, scene.realm.data(), "read", "repos/secret/");
    assert_eq!(look(&["cat", "a"], &reader).success().stdout, "two");
    assert_eq!(look(&["log"], &reader).success().stdout.lines().count(), 2);
    assert_ne!(look(&["cat", "a"], "").code, Some(0));
    scene.assert_sound();
}

#[test]
fn sidecars_are_accepted_by_programs_that_are_not_ours() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("tree/a b", "content of a");
    environment.write("tree/d/c", noise("c", 200_000));
    environment.write("tree/back\\slash", "escaped");
    let made = environment.run_client(["key", "generate", "releases", "-o", "sidecar.key"]).success().stdout;
    let field = |name: &str| {
        let value = made.lines().find_map(|line| line.strip_prefix(name)).expect("a key is shown");
        value.trim().to_owned()
    };
    let keys = ["--minisign-key", "sidecar.key", "--ssh-key", "sidecar.key"];
    scene.publish(&[&["tree", "--channel", "repos/x"][..], &keys].concat()).success();
    for file in
        ["publication", "SUMS", "publication.minisig", "publication.sshsig", "SUMS.minisig", "SUMS.sshsig"]
    {
        let url = scene.realm.url(&format!("v1/signed/repos%2Fx/branch:main/{file}"));
        environment.write(file, get(&environment, &url, None).expect(200).body);
    }
    environment.write("signers", format!("releases {}\n", field("ssh ")));
    for file in ["publication", "SUMS"] {
        let mut minisign = environment.command("minisign");
        minisign.args(["-V", "-P", &field("minisign "), "-m", file, "-x", &format!("{file}.minisig")]);
        if minisign.stdin(Stdio::null()).stdout(Stdio::null()).status().is_err() {
            skipped("minisign is not installed");
        } else {
            program::run(&mut minisign).success();
        }
        let mut ssh = environment.command("ssh-keygen");
        ssh.args(["-Y", "verify", "-f", "signers", "-I", "releases", "-n", "smart-sync", "-s"]);
        ssh.arg(format!("{file}.sshsig")).stdin(fs::File::open(environment.path(file)).unwrap());
        let verified = ssh.output().expect("starting ssh-keygen");
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        // What is signed for one purpose says nothing for another.
        for namespace in ["file", "git", "smart-sync2"] {
            let mut ssh = environment.command("ssh-keygen");
            ssh.args(["-Y", "verify", "-f", "signers", "-I", "releases", "-n", namespace, "-s"]);
            ssh.arg(format!("{file}.sshsig")).stdin(fs::File::open(environment.path(file)).unwrap());
            assert!(!ssh.output().expect("starting ssh-keygen").status.success(), "{namespace}");
        }
    }
    let sums = fs::read_to_string(environment.path("SUMS")).unwrap();
    let line = format!("{}  a b\n", blake3::hash(b"content of a"));
    assert!(sums.contains(&line) && sums.contains("  back\\\\slash\n"), "{sums}");
    let mut b3sum = environment.command("b3sum");
    b3sum.args(["--check", "--quiet", "../SUMS"]).current_dir(environment.path("tree"));
    match b3sum.output() {
        Ok(checked) => assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr)),
        Err(_) => skipped("b3sum is not installed"),
    }
}

#[test]
fn a_key_in_an_agent_signs_by_its_fingerprint() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("tree/a", "content of a");
    let key = scene.realm.key("publish");
    let shown = environment.run_client(["key", "show", text(&key)]).success().stdout;
    let fingerprint = shown.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap();
    // The agent lives as long as the program that it is given.
    let script = format!(
        "ssh-add -q {} && exec \"$0\" publish tree --channel repos/x --key agent:{fingerprint}",
        text(&key)
    );
    let mut agent = environment.command("ssh-agent");
    agent.args(["sh", "-c", &script]).arg(program::built("smart-sync"));
    program::run(agent.env("SMART_SYNC_TOKEN", scene.realm.token())).success();
    assert_eq!(scene.file("repos/x/main/a"), "content of a");
    let absent = ["publish", "tree", "--channel", "repos/x", "--key", "agent:SHA256:nothing"];
    environment.run_client(absent).expect_code(4).stderr_contains("SSH_AUTH_SOCK");
}
