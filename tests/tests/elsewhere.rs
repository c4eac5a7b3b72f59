//! Contents that the host has already are not fetched: in its other targets, and in git repositories.

use std::fs;
use std::path::PathBuf;

use smart_sync_tests::noise::noise;
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::{CountingProxy, Realm, Repository, Snapshot, TestEnvironment, program};

const CHANNEL: &str = "repos/tree";

struct Scene<'environment> {
    environment: &'environment TestEnvironment,
    repository: Repository<'environment>,
    proxy: CountingProxy,
    _realm: Realm,
}

impl<'environment> Scene<'environment> {
    /// A published repository with something larger than what a list of changes weighs.
    fn new(environment: &'environment TestEnvironment) -> Self {
        let realm = Realm::start(environment, "realm");
        let proxy = CountingProxy::start(realm.server().address(), Protocol::Http).expect("a free port");
        environment.run_client(["trust", "add", &proxy.url(), "--root", realm.fingerprint()]).success();
        let repository = environment.repository("repository");
        environment.write("repository/large", noise("large", 2_000_000));
        environment.write("repository/d/small", noise("small", 10_000));
        repository.commit("one");
        let source = repository.directory();
        realm.publish_local(environment, CHANNEL, "main", source, &["--git", "HEAD"]).success();
        Self { environment, repository, proxy, _realm: realm }
    }

    fn configure(&self, targets: &[&str], more: &str) {
        let table =
            |target: &&str| format!("[targets.\"{}\"]\nchannel = {CHANNEL:?}\n", self.path(target).display());
        let tables: Vec<String> = targets.iter().map(table).collect();
        self.environment.write("etc/config.toml", format!("{more}{}", tables.concat()));
    }

    fn path(&self, target: &str) -> PathBuf {
        self.environment.path(target)
    }

    /// Brings a target up to date, and returns the bytes that came.
    #[track_caller]
    fn sync(&self, target: &str, more: &[&str]) -> u64 {
        self.proxy.take_totals();
        let mut command = self.environment.client();
        command.args(["--channel", CHANNEL, "--target"]).arg(self.path(target)).args(more);
        program::run(&mut command).success();
        Snapshot::as_git(self.repository.directory()).assert_same(&Snapshot::as_git(&self.path(target)));
        self.proxy.take_totals().received
    }
}

#[test]
fn what_another_target_has_is_not_fetched() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.configure(&["one", "two", "three"], "");
    assert!(scene.sync("one", &[]) > 2_000_000);
    let received = scene.sync("two", &[]);
    assert!(received < 20_000, "{received}");
    // What was changed there is not what it was, and is fetched.
    for target in ["one", "two"] {
        let mut changed = noise("large", 2_000_000);
        changed[1_000_000] ^= 1;
        fs::write(scene.path(target).join("large"), changed).unwrap();
    }
    let received = scene.sync("three", &[]);
    assert!((1_900_000..2_200_000).contains(&received), "{received}");
}

#[test]
fn what_a_git_repository_has_is_not_fetched() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let repository = scene.repository.directory().to_str().unwrap().to_owned();
    let received = scene.sync("one", &["--bytes-from", &repository]);
    assert!(received < 20_000, "{received}");
    scene.configure(&[], &format!("bytes-from = [{repository:?}]\n"));
    let received = scene.sync("two", &[]);
    assert!(received < 20_000, "{received}");
    scene.configure(&[], "");
    assert!(scene.sync("three", &["--bytes-from", "/nothing/there"]) > 2_000_000);
}
