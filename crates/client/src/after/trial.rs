//! The trial of a version that readers were switched to: commands, checks, and who confirms it.
//!
//! Nothing here goes back. What keeps a version from being confirmed is a reason, also where it is a fault of this host,
//! such as a disk that a command has filled: a version that cannot be noted as confirmed is not.

use std::time::Duration;

use serde::Serialize;

use super::confirmation::Confirmation;
use super::pending::{Failed, Pending};
use super::subject::Subject;
use super::trigger::{After, Changed, Stage};
use super::verdict::Verdict;
use super::waiting;
use super::work::{Work, came_up, needs_reboot};
use crate::failure::Failure;
use crate::interrupt::interrupted;
use crate::sync::Surroundings;
use crate::sync::session::Session;

/// A version on trial.
#[derive(Clone, Copy)]
pub(super) struct Trial<'t, 's> {
    pub(super) session: &'t Session<'s>,
    pub(super) after: &'t After,
    pub(super) changed: Changed<'t>,
    pub(super) pending: &'t Pending,
    pub(super) surroundings: &'t Surroundings<'t>,
}

/// What came of it.
pub(crate) enum Proof {
    /// All is well.
    Confirmed,
    /// All is well as far as this host can tell; somebody has to say so too.
    Waits,
    /// It can only be told when the machine was started again.
    AwaitsReboot,
    /// Something is not well.
    Fails(String),
}

/// What a version waits for, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum WaitEvent<'a> {
    /// Somebody who confirms it, for so many seconds.
    Waiting { target: &'a str, manifest: &'a str, within: u64 },
    /// The machine to be started again.
    RebootPending { target: &'a str, manifest: &'a str },
    /// Nothing any more.
    Confirmed { target: &'a str, manifest: &'a str },
}

impl Trial<'_, '_> {
    /// The trial of an update: the commands that it needs, then the checks.
    pub(super) fn of_update(self) -> Result<Proof, Failure> {
        self.told(|| {
            self.work(Stage::Update)?.run(self.after)?;
            if needs_reboot(self.session.place(), self.after, self.changed, Stage::Update) {
                return self.await_reboot().map_err(|failure| failure.in_one_line());
            }
            self.checked()
        })
    }

    /// The rest of it, for a version that had to wait until the machine was started again.
    pub(super) fn after_reboot(self) -> Result<Proof, Failure> {
        self.told(|| {
            came_up(self.session.place(), self.after, self.changed)?;
            self.checked()
        })
    }

    /// Somebody says that all is well.
    pub(super) fn is_confirmed(self) -> Result<Proof, Failure> {
        self.told(|| self.confirm())
    }

    /// A run that was asked to end says nothing about a version.
    fn told(self, judge: impl FnOnce() -> Result<Proof, String>) -> Result<Proof, Failure> {
        match judge() {
            _ if self.surroundings.interrupt.is_requested() => Err(interrupted()),
            Ok(proof) => Ok(proof),
            Err(reason) => Ok(Proof::Fails(reason)),
        }
    }

    fn work(&self, stage: Stage) -> Result<Work<'_>, String> {
        Work::new(self.session, self.changed, stage, self.surroundings)
            .map_err(|failure| failure.in_one_line())
    }

    fn checked(self) -> Result<Proof, String> {
        self.work(Stage::Update)?.check(self.after)?;
        if !self.after.check.is_empty() {
            self.say("is healthy");
        }
        match self.after.confirm {
            // Where there is nothing to go back to, nothing depends on it.
            Confirmation::ByPerson(within) if self.pending.can_go_back(self.after) => {
                self.wait(within).map_err(|failure| failure.in_one_line())
            }
            Confirmation::ByPerson(_) | Confirmation::ByChecks => self.confirm(),
        }
    }

    fn confirm(self) -> Result<Proof, String> {
        self.work(Stage::Confirmed)?.run(self.after)?;
        self.note_confirmed().map_err(|failure| failure.in_one_line())?;
        self.event(|target, manifest| WaitEvent::Confirmed { target, manifest });
        Ok(Proof::Confirmed)
    }

    fn note_confirmed(self) -> Result<(), Failure> {
        let place = self.session.place();
        Failed::forget(&place.state, &self.pending.manifest)?;
        if let Some(version) = &self.session.applied {
            Verdict::confirm(&place.state, version)?;
        }
        super::forget(place)
    }

    fn wait(self, within: Duration) -> Result<Proof, Failure> {
        let place = self.session.place();
        Pending::keep_changed(&place.state, self.changed)?;
        waiting::wait(&Subject::target(place).noted(self.pending), self.pending, within, self.surroundings)?;
        let within = within.as_secs();
        self.event(|target, manifest| WaitEvent::Waiting { target, manifest, within });
        Ok(Proof::Waits)
    }

    fn await_reboot(self) -> Result<Proof, Failure> {
        let place = self.session.place();
        Pending::keep_changed(&place.state, self.changed)?;
        waiting::await_reboot(&Subject::target(place).noted(self.pending), self.pending, self.surroundings)?;
        self.event(|target, manifest| WaitEvent::RebootPending { target, manifest });
        Ok(Proof::AwaitsReboot)
    }

    fn say(&self, what: &str) {
        self.surroundings.output.info(&format!("{} {what}", self.session.place().target.display()));
    }

    fn event(&self, event: impl for<'e> FnOnce(&'e str, &'e str) -> WaitEvent<'e>) {
        let target = self.session.place().target.to_string_lossy();
        let manifest = format!("blake3:{}", self.pending.manifest);
        self.surroundings.output.event(&event(&target, &manifest));
    }
}
