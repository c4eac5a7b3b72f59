//! `update`: validate, sync and rebuild in one command.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::process::Command;

use smart_sync_tests::program::{self, Finished};
use smart_sync_tests::{Host, TestEnvironment, Versioned, skipped};

/// A host with a command after each update, and a check of the host that is well as long as the file `fit` is there.
struct Scene<'environment> {
    host: Versioned<'environment>,
}

impl<'environment> Scene<'environment> {
    fn new(environment: &'environment TestEnvironment) -> Self {
        let host = Versioned::new(environment, "generations", "machine");
        let target = host.target();
        let root = environment.root();
        environment.write(
            "etc/config.toml",
            format!(
                "validate-sets = []\n[[validate]]\nfile = \"{}/fit\"\n[targets.\"{}\"]\nkind = \"generations\"\n\
                 channel = \"{}\"\n[[targets.\"{1}\".run]]\nname = \"rebuild\"\n\
                 command = [\"sh\", \"-c\", \"cat version >> ../../../rebuilt\"]\n",
                root.display(),
                target.display(),
                Host::CHANNEL
            ),
        );
        Self { host }
    }

    fn command(&self, words: &[&str]) -> Command {
        let url = self.host.host.realm.server().url();
        self.host.command(&[&["update", "--server", url], words].concat())
    }

    fn run(&self, words: &[&str]) -> Finished {
        program::run(&mut self.command(words))
    }

    fn publish(&self, version: &str) {
        self.host.write("version", version);
        self.host.host.publish().success();
    }

    fn set_fit(&self, is_fit: bool) {
        let path = self.host.host.environment().path("fit");
        if is_fit { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// Where everything stands: what readers see, and what was rebuilt.
    fn stands(&self) -> (String, String) {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        (read(self.host.seen().join("version")), read(self.host.host.environment().path("machine/rebuilt")))
    }
}

fn pair(seen: &str, rebuilt: &str) -> (String, String) {
    (seen.to_owned(), rebuilt.to_owned())
}

#[test]
fn a_host_is_validated_synced_and_rebuilt_and_nothing_new_rebuilds_nothing() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.set_fit(true);
    scene.publish("one ");
    let first = scene.run(&[]).success().stdout;
    let order =
        ["checks, none failed", "is applied", "running rebuild"].map(|text| first.find(text).unwrap());
    assert!(order.is_sorted(), "{first}");
    assert_eq!(scene.stands(), pair("one ", "one "));
    scene.run(&[]).success();
    assert_eq!(scene.stands(), pair("one ", "one "));
    // Only asked, nothing is changed.
    scene.publish("two ");
    scene.run(&["--check-only"]).expect_code(10);
    assert_eq!(scene.stands(), pair("one ", "one "));
    scene.run(&["--skip-rebuild"]).success();
    assert_eq!(scene.stands(), pair("two ", "one "));
    // What is said does not matter to what is done, and every file that is read again is the same.
    scene.run(&["--verbose"]).success();
    scene.run(&["--force-full"]).success();
    assert_eq!(scene.stands(), pair("two ", "one "));
}

#[test]
fn a_host_that_is_not_fit_is_not_changed_unless_somebody_says_so() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.publish("one ");
    for words in [&[][..], &["--no"]] {
        let stopped = scene.run(words).expect_code(1);
        assert!(stopped.stderr.contains("/fit: it is not there"), "{}", stopped.stderr);
        assert!(stopped.stderr.contains("hint: nothing was changed; --yes goes on"), "{}", stopped.stderr);
        assert_eq!(scene.stands(), pair("", ""));
        assert!(!scene.host.target().exists());
    }
    let forced = scene.run(&["--yes"]).success();
    assert!(forced.stderr.contains("warning: going on although"), "{}", forced.stderr);
    assert_eq!(scene.stands(), pair("one ", "one "));
    scene.publish("two ");
    let unlooked = scene.run(&["--skip-validation"]).success();
    assert!(!unlooked.stderr.contains("fit"), "{}", unlooked.stderr);
    // Only asking does not need a host that is fit.
    scene.run(&["--check-only"]).success();
    assert_eq!(scene.stands(), pair("two ", "one two "));
}

#[test]
fn on_a_terminal_it_is_asked_whether_to_go_on() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.publish("one ");
    let asked = |answer: &str| {
        let update = program::describe(&scene.command(&[]));
        let mut command = environment.command("sh");
        // The first one makes a terminal, and hands over what it reads.
        command.env("SMART_SYNC_STATE_DIR", scene.host.state()).args([
            "-c",
            &format!("echo {answer} | script --quiet --return --echo never --command '{update}' /dev/null"),
        ]);
        program::run(&mut command)
    };
    if !has_script() {
        return skipped("there is no script, of util-linux");
    }
    let no = asked("n");
    assert!(no.stdout.contains("Go on with the update? [y/N]"), "{}{}", no.stdout, no.stderr);
    assert_eq!(no.code, Some(1));
    assert_eq!(scene.stands(), pair("", ""));
    assert_eq!(asked("y").code, Some(0));
    assert_eq!(scene.stands(), pair("one ", "one "));
}

/// The tree that is there has a fault; the one that is published has not.
#[test]
fn a_fault_of_the_tree_does_not_keep_it_from_being_replaced() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    scene.set_fit(true);
    let config = fs::read_to_string(environment.configuration_file()).unwrap();
    let check = format!("[[targets.\"{}\".validate]]\njson = \"lock\"\n", scene.host.target().display());
    environment.write("etc/config.toml", config + &check);
    scene.host.write("lock", "{ cut");
    scene.publish("one ");
    scene.run(&[]).success();
    scene.host.run(&["validate"]).expect_code(1).stderr_contains("lock is JSON: it is not");
    scene.host.write("lock", "{}");
    scene.publish("two ");
    scene.run(&[]).success().stderr_contains("warning: lock is JSON: it is not");
    scene.host.run(&["validate"]).success();
    assert_eq!(scene.stands().0, "two ");
}

fn has_script() -> bool {
    Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success())
}
