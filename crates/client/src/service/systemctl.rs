//! Telling the service manager.

use std::process::Command;
use std::time::Duration;

use smart_sync_store::manifest::path::Shown;

use super::units::Scope;
use crate::after::process;
use crate::failure::{Exit, Failure};
use crate::programs;
use crate::sync::Surroundings;

const PROGRAM: &str = "systemctl";
/// Stopping waits until an update has come to a safe point.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Lines of a failed command that are shown.
const LINES: usize = 5;

/// The service manager of the machine or of a user.
pub(super) struct Systemctl<'a> {
    scope: Scope,
    surroundings: &'a Surroundings<'a>,
}

impl<'a> Systemctl<'a> {
    pub(super) const fn new(scope: Scope, surroundings: &'a Surroundings<'a>) -> Self {
        Self { scope, surroundings }
    }

    /// Sees to it that the program is there, before anything is changed.
    pub(super) fn find() -> Result<(), Failure> {
        programs::find(PROGRAM).map(drop).ok_or_else(|| {
            Failure::message(Exit::MissingDependency, format!("there is no {PROGRAM} here")).hint(
                "`smart-sync service install --print` shows the units, for hosts that start programs in another way",
            )
        })
    }

    /// What `install` runs, in this order.
    pub(super) fn commands_of_install(&self, gone: &[&str], names: &[&str]) -> Vec<Vec<String>> {
        let stop = (!gone.is_empty()).then(|| self.words(&["disable", "--now"], gone));
        stop.into_iter()
            .chain([self.words(&["daemon-reload"], &[]), self.words(&["enable", "--now"], names)])
            .collect()
    }

    /// Stops units, and has nothing start them any more.
    pub(super) fn stop(&self, names: &[&str]) -> Result<(), Failure> {
        if names.is_empty() { Ok(()) } else { self.run(&self.words(&["disable", "--now"], names)) }
    }

    /// Has units start with the machine, and now; those that changed start again.
    pub(super) fn start(&self, names: &[&str], changed: &[&str]) -> Result<(), Failure> {
        self.run(&self.words(&["daemon-reload"], &[]))?;
        self.run(&self.words(&["enable", "--now"], names))?;
        if changed.is_empty() { Ok(()) } else { self.run(&self.words(&["try-restart"], changed)) }
    }

    /// Has nothing be known of units any more whose files are gone.
    pub(super) fn forget(&self, names: &[&str]) -> Result<(), Failure> {
        self.run(&self.words(&["daemon-reload"], &[]))?;
        // Units that have not failed are not known any more by now, which it calls an error.
        let _ = self.ran(&self.words(&["reset-failed"], names))?;
        Ok(())
    }

    /// What it says of properties of a unit.
    pub(super) fn properties(&self, name: &str, properties: &str) -> Result<String, Failure> {
        let words = self.words(&["show", "--property", properties], &[name]);
        let ran = self.ran(&words)?;
        Ok(String::from_utf8_lossy(&ran.output).into_owned())
    }

    fn words(&self, verb: &[&str], names: &[&str]) -> Vec<String> {
        let scope: &[&str] = if self.scope == Scope::User { &["--user"] } else { &[] };
        [&[PROGRAM], scope, verb, names].concat().into_iter().map(str::to_owned).collect()
    }

    fn ran(&self, words: &[String]) -> Result<process::Ran, Failure> {
        let mut command = Command::new(&words[0]);
        process::run(command.args(&words[1..]), TIMEOUT, self.surroundings.interrupt)
            .map_err(|error| Failure::from(error).context(format!("running {}", words.join(" "))))
    }

    fn run(&self, words: &[String]) -> Result<(), Failure> {
        let ran = self.ran(words)?;
        for line in ran.last_lines(LINES) {
            let line = format!("{PROGRAM}: {}", Shown(line.as_bytes()));
            let output = self.surroundings.output;
            if ran.is_success() { output.detail(&line) } else { output.warning(&line) }
        }
        if ran.is_success() {
            return Ok(());
        }
        let text = format!("{} {}", words.join(" "), ran.how(TIMEOUT));
        Err(Failure::message(Exit::General, text).hint(
            "run this again when that is repaired; `smart-sync service remove` takes back what was written",
        ))
    }
}
