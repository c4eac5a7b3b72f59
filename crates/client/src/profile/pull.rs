//! `pull`: all targets of a profile become what it says, or none of them.
//!
//! Everything is proven, fetched and made whole beside what readers see before the first target is switched. From then
//! on the [journal](super::journal) says what becomes of the set, whoever goes on with it.

use std::fs;
use std::path::{Path, PathBuf};

use super::between;
use super::journal::{FORMAT, Journal, State};
use super::list::{SetEvent, Standing, health};
use super::places::{held, make_place, ways};
use super::plan::Plan;
use super::set::{Member, Set};
use super::settings::PullSettings;
use super::settle::{self, ChangedOfAll, Ended, Unsettled};
use super::store::Store;
use crate::after::Settled;
use crate::after::pending::{Failed, Pending};
use crate::failure::{Exit, Failure};
use crate::hosts::report;
use crate::output::count;
use crate::realm::resolve::Realm;
use crate::settings::SyncMode;
use crate::sync::session::Session;
use crate::sync::{Part, Staged, Surroundings};
use crate::versions::hold::Hold;

/// Brings all targets of a profile to what it says, or says what that would change.
pub fn pull(settings: &PullSettings, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let profile = &settings.which.channel.channel;
    if settings.mode != SyncMode::Apply {
        let (realm, plan) = Plan::make(settings, surroundings)?;
        return plan.look(&realm, surroundings);
    }
    let store = Store::open(profile, surroundings.state_dir)?;
    if let Some(held) = Hold::read(store.directory())? {
        surroundings.output.warning(&format!(
            "{profile} was taken back to set {} and stays there; `smart-sync resume --profile {profile}` lets it be pulled again",
            held.generation
        ));
        return Ok(Exit::Success);
    }
    match settle::settle(&store, surroundings)? {
        Ended::Forward => {}
        Ended::Back(exit) | Ended::Waits(exit) => return Ok(exit),
    }
    let (realm, plan) = Plan::make(settings, surroundings)?;
    let ended = plan.apply(&realm, &store, surroundings);
    for settings in &plan.targets {
        report::after(&settings.target, &ended, surroundings);
    }
    ended
}

impl Plan<'_> {
    /// Brings all targets to what they are to be.
    fn apply(&self, realm: &Realm, store: &Store, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
        let made: Vec<&Path> = (self.targets.iter().map(|settings| &*settings.target))
            .filter(|target| target.symlink_metadata().is_err())
            .collect();
        let ended = self.apply_in_places(realm, store, surroundings);
        if ended.is_err() {
            for target in made {
                // Only an empty directory can be removed: what was fetched stays for the next run.
                let _ = fs::remove_dir(target);
            }
        }
        ended
    }

    fn apply_in_places(
        &self,
        realm: &Realm,
        store: &Store,
        surroundings: &Surroundings<'_>,
    ) -> Result<Exit, Failure> {
        let places = self.targets.iter().map(|settings| make_place(settings, surroundings));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        if let Some((place, held)) = held(&places)? {
            let target = place.target.display();
            surroundings.output.warning(&format!(
                "{target} was taken back to generation {held} and stays there, and with it all targets of {}; `smart-sync resume --target {target}` lets it follow again",
                self.profile()
            ));
            return Ok(Exit::Success);
        }
        for place in &places {
            // Another profile may have it as well.
            if let Some(exit) = between::waits(place, surroundings.output)? {
                return Ok(exit);
            }
        }
        let parts: Vec<Part<'_>> = (self.targets.iter().zip(&self.view.trees).zip(&places))
            .map(|((settings, resolved), place)| {
                Part::new(settings, surroundings, realm, resolved.clone(), place)
            })
            .collect();
        let set = self.set(&parts, &places, store)?;
        if self.is_refused(&set, &parts, store, surroundings)? {
            return Ok(Exit::RolledBack);
        }
        let mut sessions = Vec::new();
        for part in &parts {
            match part.begin()? {
                Settled::Nothing(session) | Settled::Confirmed(session) => sessions.push(*session),
                Settled::Undone(exit) | Settled::Waits(exit) => return Ok(exit),
            }
        }
        let run = Run { plan: self, store, surroundings, parts: &parts };
        let (back, after) = (ways(&sessions), self.settings.after);
        let journal = Journal { format: FORMAT, state: State::Staging, set, back, after };
        run.finish(sessions, journal)
    }
}

/// The targets of a profile while they are changed.
struct Run<'p, 'a> {
    plan: &'p Plan<'p>,
    store: &'p Store,
    surroundings: &'p Surroundings<'p>,
    parts: &'p [Part<'a>],
}

impl<'a> Run<'_, 'a> {
    fn finish(&self, sessions: Vec<Session<'a>>, mut journal: Journal) -> Result<Exit, Failure> {
        let is_there = |(member, session): (&Member, &Session<'_>)| {
            session.manifest().is_some_and(|held| held.to_string() == member.manifest)
        };
        if !journal.set.members.iter().zip(&sessions).all(is_there) {
            self.store.write_journal(&journal)?;
        }
        let staged = self.stage(&sessions)?;
        for (session, staged) in sessions.iter().zip(&staged) {
            if let Staged::Same(wanted, same) = staged {
                session.adopt(wanted, &same.0, &same.1)?;
            }
        }
        let number = staged.iter().filter(|staged| matches!(staged, Staged::Next(..))).count();
        // What is there already, and was not healthy, is looked at again where that is asked for.
        let is_tried_again = Failed::find(self.store.directory(), journal.set.id())?.is_some();
        let (staged, armed) = if number > 0 || is_tried_again {
            let (staged, armed) = self.decide(&sessions, staged, &mut journal)?;
            (staged, Some(armed))
        } else {
            (staged, None)
        };
        let mut changed = ChangedOfAll::new();
        for ((part, session), staged) in self.parts.iter().zip(&sessions).zip(staged) {
            changed.push(match staged {
                Staged::Current => Vec::new(),
                staged => part.switch(session, staged).map_err(|failure| {
                    failure.hint("`smart-sync recover`, or the next pull, goes on from here")
                })?,
            });
        }
        // They are taken again with what they hold now.
        drop(sessions);
        // Of what was there already it is not known what it has changed.
        let changed = (number > 0).then_some(changed);
        let set = journal.set.clone();
        match self.unsettled(journal).prove(changed, armed)? {
            Ended::Back(exit) | Ended::Waits(exit) => return Ok(exit),
            Ended::Forward => {}
        }
        self.tell(&set, number)?;
        Ok(Exit::Success)
    }

    /// From here on all targets are switched, whatever becomes of this run. Where nobody could see to that, none is.
    fn decide<'s>(
        &self,
        sessions: &[Session<'a>],
        staged: Vec<Staged<'s>>,
        journal: &mut Journal,
    ) -> Result<(Vec<Staged<'s>>, Pending), Failure> {
        let states: Vec<&Path> = sessions.iter().map(|session| &*session.place().state).collect();
        match self.unsettled(journal.clone()).stand_by(&states) {
            Ok(armed) => {
                journal.state = State::Switching;
                self.store.write_journal(journal)?;
                Ok((staged, armed))
            }
            Err(failure) => {
                self.give_up(staged)?;
                Err(failure)
            }
        }
    }

    fn unsettled(&self, journal: Journal) -> Unsettled<'_> {
        Unsettled { store: self.store, journal, surroundings: self.surroundings }
    }

    /// Leaves all targets as they are.
    fn give_up(&self, staged: Vec<Staged<'_>>) -> Result<(), Failure> {
        staged.into_iter().try_for_each(Staged::abandon)?;
        self.store.remove_journal()
    }

    /// Makes the next version of every target. Where one cannot be made, none is.
    fn stage<'s>(&self, sessions: &'s [Session<'a>]) -> Result<Vec<Staged<'s>>, Failure> {
        let mut staged: Vec<Staged<'s>> = Vec::new();
        for (part, session) in self.parts.iter().zip(sessions) {
            match part.stage(session) {
                Ok(one) => staged.push(one),
                Err(failure) => {
                    self.give_up(staged)?;
                    let target = session.place().target.display();
                    return Err(failure.context(format!("{target}: no target was changed")));
                }
            }
        }
        Ok(staged)
    }

    fn tell(&self, set: &Set, changes: usize) -> Result<(), Failure> {
        let output = self.surroundings.output;
        let traffic = self.parts.first().map(Part::traffic).unwrap_or_default();
        let sets = self.store.sets()?;
        let (name, number) = (self.plan.name(), sets.current);
        let all = count(set.members.len() as u64, "target", "targets");
        if changes == 0 && number != set.number {
            output.info(&format!("{name} is up to date: {all}, set {number}{traffic}"));
        } else {
            output.info(&format!("{name} is set {number} now: {changes} of {all} changed{traffic}"));
        }
        let before = sets.before().filter(|_| number == set.number);
        let dropped: Vec<&PathBuf> = before
            .iter()
            .flat_map(|before| &before.members)
            .map(|member| &member.target)
            .filter(|target| set.members.iter().all(|member| member.target != **target))
            .collect();
        for target in dropped {
            output.info(&format!(
                "{} is not in {} any more; it is left as it is",
                target.display(),
                self.plan.profile()
            ));
        }
        let health = health(self.plan.profile(), self.surroundings.state_dir)?;
        let standing = Standing { is_current: true, is_held: false, health: Some(&health) };
        output.event(&SetEvent::of(sets.current().unwrap_or(set), standing));
        Ok(())
    }
}
