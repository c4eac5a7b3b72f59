//! Ebuild trees that are published only as far as somebody has signed them.

use std::fs;

use smart_sync_tests::{Finished, Gpg, PublishingHost, TestEnvironment, program};

/// A tree in the directory `tree` of a machine, and who signs it.
struct Scene<'a> {
    host: PublishingHost<'a>,
    gpg: &'a Gpg,
    key: String,
    ring: String,
}

impl<'a> Scene<'a> {
    fn new(environment: &'a TestEnvironment, gpg: &'a Gpg) -> Self {
        let key = gpg.make_key("tree <tree@example.org>", "ed25519", "cert,sign", "never");
        let ring = gpg.export_to(&key, "ring.asc").to_str().expect("a path of text").to_owned();
        environment.write("tree/profiles/repo_name", "gentoo\n");
        environment.write("tree/metadata/timestamp.chk", "now\n");
        environment.write("tree/app-test/thing/thing-1.0.ebuild", "EAPI=8\n");
        Self { host: PublishingHost::new(environment), gpg, key, ring }
    }

    /// What a Manifest says of a file of the tree.
    fn line(&self, tag: &str, path: &str) -> String {
        let environment = self.host.environment;
        let place = format!("tree/{path}");
        let sum = |program: &str| {
            let printed = program::run(environment.command(program).arg(&place)).success().stdout;
            printed.split(' ').next().unwrap_or_default().to_owned()
        };
        let len = fs::metadata(environment.path(&place)).expect("it is there").len();
        format!("{tag} {path} {len} BLAKE2B {} SHA512 {}\n", sum("b2sum"), sum("sha512sum"))
    }

    fn sign(&self, time: &str) {
        let lines = [
            "IGNORE metadata/timestamp.chk\n".to_owned(),
            format!("TIMESTAMP {time}\n"),
            self.line("DATA", "profiles/repo_name"),
            self.line("DATA", "app-test/thing/thing-1.0.ebuild"),
        ];
        let signed = self.gpg.clear_sign(&self.key, &lines.concat());
        self.host.environment.write("tree/Manifest", signed);
    }

    fn publish(&self) -> Finished {
        let arguments = ["tree", "--channel", "repos/gentoo", "--kind", "repo", "--keyring", &self.ring];
        self.host.publish(&arguments)
    }
}

#[test]
fn a_tree_is_published_as_it_was_signed_and_never_becomes_older() {
    let environment = TestEnvironment::new();
    let Some(gpg) = Gpg::new() else { return };
    let scene = Scene::new(&environment, &gpg);
    scene.sign("2026-01-02T00:00:00Z");
    scene
        .publish()
        .success()
        .stdout_contains(&format!("the tree is signed by tree <tree@example.org>, {}", scene.key))
        .stdout_contains("1 file that its Manifests leave to themselves");
    assert_eq!(scene.host.get("repos/gentoo/app-test/thing/thing-1.0.ebuild").expect(200).text(), "EAPI=8\n");

    environment.write("tree/app-test/thing/thing-1.0.ebuild", "EAPI=7\n");
    environment.write("tree/eclass/evil.eclass", "");
    scene
        .publish()
        .expect_code(7)
        .stderr_contains("app-test/thing/thing-1.0.ebuild: it is not what a Manifest says")
        .stderr_contains("eclass/evil.eclass: no Manifest names it");
    assert_eq!(scene.host.get("repos/gentoo/app-test/thing/thing-1.0.ebuild").expect(200).text(), "EAPI=8\n");

    fs::remove_file(environment.path("tree/eclass/evil.eclass")).expect("it is there");
    scene.sign("2026-01-01T00:00:00Z");
    scene
        .publish()
        .expect_code(7)
        .stderr_contains("of 2026-01-01T00:00:00Z, and the one that is published of 2026-01-02T00:00:00Z");
    scene.sign("2026-01-03T00:00:00Z");
    scene.publish().success();
    assert_eq!(scene.host.get("repos/gentoo/app-test/thing/thing-1.0.ebuild").expect(200).text(), "EAPI=7\n");
}
