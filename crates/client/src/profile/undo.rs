//! Going back with all targets of a set: because it is not well, because nobody has confirmed it, or because somebody has
//! said so.
//!
//! Getting readers back comes before remembering why: where the state cannot be written, because a command has filled the
//! disk, the targets go back all the same.

use std::path::PathBuf;

use super::journal::{Reason, State};
use super::members::{Members, Switched};
use super::settle::{Ended, Unsettled};
use super::taken::Stuck;
use crate::after::ballast;
use crate::after::moment::Moment;
use crate::after::pending::{By, Failed, Pending, Phase, Return};
use crate::after::restore::Restored;
use crate::after::undo::{ATTEMPTS_MAX, remembered};
use crate::after::verdict::{How, Verdict};
use crate::after::way_back::{Due, WayBack};
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::realm::resolve::now;
use crate::versions::hold::Hold;

impl Unsettled<'_> {
    /// Takes all targets back, or goes on with that.
    pub(super) fn go_back(self, reason: Reason) -> Result<Ended, Failure> {
        match reason {
            Reason::Asked => self.go_where_asked(Switched::ByOthersToo),
            Reason::Unhealthy(reason) => self.leave(&reason).map(Ended::Back),
        }
    }

    /// Takes all targets to where somebody wants them.
    pub(super) fn go_to_chosen(self) -> Result<Ended, Failure> {
        self.go_where_asked(Switched::ByThisRun)
    }

    fn go_where_asked(mut self, switched: Switched) -> Result<Ended, Failure> {
        self.check_interrupt()?;
        let places = self.places()?;
        // Where somebody else has one of the targets just now, nothing is decided.
        let mut members = self.take(&places)?;
        self.journal.state = State::GoingBack(Reason::Asked);
        self.store.write_journal(&self.journal)?;
        let before = match switched {
            Switched::ByThisRun => {
                self.stand_by_for_chosen();
                0
            }
            // What stands by is what goes on here, or ended with the machine.
            Switched::ByOthersToo => self.attempts(By::Somebody)?,
        };
        members.go_back(&self.journal.back, self.surroundings).map_err(|failure| {
            let profile = &self.journal.set.profile;
            self.in_going_back(failure)
                .hint(format!("`smart-sync recover --profile {profile}` goes on from here"))
        })?;
        self.stay(&members, switched, before)
    }

    /// Sees to it that going there comes to its end, whatever becomes of this run: what runs for it may be what cuts off
    /// whoever has asked for it.
    fn stand_by_for_chosen(&self) {
        let way_back = WayBack::of(self.surroundings);
        let armed =
            self.note_return("", 0, By::Somebody).and_then(|()| way_back.arm(&self.subject(), Due::AfterRun));
        if let Err(failure) = armed {
            self.surroundings.output.warning(&format!(
                "going to that set is not brought to its end if this run is killed: {}",
                failure.in_one_line()
            ));
        }
    }

    fn leave(mut self, reason: &str) -> Result<Exit, Failure> {
        self.check_interrupt()?;
        let (surroundings, directory) = (self.surroundings, self.store.directory());
        self.journal.state = State::GoingBack(Reason::Unhealthy(reason.to_owned()));
        surroundings.output.warning(&format!("{} is not healthy: {reason}", self.journal.set.profile));
        ballast::release(directory);
        let manifest = self.journal.set.id().to_string();
        let failed = Failed { manifest, reason: reason.to_owned(), since: now().seconds() };
        remembered(failed.note(directory), surroundings);
        remembered(self.store.write_journal(&self.journal), surroundings);
        let places = self.places()?;
        let mut members = self.take(&places)?;
        members.load_changed()?;
        let stuck = members.go_back(&self.journal.back, surroundings).map_err(|failure| {
            let failure = self.in_going_back(failure);
            if failure.exit() == Exit::Interrupted {
                failure
            } else {
                failure.with_exit(Exit::RollbackFailed)
            }
        })?;
        // What was in its place before has nothing before it.
        let stuck = if self.journal.is_in_place() { members.not_moved() } else { stuck };
        self.finish(&members, reason, stuck)
    }

    fn check_interrupt(&self) -> Result<(), Failure> {
        // It says nothing about the set; the next run, or `recover`, decides.
        if self.surroundings.interrupt.is_requested() { Err(interrupted()) } else { Ok(()) }
    }

    fn in_going_back(&self, failure: Failure) -> Failure {
        failure.context(format!("taking the targets of {} back", self.journal.set.profile))
    }

    /// How often it was begun to run what belongs to going back.
    fn attempts(&self, by: By) -> Result<u32, Failure> {
        let pending = Pending::read(self.store.directory())?;
        Ok(match pending.map(|pending| pending.phase) {
            Some(Phase::Returning(back)) if back.by == by => back.attempts,
            _ => 0,
        })
    }

    fn note_return(&self, reason: &str, attempts: u32, by: By) -> Result<(), Failure> {
        let phase = Phase::Returning(Return { reason: reason.to_owned(), attempts, by });
        // What goes back because somebody wants it to is another set than the one of an earlier note.
        let pending = if by == By::Itself { self.pending()? } else { self.unproven(String::new())? };
        pending.in_phase(phase, &Moment::now()?).write(self.store.directory())
    }

    /// All targets stay where somebody has taken them, also where what runs for that fails, as it did `before` this run
    /// so often that it did not come to its end.
    fn stay(&self, members: &Members<'_>, switched: Switched, before: u32) -> Result<Ended, Failure> {
        let surroundings = self.surroundings;
        let (since, number) = (now().seconds(), self.journal.set.number);
        for (place, generation) in members.generations()? {
            if let Some(generation) = generation {
                Hold { generation, since }.write(&place.state)?;
            }
        }
        Hold { generation: number, since }.write(self.store.directory())?;
        let mut sets = self.store.sets()?;
        sets.current = number;
        self.store.write_sets(&sets)?;
        let ran = if before >= ATTEMPTS_MAX {
            Err(never_ended())
        } else {
            remembered(self.note_return("", before + 1, By::Somebody), surroundings);
            members.run_for_chosen(switched, surroundings)
        };
        if surroundings.interrupt.is_requested() {
            return Err(interrupted());
        }
        // Whether the set that is left would have been confirmed is not asked any more.
        self.forget()?;
        ran.map_err(|reason| {
            let profile = &self.journal.set.profile;
            let text = format!("all targets of {profile} are at set {number}, but {reason}");
            Failure::message(Exit::RollbackFailed, text).hint(
                "repair what is named here, and run `smart-sync rebuild` for that target; they stay at this set",
            )
        })?;
        if members.needs_reboot_for_chosen(switched) {
            surroundings.output.warning("it takes a reboot until what runs are those versions, too");
            return Ok(Ended::Waits(Exit::RebootPending));
        }
        Ok(Ended::Forward)
    }

    /// Runs the commands for going back, whoever has begun with them, takes back what was done for targets that stay, and
    /// ends the set.
    fn finish(&self, members: &Members<'_>, reason: &str, stuck: Vec<PathBuf>) -> Result<Exit, Failure> {
        let (surroundings, directory) = (self.surroundings, self.store.directory());
        let before = self.attempts(By::Itself)?;
        let (ran, stuck) = if before >= ATTEMPTS_MAX {
            let stays = |target| Stuck { target, restored: Restored::Nothing };
            (Err(never_ended()), stuck.into_iter().map(stays).collect())
        } else {
            remembered(self.note_return(reason, before + 1, By::Itself), surroundings);
            let ran = members.run_for_rollback(&self.journal, surroundings);
            (ran, members.restore(stuck, surroundings))
        };
        if surroundings.interrupt.is_requested() {
            return Err(interrupted());
        }
        let how = match &ran {
            Ok(()) => How::RolledBack(reason.to_owned()),
            Err(reason) => How::RollbackFailed(format!("going back to it: {reason}")),
        };
        members.note_ending(&self.journal, reason, &stuck, &how, surroundings);
        let sets = self.store.sets()?;
        let id = sets.current().map_or_else(String::new, |set| set.id().to_string());
        let how = if !stuck.iter().all(Stuck::is_restored) {
            How::RollbackFailed(reason.to_owned())
        } else if self.stays(&stuck) {
            How::TakenBack(reason.to_owned())
        } else {
            how
        };
        remembered(Verdict::end(directory, &id, how), surroundings);
        self.forget()?;
        if members.needs_reboot_for_rollback(&self.journal) {
            surroundings.output.warning("it takes a reboot until what runs are those versions, too");
        }
        self.tell(reason, &stuck, ran, sets.current)
    }

    /// Whether no target of the set has gone back.
    fn stays(&self, stuck: &[Stuck]) -> bool {
        !stuck.is_empty() && stuck.len() == self.journal.on_trial().count()
    }

    fn tell(
        &self,
        reason: &str,
        stuck: &[Stuck],
        ran: Result<(), String>,
        current: u64,
    ) -> Result<Exit, Failure> {
        let (profile, output) = (&self.journal.set.profile, self.surroundings.output);
        let failed = ran.as_ref().err().map_or_else(String::new, |failed| format!("; {failed}"));
        for stuck in stuck {
            let Restored::All { needs_reboot } = stuck.restored else { continue };
            let target = stuck.target.display();
            output.warning(&format!("{target}: what ran before is in its place again; the tree stays"));
            if needs_reboot {
                output.warning(&format!("{target}: it takes a reboot until that is what runs"));
            }
        }
        let names: Vec<_> = stuck.iter().filter(|stuck| !stuck.is_restored()).map(named).collect();
        if !names.is_empty() {
            return Err(Failure::message(
                Exit::RollbackFailed,
                format!("{profile} is not healthy ({reason}), and there is nothing to go back to for {}{failed}", names.join(", ")),
            )
            .hint("versions are kept by targets of the kinds generations, btrfs, zfs and overlay, from the second one on; repair what is named here, and run this again with --retry-failed"));
        }
        let to = if current == 0 { "what they were".to_owned() } else { format!("set {current}") };
        if let Err(reason) = ran {
            let text = format!("the targets of {profile} are back at {to}, but {reason}");
            return Err(Failure::message(Exit::RollbackFailed, text)
                .hint("repair what is named here; --retry-failed tries the newer versions again"));
        }
        let what = if self.stays(stuck) {
            format!("all targets of {profile} stay as they are")
        } else {
            let which = if stuck.is_empty() { "all targets" } else { "all other targets" };
            format!("{which} of {profile} are back at {to}")
        };
        output
            .warning(&format!("{what}; these versions are not tried together again without --retry-failed"));
        output.event(&serde_json::json!({
            "event": "set-unhealthy",
            "profile": profile,
            "reason": reason,
            "set": current,
        }));
        Ok(Exit::RolledBack)
    }
}

fn never_ended() -> String {
    format!("the commands for that were begun {ATTEMPTS_MAX} times, and none came to their end")
}

/// A target that stays, and what of it was not taken back, where that is known.
fn named(stuck: &Stuck) -> String {
    let target = stuck.target.display();
    match &stuck.restored {
        Restored::Partly(failed) => format!("{target} ({failed})"),
        Restored::Nothing | Restored::All { .. } => target.to_string(),
    }
}
