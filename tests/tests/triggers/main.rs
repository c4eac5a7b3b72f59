//! What rebuilds a host after an update, as seen by the programs that do it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod gentoo;
mod kernels;
mod nixos;

use std::fs;
use std::path::PathBuf;

use smart_sync_tests::program::{self, Finished};
use smart_sync_tests::{StandIns, TestEnvironment, Versioned};

/// A host whose programs are stand-ins.
struct Machine<'environment> {
    host: Versioned<'environment>,
    kind: &'static str,
    programs: StandIns,
}

impl<'environment> Machine<'environment> {
    fn new(environment: &'environment TestEnvironment, triggers: &str) -> Self {
        Self::of_kind(environment, "generations", triggers)
    }

    fn of_kind(environment: &'environment TestEnvironment, kind: &'static str, triggers: &str) -> Self {
        let host = Versioned::new(environment, kind, "machine");
        let machine = Self { host, kind, programs: StandIns::new(environment) };
        machine.configure(triggers);
        machine
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.host.host.environment().path(relative)
    }

    /// Writes the table of the target, with these lines behind it.
    fn configure(&self, text: &str) {
        let target = self.host.target().display().to_string();
        let root = self.path("");
        let text = text.replace("[[run]]", &format!("[[targets.\"{target}\".run]]"));
        let text = text.replace("[[check]]", &format!("[[targets.\"{target}\".check]]"));
        let text = text.replace("ROOT/", &root.to_string_lossy());
        let text = format!("[targets.\"{target}\"]\nkind = \"{}\"\n{text}", self.kind);
        self.host.host.environment().write("etc/config.toml", text);
    }

    fn publish(&self, version: &str) {
        self.host.write("version", version);
        self.host.host.publish().success();
    }

    fn sync(&self, words: &[&str]) -> Finished {
        let mut command = self.host.sync_command();
        self.programs.lead(command.args(words));
        program::run(&mut command)
    }

    fn run(&self, words: &[&str]) -> Finished {
        let mut command = self.host.command(words);
        self.programs.lead(&mut command);
        program::run(&mut command)
    }

    /// What ran, the name of the version, which the time is in, left out.
    fn recorded(&self) -> String {
        let versions = self.host.target().join("versions");
        let mut text = self.programs.recorded();
        let names = fs::read_dir(&versions).into_iter().flatten().map_while(Result::ok);
        for name in names.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
            if name.starts_with("smart-sync-") {
                text = text.replace(&name, "VERSION");
            }
        }
        let states = fs::read_dir(self.host.state().join("targets")).into_iter().flatten();
        for state in states.map_while(Result::ok) {
            text = text.replace(&*state.file_name().to_string_lossy(), "TARGET");
        }
        text
    }
}

const CHECK: &str =
    "[[check]]\nname = \"not bad\"\ncommand = [\"sh\", \"-c\", \"! grep -q bad version\"]\nretries = 0\n";

#[test]
fn units_are_told_of_an_update_and_of_going_back() {
    let environment = TestEnvironment::new();
    let text = "[[run]]\nname = \"web\"\nunits = { reload = [\"nginx.service\"], restart = [\"a.service\"], daemon-reload = true }\n";
    let machine = Machine::new(&environment, &format!("{text}{CHECK}"));
    machine.programs.add("systemctl", "echo told");
    machine.publish("one");
    let synced = machine.sync(&[]).success();
    assert!(!synced.stdout.contains("told"), "{}", synced.stdout);
    let lines = "systemctl daemon-reload\nsystemctl try-reload-or-restart nginx.service\nsystemctl restart a.service\n";
    assert_eq!(machine.recorded(), lines);
    machine.publish("bad");
    let shown = machine.sync(&["--dry-run"]).success().stdout;
    assert!(shown.contains("would run web: systemctl restart a.service\n"), "{shown}");
    assert_eq!(machine.recorded(), "");
    machine.sync(&[]).expect_code(8);
    assert_eq!(machine.recorded(), lines.repeat(2));
    // One that fails is told by its own name.
    machine.programs.add("systemctl", "test $1 != restart || { echo no such unit; exit 5; }");
    machine.publish("three");
    machine.sync(&[]).expect_code(9).stderr_contains("web: systemctl restart a.service ended with status 5");
}

#[test]
fn units_of_a_plain_directory_are_not_told_of_going_back() {
    let environment = TestEnvironment::new();
    let text = format!("[[run]]\nunits = {{ restart = [\"a.service\"] }}\n{CHECK}");
    let machine = Machine::of_kind(&environment, "directory", &text);
    machine.programs.add("systemctl", "");
    machine.publish("bad");
    machine.sync(&[]).expect_code(9).stderr_contains("there is none to go back to");
    assert_eq!(machine.recorded(), "systemctl restart a.service\n");
}

#[test]
fn a_target_without_a_system_is_rebuilt_by_its_commands() {
    let environment = TestEnvironment::new();
    let machine = Machine::new(&environment, "[[run]]\ncommand = [\"make-it\"]\npaths = [\"none\"]\n");
    machine.programs.add("make-it", "");
    machine.publish("one");
    machine.sync(&[]).success();
    assert_eq!(machine.recorded(), "");
    machine.run(&["rebuild"]).success();
    assert_eq!(machine.recorded(), "make-it\n");
    machine.run(&["rebuild", "switch"]).expect_code(4).stderr_contains("rebuilds no NixOS system");
    machine.programs.add("make-it", "exit 3");
    // Nothing of it could be taken back.
    let failed = machine.run(&["rebuild"]).expect_code(9).stderr_contains("make-it ended with status 3");
    failed.stderr_contains("nothing that ran knows how to go back");
    machine.configure("[[run]]\ncommand = [\"make-it\"]\nunits = { daemon-reload = true }\n");
    machine.run(&["rebuild"]).expect_code(6).stderr_contains("what is run is one of");
}

/// The names in a directory, sorted.
fn names(directory: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
