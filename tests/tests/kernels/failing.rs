//! Kernels that are not sound, publishers that are killed, and publishers that meet.

use std::fs;
use std::process::Stdio;

use smart_sync_tests::strace::{KILL, points};
use smart_sync_tests::{Strace, TestEnvironment, kernel_files, program};

use super::{CHANNEL, Scene};

#[test]
fn kernels_that_are_not_sound_keep_all_from_being_published() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.publish("6.9.1-gentoo").success();
    let before = scene.listed(&[]);

    kernel_files::install(&environment, "bad", "6.10.1-gentoo");
    fs::remove_file(environment.path("bad/boot/System.map-6.10.1-gentoo")).unwrap();
    environment.write("bad/lib/modules/6.10.1-gentoo/kernel/html.ko", "<html>404 Not Found</html>");
    let refused = scene.publish_directory(&environment.path("bad")).expect_code(7);
    let refused = refused.stderr_contains("it has no System.map");
    refused.stderr_contains("kernel/html.ko: it is no module");
    // One good version among them does not go alone.
    kernel_files::old_layout(&environment, "tree/current/6.10.2-gentoo", "6.10.2-gentoo");
    kernel_files::old_layout(&environment, "tree/attic/6.8.1-gentoo", "6.8.1-gentoo");
    let refused = scene.publish_directory(&environment.path("tree")).expect_code(7);
    refused.stderr_contains("attic is no state of kernels");
    // Kernels are published to one branch: the others are made of it.
    let other = scene.host.publish(&[
        "--channel",
        CHANNEL,
        "--kind",
        "kernels",
        "--ref",
        "testing",
        "built/6.9.1-gentoo",
    ]);
    other.expect_code(4).stderr_contains("published to branch:main");

    // A version is built once.
    environment
        .write("built/6.9.1-gentoo/boot/config-6.9.1-gentoo", kernel_files::config("6.9.1") + "CONFIG_X=y\n");
    let refused = scene.publish_directory(&environment.path("built/6.9.1-gentoo")).expect_code(7);
    let refused = refused.stderr_contains("tag:6.9.1-gentoo is published, and is another tree");
    refused.stderr_contains("CONFIG_LOCALVERSION");
    assert_eq!(scene.listed(&[]), before);
    scene.host.assert_sound();
}

#[test]
fn two_build_hosts_publish_at_once() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let releases = ["6.9.1-gentoo", "6.10.1-gentoo", "6.11.1-gentoo"];
    let running: Vec<_> = releases
        .iter()
        .map(|release| {
            let directory = format!("built/{release}");
            kernel_files::install(&environment, &directory, release);
            // Each is a machine of its own, and knows of the realm what it has seen itself.
            let state = environment.path(&format!("state-{release}"));
            let (url, root) = (scene.host.realm.server().url(), scene.host.realm.fingerprint());
            let mut trust = environment.client();
            trust.args(["trust", "add", url, "--root", root]).env("SMART_SYNC_STATE_DIR", &state);
            program::run(&mut trust).success();
            let mut command = scene.publishing(&["publish", &directory]);
            command.env("SMART_SYNC_STATE_DIR", &state);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client starts")
        })
        .collect();
    for run in running {
        let ended = run.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    let listed = scene.listed(&[]);
    assert!(listed.starts_with("6.11.1-gentoo current, 6.10.1-gentoo "), "{listed}");
    assert_eq!(listed.matches("6.").count(), 3, "{listed}");
    assert_eq!(scene.image_of("current"), kernel_files::image("6.11.1-gentoo"));
    for release in releases {
        assert_eq!(scene.image_of(release), kernel_files::image(release));
    }
}

#[test]
fn a_publisher_that_is_killed_anywhere_is_completed_by_the_next_run() {
    let environment = TestEnvironment::new();
    let Some(strace) = Strace::find(&environment) else { return };
    let scene = Scene::new(&environment);
    scene.publish("6.9.1-gentoo").success();
    let (mut round, mut kills) = (1, 0);
    let mut next = || {
        round += 1;
        let release = format!("6.9.{round}-gentoo");
        let directory = format!("built/{release}");
        kernel_files::install(&environment, &directory, &release);
        (release, directory)
    };
    let (_, directory) = next();
    // Trust is written down between one publication and the next, and each is sent.
    let counts = strace.count(&scene.publishing(&["publish", &directory]), &["rename", "writev", "sendto"]);
    assert!(counts.values().sum::<u32>() > 3, "{counts:?}");
    for (call, count) in counts {
        for when in points(count, 5) {
            let (release, directory) = next();
            let command = scene.publishing(&["publish", &directory]);
            let run = strace.run(&command, &call, &when.to_string(), KILL);
            kills += u32::from(run.code.is_none());
            // Whatever the channel shows is there by itself.
            let listed = scene.kernel(&["list", "--json"]).success().stdout;
            if listed.contains(&format!("\"{release}\"")) {
                assert_eq!(scene.image_of(&release), kernel_files::image(&release));
            }
            scene.publish_directory(&environment.path(&directory)).success();
            assert!(scene.listed(&[]).starts_with(&format!("{release} current, ")), "{call} {when}");
            assert_eq!(scene.image_of(&release), kernel_files::image(&release), "{call} {when}");
            assert_eq!(scene.image_of("current"), kernel_files::image(&release), "{call} {when}");
        }
    }
    assert!(kills >= 6, "only {kills} runs were killed");
    scene.host.assert_sound();
}
