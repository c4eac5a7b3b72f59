//! An export on a disk that was carried here.

use std::fs;

use smart_sync_tests::hostile::{Host, HostileServer, TreeBuilder, World, at, evidence, honest_realm};

use crate::scene::Scene;

#[test]
fn a_host_follows_a_directory() {
    let scene = Scene::new();
    let directory = scene.directory();
    let directory = directory.to_str().unwrap();
    scene.trust(directory);
    scene.sync(&[], &[]).success();
    scene.assert_synced();
    scene.write("d1/f1", b"changed\n");
    scene.publish();
    scene.export(&[]);
    fs::write(scene.target().join("d2/f2"), "drift").unwrap();
    scene.sync(&["./export"], &["--force-full"]).success();
    scene.assert_synced();
    let nothing_new = scene.sync(&[&format!("file://{directory}")], &[]).success();
    assert!(nothing_new.stdout.contains("is up to date"), "{}", nothing_new.stdout);
    // It goes into the configuration as well.
    let config = format!("[realms.\"test.example\"]\nservers = [{directory:?}]\n");
    scene.environment.write("etc/config.toml", config);
    scene.write("d1/f1", b"changed again\n");
    scene.publish();
    scene.export(&[]);
    scene.sync(&[], &[]).success();
    scene.assert_synced();
}

#[test]
fn a_disk_that_is_not_there_or_damaged_changes_nothing() {
    let scene = Scene::new();
    let directory = scene.directory();
    scene.trust(directory.to_str().unwrap());
    scene.sync(&[], &[]).success();
    let before = scene.trust_state();
    scene.write("large", b"smaller\n");
    scene.publish();
    scene.export(&[]);
    let away = scene.environment.path("away");
    fs::rename(&directory, &away).unwrap();
    scene.sync(&[], &[]).expect_code(5).stderr_contains("is not there");
    fs::rename(&away, &directory).unwrap();
    assert!(scene.trust_state() == before);
    // Nothing is published to a disk.
    let key = scene.realm.key("publish");
    let arguments = ["publish", "tree", "--channel", "repos/tree", "--server", directory.to_str().unwrap()];
    let mut command = scene.environment.client();
    let finished = smart_sync_tests::program::run(command.args(arguments).arg("--key").arg(key));
    assert_ne!(finished.code, Some(0));
    // A pack that the disk has lost the middle of.
    for pack in fs::read_dir(directory.join("pack")).unwrap().map(|entry| entry.unwrap().path()) {
        let bytes: Vec<u8> = fs::read(&pack).unwrap().into_iter().map(|byte| byte ^ 1).collect();
        fs::write(&pack, bytes).unwrap();
    }
    let refused = scene.sync(&[], &[]);
    assert!(matches!(refused.code, Some(5 | 7)), "{refused:?}");
    assert_ne!(fs::read(scene.target().join("large")).unwrap(), b"smaller\n");
}

#[test]
fn a_copy_that_is_meant_to_be_old_is_taken_when_asked_for() {
    let tree = TreeBuilder::of(&[("a", "old\n")]).build();
    let realm = honest_realm(&tree);
    let world = World::new(evidence(&realm, 0, at(100)), &[&tree]);
    let server = HostileServer::start(move |request| world.answer(request));
    let host = Host::new(&server);
    host.configure("", "");
    let refused = host.sync();
    refused.expect_code(7).stderr_contains("updates may be hidden").stderr_contains("--max-age 30d");
    host.sync_with(&["--max-age", "40000d"]).success();
    assert_eq!(fs::read_to_string(host.target().join("a")).unwrap(), "old\n");
}
