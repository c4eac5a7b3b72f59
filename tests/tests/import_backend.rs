//! Taking over a backend of the older kind: stock clients get from the new server what they got from the old one, and
//! nothing that nobody may have.

use std::fs;
use std::path::Path;

use smart_sync_tests::backend::SECRET;
use smart_sync_tests::{Backend, Finished, Gentoo, Gpg, PublishingHost, TestEnvironment};

/// Takes the backend over, with names that the key of the realm may publish to.
fn import(host: &PublishingHost<'_>, backend: &Backend<'_>, more: &[&str]) -> Finished {
    let path = backend.path();
    let path = path.to_str().expect("paths of the tests are text");
    let arguments = ["import-backend", "--channel-prefix", "repos/old", path];
    host.realm.run(host.environment, &[&arguments, more].concat())
}

/// Fails where a file below a directory has the secret in it.
#[track_caller]
fn assert_nothing_secret(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory can be read").flatten() {
        let path = entry.path();
        if entry.file_type().expect("it is there").is_dir() {
            assert_nothing_secret(&path);
        } else if let Ok(bytes) = fs::read(&path) {
            let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!found, "{} has it", path.display());
        }
    }
}

#[test]
fn a_backend_is_shown_taken_over_and_not_taken_over_twice() {
    let environment = TestEnvironment::new();
    let host = PublishingHost::new(&environment);
    let backend = Backend::new(&environment);

    let shown = import(&host, &backend, &[]).success();
    for line in [
        "kernels becomes repos/old/kernels (kind kernels): 10 files, ",
        "packages becomes repos/old/packages (kind packages): 5 files, ",
        "repository becomes repos/old/repository (kind repo): 1 branch or tag",
        "packages/17.1/server.conf is without some lines: line 2: what looks like a password",
        "packages/17.1/server.updates is left out: line 3: a command that is given a password",
        "patchfiles/etc/shadow is left out: a file of passwords or keys",
        "patchfiles/root/.netrc is left out: a file of passwords or keys",
        "patchfiles/portage/make.conf is without some lines: line 2: the name of a key that signs",
        "patchfiles/etc/pipe is left out: a named pipe",
        "snapshots is not taken over: it is a link, and none is followed",
        "tools is not taken over: it is not known what it is",
        "config/mirrors/distfiles is not taken over: line 3: it has a user or a password in it",
        "for `smart-sync-server mirror add kernel --channel repos/old/kernels`:",
        "config/host.cfg, lines that no profile says: 1, 3, 4",
        "nothing was changed; add --yes to do it",
    ] {
        assert!(shown.stdout.contains(line), "{line}: {}", shown.stdout);
    }
    assert!(!shown.stdout.contains(SECRET) && !shown.stderr.contains(SECRET), "{shown:?}");
    assert_eq!(host.get("repos/old/packages/common.uses").status, 404);

    import(&host, &backend, &["--yes"]).success();
    assert_eq!(host.get("repos/old/packages/common.uses").expect(200).text(), "*/* -X\n");
    assert_eq!(host.get("repos/old/packages/17.1/server.conf").expect(200).text(), "JOBS=4\nUSE=\"a\n b\"\n");
    assert_eq!(host.get("repos/old/packages/17.1/server.updates").status, 404);
    assert_eq!(host.get("repos/old/patchfiles/etc/motd").expect(200).text(), "hello\n");
    assert_eq!(host.get("repos/old/patchfiles/portage/make.conf").expect(200).text(), "USE=\"wayland\"\n");
    assert_eq!(host.get("repos/old/patchfiles/etc/caf%E9").expect(200).text(), "no text in its name");
    assert_ne!(
        host.get("repos/old/patchfiles/etc/passwd").text(),
        fs::read_to_string("/etc/passwd").unwrap()
    );
    assert_eq!(host.get("repos/old/patchfiles/etc/shadow").status, 404);
    assert_eq!(host.get("repos/old/distfiles/stray-1.0.bin").expect(200).text(), "a distfile");
    assert_eq!(host.file("repos/old/repository/main/README"), "of a repository\n");
    let config = host.get("repos/old/kernels/current/6.10.1-gentoo/Kernel.Config").expect(200).text();
    assert!(config.contains("Linux/x86 6.10.1-gentoo"), "{config}");
    host.get("repos/old/kernels/deprecated/6.9.1-gentoo/System.Map").expect(200);
    let newest = host.get("files/repos/old/kernels/current/vmlinuz").expect(200);
    assert_eq!(newest.body, smart_sync_tests::kernel_files::image("6.10.1-gentoo"));

    let again = import(&host, &backend, &["--yes"]).success();
    assert!(!again.stdout.contains(" number "), "{}", again.stdout);
    for line in [
        "repos/old/packages branch:main is that tree already",
        "repos/old/kernels branch:current is that tree already",
        "repos/old/repository branch:main is that tree already",
    ] {
        assert!(again.stdout.contains(line), "{line}: {}", again.stdout);
    }
    assert!(!backend.ran().exists(), "something of the backend was run");
    assert_nothing_secret(host.realm.data());
    host.assert_sound();
}

#[test]
fn a_channel_that_cannot_be_published_does_not_keep_others_from_it() {
    let environment = TestEnvironment::new();
    let host = PublishingHost::new(&environment);
    let backend = Backend::new(&environment);
    backend.write("packages/common.mask", "not an atom\n");
    import(&host, &backend, &["--yes"])
        .expect_code(1)
        .stdout_contains("common.mask: line 1: \"not\" is no atom")
        .stderr_contains("not published: repos/old/packages branch:main");
    assert_eq!(host.get("repos/old/packages/common.uses").status, 404);
    host.get("repos/old/patchfiles/etc/motd").expect(200);

    // What was in the way is repaired, and the next run completes it.
    fs::remove_file(backend.path().join("packages/common.mask")).unwrap();
    let completed = import(&host, &backend, &["--yes"]).success();
    completed.stdout_contains("repos/old/packages branch:main number 1");

    let foreign = host.realm.run(
        &environment,
        &["import-backend", "--yes", backend.path().to_str().expect("paths of the tests are text")],
    );
    foreign.expect_code(7).stderr_contains("the key may not publish to distfiles, kernels, ");
    // The plan is shown in any case, and that it cannot be done with this key.
    let path = backend.path();
    let path = path.to_str().expect("paths of the tests are text");
    let planned = host.realm.run(&environment, &["import-backend", path]).expect_code(7);
    assert!(planned.stderr.contains("the key may not publish to distfiles"), "{planned:?}");
    planned.stdout_contains("nothing was changed; add --yes to do it");
}

#[test]
fn stock_portage_installs_from_a_backend_that_was_taken_over() {
    let environment = TestEnvironment::new();
    let Some(builder) = Gentoo::new(&environment, "builder") else { return };
    let Some(machine) = Gentoo::new(&environment, "machine") else { return };
    let host = PublishingHost::new(&environment);
    let backend = Backend::new(&environment);
    builder.ebuild("hello", "1.0", "", "hello");
    builder.build(&["app-test/hello"]);
    backend.copy(&builder.packages(), "binpkgs/amd64/17.1");
    machine.ebuild_of_distfile("thing", "1.0", b"as it should be");
    backend.copy(&machine.path("repository"), "repos/gentoo");
    backend.write("distfiles/thing-1.0.bin", "as it should be");

    let imported = import(&host, &backend, &["--yes"]).success();
    imported.stdout_contains("distfiles is in server.toml");
    let settings = fs::read_to_string(host.realm.data().join("server.toml")).unwrap();
    assert!(settings.contains("names-from = \"repos/old/repos/gentoo\""), "{settings}");
    assert!(!settings.contains(SECRET), "{settings}");

    machine.follow(&host.realm.url("repos/old/binpkgs/amd64/17.1"));
    machine.emerge(&["--quiet", "--getbinpkgonly", "--nodeps", "app-test/hello"]).success();
    assert_eq!(machine.installed("hello").as_deref(), Some("hello\n"));
    machine.fetch("thing", "1.0", &host.realm.url("repos/old")).success();
    assert_eq!(fs::read(machine.distfile("thing-1.0.bin")).unwrap(), b"as it should be");
    assert_eq!(host.get("repos/old/repos/gentoo/profiles/repo_name").expect(200).text(), "gentoo");
}

#[test]
fn with_a_key_ring_only_trees_that_its_keys_have_signed_are_taken_over() {
    let environment = TestEnvironment::new();
    let Some(gpg) = Gpg::new() else { return };
    let host = PublishingHost::new(&environment);
    let backend = Backend::new(&environment);
    let signer = gpg.make_key("tree <tree@example.org>", "ed25519", "cert,sign", "never");
    let stranger = gpg.make_key("stranger <stranger@example.org>", "ed25519", "cert,sign", "never");
    let time = "TIMESTAMP 2026-01-02T00:00:00Z\n";
    for (tree, key) in [("gentoo", Some(&signer)), ("foreign", Some(&stranger)), ("local", None)] {
        backend.write(&format!("repos/{tree}/metadata/timestamp.chk"), "now\n");
        if let Some(key) = key {
            let manifest = gpg.clear_sign(key, &format!("IGNORE metadata/timestamp.chk\n{time}"));
            backend.write(&format!("repos/{tree}/Manifest"), manifest);
        }
    }
    let served = |tree: &str| host.get(&format!("repos/old/repos/{tree}/metadata/timestamp.chk")).status;

    let ring = gpg.export_to(&signer, "ring.asc");
    let ring = ring.to_str().expect("paths of the tests are text");
    import(&host, &backend, &["--yes", "--keyring", ring])
        .expect_code(1)
        .stdout_contains(&format!("the tree is signed by tree <tree@example.org>, {signer}"))
        .stdout_contains("repos/old/repos/foreign branch:main is not published: ")
        .stdout_contains("repos/old/repos/local branch:main is not published: ")
        .stdout_contains("there is none at the top of the tree that is signed")
        .stdout_contains("repos/old/distfiles branch:main number 1");
    assert_eq!((served("gentoo"), served("foreign"), served("local")), (200, 404, 404));

    // Without keys all of them are taken over, and that nobody looked at signatures is said.
    let unjudged = import(&host, &backend, &["--yes"]).success();
    unjudged.stdout_contains("what is not signed is taken over, of:\n  repos/old/repos/foreign");
    assert_eq!((served("gentoo"), served("foreign"), served("local")), (200, 200, 200));
}
