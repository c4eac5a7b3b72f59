//! What stock clients find on a server of kernels.

use std::fs;

use smart_sync_tests::http::curl;
use smart_sync_tests::{TestEnvironment, kernel_files, program};

use super::{CHANNEL, Scene};

#[test]
fn a_tree_of_the_old_layout_is_served_under_all_its_names() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    kernel_files::old_layout(&environment, "old/current/6.10.1-gentoo", "6.10.1-gentoo");
    kernel_files::old_layout(&environment, "old/deprecated/6.9.12-gentoo", "6.9.12-gentoo");
    kernel_files::old_layout(&environment, "old/compat/6.1.1-gentoo", "6.1.1-gentoo-i586");
    let old = environment.path("old");
    let published =
        scene.host.command(&["--channel", CHANNEL, "--kind", "kernels"]).arg(&old).output().unwrap();
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let expected = "6.10.1-gentoo current, 6.9.12-gentoo deprecated, 6.1.1-gentoo compat";
    assert_eq!(scene.listed(&[]), expected);

    for (place, version, release) in
        [("current", "6.10.1-gentoo", "6.10.1-gentoo"), ("compat", "6.1.1-gentoo", "6.1.1-gentoo-i586")]
    {
        let at = format!("{place}/{version}");
        let names = ["vmlinuz".to_owned(), format!("vmlinuz-{release}")];
        for name in names {
            let found = scene.get(&format!("{at}/{name}")).expect(200).body;
            assert_eq!(found, fs::read(old.join(&at).join("vmlinuz")).unwrap(), "{name}");
        }
        let config = fs::read(old.join(&at).join("Kernel.Config")).unwrap();
        for name in ["Kernel.Config".to_owned(), "config".to_owned(), format!("config-{release}")] {
            assert_eq!(scene.get(&format!("{at}/{name}")).expect(200).body, config, "{name}");
        }
        for name in ["System.Map".to_owned(), "System.map".to_owned(), format!("System.map-{release}")] {
            scene.get(&format!("{at}/{name}")).expect(200);
        }
        for name in ["initramfs", "initramfs.img"] {
            assert_eq!(scene.get(&format!("{at}/{name}")).expect(200).text(), "a file system", "{name}");
        }
    }
    for nothing in ["current/6.9.12-gentoo/vmlinuz", "current/6.10.1-gentoo/readme", "old/modules.tar.gz"] {
        assert_eq!(scene.get(nothing).status, 404, "{nothing}");
    }
    // The names that there are in the tree are those that are listed.
    let index = scene.get("current/6.10.1-gentoo/").expect(200).text();
    assert!(index.contains("config-6.10.1-gentoo") && !index.contains("modules.tar.gz"), "{index}");
}

#[test]
fn modules_are_served_as_an_archive_that_can_be_gone_on_with() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.publish("6.9.1-gentoo").success();
    let path = "current/6.9.1-gentoo/modules.tar.gz";
    let whole = scene.get(path).expect(200);
    let (etag, size) = (whole.header("etag").to_owned(), whole.body.len());
    assert_eq!(whole.header("content-length"), size.to_string());
    assert_eq!((whole.header("accept-ranges"), whole.header("content-encoding")), ("bytes", ""));

    // What the real tar makes of it is what was built.
    let archive = environment.write("fetched/modules.tar.gz", &whole.body);
    let mut tar = environment.command("tar");
    let unpacked = environment.path("fetched");
    program::run(tar.args(["--extract", "--gzip", "--directory"]).arg(&unpacked).arg("--file").arg(archive))
        .success();
    for (path, bytes) in kernel_files::modules("6.9.1-gentoo") {
        assert_eq!(fs::read(unpacked.join(&path)).unwrap(), bytes, "{path}");
    }

    // Half of it came: the rest follows, and is not asked for where it would be another one.
    let url = scene.host.realm.url(&format!("{CHANNEL}/{path}"));
    let (half, range) = (size / 2, format!("{}-", size / 2));
    let rest = curl(&environment, &url, ["--range", &range]).expect(206);
    assert_eq!(rest.body, whole.body[half..]);
    assert_eq!(rest.header("content-range"), format!("bytes {half}-{}/{size}", size - 1));
    let rest = curl(&environment, &url, ["--range", &range, "--header", &format!("If-Range: {etag}")]);
    assert_eq!(rest.expect(206).body, whole.body[half..]);
    let other = curl(&environment, &url, ["--range", &range, "--header", "If-Range: \"other\""]).expect(200);
    assert_eq!(other.body, whole.body);
    let same = curl(&environment, &url, ["--header", &format!("If-None-Match: {etag}")]);
    assert_eq!((same.status, same.body.len()), (304, 0));
    let head = curl(&environment, &url, ["--head"]).expect(200);
    assert_eq!(head.header("content-length"), size.to_string());

    // It is the same bytes wherever the version is, and when the server has started anew.
    scene.publish("6.10.1-gentoo").success();
    for same in [
        format!("{CHANNEL}/deprecated/6.9.1-gentoo/modules.tar.gz"),
        format!("files/{CHANNEL}/6.9.1-gentoo/modules.tar.gz"),
    ] {
        let found = scene.host.get(&same).expect(200);
        assert_eq!((found.header("etag"), found.body.len()), (&*etag, size), "{same}");
    }
    assert_eq!(scene.get(path).status, 404);
    let data = scene.host.realm.data().to_owned();
    let archives = || fs::read_dir(data.join("cache/archives")).unwrap().count();
    assert_eq!(archives(), 1);
    let host = scene.host;
    let realm = host.realm.restart(&environment, drop);
    let found = smart_sync_tests::http::get(
        &environment,
        &realm.url(&format!("{CHANNEL}/deprecated/6.9.1-gentoo/modules.tar.gz")),
        None,
    );
    assert_eq!(found.expect(200).header("etag"), etag);
    assert_eq!(archives(), 1);
}

#[test]
fn a_whole_channel_is_mirrored_by_wget() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    if !environment.command("wget").arg("--version").output().is_ok_and(|output| output.status.success()) {
        smart_sync_tests::skipped("there is no wget");
        return;
    }
    scene.publish("6.9.1-gentoo").success();
    let url = scene.host.realm.url(&format!("{CHANNEL}/"));
    let place = environment.path("mirror");
    let mut wget = environment.command("wget");
    wget.args([
        "--quiet",
        "--recursive",
        "--level=inf",
        "--no-parent",
        "--no-host-directories",
        "--cut-dirs=2",
    ]);
    program::run(wget.arg("--directory-prefix").arg(&place).arg(&url)).success();
    let image = fs::read(place.join("current/6.9.1-gentoo/vmlinuz")).unwrap();
    assert_eq!(image, kernel_files::image("6.9.1-gentoo"));
    for (path, bytes) in kernel_files::modules("6.9.1-gentoo") {
        assert_eq!(fs::read(place.join("current/6.9.1-gentoo").join(&path)).unwrap(), bytes, "{path}");
    }
}
