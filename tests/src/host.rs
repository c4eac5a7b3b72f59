//! A realm, and a host that trusts it, follows one of its channels and may publish to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::TestEnvironment;
use crate::program::{self, Finished};
use crate::server::{Realm, Server};
use crate::snapshot::Snapshot;

/// A host that follows [`CHANNEL`](Self::CHANNEL).
#[derive(Debug)]
pub struct Host<'environment> {
    environment: &'environment TestEnvironment,
    /// Its realm.
    pub realm: Realm,
}

impl<'environment> Host<'environment> {
    /// The channel.
    pub const CHANNEL: &'static str = "repos/tree";

    /// A new realm in the directory `realm`, and a host that trusts it.
    pub fn new(environment: &'environment TestEnvironment) -> Self {
        Self::with_settings(environment, "")
    }

    /// The same, with these lines at the end of the server's settings.
    pub fn with_settings(environment: &'environment TestEnvironment, settings: &str) -> Self {
        let realm = Realm::start_with(environment, "realm", settings, &[]);
        let arguments = ["trust", "add", realm.server().url(), "--root", realm.fingerprint()];
        environment.run_client(arguments).success();
        Self { environment, realm }
    }

    /// The machine that all of it is on.
    pub const fn environment(&self) -> &'environment TestEnvironment {
        self.environment
    }

    /// Ends the server with `end`, and starts it again.
    #[must_use]
    pub fn restart(self, end: impl FnOnce(Server)) -> Self {
        Self { realm: self.realm.restart(self.environment, end), ..self }
    }

    /// Starts the server again where it was, once it is dead.
    #[must_use]
    pub fn restart_at_its_address(self) -> Self {
        Self { realm: self.realm.restart_at_its_address(self.environment), ..self }
    }

    /// What is published: the directory `tree`.
    pub fn tree(&self) -> PathBuf {
        self.environment.path("tree")
    }

    /// What follows the channel: the directory `host`.
    pub fn target(&self) -> PathBuf {
        self.environment.path("host")
    }

    /// The trust state, which never goes backwards.
    pub fn trust_state(&self) -> Vec<u8> {
        let path = self.environment.state_directory().join("trust").join(Realm::ORIGIN).join("state");
        fs::read(path).expect("the realm is trusted")
    }

    /// The command that publishes the tree over the network.
    pub fn publish_command(&self) -> Command {
        self.publish_command_to(self.realm.server().url())
    }

    /// The same by way of another address.
    pub fn publish_command_to(&self, url: &str) -> Command {
        let mut command = self.environment.client();
        command.args(["publish", "tree", "--channel", Self::CHANNEL, "--server", url]);
        command.arg("--key").arg(self.realm.key("publish")).env("SMART_SYNC_TOKEN", self.realm.token());
        command
    }

    /// Publishes the tree over the network.
    pub fn publish(&self) -> Finished {
        program::run(&mut self.publish_command())
    }

    /// The command that brings the target up to date.
    pub fn sync_command(&self) -> Command {
        self.sync_command_from(self.realm.server().url())
    }

    /// The same by way of another address.
    pub fn sync_command_from(&self, url: &str) -> Command {
        let mut command = self.environment.client();
        command.args(["--channel", Self::CHANNEL, "--server", url, "--target"]);
        command.arg(self.target());
        command
    }

    /// Brings the target up to date.
    pub fn sync(&self) -> Finished {
        program::run(&mut self.sync_command())
    }

    /// `status` of the target: looks, and settles what an earlier run left.
    pub fn status(&self) -> Finished {
        let mut command = self.environment.client();
        program::run(command.args(["status", "--target"]).arg(self.target()))
    }

    /// Fails the test unless the log and everything in the store are whole.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.realm.run(self.environment, &["log", "audit"]).success();
        self.realm.run(self.environment, &["check"]).success();
    }

    /// Fails the test unless the target is the published tree, to the file.
    #[track_caller]
    pub fn assert_synced(&self) {
        Snapshot::as_git(&self.tree()).assert_same(&Snapshot::as_git(&self.target()));
    }
}

/// Directories as they were, to go back to.
#[derive(Debug)]
pub struct Saved {
    directories: Vec<(PathBuf, PathBuf)>,
}

impl Saved {
    /// Copies directories, with everything that `cp --archive` keeps.
    pub fn new(environment: &TestEnvironment, name: &str, directories: &[&Path]) -> Self {
        let copies = environment.path(name);
        fs::create_dir_all(&copies).expect("a directory can be made");
        let number =
            |(number, directory): (usize, &&Path)| (directory.to_path_buf(), copies.join(number.to_string()));
        let directories: Vec<_> = directories.iter().enumerate().map(number).collect();
        for (directory, copy) in &directories {
            replace(directory, copy);
        }
        Self { directories }
    }

    /// Makes the directories what they were.
    pub fn restore(&self) {
        for (directory, copy) in &self.directories {
            replace(copy, directory);
        }
    }
}

/// Makes one directory a copy of another. It stays the same directory, which may be a mounted file system.
fn replace(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap_or_else(|error| panic!("making {}: {error}", to.display()));
    for entry in fs::read_dir(to).expect("it was made").map_while(Result::ok) {
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
            _ => fs::remove_file(entry.path()),
        };
        removed.unwrap_or_else(|error| panic!("removing {}: {error}", entry.path().display()));
    }
    program::run(Command::new("cp").arg("--archive").arg(from.join(".")).arg(to)).success();
}
