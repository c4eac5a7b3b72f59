//! Release media: published as far as they are signed, and brought and verified by programs that know nothing of this one.

use std::fs;
use std::path::Path;

use smart_sync_tests::http::{Answer, curl};
use smart_sync_tests::releases::{AREA, FIRST, NAME, Releases, SECOND};
use smart_sync_tests::{Finished, PublishingHost, TestEnvironment, program};

const CHANNEL: &str = "repos/releases";
/// A mirror's directory `releases`, and a server.
struct Scene<'environment> {
    host: PublishingHost<'environment>,
    releases: Releases<'environment>,
}

impl<'environment> Scene<'environment> {
    /// None where there is no GnuPG.
    fn new(environment: &'environment TestEnvironment) -> Option<Self> {
        let releases = Releases::new(environment)?;
        Some(Self { host: PublishingHost::new(environment), releases })
    }

    fn publish(&self, arguments: &[&str]) -> Finished {
        let mut command = self.host.command(&["releases", "--channel", CHANNEL, "--kind", "stages"]);
        program::run(command.arg("--keyring").arg(&self.releases.ring).args(arguments))
    }

    /// Fails unless nothing is published now, for this reason, and the tree is served as it was.
    #[track_caller]
    fn check_refused(&self, path: &str, reason: &str) {
        let served = || self.get(&format!("latest-{NAME}.txt")).expect(200).body;
        let before = served();
        let refused = self.publish(&[]).expect_code(7);
        let said = format!("{AREA}/{path}: {reason}");
        assert!(refused.stderr.contains(&said), "{said}: {refused:?}");
        assert_eq!(served(), before);
    }

    /// A file below the architecture, as it is served.
    fn get(&self, path: &str) -> Answer {
        self.host.get(&format!("{CHANNEL}/{AREA}/{path}"))
    }

    /// Brings a file to an empty directory as `wget` does.
    fn bring(&self, path: &str, into: &Path) {
        let name = path.rsplit('/').next().unwrap_or(path);
        fs::write(into.join(name), self.get(path).expect(200).body).expect("the directory is there");
    }
}

#[test]
fn a_stage_is_found_by_its_text_and_verified_by_stock_programs() {
    let environment = TestEnvironment::new();
    let Some(scene) = Scene::new(&environment) else { return };
    let stage = b"what a machine is installed from".repeat(1000);
    scene.releases.build(FIRST.0, &stage);
    scene.releases.name(FIRST, stage.len());
    let published = scene.publish(&[]).success().stdout_contains("the tree has 1 build of 1 medium");
    published.stdout_contains("release media are signed by releases <r@example.org>, ");

    // As the handbook does it: the text, the file that it names, and what says that it is the right one.
    let text = scene.get(&format!("latest-{NAME}.txt")).expect(200).text();
    let line = text.lines().find(|line| line.contains(".tar.xz ")).expect("it names a file");
    let (path, size) = line.split_once(' ').expect("and says its size");
    let into = environment.path("brought");
    fs::create_dir_all(&into).expect("a directory can be made");
    for end in ["", ".DIGESTS", ".asc", ".sha256"] {
        scene.bring(&format!("{path}{end}"), &into);
    }
    let file = path.rsplit('/').next().expect("a path has a name");
    assert_eq!(fs::read(into.join(file)).expect("it came").len().to_string(), size);
    let digests = fs::read_to_string(into.join(format!("{file}.DIGESTS"))).expect("it came");
    let lines = digests.lines().skip_while(|line| *line != "# SHA512 HASH").skip(1);
    let sum = lines.take(1).collect::<String>() + "\n";
    fs::write(into.join("sums"), sum).expect("the directory is there");
    let mut check = environment.command("sha512sum");
    program::run(check.args(["--check", "sums"]).current_dir(&into)).success();
    let place = |end: &str| into.join(format!("{file}{end}")).to_str().expect("paths are text").to_owned();
    scene.releases.gpg.run(&["--verify", &place(".asc"), &place("")], b"");
    scene.releases.gpg.run(&["--verify", &place(".DIGESTS")], b"");

    // An interrupted transfer goes on, and the newest is there under a name that does not change.
    let url = scene.host.realm.url(&format!("{CHANNEL}/{AREA}/current-{NAME}/{file}"));
    let rest = curl(&environment, &url, ["--range", "31000-"]).expect(206);
    assert_eq!(rest.body, stage[31_000..]);
    scene.host.assert_sound();
}

#[test]
fn a_release_that_is_wrong_or_older_is_refused_and_the_last_one_stays() {
    let environment = TestEnvironment::new();
    let Some(scene) = Scene::new(&environment) else { return };
    scene.releases.build(FIRST.0, b"the first stage");
    scene.releases.name(FIRST, 15);
    scene.releases.build(SECOND.0, b"the second stage");
    scene.releases.name(SECOND, 16);
    scene.publish(&[]).success().stdout_contains("the tree has 2 builds of 1 medium");

    let other = scene.releases.gpg.make_key("other", "ed25519", "cert,sign", "never");
    let (third, text) = ("20260124T170312Z", format!("latest-{NAME}.txt"));
    let stage = format!("{third}/{NAME}-{third}.tar.xz");
    let place = format!("{AREA}/{stage}");
    scene.releases.build(third, b"the third stage");
    scene.releases.write(&format!("{place}.asc"), scene.releases.gpg.sign(&other, b"the third stage"));
    scene.check_refused(&stage, "it is signed by");
    scene.releases.build(third, b"the third stage");
    scene.releases.write(&place, "the thief's stage");
    scene.check_refused(&stage, "it is not what the file with its digests says");
    scene.releases.build(third, b"the third stage");

    let good = fs::read_to_string(scene.releases.path(&format!("{AREA}/{text}"))).expect("it was written");
    scene.releases.write(&format!("{AREA}/{text}"), good.replace("today", "Sunday"));
    scene.check_refused(&text, "the signature of");
    scene.releases.name(FIRST, 15);
    scene.check_refused(
        &text,
        "it is of 2026-01-11T00:00:00Z, and the one that is published is of 2026-01-18T",
    );

    scene.releases.name((third, 1_769_299_200), 15);
    let newest = scene.publish(&["--newest", "1"]).success();
    newest.stdout_contains("2 builds are left out: 1 is kept of each");
    assert_eq!(scene.get(&format!("{}/{NAME}-{}.tar.xz", FIRST.0, FIRST.0)).status, 404);
    scene.get(&stage).expect(200);
    scene.get(&format!("current-{NAME}/{NAME}-{third}.tar.xz")).expect(200);
}

#[test]
fn how_many_versions_stay_is_asked_of_kinds_that_keep_them() {
    let environment = TestEnvironment::new();
    let host = PublishingHost::new(&environment);
    environment.write("site/index.html", "a page");
    let refused = host.publish(&["site", "--channel", "repos/site", "--newest", "3"]).expect_code(4);
    assert!(refused.stderr.contains("--newest means nothing for a tree without a kind"), "{refused:?}");
    let refused = host.publish(&["site", "--channel", "repos/site", "--newest", "0"]).expect_code(4);
    assert!(refused.stderr.contains("a number from 1 on"), "{refused:?}");
}
