//! Distfiles: published with a Manifest of all of them, and fetched by stock clients under every name that they know.

use std::fs;
use std::process::Stdio;

use smart_sync_tests::noise::noise;
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::{CountingProxy, Finished, Gentoo, Gpg, PublishingHost, TestEnvironment, program};

/// Publishes distfiles.
fn publish(host: &PublishingHost<'_>, arguments: &[&str]) -> Finished {
    host.publish(&[&["--channel", "repos/distfiles", "--kind", "distfiles"], arguments].concat())
}

fn b2sum_directory(environment: &TestEnvironment, name: &str) -> String {
    environment.write("name", name);
    program::run(environment.command("b2sum").arg("name")).success().stdout[..2].to_owned()
}

#[test]
fn a_mirror_answers_by_every_name_that_clients_know() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    let large = noise("large", 3_000_000);
    environment.write("dist/a+b-1.tar.gz", &large);
    environment.write("dist/small.patch", "a patch\n");
    environment.write("dist/layout.conf", "of another mirror");
    environment.write("dist/.portage_lockfile", "");
    environment.write("dist/broken.tar.gz._checksum_failure_.x1", "not this");
    publish(&scene, &["dist"]).success();

    let directory = b2sum_directory(&environment, "a+b-1.tar.gz");
    assert_eq!(
        scene.get("repos/distfiles/layout.conf").expect(200).text(),
        "[structure]\n0=filename-hash BLAKE2B 8\n1=content-hash SHA512 8:8:8\n"
    );
    let digest = program::run(environment.command("sha512sum").arg("dist/a+b-1.tar.gz")).success().stdout;
    let digest = &digest[..128];
    for path in [
        "repos/distfiles/a%2Bb-1.tar.gz".to_owned(),
        format!("repos/distfiles/{directory}/a%2Bb-1.tar.gz"),
        format!("repos/distfiles/{}/{}/{}/{digest}", &digest[..2], &digest[2..4], &digest[4..6]),
        format!("files/repos/distfiles/main/{directory}/a+b-1.tar.gz"),
    ] {
        assert_eq!(scene.get(&path).expect(200).body, large, "{path}");
    }
    let nothing =
        ["broken.tar.gz._checksum_failure_.x1", ".portage_lockfile", "00/small.patch", "none.tar.gz", "ab/"];
    for path in nothing.map(|path| format!("repos/distfiles/{path}")) {
        assert_eq!(scene.get(&path).status, 404, "{path}");
    }
    let manifest = scene.get("repos/distfiles/Manifest").expect(200).text();
    assert!(manifest.starts_with("DIST a+b-1.tar.gz 3000000 BLAKE2B "), "{manifest}");
    assert!(manifest.contains(&format!(" SHA512 {digest}\n")) && manifest.lines().count() == 2, "{manifest}");

    // What was begun is continued.
    environment.write("got/a+b-1.tar.gz", &large[..1_000_000]);
    let url = scene.realm.url(&format!("repos/distfiles/{directory}/a%2Bb-1.tar.gz"));
    let wget = environment.command("wget").args(["--continue", "--no-verbose", "-P", "got", &url]).output();
    let said = String::from_utf8_lossy(&wget.expect("wget runs").stderr).into_owned();
    assert!(said.contains("[2000000/2000000]") || said.contains("[3000000/3000000]"), "{said}");
    assert_eq!(fs::read(environment.path("got/a+b-1.tar.gz")).unwrap(), large);
}

#[test]
fn portage_fetches_what_it_needs_and_notices_what_is_wrong() {
    let environment = TestEnvironment::new();
    let Some(gentoo) = Gentoo::new(&environment, "gentoo") else { return };
    let scene = PublishingHost::new(&environment);
    let bytes = noise("distfile", 400_000);
    gentoo.ebuild_of_distfile("thing", "1.0", &bytes);
    environment.write("dist/thing-1.0.bin", &bytes);
    publish(&scene, &["dist"]).success();
    let mirror = &scene.realm.url("repos");
    gentoo.fetch("thing", "1.0", mirror).success();
    assert_eq!(fs::read(gentoo.distfile("thing-1.0.bin")).unwrap(), bytes);

    gentoo.ebuild_of_distfile("other", "1.0", b"what it should be");
    environment.write("dist/other-1.0.bin", "something else...");
    publish(&scene, &["dist"]).success();
    let fetched = gentoo.fetch("other", "1.0", mirror);
    assert_ne!(fetched.code, Some(0));
    assert!(!gentoo.distfile("other-1.0.bin").exists());
}

#[test]
fn only_what_an_ebuild_tree_says_is_published_when_that_is_asked_for() {
    let environment = TestEnvironment::new();
    let Some(gentoo) = Gentoo::new(&environment, "gentoo") else { return };
    let scene = PublishingHost::new(&environment);
    gentoo.ebuild_of_distfile("thing", "1.0", b"as it should be");
    environment.write("dist/thing-1.0.bin", "as it shouldn't");
    environment.write("dist/stray-1.0.bin", "nobody asks for it");
    let refused = publish(&scene, &["dist", "--verify-against", "gentoo/repository"]);
    assert_eq!(refused.code, Some(7));
    assert!(
        refused.stderr.contains("thing-1.0.bin: it is not what the Manifest of a package says"),
        "{refused:?}"
    );
    assert_eq!(scene.get("repos/distfiles/Manifest").status, 404);

    environment.write("dist/thing-1.0.bin", "as it should be");
    let published = publish(&scene, &["dist", "--verify-against", "gentoo/repository"]).success();
    assert!(published.stdout.contains("1 file that no Manifest names is left out"), "{published:?}");
    assert_eq!(scene.get("repos/distfiles/thing-1.0.bin").expect(200).text(), "as it should be");
    assert_eq!(scene.get("repos/distfiles/stray-1.0.bin").status, 404);
}

#[test]
fn an_ebuild_tree_is_believed_as_far_as_its_signature_leads() {
    let environment = TestEnvironment::new();
    let Some(gpg) = Gpg::new() else { return };
    let scene = PublishingHost::new(&environment);
    let key = gpg.make_key("tree <tree@example.org>", "ed25519", "cert,sign", "never");
    let ring = gpg.export_to(&key, "ring.asc");
    let sums = |path: &str| {
        let sum = |program: &str| {
            let printed = program::run(environment.command(program).arg(path)).success().stdout;
            printed.split(' ').next().unwrap_or_default().to_owned()
        };
        let len = fs::metadata(environment.path(path)).expect("it is there").len();
        format!("{len} BLAKE2B {} SHA512 {}", sum("b2sum"), sum("sha512sum"))
    };
    environment.write("dist/thing-1.0.bin", "as it should be");
    let line = format!("DIST thing-1.0.bin {}\n", sums("dist/thing-1.0.bin"));
    environment.write("tree/app-test/thing/Manifest", &line);
    let line = format!("MANIFEST app-test/thing/Manifest {}\n", sums("tree/app-test/thing/Manifest"));
    environment.write("tree/Manifest", gpg.clear_sign(&key, &line));
    let arguments = ["dist", "--verify-against", "tree", "--keyring", ring.to_str().expect("a text")];
    publish(&scene, &arguments)
        .success()
        .stdout_contains(&format!("the tree tree is signed by tree <tree@example.org>, {key}"));

    environment.write("tree/app-test/thing/Manifest", "");
    let refused = publish(&scene, &arguments);
    assert_ne!(refused.code, Some(0));
    refused.stderr_contains("tree/app-test/thing/Manifest: it is not what Manifest says");
}

#[test]
fn several_publish_and_a_name_never_changes_what_it_holds() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("one/a.tar", "of one");
    environment.write("other/b.tar", "of the other");
    publish(&scene, &["one"]).success();
    publish(&scene, &["other"]).success();
    assert_eq!(scene.get("repos/distfiles/a.tar").expect(200).text(), "of one");
    assert_eq!(scene.get("repos/distfiles/b.tar").expect(200).text(), "of the other");
    let again = publish(&scene, &["one"]).success();
    assert!(again.stdout.contains("is that tree already"), "{again:?}");

    environment.write("other/a.tar", "of the other");
    let refused = publish(&scene, &["other"]);
    assert_eq!(refused.code, Some(7));
    assert!(
        refused.stderr.contains("a.tar: a file of this name is published, and is another one"),
        "{refused:?}"
    );
    fs::remove_file(environment.path("other/a.tar")).unwrap();

    // What is taken out stays for whoever needs it yet, and the tree says since when.
    publish(&scene, &["other", "--replace"]).success();
    assert_eq!(scene.get("repos/distfiles/a.tar").expect(200).text(), "of one");
    let retired = scene.get("repos/distfiles/.smart-sync/retired").expect(200).text();
    assert!(retired.ends_with(" a.tar\n") && retired.lines().count() == 1, "{retired}");
    publish(&scene, &["one"]).success();
    assert_eq!(scene.get("repos/distfiles/.smart-sync/retired").status, 404);
}

#[test]
fn what_a_kind_does_not_ask_about_is_refused() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("dist/a.tar", "a");
    let publish_as = |kind: &str, arguments: &[&str]| {
        scene.publish(&[&["dist", "--channel", "repos/other", "--kind", kind], arguments].concat())
    };
    publish_as("tree", &["--verify-against", "ebuilds"])
        .expect_code(4)
        .stderr_contains("--verify-against means nothing for");
    publish_as("tree", &["--replace"]).expect_code(4).stderr_contains("--replace means nothing for");
    publish_as("binpkgs", &["--verify-against", "ebuilds"]).expect_code(4).stderr_contains("for binpkgs");
    publish_as("distfiles", &["--fidelity", "system"]).expect_code(4).stderr_contains("for distfiles");
    publish_as("distfiles", &[]).success();
    publish_as("binpkgs", &[])
        .expect_code(4)
        .stderr_contains("is of the kind distfiles, which does not change");
    assert_eq!(scene.get("repos/other/Packages").status, 404);
    let local = |kind: &str, words: &[&str]| {
        let run = [&["publish-local", "dist", "--channel", "repos/more", "--kind", kind], words].concat();
        scene.realm.run(&environment, &run).expect_code(4)
    };
    local("distfiles", &["--git", "HEAD"]).stderr_contains("--git means nothing for the kind distfiles");
    local("distfiles", &["--system"]).stderr_contains("--system means nothing");
    local("tree", &["--replace"]).stderr_contains("--replace means nothing");
    local("binpkgs", &["--verify-against", "ebuilds"]).stderr_contains("--verify-against means nothing");
}

#[test]
fn a_server_publishes_distfiles_of_its_own_machine_and_adds_to_those_of_others() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("one/a.tar", "of one");
    publish(&scene, &["one"]).success();
    environment.write("local/b.tar", "of the server");
    let local = |words: &[&str]| {
        let run = ["publish-local", "local", "--channel", "repos/distfiles", "--kind", "distfiles"]
            .map(str::to_owned);
        let run: Vec<String> = run.into_iter().chain(words.iter().map(|word| (*word).to_owned())).collect();
        scene.realm.run(&environment, &run.iter().map(String::as_str).collect::<Vec<_>>())
    };
    local(&[]).success().stdout_contains("the tree has 2 distfiles");
    assert_eq!(scene.get("repos/distfiles/a.tar").expect(200).text(), "of one");
    assert_eq!(scene.get("repos/distfiles/b.tar").expect(200).text(), "of the server");
    local(&[]).success().stdout_contains("is that tree already");
    publish(&scene, &["one"]).success().stdout_contains("is that tree already");

    environment.write("local/a.tar", "something else");
    local(&[]).expect_code(7).stderr_contains("a.tar: a file of this name is published, and is another one");
    fs::remove_file(environment.path("local/a.tar")).unwrap();
    local(&["--replace"]).success();
    let retired = scene.get("repos/distfiles/.smart-sync/retired").expect(200).text();
    assert!(retired.ends_with(" a.tar\n"), "{retired}");
    local(&["--verify-against", "none"]).expect_code(4);
    scene.assert_sound();
}

#[test]
fn whoever_is_second_adds_to_what_the_first_has_published() {
    let environment = TestEnvironment::new();
    let scene = PublishingHost::new(&environment);
    environment.write("one/a.tar", "of one");
    environment.write("other/b.tar", "of the other");
    let proxy = CountingProxy::start(scene.realm.server().address(), Protocol::Http).expect("a free port");
    let url = proxy.url();
    let through_proxy = |words: &[&str]| {
        let words =
            [&["one", "--channel", "repos/distfiles", "--kind", "distfiles", "--server", &url], words];
        scene.command(&words.concat())
    };
    // What is asked before anything is sent; then the upload of one waits until the other has published.
    program::run(&mut through_proxy(&["--dry-run"])).success();
    let asked = proxy.take_totals().sent;
    proxy.hold_sent_after(asked + 1);
    let first = through_proxy(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    while proxy.totals().sent <= asked + 1 {
        std::thread::yield_now();
    }
    publish(&scene, &["other"]).success();
    proxy.release();
    let first = first.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&first.stdout);
    assert!(first.status.success(), "{said}{}", String::from_utf8_lossy(&first.stderr));
    assert!(said.contains("somebody else was first: adding to what they have published"), "{said}");
    assert_eq!(scene.file("repos/distfiles/main/a.tar"), "of one");
    assert_eq!(scene.file("repos/distfiles/main/b.tar"), "of the other");
}
