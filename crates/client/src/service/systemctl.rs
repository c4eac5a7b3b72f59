//! Telling the service manager.

use super::tool;
use super::units::Scope;
use crate::failure::{Exit, Failure};
use crate::programs;
use crate::sync::Surroundings;

const PROGRAM: &str = "systemctl";
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
        if names.is_empty() { Ok(()) } else { self.run(&["disable", "--now"], names) }
    }

    /// Has units start with the machine, and now; those that changed start again.
    pub(super) fn start(&self, names: &[&str], changed: &[&str]) -> Result<(), Failure> {
        self.run(&["daemon-reload"], &[])?;
        self.run(&["enable", "--now"], names)?;
        if changed.is_empty() { Ok(()) } else { self.run(&["try-restart"], changed) }
    }

    /// Has nothing be known of units any more whose files are gone.
    pub(super) fn forget(&self, names: &[&str]) -> Result<(), Failure> {
        self.run(&["daemon-reload"], &[])?;
        // Units that have not failed are not known any more by now, which it calls an error.
        let _ = tool::ran(&self.words(&["reset-failed"], names), self.surroundings)?;
        Ok(())
    }

    /// What it says of properties of a unit.
    pub(super) fn properties(&self, name: &str, properties: &str) -> Result<String, Failure> {
        let words = self.words(&["show", "--property", properties], &[name]);
        let ran = tool::ran(&words, self.surroundings)?;
        Ok(String::from_utf8_lossy(&ran.output).into_owned())
    }

    fn words(&self, verb: &[&str], names: &[&str]) -> Vec<String> {
        let scope: &[&str] = if self.scope == Scope::User { &["--user"] } else { &[] };
        [&[PROGRAM], scope, verb, names].concat().into_iter().map(str::to_owned).collect()
    }

    fn run(&self, verb: &[&str], names: &[&str]) -> Result<(), Failure> {
        tool::run(&self.words(verb, names), self.surroundings)
    }
}
