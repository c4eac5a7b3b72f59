//! A server that is published to while a host reads from it.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use smart_sync_tests::hostile::{HostileServer, Reply, forward};
use smart_sync_tests::{Realm, Snapshot, TestEnvironment, program};

const CHANNEL: &str = "repos/tree";

/// Two trees whose files tell which of them they are of.
fn tree(environment: &TestEnvironment, version: &str) -> std::path::PathBuf {
    for file in 0..40 {
        let text = format!("file {file} of {version}\n").repeat(500);
        environment.write(&format!("{version}/d{}/file{file}", file % 4), text);
    }
    environment.write(&format!("{version}/of-{version}"), "here\n");
    environment.path(version)
}

#[test]
fn a_publication_between_two_requests_never_mixes_two_versions() {
    let no_bundles = "[bundles]\nenabled = false\n";
    let steps = [("/v1/update/", ""), ("/bundle/", ""), ("/v1/delta/", no_bundles), ("/pack/", no_bundles)];
    for (step, settings) in steps {
        let environment = Arc::new(TestEnvironment::new());
        let realm = Realm::start_with(&environment, "realm", settings, &[]);
        environment
            .run_client(["trust", "add", realm.server().url(), "--root", realm.fingerprint()])
            .success();
        let trees = ["one", "two", "three"].map(|version| tree(&environment, version));
        realm.publish_local(&environment, CHANNEL, "main", &trees[0], &[]).success();
        let target = environment.path("target");
        let sync = |url: &str| {
            let mut command = environment.client();
            command.args(["--server", url, "--channel", CHANNEL, "--target"]).arg(&target);
            program::run(&mut command)
        };
        sync(realm.server().url()).success();
        realm.publish_local(&environment, CHANNEL, "main", &trees[1], &[]).success();

        // Right after the first answer to this step, the third version is there.
        let address = realm.server().address().to_owned();
        let (realm, is_done) = (Arc::new(Mutex::new(realm)), Arc::new(AtomicBool::new(false)));
        let is_published = Arc::clone(&is_done);
        let (publisher, there, third) = (Arc::clone(&realm), Arc::clone(&environment), trees[2].clone());
        let proxy = HostileServer::start(move |request| {
            let answer = forward(&address, request);
            if request.path.starts_with(step) && !is_done.swap(true, Ordering::SeqCst) {
                let realm = publisher.lock().expect("nobody panicked with the realm");
                realm.publish_local(&there, CHANNEL, "main", &third, &[]).success();
            }
            answer.unwrap_or(Reply::Close)
        });
        sync(&proxy.url()).success();
        assert!(is_published.load(Ordering::SeqCst), "nothing was asked at {step}");
        let found = Snapshot::of(&target);
        let is_one_of = trees[1..].iter().any(|tree| *found.nodes() == *Snapshot::of(tree).nodes());
        assert!(is_one_of, "published after {step}: {:?}", found.differences(&Snapshot::of(&trees[1])));
        sync(&proxy.url()).success();
        Snapshot::of(&target).assert_same(&Snapshot::of(&trees[2]));
        assert_eq!(fs::read_to_string(target.join("of-three")).expect("the third version"), "here\n");
    }
}
