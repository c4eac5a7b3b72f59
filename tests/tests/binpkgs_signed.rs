//! Binary packages that are signed: which are published, and what stock Portage makes of those that are signed here.

use std::fs;
use std::path::{Path, PathBuf};

use smart_sync_tests::{Finished, Gentoo, Gpg, PublishingHost, TestEnvironment, program};

/// A host that may publish, and the package that it has built.
struct Scene<'environment> {
    host: PublishingHost<'environment>,
    builder: Gentoo<'environment>,
    gpg: Gpg,
}

impl<'environment> Scene<'environment> {
    fn new(environment: &'environment TestEnvironment) -> Option<Self> {
        let gpg = Gpg::new()?;
        let builder = Gentoo::new(environment, "builder")?;
        builder.ebuild("hello", "1.0", "", "hello");
        builder.build(&["app-test/hello"]);
        Some(Self { host: PublishingHost::new(environment), builder, gpg })
    }

    fn publish(&self, directory: &Path, arguments: &[&str]) -> Finished {
        let mut whole = vec!["--channel", "repos/binpkgs", "--kind", "binpkgs", path_text(directory)];
        whole.extend(arguments);
        self.host.publish(&whole)
    }

    /// A key that does not end; its secret half and its public one.
    fn key(&self, name: &str) -> (String, PathBuf, PathBuf) {
        let key = self.gpg.make_key(&format!("{name} <{name}@example.org>"), "ed25519", "cert,sign", "never");
        let secret = self.gpg.write(&format!("{name}.secret"), &self.gpg.export_secret(&key));
        let public = self.gpg.export_to(&key, &format!("{name}.asc"));
        (key, secret, public)
    }

    fn index(&self) -> String {
        self.host.get("repos/binpkgs/Packages").expect(200).text()
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

#[test]
fn portage_installs_what_was_signed_when_it_was_published() {
    let environment = TestEnvironment::new();
    let Some(scene) = Scene::new(&environment) else { return };
    let (key, secret, public) = scene.key("builder");
    let built = scene.builder.packages().join("app-test/hello/hello-1.0-1.gpkg.tar");
    let before = fs::read(&built).expect("it was built");
    let arguments = ["--sign-with", path_text(&secret), "--keyring", path_text(&public)];
    let published = scene.publish(&scene.builder.packages(), &arguments).success();
    published
        .stdout_contains(&format!("1 package is signed by builder <builder@example.org>, {key}"))
        .stdout_contains(&format!("1 package is signed here, by {key}"));
    assert_eq!(fs::read(&built).expect("it is there"), before, "the directory is not touched");
    let index = scene.index();
    // It is signed once: the same file is published again.
    scene.publish(&scene.builder.packages(), &arguments).success().stdout_contains("is that tree already");
    assert_eq!(scene.index(), index);

    let url = scene.host.realm.url("repos/binpkgs");
    let Some(host) = Gentoo::new(&environment, "host") else { return };
    let Some(trusting) = Gpg::new() else { return };
    trusting.trust(&key, &fs::read(&public).expect("it was written"));
    host.follow_signed(&url, trusting.home());
    host.emerge(&["--quiet", "--getbinpkgonly", "app-test/hello"]).success();
    assert_eq!(host.installed("hello").as_deref(), Some("hello\n"));

    // Whoever trusts somebody else installs nothing.
    let (stranger, _, of_stranger) = scene.key("stranger");
    let Some(host) = Gentoo::new(&environment, "other") else { return };
    let Some(trusting) = Gpg::new() else { return };
    trusting.trust(&stranger, &fs::read(&of_stranger).expect("it was written"));
    host.follow_signed(&url, trusting.home());
    let refused = host.emerge(&["--quiet", "--getbinpkgonly", "app-test/hello"]);
    assert!(refused.code != Some(0) && host.installed("hello").is_none(), "{refused:?}");
}

#[test]
fn only_what_a_key_that_counts_has_signed_is_published() {
    let environment = TestEnvironment::new();
    let Some(scene) = Scene::new(&environment) else { return };
    let (key, secret, public) = scene.key("builder");
    let (_, _, stranger) = scene.key("stranger");
    let packages = scene.builder.packages();
    let ring = ["--keyring", path_text(&public)];
    scene
        .publish(&packages, &ring)
        .expect_code(7)
        .stderr_contains("app-test/hello/hello-1.0-1.gpkg.tar: it is not signed")
        .stderr_contains("--allow-unsigned");
    scene.publish(&packages, &["--sign-with", path_text(&secret)]).success();

    // The package as it was signed, on another host.
    let signed = environment.path("signed");
    let place = signed.join("app-test/hello/hello-1.0-1.gpkg.tar");
    fs::create_dir_all(place.parent().expect("it lies in a directory")).expect("a directory can be made");
    let whole = scene.host.get("repos/binpkgs/app-test/hello/hello-1.0-1.gpkg.tar").expect(200).body;
    fs::write(&place, &whole).expect("a file can be written");
    scene.publish(&signed, &ring).success().stdout_contains("1 package is signed by builder");
    let unknown = scene.publish(&signed, &["--keyring", path_text(&stranger)]).expect_code(7);
    unknown.stderr_contains(&key);

    // Nothing of the package has changed when its key is revoked.
    scene.gpg.revoke_key(&key);
    let revoked = scene.gpg.export_to(&key, "revoked.asc");
    let refused = scene.publish(&signed, &["--keyring", path_text(&revoked)]).expect_code(7);
    refused.stderr_contains("was revoked");

    // Unsigned ones may be accepted; one with a signature that does not count is not.
    let mut other = whole.clone();
    let at = find(&other, b"-----BEGIN PGP SIGNATURE-----\n\n") + 60;
    other[at] = if other[at] == b'A' { b'B' } else { b'A' };
    fs::write(&place, other).expect("a file can be written");
    scene.publish(&signed, &["--keyring", path_text(&public), "--allow-unsigned"]).expect_code(7);
    scene.publish(&packages, &["--keyring", path_text(&public), "--allow-unsigned"]).success();
}

#[test]
fn packages_of_the_older_form_are_converted() {
    let environment = TestEnvironment::new();
    let Some(scene) = Scene::new(&environment) else { return };
    scene.builder.ebuild("old", "1.0", "", "of long ago");
    // Portage calls tar by this name when it packs the older form.
    scene.builder.write("etc/portage/bashrc", "gtar() { tar \"$@\"; }\n");
    let mut emerge = scene.builder.command("emerge");
    emerge.env("BINPKG_FORMAT", "xpak").args(["--quiet", "--buildpkgonly", "--nodeps", "app-test/old"]);
    program::run(&mut emerge).success();
    let packages = scene.builder.packages();
    scene
        .publish(&packages, &[])
        .expect_code(7)
        .stderr_contains("app-test/old/old-1.0-1.xpak: it is of the older form")
        .stderr_contains("--convert");
    let published = scene.publish(&packages, &["--convert"]).success();
    published.stdout_contains("1 package is converted here").stdout_contains("the index has 2 packages");
    assert!(scene.index().contains("PATH: app-test/old/old-1.0-1.gpkg.tar\n"), "{}", scene.index());
    scene.publish(&packages, &["--convert"]).success().stdout_contains("is that tree already");

    let Some(host) = Gentoo::new(&environment, "host") else { return };
    host.follow(&scene.host.realm.url("repos/binpkgs"));
    host.emerge(&["--quiet", "--getbinpkgonly", "app-test/old"]).success();
    assert_eq!(host.installed("old").as_deref(), Some("of long ago\n"));

    // As it is, it is published where that is asked for.
    scene.publish(&packages, &["--allow-xpak", "--replace"]).success();
    assert!(scene.index().contains("PATH: app-test/old/old-1.0-1.xpak\n"), "{}", scene.index());
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).expect("it is there")
}
