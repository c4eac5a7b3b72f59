//! `pull`: all targets of a profile become what it says, or none of them.
//!
//! Everything is proven, fetched and made whole beside what readers see before the first target is switched. From then
//! on the [journal](super::journal) says what becomes of the set, whoever goes on with it.

use std::fs;
use std::path::{Path, PathBuf};

use smart_sync_sync::apply::versions::Kind;
use smart_sync_sync::name::{Channel, RefQuery};
use smart_sync_sync::time::UnixTime;

use super::journal::{FORMAT, Journal, State};
use super::merge::merge;
use super::permit::{Permitted, Rules};
use super::places::{held, make_place, ways};
use super::resolve::{View, open_realm, resolve};
use super::set::{Member, Set};
use super::settings::{PullSettings, followed, target};
use super::settle::{self, Ended};
use super::store::{self, Store};
use crate::after::Settled;
use crate::after::confirmation::Confirmation;
use crate::after::pending::Failed;
use crate::failure::{Exit, Failure};
use crate::hosts::report;
use crate::output::count;
use crate::realm::resolve::{Realm, now};
use crate::settings::{SyncMode, SyncSettings};
use crate::sync::place::{Place, triggered_by};
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
        Ended::Back(exit) => return Ok(exit),
    }
    let (realm, plan) = Plan::make(settings, surroundings)?;
    let ended = plan.apply(&realm, &store, surroundings);
    for settings in &plan.targets {
        report::after(&settings.target, &ended, surroundings);
    }
    ended
}

/// What the targets of a profile are to be.
struct Plan<'a> {
    settings: &'a PullSettings,
    view: View,
    permitted: Vec<Permitted>,
    targets: Vec<SyncSettings>,
}

impl<'a> Plan<'a> {
    fn make(settings: &'a PullSettings, surroundings: &Surroundings<'_>) -> Result<(Realm, Self), Failure> {
        let Surroundings { config, state_dir, .. } = *surroundings;
        let which = &settings.which;
        let profile = &which.channel.channel;
        let realm = open_realm(which, surroundings)?;
        let rules = Rules::new(profile, &settings.under, config, state_dir);
        let (view, (permitted, refs)) = resolve(&realm, which, surroundings, |layers| {
            let permitted = rules.permit(&merge(layers, &config.lines))?;
            let refs = permitted.iter().map(|target| followed(target, profile, &realm, which.at));
            let refs: Vec<(Channel, RefQuery)> = refs.collect::<Result<_, _>>()?;
            Ok(((permitted, refs.clone()), refs))
        })?;
        let targets = permitted
            .iter()
            .zip(refs)
            .map(|(one, tree)| target(one, tree, &permitted, settings, config))
            .collect();
        let plan = Self { settings, view, permitted, targets };
        plan.check_others(surroundings)?;
        plan.check_together()?;
        plan.tell_left_out(surroundings);
        Ok((realm, plan))
    }

    fn profile(&self) -> &Channel {
        &self.settings.which.channel.channel
    }

    fn name(&self) -> String {
        let publication = self.view.resolved.verified.publication.record();
        format!("{} {} number {}", publication.channel, self.view.resolved.reference, publication.seq)
    }

    /// Refuses targets that lie in those of another profile, or around them. A target that moves from one profile to
    /// another is said.
    fn check_others(&self, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
        let profile = self.profile();
        for (other, remembered, theirs) in store::of_others(profile, surroundings.state_dir)? {
            for ours in self.permitted.iter().map(|target| &target.directory) {
                if *ours == theirs {
                    surroundings.output.warning(&format!(
                        "{} is a target of {other} too; whichever of the two is pulled last decides what it is",
                        ours.display()
                    ));
                } else if self.overlap(ours, &theirs, surroundings) {
                    let text = format!(
                        "the target {} overlaps with {}, a target of {other}",
                        ours.display(),
                        theirs.display()
                    );
                    return Err(Failure::message(Exit::Configuration, text).hint(format!(
                        "where {other} is not pulled any more, remove {}",
                        remembered.display()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Whether one of two targets lies in the other. An overlay may lie around others, in which it places nothing.
    fn overlap(&self, ours: &Path, theirs: &Path, surroundings: &Surroundings<'_>) -> bool {
        let is_overlay = |settings: &SyncSettings| settings.policy.kind == Some(Kind::Overlay);
        let is_ours_overlay =
            || self.targets.iter().any(|settings| settings.target == ours && is_overlay(settings));
        (theirs.starts_with(ours) && !is_ours_overlay())
            || (ours.starts_with(theirs) && !store::is_overlay(theirs, surroundings.state_dir))
    }

    /// Refuses targets that are not switched together with others.
    fn check_together(&self) -> Result<(), Failure> {
        for settings in &self.targets {
            if let Confirmation::ByPerson(_) = settings.policy.after.confirm {
                let text = format!(
                    "the target {} of {} waits for a person, and a set of targets is confirmed by its checks",
                    settings.target.display(),
                    self.profile()
                );
                return Err(Failure::message(Exit::Configuration, text)
                    .hint("let it follow its channel by itself, and take it out of the profile"));
            }
        }
        Ok(())
    }

    /// Says what of the profile does not count on this host.
    fn tell_left_out(&self, surroundings: &Surroundings<'_>) {
        let profile = self.profile();
        for target in self.permitted.iter().filter(|target| !target.left_out.is_empty()) {
            let quoted: Vec<_> = target.left_out.iter().map(|what| format!("\"{what}\"")).collect();
            surroundings.output.warning(&format!(
                "{}: what {profile} says of {} does not count; [profiles.\"{profile}\"] allow = [{}] in the configuration lets it",
                target.directory.display(),
                target.left_out.join(", "),
                quoted.join(", ")
            ));
        }
    }

    /// Says what would change.
    fn look(&self, realm: &Realm, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
        let mut ended = Exit::Success;
        for (settings, resolved) in self.targets.iter().zip(&self.view.trees) {
            if settings.mode == SyncMode::DryRun {
                surroundings.output.info(&format!("{}:", settings.target.display()));
            }
            let place = Place::look(&settings.target, settings.policy.kind, surroundings.state_dir)?;
            let exit = Part::new(settings, surroundings, realm, resolved.clone(), &place).look()?;
            if exit != Exit::Success {
                ended = exit;
            }
        }
        Ok(ended)
    }

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
        let journal = Journal { format: FORMAT, state: State::Staging, back: ways(&sessions), set };
        run.finish(sessions, journal)
    }

    /// The set that comes of it, without the versions.
    fn set(&self, parts: &[Part<'_>], places: &[Place], store: &Store) -> Result<Set, Failure> {
        let publication = self.view.resolved.verified.publication.record();
        let sets = store.sets()?;
        let origin = publication.origin.to_string();
        if let Some(other) = sets.current().filter(|set| set.origin != origin) {
            return Err(Failure::message(
                Exit::Configuration,
                format!(
                    "{} was pulled from the realm {} before, and is of {origin} now",
                    self.profile(),
                    other.origin
                ),
            )
            .hint("two realms have a profile of this name; give one of them another name"));
        }
        let members = parts.iter().zip(&self.view.trees).zip(places).zip(&self.permitted);
        let members = members.map(|(((part, resolved), place), permitted)| {
            let label = part.label();
            Member {
                target: place.target.clone(),
                named: permitted.named.clone(),
                channel: label.channel,
                r#ref: label.r#ref,
                seq: label.seq,
                manifest: resolved.verified.manifest.id.to_string(),
                version: None,
                generation: None,
                said: permitted.said.clone(),
            }
        });
        Ok(Set {
            number: sets.next_number(),
            origin,
            profile: publication.channel.to_string(),
            r#ref: self.view.resolved.reference.to_string(),
            seq: publication.seq,
            manifest: self.view.resolved.verified.manifest.id.to_string(),
            builds_on: self
                .view
                .builds_on
                .iter()
                .map(|(channel, reference)| (channel.to_string(), reference.to_string()))
                .collect(),
            at: self.settings.which.at.map(UnixTime::seconds),
            applied: now().seconds(),
            by: triggered_by(),
            members: members.collect(),
        })
    }

    /// Whether these trees together, or one of them alone, were not healthy before.
    fn is_refused(
        &self,
        set: &Set,
        parts: &[Part<'_>],
        store: &Store,
        surroundings: &Surroundings<'_>,
    ) -> Result<bool, Failure> {
        if self.settings.retries_failed {
            return Ok(false);
        }
        if let Some(failed) = Failed::find(store.directory(), set.id())? {
            surroundings.output.warning(&format!(
                "{}: these versions together were not healthy when they were tried ({}); --retry-failed tries them again",
                self.name(),
                failed.reason
            ));
            return Ok(true);
        }
        for part in parts {
            if part.is_refused()? {
                return Ok(true);
            }
        }
        Ok(false)
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
        if number > 0 {
            journal.state = State::Switching;
            self.store.write_journal(&journal)?;
        }
        let mut changed: Vec<Vec<Box<[u8]>>> = Vec::new();
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
        let after = self.plan.settings.after;
        let is_healthy = settle::prove(self.store, &mut journal, Some(changed), after, self.surroundings)?;
        if let Ended::Back(exit) = is_healthy {
            return Ok(exit);
        }
        self.tell(&journal.set, number)?;
        Ok(Exit::Success)
    }

    /// Makes the next version of every target. Where one cannot be made, none is.
    fn stage<'s>(&self, sessions: &'s [Session<'a>]) -> Result<Vec<Staged<'s>>, Failure> {
        let mut staged: Vec<Staged<'s>> = Vec::new();
        for (part, session) in self.parts.iter().zip(sessions) {
            match part.stage(session) {
                Ok(one) => staged.push(one),
                Err(failure) => {
                    staged.into_iter().try_for_each(Staged::abandon)?;
                    self.store.remove_journal()?;
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
        output.event(&super::list::SetEvent::of(sets.current().unwrap_or(set), true, false));
        Ok(())
    }
}
