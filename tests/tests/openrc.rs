//! Having a host follow its channels by itself where OpenRC starts programs: scripts, runlevels and cron.
//!
//! `/etc` and `/run` are empty file systems of the test's own. The programs of OpenRC write down what they are told, and
//! keep the links of runlevels as the real ones do.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use smart_sync_tests::folding_disk::in_namespace_of_root;
use smart_sync_tests::program::{self, Finished};
use smart_sync_tests::{Host, Recording, TestEnvironment};

const RC_UPDATE: &str = "case $1 in\n\
    add) ln -s \"/etc/init.d/$2\" \"/etc/runlevels/$3/$2\" ;;\n\
    delete) rm \"/etc/runlevels/$3/$2\" ;;\n\
    esac";
const RC_SERVICE: &str = "case $3 in status) echo \" * status: started\" ;; esac";

struct Scene {
    environment: TestEnvironment,
}

impl Scene {
    /// A machine that OpenRC runs; nothing where the test cannot have one.
    fn new() -> Option<Self> {
        in_namespace_of_root().then(|| Self::of(TestEnvironment::new()))
    }

    fn of(environment: TestEnvironment) -> Self {
        for directory in ["/etc", "/run"] {
            program::run(Command::new("mount").args(["-t", "tmpfs", "none", directory])).success();
        }
        for directory in
            ["/etc/init.d", "/etc/cron.d", "/etc/runlevels/boot", "/etc/runlevels/default", "/run/openrc"]
        {
            fs::create_dir_all(directory).unwrap();
        }
        let recording = Recording::new(&environment);
        recording.program("rc-update", RC_UPDATE).program("rc-service", RC_SERVICE);
        let scene = Self { environment };
        scene.environment.write(
            "etc/config.toml",
            "[realms.\"lab.example.org\"]\nservers = [\"https://sync.example.org\"]\n\
             [targets.\"/srv/site\"]\nchannel = \"repos/site\"\n\
             [targets.\"/srv/100%/$HOME\"]\nchannel = \"repos/other\"\n",
        );
        scene
    }

    fn recording(&self) -> Recording<'_> {
        Recording::new(&self.environment)
    }

    fn run(&self, words: &[&str]) -> Finished {
        let mut command = self.environment.client();
        self.recording().lead(command.arg("service").args(words));
        program::run(&mut command)
    }

    /// Checks that a shell understands a script, and returns it.
    fn script(&self, name: &str) -> String {
        let path = Path::new("/etc/init.d").join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
        program::run(self.environment.command("sh").arg("-n").arg(&path)).success();
        fs::read_to_string(path).unwrap()
    }
}

/// Everything below a directory, by path.
fn files(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![Path::new(directory).to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { directories.push(path) } else { found.push(path.display().to_string()) }
        }
    }
    found.sort();
    found
}

#[test]
fn services_are_installed_changed_and_gone_without_a_trace() {
    let Some(scene) = Scene::new() else { return };
    let recording = scene.recording();
    let planned = scene.run(&["install", "--dry-run"]).success().stdout;
    assert!(planned.contains("would write /etc/init.d/smart-sync-watch\n"), "{planned}");
    assert!(planned.contains("would run rc-update add smart-sync-recover boot\n"), "{planned}");
    assert_eq!((files("/etc"), recording.calls()), (vec![], vec![]));

    let said = scene.run(&["install"]).success().stdout;
    assert!(said.contains("smart-sync-watch and smart-sync-recover run from now on"), "{said}");
    assert_eq!(
        files("/etc"),
        [
            "/etc/init.d/smart-sync-recover",
            "/etc/init.d/smart-sync-watch",
            "/etc/runlevels/boot/smart-sync-recover",
            "/etc/runlevels/default/smart-sync-watch"
        ]
    );
    assert_eq!(
        recording.calls(),
        [
            "rc-update add smart-sync-recover boot",
            "rc-update add smart-sync-watch default",
            "rc-service --ifnotstarted smart-sync-recover start",
            "rc-service --ifnotstarted smart-sync-watch start"
        ]
    );
    assert!(scene.script("smart-sync-watch").contains("supervisor=supervise-daemon"));
    let said = scene.run(&["status"]).success().stdout;
    assert!(said.contains("smart-sync-watch is started"), "{said}");
    recording.calls();

    // Again: the same, and nothing is written. What runs is not stopped.
    let again = scene.run(&["install"]).success().stdout;
    assert!(!again.contains("wrote"), "{again}");
    assert!(recording.calls().iter().all(|call| call.contains("--ifnotstarted")), "it runs already");

    // Another choice is another script, and the daemon is started again from that.
    scene.run(&["install", "--target", "/srv/site"]).success();
    assert_eq!(
        recording.calls(),
        [
            "rc-service --ifstarted smart-sync-recover stop",
            "rc-service --ifnotstarted smart-sync-recover start",
            "rc-service --ifstarted smart-sync-watch stop",
            "rc-service --ifnotstarted smart-sync-watch start"
        ]
    );

    // What another program has written stays.
    fs::write("/etc/init.d/smart-sync-mine", "#!/sbin/openrc-run\n").unwrap();
    scene.run(&["remove"]).success();
    assert_eq!(files("/etc"), ["/etc/init.d/smart-sync-mine"]);
    assert_eq!(
        recording.calls(),
        [
            "rc-service --ifstarted smart-sync-recover stop",
            "rc-update delete smart-sync-recover boot",
            "rc-service --ifstarted smart-sync-watch stop",
            "rc-update delete smart-sync-watch default"
        ]
    );
    let nothing = scene.run(&["remove"]).success().stdout;
    assert!(nothing.contains("no service of smart-sync is in /etc/init.d or /etc/cron.d"), "{nothing}");
    assert_eq!(recording.calls(), Vec::<String>::new());
}

#[test]
fn cron_syncs_targets_from_time_to_time() {
    let Some(scene) = Scene::new() else { return };
    let recording = scene.recording();
    scene.run(&["install"]).success();
    recording.calls();
    let said = scene.run(&["install", "--every", "15m"]).success().stdout;
    assert!(said.contains("/etc/cron.d/smart-sync and smart-sync-recover run from now on"), "{said}");
    assert_eq!(
        recording.calls()[..2],
        ["rc-service --ifstarted smart-sync-watch stop", "rc-update delete smart-sync-watch default"]
    );
    let table = fs::read_to_string("/etc/cron.d/smart-sync").unwrap();
    let lines: Vec<&str> = table.lines().filter(|line| line.contains(" root ")).collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(
        lines[0].contains("-59/15 * * * * root ") && lines[0].ends_with("'/srv/100'\\%'/$HOME'"),
        "{table}"
    );
    assert!(lines[1].ends_with(" --quiet --target /srv/site"), "{table}");
    // Nobody else may write what root runs.
    let mode = fs::metadata("/etc/cron.d/smart-sync").unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
    let said = scene.run(&["status"]).success().stdout;
    assert!(said.contains("/etc/cron.d/smart-sync is read by cron, for 2 targets"), "{said}");
    scene
        .run(&["install", "--every", "7m"])
        .expect_code(4)
        .stderr_contains("cron has no turn of this length");
    scene.run(&["remove"]).success();
    assert_eq!(files("/etc"), Vec::<String>::new());
    fs::remove_dir("/etc/cron.d").unwrap();
    scene.run(&["install", "--every", "1h"]).expect_code(2).stderr_contains("cronie");
    assert_eq!(files("/etc"), Vec::<String>::new());
}

#[test]
fn what_cannot_run_is_not_installed() {
    let Some(scene) = Scene::new() else { return };
    let recording = scene.recording();
    scene.run(&["install", "--user"]).expect_code(4).stderr_contains("a service of the machine");
    fs::write("/etc/init.d/smart-sync-watch", "#!/sbin/openrc-run\n").unwrap();
    scene.run(&["install"]).expect_code(1).stderr_contains("smart-sync has not written it");
    fs::remove_file("/etc/init.d/smart-sync-watch").unwrap();
    assert_eq!(recording.calls(), Vec::<String>::new());
    // What is printed is what would be written.
    let printed = scene.run(&["install", "--print"]).success().stdout;
    assert!(printed.contains("# /etc/init.d/smart-sync-recover\n#!/sbin/openrc-run\n"), "{printed}");
    // While a system is installed, nothing runs there that could be started.
    fs::remove_dir("/run/openrc").unwrap();
    scene.run(&["install", "--init", "openrc"]).success();
    assert!(recording.calls().iter().all(|call| call.starts_with("rc-update add ")));
    // OpenRC's own word is shown.
    recording.program("rc-update", "echo no runlevel; exit 1");
    scene.run(&["remove", "--init", "openrc"]).expect_code(1).stderr_contains("rc-update: no runlevel");
    let mut without = scene.environment.client();
    let without = without.args(["service", "remove", "--init", "openrc"]).env("PATH", "/nowhere");
    program::run(without).success().stderr_contains("there is no rc-service here");
    assert_eq!(files("/etc"), Vec::<String>::new());
}

/// The functions that OpenRC gives a script, as far as this one has need of them.
const OPENRC: &str = "ebegin() { :; }\neend() { return $1; }\n";

#[test]
fn the_script_of_the_boot_settles_what_is_left() {
    if !in_namespace_of_root() {
        return;
    }
    let environment = TestEnvironment::new();
    let host = Host::new(&environment);
    environment.write("tree/file", "first");
    host.publish().success();
    host.sync().success();
    let table = format!("[targets.\"{}\"]\nchannel = \"{}\"\n", host.target().display(), Host::CHANNEL);
    drop(host);
    let scene = Scene::of(environment);
    scene.environment.write("etc/config.toml", table);
    scene.run(&["install"]).success();
    let script = format!("{OPENRC}{}\nstart", scene.script("smart-sync-recover"));
    let mut command = scene.environment.command("sh");
    let settled = program::run(command.arg("-c").arg(script)).success();
    assert!(settled.stdout.contains("nothing was interrupted"), "{}", settled.stdout);
}
