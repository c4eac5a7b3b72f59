//! What an export writes, and when.

use std::fs;

use smart_sync_tests::noise::noise;
use smart_sync_tests::strace::{KILL, points};
use smart_sync_tests::{Strace, program};

use crate::scene::{CHANNEL, Scene, files};

#[test]
fn an_export_grows_by_what_is_new() {
    let scene = Scene::new();
    assert!(scene.export(&[]).starts_with("0 files written"), "nothing is new");
    let before = files(&scene.directory());
    scene.write("new", &noise("new", 10_000));
    scene.publish();
    let said = scene.export(&[]);
    let bytes: u64 = said.split(", ").nth(1).and_then(|part| part.split(' ').next()?.parse().ok()).unwrap();
    assert!(bytes < 60_000, "the tree has 3 MB: {said}");
    // Nothing is removed before a grace is over, and nothing that is there was written again.
    let after = files(&scene.directory());
    let changed: Vec<&String> = before
        .iter()
        .filter(|(path, bytes)| after.get(*path) != Some(*bytes))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(changed, ["checkpoint", "v1/update/repos~2ftree/branch~3amain"]);
    assert!(after.contains_key("unreferenced"));
    let said = scene.export(&["--prune"]);
    assert!(!said.contains("removed"), "{said}");
    let said = scene.export(&["--prune", "--grace-hours", "0"]);
    assert!(said.contains("removed"), "{said}");
    let pruned = files(&scene.directory());
    assert!(pruned.len() < after.len() && pruned["unreferenced"].is_empty());
    scene.trust(scene.directory().to_str().unwrap());
    scene.sync(&[], &[]).success();
    scene.assert_synced();
}

#[test]
fn names_in_an_export_are_ones_that_every_disk_can_hold() {
    let scene = Scene::new();
    scene.publish_as("tag:V2.1/Ä");
    scene.export(&[]);
    let is_plain = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "/-_.~".contains(character)
    };
    for path in files(&scene.directory()).keys() {
        assert!(path.chars().all(is_plain), "{path}");
    }
}

#[test]
fn what_is_private_is_not_exported() {
    let scene = Scene::new();
    let secret = noise("secret", 50_000);
    scene.environment.write("secret/file", &secret);
    let tree = scene.environment.path("secret");
    let publish = |reference: &str| {
        scene.realm.publish_local(&scene.environment, "repos/secret/a", reference, &tree, &[]).success()
    };
    publish("main");
    publish("tag:v1");
    scene.export(&[]);
    let needle = &secret[20_000..20_064];
    for (path, bytes) in files(&scene.directory()) {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!path.contains("secret") && !text.contains("repos/secret"), "{path}");
        assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{path}");
    }
}

#[test]
fn an_export_never_goes_back_or_over_to_another_realm() {
    let scene = Scene::new();
    let other = Scene::new();
    let arguments = ["export", scene.directory().to_str().unwrap()].map(ToOwned::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The same name, and another log of the same size.
    let finished = other.realm.run(&other.environment, &arguments);
    finished.expect_code(1).stderr_contains("it was set back");
    scene.write("new", b"new\n");
    scene.publish();
    scene.export(&[]);
    let finished = other.realm.run(&other.environment, &arguments);
    finished.expect_code(1).stderr_contains("it was set back");
    fs::write(scene.directory().join("checkpoint"), "nonsense").unwrap();
    let finished = scene.realm.run(&scene.environment, &arguments);
    finished.expect_code(1).stderr_contains("a checkpoint that is none");
}

#[test]
fn an_export_that_was_killed_shows_one_version_and_is_completed_by_the_next() {
    let scene = Scene::new();
    let Some(strace) = Strace::find(&scene.environment) else { return };
    let directory = scene.directory();
    let before = scene.copy("before");
    let restore = || {
        fs::remove_dir_all(&directory).unwrap();
        let mut command = scene.environment.command("cp");
        program::run(command.arg("--archive").arg(&before).arg(&directory)).success();
    };
    scene.write("new", &noise("new", 10_000));
    scene.publish();
    let mut command = scene.environment.server();
    command.arg("export").arg(&directory).arg("--data").arg(scene.realm.data());
    let renames = strace.count(&command, &["rename"])["rename"];
    let without_times = |mut files: std::collections::BTreeMap<String, Vec<u8>>| {
        files.remove("unreferenced");
        files
    };
    let whole = without_times(files(&directory));
    let mut kills = 0;
    for point in points(renames, 8) {
        restore();
        let killed = strace.run(&command, "rename", &point.to_string(), KILL);
        // Which thread of several writes a file is not the same in every run: the last numbers may not be reached.
        kills += u32::from(killed.code.is_none());
        // A host that sees it like this gets one version or the other.
        let reader = |arguments: &[&str]| {
            let mut command = scene.environment.client();
            let state = scene.environment.path(&format!("state-{point}"));
            fs::create_dir_all(&state).unwrap();
            program::run(command.env("SMART_SYNC_STATE_DIR", state).args(arguments)).success();
        };
        let (export, target) = (directory.to_str().unwrap(), format!("host-{point}"));
        reader(&["trust", "add", export, "--root", scene.realm.fingerprint()]);
        reader(&["--channel", CHANNEL, "--target", &target]);
        let found = scene.environment.path(&target);
        assert!(fs::read(found.join("large")).unwrap() == noise("large", 3_000_000));
        assert!(
            fs::read(found.join("new")).is_ok_and(|new| new == noise("new", 10_000))
                || !found.join("new").exists()
        );
        scene.export(&[]);
        assert!(without_times(files(&directory)) == whole, "after a kill at rename {point}");
    }
    assert!(kills >= 2, "{kills} of {renames}");
}
