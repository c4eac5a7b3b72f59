//! Publishing kernels one after the other, and hosts that pull them.

use std::fs;

use smart_sync_tests::{TestEnvironment, kernel_files};

use super::{CHANNEL, Scene};

#[test]
fn a_host_pulls_the_newest_kernel_and_goes_back_when_it_is_deprecated() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let published = scene.publish("6.9.12-gentoo").success();
    published
        .stdout_contains("6.9.12-gentoo is new, and current")
        .stdout_contains("tag:6.9.12-gentoo is published");
    let target = environment.path("target");
    let pull = |arguments: &[&str]| {
        scene.kernel(&[&["pull", "--target", target.to_str().expect("it is text")], arguments].concat())
    };
    pull(&[]).success();
    let release = || {
        let names = fs::read_dir(target.join("lib/modules")).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(release(), "6.9.12-gentoo");
    assert_eq!(fs::read(target.join("vmlinuz")).unwrap(), kernel_files::image("6.9.12-gentoo"));
    for (path, bytes) in kernel_files::modules("6.9.12-gentoo") {
        assert_eq!(fs::read(target.join(&path)).unwrap(), bytes, "{path}");
    }

    // A number is a number: 6.10 is newer than 6.9.
    let published = scene.publish("6.10.1-gentoo").success();
    published.stdout_contains("6.9.12-gentoo is deprecated, and was current");
    assert_eq!(scene.listed(&[]), "6.10.1-gentoo current, 6.9.12-gentoo deprecated");
    pull(&["--check-only"]).expect_code(10);
    pull(&["--dry-run"]).success();
    assert_eq!(release(), "6.9.12-gentoo");
    pull(&[]).success();
    assert_eq!(release(), "6.10.1-gentoo");
    assert_eq!(scene.image_of("current"), kernel_files::image("6.10.1-gentoo"));

    // The last one that is current stays so; another one is made current first.
    let refused = scene.put("deprecate", &["6.10.1-gentoo"]);
    refused.expect_code(4).stderr_contains("no kernel would be current any more");
    let shown = scene.put("current", &["6.9.12-gentoo", "--dry-run"]).success();
    shown.stdout_contains("6.9.12-gentoo is current, and was deprecated");
    assert_eq!(scene.listed(&[]), "6.10.1-gentoo current, 6.9.12-gentoo deprecated");
    scene.put("current", &["6.9.12-gentoo"]).success();
    scene.put("deprecate", &["6.10.1-gentoo"]).success();
    assert_eq!(scene.listed(&[]), "6.10.1-gentoo deprecated, 6.9.12-gentoo current");
    scene.put("deprecate", &["6.10.1-gentoo"]).success().stdout_contains("nothing changes");
    pull(&[]).success();
    assert_eq!(release(), "6.9.12-gentoo");
    // By its version, one is had in any state, and by any other command that takes a ref.
    pull(&["6.10.1-gentoo"]).success();
    assert_eq!(release(), "6.10.1-gentoo");
    scene.put("compat", &["6.10.1-gentoo"]).success();
    assert_eq!(scene.listed(&[]), "6.10.1-gentoo compat, 6.9.12-gentoo current");

    let events = scene.kernel(&["list", "--json"]).success().stdout;
    let newest =
        events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an event"));
    let newest: Vec<_> = newest.filter(|event| event["newest"] == true).collect();
    assert_eq!(newest.len(), 1);
    assert_eq!((&newest[0]["version"], &newest[0]["state"]), (&"6.9.12-gentoo".into(), &"current".into()));
    scene.host.assert_sound();
}

#[test]
fn a_build_host_publishes_what_is_there_already_without_an_effect() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.publish("6.9.1-gentoo").success();
    scene.publish("6.10.1-gentoo").success();
    let again = scene.publish("6.9.1-gentoo").success();
    let again = again.stdout_contains("6.9.1-gentoo is published already, and stays deprecated");
    assert_eq!(again.stdout.matches("is that tree already").count(), 3, "{again:?}");
    assert_eq!(scene.listed(&[]), "6.10.1-gentoo current, 6.9.1-gentoo deprecated");

    // An older one that comes later does not take the place of a newer one.
    scene.publish("6.9.2-gentoo").success();
    let expected = "6.10.1-gentoo current, 6.9.2-gentoo current, 6.9.1-gentoo deprecated";
    assert_eq!(scene.listed(&[]), expected);
    assert_eq!(scene.image_of("current"), kernel_files::image("6.10.1-gentoo"));
}

#[test]
fn what_is_pulled_is_installed_as_the_configuration_says() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let path = |name: &str| environment.path(name).display().to_string();
    for directory in ["boot", "modules"] {
        fs::create_dir_all(environment.path(directory)).unwrap();
    }
    let configuration = format!(
        "[targets.{:?}]\nchannel = \"{CHANNEL}\"\nref = \"current\"\n\
         [[targets.{:?}.run]]\nkernel = {{ loader = \"none\", boot = {:?}, modules = {:?} }}\n\
         [targets.{:?}]\nchannel = \"repos/other\"\n",
        path("kernels"),
        path("kernels"),
        path("boot"),
        path("modules"),
        path("other"),
    );
    environment.write("etc/config.toml", configuration);
    scene.publish("6.9.1-gentoo").success();
    let pulled = environment.run_client(["kernel", "pull"]);
    assert!(pulled.code == Some(0) || pulled.code == Some(12), "{pulled:?}");
    assert_eq!(
        fs::read(environment.path("boot/vmlinuz-6.9.1-gentoo")).unwrap(),
        kernel_files::image("6.9.1-gentoo")
    );
    let module = environment.path("modules/6.9.1-gentoo/kernel/drivers/target/same.ko");
    assert_eq!(fs::read(module).unwrap(), kernel_files::module("same"));
    assert!(environment.path("boot/config-6.9.1-gentoo").is_file());
}
