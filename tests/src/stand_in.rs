//! Programs that stand in for those of a host, and write down how they are called.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::environment::TestEnvironment;

/// A directory of such programs, and what they wrote down.
#[derive(Debug)]
pub struct StandIns {
    root: PathBuf,
    directory: PathBuf,
    record: PathBuf,
}

impl StandIns {
    /// None yet, on this machine.
    pub fn new(environment: &TestEnvironment) -> Self {
        let directory = environment.path("stand-ins");
        fs::create_dir_all(&directory).expect("a directory can be made");
        let root = environment.root().canonicalize().expect("it is there");
        Self { root, directory, record: environment.path("recorded") }
    }

    /// A program of this name. It writes down its command line, and then does what the script for `sh` says.
    pub fn add(&self, name: &str, script: &str) {
        self.add_at(&self.directory.join(name), name, script);
    }

    /// The same anywhere, under the name that is written down.
    pub fn add_at(&self, path: &Path, name: &str, script: &str) {
        let record = self.record.display();
        let text = format!("#!/bin/sh\necho \"{name}${{1:+ $*}}\" >> '{record}'\n{script}\n");
        fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("a directory can be made");
        fs::write(path, text).expect("a file can be written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    }

    /// Lets a command find them before anything else.
    pub fn lead(&self, command: &mut Command) {
        let usual = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{usual}", self.directory.display()));
    }

    /// The command lines since this was asked last, one a line, the directory of the test written as `ROOT`.
    pub fn recorded(&self) -> String {
        let text = fs::read_to_string(&self.record).unwrap_or_default();
        let _ = fs::remove_file(&self.record);
        text.replace(&*self.root.to_string_lossy(), "ROOT")
    }
}
