//! Bundles of a running server: prepared, computed once, answered like files, and only to those who may read.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use smart_sync_tests::http::{Answer, curl, get};
use smart_sync_tests::noise::noise;
use smart_sync_tests::server::create_token;
use smart_sync_tests::{Realm, TestEnvironment};

const CHANNEL: &str = "repos/tree";

/// A realm, and a directory of which versions are published.
struct Scene {
    environment: TestEnvironment,
    realm: Realm,
    channel: &'static str,
    token: Option<String>,
    versions: Vec<String>,
}

impl Scene {
    fn new(settings: &str) -> Self {
        let environment = TestEnvironment::new();
        let realm = Realm::start_with(&environment, "realm", settings, &[]);
        Self { environment, realm, channel: CHANNEL, token: None, versions: Vec::new() }
    }

    /// Publishes another version: a large file changes a little, and a small one appears.
    fn publish(&mut self) {
        let number = self.versions.len();
        let mut large = noise("large", 600_000);
        large[100_000 + number] ^= 1;
        large.extend_from_slice(format!("version {number}\n").repeat(50).as_bytes());
        let large = self.environment.write("tree/large", large);
        self.environment
            .write(&format!("tree/new-{number}"), format!("this is new in {number}\n").repeat(20));
        let directory = large.parent().unwrap();
        self.realm.publish_local(&self.environment, self.channel, "main", directory, &[]).success();
        let refs = self.get(&format!("v1/refs/{}", self.channel.replace('/', "%2F")));
        let refs: Value = serde_json::from_slice(&refs.body).unwrap();
        let manifest = refs[0]["manifest"].as_str().unwrap().strip_prefix("blake3:").unwrap().to_owned();
        self.versions.push(manifest);
    }

    fn url(&self, from: &str, to: &str) -> String {
        self.realm.url(&format!("bundle/{from}/{to}"))
    }

    fn get(&self, path: &str) -> Answer {
        get(&self.environment, &self.realm.url(path), self.token.as_deref()).expect(200)
    }

    fn ask(&self, from: &str, to: &str, arguments: &[&str]) -> Answer {
        curl(&self.environment, &self.url(from, to), arguments)
    }

    /// Asks until the best variant has been stored, in the background.
    fn best(&self, from: &str, to: &str) -> Answer {
        loop {
            let answer = self.ask(from, to, &["--head"]);
            assert!([200, 503].contains(&answer.status), "{:?}", answer.headers);
            if answer.header("etag").starts_with("\"best-") {
                return answer;
            }
        }
    }

    /// The names of the stored bundles that are public.
    fn stored(&self) -> BTreeSet<String> {
        self.stored_in("public")
    }

    fn stored_in(&self, domain: &str) -> BTreeSet<String> {
        let mut names = names(&self.realm.data().join("store/bundles").join(domain));
        // What is being stored has a number behind its name.
        names.retain(|name| name.ends_with(".bundle"));
        names
    }

    /// Asks the server for something else until it has stored a bundle.
    fn wait_for_stored(&self, domain: &str) {
        while self.stored_in(domain).is_empty() {
            self.get("healthz");
        }
    }
}

fn names(directory: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn length(answer: &Answer) -> usize {
    answer.header("content-length").parse().unwrap()
}

#[test]
fn the_step_from_the_version_before_is_prepared_and_replaced_by_a_smaller_one() {
    let mut scene = Scene::new("");
    scene.publish();
    scene.publish();
    let (from, to) = (scene.versions[0].clone(), scene.versions[1].clone());
    // `publish-local` is another process: nobody has asked for the step.
    scene.wait_for_stored("public");
    let head = scene.best(&from, &to);
    let whole = scene.ask(&from, &to, &[]).expect(200);
    assert_eq!(whole.body.len(), length(&head));
    assert!(whole.body.len() < 10_000, "{} bytes for a small change", whole.body.len());
    assert_eq!(whole.header("cache-control"), "public, no-cache");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let etag = whole.header("etag").to_owned();
    let rest = ["--range", "100-", "--header", &format!("If-Range: {etag}")];
    let rest = scene.ask(&from, &to, &rest).expect(206);
    assert_eq!(rest.header("etag"), etag);
    assert_eq!(rest.body, whole.body[100..]);
    scene.ask(&from, &to, &["--header", &format!("If-None-Match: {etag}")]).expect(304);
    // Who has begun with the quick one goes on with it; who has begun with one that is gone begins again.
    let quick = scene.stored().into_iter().find(|name| name.contains("-quick-"));
    if let Some(quick) = quick {
        let number = quick.split('-').nth(3).unwrap();
        let tag = format!("\"quick-{number}\"");
        let rest = ["--range", "100-", "--header", &format!("If-Range: {tag}")];
        assert_eq!(scene.ask(&from, &to, &rest).expect(206).header("etag"), tag);
    }
    let other = ["--range", "100-", "--header", "If-Range: \"quick-0123456789abcdef\""];
    assert_eq!(scene.ask(&from, &to, &other).expect(200).body, whole.body);
}

#[test]
fn steps_from_older_versions_are_prepared_as_far_apart_as_powers_of_two() {
    let mut scene = Scene::new("[bundles]\nladder = 1\n");
    for _ in 0..4 {
        scene.publish();
    }
    let versions = scene.versions.clone();
    let prepared = |from: usize| format!("{}-{}-best-", versions[from], versions[3]);
    let is_stored = |from: usize| scene.stored().iter().any(|name| name.starts_with(&prepared(from)));
    while !(is_stored(2) && is_stored(1)) {
        scene.get("healthz");
    }
    // Three versions ago is no power of two.
    assert!(!is_stored(0));
}

#[test]
fn a_first_install_is_computed_when_it_is_asked_for_and_stored() {
    let mut scene = Scene::new("[bundles]\nprepare-mib = 0\n");
    scene.publish();
    let to = scene.versions[0].clone();
    let first = scene.ask("none", &to, &[]).expect(200);
    assert!(first.header("etag").starts_with("\"quick-"), "{:?}", first.headers);
    assert!(first.body.len() > 600_000, "noise does not compress");
    let again = scene.ask("none", &to, &["--head"]).expect(200);
    assert_eq!((length(&again), again.header("etag")), (first.body.len(), first.header("etag")));
    // A restart finds it, once it is stored.
    scene.wait_for_stored("public");
    let etag = first.header("etag").to_owned();
    scene.realm = scene.realm.restart(&scene.environment, |server| assert!(server.stop().success()));
    let found = scene.ask("none", &to, &[]).expect(200);
    assert_eq!((found.header("etag"), found.body == first.body), (etag.as_str(), true));
    assert_eq!(names(&scene.realm.data().join("spool")), BTreeSet::new());
}

#[test]
fn what_is_not_here_is_not_found_and_what_is_too_much_is_refused() {
    let mut scene = Scene::new("[bundles]\non-demand-mib = 0\nladder = 0\n");
    scene.publish();
    let to = scene.versions[0].clone();
    let other = "ab".repeat(32);
    scene.ask("none", &other, &[]).expect(404);
    scene.ask(&other, &to, &[]).expect(404);
    for malformed in ["None", "0", &other.to_uppercase()] {
        scene.ask(malformed, &to, &[]).expect(404);
    }
    let refused = scene.ask("none", &to, &[]).expect(503);
    assert_eq!(refused.header("retry-after"), "5");
    // The way of chunks is there, and what is prepared, for the next one who asks, may look at more.
    scene.get(&format!("v1/delta/none/{to}"));
    scene.wait_for_stored("public");
    scene.ask("none", &to, &["--head"]).expect(200);
    scene.publish();
    let next = scene.versions[1].clone();
    scene.best(&to, &next);
}

#[test]
fn many_who_ask_at_once_are_sent_the_same_variant() {
    let mut scene = Scene::new("[bundles]\nprepare-mib = 0\n");
    scene.publish();
    let url = scene.url("none", &scene.versions[0]);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ask = || curl(&scene.environment, &url, [] as [&str; 0]).expect(200);
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let etags: BTreeSet<_> = answers.iter().map(|answer| answer.header("etag")).collect();
    assert_eq!(etags.len(), 1);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    scene.wait_for_stored("public");
    assert_eq!(scene.stored().len(), 1);
    assert_eq!(scene.realm.server().log().matches("bundle computed").count(), 1);
}

#[test]
fn a_server_that_stops_or_dies_while_it_computes_leaves_nothing_torn() {
    let mut scene = Scene::new("");
    scene.publish();
    scene.environment.write("tree/huge", noise("huge", 40_000_000));
    for is_killed in [false, true] {
        scene.publish();
        let to = scene.versions.last().unwrap().clone();
        let mut child = scene.environment.command("curl");
        child.args(["--silent", "--output", "/dev/null", &scene.url("none", &to)]);
        let mut child = child.spawn().unwrap();
        // The step from the version before is under way by now, or this one is.
        scene.get("healthz");
        scene.realm = scene.realm.restart(&scene.environment, |server| {
            if is_killed {
                server.kill();
            } else {
                assert!(server.stop().success());
            }
        });
        child.wait().unwrap();
        assert_eq!(names(&scene.realm.data().join("spool")), BTreeSet::new());
        for name in scene.stored() {
            let length = fs::metadata(scene.realm.data().join("store/bundles/public").join(&name));
            let said = name.rsplit('-').next().unwrap().strip_suffix(".bundle").unwrap();
            assert_eq!(length.unwrap().len().to_string(), said);
        }
        let answer = scene.ask("none", &to, &[]).expect(200);
        assert!(answer.body.len() > 40_000_000);
    }
}

#[test]
fn without_bundles_there_are_none() {
    let mut scene = Scene::new("[bundles]\nenabled = false\n");
    scene.publish();
    scene.ask("none", &scene.versions[0].clone(), &[]).expect(404);
    let cost = scene.realm.run(&scene.environment, &["cost", CHANNEL, "none", "main"]).success();
    assert!(cost.stdout.contains("this server makes no bundles"), "{}", cost.stdout);
}

#[test]
fn a_private_bundle_is_not_there_for_others() {
    let environment = TestEnvironment::new();
    let realm = Realm::start_with(&environment, "realm", "", &["--private", "repos/secret/*"]);
    let token = create_token(&environment, realm.data(), "read", "repos/secret/a");
    let other = create_token(&environment, realm.data(), "read", "repos/secret/b");
    let mut scene =
        Scene { environment, realm, channel: "repos/secret/a", token: Some(token), versions: Vec::new() };
    scene.publish();
    let to = scene.versions[0].clone();
    let ask = |token: Option<&str>| get(&scene.environment, &scene.url("none", &to), token);
    ask(None).expect(404);
    ask(Some(&other)).expect(404);
    let answer = ask(scene.token.as_deref()).expect(200);
    assert_eq!(answer.header("cache-control"), "private, no-cache");
    // It stays in its domain, and is not found once it is stored either.
    scene.wait_for_stored("private/repos/secret/a");
    ask(None).expect(404);
    ask(Some(&other)).expect(404);
    assert_eq!(scene.stored(), BTreeSet::new());
}

#[test]
fn cost_tells_the_bytes_that_come() {
    let mut scene = Scene::new("[bundles]\nladder = 0\nhot = 100\n");
    for _ in 0..3 {
        scene.publish();
    }
    let (from, to) = (scene.versions[0].clone(), scene.versions[2].clone());
    let run = |arguments: &[&str]| {
        let cost = scene.realm.run(&scene.environment, arguments).success();
        serde_json::from_str::<Value>(&cost.stdout).unwrap()
    };
    let nothing = run(&["cost", CHANNEL, "#1", "main", "--stored-only", "--json"]);
    assert_eq!(nothing["no_bundle"], "none is stored");
    assert_eq!((nothing["from"].as_str(), nothing["to"].as_str()), (Some(&*from), Some(&*to)));
    let cost = run(&["cost", CHANNEL, "main#1", "#3", "--json"]);
    let (name, bundle) = cost["bundles"].as_object().unwrap().iter().next().unwrap();
    // The server may not have noticed yet what the other process stored; what it computes then is as long.
    let answer = loop {
        let answer = scene.ask(&from, &to, &[]).expect(200);
        if !answer.header("content-length").is_empty() {
            break answer;
        }
    };
    assert!(name.starts_with("quick-") && answer.header("etag").starts_with("\"quick-"));
    let expect = |cost: &Value, answer: &Answer| {
        assert_eq!(cost["received"].as_u64(), Some(answer.body.len() as u64), "{cost}");
        let headers: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let headers = headers + "HTTP/1.1 200 OK\r\n\r\n".len();
        assert_eq!(cost["received_headers"].as_u64(), Some(headers as u64), "{cost} {:?}", answer.headers);
    };
    expect(bundle, &answer);
    let delta = scene.get(&format!("v1/delta/{from}/{to}"));
    expect(&cost["chunks"]["delta"], &delta);
    let total = &cost["total"]["with-bundle"];
    let evidence = &cost["evidence"]["log-moved"];
    let sum = |field: &str| evidence[field].as_u64().unwrap() + bundle[field].as_u64().unwrap();
    if bundle["received"].as_u64() > Some(8 << 10) {
        assert_eq!((total["bytes"].as_u64(), total["requests"].as_u64()), (Some(sum("bytes")), Some(2)));
    } else {
        assert_eq!(
            (total["received"].as_u64(), total["requests"].as_u64()),
            (Some(sum("received")), Some(1))
        );
        let path = format!("v1/update/{}/main?have={from}&size=3&bundle=", CHANNEL.replace('/', "%2F"));
        // It comes along once it is stored, which may be a moment after it was answered.
        let (alone, together) = loop {
            let (alone, together) = (scene.get(path.strip_suffix("&bundle=").unwrap()), scene.get(&path));
            if together.body.len() > alone.body.len() {
                break (alone, together);
            }
        };
        assert!(together.body == [&alone.body[..], &answer.body].concat());
    }
    assert!(cost["evidence"]["nothing-new"]["received"].as_u64().unwrap() < 1024);
    let text = scene.realm.run(&scene.environment, &["cost", CHANNEL, "main#1", "main"]).success().stdout;
    assert!(text.contains("all, with bundle") && text.contains("chunks, ranges"), "{text}");
    for wrong in [["main#9", "main"], ["main#0", "main"], ["nothing", "main"], ["main", "none"]] {
        let finished = scene.realm.run(&scene.environment, &["cost", CHANNEL, wrong[0], wrong[1]]);
        assert_eq!(finished.code, Some(4), "{wrong:?}");
    }
}

#[test]
fn bundles_are_listed_and_pruned_and_a_running_server_bears_it() {
    let mut scene = Scene::new("[bundles]\nprepare-mib = 0\n");
    scene.publish();
    let to = scene.versions[0].clone();
    let first = scene.ask("none", &to, &[]).expect(200);
    scene.wait_for_stored("public");
    let run = |arguments: &[&str]| scene.realm.run(&scene.environment, arguments).success().stdout;
    let listed = run(&["bundles", "list"]);
    assert!(listed.contains(&format!("none to {to} quick-")) && listed.contains("1 bundle,"), "{listed}");
    assert!(run(&["bundles", "prune"]).contains("nothing was changed"));
    assert!(run(&["bundles", "prune", "--yes"]).contains("1 bundle removed"));
    assert_eq!(scene.stored(), BTreeSet::new());
    let second = scene.ask("none", &to, &[]).expect(200);
    assert_ne!(first.header("etag"), second.header("etag"));
}
