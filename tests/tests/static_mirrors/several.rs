//! Several mirrors at once.

use std::fs;

use smart_sync_tests::hostile::{HostileServer, Reply};
use smart_sync_tests::noise::noise;

use crate::scene::{Scene, counts, serve, serve_with};

/// Ten ranges or more.
fn grow(scene: &Scene) {
    for number in 0..6 {
        scene.write(&format!("new{number}"), &noise(&format!("new{number}"), 2_000_000));
    }
    scene.publish();
    scene.export(&[]);
}

#[test]
fn ranges_come_from_all_mirrors() {
    let scene = Scene::new();
    grow(&scene);
    let mirrors: Vec<HostileServer> = (0..3).map(|_| scene.serve()).collect();
    let urls: Vec<String> = mirrors.iter().map(HostileServer::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    scene.trust(urls[0]);
    scene.environment.write("etc/config.toml", "[network]\nconnections = 8\n");
    scene.sync(&urls, &[]).success();
    scene.assert_synced();
    let ranges: Vec<usize> = mirrors.iter().map(|mirror| counts(mirror)["pack"]).collect();
    assert!(ranges.iter().filter(|count| **count > 0).count() >= 2, "{ranges:?}");
    let in_all: usize = ranges.iter().sum();
    assert!((10..40).contains(&in_all), "{ranges:?}");
}

#[test]
fn of_three_mirrors_one_may_be_old_and_one_damaged() {
    let scene = Scene::new();
    let old = serve(&scene.copy("old"));
    scene.trust(&old.url());
    scene.sync(&[&old.url()], &[]).success();
    grow(&scene);
    let good = scene.serve();
    let damages: [fn(Vec<u8>) -> Reply; 5] = [
        |bytes| Reply::Ok(bytes.into_iter().map(|byte| byte ^ 1).collect()),
        |bytes| Reply::Ok(bytes[..bytes.len() / 10].to_vec()),
        |_| Reply::Status(404, "not found"),
        |_| Reply::Ok(b"<!DOCTYPE html>".to_vec()),
        |_| Reply::Close,
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let bad = serve_with(&scene.directory(), move |request, reply| match reply {
            Reply::Ok(bytes) if request.path.starts_with("/pack/") => damage(bytes),
            other => other,
        });
        let home = scene.environment.path(&format!("host{number}"));
        let mut command = scene.environment.client();
        command.args(["--channel", crate::scene::CHANNEL, "--target"]).arg(&home);
        for url in [old.url(), bad.url(), good.url()] {
            command.args(["--server", &url]);
        }
        let finished = smart_sync_tests::program::run(&mut command);
        assert_eq!(finished.code, Some(0), "{number}: {finished:?}");
        assert!(fs::read(home.join("new5")).unwrap() == noise("new5", 2_000_000), "{number}");
        assert!(
            finished.stderr.contains(&format!("{} is passed over from now on", bad.url())),
            "{number}: {}",
            finished.stderr
        );
        let asked = counts(&bad).get("pack").copied().unwrap_or_default();
        assert!(asked <= 8, "{number}: a bad mirror was asked {asked} times");
    }
}

#[test]
fn a_mirror_that_stalls_is_passed_over() {
    let scene = Scene::new();
    grow(&scene);
    let good = scene.serve();
    let stalling = serve_with(&scene.directory(), |request, reply| {
        if request.path.starts_with("/pack/") {
            let range = request.range.clone().unwrap_or(0..1);
            let (start, last) = (range.start, range.end - 1);
            Reply::Trickle(format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{last}/99999999\r\n\r\n"
            ))
        } else {
            reply
        }
    });
    scene.trust(&good.url());
    scene.environment.write("etc/config.toml", "[network]\nstall = \"2s\"\n");
    let finished = scene.sync(&[&stalling.url(), &good.url()], &[]).success();
    scene.assert_synced();
    assert!(finished.stderr.contains("is passed over from now on"), "{}", finished.stderr);
    let asked = counts(&stalling)["pack"];
    assert!(asked <= 4, "a mirror that stalls was asked {asked} times");
}

#[test]
fn the_newest_answer_counts_whoever_gives_it() {
    let scene = Scene::new();
    let old = serve(&scene.copy("old"));
    scene.trust(&old.url());
    scene.write("new", b"new\n");
    scene.publish();
    scene.export(&[]);
    let new = scene.serve();
    // The old one alone is within its age, and is believed.
    scene.sync(&[&old.url()], &[]).success();
    assert!(!scene.target().join("new").exists());
    scene.sync(&[&old.url(), &new.url()], &[]).success();
    scene.assert_synced();
    // From then on the old one is behind what was seen.
    let before = scene.trust_state();
    scene.sync(&[&old.url()], &[]).expect_code(7).stderr_contains("the server is behind");
    assert!(scene.trust_state() == before);
    scene.sync(&[&old.url(), scene.realm.server().url()], &[]).success();
}
