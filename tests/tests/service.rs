//! Having a host follow its channels by itself: units, and what the service manager is told.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use smart_sync_tests::program::{self, Finished, Running};
use smart_sync_tests::{Host, Recording, TestEnvironment, skipped};

/// A user of a machine with targets, whose service manager only writes down what it is told.
struct Scene {
    environment: TestEnvironment,
}

impl Scene {
    fn new() -> Self {
        let environment = TestEnvironment::new();
        environment.write(
            "etc/config.toml",
            "[realms.\"lab.example.org\"]\nservers = [\"https://sync.example.org\"]\n\
             [targets.\"/srv/my site\"]\nchannel = \"repos/site\"\n\
             [targets.\"/srv/100%/$HOME\"]\nchannel = \"repos/other\"\n",
        );
        Self { environment }
    }

    fn command(&self, recording: &Recording<'_>, words: &[&str]) -> Command {
        let mut command = self.environment.client();
        recording.lead(command.arg("service").args(words));
        command
    }

    fn run(&self, recording: &Recording<'_>, words: &[&str]) -> Finished {
        program::run(&mut self.command(recording, words))
    }

    fn units(&self) -> PathBuf {
        self.environment.path("home/.config/systemd/user")
    }

    /// The names of everything that is where units are.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.units()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn units_are_installed_changed_and_gone_without_a_trace() {
    let scene = Scene::new();
    let recording = Recording::new(&scene.environment);
    recording.program("systemctl", "");
    let planned = scene.run(&recording, &["install", "--user", "--dry-run"]).success().stdout;
    assert!(planned.contains("would write") && planned.contains("smart-sync-watch.service"), "{planned}");
    assert!(planned.contains("would run systemctl --user daemon-reload"), "{planned}");
    assert_eq!((scene.names(), recording.calls()), (vec![], vec![]));

    scene.run(&recording, &["install", "--user"]).success();
    assert_eq!(scene.names(), ["smart-sync-recover.service", "smart-sync-watch.service"]);
    assert_eq!(
        recording.calls(),
        [
            "systemctl --user daemon-reload",
            "systemctl --user enable --now smart-sync-watch.service smart-sync-recover.service"
        ]
    );
    // Again: the same, and nothing is written.
    let again = scene.run(&recording, &["install", "--user"]).success().stdout;
    assert!(!again.contains("wrote"), "{again}");
    recording.calls();

    // Another rhythm takes the place of the first.
    scene.run(&recording, &["install", "--user", "--every", "15m"]).success();
    let names = [
        "smart-sync-recover.service",
        "smart-sync-srv-100---HOME.service",
        "smart-sync-srv-100---HOME.timer",
        "smart-sync-srv-my-site.service",
        "smart-sync-srv-my-site.timer",
    ];
    assert_eq!(scene.names(), names);
    let calls = recording.calls();
    assert_eq!(calls[0], "systemctl --user disable --now smart-sync-watch.service");
    assert!(
        calls[2].ends_with("HOME.timer smart-sync-srv-my-site.timer smart-sync-recover.service"),
        "{calls:?}"
    );
    assert_eq!(calls[3], "systemctl --user try-restart smart-sync-recover.service");

    // What another program has written stays, and so does what is linked to elsewhere.
    let other = scene.units().join("smart-sync-mine.service");
    fs::write(&other, "[Unit]\nDescription=mine\n").unwrap();
    let wants = scene.units().join("timers.target.wants");
    fs::create_dir(&wants).unwrap();
    std::os::unix::fs::symlink("../smart-sync-srv-my-site.timer", wants.join("smart-sync-srv-my-site.timer"))
        .unwrap();
    scene.run(&recording, &["remove", "--user"]).success();
    assert_eq!(scene.names(), ["smart-sync-mine.service", "timers.target.wants"]);
    assert_eq!(fs::read_dir(&wants).unwrap().count(), 0);
    let calls = recording.calls();
    assert!(calls[0].starts_with("systemctl --user disable --now smart-sync-recover.service"), "{calls:?}");
    assert_eq!(calls[1], "systemctl --user daemon-reload");
    assert!(calls[2].starts_with("systemctl --user reset-failed "), "{calls:?}");
    let nothing = scene.run(&recording, &["remove", "--user"]).success().stdout;
    assert!(nothing.contains("no units of smart-sync are in"), "{nothing}");
    assert_eq!(recording.calls(), Vec::<String>::new());
}

#[test]
fn a_file_of_somebody_else_is_not_replaced() {
    let scene = Scene::new();
    let recording = Recording::new(&scene.environment);
    recording.program("systemctl", "");
    let path = scene.environment.write("home/.config/systemd/user/smart-sync-watch.service", "[Service]\n");
    scene
        .run(&recording, &["install", "--user"])
        .expect_code(1)
        .stderr_contains("smart-sync has not written it");
    assert_eq!(fs::read_to_string(&path).unwrap(), "[Service]\n");
    // One that is masked is a link.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    scene.run(&recording, &["install", "--user"]).expect_code(1).stderr_contains("is there already");
    assert_eq!(scene.names(), ["smart-sync-watch.service"]);
    assert_eq!(recording.calls(), Vec::<String>::new());
}

#[test]
fn what_cannot_run_is_not_installed() {
    let scene = Scene::new();
    let recording = Recording::new(&scene.environment);
    recording.program("systemctl", "echo no bus; exit 1");
    scene.run(&recording, &["install", "--user", "--every", "10s"]).expect_code(4);
    scene
        .run(&recording, &["install", "--user", "--target", "/srv/unknown"])
        .expect_code(4)
        .stderr_contains("no channel");
    assert_eq!(scene.names(), Vec::<String>::new());
    // The service manager's own word is shown.
    scene
        .run(&recording, &["install", "--user"])
        .expect_code(1)
        .stderr_contains("systemctl: no bus")
        .stderr_contains("service remove");
    // Without one, nothing is written; what is there can be removed all the same.
    let mut without = scene.command(&recording, &["install", "--user"]);
    program::run(without.env("PATH", "/nowhere"))
        .expect_code(2)
        .stderr_contains("there is no systemctl here");
    let mut without = scene.command(&recording, &["remove", "--user"]);
    program::run(without.env("PATH", "/nowhere")).success();
    assert_eq!(scene.names(), Vec::<String>::new());
}

#[test]
fn status_says_what_systemd_says() {
    let scene = Scene::new();
    let recording = Recording::new(&scene.environment);
    recording.program("systemctl", "");
    // A token of this shell is none of the service.
    let mut install = scene.command(&recording, &["install", "--user"]);
    let installed = program::run(install.env("SMART_SYNC_TOKEN", "sst_secret")).success();
    assert!(
        installed.stderr.contains("SMART_SYNC_TOKEN is set here, and not for a service"),
        "{}",
        installed.stderr
    );
    for name in scene.names() {
        assert!(!fs::read_to_string(scene.units().join(name)).unwrap().contains("sst_secret"));
    }
    recording.calls();
    recording.program(
        "systemctl",
        "printf 'ActiveState=active\\nSubState=running\\nResult=success\\nExecMainStatus=0\\n'",
    );
    let said = scene.run(&recording, &["status", "--user"]).success().stdout;
    assert!(said.contains("smart-sync-watch.service is active (running); last result: success"), "{said}");
    let calls = recording.calls();
    assert!(calls[0].ends_with("ExecMainStatus smart-sync-recover.service"), "{calls:?}");
}

#[test]
fn the_units_are_ones_that_systemd_understands() {
    if !has("systemd-analyze") {
        return skipped("there is no systemd-analyze");
    }
    let scene = Scene::new();
    let recording = Recording::new(&scene.environment);
    recording.program("systemctl", "");
    for words in [&["install", "--user"][..], &["install", "--user", "--every", "1h"]] {
        scene.run(&recording, words).success();
        // `network-online.target` and others of the machine may be missing where this runs: only what it says of
        // these files counts.
        let mut verify = scene.environment.command("systemd-analyze");
        verify
            .args(["verify", "--user", "--man=no", "--recursive-errors=no"])
            .env("XDG_RUNTIME_DIR", scene.environment.path("tmp"));
        let said = program::run(verify.args(scene.names().iter().map(|name| scene.units().join(name))));
        let complaints: Vec<&str> = said.stderr.lines().filter(|line| line.contains("smart-sync-")).collect();
        assert_eq!(complaints, Vec::<&str>::new(), "{}", said.stderr);
    }
}

/// systemd waits until a service of this type says that it has begun; what the service starts has nothing to say.
#[test]
fn watching_tells_the_service_manager_that_it_has_begun() {
    let environment = TestEnvironment::new();
    let host = Host::new(&environment);
    let target = host.target();
    let text = format!(
        "[targets.\"{}\"]\nchannel = \"{}\"\n[[targets.\"{0}\".run]]\n\
         command = [\"sh\", \"-c\", \"echo ${{NOTIFY_SOCKET-nothing}} > ../heard\"]\n",
        target.display(),
        Host::CHANNEL
    );
    environment.write("etc/config.toml", text);
    environment.write("tree/file", "first");
    host.publish().success();
    let socket = environment.path("notify");
    let listening = UnixDatagram::bind(&socket).unwrap();
    let mut command = environment.client();
    command.args(["watch", "--server", host.realm.server().url(), "--target"]).arg(&target);
    let mut watching = Running::start(command.env("NOTIFY_SOCKET", &socket));
    let mut said = [0; 100];
    let length = listening.recv(&mut said).unwrap();
    assert_eq!(&said[..length], b"READY=1\n");
    let heard = environment.path("heard");
    while !fs::read_to_string(&heard).is_ok_and(|heard| heard.ends_with('\n')) {
        assert!(watching.is_alive(), "it ended");
        environment.run_client(["--version"]).success();
    }
    assert_eq!(fs::read_to_string(heard).unwrap(), "nothing\n");
}

#[test]
fn on_nixos_a_module_is_printed() {
    let scene = Scene::new();
    let recording = Recording::new(&scene.environment);
    for more in [&[][..], &["--every", "15m"]] {
        let words = [&["install", "--init", "nixos"], more].concat();
        let module = scene.run(&recording, &words).success().stdout;
        assert!(
            module.contains("{ config, pkgs, ... }:") && module.contains("restartIfChanged = false"),
            "{module}"
        );
        assert!(module.contains("RequiresMountsFor") && module.contains("/srv/100%%/\\$HOME"), "{module}");
        if !has("nix-instantiate") {
            return skipped("there is no nix-instantiate");
        }
        let path = scene.environment.write("module.nix", module);
        let mut parse = scene.environment.command("nix-instantiate");
        program::run(parse.arg("--parse").arg(path)).success();
    }
    scene.run(&recording, &["remove", "--init", "nixos"]).expect_code(4).stderr_contains("imports");
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file())
}
