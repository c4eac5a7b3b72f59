//! Following what is published without asking: the server's events, and hosts that listen to them.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use smart_sync_tests::http::get;
use smart_sync_tests::program::Running;
use smart_sync_tests::server::create_token;
use smart_sync_tests::{Realm, TestEnvironment};

const CHANNEL: &str = "repos/tree";

/// A realm that a host trusts, and a target of the host.
struct Scene {
    environment: TestEnvironment,
    realm: Realm,
    target: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let environment = TestEnvironment::new();
        let realm = Realm::start(&environment, "realm");
        let url = realm.url("");
        environment.run_client(["trust", "add", url.as_str(), "--root", realm.fingerprint()]).success();
        let target = environment.path("target");
        Self { environment, realm, target }
    }

    fn publish(&self, text: &str) {
        let file = self.environment.write("tree/file", text);
        self.realm.publish_local(&self.environment, CHANNEL, "main", file.parent().unwrap(), &[]).success();
    }

    /// Starts to watch, with more arguments.
    fn watch(&self, arguments: &[&str]) -> Running {
        let mut command = self.environment.client();
        command.args(["watch", "--channel", CHANNEL, "--jitter", "0s", "--target"]).arg(&self.target);
        Running::start(command.args(arguments))
    }

    /// Runs something else again and again until the target has this text. The server is left alone: it answers only
    /// so many requests of one address.
    fn wait_for(&self, watching: &mut Running, text: &str) {
        while fs::read_to_string(self.target.join("file")).unwrap_or_default() != text {
            assert!(watching.is_alive(), "it ended");
            self.environment.run_client(["--version"]).success();
        }
    }
}

#[test]
fn what_is_published_arrives_without_being_asked_for() {
    let mut scene = Scene::new();
    scene.publish("first\n");
    let mut watching = scene.watch(&["--every", "1000d"]);
    scene.wait_for(&mut watching, "first\n");
    // Published by another process than the one that serves.
    scene.publish("second\n");
    scene.wait_for(&mut watching, "second\n");
    // What is published while nobody can listen is told of afterwards.
    let server = i32::try_from(scene.realm.server().process()).ok().and_then(Pid::from_raw);
    kill_process(server.unwrap(), Signal::TERM).unwrap();
    scene.realm.wait_until_dead();
    scene.publish("third\n");
    scene.realm = scene.realm.restart_at_its_address(&scene.environment);
    scene.wait_for(&mut watching, "third\n");
    watching.signal(Signal::TERM);
    let ended = watching.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("is applied"), "{}", ended.stdout);
}

#[test]
fn an_export_is_looked_at_from_time_to_time() {
    let scene = Scene::new();
    let export = scene.environment.path("export");
    let publish = |text: &str| {
        scene.publish(text);
        scene.realm.run(&scene.environment, &["export", export.to_str().unwrap()]).success();
    };
    publish("first\n");
    let mut watching = scene.watch(&["--every", "1s", "--server", export.to_str().unwrap()]);
    scene.wait_for(&mut watching, "first\n");
    publish("second\n");
    scene.wait_for(&mut watching, "second\n");
}

#[test]
fn what_another_attempt_would_not_change_ends_it_and_other_failures_do_not() {
    let scene = Scene::new();
    let dated = scene.watch(&["--ref", "main@2026-11-01"]).wait();
    assert_eq!(dated.code, Some(4), "{}", dated.stderr);
    assert!(dated.stderr.contains("there is nothing to watch"), "{}", dated.stderr);
    // Nothing was published yet.
    let mut watching = scene.watch(&["--every", "1s"]);
    scene.publish("first\n");
    scene.wait_for(&mut watching, "first\n");
}

/// A stream of events, read from its connection.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(realm: &Realm, channel: &str, token: Option<&str>) -> Self {
        let address = realm.server().address();
        let mut connection = TcpStream::connect(address).unwrap();
        let authorization =
            token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let channel = channel.replace('/', "%2F");
        let request =
            format!("GET /v1/events/{channel}/main HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        Self(BufReader::new(connection))
    }

    fn wait_for(&mut self, line: &str) {
        let mut read = String::new();
        while read.trim_end() != line {
            read.clear();
            assert_ne!(self.0.read_line(&mut read).unwrap(), 0, "the stream ended");
        }
    }

    /// All that comes until the server ends it.
    fn rest(mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    }
}

#[test]
fn a_private_channel_moves_unseen_and_a_stop_ends_all_streams() {
    let environment = TestEnvironment::new();
    let realm = Realm::start_with(&environment, "realm", "", &["--private", "repos/secret"]);
    let reader = create_token(&environment, realm.data(), "read", "repos/secret");
    let mut allowed = Stream::open(&realm, "repos/secret", Some(&reader));
    let mut others = [
        Stream::open(&realm, "repos/secret", None),
        Stream::open(&realm, "repos/nothing", None),
        Stream::open(&realm, "repos/open", None),
    ];
    allowed.wait_for("data: 0");
    for stream in &mut others {
        stream.wait_for("data: 0");
    }
    for channel in ["repos/secret", "repos/open"] {
        let file = environment.write("tree/file", channel);
        realm.publish_local(&environment, channel, "main", file.parent().unwrap(), &[]).success();
    }
    allowed.wait_for("data: 1");
    let [secret, nothing, mut open] = others;
    open.wait_for("data: 1");
    get(&environment, &realm.url("v1/events/repos%2Fopen/main%20x"), None).expect(400);
    realm.end(|server| assert!(server.stop().success()));
    for rest in [secret.rest(), nothing.rest(), open.rest(), allowed.rest()] {
        assert!(!rest.contains("data: "), "{rest}");
    }
}
