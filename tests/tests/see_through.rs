//! Compressed artifacts that are stored as what they are rebuilt from: as a client, a plain download and an export see
//! them.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::Write as _;
use std::path::Path;

use smart_sync_tests::http::{curl, get};
use smart_sync_tests::noise::noise;
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::server::age_marks;
use smart_sync_tests::snapshot::Snapshot;
use smart_sync_tests::{CountingProxy, Realm, TestEnvironment};

const CHANNEL: &str = "repos/distfiles";
/// Hosts go by chunks, and nobody takes anything apart while nobody asks for it.
const SETTINGS: &str = "[bundles]\nenabled = false\n[see-through]\nenabled = false\n";

struct Scene {
    environment: TestEnvironment,
    realm: Realm,
}

impl Scene {
    fn new() -> Self {
        Self::with_settings(SETTINGS)
    }

    fn with_settings(settings: &str) -> Self {
        let environment = TestEnvironment::new();
        let realm = Realm::start_with(&environment, "realm", settings, &[]);
        let arguments = ["trust", "add", realm.server().url(), "--root", realm.fingerprint()];
        environment.run_client(arguments).success();
        Self { environment, realm }
    }

    /// Publishes another version of a tarball beside the ones before it, and returns it.
    fn publish(&self, version: u32) -> Vec<u8> {
        let tarball = tarball(version);
        self.environment.write(&format!("tree/thing-1.{version}.tar.gz"), &tarball);
        let tree = self.environment.path("tree");
        self.realm.publish_local(&self.environment, CHANNEL, "main", &tree, &[]).success();
        tarball
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.realm.run(&self.environment, arguments).success().stdout
    }

    /// Collects garbage, with the marks in the catalogue set back, which is what waiting would do.
    fn collect(&self) {
        for _ in 0..2 {
            age_marks(self.realm.data());
            self.run(&["gc", "--yes", "--grace-hours", "0"]);
        }
    }

    fn sync(&self, server: &str) {
        let target = self.environment.path("host");
        let target = target.to_str().unwrap();
        self.environment.run_client(["--server", server, "--channel", CHANNEL, "--target", target]).success();
        Snapshot::as_git(&self.environment.path("tree")).assert_same(&Snapshot::as_git(Path::new(target)));
    }
}

/// A tarball of which a small part is the version's own.
fn tarball(version: u32) -> Vec<u8> {
    let mut tar = Vec::new();
    let own = format!("version {version}\n").into_bytes();
    let files = [
        ("thing/data", noise("data", 300_000)),
        ("thing/more", noise("more", 90_000)),
        ("thing/VERSION", own),
    ];
    for (name, bytes) in files {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        header[136..148].copy_from_slice(format!("{:011o}\0", 1_700_000_000 + version).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(&bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(9));
    encoder.write_all(&tar).unwrap();
    encoder.finish().unwrap()
}

fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { bytes_in(&path) } else { fs::metadata(&path).unwrap().len() }).sum()
}

#[test]
fn versions_of_an_artifact_share_what_is_in_them_and_come_back_to_the_byte() {
    let scene = Scene::new();
    let packs = scene.realm.data().join("store/packs");
    scene.publish(1);
    let said = scene.run(&["see-through"]);
    assert!(said.contains("thing-1.1.tar.gz as it is: taken apart it would take as much room"), "{said}");
    scene.sync(scene.realm.server().url());
    let one = bytes_in(&packs);
    let second = scene.publish(2);
    scene.publish(3);
    let said = scene.run(&["see-through"]);
    assert!(said.contains("thing-1.2.tar.gz taken apart\n"), "{said}");
    assert!(said.contains("thing-1.3.tar.gz taken apart\n"), "{said}");
    assert!(
        scene.run(&["see-through"]).starts_with("0 artifacts"),
        "what was looked at is not looked at again"
    );
    scene.collect();
    let three = bytes_in(&packs);
    assert!(three < one + 50_000, "{one} bytes for one version, {three} for three");

    // Whoever downloads one gets it as it was, whole or in part, and so do hosts: by chunks, and from an export.
    let url = scene.realm.url("files/repos/distfiles/main/thing-1.2.tar.gz");
    assert_eq!(get(&scene.environment, &url, None).expect(200).body, second);
    let part = curl(&scene.environment, &url, ["--range", "200000-300000"]).expect(206);
    assert_eq!(part.body, second[200_000..=300_000]);
    scene.sync(scene.realm.server().url());
    fs::remove_dir_all(scene.environment.path("host")).unwrap();
    scene.sync(scene.realm.server().url());
    let export = scene.environment.path("export");
    scene.run(&["export", export.to_str().unwrap()]);
    fs::remove_dir_all(scene.environment.path("host")).unwrap();
    scene.sync(export.to_str().unwrap());
    scene.run(&["check"]);

    // A catalogue that is made anew finds out again what makes what.
    let Scene { environment, realm } = scene;
    let realm = realm.restart(&environment, |server| {
        server.stop();
        for name in ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
            let _ = fs::remove_file(environment.path("realm").join("store").join(name));
        }
    });
    let url = realm.url("files/repos/distfiles/main/thing-1.2.tar.gz");
    assert_eq!(get(&environment, &url, None).expect(200).body, second);
}

#[test]
fn a_server_takes_artifacts_apart_by_itself() {
    let scene = Scene::with_settings("[bundles]\nenabled = false\n");
    scene.publish(1);
    scene.publish(2);
    let catalogue = rusqlite::Connection::open(scene.realm.data().join("store/catalogue.sqlite")).unwrap();
    let count = |of: &str| -> u32 {
        catalogue.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0)).unwrap()
    };
    let refs = get(&scene.environment, &scene.realm.url("v1/refs/repos%2Fdistfiles"), None).expect(200);
    let refs: serde_json::Value = serde_json::from_slice(&refs.body).unwrap();
    let manifest = refs[0]["manifest"].as_str().unwrap().strip_prefix("blake3:").unwrap();
    // The server does it when it comes to it.
    while count(&format!("looked WHERE id = x'{manifest}'")) == 0 {
        assert!(scene.realm.server().is_alive());
    }
    assert_eq!(count("recipes WHERE proven = 2"), 2, "{}", scene.realm.server().log());
    scene.collect();
    scene.sync(scene.realm.server().url());
}

#[test]
fn what_a_dry_run_says_is_what_is_fetched() {
    let scene = Scene::new();
    scene.publish(1);
    scene.sync(scene.realm.server().url());
    scene.environment.write("tree/other", noise("other", 700_000));
    scene.publish(2);
    scene.publish(3);
    scene.run(&["see-through"]);
    scene.collect();
    let proxy = CountingProxy::start(scene.realm.server().address(), Protocol::Http).unwrap();
    let target = scene.environment.path("host");
    let target = target.to_str().unwrap();
    let arguments = ["--server", &proxy.url(), "--channel", CHANNEL, "--target", target];
    let shown = scene.environment.run_client(arguments.iter().chain(&["--dry-run"])).success().stdout;
    let said = shown.lines().find(|line| line.contains("chunk by chunk")).unwrap();
    let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [bytes, ranges] = numbers[..] else { panic!("{said}") };
    proxy.take_totals();
    scene.sync(&proxy.url());
    let totals = proxy.take_totals();
    // What is new, the bundle that is not there, the list of changes; and the ranges.
    assert_eq!(totals.requests, 3 + ranges, "{said}");
    assert!(totals.received > bytes && totals.received < bytes + 10_000, "{said}: {totals:?}");
}
