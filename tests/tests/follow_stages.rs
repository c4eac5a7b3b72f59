//! Release media that follow an upstream, from the servers that mirrors have.

use std::fs;

use smart_sync_tests::TestEnvironment;
use smart_sync_tests::daemon::{ftp, nginx, rsync};
use smart_sync_tests::followed::Followed;
use smart_sync_tests::releases::{AREA, FIRST, NAME, Releases, SECOND};

/// Follows what is at a URL, where a second build comes, then one that a thief has put there, and then an older text.
fn check(environment: &TestEnvironment, releases: &Releases<'_>, url: &str) {
    let lines = format!(
        "kind = \"stages\"\nkeyring = [\"{}\"]\narchitectures = [\"amd64\"]\nvariants = [\"openrc\"]\nnewest = 1",
        releases.ring.display()
    );
    let scene = Followed::new(environment, &[url.to_owned()], &lines);
    let latest = format!("{AREA}/latest-{NAME}.txt");
    let medium = |stamp: &str| format!("{AREA}/{stamp}/{NAME}-{stamp}.tar.xz");
    releases.build(FIRST.0, b"the first stage");
    releases.name(FIRST, 15);
    scene.sync(&[]).success().stdout_contains("the tree has 1 build of 1 medium");
    for path in [
        latest.clone(),
        medium(FIRST.0),
        format!("{}.DIGESTS", medium(FIRST.0)),
        format!("{}.asc", medium(FIRST.0)),
    ] {
        let upstream = fs::read(releases.path(&path)).expect("it was written");
        assert_eq!(scene.get(&path).expect(200).body, upstream, "{url}: {path}");
    }
    scene.sync(&[]).success().stdout_contains("has all that upstream has");

    // What is wrong upstream is not published, and the last one that was right stays.
    releases.build(SECOND.0, b"the second stage");
    releases.name(SECOND, 16);
    releases.write(&medium(SECOND.0), b"the thief's one!");
    let refused = scene.sync(&[]).expect_code(7);
    assert!(refused.stderr.contains("it is not what it has to be"), "{refused:?}");
    assert_eq!(scene.get(&medium(SECOND.0)).status, 404, "{url}");
    assert_eq!(scene.status()["follow"]["failures"], 1);

    releases.build(SECOND.0, b"the second stage");
    scene.sync(&[]).success();
    assert_eq!(scene.get(&medium(SECOND.0)).expect(200).body, b"the second stage", "{url}");
    scene.get(&format!("{AREA}/current-{NAME}/{NAME}-{}.tar.xz", SECOND.0)).expect(200);
    assert_eq!(scene.get(&medium(FIRST.0)).status, 404, "one build is kept");

    // An upstream that goes back is held, and what there is stays also when somebody accepts that.
    releases.name(FIRST, 15);
    let held = scene.sync(&[]).expect_code(7);
    assert!(held.stderr.contains("went back from"), "{held:?}");
    assert!(scene.shown().contains("held"), "{}", scene.shown());
    assert_eq!(scene.get(&medium(SECOND.0)).expect(200).body, b"the second stage", "{url}");
}

fn start(environment: &TestEnvironment) -> Option<Releases<'_>> {
    fs::create_dir_all(environment.path("releases")).expect("a directory can be made");
    Releases::new(environment)
}

#[test]
fn stages_come_over_http() {
    let environment = TestEnvironment::new();
    let Some(releases) = start(&environment) else { return };
    let Some(daemon) = nginx(&environment, &environment.path("releases")) else { return };
    check(&environment, &releases, &format!("http://127.0.0.1:{}/", daemon.port()));
}

#[test]
fn stages_come_over_ftp() {
    let environment = TestEnvironment::new();
    let Some(releases) = start(&environment) else { return };
    let Some(daemon) = ftp(&environment, &environment.path("releases")) else { return };
    check(&environment, &releases, &format!("ftp://127.0.0.1:{}/", daemon.port()));
}

#[test]
fn stages_come_over_rsync() {
    let environment = TestEnvironment::new();
    let Some(releases) = start(&environment) else { return };
    let daemon = rsync(&environment, &environment.path("releases")).expect("rsync starts");
    check(&environment, &releases, &format!("rsync://127.0.0.1:{}/gentoo", daemon.port()));
}
