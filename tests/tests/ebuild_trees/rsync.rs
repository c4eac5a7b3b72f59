//! Stock rsync.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use smart_sync_tests::TestEnvironment;
use smart_sync_tests::noise::noise;
use smart_sync_tests::program::{self, Running};
use smart_sync_tests::proxy::{CountingProxy, Protocol};
use smart_sync_tests::server::{Server, serve};

use crate::scene::{SETTINGS, Scene};

/// Two directories hold the same, times included.
#[track_caller]
fn assert_same(scene: &Scene<'_>, one: &str, other: &str) {
    let (one, other) = (format!("{one}/"), format!("{other}/"));
    let compared = scene.rsync(&["-anic", "--delete", &one, &other]).success();
    assert_eq!(compared.stdout, "", "{one} and {other} differ");
}

#[test]
fn rsync_brings_the_tree_and_then_only_what_changed() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.write("run", "#!/bin/sh\n");
    fs::set_permissions(environment.path("tree/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("profiles/repo_name", environment.path("tree/link")).unwrap();
    scene.publish();
    scene.wait_for_rsync(1);
    let module = scene.module();
    scene
        .rsync(&[&format!("rsync://{}/", scene.rsync_address())])
        .success()
        .stdout_contains("gentoo-portage");
    scene.rsync(&["-a", &module, "host"]).success();
    let compared = scene.rsync(&["-rlpnic", "--delete", "tree/", "host/"]).success();
    assert_eq!(compared.stdout, "", "it is not the tree that was published");
    let before = fs::metadata(environment.path("host/run")).unwrap().mtime();

    scene.write("profiles/repo_name", "namers\n");
    scene.write("app-test/new/new-1.ebuild", "EAPI=8\n");
    fs::remove_dir_all(environment.path("tree/app-test/hello")).unwrap();
    scene.publish();
    scene.wait_for_rsync(2);
    let changed = scene.rsync(&["-ai", "--delete", &module, "host"]).success().stdout;
    let mut files: Vec<_> = changed
        .lines()
        .filter(|line| line.starts_with(">f"))
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    files.sort_unstable();
    assert_eq!(files, ["app-test/new/new-1.ebuild", "profiles/repo_name"], "{changed}");
    assert!(changed.contains("*deleting   app-test/hello/"), "{changed}");
    assert_eq!(fs::metadata(environment.path("host/run")).unwrap().mtime(), before);
    assert_eq!(fs::read_link(environment.path("host/link")).unwrap(), Path::new("profiles/repo_name"));
    assert_eq!(scene.rsync(&["-ai", "--delete", &module, "host"]).success().stdout, "");
    scene.rsync(&["-a", "tree/", &module]).expect_code(1).stderr_contains("read only");

    // Made again from nothing, it is the same to the second.
    let views = scene.realm.data().join("views");
    let scene = scene.restart_after(|| fs::remove_dir_all(&views).unwrap());
    scene.wait_for_rsync(2);
    assert_eq!(scene.rsync(&["-ai", "--delete", &scene.module(), "host"]).success().stdout, "");
}

#[test]
fn a_transfer_that_runs_while_something_is_published_is_of_one_version() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    for number in 0..20 {
        scene.write(&format!("app-test/large/{number:02}"), noise(&number.to_string(), 200_000));
    }
    scene.publish();
    scene.wait_for_rsync(1);
    scene.rsync(&["-a", &scene.module(), "first"]).success();
    let proxy = CountingProxy::start(&scene.rsync_address(), Protocol::Other).expect("a free port");
    proxy.hold_received_after(1_000_000);
    let slow = format!("rsync://{}/gentoo-portage/", proxy.address());
    let mut transfer = Running::start(&mut scene.rsync_command(&["-a", &slow, "held"]));
    while proxy.totals().received < 1_000_000 {
        assert!(transfer.is_alive());
        std::thread::yield_now();
    }
    for number in 0..20 {
        scene.write(&format!("app-test/large/{number:02}"), noise(&format!("new {number}"), 200_000));
    }
    fs::remove_file(environment.path("tree/app-test/large/19")).unwrap();
    scene.publish();
    scene.wait_for_rsync(2);
    proxy.release();
    transfer.wait().success();
    assert_same(&scene, "held", "first");

    // Portage asks for the time of a tree in one connection, and for the tree in another.
    let module = scene.module();
    scene.rsync(&["-a", &format!("{module}metadata/timestamp.chk"), "asked"]).success();
    scene.write("metadata/timestamp.chk", "Mon, 30 Nov 2026 12:00:00 +0000\n");
    scene.publish();
    scene.wait_for_rsync(3);
    scene.rsync(&["-a", "--delete", &module, "first"]).success();
    assert_eq!(scene.rsync(&["-rlpnic", "--delete", "tree/", "first/"]).success().stdout, "");
}

#[test]
fn no_name_leads_out_of_a_tree() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let secret = scene.realm.data().join("keys");
    symlink(&secret, environment.path("tree/absolute")).unwrap();
    symlink("../../../keys", environment.path("tree/relative")).unwrap();
    symlink(secret.join("log.key"), environment.path("tree/file")).unwrap();
    scene.write("odd/ -e sh\n\u{1b}[2J", "odd");
    scene.publish();
    scene.wait_for_rsync(1);
    let module = scene.module();
    scene.rsync(&["-a", &module, "host"]).success();
    assert_eq!(fs::read_link(environment.path("host/absolute")).unwrap(), secret);
    assert_eq!(fs::read_link(environment.path("host/relative")).unwrap(), Path::new("../../../keys"));
    assert_eq!(fs::read_to_string(environment.path("host/odd/ -e sh\n\u{1b}[2J")).unwrap(), "odd");
    for path in ["absolute/log.key", "relative/log.key", "absolute/", "../../../../keys/", "../../log"] {
        let answer = scene.rsync(&["-r", &format!("{module}{path}"), "stolen"]);
        let stolen = environment.path("stolen");
        let is_empty = !stolen.join("log.key").exists() && !stolen.is_file();
        assert!(is_empty, "{path}: {answer:?}");
    }
    for option in ["--copy-links", "--copy-unsafe-links", "--copy-dirlinks"] {
        let refused = scene.rsync(&["-r", option, &module, "stolen"]);
        assert_ne!(refused.code, Some(0), "{option}");
        assert!(!environment.path("stolen/file").exists(), "{option}");
    }
}

#[test]
fn what_was_replaced_goes_after_its_time() {
    let environment = TestEnvironment::new();
    let settings = SETTINGS.replace("[rsync]\n", "[rsync]\ngrace-minutes = 0\n");
    let scene = Scene::with(&environment, &settings, &[]);
    scene.publish();
    scene.wait_for_rsync(1);
    scene.write("profiles/repo_name", "renamed\n");
    scene.publish();
    scene.wait_for_rsync(2);
    let generations = || {
        let mut channel =
            fs::read_dir(scene.realm.data().join("views/rsync")).unwrap().map(|entry| entry.unwrap().path());
        let directory = channel.find(|path| path.is_dir()).expect("a directory for the channel");
        fs::read_dir(directory).unwrap().count()
    };
    while generations() > 1 {
        std::thread::yield_now();
    }
    scene.rsync(&["-a", &scene.module(), "host"]).success();
    assert_eq!(fs::read_to_string(environment.path("host/profiles/repo_name")).unwrap(), "renamed\n");
}

#[test]
fn what_is_private_is_never_given_out() {
    let environment = TestEnvironment::new();
    let data = environment.path("realm");
    smart_sync_tests::server::initialise(&environment, &data, "test.example");
    let path = data.join("server.toml");
    let text = fs::read_to_string(&path).unwrap();
    let text = format!("private = [\"repos/gentoo\"]\n{text}")
        .replace("[rsync.modules]\n", "[rsync.modules]\ngentoo-portage = \"repos/gentoo\"\n");
    fs::write(&path, text).unwrap();
    let refused = program::run(&mut serve(&environment, &data));
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("repos/gentoo is private"), "{}", refused.stderr);
}

#[test]
fn whoever_is_not_root_serves_too() {
    let environment = TestEnvironment::new();
    if !rustix::process::geteuid().is_root() {
        // Every other test here is this one.
        return;
    }
    let scene = Scene::new(&environment);
    symlink(scene.realm.data().join("keys"), environment.path("tree/out")).unwrap();
    scene.publish();
    scene.wait_for_rsync(1);
    let data = scene.realm.end(|server| {
        server.stop();
    });
    // A directory of root's may be closed to others, the programs in it too.
    let server = environment.path("smart-sync-server");
    fs::copy(program::built("smart-sync-server"), &server).unwrap();
    let root = environment.root().display().to_string();
    program::run(environment.command("chown").args(["-R", "nobody", &root])).success();
    let mut command = environment.command("setpriv");
    command.args(["--reuid", "nobody", "--clear-groups", "--inh-caps=-all"]).arg(server);
    let server =
        Server::start(command.arg("serve").arg("--data").arg(&data).args(["--listen", "127.0.0.1:0"]));
    let log = server.log();
    let address = log.split_once("rsync://").unwrap().1.split_whitespace().next().unwrap().to_owned();
    while !server.log().contains("generation=1-") {
        std::thread::yield_now();
    }
    let run = |path: &str| {
        let module = format!("rsync://{address}/gentoo-portage/{path}");
        program::run(environment.command("rsync").args(["-a", &module, "host"]))
    };
    run("").success();
    assert_eq!(fs::read_to_string(environment.path("host/profiles/repo_name")).unwrap(), "gentoo\n");
    assert_ne!(run("out/log.key").code, Some(0));
    assert!(!environment.path("host/log.key").exists());
}
