//! The trial of a set whose targets are all switched: the commands of all of them, then their checks, and who confirms it.
//!
//! Nothing here goes back, and nothing decides what becomes of a set that is left: that is [fate](crate::after::fate), as
//! for a target.

use std::time::Duration;

use serde::Serialize;

use super::journal::Journal;
use super::members::Members;
use super::store::Store;
use crate::after::confirmation::Confirmation;
use crate::after::pending::{Failed, Pending};
use crate::after::subject::Subject;
use crate::after::trial::Proof;
use crate::after::trigger::Stage;
use crate::after::verdict::{How, Verdict};
use crate::after::waiting;
use crate::failure::Failure;
use crate::interrupt::interrupted;
use crate::output::Output;
use crate::sync::Surroundings;

/// A set on trial.
#[derive(Clone, Copy)]
pub(super) struct Trial<'t, 's> {
    pub(super) store: &'t Store,
    pub(super) journal: &'t Journal,
    pub(super) pending: &'t Pending,
    pub(super) members: &'t Members<'s>,
    pub(super) surroundings: &'t Surroundings<'t>,
}

/// What a set waits for, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event")]
enum WaitEvent<'a> {
    /// Somebody who confirms it, for so many seconds.
    #[serde(rename = "set-waiting")]
    Waiting { profile: &'a str, set: u64, within: u64 },
    /// The machine to be started again.
    #[serde(rename = "set-reboot-pending")]
    RebootPending { profile: &'a str, set: u64 },
    /// Nothing any more.
    #[serde(rename = "set-confirmed")]
    Confirmed { profile: &'a str, set: u64 },
}

/// Says that a set is confirmed, and is the one of this number.
pub(super) fn tell_confirmed(profile: &str, set: u64, output: &Output) {
    output.event(&WaitEvent::Confirmed { profile, set });
}

impl Trial<'_, '_> {
    /// The trial of a pull: the commands of all targets, then their checks.
    pub(super) fn of_update(self) -> Result<Proof, Failure> {
        self.told(|| {
            self.members.run(Stage::Update, self.surroundings)?;
            if self.members.needs_reboot(Stage::Update) {
                return self.await_reboot().map_err(|failure| failure.in_one_line());
            }
            self.checked()
        })
    }

    /// The rest of it, for a set that had to wait until the machine was started again.
    pub(super) fn after_reboot(self) -> Result<Proof, Failure> {
        self.told(|| {
            self.members.came_up()?;
            self.checked()
        })
    }

    /// Somebody says that all is well.
    pub(super) fn is_confirmed(self) -> Result<Proof, Failure> {
        self.told(|| self.confirm())
    }

    /// A run that was asked to end says nothing about a set.
    fn told(self, judge: impl FnOnce() -> Result<Proof, String>) -> Result<Proof, Failure> {
        match judge() {
            _ if self.surroundings.interrupt.is_requested() => Err(interrupted()),
            Ok(proof) => Ok(proof),
            Err(reason) => Ok(Proof::Fails(reason)),
        }
    }

    fn checked(self) -> Result<Proof, String> {
        self.members.check(self.surroundings)?;
        if self.members.has_checks() {
            self.surroundings.output.info(&format!("{} is healthy", self.journal.set.profile));
        }
        match self.members.confirmation() {
            // Where there is nothing to go back to, nothing depends on it.
            Confirmation::ByPerson(within) if self.can_go_back() => {
                self.wait(within).map_err(|failure| failure.in_one_line())
            }
            Confirmation::ByPerson(_) | Confirmation::ByChecks => self.confirm(),
        }
    }

    /// Whether something can be gone back to: versions, or what triggers know themselves.
    fn can_go_back(self) -> bool {
        self.pending.previous.is_some() || self.members.takes_back(self.journal)
    }

    fn confirm(self) -> Result<Proof, String> {
        self.members.run(Stage::Confirmed, self.surroundings)?;
        self.note_confirmed().map_err(|failure| failure.in_one_line())?;
        Ok(Proof::Confirmed)
    }

    fn note_confirmed(self) -> Result<(), Failure> {
        let directory = self.store.directory();
        self.members.note_confirmed()?;
        let id = self.journal.set.id().to_string();
        Failed::forget(directory, &id)?;
        Verdict::end(directory, &id, How::Confirmed)
    }

    fn wait(self, within: Duration) -> Result<Proof, Failure> {
        waiting::wait(&self.subject(), self.pending, within, self.surroundings)?;
        let within = within.as_secs();
        self.event(|profile, set| WaitEvent::Waiting { profile, set, within });
        Ok(Proof::Waits)
    }

    fn await_reboot(self) -> Result<Proof, Failure> {
        waiting::await_reboot(&self.subject(), self.pending, self.surroundings)?;
        self.event(|profile, set| WaitEvent::RebootPending { profile, set });
        Ok(Proof::AwaitsReboot)
    }

    fn subject(&self) -> Subject<'_> {
        Subject::set(&self.journal.set.profile, self.store.directory())
    }

    fn event(&self, event: impl for<'e> FnOnce(&'e str, u64) -> WaitEvent<'e>) {
        let set = &self.journal.set;
        self.surroundings.output.event(&event(&set.profile, set.number));
    }
}
