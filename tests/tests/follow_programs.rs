//! Snapshots of ebuild trees that follow an upstream, from the servers that mirrors have.

use std::fs;

use smart_sync_tests::daemon::{ftp, nginx, rsync};
use smart_sync_tests::followed::{Followed, SUMS, write_upstream};
use smart_sync_tests::noise::noise;
use smart_sync_tests::{Gpg, TestEnvironment, program};

/// When 2026-11-28 begins.
const DAY: u64 = 1_795_824_000;
const DAY_SECONDS: u64 = 86_400;

/// Upstream, whose snapshots somebody signs.
struct Upstream<'a> {
    environment: &'a TestEnvironment,
    gpg: Gpg,
    key: String,
}

impl<'a> Upstream<'a> {
    fn new(environment: &'a TestEnvironment) -> Option<Self> {
        let gpg = Gpg::new()?;
        let key = gpg.make_key("releases <r@example.org>", "ed25519", "cert,sign", "never");
        Some(Self { environment, gpg, key })
    }

    /// Adds the snapshot of a day of November.
    fn add(&self, day: u64) -> Vec<u8> {
        let name = format!("gentoo-202611{day}.tar.xz");
        let time = DAY + (day - 28) * DAY_SECONDS + 3600;
        let root = format!("making-{day}/gentoo-202611{day}");
        self.environment.write(&format!("{root}/metadata/timestamp.x"), format!("{time} the time\n"));
        self.environment.write(&format!("{root}/profiles/repo_name"), "gentoo\n");
        fs::create_dir_all(self.environment.path("upstream/snapshots/old")).expect("a directory can be made");
        let (archive, from) = (format!("upstream/snapshots/{name}"), format!("making-{day}"));
        let inside = format!("gentoo-202611{day}");
        let mut tar = self.environment.command("tar");
        tar.args(["--create", "--auto-compress", "--file", &archive, "--directory", &from, &inside]);
        program::run(&mut tar).success();
        let bytes = fs::read(self.environment.path(&archive)).expect("it was made");
        self.environment.write(&format!("{archive}.gpgsig"), self.gpg.sign(&self.key, &bytes));
        bytes
    }

    /// Follows what is at a URL, which gets more snapshots and loses some.
    fn check(&self, url: &str) {
        let ring = self.gpg.export_to(&self.key, "ours.asc");
        let lines = format!("kind = \"treesnapshots\"\nkeyring = [\"{}\"]\nnewest = 2", ring.display());
        let scene = Followed::new(self.environment, &[url.to_owned()], &lines);
        let first = self.add(28);
        scene.sync(&[]).success().stdout_contains("the tree has snapshots of 1 day");
        assert_eq!(scene.get("gentoo-20261128.tar.xz").expect(200).body, first, "{url}");
        scene.get("gentoo-20261128.tar.xz.gpgsig").expect(200);
        scene.sync(&[]).success().stdout_contains("has all that upstream has: 2 files");
        let second = self.add(29);
        scene.sync(&[]).success().stdout_contains("2 files are new upstream");
        assert_eq!(scene.get("gentoo-20261129.tar.xz").expect(200).body, second, "{url}");

        // One that nobody who counts has signed is not published, and asked for again when it is.
        let third = self.add(30);
        let signature = "upstream/snapshots/gentoo-20261130.tar.xz.gpgsig";
        self.environment.write(signature, self.gpg.sign(&self.key, b"other bytes"));
        scene.sync(&[]).expect_code(7).stderr_contains("what it signs was changed");
        assert_eq!(scene.get("gentoo-20261130.tar.xz").status, 404, "{url}");
        assert_eq!(scene.status()["follow"]["failures"], 1);
        self.environment.write(signature, self.gpg.sign(&self.key, &third));
        scene.sync(&[]).success();
        assert_eq!(scene.get("gentoo-20261130.tar.xz").expect(200).body, third, "{url}");

        // An upstream that goes back is held.
        for end in ["", ".gpgsig"] {
            let name = format!("upstream/snapshots/gentoo-20261130.tar.xz{end}");
            fs::remove_file(self.environment.path(&name)).expect("it is there");
        }
        let held = scene.sync(&[]).expect_code(7);
        assert!(held.stderr.contains("went back from 20261130 to 20261129"), "{held:?}");
        scene.sync(&["--accept"]).success();
        assert_eq!(scene.get("gentoo-20261130.tar.xz").expect(200).body, third, "what is published stays");
    }
}

#[test]
fn snapshots_come_out_of_a_directory() {
    let environment = TestEnvironment::new();
    let Some(upstream) = Upstream::new(&environment) else { return };
    upstream.check(&format!("file://{}", environment.path("upstream/snapshots").display()));
}

#[test]
fn snapshots_come_over_http() {
    let environment = TestEnvironment::new();
    let Some(upstream) = Upstream::new(&environment) else { return };
    fs::create_dir_all(environment.path("upstream")).expect("a directory can be made");
    let Some(daemon) = nginx(&environment, &environment.path("upstream")) else { return };
    upstream.check(&format!("http://127.0.0.1:{}/snapshots/", daemon.port()));
}

#[test]
fn snapshots_come_over_ftp() {
    let environment = TestEnvironment::new();
    let Some(upstream) = Upstream::new(&environment) else { return };
    fs::create_dir_all(environment.path("upstream")).expect("a directory can be made");
    let Some(daemon) = ftp(&environment, &environment.path("upstream")) else { return };
    upstream.check(&format!("ftp://127.0.0.1:{}/snapshots", daemon.port()));
}

#[test]
fn snapshots_come_over_rsync() {
    let environment = TestEnvironment::new();
    let Some(upstream) = Upstream::new(&environment) else { return };
    let daemon = rsync(&environment, &environment.path("upstream")).expect("rsync starts");
    upstream.check(&format!("rsync://127.0.0.1:{}/gentoo/snapshots", daemon.port()));
}

#[test]
fn a_directory_comes_over_rsync_in_one_go() {
    let environment = TestEnvironment::new();
    let (one, two) = (noise("one", 300_000), noise("two", 100_000));
    write_upstream(&environment, &[("one.tar", &one), ("deep/er/two words.tar", &two)]);
    let daemon = rsync(&environment, &environment.path("upstream")).expect("rsync starts");
    let url = format!("rsync://127.0.0.1:{}/gentoo", daemon.port());
    let scene = Followed::unsigned(&environment, &[url]);
    scene.sync(&[]).success();
    assert_eq!(scene.get("one.tar").expect(200).body, one);
    assert_eq!(scene.get("deep/er/two%20words.tar").expect(200).body, two);
    // One that is another one than the digests say is refused, and what there was stays.
    write_upstream(&environment, &[("one.tar", b"new")]);
    let sums = fs::read(environment.path("upstream").join(SUMS)).expect("it was written");
    write_upstream(&environment, &[("one.tar", b"not")]);
    environment.write(&format!("upstream/{SUMS}"), sums);
    scene.sync(&[]).expect_code(7).stderr_contains("it is not what it has to be");
    assert_eq!(scene.get("one.tar").expect(200).body, one);
    write_upstream(&environment, &[("one.tar", b"new")]);
    scene.sync(&[]).success();
    assert_eq!(scene.get("one.tar").expect(200).body, b"new");
    assert_eq!(scene.get("deep/er/two%20words.tar").status, 404);
}
