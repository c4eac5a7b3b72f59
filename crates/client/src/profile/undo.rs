//! Going back with all targets of a set: because it is not well, because nobody has confirmed it, or because somebody has
//! said so.
//!
//! Getting readers back comes before remembering why: where the state cannot be written, because a command has filled the
//! disk, the targets go back all the same.

use std::path::PathBuf;

use super::journal::{Reason, State};
use super::members::{Members, Places, Switched};
use super::settings::AfterPull;
use super::settle::{Ended, Unsettled};
use crate::after::ballast;
use crate::after::moment::Moment;
use crate::after::pending::{By, Failed, Phase, Return};
use crate::after::trigger::Stage;
use crate::after::undo::{ATTEMPTS_MAX, remembered};
use crate::after::verdict::{How, Verdict};
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::realm::resolve::now;
use crate::versions::hold::Hold;

impl Unsettled<'_> {
    /// Takes all targets back, or goes on with that.
    pub(super) fn go_back(self, reason: Reason) -> Result<Ended, Failure> {
        self.go(reason, AfterPull::All, Switched::ByOthersToo)
    }

    /// Takes all targets to where somebody wants them.
    pub(super) fn go_to_chosen(self, after: AfterPull) -> Result<Ended, Failure> {
        self.go(Reason::Asked, after, Switched::ByThisRun)
    }

    fn go(mut self, reason: Reason, after: AfterPull, switched: Switched) -> Result<Ended, Failure> {
        let surroundings = self.surroundings;
        if surroundings.interrupt.is_requested() {
            // It says nothing about the set; the next run, or `recover`, decides.
            return Err(interrupted());
        }
        self.journal.state = State::GoingBack(reason.clone());
        let noted = |set: &Self| set.store.write_journal(&set.journal);
        match &reason {
            Reason::Asked => noted(&self)?,
            Reason::Unhealthy(reason) => {
                let profile = &self.journal.set.profile;
                surroundings.output.warning(&format!("{profile} is not healthy: {reason}"));
                ballast::release(self.store.directory());
                let manifest = self.journal.set.id().to_string();
                let failed = Failed { manifest, reason: reason.clone(), since: now().seconds() };
                remembered(failed.note(self.store.directory()), surroundings);
                remembered(noted(&self), surroundings);
            }
        }
        let places = Places::find(&self.journal.set, surroundings)?;
        let mut members = Members::take(&places, surroundings)?;
        if let Reason::Unhealthy(_) = &reason {
            members.load_changed()?;
        }
        if after == AfterPull::Nothing {
            members.skip_after();
        }
        let stuck = members.go_back(&self.journal.back, surroundings).map_err(|failure| {
            let failure = failure.context(format!("taking the targets of {} back", self.journal.set.profile));
            match (&reason, failure.exit()) {
                (Reason::Unhealthy(_), exit) if exit != Exit::Interrupted => {
                    failure.with_exit(Exit::RollbackFailed)
                }
                _ => failure,
            }
        })?;
        match reason {
            Reason::Asked => self.stay(&members, switched),
            Reason::Unhealthy(reason) => self.finish(&members, &reason, &stuck).map(Ended::Back),
        }
    }

    /// All targets stay where somebody has taken them, also where what runs for that fails.
    fn stay(&self, members: &Members<'_>, switched: Switched) -> Result<Ended, Failure> {
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
        let ran = members.run_for_chosen(switched, self.surroundings);
        if self.surroundings.interrupt.is_requested() {
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
        if members.needs_reboot(Stage::Chosen) {
            self.surroundings.output.warning("it takes a reboot until what runs are those versions, too");
        }
        Ok(Ended::Forward)
    }

    /// Runs the commands for going back, whoever has begun with them, and ends the set.
    fn finish(&self, members: &Members<'_>, reason: &str, stuck: &[PathBuf]) -> Result<Exit, Failure> {
        let (surroundings, directory) = (self.surroundings, self.store.directory());
        let pending = self.pending()?;
        let before = if let Phase::Returning(back) = &pending.phase { back.attempts } else { 0 };
        let ran = if before >= ATTEMPTS_MAX {
            Err(format!("the commands for that were begun {ATTEMPTS_MAX} times, and none came to their end"))
        } else {
            let back = Return { reason: reason.to_owned(), attempts: before + 1, by: By::Itself };
            let phase = Phase::Returning(back);
            remembered(
                Moment::now().and_then(|now| pending.in_phase(phase, &now).write(directory)),
                surroundings,
            );
            members.run_for_rollback(&self.journal, surroundings)
        };
        if surroundings.interrupt.is_requested() {
            return Err(interrupted());
        }
        let how = match &ran {
            Ok(()) => How::RolledBack(reason.to_owned()),
            Err(reason) => How::RollbackFailed(format!("going back to it: {reason}")),
        };
        members.note_ending(&self.journal, stuck, &how, surroundings);
        let sets = self.store.sets()?;
        let id = sets.current().map_or_else(String::new, |set| set.id().to_string());
        let how = if stuck.is_empty() { how } else { How::RollbackFailed(reason.to_owned()) };
        remembered(Verdict::end(directory, &id, how), surroundings);
        self.forget()?;
        if members.needs_reboot(Stage::Rollback) {
            surroundings.output.warning("it takes a reboot until what runs are those versions, too");
        }
        self.tell(reason, stuck, ran, sets.current)
    }

    fn tell(
        &self,
        reason: &str,
        stuck: &[PathBuf],
        ran: Result<(), String>,
        current: u64,
    ) -> Result<Exit, Failure> {
        let (profile, output) = (&self.journal.set.profile, self.surroundings.output);
        if !stuck.is_empty() {
            let names: Vec<_> = stuck.iter().map(|target| target.display().to_string()).collect();
            return Err(Failure::message(
                Exit::RollbackFailed,
                format!("{profile} is not healthy ({reason}), and there is nothing to go back to for {}", names.join(", ")),
            )
            .hint("versions are kept by targets of the kinds generations, btrfs, zfs and overlay, from the second one on; repair what is named here, and run this again with --retry-failed"));
        }
        let to = if current == 0 { "what they were".to_owned() } else { format!("set {current}") };
        if let Err(reason) = ran {
            let text = format!("the targets of {profile} are back at {to}, but {reason}");
            return Err(Failure::message(Exit::RollbackFailed, text)
                .hint("repair what is named here; --retry-failed tries the newer versions again"));
        }
        output.warning(&format!(
            "all targets of {profile} are back at {to}; these versions are not tried together again without --retry-failed"
        ));
        output.event(&serde_json::json!({
            "event": "set-unhealthy",
            "profile": profile,
            "reason": reason,
            "set": current,
        }));
        Ok(Exit::RolledBack)
    }
}
