//! Following a channel: the whole path with the real programs, and what it costs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use smart_sync_sync::trust::TrustState;
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::{CountingProxy, Finished, Realm, Repository, Snapshot, TestEnvironment, program};

const CHANNEL: &str = "repos/tree";

/// A realm with a git repository, a host that trusts it, and a proxy that counts between them.
struct Scene<'environment> {
    environment: &'environment TestEnvironment,
    realm: Realm,
    repository: Repository<'environment>,
    proxy: CountingProxy,
    target: PathBuf,
}

impl<'environment> Scene<'environment> {
    fn new(environment: &'environment TestEnvironment) -> Self {
        let realm = Realm::start(environment, "realm");
        trust(environment, &realm);
        let proxy = CountingProxy::start(realm.server().address(), Protocol::Http).expect("a free port");
        let repository = environment.repository("repository");
        Self { environment, realm, repository, proxy, target: environment.path("host") }
    }

    fn publish(&self, message: &str) {
        self.repository.commit(message);
        let source = self.repository.directory();
        self.realm.publish_local(self.environment, CHANNEL, "main", source, &["--git", "HEAD"]).success();
    }

    fn sync_with(&self, arguments: &[&str]) -> Finished {
        let mut command = self.environment.client();
        command.args(["--server", &self.proxy.url(), "--channel", CHANNEL, "--target"]);
        command.arg(&self.target).args(arguments);
        program::run(&mut command)
    }

    #[track_caller]
    fn sync(&self) -> Finished {
        self.sync_with(&[]).success()
    }

    #[track_caller]
    fn assert_synced(&self) {
        Snapshot::as_git(self.repository.directory()).assert_same(&Snapshot::as_git(&self.target));
    }

    fn state(&self) -> Vec<PathBuf> {
        let targets = self.environment.state_directory().join("targets");
        fs::read_dir(targets)
            .expect("a target was synced")
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }
}

/// Pins the realm's first root document, as `trust add` does after it has shown the server's.
fn trust(environment: &TestEnvironment, realm: &Realm) {
    let pin = realm.fingerprint().parse().expect("init prints a fingerprint");
    let state = TrustState::pinned(Realm::ORIGIN.parse().expect("an origin"), pin);
    let path = format!("trust/{}/state", Realm::ORIGIN);
    let path = environment.state_directory().join(path);
    for directory in path.ancestors().skip(1).take(3).collect::<Vec<_>>().into_iter().rev() {
        fs::create_dir_all(directory).expect("making the state directory");
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .expect("closing the state directory");
    }
    fs::write(&path, state.to_text()).expect("writing the trust state");
}

/// A thousand files in fifty directories, with what git trees have in them.
fn fill(repository: &Repository<'_>) {
    for directory in 0..50 {
        for file in 0..20 {
            let text = format!("file {file} of directory {directory}\n").repeat(1 + file * 7);
            repository.write(&format!("d{directory:02}/file{file:02}.txt"), text);
        }
    }
    let script = repository.write("bin/run", "#!/bin/sh\n");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("chmod");
    symlink("../d00/file00.txt", repository.directory().join("bin/link")).expect("symlink");
    repository.write("odd/a b?#%|[x]\\\n.txt", "names are bytes\n");
    repository.write("big.bin", noise(3_000_000));
}

/// Bytes without a pattern.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn an_update_moves_only_what_changed() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    fill(&scene.repository);
    scene.publish("first");
    scene.sync();
    scene.assert_synced();

    scene.proxy.take_totals();
    scene.sync();
    let nothing_new = scene.proxy.take_totals();
    assert_eq!(nothing_new.requests, 1, "{nothing_new:?}");
    assert!(nothing_new.sent < 1024 && nothing_new.received < 1024, "{nothing_new:?}");

    for file in 0..5 {
        scene.repository.write(&format!("d{:02}/file03.txt", file * 9), format!("changed {file}\n"));
    }
    scene.publish("five files");
    scene.sync();
    scene.assert_synced();
    let update = scene.proxy.take_totals();
    assert_eq!(update.requests, 2, "{update:?}");
    assert!(update.bytes() <= 4 * 1024, "{update:?}");
}

#[test]
fn every_kind_of_change_is_applied_exactly() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    fill(&scene.repository);
    scene.publish("first");
    scene.sync();

    let root = scene.repository.directory().to_owned();
    fs::remove_dir_all(root.join("d01")).expect("removing a directory");
    fs::remove_file(root.join("d02/file00.txt")).expect("removing a file");
    fs::rename(root.join("d03"), root.join("moved")).expect("renaming a directory");
    fs::remove_file(root.join("d04/file01.txt")).expect("removing a file");
    scene.repository.write("d04/file01.txt/now-a-directory", "x\n");
    fs::remove_dir_all(root.join("d05")).expect("removing a directory");
    symlink("d06", root.join("d05")).expect("symlink");
    fs::set_permissions(root.join("d07/file00.txt"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut big = noise(3_000_000);
    big.splice(1_000_000..1_000_000, *b"an insertion in the middle");
    scene.repository.write("big.bin", &big);
    scene.publish("every kind of change");
    scene.proxy.take_totals();
    scene.sync();
    scene.assert_synced();
    // An insertion costs the chunks around it, which have at most 128 KiB each.
    let update = scene.proxy.take_totals();
    assert!(update.bytes() <= 300 * 1024, "{update:?}");
}

#[test]
fn a_large_file_that_only_loses_or_reorders_bytes_is_made_of_its_former_self() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let big = noise(6_000_000);
    scene.repository.write("big.bin", &big);
    scene.publish("first");
    scene.sync();

    for (what, bytes) in [
        ("turned around", [&big[3_000_000..], &big[..3_000_000]].concat()),
        ("cut short", big[..5_000_000].to_vec()),
        ("twice the same", [&big[..2_500_000], &big[..2_500_000]].concat()),
    ] {
        scene.repository.write("big.bin", &bytes);
        scene.publish(what);
        scene.proxy.take_totals();
        scene.sync();
        scene.assert_synced();
        // Where it was cut two chunks are missing at most, and each comes with its frame.
        let update = scene.proxy.take_totals();
        assert!(update.bytes() <= 600 * 1024, "{what}: {update:?}");
    }
}

#[test]
fn local_changes_are_kept_and_what_belongs_to_the_host_is_left_alone() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.repository.write("tracked.txt", "published\n");
    scene.repository.write("gone.txt", "published\n");
    scene.publish("first");
    scene.sync();

    fs::write(scene.target.join("tracked.txt"), "edited here\n").expect("editing");
    fs::remove_file(scene.target.join("gone.txt")).expect("removing");
    fs::write(scene.target.join("mine.txt"), "mine\n").expect("adding");
    fs::create_dir(scene.target.join("var")).expect("making an excluded directory");
    fs::write(scene.target.join("var/data"), "data\n").expect("adding");

    program::run(environment.client().args(["verify", "--target"]).arg(&scene.target)).expect_code(11);
    scene.sync().stderr_contains("tracked.txt");
    assert_eq!(fs::read_to_string(scene.target.join("tracked.txt")).expect("reading"), "published\n");
    assert_eq!(fs::read_to_string(scene.target.join("gone.txt")).expect("reading"), "published\n");
    assert_eq!(fs::read_to_string(scene.target.join("mine.txt")).expect("reading"), "mine\n");
    assert_eq!(fs::read_to_string(scene.target.join("var/data")).expect("reading"), "data\n");
    program::run(environment.client().args(["verify", "--full", "--target"]).arg(&scene.target)).success();

    let backups = scene.state()[0].join("backups");
    let kept: Vec<_> = fs::read_dir(&backups)
        .expect("backups were made")
        .map(|stamp| stamp.expect("an entry").path().join("tracked.txt"))
        .map(|path| fs::read_to_string(path).expect("reading the backup"))
        .collect();
    assert_eq!(kept, ["edited here\n"]);
}

#[test]
fn asking_changes_nothing() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.repository.write("file.txt", "one\n");
    scene.publish("first");
    scene.sync();
    scene.sync_with(&["--check-only"]).success();

    scene.repository.write("file.txt", "two\n");
    scene.publish("second");
    let before = Snapshot::of(&scene.target);
    scene.sync_with(&["--check-only"]).expect_code(10);
    let shown = scene.sync_with(&["--dry-run"]).success();
    assert!(shown.stdout.contains("replace  file.txt"), "{}", shown.stdout);
    before.assert_same(&Snapshot::of(&scene.target));
    scene.sync_with(&["--check-only"]).expect_code(10);
    scene.sync();
    scene.assert_synced();
}

#[test]
fn a_target_that_is_not_there_can_be_looked_at() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.repository.write("file.txt", "one\n");
    scene.publish("first");
    assert!(!scene.target.exists());
    scene.sync_with(&["--check-only"]).expect_code(10);
    let shown = scene.sync_with(&["--dry-run"]).success();
    assert!(shown.stdout.contains("file.txt"), "{}", shown.stdout);
    assert!(!scene.target.exists(), "looking makes nothing");
    scene.sync();
    scene.assert_synced();
}

#[test]
fn a_ref_may_be_a_branch_a_tag_a_commit_or_a_day() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.repository.write("file.txt", "one\n");
    scene.publish("first");
    let source = scene.repository.directory().to_owned();
    scene.realm.publish_local(&environment, CHANNEL, "tag:v1", &source, &["--git", "HEAD"]).success();
    let commit = format!("commit:{}", scene.repository.head());
    scene.realm.publish_local(&environment, CHANNEL, &commit, &source, &["--git", "HEAD"]).success();
    scene.repository.write("file.txt", "two\n");
    scene.publish("second");

    let read = || fs::read_to_string(scene.target.join("file.txt")).expect("reading");
    for (reference, expected) in [
        ("main", "two\n"),
        ("v1", "one\n"),
        ("branch:main", "two\n"),
        (&commit, "one\n"),
        ("main@2100-01-01", "two\n"),
        ("tag:v1", "one\n"),
    ] {
        scene.sync_with(&["--ref", reference]).success();
        assert_eq!(read(), expected, "{reference}");
    }
    scene.sync_with(&["--ref", "main@2020-01-01"]).expect_code(1);
    scene.sync_with(&["--ref", "v2"]).expect_code(1);
    assert_eq!(read(), "one\n");
}

#[test]
fn without_trust_or_without_a_server_nothing_is_touched() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.repository.write("file.txt", "one\n");
    scene.publish("first");
    scene.sync();
    let before = Snapshot::of(&scene.target);

    let stranger = TestEnvironment::new();
    let mut command = stranger.client();
    command
        .args(["--server", &scene.proxy.url(), "--channel", CHANNEL, "--target"])
        .arg(stranger.path("host"));
    program::run(&mut command).expect_code(7).stderr_contains("trust add");

    scene.repository.write("file.txt", "two\n");
    scene.publish("second");
    let Scene { realm, proxy, target, environment, .. } = scene;
    let data = realm.end(|server| {
        server.stop();
    });
    let mut command = environment.client();
    command.args(["--server", &proxy.url(), "--channel", CHANNEL, "--target"]).arg(&target);
    program::run(&mut command).expect_code(5);
    before.assert_same(&Snapshot::of(&target));
    assert!(data.exists());
}

/// Kills the client again and again, each time a little later, and completes the update at the end.
#[test]
fn a_run_that_is_killed_at_any_time_is_completed_or_undone() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    fill(&scene.repository);
    scene.publish("first");
    scene.sync();
    let old = Snapshot::as_git(&scene.target);

    for directory in 0..50 {
        scene.repository.write(&format!("d{directory:02}/file05.txt"), format!("changed {directory}\n"));
        scene.repository.write(&format!("new{directory:02}/file.txt"), "new\n");
    }
    fs::remove_dir_all(scene.repository.directory().join("d10")).expect("removing a directory");
    scene.publish("second");
    let new = Snapshot::as_git(scene.repository.directory());

    for round in 0..12u32 {
        let mut command = environment.client();
        command.args(["--server", &scene.proxy.url(), "--channel", CHANNEL, "--target"]).arg(&scene.target);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starting the client");
        wait_for_work(child.id(), round * 6);
        child.kill().expect("killing the client");
        child.wait().expect("waiting for the client");
        recover_is_old_or_new(&scene, &old, &new);
    }
    scene.sync();
    scene.assert_synced();
    assert!(!scene.target.join(".smart-sync-stage").exists(), "the stage was left behind");
}

/// Whatever the kill left, the next run that may not reach the server leaves the old or the new tree.
fn recover_is_old_or_new(scene: &Scene<'_>, old: &Snapshot, new: &Snapshot) {
    let mut command = scene.environment.client();
    command.args(["status", "--target"]).arg(&scene.target);
    program::run(&mut command).success();
    let found = without_stage(&scene.target);
    assert!(
        found == *old || found == *new,
        "neither the old nor the new tree:\n{}",
        found.differences(new).join("\n")
    );
}

fn without_stage(target: &Path) -> Snapshot {
    let stage = target.join(".smart-sync-stage");
    let parked = target.with_extension("stage");
    let is_there = fs::rename(&stage, &parked).is_ok();
    let snapshot = Snapshot::as_git(target);
    if is_there {
        fs::rename(&parked, &stage).expect("putting the stage back");
    }
    snapshot
}

/// Waits until a process has made this many system calls that read or write, or has ended: progress, not time.
fn wait_for_work(process: u32, calls: u32) {
    let count = || -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
        let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        Some(of("syscr:")? + of("syscw:")?)
    };
    while count().is_some_and(|done| done < u64::from(calls) * 20) {
        std::thread::yield_now();
        // A process that has ended is a zombie until it is waited for: its counters stand still.
        let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) {
            return;
        }
    }
}

#[test]
fn a_program_is_told_what_a_target_holds_after_a_sync() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let applied = |finished: Finished| {
        let finished = finished.success();
        let events = finished
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("every line is an event"));
        let mut events: Vec<_> = events.filter(|event| event["event"] == "applied").collect();
        assert!(events.len() <= 1, "{events:?}");
        events.pop()
    };
    scene.repository.write("a", "content of a\n");
    scene.repository.write("b", "content of b\n");
    scene.publish("first");
    let first = applied(scene.sync_with(&["--json"])).expect("a first sync applies something");
    let commit = scene.repository.git(["rev-parse", "HEAD"]);
    let seen = [&first["origin"], &first["channel"], &first["ref"], &first["commit"], &first["target"]];
    let target = scene.target.to_str().expect("paths of the tests are text");
    assert_eq!(seen, [Realm::ORIGIN, CHANNEL, "branch:main", commit.trim(), target]);
    assert_eq!((&first["seq"], &first["changes"]), (&1.into(), &2.into()));
    assert!(first["received"].as_u64() > Some(0) && first["requests"].as_u64() > Some(1), "{first}");

    let again = applied(scene.sync_with(&["--json"])).expect("what is up to date holds something");
    assert_eq!((&again["changes"], &again["requests"]), (&0.into(), &1.into()));
    for member in ["manifest", "seq", "applied"] {
        assert_eq!(again[member], first[member], "{member}");
    }

    scene.repository.write("a", "changed\n");
    scene.publish("second");
    assert_eq!(applied(scene.sync_with(&["--json", "--dry-run"])), None);
    let second = applied(scene.sync_with(&["--json"])).expect("an update applies something");
    assert_eq!((&second["seq"], &second["changes"]), (&2.into(), &1.into()));
    assert_ne!(second["manifest"], first["manifest"]);
}
