//! Channels of kernels that follow an upstream: each version comes once, and hosts follow the one that is meant.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;

use smart_sync_tests::followed::{CHANNEL, Followed, SUMS, tagged};
use smart_sync_tests::hostile::HostileServer;
use smart_sync_tests::http::get;
use smart_sync_tests::strace::{KILL, points};
use smart_sync_tests::{Finished, Strace, TestEnvironment, kernel_files, program};

/// A realm whose channel follows a server of kernels, and a host that trusts it.
struct Scene<'environment> {
    environment: &'environment TestEnvironment,
    upstream: HostileServer,
    followed: Followed<'environment>,
}

impl<'environment> Scene<'environment> {
    fn new(environment: &'environment TestEnvironment, lines: &str) -> Self {
        let upstream = HostileServer::start(tagged(environment));
        let lines = format!("kind = \"kernels\"\ndigests = \"{SUMS}\"\nallow-unsigned = true\n{lines}");
        let followed = Followed::new(environment, &[upstream.url()], &lines);
        let trust = ["trust", "add", followed.realm.server().url(), "--root", followed.realm.fingerprint()];
        environment.run_client(trust).success();
        Self { environment, upstream, followed }
    }

    /// Puts a version upstream, in the oldest layout.
    fn build(&self, version: &str) {
        kernel_files::old_layout(self.environment, &format!("upstream/{version}"), version);
        self.sum();
    }

    /// Writes the digests of what upstream has.
    fn sum(&self) {
        let upstream = self.environment.path("upstream");
        let mut names = Vec::new();
        for version in fs::read_dir(&upstream).unwrap().map(Result::unwrap) {
            for file in fs::read_dir(version.path()).into_iter().flatten().map(Result::unwrap) {
                let (version, file) = (version.file_name(), file.file_name());
                names.push(format!("{}/{}", version.to_str().unwrap(), file.to_str().unwrap()));
            }
        }
        let mut command = self.environment.command("sha512sum");
        let summed = program::run(command.current_dir(&upstream).args(&names)).success().stdout;
        self.environment.write(&format!("upstream/{SUMS}"), summed);
    }

    fn sync(&self, options: &[&str]) -> Finished {
        self.followed.sync(options)
    }

    fn kernel(&self, arguments: &[&str]) -> Finished {
        self.environment.run_client([&["kernel"], arguments, &["--channel", CHANNEL]].concat())
    }

    /// The versions and their states, the newest first.
    #[track_caller]
    fn listed(&self) -> String {
        let shown = self.kernel(&["list"]).success().stdout;
        let words = shown.lines().map(|line| {
            let mut words = line.split_whitespace();
            format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default())
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// Whether a ref of the channel holds a version.
    fn holds(&self, reference: &str, version: &str) -> bool {
        let url = self.followed.realm.url(&format!("files/{CHANNEL}/{reference}/vmlinuz"));
        let answer = get(self.environment, &url, None);
        answer.status == 200 && answer.body == kernel_files::image(version)
    }

    /// The versions of which something was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        let paths = self.upstream.take_requests().into_iter().map(|request| request.path);
        let mut versions: Vec<String> =
            paths.filter_map(|path| Some(path[1..].split_once('/')?.0.to_owned())).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }
}

#[test]
fn each_version_comes_once_and_hosts_follow_the_one_that_was_made_current() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment, "variants = [\"gentoo\"]\nnewest = 3");
    for version in ["6.9.1-gentoo", "6.10.1-gentoo", "6.12.1-vanilla"] {
        scene.build(version);
    }
    let first = scene.sync(&[]).success();
    let first = first
        .stdout_contains("10 files are new upstream")
        .stdout_contains("6.10.1-gentoo is new, and offered");
    first.stdout_contains("tag:6.9.1-gentoo number 1").stdout_contains("branch:main number 1");
    assert_eq!(scene.listed(), "6.10.1-gentoo offered, 6.9.1-gentoo offered");
    assert_eq!(scene.asked(), ["6.10.1-gentoo", "6.9.1-gentoo"]);

    // Each is had by its version; which one hosts follow is said by a person.
    let target = environment.path("target");
    let pull = |arguments: &[&str]| {
        scene.kernel(&[&["pull", "--target", target.to_str().unwrap()], arguments].concat())
    };
    pull(&["6.10.1-gentoo"]).success();
    assert_eq!(fs::read(target.join("vmlinuz")).unwrap(), kernel_files::image("6.10.1-gentoo"));
    for (path, bytes) in kernel_files::modules("6.10.1-gentoo") {
        assert_eq!(fs::read(target.join(&path)).unwrap(), bytes, "{path}");
    }
    let mut current = environment.client();
    current.args(["kernel", "current", "6.9.1-gentoo", "--channel", CHANNEL, "--key"]);
    current.arg(scene.followed.realm.key("publish"));
    program::run(current.env("SMART_SYNC_TOKEN", scene.followed.realm.token())).success();
    pull(&[]).success();
    assert_eq!(fs::read(target.join("vmlinuz")).unwrap(), kernel_files::image("6.9.1-gentoo"));
    let all = "repos/files has all that upstream has: 10 files";
    scene.sync(&[]).success().stdout_contains(all);
    assert_eq!(scene.asked(), [""; 0]);

    // What is not what its digest says is refused, with the whole version.
    scene.build("6.11.1-gentoo");
    environment.write("upstream/6.11.1-gentoo/vmlinuz", kernel_files::image("6.11.6-gentoo"));
    let refused = scene.sync(&[]).expect_code(7).stderr_contains("6.11.1-gentoo/vmlinuz: ");
    refused.stderr_contains("it is not what it has to be").stderr_contains("nothing was published");
    assert_eq!(scene.listed(), "6.10.1-gentoo offered, 6.9.1-gentoo current");
    assert!(!scene.holds("6.11.1-gentoo", "6.11.1-gentoo"));
    assert_eq!(scene.followed.status()["follow"]["failures"], 1);
    // So is what has the right digest and is no kernel.
    environment.write("upstream/6.11.1-gentoo/vmlinuz", "<html>404 Not Found</html>");
    scene.sum();
    scene.sync(&[]).expect_code(7).stderr_contains("it is no image of a kernel");
    assert!(!scene.holds("6.11.1-gentoo", "6.11.1-gentoo"));
    scene.upstream.take_requests();
    environment.write("upstream/6.11.1-gentoo/vmlinuz", kernel_files::image("6.11.1-gentoo"));
    scene.sum();
    scene.sync(&[]).success().stdout_contains("6.11.1-gentoo is new, and offered");
    assert_eq!(scene.asked(), ["6.11.1-gentoo"]);
    let listed = "6.11.1-gentoo offered, 6.10.1-gentoo offered, 6.9.1-gentoo current";
    assert_eq!(scene.listed(), listed);
    assert!(scene.holds("current", "6.9.1-gentoo"));

    // A version is built once, whatever upstream says of it later.
    environment.write("upstream/6.10.1-gentoo/vmlinuz", kernel_files::image("6.10.7-gentoo"));
    scene.sum();
    let held = scene.sync(&[]).expect_code(7);
    held.stderr_contains(
        "6.10.1-gentoo is published, and upstream has another vmlinuz now; the one here stays",
    );
    assert!(scene.followed.shown().contains("  held since 20"), "{}", scene.followed.shown());
    scene.sync(&["--accept"]).success();
    scene.sync(&[]).success();
    assert!(scene.holds("6.10.1-gentoo", "6.10.1-gentoo"));
    // What upstream has no more stays.
    for version in ["6.9.1-gentoo", "6.11.1-gentoo"] {
        fs::remove_dir_all(environment.path(&format!("upstream/{version}"))).unwrap();
    }
    scene.sum();
    let held = scene.sync(&[]).expect_code(7);
    held.stderr_contains("the newest kernel of upstream was 6.11.1-gentoo, and is 6.10.1-gentoo");
    scene.sync(&["--accept"]).success();
    assert_eq!(scene.listed(), listed);
    scene.followed.realm.run(&environment, &["check"]).success();
}

#[test]
fn a_round_that_is_killed_anywhere_is_completed_by_the_next() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let scene = Scene::new(&environment, "current = \"newest\"");
    for version in ["6.8.1-gentoo", "6.9.1-gentoo"] {
        scene.build(version);
    }
    scene.sync(&[]).success().stdout_contains("6.8.1-gentoo is deprecated, and was current");
    assert_eq!(scene.listed(), "6.9.1-gentoo current, 6.8.1-gentoo deprecated");
    assert!(scene.holds("current", "6.9.1-gentoo"));

    let (mut number, mut kills) = (1, 0);
    let mut next = || {
        number += 1;
        let version = format!("6.9.{number}-gentoo");
        scene.build(&version);
        version
    };
    let command = || {
        let mut command = environment.server();
        command.args(Followed::sync_arguments(&[])).arg("--data").arg(scene.followed.realm.data());
        command
    };
    next();
    for (call, count) in strace.count(&command(), &["fsync", "rename"]) {
        for when in points(count, 5) {
            let version = next();
            let run = strace.run(&command(), &call, &when.to_string(), KILL);
            kills += u32::from(run.code.is_none());
            // Whatever the channel shows is there by itself.
            if scene.listed().contains(&format!("{version} ")) {
                assert!(scene.holds(&version, &version), "{call} {when}");
            }
            scene.sync(&[]).success();
            assert!(
                scene.listed().starts_with(&format!("{version} current, ")),
                "{call} {when}: {}",
                scene.listed()
            );
            for reference in [version.as_str(), "current"] {
                assert!(scene.holds(reference, &version), "{call} {when}: {reference}");
            }
        }
    }
    assert!(kills >= 4, "only {kills} rounds were killed");
    scene.followed.realm.run(&environment, &["log", "audit"]).success();
}
