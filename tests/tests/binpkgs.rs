//! Binary packages: built by stock Portage, published with an index of our own, and installed by stock Portage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use smart_sync_tests::http::Answer;
use smart_sync_tests::{Finished, Gentoo, PublishingHost, TestEnvironment, program};

/// A server of binary packages, and a host that may publish to it.
struct Scene<'environment> {
    host: PublishingHost<'environment>,
}

impl<'environment> Scene<'environment> {
    fn new(environment: &'environment TestEnvironment) -> Self {
        Self { host: PublishingHost::new(environment) }
    }

    fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = self.host.command(&["--channel", "repos/binpkgs", "--kind", "binpkgs"]);
        command.arg(directory).args(arguments);
        command
    }

    fn publish(&self, directory: &Path, arguments: &[&str]) -> Finished {
        program::run(&mut self.command(directory, arguments))
    }

    fn pkg(&self, arguments: &[&str]) -> Finished {
        let mut command = self.host.environment.client();
        command.arg("pkg").args(arguments).args(["--channel", "repos/binpkgs"]);
        program::run(&mut command)
    }

    fn url(&self) -> String {
        self.host.realm.url("repos/binpkgs")
    }

    fn get(&self, path: &str) -> Answer {
        self.host.get(&format!("repos/binpkgs/{path}"))
    }

    /// The values of a key, for all packages of the index.
    fn listed(&self, key: &str) -> Vec<String> {
        let index = self.get("Packages").expect(200).text();
        let prefix = format!("{key}: ");
        index.lines().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
    }
}

fn packages_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory can be read").flatten() {
        if entry.path().is_dir() {
            found.extend(packages_in(&entry.path()));
        } else if entry.path().to_string_lossy().ends_with(".gpkg.tar") {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[test]
fn portage_installs_a_package_and_what_it_needs() {
    let environment = TestEnvironment::new();
    let Some(builder) = Gentoo::new(&environment, "builder") else { return };
    let Some(host) = Gentoo::new(&environment, "host") else { return };
    let scene = Scene::new(&environment);
    builder.ebuild("planet", "1.0", "", "a planet");
    builder.ebuild("hello", "1.0", ">=app-test/planet-1.0", "hello");
    builder.build(&["app-test/hello", "app-test/planet"]);
    let published = scene.publish(&builder.packages(), &[]).success();
    assert!(published.stdout.contains("the index has 2 packages, 2 of them new"), "{published:?}");

    // What the client compares: the time in the index, and the one that HTTP says.
    let index = scene.get("Packages.gz").expect(200);
    assert_eq!(index.header("content-encoding"), "");
    let plain = scene.get("Packages").expect(200);
    let timestamp: u64 = scene.listed("TIMESTAMP")[0].parse().expect("a number");
    let date =
        program::run(environment.command("date").args(["-u", "-d", plain.header("last-modified"), "+%s"]));
    assert_eq!(date.success().stdout.trim(), timestamp.to_string());

    host.follow(&scene.url());
    host.emerge(&["--quiet", "--getbinpkgonly", "app-test/hello"]).success();
    assert_eq!(host.installed("hello").as_deref(), Some("hello\n"));
    assert_eq!(host.installed("planet").as_deref(), Some("a planet\n"));

    // Nothing is published again where nothing has changed.
    let again = scene.publish(&builder.packages(), &[]).success();
    assert!(again.stdout.contains("is that tree already"), "{again:?}");

    // A newer version among them is seen by a client that has the older index.
    builder.ebuild("hello", "2.0", ">=app-test/planet-1.0", "hello again");
    builder.build(&["=app-test/hello-2.0"]);
    scene.publish(&builder.packages(), &[]).success();
    let later: u64 = scene.listed("TIMESTAMP")[0].parse().expect("a number");
    assert!(later >= timestamp + 6, "{later} {timestamp}");
    // What the index was is still there, as of any moment before the newer one.
    let then =
        program::run(environment.command("date").args(["-u", "-d", &format!("@{}", later - 1), "+%FT%TZ"]));
    let at = format!("at/{}/repos/binpkgs/Packages", then.success().stdout.trim());
    let answer = scene.host.get(&at).expect(200);
    assert_eq!(answer.body, plain.body);
    for nothing in
        ["at/1999-12-31/repos/binpkgs/Packages", "at/tomorrow/repos/binpkgs/Packages", "at/2026-11-01"]
    {
        assert_eq!(scene.host.get(nothing).status, 404, "{nothing}");
    }
    host.emerge(&["--quiet", "--getbinpkgonly", "--update", "app-test/hello"]).success();
    assert_eq!(host.installed("hello").as_deref(), Some("hello again\n"));
}

#[test]
fn who_has_an_older_index_can_fetch_all_that_it_names() {
    let environment = TestEnvironment::new();
    let Some(builder) = Gentoo::new(&environment, "builder") else { return };
    let scene = Scene::new(&environment);
    builder.ebuild("hello", "1.0", "", "first");
    builder.build(&["app-test/hello"]);
    let package = packages_in(&builder.packages()).remove(0);
    let first = fs::read(&package).unwrap();
    scene.publish(&builder.packages(), &[]).success();
    let path = scene.listed("PATH").remove(0);

    // The same build is made again, under the same name.
    fs::remove_dir_all(builder.packages()).unwrap();
    fs::create_dir_all(builder.packages()).unwrap();
    builder.ebuild("hello", "1.0", "", "second");
    builder.build(&["app-test/hello"]);
    let second = fs::read(&package).unwrap();
    assert_ne!(first, second);
    scene.publish(&builder.packages(), &[]).success();
    let beside = scene.listed("PATH").remove(0);
    assert_ne!(beside, path);
    assert_eq!(scene.get(&path).expect(200).body, first);
    assert_eq!(scene.get(&beside).expect(200).body, second);
    let again = scene.publish(&builder.packages(), &[]).success();
    assert!(again.stdout.contains("is that tree already"), "{again:?}");

    let Some(host) = Gentoo::new(&environment, "host") else { return };
    host.follow(&scene.url());
    host.emerge(&["--quiet", "--getbinpkgonly", "--nodeps", "app-test/hello"]).success();
    assert_eq!(host.installed("hello").as_deref(), Some("second\n"));
}

#[test]
fn two_build_hosts_publish_at_once() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let mut builders = Vec::new();
    for name in ["alpha", "beta"] {
        let Some(builder) = Gentoo::new(&environment, name) else { return };
        builder.ebuild(name, "1.0", "", name);
        builder.build(&[&format!("app-test/{name}")]);
        builders.push(builder);
    }
    let running: Vec<_> = (builders.iter())
        .map(|builder| {
            let mut command = scene.command(&builder.packages(), &[]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client starts")
        })
        .collect();
    for run in running {
        let ended = run.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    assert_eq!(scene.listed("CPV"), ["app-test/alpha-1.0", "app-test/beta-1.0"]);
    for path in scene.listed("PATH") {
        scene.get(&path).expect(200);
    }

    // One that is all there is to be takes the other's out of the index, and leaves the file.
    let path = scene.listed("PATH").remove(1);
    scene.publish(&builders[0].packages(), &["--replace"]).success();
    assert_eq!(scene.listed("CPV"), ["app-test/alpha-1.0"]);
    scene.get(&path).expect(200);
}

#[test]
fn packages_that_are_not_sound_keep_all_from_being_published() {
    let environment = TestEnvironment::new();
    let Some(builder) = Gentoo::new(&environment, "builder") else { return };
    let scene = Scene::new(&environment);
    builder.ebuild("hello", "1.0", "", "hello");
    builder.ebuild("planet", "1.0", "", "a planet");
    builder.build(&["app-test/hello"]);
    scene.publish(&builder.packages(), &[]).success();
    let sound = packages_in(&builder.packages()).remove(0);
    builder.build(&["app-test/planet"]);
    let broken = packages_in(&builder.packages()).remove(1);
    let mut bytes = fs::read(&broken).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&broken, &bytes).unwrap();
    fs::write(sound.with_file_name("cut-1.0.gpkg.tar"), &fs::read(&sound).unwrap()[..4000]).unwrap();
    let refused = scene.publish(&builder.packages(), &[]);
    assert_eq!(refused.code, Some(7), "{refused:?}");
    assert!(refused.stderr.contains("planet-1.0") && refused.stderr.contains("cut-1.0"), "{refused:?}");
    assert!(!refused.stderr.contains("hello-1.0-1"), "{refused:?}");
    assert_eq!(scene.listed("CPV"), ["app-test/hello-1.0"]);
}

#[test]
fn it_is_shown_what_an_index_has_and_what_has_to_be_built() {
    let environment = TestEnvironment::new();
    let Some(builder) = Gentoo::new(&environment, "builder") else { return };
    let Some(host) = Gentoo::new(&environment, "host") else { return };
    let scene = Scene::new(&environment);
    builder.ebuild("hello", "1.9", "sys-libs/planet", "hello");
    builder.ebuild("hello", "1.10", "", "hello, hello");
    builder.ebuild("planet", "1.0", "", "a planet");
    builder.build(&["=app-test/hello-1.9", "=app-test/hello-1.10"]);
    scene.publish(&builder.packages(), &[]).success();

    let listed = scene.pkg(&["list"]).success().stdout;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["app-test/hello-1.10", "app-test/hello-1.9"]);
    let listed = scene.pkg(&["list", ">=app-test/hello-1.10", "--json"]).success().stdout;
    let event: serde_json::Value = serde_json::from_str(listed.trim()).expect("one event");
    assert_eq!((&event["cpv"], &event["build_id"]), (&"app-test/hello-1.10".into(), &1.into()));
    let shown = scene.pkg(&["show", "=app-test/hello-1.9"]).success().stdout;
    assert!(shown.contains("rdepend    sys-libs/planet\n"), "{shown}");
    let nothing = scene.pkg(&["show", "app-test/planet"]);
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.stderr.contains("the index has no app-test/planet"), "{nothing:?}");
    assert_eq!(scene.pkg(&["show", "no atom"]).code, Some(4));

    let differing = scene.pkg(&["diff", "=app-test/hello-1.9", "app-test/hello"]).success().stdout;
    assert!(differing.starts_with("changed  ") && differing.lines().count() == 1, "{differing}");
    assert!(differing.ends_with("usr/share/hello/text (13 bytes)\n"), "{differing}");

    // What a host has installed, and what it would install, as the real programs say it.
    host.follow(&scene.url());
    host.emerge(&["--quiet", "--getbinpkgonly", "--nodeps", "=app-test/hello-1.9"]).success();
    let database = host.path("var/db/pkg");
    let database = database.to_str().expect("it is text");
    let missing = scene.pkg(&["missing", "--installed", database]).success().stdout;
    assert!(missing.contains("0 of 1 package has to be built"), "{missing}");
    let pretended =
        builder.emerge(&["--pretend", "--verbose", "--nodeps", "app-test/hello", "app-test/planet"]);
    environment.write("pretended", pretended.success().stdout);
    let missing = scene.pkg(&["missing", "--pretend", "pretended"]).success().stdout;
    assert!(missing.contains("1 of 2 packages have to be built"), "{missing}");
    assert!(missing.contains("app-test/planet-1.0") && missing.contains("is not in the index"), "{missing}");
    assert_eq!(scene.pkg(&["missing", "--pretend", "/dev/null"]).code, Some(4));
}
