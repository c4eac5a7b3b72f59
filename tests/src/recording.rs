//! Programs of a host that only write down how they were called, in place of those that would change it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::environment::TestEnvironment;

/// A directory of such programs, and what was called.
#[derive(Debug)]
pub struct Recording<'environment> {
    environment: &'environment TestEnvironment,
}

impl<'environment> Recording<'environment> {
    /// None yet.
    pub fn new(environment: &'environment TestEnvironment) -> Self {
        fs::create_dir_all(environment.path("programs")).expect("a directory can be made");
        Self { environment }
    }

    /// Adds a program that does this after it has written down its command line.
    pub fn program(&self, name: &str, script: &str) -> &Self {
        let log = self.log();
        let text = format!(
            "#!/bin/sh\n{{ printf '%s' {name}; printf ' %s' \"$@\"; echo; }} >>'{}'\n{script}\n",
            log.display()
        );
        let path = self.environment.write(&format!("programs/{name}"), text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
        self
    }

    /// Has a command find these before the machine's own.
    pub fn lead(&self, command: &mut Command) {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.environment.path("programs").display()));
    }

    /// What was called since this was asked last.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let _ = fs::remove_file(self.log());
        text.lines().map(str::to_owned).collect()
    }

    fn log(&self) -> PathBuf {
        self.environment.path("called")
    }
}
