//! Running a server: collecting, checking, repairing, exporting, restarting, and what a crash or a backup does.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use smart_sync_tests::http::get;
use smart_sync_tests::server::{age_marks, initialise, run_on, serve};
use smart_sync_tests::{Realm, Server, TestEnvironment, program, skipped};

/// Bytes that do not compress.
fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The files of a directory, at any depth.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn packs(data: &Path) -> Vec<PathBuf> {
    files(&data.join("store"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|it| it == "pack"))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, &target).unwrap();
    }
}

/// A realm with `repos/x` main, whose directory is `tree`.
fn realm(environment: &TestEnvironment) -> Realm {
    environment.write("tree/a", "content of a");
    environment.write("tree/d/large", noise("large", 400_000));
    let realm = Realm::start(environment, "realm");
    publish(environment, &realm);
    realm
}

fn publish(environment: &TestEnvironment, realm: &Realm) {
    realm.publish_local(environment, "repos/x", "main", &environment.path("tree"), &[]).success();
}

#[test]
fn a_flipped_byte_is_found_and_named() {
    let environment = TestEnvironment::new();
    let realm = realm(&environment);
    let clean = realm.run(&environment, &["check"]).success();
    assert!(clean.stdout.contains("all as they should be"), "{}", clean.stdout);
    let clean = realm.run(&environment, &["check", "--json"]).success();
    let mut events =
        clean.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(events.next_back().unwrap()["whole"], true, "{}", clean.stdout);
    let pack = &packs(realm.data())[0];
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).unwrap();

    let found = realm.run(&environment, &["check"]).expect_code(1);
    assert!(found.stdout.contains("affected: repos/x branch:main: d/large"), "{}", found.stdout);
    let json = realm.run(&environment, &["check", "--json"]).expect_code(1);
    let events: Vec<serde_json::Value> =
        json.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect();
    let of_kind = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of_kind("log")[0]["leaves"], 4, "{}", json.stdout);
    assert!(!of_kind("fault").is_empty(), "{}", json.stdout);
    assert!(of_kind("affected").iter().any(|event| event["path"] == "d/large"), "{}", json.stdout);
    assert_eq!(events.last().expect("there are events")["whole"], false);
    // What is damaged is not served as if it were whole.
    let url = realm.url("files/repos/x/main/d/large");
    assert!(
        !environment
            .command("curl")
            .args(["-sS", "--fail", "-o", "/dev/null", &url])
            .status()
            .unwrap()
            .success()
    );
    get(&environment, &realm.url("files/repos/x/main/a"), None).expect(200);
}

#[test]
fn damaged_and_lost_packs_come_back_from_a_mirror() {
    let environment = TestEnvironment::new();
    let realm = realm(&environment);
    environment.write("tree/second", noise("second", 200_000));
    publish(&environment, &realm);
    let mirrored = environment.path("mirror");
    copy(realm.data(), &mirrored);
    let mirror = Server::start(&mut serve(&environment, &mirrored));
    let packs = packs(realm.data());
    assert_eq!(packs.len(), 2);
    let mut bytes = fs::read(&packs[0]).unwrap();
    bytes[100] ^= 1;
    fs::write(&packs[0], bytes).unwrap();
    fs::remove_file(&packs[1]).unwrap();

    let shown = realm.run(&environment, &["check", "--mirror", mirror.url()]).expect_code(1);
    assert_eq!(shown.stdout.matches("the mirror has it").count(), 2, "{}", shown.stdout);
    realm.run(&environment, &["check"]).expect_code(1);
    let repaired = realm.run(&environment, &["check", "--mirror", mirror.url(), "--yes"]).success();
    assert_eq!(repaired.stdout.matches(": replaced").count(), 2, "{}", repaired.stdout);
    realm.run(&environment, &["check"]).success();
    get(&environment, &realm.url("files/repos/x/main/second"), None).expect(200);

    // A mirror that sends something else repairs nothing.
    let wrong = environment.path("wrong");
    let id = packs[1].file_name().unwrap().to_str().unwrap().split('-').next().unwrap().to_owned();
    fs::remove_file(&packs[1]).unwrap();
    initialise(&environment, &wrong, "other.example");
    let wrong = Server::start(&mut serve(&environment, &wrong));
    let left = realm.run(&environment, &["check", "--mirror", wrong.url(), "--yes"]).expect_code(1);
    assert!(left.stdout.contains(&id) && left.stdout.contains("does not have it"), "{}", left.stdout);
}

#[test]
fn what_a_lost_pack_held_is_missed_though_the_catalogue_was_made_anew() {
    let environment = TestEnvironment::new();
    let realm = realm(&environment);
    environment.write("tree/second", noise("second", 200_000));
    publish(&environment, &realm);
    realm.run(&environment, &["check"]).success();
    fs::remove_file(&packs(realm.data())[1]).unwrap();
    for name in ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
        let _ = fs::remove_file(realm.data().join("store").join(name));
    }
    let shown = realm.run(&environment, &["check"]).expect_code(1);
    assert!(shown.stdout.contains("affected: repos/x branch:main"), "{}", shown.stdout);
}

#[test]
fn collecting_shows_its_plan_and_keeps_what_is_published() {
    let environment = TestEnvironment::new();
    let directory = environment.path("tree");
    environment.write("tree/a", "content of a");
    let private = Realm::start_with(&environment, "realm", "", &["--private", "repos/secret/*"]);
    private.publish_local(&environment, "repos/secret/y", "main", &directory, &[]).success();
    for version in 0..3 {
        environment.write("tree/large", noise(&version.to_string(), 300_000));
        private.publish_local(&environment, "repos/x", "main", &directory, &[]).success();
    }
    let data = private.data().to_path_buf();
    let size =
        || files(&data.join("store/packs")).iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    let before = size();
    let gc = |more: &[&str]| {
        let mut arguments = vec!["gc", "--keep", "1", "--grace-hours", "0"];
        arguments.extend(more);
        private.run(&environment, &arguments).success().stdout
    };
    assert!(gc(&[]).contains("nothing was changed"));
    assert_eq!(size(), before);
    // Everything was just uploaded: the shortest grace period is not over, and nothing goes.
    gc(&["--yes"]);
    gc(&["--yes"]);
    assert_eq!(size(), before);
    // The marks in the catalogue are set back, which is what waiting would do.
    age_marks(&data);
    let condemned = gc(&["--yes"]);
    assert!(condemned.contains("1 pack condemned, 1 rewritten"), "{condemned}");
    age_marks(&data);
    gc(&["--yes"]);
    assert!(size() + 500_000 < before, "{} of {before}", size());
    private.run(&environment, &["check"]).success();
    get(&environment, &private.url("files/repos/x/main/large"), None).expect(200);
    let token = smart_sync_tests::server::create_token(&environment, &data, "read", "");
    let secret = get(&environment, &private.url("files/repos/secret/y/main/a"), Some(&token)).expect(200);
    assert_eq!(secret.text(), "content of a");
}

#[test]
fn what_can_be_made_anew_is_made_anew() {
    let environment = TestEnvironment::new();
    let mut realm = realm(&environment);
    for lost in ["index.db", "store/catalogue.sqlite", "cache"] {
        realm = realm.restart(&environment, |server| assert!(server.stop().success()));
        let data = realm.data().to_path_buf();
        realm = realm.restart(&environment, |server| {
            server.kill();
            for suffix in ["", "-wal", "-shm"] {
                let path = data.join(format!("{lost}{suffix}"));
                if path.is_dir() {
                    fs::remove_dir_all(path).unwrap();
                } else if path.exists() {
                    fs::remove_file(path).unwrap();
                }
            }
        });
        let url = realm.url("files/repos/x/main/d/large");
        assert!(get(&environment, &url, None).expect(200).body == noise("large", 400_000), "without {lost}");
        environment.write("tree/a", lost);
        publish(&environment, &realm);
        realm.run(&environment, &["check"]).success();
    }
}

#[test]
fn an_export_is_a_realm_of_plain_files() {
    let environment = TestEnvironment::new();
    let realm = realm(&environment);
    let directory = environment.path("export");
    let export = || realm.run(&environment, &["export", directory.to_str().unwrap()]).success().stdout;
    export();
    assert!(export().starts_with("0 files written"), "a second time nothing is written");
    for path in ["checkpoint", "tile/0/000.p/4", "tile/entries/000.p/4", "v1/root/1"] {
        let served = get(&environment, &realm.url(path), None).expect(200).body;
        if path != "checkpoint" {
            assert!(fs::read(directory.join(path)).unwrap() == served, "{path}");
        }
    }
    for pack in files(&directory.join("pack")) {
        let id = pack.file_name().unwrap().to_str().unwrap();
        assert_eq!(blake3::hash(&fs::read(&pack).unwrap()).to_hex().as_str(), id);
    }
}

/// Sets `clock-interval-seconds` to 0 and serves again: the clock is elsewhere.
fn without_clock(environment: &TestEnvironment, realm: Realm) -> Realm {
    let settings = realm.data().join("server.toml");
    realm.restart(environment, |server| {
        assert!(server.stop().success());
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, text.replace("clock-interval-seconds = 60", "clock-interval-seconds = 0"))
            .unwrap();
    })
}

fn clock(environment: &TestEnvironment, realm: &Realm, root: &str) -> program::Finished {
    let mut command = environment.server();
    command.args(["clock", "--interval", "0", "--root", root, "--server", realm.server().url()]);
    command.arg("--key").arg(environment.path("clock.key")).arg("--state").arg(environment.path("clock"));
    program::run(&mut command)
}

fn signatures(environment: &TestEnvironment, realm: &Realm) -> usize {
    let note = get(environment, &realm.url("v1/unsigned-checkpoint"), None).expect(200).text();
    note.lines().filter(|line| line.starts_with('\u{2014}')).count()
}

#[test]
fn a_clock_on_another_machine_signs_what_grew_and_nothing_else() {
    let environment = TestEnvironment::new();
    let realm = without_clock(&environment, realm(&environment));
    fs::rename(realm.key("clock"), environment.path("clock.key")).unwrap();
    publish_change(&environment, &realm, "1");
    assert_eq!(signatures(&environment, &realm), 1, "only the log key has signed");
    clock(&environment, &realm, &format!("sha256:{}", "0".repeat(64))).expect_code(7);
    assert_eq!(signatures(&environment, &realm), 1);
    // Until the clock has signed, everybody is shown what it signed last.
    let served = || get(&environment, &realm.url("files/repos/x/main/a"), None).expect(200).text();
    let note = get(&environment, &realm.url("checkpoint"), None).expect(200).text();
    assert_eq!(note.lines().filter(|line| line.starts_with('\u{2014}')).count(), 2);
    assert_eq!(served(), "content of a");
    get(&environment, &realm.url("v1/history/repos%2Fx/main"), None).expect(200);
    clock(&environment, &realm, realm.fingerprint()).success();
    assert_eq!(signatures(&environment, &realm), 2);
    assert_eq!(served(), "1");

    // The server is restored from a backup that was made before the last publication.
    let backup = environment.path("backup");
    copy(realm.data(), &backup);
    publish_change(&environment, &realm, "2");
    clock(&environment, &realm, realm.fingerprint()).success();
    let data = realm.data().to_path_buf();
    let realm = realm.restart(&environment, |server| {
        assert!(server.stop().success());
        fs::remove_dir_all(&data).unwrap();
        copy(&backup, &data);
    });
    let refused = clock(&environment, &realm, realm.fingerprint()).expect_code(7);
    assert!(refused.stderr.contains("set back"), "{}", refused.stderr);
    // It grows again, into another history of the same length.
    publish_change(&environment, &realm, "3");
    let refused = clock(&environment, &realm, realm.fingerprint()).expect_code(7);
    assert!(refused.stderr.contains("rewritten"), "{}", refused.stderr);
    publish_change(&environment, &realm, "4");
    clock(&environment, &realm, realm.fingerprint()).expect_code(7).stderr_contains("rewritten");
    assert_eq!(signatures(&environment, &realm), 1);
}

fn publish_change(environment: &TestEnvironment, realm: &Realm, change: &str) {
    environment.write("tree/a", change);
    publish(environment, realm);
}

#[test]
fn a_server_restored_from_an_older_backup_signs_nothing_while_a_mirror_knows_more() {
    let environment = TestEnvironment::new();
    let realm = realm(&environment);
    let backup = environment.path("backup");
    copy(realm.data(), &backup);
    publish_change(&environment, &realm, "after the backup");
    let mirror = realm;
    // What was restored runs as another server here; the one that goes on is the mirror that has seen it all.
    let settings = fs::read_to_string(backup.join("server.toml")).unwrap();
    let peers = format!("peers = [\"http://127.0.0.1:1\", \"{}\"]\n{settings}", mirror.server().url());
    fs::write(backup.join("server.toml"), peers).unwrap();
    let before = fs::read(backup.join("log/checkpoint")).unwrap();
    let restored = Server::start(&mut serve(&environment, &backup));
    let url = |path: &str| format!("{}/{path}", restored.url());
    assert!(restored.log().contains("restored from an older backup"), "{}", restored.log());
    assert_eq!(fs::read(backup.join("log/checkpoint")).unwrap(), before);
    // Reading goes on: clients judge for themselves how old it is.
    get(&environment, &url("files/repos/x/main/a"), None).expect(200);
    get(&environment, &url("checkpoint"), None).expect(200);

    environment.write("tree/a", "another history");
    let tree = environment.path("tree");
    let arguments = ["publish-local", "--channel", "repos/x", "--ref", "main", tree.to_str().unwrap()];
    let refused = run_on(&environment, &backup, &arguments).expect_code(7);
    assert!(refused.stderr.contains("restored from an older backup"), "{}", refused.stderr);
    assert_eq!(fs::read(backup.join("log/checkpoint")).unwrap(), before);

    // With the log of the mirror it is whole again.
    assert!(restored.stop().success());
    fs::remove_dir_all(backup.join("log")).unwrap();
    copy(&mirror.data().join("log"), &backup.join("log"));
    copy(&mirror.data().join("store/packs"), &backup.join("store/packs"));
    fs::remove_file(backup.join("store/catalogue.sqlite")).unwrap();
    run_on(&environment, &backup, &arguments).success();
    run_on(&environment, &backup, &["log", "audit"]).success();
}

#[test]
fn a_publication_that_is_killed_at_any_moment_leaves_a_whole_realm() {
    let environment = TestEnvironment::new();
    let realm = realm(&environment);
    let tree = environment.path("tree");
    let mut ended = 0;
    for round in 0..24 {
        environment.write("tree/large", noise(&format!("round {round}"), 3_000_000));
        let mut command = environment.server();
        command.args(["publish-local", "--channel", "repos/x", "--ref", "main"]);
        command.arg("--data").arg(realm.data()).arg(&tree);
        let mut child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Another moment in each round; which one it is does not matter to what has to hold.
        for _ in 0..round * 40_000 {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::hint::spin_loop();
        }
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let _ = kill_process_group(group, Signal::KILL);
        ended += usize::from(child.wait().unwrap().success());
        realm.run(&environment, &["log", "audit"]).success();
        get(&environment, &realm.url("files/repos/x/main/d/large"), None).expect(200);
    }
    assert!(ended < 24, "not one of them was killed");
    realm.run(&environment, &["check"]).success();
    publish(&environment, &realm);
    let published = get(&environment, &realm.url("files/repos/x/main/large"), None).expect(200).body;
    assert!(published == fs::read(tree.join("large")).unwrap());
    realm.run(&environment, &["check"]).success();
}

/// A file system of a few MiB, unmounted when this is dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(environment: &TestEnvironment, kibibytes: u32) -> Option<Self> {
        let path = environment.path("disk");
        fs::create_dir_all(&path).unwrap();
        let mut command = environment.command("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={kibibytes}k"), "tmpfs"]).arg(&path);
        let mounted = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then_some(Self { path })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_lost() {
    let environment = TestEnvironment::new();
    let Some(disk) = SmallDisk::mount(&environment, 6 * 1024) else {
        skipped("a small file system cannot be mounted here");
        return;
    };
    let data = disk.path.join("realm");
    initialise(&environment, &data, "test.example");
    let tree = environment.path("tree");
    environment.write("tree/a", "1");
    let arguments = ["publish-local", "--channel", "repos/x", "--ref", "main", tree.to_str().unwrap()];
    run_on(&environment, &data, &arguments).success();
    let checkpoint = || fs::read(data.join("log/checkpoint")).unwrap();
    let before = checkpoint();
    environment.write("tree/too-large", noise("too large", 9_000_000));
    let failed = run_on(&environment, &data, &arguments).expect_code(1);
    assert!(failed.stderr.contains("space") || failed.stderr.contains("os error 28"), "{}", failed.stderr);
    assert_eq!(checkpoint(), before);

    // Full to the last byte, while the log is appended to.
    fs::remove_file(tree.join("too-large")).unwrap();
    let filler = disk.path.join("filler");
    let mut left = 0;
    for keep in (0..40).map(|step| step * 4096) {
        let _ = fs::remove_file(&filler);
        let free = rustix::fs::statvfs(&disk.path).unwrap();
        let free = usize::try_from(free.f_bavail * free.f_frsize).unwrap();
        fs::write(&filler, vec![1; free.saturating_sub(keep)]).unwrap();
        environment.write("tree/a", format!("with {keep} bytes"));
        let before = checkpoint();
        let finished = run_on(&environment, &data, &arguments);
        if finished.code == Some(0) {
            left = keep;
            break;
        }
        assert_eq!(checkpoint(), before, "{}", finished.stderr);
    }
    assert!(left > 0, "it never had enough");
    fs::remove_file(&filler).unwrap();
    run_on(&environment, &data, &["log", "audit"]).success();
    run_on(&environment, &data, &["check"]).success();
    environment.write("tree/a", "with room");
    run_on(&environment, &data, &arguments).success();
}
