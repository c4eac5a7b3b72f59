//! A realm with profiles, and a host that pulls one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::environment::TestEnvironment;
use crate::program::{self, Finished};
use crate::server::Realm;

/// A host that pulls [`PROFILE`](Self::PROFILE).
#[derive(Debug)]
pub struct Profiled<'environment> {
    environment: &'environment TestEnvironment,
    /// Its realm.
    pub realm: Realm,
}

impl<'environment> Profiled<'environment> {
    /// The profile.
    pub const PROFILE: &'static str = "profiles/host";

    /// A new realm, and a host that trusts it and lets the profile place targets in the directory `srv`.
    pub fn new(environment: &'environment TestEnvironment) -> Self {
        let realm = Realm::start_with(environment, "realm", "", &["--publish", "profiles/*"]);
        let trust = ["trust", "add", realm.server().url(), "--root", realm.fingerprint()];
        environment.run_client(trust).success();
        fs::create_dir_all(environment.path("srv")).expect("a directory can be made");
        let host = Self { environment, realm };
        host.configure("");
        host
    }

    /// Writes the configuration: what the profile may do, beside placing targets.
    pub fn configure(&self, text: &str) {
        let text = format!("[profiles.\"{}\"]\nunder = [\"ROOT/srv\"]\n{text}", Self::PROFILE);
        self.environment.write("etc/config.toml", self.rooted(&text));
    }

    /// A text in which `ROOT` stands for the root of this machine.
    pub fn rooted(&self, text: &str) -> String {
        let root = self.environment.root().canonicalize().expect("it is there");
        text.replace("ROOT", root.to_str().expect("paths of the tests are text"))
    }

    /// Publishes a tree of these files, and nothing else.
    #[track_caller]
    pub fn publish(&self, channel: &str, reference: &str, files: &[(&str, &str)]) {
        let directory = format!("published/{channel}");
        let _ = fs::remove_dir_all(self.environment.path(&directory));
        for (name, content) in files {
            self.environment.write(&format!("{directory}/{name}"), content);
        }
        let kind = if channel.starts_with("profiles/") { "profile" } else { "tree" };
        let source = self.environment.path(&directory);
        self.realm.publish_local(self.environment, channel, reference, &source, &["--kind", kind]).success();
    }

    /// Publishes a profile; `ROOT` stands for the root of the host.
    #[track_caller]
    pub fn publish_profile(&self, channel: &str, reference: &str, text: &str) {
        self.publish(channel, reference, &[("profile.toml", &self.rooted(text))]);
    }

    /// A command of the host.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.environment.client();
        command.args(words);
        command
    }

    /// Runs a command of the host.
    pub fn run(&self, words: &[&str]) -> Finished {
        program::run(&mut self.command(words))
    }

    /// The command that pulls the profile.
    pub fn pull_command(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["pull", Self::PROFILE]);
        command.args(words);
        command
    }

    /// Pulls the profile.
    pub fn pull(&self, words: &[&str]) -> Finished {
        program::run(&mut self.pull_command(words))
    }

    /// A target: the directory of this name in `srv`.
    pub fn target(&self, name: &str) -> PathBuf {
        self.environment.path("srv").join(name)
    }

    /// The content of the file `version` that readers of a target see; empty where there is none.
    pub fn version(&self, name: &str) -> String {
        let (target, current) = (self.target(name), self.target(name).join("current"));
        let tree = if current.is_symlink() { current } else { target };
        fs::read_to_string(tree.join("version")).unwrap_or_default()
    }

    /// The same of several targets.
    pub fn versions(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| self.version(name)).collect()
    }

    /// The sets that are kept, as people are shown them.
    pub fn sets(&self) -> String {
        self.run(&["generations", "--profile", Self::PROFILE]).success().stdout
    }

    /// Fails where the notes of a trial are left, of the profile or of any target.
    #[track_caller]
    pub fn assert_nothing_is_left(&self) {
        for of in ["profiles", "targets"] {
            let states = fs::read_dir(self.environment.state_directory().join(of));
            for state in states.expect("it is there").map(|entry| entry.expect("it can be read").path()) {
                for name in ["pending", "pending-changed", "way-back", "ballast", "journal"] {
                    assert!(!state.join(name).exists(), "{}: {name} is left", state.display());
                }
            }
        }
    }
}
