//! A host whose target keeps its versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::datasets;
use crate::environment::TestEnvironment;
use crate::host::Host;
use crate::program::{self, Finished};

/// The contents of a tree by their paths; of a link, where it points.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// A host, and how its target is kept.
#[derive(Debug)]
pub struct Versioned<'environment> {
    /// The host.
    pub host: Host<'environment>,
    kind: &'static str,
    directory: PathBuf,
}

impl<'environment> Versioned<'environment> {
    /// A host whose target and state lie in a directory of this machine.
    pub fn new(environment: &'environment TestEnvironment, kind: &'static str, directory: &str) -> Self {
        let host = Host::new(environment);
        let directory = environment.path(directory);
        fs::create_dir_all(&directory).expect("a directory can be made");
        let mut trust = environment.client();
        trust.env("SMART_SYNC_STATE_DIR", directory.join("state"));
        let server = host.realm.server();
        let words = ["trust", "add", server.url(), "--root", host.realm.fingerprint()];
        program::run(trust.args(words)).success();
        if kind == "zfs" {
            datasets::make_dataset(&directory.join("host"));
        }
        Self { host, kind, directory }
    }

    /// Starts the server again where it was, once it is dead.
    #[must_use]
    pub fn restart_at_its_address(self) -> Self {
        Self { host: self.host.restart_at_its_address(), ..self }
    }

    /// The target.
    pub fn target(&self) -> PathBuf {
        self.directory.join("host")
    }

    /// What readers see.
    pub fn seen(&self) -> PathBuf {
        if self.kind == "generations" { self.target().join("current") } else { self.target() }
    }

    /// Where everything that is known of the target is kept.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// A command about the target.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.environment().client();
        command.env("SMART_SYNC_STATE_DIR", self.state()).args(words).arg("--target").arg(self.target());
        if self.kind == "zfs" {
            datasets::put_first(&mut command);
        }
        command
    }

    /// Runs a command about the target.
    pub fn run(&self, words: &[&str]) -> Finished {
        program::run(&mut self.command(words))
    }

    /// The command that brings the target up to date.
    pub fn sync_command(&self) -> Command {
        let url = self.host.realm.server().url();
        self.command(&["--channel", Host::CHANNEL, "--server", url, "--kind", self.kind])
    }

    /// Brings the target up to date.
    pub fn sync(&self) -> Finished {
        program::run(&mut self.sync_command())
    }

    /// Writes a file of what is published.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        self.host.environment().write(&format!("tree/{path}"), content);
    }

    /// Writes a file of what readers see, in place of what is there.
    pub fn edit(&self, path: &str, content: &str) {
        let path = self.seen().join(path);
        fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("a directory can be made");
        // As editors do: the file of other versions is another one.
        let _ = fs::remove_file(&path);
        fs::write(&path, content).expect("a file can be written");
    }

    /// The numbers of the versions that are kept, the current one last.
    pub fn generations(&self) -> (Vec<u64>, u64) {
        let listed = self.run(&["generations"]).success().stdout;
        let number = |line: &str| line.split_whitespace().next()?.parse().ok();
        let current = listed.lines().find(|line| line.contains("(current"));
        let current = current.and_then(number).expect("one of them is the current one");
        (listed.lines().filter_map(number).collect(), current)
    }
}

/// Everything below a directory but paths that begin with one of these, and what the file system has there of its own.
pub fn tree_without(directory: &Path, without: &[&str]) -> Tree {
    fn add(root: &Path, directory: &Path, without: &[&str], found: &mut Tree) {
        let entries =
            fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for entry in entries {
            let path = entry.expect("a directory can be read").path();
            let name = path.strip_prefix(root).expect("it lies below").to_string_lossy().into_owned();
            if name == ".zfs" || without.iter().any(|without| name == *without) {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).expect("it is there");
            if metadata.is_dir() {
                add(root, &path, without, found);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).expect("it is a link");
                found.insert(name, target.into_os_string().into_encoded_bytes());
            } else {
                found.insert(name, fs::read(&path).expect("it is a file"));
            }
        }
    }
    let mut found = Tree::new();
    add(directory, directory, without, &mut found);
    found
}
