//! What the targets of a profile are to be, before any of them is changed.

use std::path::Path;

use smart_sync_sync::apply::versions::Kind;
use smart_sync_sync::name::{Channel, RefQuery};
use smart_sync_sync::time::UnixTime;

use super::merge::merge;
use super::permit::{Permitted, Rules};
use super::resolve::{View, open_realm, resolve};
use super::set::{Member, Set};
use super::settings::{PullSettings, followed, target};
use super::store::{self, Store};
use crate::after::pending::Failed;
use crate::failure::{Exit, Failure};
use crate::realm::resolve::{Realm, now};
use crate::settings::{SyncMode, SyncSettings};
use crate::sync::place::{Place, triggered_by};
use crate::sync::{Part, Surroundings};

/// What the targets of a profile are to be.
pub(super) struct Plan<'a> {
    pub(super) settings: &'a PullSettings,
    pub(super) view: View,
    permitted: Vec<Permitted>,
    pub(super) targets: Vec<SyncSettings>,
}

impl<'a> Plan<'a> {
    /// Finds it out, and refuses what the host does not let the profile do.
    pub(super) fn make(
        settings: &'a PullSettings,
        surroundings: &Surroundings<'_>,
    ) -> Result<(Realm, Self), Failure> {
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
        plan.tell_left_out(surroundings);
        Ok((realm, plan))
    }

    /// The profile.
    pub(super) const fn profile(&self) -> &Channel {
        &self.settings.which.channel.channel
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> String {
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
    pub(super) fn look(&self, realm: &Realm, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
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

    /// The set that comes of it, without the versions.
    pub(super) fn set(&self, parts: &[Part<'_>], places: &[Place], store: &Store) -> Result<Set, Failure> {
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
    pub(super) fn is_refused(
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
