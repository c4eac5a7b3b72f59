//! `--source`: following a repository behind GitHub's REST API with the real client, on a server that imitates it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use smart_sync_tests::github::{Asked, reply};
use smart_sync_tests::{Finished, GithubServer, Snapshot, TestEnvironment, program};

/// A host that follows a repository.
struct Scene {
    environment: TestEnvironment,
    server: GithubServer,
}

impl Scene {
    fn new(server: GithubServer) -> Self {
        Self { environment: TestEnvironment::new(), server }
    }

    fn with_files() -> Self {
        Self::new(GithubServer::start(|tree| {
            fs::create_dir_all(tree.join("d/e")).expect("making a directory");
            for path in ["kept", "changed", "deleted", "d/kept", "d/e/deleted", "mode"] {
                fs::write(tree.join(path), format!("content of {path}\n")).expect("writing a file");
            }
            symlink("kept", tree.join("link")).expect("making a link");
            commit(tree);
        }))
    }

    fn target(&self) -> PathBuf {
        self.environment.path("host")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.client();
        command.args(["--source", &self.server.url("/repos/o/r"), "--target"]).arg(self.target());
        command.args(arguments).env("GITHUB_TOKEN", "ghp_secret");
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        program::run(&mut self.command(arguments))
    }

    /// Fails the test unless the target is what git has.
    #[track_caller]
    fn assert_synced(&self) {
        let expected = self.environment.path("checkout");
        // The first time there is none.
        let _ = fs::remove_dir_all(&expected);
        let mut clone = self.environment.command("git");
        clone.args(["clone", "--quiet"]).arg(self.server.work_tree()).arg(&expected);
        program::run(&mut clone).success();
        Snapshot::as_git(&expected).assert_same(&Snapshot::as_git(&self.target()));
    }

    /// The contents that were asked for since the last time.
    fn take_downloads(&self) -> Vec<String> {
        let asked = self.server.take_asked().into_iter().map(|asked| asked.path);
        asked.filter(|path| path.contains("/git/blobs/") || path.contains("/raw/")).collect()
    }
}

fn commit(tree: &std::path::Path) {
    smart_sync_tests::github::git(tree, &["add", "-A"]);
    smart_sync_tests::github::git(tree, &["commit", "-q", "-m", "one"]);
}

fn is_api(asked: &Asked) -> bool {
    asked.path.starts_with("/repos/")
}

#[test]
fn a_first_sync_is_the_tree_as_git_has_it() {
    let scene = Scene::new(GithubServer::with_everything());
    let done = scene.run(&[]).success();
    assert!(done.stdout.contains("is applied"), "{}", done.stdout);
    scene.assert_synced();
    let again = scene.run(&[]).success();
    assert!(again.stdout.contains("is up to date"), "{}", again.stdout);
}

#[test]
fn an_update_downloads_only_what_changed() {
    let scene = Scene::with_files();
    scene.run(&[]).success();
    scene.assert_synced();
    scene.take_downloads();

    let tree = scene.server.work_tree().to_owned();
    fs::write(tree.join("changed"), "another content\n").unwrap();
    fs::write(tree.join("made"), "made\n").unwrap();
    fs::write(tree.join("copy"), "content of kept\n").unwrap();
    fs::remove_file(tree.join("deleted")).unwrap();
    fs::remove_dir_all(tree.join("d/e")).unwrap();
    fs::set_permissions(tree.join("mode"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(tree.join("link")).unwrap();
    symlink("d", tree.join("link")).unwrap();
    let commit = scene.server.commit("two");

    scene.run(&["--check-only"]).expect_code(10);
    let shown = scene.run(&["--dry-run"]).success().stdout;
    assert!(shown.contains("changed") && shown.contains("nothing was changed"), "{shown}");
    assert_eq!(scene.take_downloads(), Vec::<String>::new(), "looking downloads nothing");
    let done = scene.run(&[]).success();
    assert!(done.stdout.contains(&commit), "{}", done.stdout);
    scene.assert_synced();
    let downloads = scene.take_downloads();
    // Two contents, and where a link points is a content too.
    assert_eq!(downloads.len(), 3, "{downloads:?}");
    scene.run(&["--check-only"]).success();
    let told = scene.run(&["--json"]).success().stdout;
    let told: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    let seen = [&told["event"], &told["channel"], &told["ref"], &told["commit"]];
    assert_eq!(seen, ["applied", "", "main", &commit]);
    assert_eq!(told["changes"], 0);
}

#[test]
fn nothing_new_is_one_request_that_is_answered_with_304() {
    let scene = Scene::with_files();
    scene.run(&[]).success();
    scene.server.take_asked();
    scene.run(&[]).success();
    let asked = scene.server.take_asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].headers.contains_key("if-none-match"), "{asked:?}");
}

#[test]
fn local_changes_are_undone_from_the_same_commit_and_excluded_paths_are_left_alone() {
    let scene = Scene::with_files();
    scene.run(&[]).success();
    let target = scene.target();
    fs::write(target.join("kept"), "edited here\n").unwrap();
    fs::remove_file(target.join("d/kept")).unwrap();
    fs::create_dir(target.join("var")).unwrap();
    fs::write(target.join("var/mine"), "mine\n").unwrap();
    scene.run(&[]).success().stderr_contains("kept");
    assert_eq!(fs::read_to_string(target.join("var/mine")).unwrap(), "mine\n");
    fs::remove_dir_all(target.join("var")).unwrap();
    scene.assert_synced();

    // A path of the host stays the host's, even if it is published.
    fs::create_dir(scene.server.work_tree().join("var")).unwrap();
    fs::write(scene.server.work_tree().join("var/published"), "published\n").unwrap();
    scene.server.commit("two");
    scene.run(&[]).success().stderr_contains("covered by the exclusions");
    assert!(!target.join("var").exists());
}

#[test]
fn a_truncated_listing_is_completed_and_one_that_cannot_be_is_fetched_with_git() {
    let scene = Scene::new(GithubServer::with_everything());
    scene.server.set_listing_rows_max(12);
    scene.run(&[]).success();
    scene.assert_synced();
    let listings = scene.server.take_asked().into_iter().filter(|asked| asked.path.contains("/git/trees/"));
    assert!(listings.count() > 1);

    let scene = Scene::new(GithubServer::with_everything());
    scene.server.set_listing_rows_max(2);
    scene.run(&[]).success().stderr_contains("fetching with git instead of the API");
    scene.assert_synced();
}

/// A limit that ends in an hour.
fn used_up(seconds: u64) -> Option<smart_sync_tests::github::Reply> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_secs();
    let reset = (now + seconds).to_string();
    reply(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset)], "{\"message\":\"limit\"}")
}

#[test]
fn a_rate_limit_is_reported_with_the_time_it_ends_where_git_does_not_help() {
    let scene = Scene::with_files();
    scene.server.set_fault(|asked| if is_api(asked) { used_up(3600) } else { reply(404, &[], "") });
    let refused = scene.run(&[]).expect_code(5);
    assert!(refused.stderr.contains("the rate limit of 127.0.0.1"), "{}", refused.stderr);
    assert!(refused.stderr.contains("is used up until 20"), "{}", refused.stderr);
    assert!(!scene.target().exists());

    // Git has no such limit.
    scene.server.set_fault(|asked| if is_api(asked) { used_up(3600) } else { None });
    scene.run(&[]).success().stderr_contains("fetching with git instead of the API: the rate limit");
    scene.assert_synced();
}

#[test]
fn without_git_a_source_that_needs_it_says_so() {
    let scene = Scene::with_files();
    scene.server.set_fault(|asked| if is_api(asked) { used_up(3600) } else { None });
    let mut command = scene.command(&[]);
    let refused = program::run(command.env("PATH", scene.environment.path("nothing"))).expect_code(2);
    assert!(refused.stderr.contains("`git`"), "{}", refused.stderr);
    assert!(refused.stderr.contains("apt-get install git"), "{}", refused.stderr);
}

#[test]
fn the_token_goes_to_the_api_alone() {
    let scene = Scene::with_files();
    let elsewhere = GithubServer::start(|tree| {
        for path in ["kept", "changed", "deleted", "d/kept", "d/e/deleted", "mode"] {
            let path_there = tree.join(path);
            fs::create_dir_all(path_there.parent().expect("below the tree")).unwrap();
            fs::write(path_there, format!("content of {path}\n")).unwrap();
        }
        symlink("kept", tree.join("link")).unwrap();
        commit(tree);
    });
    let there = elsewhere.url("");
    scene.server.set_fault(move |asked| {
        let location = format!("{there}{}", asked.path);
        if asked.path.contains("/blobs/") { reply(302, &[("location", &location)], "") } else { None }
    });
    let done = scene.run(&["--verbose"]).success();
    scene.assert_synced();
    assert!(scene.server.asked().iter().all(|asked| asked.headers["authorization"] == "Bearer ghp_secret"));
    assert!(!elsewhere.asked().is_empty());
    assert!(elsewhere.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
    assert!(!format!("{}{}", done.stdout, done.stderr).contains("ghp_secret"));
}

#[test]
fn a_content_that_is_not_the_one_named_is_refused_and_nothing_changes() {
    let scene = Scene::with_files();
    scene.run(&[]).success();
    let before = Snapshot::of(&scene.target());
    fs::write(scene.server.work_tree().join("changed"), "another content\n").unwrap();
    scene.server.commit("two");
    scene.server.set_fault(|asked| {
        if asked.path.contains("/blobs/") { reply(200, &[], "something else\n") } else { None }
    });
    let refused = scene.run(&[]).expect_code(7);
    assert!(refused.stderr.contains("`changed` is not blob"), "{}", refused.stderr);
    assert!(refused.stderr.contains("nothing of it was used"), "{}", refused.stderr);
    before.assert_same(&Snapshot::of(&scene.target()));
    scene.server.clear_fault();
    scene.run(&[]).success();
    scene.assert_synced();
}

#[test]
fn a_ref_is_a_branch_a_tag_or_a_commit_and_another_is_not_there() {
    let scene = Scene::with_files();
    let first = scene.server.git(&["rev-parse", "HEAD"]);
    scene.server.git(&["tag", "v1"]);
    fs::write(scene.server.work_tree().join("changed"), "another content\n").unwrap();
    scene.server.commit("two");
    for (reference, expected) in
        [("v1", "content of changed\n"), ("main", "another content\n"), (&first, "content of changed\n")]
    {
        scene.run(&["--ref", reference]).success();
        assert_eq!(fs::read_to_string(scene.target().join("changed")).unwrap(), expected, "{reference}");
    }
    let absent = scene.run(&["--ref", "v2"]).expect_code(1);
    assert!(absent.stderr.contains("has no branch, tag or commit `v2`"), "{}", absent.stderr);
    let dated = scene.run(&["--ref", "main@2026-11-01"]).expect_code(4);
    assert!(dated.stderr.contains("git does not record"), "{}", dated.stderr);
}

#[test]
fn a_token_that_is_refused_or_that_others_can_read_is_named() {
    let scene = Scene::with_files();
    scene.server.set_fault(|_| reply(401, &[], "{\"message\":\"Bad credentials\"}"));
    let refused = scene.run(&[]).expect_code(3);
    assert!(refused.stderr.contains("have a new one made"), "{}", refused.stderr);
    scene.server.clear_fault();

    let token = scene.environment.write("home/.config/github/token", "ghp_secret\n");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = scene.command(&[]);
    let refused = program::run(command.env_remove("GITHUB_TOKEN")).expect_code(3);
    assert!(refused.stderr.contains("chmod 600"), "{}", refused.stderr);
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    scene.server.take_asked();
    let mut command = scene.command(&[]);
    program::run(command.env_remove("GITHUB_TOKEN")).success();
    assert!(scene.server.asked().iter().all(|asked| asked.headers["authorization"] == "Bearer ghp_secret"));
}

#[test]
fn a_server_that_is_away_is_a_network_error() {
    let scene = Scene::with_files();
    scene.run(&[]).success();
    let before = Snapshot::of(&scene.target());
    let Scene { environment, server } = scene;
    let address = server.url("/repos/o/r");
    drop(server);
    let mut command = environment.client();
    command.args(["--source", &address, "--target"]).arg(environment.path("host"));
    let refused = program::run(&mut command).expect_code(5);
    assert!(refused.stderr.contains("is the network up"), "{}", refused.stderr);
    before.assert_same(&Snapshot::of(&environment.path("host")));
}
