//! Bringing a set to its end: committed, waiting, or gone back.

use std::path::{Path, PathBuf};

use smart_sync_sync::apply::error::ApplyError;
use smart_sync_sync::name::Channel;

use super::journal::{Journal, Next, Reason, Standing, State, next};
use super::members::{Members, Places};
use super::settings::AfterPull;
use super::store::{self, PROFILES, Store};
use super::trial::{Trial, tell_confirmed};
use crate::after::ballast;
use crate::after::fate::{Fate, Hands, Holds, fate};
use crate::after::moment::Moment;
use crate::after::pending::{self, Failed, Pending, Phase};
use crate::after::settled_at;
use crate::after::subject::Subject;
use crate::after::trial::Proof;
use crate::after::trigger::nixos::Override;
use crate::after::waiting::{still_waits, tell_awaits_reboot};
use crate::after::way_back::{Due, WayBack};
use crate::failure::{Exit, Failure};
use crate::hosts::report;
use crate::sync::Surroundings;
use crate::sync::place::Place;

/// The paths that changed, in each target of a set.
pub(super) type ChangedOfAll = Vec<Vec<Box<[u8]>>>;

/// How a set has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is committed, or nothing was to be settled.
    Forward,
    /// It went back.
    Back(Exit),
    /// It waits for somebody, or for the machine to be started again.
    Waits(Exit),
}

/// A set that is not committed, which belongs to this run.
pub(super) struct Unsettled<'s> {
    pub(super) store: &'s Store,
    pub(super) journal: Journal,
    pub(super) surroundings: &'s Surroundings<'s>,
}

/// Settles the sets of all profiles that were pulled on this host.
pub fn settle_all(surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let mut ended = Exit::Success;
    for directory in store::all(&surroundings.state_dir.join(PROFILES))? {
        let name = directory.display().to_string();
        ended = ended.and(surroundings.output.ended(settle_at(directory, &name, surroundings)));
    }
    Ok(ended)
}

/// Settles the set of one profile.
pub fn settle_one(profile: &Channel, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let directory = store::directory_of(profile, surroundings.state_dir);
    if !directory.is_dir() {
        surroundings.output.info(&format!("{profile} was not pulled on this host"));
        return Ok(Exit::Success);
    }
    settle_at(directory, &format!("the profile {profile}"), surroundings)
}

fn settle_at(directory: PathBuf, name: &str, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let store = match Store::at(directory, name) {
        Err(failure) if matches!(failure.cause(), Some(ApplyError::Locked(_))) => {
            // A run that is at work was not interrupted. Whoever has one of the targets alone is not that run.
            surroundings.output.info(&failure.in_one_line());
            return Ok(Exit::Success);
        }
        opened => opened?,
    };
    Ok(match settle(&store, surroundings)? {
        Ended::Forward => Exit::Success,
        Ended::Back(exit) | Ended::Waits(exit) => exit,
    })
}

/// Settles a set whose run has ended, and reports what became of its targets.
pub(super) fn settle(store: &Store, surroundings: &Surroundings<'_>) -> Result<Ended, Failure> {
    let journal = store.journal()?;
    let ended = match settle_once(store, surroundings) {
        Err(failure) if failure.is_full() => {
            // Room was set aside for targets that have to go back.
            ballast::release(store.directory());
            settle_once(store, surroundings)
        }
        ended => ended,
    };
    if let Some(journal) = journal {
        report_all(&journal, &ended, surroundings);
    }
    ended
}

/// Reports what became of the targets of a set.
pub(super) fn report_all(journal: &Journal, ended: &Result<Ended, Failure>, surroundings: &Surroundings<'_>) {
    let exit = match ended {
        Ok(Ended::Forward) => Exit::Success,
        Ok(Ended::Back(exit) | Ended::Waits(exit)) => *exit,
        Err(failure) => failure.exit(),
    };
    for member in &journal.set.members {
        report::after(&member.target, &Ok(exit), surroundings);
    }
}

fn settle_once(store: &Store, surroundings: &Surroundings<'_>) -> Result<Ended, Failure> {
    let Some(journal) = store.journal()? else {
        // A run that was killed when all was said and done has left them.
        settled_at(store.directory())?;
        return Ok(Ended::Forward);
    };
    let is_new = !matches!(journal.state, State::GoingBack(_));
    let set = Unsettled { store, journal, surroundings };
    if is_new && store.sets()?.find(set.journal.set.number).is_some() {
        // It was committed, and only the journal was left.
        set.forget()?;
        return Ok(Ended::Forward);
    }
    let output = surroundings.output;
    let profile = set.journal.set.profile.clone();
    let standings = set.standings()?;
    match next(&set.journal.state, &standings) {
        Next::Forget => {
            set.forget()?;
            output.info(&format!(
                "an earlier pull of {profile} had not changed anything yet; what it fetched is used again"
            ));
            Ok(Ended::Forward)
        }
        Next::Prove => {
            output.info(&format!("an earlier pull of {profile} was interrupted; it is completed now"));
            set.prove(None, None)
        }
        Next::GoBack(reason) => set.go_back(reason),
        Next::Judge => {
            let (pending, fate) = set.judged(&standings)?;
            match fate {
                Fate::Forget => set.forget().map(|()| Ended::Forward),
                Fate::Leave | Fate::Wait(_) => {
                    if let Phase::Waiting(window) = &pending.phase {
                        still_waits(&set.subject(), window, surroundings)?;
                    }
                    Ok(Ended::Waits(Exit::Success))
                }
                Fate::AwaitReboot => {
                    tell_awaits_reboot(&set.subject(), output);
                    Ok(Ended::Waits(Exit::RebootPending))
                }
                Fate::Prove => set.prove_after_reboot(pending),
                Fate::GoBack(reason) => set.go_back(Reason::Unhealthy(reason)),
                Fate::Finish(back) => set.go_back(Reason::Unhealthy(back.reason)),
            }
        }
    }
}

impl<'s> Unsettled<'s> {
    /// All of it, as one.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::set(&self.journal.set.profile, self.store.directory())
    }

    /// Where its targets are.
    pub(super) fn places(&self) -> Result<Places, Failure> {
        Places::find(&self.journal.set, self.surroundings)
    }

    /// Takes its targets, with what runs for them.
    pub(super) fn take<'m>(&self, places: &'m Places) -> Result<Members<'m>, Failure>
    where
        's: 'm,
    {
        let mut members = Members::take(places, self.surroundings)?;
        if self.journal.after == AfterPull::Nothing {
            members.skip_after();
        }
        Ok(members)
    }

    /// Where the targets stand that it changes.
    pub(super) fn standings(&self) -> Result<Vec<Standing>, Failure> {
        let places = self.places()?;
        Ok(self.take(&places)?.standings(&self.journal))
    }

    /// What is noted of the trial of a set whose targets were all switched, and what is to be done about it.
    pub(super) fn judged(&self, standings: &[Standing]) -> Result<(Pending, Fate), Failure> {
        let pending = self.pending()?;
        let holds_it = standings.is_empty() || standings.contains(&Standing::New);
        let holds = if holds_it { Holds::It } else { Holds::Another };
        // The lock of the profile is held: nobody else is at work.
        let fate = fate(&pending, holds, Hands::None, &Moment::now()?);
        Ok((pending, fate))
    }

    /// What is noted of the trial. One of which nothing is noted is that of a run that has died.
    pub(super) fn pending(&self) -> Result<Pending, Failure> {
        match Pending::read(self.store.directory())? {
            Some(pending) => Ok(pending),
            None => self.unproven(String::new()),
        }
    }

    pub(super) fn unproven(&self, boot: String) -> Result<Pending, Failure> {
        let Journal { set, .. } = &self.journal;
        let current = self.store.sets()?.current;
        Ok(Pending {
            manifest: set.id().to_string(),
            previous: self.journal.can_go_back().then(|| current.to_string()),
            since: set.applied,
            boot,
            phase: Phase::Proving,
            run: pending::Run::Update,
            said: Override::default(),
        })
    }

    /// Sees to it that the set is settled, whatever becomes of this run. Its targets may be switched then.
    pub(super) fn stand_by(&self, targets: &[&Path]) -> Result<Pending, Failure> {
        let pending = self.unproven(Moment::now()?.boot)?;
        let way_back = WayBack::of(self.surroundings);
        crate::after::stand_by(&self.subject(), &pending, targets, &way_back)?;
        Ok(pending)
    }

    /// Looks whether a set is well whose targets are all switched, and commits it; or takes all of them back. `armed` is
    /// what is noted of its trial, where this run has seen to it that the set is settled.
    pub(super) fn prove(
        mut self,
        changed: Option<ChangedOfAll>,
        armed: Option<Pending>,
    ) -> Result<Ended, Failure> {
        let places = self.places()?;
        let mut members = self.take(&places)?;
        members.note_versions(&mut self.journal.set)?;
        if self.journal.state != State::Switching || !members.has_after() {
            drop(members);
            Failed::forget(self.store.directory(), &self.journal.set.id().to_string())?;
            self.commit()?;
            return Ok(Ended::Forward);
        }
        // Whoever goes on with a set that another run has switched is looked after as well.
        let pending = armed.map_or_else(|| self.stand_by(&places.states()), Ok)?;
        members.keep_changed(changed)?;
        self.journal.state = State::Proving;
        self.store.write_journal(&self.journal)?;
        let proof = self.trial(&pending, &members).of_update()?;
        drop(members);
        self.ended(proof)
    }

    /// The same for a set that had to wait until the machine was started again.
    fn prove_after_reboot(self, pending: Pending) -> Result<Ended, Failure> {
        let surroundings = self.surroundings;
        let places = self.places()?;
        let mut members = self.take(&places)?;
        members.load_changed()?;
        // The note comes last: a set of which it says that a run is at it goes back when that cannot go on, and this run
        // may not even begin, where somebody else has a target just now.
        WayBack::of(surroundings).arm(&self.subject(), Due::AfterRun)?;
        let pending = pending.in_phase(Phase::Proving, &Moment::now()?);
        pending.write(self.store.directory())?;
        let proof = self.trial(&pending, &members).after_reboot()?;
        drop(members);
        let profile = self.journal.set.profile.clone();
        let ended = self.ended(proof)?;
        if ended == Ended::Forward {
            surroundings.output.info(&format!("{profile} is confirmed after the reboot"));
        }
        Ok(ended)
    }

    /// Confirms a set that waits for that.
    pub(super) fn confirm(self, pending: &Pending) -> Result<Ended, Failure> {
        let places = self.places()?;
        let mut members = self.take(&places)?;
        members.load_changed()?;
        let proof = self.trial(pending, &members).is_confirmed()?;
        drop(members);
        self.ended(proof)
    }

    fn trial<'t, 'm>(&'t self, pending: &'t Pending, members: &'t Members<'m>) -> Trial<'t, 'm> {
        let Self { store, ref journal, surroundings } = *self;
        Trial { store, journal, pending, members, surroundings }
    }

    /// Draws the consequence of a trial.
    fn ended(self, proof: Proof) -> Result<Ended, Failure> {
        match proof {
            Proof::Confirmed => {
                let number = self.commit()?;
                tell_confirmed(&self.journal.set.profile, number, self.surroundings.output);
                Ok(Ended::Forward)
            }
            Proof::Waits => Ok(Ended::Waits(Exit::Success)),
            Proof::AwaitsReboot => Ok(Ended::Waits(Exit::RebootPending)),
            Proof::Fails(reason) => self.go_back(Reason::Unhealthy(reason)),
        }
    }

    /// Makes it the set that the targets are at. Returns the number that it has.
    fn commit(&self) -> Result<u64, Failure> {
        let mut sets = self.store.sets()?;
        if !sets.current().is_some_and(|current| current.is_same(&self.journal.set)) {
            sets.add(self.journal.set.clone());
            self.store.write_sets(&sets)?;
        }
        self.forget()?;
        Ok(sets.current)
    }

    /// Nothing is to be done about the set any more.
    pub(super) fn forget(&self) -> Result<(), Failure> {
        // A list of what changed means nothing to whoever changes a target next. Before that has begun, it is not this
        // set's list: a target may wait by itself.
        let targets = self.journal.set.members.iter().filter(|_| self.journal.state != State::Staging);
        for place in targets.filter_map(|member| Place::known(&member.target, self.surroundings.state_dir)) {
            Pending::forget_changed(&place.state)?;
        }
        self.store.remove_journal()?;
        settled_at(self.store.directory())
    }
}
