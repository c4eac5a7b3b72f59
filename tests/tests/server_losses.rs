//! What a server has lost comes back when the same tree is published again, and nothing is asked twice otherwise.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::PathBuf;

use smart_sync_tests::noise::noise;
use smart_sync_tests::program::{self, Finished};
use smart_sync_tests::{Publisher, Realm, Repository, TestEnvironment, http};

const CHANNEL: &str = "repos/x";

/// Where a tree is published from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// A directory, over the network.
    Directory,
    /// A commit, over the network.
    Commit,
    /// A directory on the server itself.
    Local,
}

/// A realm to which a tree of two packs was published.
struct Scene<'environment> {
    environment: &'environment TestEnvironment,
    realm: Realm,
    repository: Repository<'environment>,
    from: From,
}

impl<'environment> Scene<'environment> {
    fn new(environment: &'environment TestEnvironment, from: From) -> Self {
        let realm = Realm::start(environment, "realm");
        let arguments = ["trust", "add", realm.server().url(), "--root", realm.fingerprint()];
        environment.run_client(arguments).success();
        let scene = Self { environment, realm, repository: environment.repository("tree"), from };
        for (path, len) in [("first", 200_000), ("second", 300_000)] {
            scene.repository.write(path, noise(path, len));
            scene.repository.commit(path);
            scene.publish().success();
        }
        scene
    }

    fn publish(&self) -> Finished {
        let tree = self.environment.path("tree");
        if self.from == From::Local {
            return self.realm.publish_local(self.environment, CHANNEL, "main", &tree, &[]);
        }
        let mut command = self.environment.client();
        command.args(["publish", "--channel", CHANNEL, "--ref", "main"]);
        command.args(["--server", self.realm.server().url()]);
        command.args(if self.from == From::Commit { &["--git", "tree"][..] } else { &["tree"] });
        command.arg("--key").arg(self.realm.key("publish")).env("SMART_SYNC_TOKEN", self.realm.token());
        program::run(&mut command)
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        self.realm.run(self.environment, arguments)
    }

    fn packs(&self) -> Vec<PathBuf> {
        let directory = self.realm.data().join("store/packs/public");
        let mut packs: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        packs.sort_by_key(|path| fs::metadata(path).unwrap().len());
        packs
    }

    fn file(&self, path: &str) -> http::Answer {
        http::get(self.environment, &self.realm.url(&format!("files/{CHANNEL}/main/{path}")), None)
    }

    /// What the server says when it is asked whether it has the tree.
    fn has_manifest(&self) -> u16 {
        let manifest = self.manifest();
        let (url, key) = (self.realm.server().url(), self.realm.key("publish"));
        let publisher = Publisher::new(self.environment, url, Realm::ORIGIN, &key, Some(self.realm.token()));
        publisher.get(&format!("v1/has-manifest/repos%2Fx/{manifest}")).status
    }

    fn manifest(&self) -> String {
        let url = self.realm.url("v1/refs/repos%2Fx");
        let refs = http::get(self.environment, &url, None).expect(200).text();
        let found = refs.split("blake3:").nth(1).map(|rest| rest.chars().take_while(char::is_ascii_hexdigit));
        found.unwrap_or_else(|| panic!("no manifest in {refs}")).collect()
    }
}

fn check(from: From, lose: impl FnOnce(&Scene<'_>)) {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment, from);
    assert_eq!(scene.has_manifest(), 200, "nothing is lost");
    lose(&scene);
    assert_eq!(scene.has_manifest(), 404, "something is lost");
    let missing = scene.run(&["check"]).expect_code(1);
    assert!(missing.stdout.contains("affected: repos/x branch:main: "), "{}", missing.stdout);
    assert!(missing.stderr.contains("publish the trees that are named again"), "{}", missing.stderr);

    let again = scene.publish().success();
    let said = format!("{}{}", again.stdout, again.stderr);
    assert!(said.contains("is that tree already") && said.contains("lost"), "{said}");
    assert!(scene.file("second").expect(200).body == noise("second", 300_000));
    scene.run(&["check"]).success();
    scene.run(&["log", "audit"]).success();
    assert_eq!(scene.has_manifest(), 200, "it is whole again");
    let unchanged = scene.publish().success();
    assert!(!format!("{}{}", unchanged.stdout, unchanged.stderr).contains("lost"));
}

/// The pack of the second version goes, and is given up.
fn discard(scene: &Scene<'_>) {
    fs::remove_file(scene.packs().pop().unwrap()).unwrap();
    scene.run(&["check"]).expect_code(1).stderr_contains("check --discard --yes");
    let shown = scene.run(&["check", "--discard"]).expect_code(1);
    assert!(shown.stdout.contains("add --yes to give up"), "{}", shown.stdout);
    assert_eq!(scene.has_manifest(), 200, "nothing was given up yet");
    let given_up = scene.run(&["check", "--discard", "--yes"]).expect_code(1);
    assert!(given_up.stdout.contains(": 0 objects kept, "), "{}", given_up.stdout);
    let json = scene.run(&["check", "--discard", "--json"]).expect_code(1);
    for line in json.stdout.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn a_lost_pack_comes_back_from_the_directory() {
    check(From::Directory, discard);
}

#[test]
fn a_lost_pack_comes_back_from_the_commit() {
    check(From::Commit, discard);
}

#[test]
fn a_lost_pack_comes_back_on_the_server_itself() {
    check(From::Local, discard);
}

#[test]
fn what_can_be_read_of_a_damaged_pack_is_kept() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment, From::Directory);
    let pack = scene.packs().pop().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[100] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let given_up = scene.run(&["check", "--discard", "--yes"]).expect_code(1);
    assert!(given_up.stdout.contains(" kept, 1 given up"), "{}", given_up.stdout);
    scene.publish().success();
    scene.run(&["check"]).success();
    assert!(scene.file("second").expect(200).body == noise("second", 300_000));
}

#[test]
fn what_no_catalogue_knows_of_any_more_comes_back() {
    let environment = TestEnvironment::new();
    let mut scene = Scene::new(&environment, From::Directory);
    let lost = scene.packs().pop().unwrap();
    let data = scene.realm.data().to_path_buf();
    scene.realm = scene.realm.restart(&environment, |server| {
        assert!(server.stop().success());
        fs::remove_file(lost).unwrap();
        for name in ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
            let _ = fs::remove_file(data.join("store").join(name));
        }
    });
    assert_eq!(scene.has_manifest(), 404);
    scene.run(&["gc"]).expect_code(1).stderr_contains("check");
    scene.publish().success();
    assert!(scene.file("second").expect(200).body == noise("second", 300_000));
    // Either of the two that look at everything settles it.
    scene.run(&["gc"]).success();
    assert_eq!(scene.has_manifest(), 200);
    scene.run(&["check"]).success();
}
