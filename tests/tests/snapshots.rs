//! Snapshots of ebuild trees: published with what belongs to them, and brought by stock `emerge-webrsync`.

use std::fs;
use std::path::Path;

use smart_sync_tests::{Finished, Gentoo, Gpg, PublishingHost, TestEnvironment, program};

/// When 2026-11-30 begins.
const DAY: u64 = 1_795_996_800;

/// Makes a snapshot of a tree with one package of this version, with a file in place of its signature.
fn make(environment: &TestEnvironment, name: &str, time: u64, version: u32) {
    let root = format!("making-{name}/gentoo-20261130");
    environment.write(&format!("{root}/metadata/timestamp.x"), format!("{time} the time\n"));
    environment.write(&format!("{root}/metadata/layout.conf"), "masters =\nthin-manifests = true\n");
    environment.write(&format!("{root}/profiles/repo_name"), "gentoo\n");
    environment.write(&format!("{root}/app-test/thing/thing-{version}.ebuild"), "EAPI=8\n");
    fs::create_dir_all(environment.path("snapshots")).expect("a directory can be made");
    let archive = format!("snapshots/{name}");
    let (from, inside) = (format!("making-{name}"), "gentoo-20261130");
    let arguments = ["--create", "--auto-compress", "--file", &archive, "--directory", &from, inside];
    program::run(environment.command("tar").args(arguments)).success();
    environment.write(&format!("{archive}.gpgsig"), "a signature");
}

fn publish(scene: &PublishingHost<'_>) -> Finished {
    scene.publish(&["snapshots", "--channel", "repos/snapshots", "--kind", "treesnapshots"])
}

#[test]
fn emerge_webrsync_brings_a_tree() {
    let environment = TestEnvironment::new();
    let Some(gentoo) = Gentoo::new(&environment, "gentoo") else { return };
    let scene = PublishingHost::new(&environment);
    make(&environment, "gentoo-20261130.tar.xz", DAY + 89_100, 1);
    let published = publish(&scene).success();
    assert!(published.stdout.contains("the tree has snapshots of 1 day"), "{published:?}");
    let md5 =
        program::run(environment.command("md5sum").arg("snapshots/gentoo-20261130.tar.xz")).success().stdout;
    assert_eq!(
        scene.get("repos/snapshots/gentoo-20261130.tar.xz.md5sum").expect(200).text(),
        format!("{}  gentoo-20261130.tar.xz\n", &md5[..32])
    );

    webrsync(&gentoo, &scene, None).success();
    assert!(gentoo.path("synced/app-test/thing/thing-1.ebuild").exists());
}

/// A Gentoo system that brings snapshots to an empty directory.
fn webrsync(gentoo: &Gentoo<'_>, scene: &PublishingHost<'_>, key: Option<&Path>) -> Finished {
    gentoo.write(
        "etc/portage/repos.conf",
        &format!(
            "[DEFAULT]\nmain-repo = gentoo\n[gentoo]\nlocation = {}\nsync-type = webrsync\n",
            gentoo.path("synced").display()
        ),
    );
    fs::create_dir_all(gentoo.path("synced")).expect("a directory can be made");
    let mut webrsync = gentoo.command("emerge-webrsync");
    webrsync.arg("--revert=20261130").env("GENTOO_MIRRORS", scene.realm.url("repos"));
    match key {
        // As `sync-openpgp-key-path` says it.
        Some(key) => {
            webrsync.env("PORTAGE_GPG_KEY", key).env_remove("GNUPGHOME").env_remove("PORTAGE_GPG_DIR")
        }
        None => webrsync.arg("--no-pgp-verify"),
    };
    program::run(&mut webrsync)
}

#[test]
fn emerge_webrsync_verifies_what_was_signed_upstream() {
    let environment = TestEnvironment::new();
    let (Some(gentoo), Some(gpg)) = (Gentoo::new(&environment, "gentoo"), Gpg::new()) else { return };
    let scene = PublishingHost::new(&environment);
    // The name by which it looks for the key.
    let names = ["Releases <infrastructure@gentoo.org>", "Another <infrastructure@gentoo.org>"];
    let keys = names.map(|name| gpg.make_key(name, "ed25519", "cert,sign", "never"));
    make(&environment, "gentoo-20261130.tar.xz", DAY + 89_100, 1);
    let archive = environment.path("snapshots/gentoo-20261130.tar.xz");
    let signature = gpg.sign(&keys[0], &fs::read(&archive).unwrap());
    fs::write(archive.with_extension("xz.gpgsig"), signature).unwrap();
    let rings = [gpg.export_to(&keys[0], "ours.asc"), gpg.export_to(&keys[1], "other.asc")];
    let mut command =
        scene.command(&["snapshots", "--channel", "repos/snapshots", "--kind", "treesnapshots"]);
    program::run(command.arg("--keyring").arg(&rings[0])).success();

    let ebuild = gentoo.path("synced/app-test/thing/thing-1.ebuild");
    let refused = webrsync(&gentoo, &scene, Some(&rings[1]));
    assert!(refused.code != Some(0) && !ebuild.exists(), "{refused:?}");
    assert!(refused.stderr.contains("signature verification failed"), "{refused:?}");
    webrsync(&gentoo, &scene, Some(&rings[0])).success();
    assert!(ebuild.exists());

    let text = scene.get("repos/snapshots/.smart-sync/provenance").expect(200).text();
    assert_eq!(text, format!("{} - gentoo-20261130.tar.xz\n", keys[0]));
}

#[test]
fn a_day_is_that_of_the_snapshot_and_not_of_its_publication() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    for (name, time) in [("gentoo-20261129.tar.xz", DAY - 80_000), ("gentoo-20261130.tar.xz", DAY + 1_000)] {
        make(&environment, name, time, 1);
        publish(&scene).success();
    }
    let of_a_day = |day: &str, name: &str| scene.get(&format!("at/{day}/repos/snapshots/{name}")).status;
    assert_eq!(of_a_day("2026-11-29", "gentoo-20261129.tar.xz"), 200);
    assert_eq!(of_a_day("2026-11-29", "gentoo-20261130.tar.xz"), 404);
    assert_eq!(of_a_day("2026-11-30", "gentoo-20261130.tar.xz"), 200);
    assert_eq!(of_a_day("2026-11-28", "gentoo-20261129.tar.xz"), 404);

    let listed = |day: &str| environment.run_client(["ls", "--channel", "repos/snapshots", "--at", day]);
    let of_29 = listed("2026-11-29").success();
    assert!(of_29.stdout.contains("gentoo-20261129.tar.xz"), "{of_29:?}");
    assert!(!of_29.stdout.contains("gentoo-20261130.tar.xz"), "{of_29:?}");
    listed("2026-11-30").success().stdout_contains("gentoo-20261130.tar.xz");
    let before_all = listed("2026-11-28").expect_code(1);
    assert!(before_all.stderr.contains("has nothing that is of 2026-11-28"), "{before_all:?}");
}

#[test]
fn what_clients_would_not_take_is_refused() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    let refused = |expected: &str| {
        let refused = publish(&scene).expect_code(7);
        assert!(refused.stderr.contains(expected), "{refused:?}");
        assert_eq!(scene.get("repos/snapshots/gentoo-20261130.tar.xz").status, 404);
        fs::remove_dir_all(environment.path("snapshots")).unwrap();
    };
    make(&environment, "gentoo-20261130.tar.xz", DAY + 89_100, 1);
    fs::remove_file(environment.path("snapshots/gentoo-20261130.tar.xz.gpgsig")).unwrap();
    refused("there is no signature beside it");
    make(&environment, "gentoo-20261130.tar.xz", DAY - 1, 1);
    refused("says another day than its name");
    make(&environment, "gentoo-20261130.tar.xz", DAY, 1);
    environment.write("snapshots/gentoo-20261130.tar.xz.md5sum", "0123456789abcdef0123456789abcdef  x\n");
    refused("it is not what the file with its digest says");
    environment.write("snapshots/gentoo-20261130.tar.xz", "<html>404 not found</html>");
    refused("it is no sound stream of xz");
    make(&environment, "gentoo-20261130.tar.xz", DAY, 1);
    let whole = fs::read(environment.path("snapshots/gentoo-20261130.tar.xz")).unwrap();
    environment.write("snapshots/gentoo-20261130.tar.xz", &whole[..whole.len() - 20]);
    refused("it is cut short");
}

#[test]
fn a_snapshot_never_changes_and_others_stay() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    make(&environment, "gentoo-20261130.tar.xz", DAY, 1);
    environment.write("snapshots/README", "is left out");
    publish(&scene).success();
    let first = scene.get("repos/snapshots/gentoo-20261130.tar.xz").expect(200).body;
    make(&environment, "gentoo-20261130.tar.xz", DAY, 2);
    let refused = publish(&scene).expect_code(7);
    assert!(
        refused.stderr.contains("a snapshot of this name is published, and is another one"),
        "{refused:?}"
    );

    fs::remove_dir_all(environment.path("snapshots")).unwrap();
    make(&environment, "gentoo-20261201.tar.bz2", DAY + 86_400, 2);
    publish(&scene).success().stdout_contains("the tree has snapshots of 2 days");
    assert_eq!(scene.get("repos/snapshots/gentoo-20261130.tar.xz").expect(200).body, first);
    scene.get("repos/snapshots/gentoo-20261201.tar.bz2.gpgsig").expect(200);
    assert_eq!(scene.get("repos/snapshots/README").status, 404);
}

#[test]
fn a_snapshot_is_published_as_far_as_keys_that_count_have_signed_it() {
    let environment = TestEnvironment::new();
    let Some(gpg) = Gpg::new() else { return };
    let scene = PublishingHost::new(&environment);
    let (ours, other) = (
        gpg.make_key("releases <r@example.org>", "ed25519", "cert,sign", "never"),
        gpg.make_key("other", "ed25519", "cert,sign", "never"),
    );
    let (ring, wrong_ring) = (gpg.export_to(&ours, "ours.asc"), gpg.export_to(&other, "other.asc"));
    let archive = environment.path("snapshots/gentoo-20261130.tar.xz");
    make(&environment, "gentoo-20261130.tar.xz", DAY + 89_100, 1);
    let publish_with = |ring: &Path| {
        let mut command =
            scene.command(&["snapshots", "--channel", "repos/snapshots", "--kind", "treesnapshots"]);
        program::run(command.arg("--keyring").arg(ring))
    };
    let refused = |ring: &Path, expected: &str| {
        let refused = publish_with(ring).expect_code(7);
        assert!(refused.stderr.contains(expected), "{refused:?}");
        assert!(refused.stderr.contains("gentoo-20261130.tar.xz: "), "{refused:?}");
        assert_eq!(scene.get("repos/snapshots/gentoo-20261130.tar.xz").status, 404);
    };
    // What lies beside it is no signature, then one of somebody else, and then one of other bytes.
    refused(&ring, "gentoo-20261130.tar.xz: it is not signed");
    let sign = |key: &str, bytes: &[u8]| {
        fs::write(archive.with_extension("xz.gpgsig"), gpg.sign(key, bytes)).unwrap();
    };
    sign(&ours, &fs::read(&archive).unwrap());
    refused(&wrong_ring, "which no key ring has");
    sign(&ours, b"other bytes");
    refused(&ring, "is wrong: what it signs was changed, or is something else");
    sign(&ours, &fs::read(&archive).unwrap());
    let published = publish_with(&ring).success();
    assert!(published.stdout.contains("snapshots are signed by releases <r@example.org>"), "{published:?}");
    assert!(publish_with(&ring).success().stdout.contains("is that tree already"));
    // A key that was revoked since counts no more, though nothing was read again.
    gpg.revoke_key(&ours);
    let revoked = publish_with(&gpg.export_to(&ours, "revoked.asc")).expect_code(7);
    assert!(revoked.stderr.contains("revoked"), "{revoked:?}");
}
