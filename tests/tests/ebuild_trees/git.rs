//! Stock git.

use std::fs;

use smart_sync_tests::TestEnvironment;
use smart_sync_tests::http::get;
use smart_sync_tests::noise::noise;
use smart_sync_tests::program::{self, Running};
use smart_sync_tests::proxy::{CountingProxy, Protocol};
use smart_sync_tests::server::{Server, create_token, serve};

use crate::scene::Scene;

#[test]
fn git_clones_fetches_and_cannot_push() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.publish();
    let url = scene.repository("repos/gentoo");
    scene.git(&["ls-remote", &url]).success().stdout_contains("refs/heads/main");
    scene.git(&["clone", "--quiet", &url, "whole"]).success();
    scene.git(&["-c", "protocol.version=0", "clone", "--quiet", "--depth", "1", &url, "shallow"]).success();
    for clone in ["whole", "shallow"] {
        let name = environment.path(&format!("{clone}/profiles/repo_name"));
        assert_eq!(fs::read_to_string(name).unwrap(), "gentoo\n");
    }

    scene.write("app-test/hello/hello-2.ebuild", "EAPI=8\n# newer\n");
    fs::remove_file(environment.path("tree/app-test/hello/hello-1.ebuild")).unwrap();
    scene.publish();
    scene.git(&["-C", "whole", "pull", "--quiet", "--ff-only"]).success();
    scene.git(&["-C", "shallow", "fetch", "--quiet", "--depth", "1"]).success();
    scene.git(&["-C", "shallow", "reset", "--quiet", "--hard", "origin/main"]).success();
    for clone in ["whole", "shallow"] {
        scene.git(&["-C", clone, "fsck", "--strict"]).success();
        let ebuilds = fs::read_dir(environment.path(&format!("{clone}/app-test/hello"))).unwrap();
        let names: Vec<_> = ebuilds.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["hello-2.ebuild"]);
    }
    let log = scene.git(&["-C", "whole", "log", "--format=%an %s"]).success().stdout;
    assert_eq!(log, "test.example repos/gentoo 2\ntest.example repos/gentoo 1\n");

    scene
        .git(&["-C", "whole", "push", &url, "main"])
        .expect_code(128)
        .stderr_contains("nothing is pushed here");
    for path in ["HEAD", "objects/info/packs", "config", "info/refs", "../../log/checkpoint"] {
        let answer = get(&environment, &format!("{url}/{path}"), None);
        assert!([403, 404].contains(&answer.status), "{path}: {}", answer.status);
    }
}

#[test]
fn a_tree_of_git_has_the_id_that_it_had_and_the_repository_is_a_cache() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let source = environment.repository("source");
    source.write("a/b/c", "deep");
    source.write("a.b", "beside");
    source.write("run", "#!/bin/sh\n");
    source.git(["add", "--all", "--chmod=+x", "run"]);
    std::os::unix::fs::symlink("a/b", source.directory().join("link")).unwrap();
    source.commit("first");
    let publish = |revision: &str| {
        let options = ["--git", revision];
        scene
            .realm
            .publish_local(&environment, "repos/gentoo", "main", source.directory(), &options)
            .success();
        scene.git(&["ls-remote", &scene.repository("repos/gentoo")]).success().stdout
    };
    publish("HEAD");
    source.write("a/b/c", "deeper");
    source.commit("second");
    let refs = publish("HEAD");
    scene.git(&["clone", "--quiet", &scene.repository("repos/gentoo"), "clone"]).success();
    for revision in ["HEAD", "HEAD~1"] {
        let tree = scene.git(&["-C", "clone", "rev-parse", &format!("{revision}^{{tree}}")]).success().stdout;
        assert_eq!(tree.trim(), source.git(["rev-parse", &format!("{revision}^{{tree}}")]), "{revision}");
    }

    // Without it, it is made again, with the same commits.
    let views = scene.realm.data().join("views");
    let scene = scene.restart_after(|| fs::remove_dir_all(&views).unwrap());
    assert_eq!(scene.git(&["ls-remote", &scene.repository("repos/gentoo")]).success().stdout, refs);
}

#[test]
fn a_clone_that_runs_while_something_is_published_is_of_one_version() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.write("app-test/large", noise("large", 2_000_000));
    scene.publish();
    let before = scene.git(&["ls-remote", &scene.repository("repos/gentoo")]).success().stdout;
    let proxy = CountingProxy::start(scene.realm.server().address(), Protocol::Http).expect("a free port");
    proxy.hold_received_after(200_000);
    let url = format!("{}/git/repos/gentoo", proxy.url());
    let mut clone = Running::start(environment.command("git").args(["clone", "--quiet", &url, "clone"]));
    while proxy.totals().received < 200_000 {
        assert!(clone.is_alive());
        std::thread::yield_now();
    }
    scene.write("app-test/large", noise("larger", 2_000_000));
    scene.publish();
    let after = scene.git(&["ls-remote", &scene.repository("repos/gentoo")]).success().stdout;
    assert_ne!(before, after);
    proxy.release();
    clone.wait().success();
    let head = scene.git(&["-C", "clone", "rev-parse", "HEAD"]).success().stdout;
    assert!(before.starts_with(head.trim()), "{before} {head}");
    scene.git(&["-C", "clone", "fsck", "--strict"]).success();
    scene.git(&["-C", "clone", "pull", "--quiet", "--ff-only"]).success();
}

#[test]
fn a_damaged_repository_is_made_anew() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.publish();
    let url = scene.repository("repos/gentoo");
    let refs = scene.git(&["ls-remote", &url]).success().stdout;
    // Git may be packing it, out of what is still whole.
    while !scene.realm.server().log().contains("a repository was packed") {
        std::thread::yield_now();
    }
    for pack in packs(&scene) {
        fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0);
        fs::write(&pack, bytes).unwrap();
    }
    // The first who meets it is told to come again, and those who come later find it whole.
    let mut tries = 0;
    while scene.git(&["clone", "--quiet", &url, &format!("clone-{tries}")]).code != Some(0) {
        tries += 1;
    }
    assert!(tries > 0 && scene.realm.server().log().contains("a repository is damaged, and is made anew"));
    assert_eq!(scene.git(&["ls-remote", &url]).success().stdout, refs);
    scene.git(&["-C", &format!("clone-{tries}"), "fsck", "--strict"]).success();

    // What is found when something is published is repaired then.
    for pack in packs(&scene) {
        fs::remove_file(pack).unwrap();
    }
    scene.write("profiles/repo_name", "renamed\n");
    scene.publish();
    scene.git(&["clone", "--quiet", &url, "again"]).success();
    assert_eq!(fs::read_to_string(environment.path("again/profiles/repo_name")).unwrap(), "renamed\n");
    assert_eq!(scene.git(&["-C", "again", "rev-list", "--count", "HEAD"]).success().stdout, "2\n");
}

fn packs(scene: &Scene<'_>) -> Vec<std::path::PathBuf> {
    let mut repositories = list(&scene.realm.data().join("views/git"));
    let packs = list(&repositories.remove(0).join("objects/pack"));
    packs.into_iter().filter(|path| path.extension().is_some_and(|end| end == "pack")).collect()
}

fn list(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory that is there can be read");
    entries.map(|entry| entry.expect("it can be read").path()).collect()
}

#[test]
fn a_private_channel_needs_its_token() {
    let environment = TestEnvironment::new();
    let settings = "private = [\"repos/secret\"]\n[git]\nchannels = [\"repos/gentoo\", \"repos/secret\"]\n";
    let scene = Scene::with(&environment, settings, &[]);
    scene.publish_to("repos/gentoo");
    scene.write("profiles/repo_name", "secret\n");
    scene.publish_to("repos/secret");
    scene.git(&["ls-remote", &scene.repository("repos/gentoo")]).success();
    // What is private is not told from what is not there.
    let status = |channel: &str, token: Option<&str>| {
        let url = format!("{}/info/refs?service=git-upload-pack", scene.repository(channel));
        get(&environment, &url, token).status
    };
    assert_eq!([status("repos/secret", None), status("repos/none", None)], [401; 2]);
    let other = create_token(&environment, scene.realm.data(), "read", "repos/none");
    assert_eq!([status("repos/secret", Some(&other)), status("repos/none", Some(&other))], [404; 2]);
    scene.git(&["clone", "--quiet", &scene.repository("repos/secret"), "refused"]).expect_code(128);
    scene.git(&["clone", "--quiet", &scene.repository_with_token("repos/secret"), "secret"]).success();
    assert_eq!(fs::read_to_string(environment.path("secret/profiles/repo_name")).unwrap(), "secret\n");
}

#[test]
fn only_the_newest_publications_stay_commits() {
    let environment = TestEnvironment::new();
    let scene = Scene::with(&environment, "[git]\nchannels = [\"repos/gentoo\"]\ncommits = 3\n", &[]);
    let url = scene.repository("repos/gentoo");
    scene.publish();
    scene.git(&["clone", "--quiet", &url, "follower"]).success();
    for number in 2..=9 {
        scene.write("profiles/repo_name", format!("{number}\n"));
        scene.publish();
        // Whoever follows with the whole history keeps it.
        scene.git(&["-C", "follower", "pull", "--quiet", "--ff-only"]).success();
    }
    let count = |clone: &str| -> u32 {
        scene.git(&["-C", clone, "rev-list", "--count", "HEAD"]).success().stdout.trim().parse().unwrap()
    };
    assert_eq!(count("follower"), 9);
    scene.git(&["clone", "--quiet", &url, "late"]).success();
    assert!((3..=9).contains(&count("late")), "{}", count("late"));
    scene.git(&["-C", "late", "fsck", "--strict"]).success();

    // What was before them is dropped when no request can have begun before it was left out.
    let repository = list(&scene.realm.data().join("views/git")).remove(0);
    let first = scene.git(&["-C", "follower", "rev-list", "--max-parents=0", "HEAD"]).success().stdout;
    let has_first = || {
        let mut asked = environment.command("git");
        asked.arg("--git-dir").arg(&repository).args(["cat-file", "-e", first.trim()]);
        program::run(&mut asked).code == Some(0)
    };
    assert!(has_first());
    while !repository.join("shallow").exists() {
        std::thread::yield_now();
    }
    let mut touch = environment.command("touch");
    program::run(touch.args(["-d", "1980-01-01"]).arg(repository.join("shallow"))).success();
    scene.write("profiles/repo_name", "last\n");
    scene.publish();
    while has_first() {
        std::thread::yield_now();
    }
    scene.git(&["-C", "follower", "pull", "--quiet", "--ff-only"]).success();
    scene.git(&["clone", "--quiet", &url, "later"]).success();
    for clone in ["follower", "later"] {
        scene.git(&["-C", clone, "fsck", "--strict"]).success();
    }
}

#[test]
fn a_channel_that_was_withdrawn_is_gone_and_can_come_back() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let url = scene.repository("repos/gentoo");
    scene.git(&["ls-remote", &url]).expect_code(128).stderr_contains("not found");
    scene.publish();
    scene.git(&["ls-remote", &url]).success();
    let withdrawn = ["trust", "add", scene.realm.server().url(), "--root", scene.realm.fingerprint()];
    environment.run_client(withdrawn).success();
    let mut withdraw = environment.client();
    withdraw
        .args(["publish", "--withdraw", "--ref", "main", "--channel", "repos/gentoo", "--key"])
        .arg(scene.realm.key("publish"));
    program::run(withdraw.env("SMART_SYNC_TOKEN", scene.realm.token())).success();
    scene.git(&["ls-remote", &url]).expect_code(128).stderr_contains("not found");
    scene.publish();
    scene.git(&["clone", "--quiet", &url, "clone"]).success();
    assert_eq!(scene.git(&["-C", "clone", "rev-list", "--count", "HEAD"]).success().stdout, "1\n");
}

#[test]
fn a_tree_that_git_cannot_hold_is_passed_over() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let url = scene.repository("repos/gentoo");
    scene.publish();
    let first = scene.git(&["ls-remote", &url]).success().stdout;
    let options = ["--system", "--exclude", ""];
    scene.realm.publish_local(&environment, "repos/gentoo", "main", &scene.tree(), &options).success();
    assert_eq!(scene.git(&["ls-remote", &url]).success().stdout, first);
    assert!(scene.realm.server().log().contains("the tree keeps owners and times"));
    scene.wait_for_rsync(1);
    scene.rsync(&["-a", &scene.module(), "host"]).success();
    scene.write("profiles/repo_name", "renamed\n");
    scene.publish();
    scene.git(&["clone", "--quiet", &url, "clone"]).success();
    let log = scene.git(&["-C", "clone", "log", "--format=%s"]).success().stdout;
    assert_eq!(log, "repos/gentoo 3\nrepos/gentoo 1\n");
    scene.wait_for_rsync(3);
    scene.rsync(&["-a", &scene.module(), "host"]).success();
    assert_eq!(scene.rsync(&["-rlpnic", "--delete", "tree/", "host/"]).success().stdout, "");
}

#[test]
fn without_git_everything_else_is_served() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.publish();
    scene.git(&["ls-remote", &scene.repository("repos/gentoo")]).success();
    let data = scene.realm.end(|server| {
        server.stop();
    });
    let nothing = environment.path("nothing");
    fs::create_dir_all(&nothing).unwrap();
    let server = Server::start(serve(&environment, &data).env("PATH", &nothing));
    assert!(server.log().contains("git is not installed"), "{}", server.log());
    let url = format!("{}/git/repos/gentoo/info/refs?service=git-upload-pack", server.url());
    assert_eq!(get(&environment, &url, None).status, 503);
    let url = format!("{}/repos/gentoo/profiles/repo_name", server.url());
    assert_eq!(get(&environment, &url, None).expect(200).text(), "gentoo\n");
}
