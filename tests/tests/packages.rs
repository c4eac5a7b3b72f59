//! Looking after an index of binary packages: where they were built, whether they are whole, and which are not needed.

use std::fs;
use std::path::{Path, PathBuf};

use smart_sync_tests::{Finished, Gentoo, PublishingHost, TestEnvironment, program};

const CHANNEL: &str = "repos/binpkgs";
const UNSIGNED: &str = "app-test/hello/hello-1.0-r1-2.gpkg.tar";
const SIGNED: &str = "app-test/hello/hello-1.0-r1-9.gpkg.tar";

/// Packages and an index that Portage has made once, and the key that has signed one of them.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sync/tests/golden/binpkgs").join(name)
}

/// A directory with some of them.
fn directory_of(environment: &TestEnvironment, name: &str, files: &[&str]) -> PathBuf {
    let directory = environment.path(name);
    for file in files {
        let place = directory.join(file);
        fs::create_dir_all(place.parent().expect("it lies in a directory")).expect("a directory can be made");
        fs::copy(golden(file), place).expect("a file can be copied");
    }
    directory
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// A server of binary packages, and a host that may publish to it.
struct Scene<'environment> {
    host: PublishingHost<'environment>,
}

impl<'environment> Scene<'environment> {
    fn new(environment: &'environment TestEnvironment) -> Self {
        Self { host: PublishingHost::new(environment) }
    }

    fn publish(&self, directory: &Path, arguments: &[&str]) -> Finished {
        let mut whole = vec!["--channel", CHANNEL, "--kind", "binpkgs", text(directory)];
        whole.extend(arguments);
        self.host.publish(&whole)
    }

    fn pkg(&self, arguments: &[&str]) -> Finished {
        self.pkg_of(CHANNEL, arguments)
    }

    fn pkg_of(&self, channel: &str, arguments: &[&str]) -> Finished {
        let mut command = self.host.environment.client();
        command.arg("pkg").args(arguments).args(["--channel", channel]);
        command.env("SMART_SYNC_TOKEN", self.host.realm.token());
        program::run(&mut command)
    }

    /// The values of a key, for all packages of the index.
    fn listed(&self, key: &str) -> Vec<String> {
        let index = self.host.get(&format!("{CHANNEL}/Packages")).expect(200).text();
        let prefix = format!("{key}: ");
        index.lines().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned)).collect()
    }
}

#[test]
fn it_is_shown_on_which_machine_a_package_was_built() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let one = directory_of(&environment, "one", &[UNSIGNED]);
    scene.publish(&one, &["--built-on", "host=builder1,kernel=6.18.3-gentoo"]).success();
    scene
        .pkg(&["show", "app-test/hello"])
        .success()
        .stdout_contains("  built on   builder1, kernel 6.18.3-gentoo\n");

    // A machine says of itself what the kernel says of it, and nothing of what others have published.
    let both = directory_of(&environment, "both", &[UNSIGNED, SIGNED]);
    scene.publish(&both, &["--built-on"]).success();
    let this = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).expect("it says so");
    let shown = scene.pkg(&["list", "--json"]).success().stdout;
    let shown: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(shown[0]["built_on"], serde_json::json!({"host": "builder1", "kernel": "6.18.3-gentoo"}));
    let expected = serde_json::json!({"host": this("hostname").trim(), "kernel": this("osrelease").trim()});
    assert_eq!(shown[1]["built_on"], expected);

    let refused = scene.publish(&both, &["--built-on", "host=a b"]).expect_code(4);
    refused.stderr_contains("is not host=NAME,kernel=VERSION");
    let of_tree = ["--channel", "repos/tree", "--built-on", "host=a", text(&both)];
    scene.host.publish(&of_tree).expect_code(4).stderr_contains("--built-on means nothing for");
}

#[test]
fn all_refused_packages_are_named_each_in_a_line() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let directory = directory_of(&environment, "packages", &[UNSIGNED]);
    for name in ["one.gpkg.tar", "two.gpkg.tar"] {
        environment.write(&format!("packages/{name}"), "no package");
    }
    let refused = scene.publish(&directory, &[]).expect_code(7);
    let lines: Vec<&str> = refused.stderr.lines().filter(|line| line.contains("because: ")).collect();
    assert!(lines.len() == 2 && lines[0].contains("one") && lines[1].contains("two"), "{refused:?}");
    let refused =
        scene.host.realm.publish_local(&environment, CHANNEL, "main", &directory, &["--kind", "binpkgs"]);
    let lines: Vec<&str> = refused.stderr.lines().filter(|line| line.contains("because: ")).collect();
    assert!(refused.code == Some(7) && lines.len() == 2, "{refused:?}");
}

#[test]
fn packages_are_compared_with_what_their_index_says() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let directory = directory_of(&environment, "packages", &[UNSIGNED, SIGNED]);
    scene.publish(&directory, &[]).success();
    scene
        .pkg(&["verify"])
        .success()
        .stdout_contains("2 packages were verified, and all is what the index says");
    let signer = golden("signer.asc");
    let verified = scene.pkg(&["verify", "--keyring", text(&signer)]).expect_code(7);
    assert_eq!(verified.stdout, format!("{UNSIGNED}: it is not signed\n"), "{verified:?}");
    scene.pkg(&["verify", "--keyring", text(&signer), "--allow-unsigned"]).success();
    scene.pkg(&["verify", "app-test/planet"]).expect_code(1);

    // A tree that somebody has copied together from elsewhere, whose index is Portage's own.
    let copied = directory_of(
        &environment,
        "copied",
        &[UNSIGNED, SIGNED, "app-test/hello/hello-1.0-r1-8.xpak", "Packages"],
    );
    let publish = || scene.host.publish(&["--channel", "repos/copied", text(&copied)]).success();
    program::run(environment.command("gzip").args(["--keep"]).arg(copied.join("Packages"))).success();
    publish();
    scene.pkg_of("repos/copied", &["verify"]).success();
    let sound = fs::read(copied.join(UNSIGNED)).expect("it was copied");
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    fs::write(copied.join(UNSIGNED), &flipped).expect("a file can be written");
    fs::remove_file(copied.join("app-test/hello/hello-1.0-r1-8.xpak")).expect("it was copied");
    let index = fs::read(copied.join("Packages")).expect("it was copied");
    fs::write(copied.join("Packages"), [&index[..index.len() - 10], b"elsewhere\n\n"].concat())
        .expect("a file can be written");
    publish();
    let verified = scene.pkg_of("repos/copied", &["verify", "--json"]).expect_code(7);
    let events = verified.stdout.lines().map(|line| serde_json::from_str(line).expect("an object"));
    let events: Vec<serde_json::Value> = events.collect();
    let faults = |path: &str| {
        let event =
            events.iter().find(|event| event["path"] == path).unwrap_or_else(|| panic!("{path}: {events:?}"));
        event["faults"].as_array().expect("a list").clone()
    };
    assert_eq!(faults("Packages.gz"), ["it is another index than Packages"]);
    assert!(!faults(UNSIGNED).is_empty());
    assert_eq!(faults("app-test/hello/hello-1.0-r1-8.xpak"), ["it is not published"]);
    assert!(faults(SIGNED).is_empty());

    fs::write(copied.join("Packages"), &index[..index.len() / 2]).expect("a file can be written");
    publish();
    scene.pkg_of("repos/copied", &["verify"]).expect_code(7).stderr_contains("it is cut short");
}

#[test]
fn a_byte_that_the_server_has_flipped_is_found() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let directory = directory_of(&environment, "packages", &[UNSIGNED]);
    scene.publish(&directory, &[]).success();
    scene.publish(&directory_of(&environment, "more", &[SIGNED]), &[]).success();
    let packs = scene.host.realm.data().join("store/packs/public");
    let mut packs: Vec<PathBuf> = fs::read_dir(packs)
        .expect("there are packs")
        .map(|entry| entry.expect("it is there").path())
        .collect();
    packs.sort_by_key(|path| fs::metadata(path).expect("it is there").modified().expect("it has a time"));
    // The first pack holds the first package, and hardly anything else.
    let mut bytes = fs::read(&packs[0]).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&packs[0], &bytes).expect("a file can be written");
    let verified = scene.pkg(&["verify"]).expect_code(7);
    assert!(verified.stdout.contains(&format!("{UNSIGNED}: ")), "{verified:?}");
    assert!(!verified.stdout.contains(&format!("{SIGNED}: ")), "{verified:?}");
}

#[test]
fn what_is_not_needed_is_taken_out_of_the_index_and_stays_for_whoever_knows_it() {
    let environment = TestEnvironment::new();
    let Some(builder) = Gentoo::new(&environment, "builder") else { return };
    let Some(late) = Gentoo::new(&environment, "late") else { return };
    let Some(host) = Gentoo::new(&environment, "host") else { return };
    let scene = Scene::new(&environment);
    builder.ebuild("hello", "1.0", ">=app-test/planet-1.0", "first");
    builder.ebuild("planet", "1.0", "", "a planet");
    builder.ebuild("lonely", "1.0", "", "nobody needs it");
    builder.build(&["app-test/hello", "app-test/planet", "app-test/lonely"]);
    builder.ebuild("hello", "1.0", ">=app-test/planet-1.0", "second");
    builder.build(&["app-test/hello"]);
    scene.publish(&builder.packages(), &[]).success();
    assert_eq!(scene.listed("PACKAGES"), ["4"]);
    let url = scene.host.realm.url(CHANNEL);
    late.follow(&url);
    late.emerge(&["--quiet", "--getbinpkgonly", "--pretend", "app-test/lonely"]).success();

    let planned = scene.pkg(&["redundant"]).success();
    assert!(planned.stdout.starts_with("app-test/hello-1.0 build 1 "), "{planned:?}");
    planned.stdout_contains("1 of 4 packages are not needed").stdout_contains("nothing was changed");
    environment.write("world", "# what hosts have\napp-test/hello\n");
    let needed = ["redundant", "--needed", "world"];
    let planned = scene.pkg(&[&needed[..], &["--json"]].concat()).success().stdout;
    let planned: Vec<serde_json::Value> =
        planned.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let reason_of = |event: &serde_json::Value| {
        Some((event["cpv"].as_str()?.to_owned(), event["reason"].as_str()?.to_owned()))
    };
    let reasons: Vec<_> = planned.iter().filter_map(reason_of).collect();
    let expected = [("app-test/hello-1.0", "older_build"), ("app-test/lonely-1.0", "unreached")];
    assert_eq!(reasons, expected.map(|(cpv, reason)| (cpv.to_owned(), reason.to_owned())));
    assert_eq!(scene.listed("PACKAGES"), ["4"], "nothing was told to go");

    // What lists cannot say, and what they must not.
    scene.pkg(&[&needed[..], &["--yes"]].concat()).expect_code(4).stderr_contains("--key");
    environment.write("other", "app-test/unknown\n");
    scene.pkg(&["redundant", "--needed", "other"]).expect_code(4).stderr_contains("all of it would go");
    environment.write("sets", "@world\n");
    scene.pkg(&["redundant", "--needed", "sets"]).expect_code(4).stderr_contains("only Portage knows");

    let key = scene.host.realm.key("publish");
    let taken = scene.pkg(&[&needed[..], &["--yes", "--key", text(&key)]].concat()).success();
    taken.stdout_contains("the index has 2 packages").stdout_contains("is published as number 2");
    assert_eq!(scene.listed("CPV"), ["app-test/hello-1.0", "app-test/planet-1.0"]);
    assert_eq!(scene.listed("BUILD_ID"), ["2", "1"]);
    scene.pkg(&["verify"]).success();
    scene.pkg(&needed).success().stdout_contains("0 of 2 packages are not needed");

    host.follow(&url);
    host.emerge(&["--quiet", "--getbinpkgonly", "app-test/hello"]).success();
    assert_eq!(host.installed("hello").as_deref(), Some("second\n"));
    let gone = host.emerge(&["--quiet", "--getbinpkgonly", "app-test/lonely"]);
    assert!(gone.code != Some(0) && host.installed("lonely").is_none(), "{gone:?}");
    // One that has the index from before does not ask for a newer one.
    let settings = late.path("etc/portage/binrepos.conf");
    let frozen = fs::read_to_string(&settings).expect("it was written") + "frozen = true\n";
    fs::write(&settings, frozen).expect("a file can be written");
    late.emerge(&["--quiet", "--getbinpkgonly", "app-test/lonely"]).success();
    assert_eq!(late.installed("lonely").as_deref(), Some("nobody needs it\n"));

    // The build host still has what was taken out, and does not bring it back.
    let again = scene.publish(&builder.packages(), &[]).success();
    again
        .stdout_contains("2 packages left out: taken out of the index before")
        .stdout_contains("is that tree already");
}
