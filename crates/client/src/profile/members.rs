//! The targets of a set, each taken for this run: proving that all is well, and going back.

use std::path::{Path, PathBuf};

use smart_sync_sync::name::Channel;

use super::config::{ProfileConfig, ProfileName};
use super::journal::{Journal, Standing, Way};
use super::merge::{From, Given, Layer, Section, Source, merge};
use super::permit::Rules;
use super::set::{Member, Set};
use super::store::find;
use super::taken::{Stuck, Taken};
use crate::after::chosen::foreseen;
use crate::after::confirmation::Confirmation;
use crate::after::pending::{Failed, Pending};
use crate::after::restore::Restored;
use crate::after::trigger::{After, Changed, Stage};
use crate::after::undo::remembered;
use crate::after::verdict::{How, Verdict};
use crate::after::work::came_up;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::settings::{self, TargetPolicy, Validation};
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::Session;
use crate::versions::rollback::changes;

/// Where the targets of a set are, as far as they are there, and what holds for each.
pub(super) struct Places {
    all: Vec<(usize, Place, TargetPolicy)>,
    /// What the host says of who confirms the set.
    confirm: Confirmation,
}

/// The targets of a set, taken.
pub(super) struct Members<'a> {
    all: Vec<Taken<'a>>,
    /// What the host says of who confirms the set.
    confirm: Confirmation,
}

impl Places {
    /// Finds the targets of a set. What a profile says counts as far as the host lets it now.
    pub(super) fn find(set: &Set, surroundings: &Surroundings<'_>) -> Result<Self, Failure> {
        let profile: Channel = set.profile.parse().map_err(|error| Failure::new(Exit::General, error))?;
        let rules = Rules::new(&profile, &[], surroundings.config, surroundings.state_dir);
        let mut found = Vec::new();
        for (index, member) in set.members.iter().enumerate() {
            let Some(place) = Place::known(&member.target, surroundings.state_dir) else { continue };
            found.push((index, place, policy(member, &rules, surroundings.config)?));
        }
        let own = surroundings.config.profiles.get(&ProfileName(profile));
        Ok(Self { all: found, confirm: own.map_or(Confirmation::ByChecks, ProfileConfig::confirmation) })
    }

    /// The directories of state of the targets.
    pub(super) fn states(&self) -> Vec<&Path> {
        self.all.iter().map(|(_, place, _)| &*place.state).collect()
    }
}

/// What holds for a target that was pulled before.
fn policy(member: &Member, rules: &Rules<'_>, config: &Config) -> Result<TargetPolicy, Failure> {
    let said: toml::Table = member.said.parse().map_err(|error: toml::de::Error| {
        Failure::new(Exit::General, error)
            .context(format!("reading what is noted of {}", member.target.display()))
    })?;
    let from = From { source: Source::Profile(String::new()), line: 0 };
    let keys = said.into_iter().map(|(key, value)| (key, Given { value, from: from.clone() }));
    let section = Section { directory: member.named.clone(), line: 0, keys: keys.collect() };
    let merged = merge([&Layer { sections: vec![section] }], &config.lines).remove(0);
    Ok(settings::policy(Some(&rules.target(&merged, member.target.clone())?.config), config))
}

/// Who has switched targets to where somebody wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Switched {
    /// This run alone.
    ByThisRun,
    /// An earlier one, too.
    ByOthersToo,
}

impl<'a> Members<'a> {
    /// Takes all targets, and settles what interrupted runs left of each.
    pub(super) fn take(places: &'a Places, surroundings: &'a Surroundings<'a>) -> Result<Self, Failure> {
        let take = |(index, place, policy): &'a (usize, Place, TargetPolicy)| {
            let session = Session::begin(place, policy, Validation::TrustStat, surroundings.output)?;
            Ok(Taken { index: *index, session, after: policy.after.clone(), changed: None, is_moved: false })
        };
        let all = places.all.iter().map(take).collect::<Result<_, Failure>>()?;
        Ok(Self { all, confirm: places.confirm })
    }

    /// Notes what changed in the targets, by their numbers, where that is known, for whoever goes on from here.
    pub(super) fn keep_changed(&mut self, changed: Option<Vec<Vec<Box<[u8]>>>>) -> Result<(), Failure> {
        for (index, changed) in changed.into_iter().flatten().enumerate() {
            if let Some(taken) = self.all.iter_mut().find(|taken| taken.index == index) {
                taken.changed = Some(changed);
            }
        }
        self.all.iter().try_for_each(|taken| Pending::keep_changed(taken.state(), taken.changed()))
    }

    /// Knows what was noted of that.
    pub(super) fn load_changed(&mut self) -> Result<(), Failure> {
        for taken in &mut self.all {
            taken.changed = Pending::changed(taken.state())?;
        }
        Ok(())
    }

    /// Leaves out what would run afterwards. Who confirms a version is not a matter of that.
    pub(super) fn skip_after(&mut self) {
        for taken in &mut self.all {
            taken.after = After { confirm: taken.after.confirm, ..After::default() };
        }
    }

    /// Whether the set has to prove itself.
    pub(super) fn has_after(&self) -> bool {
        self.confirm != Confirmation::ByChecks || self.all.iter().any(|taken| !taken.after.is_empty())
    }

    /// Whether there are checks of any target.
    pub(super) fn has_checks(&self) -> bool {
        self.all.iter().any(|taken| !taken.after.check.is_empty())
    }

    /// Who confirms the set: a person, where the host says so of it, or where anybody does of one of its targets.
    pub(super) fn confirmation(&self) -> Confirmation {
        let of_targets = self.all.iter().map(|taken| taken.after.confirm);
        match self.confirm {
            Confirmation::ByChecks => Confirmation::of_all(of_targets),
            own @ Confirmation::ByPerson(_) => own,
        }
    }

    fn get(&self, index: usize) -> Option<&Taken<'a>> {
        self.all.iter().find(|taken| taken.index == index)
    }

    /// Where the targets stand that the set of a journal changes.
    pub(super) fn standings(&self, journal: &Journal) -> Vec<Standing> {
        let standing = |(index, member): (usize, &Member)| {
            let is_new = self.get(index).is_some_and(|taken| taken.holds(&member.manifest));
            if is_new { Standing::New } else { Standing::Elsewhere }
        };
        journal.changing().map(standing).collect()
    }

    /// Notes in a set which version each target is at.
    pub(super) fn note_versions(&self, set: &mut Set) -> Result<(), Failure> {
        for taken in &self.all {
            let kept = taken.session.ready().target().kept()?;
            let name = taken.session.applied.as_ref().and_then(|applied| applied.name());
            let member = &mut set.members[taken.index];
            member.version = name.map(ToString::to_string);
            member.generation = kept.iter().find(|kept| Some(kept.name()) == name).map(|kept| kept.number);
        }
        Ok(())
    }

    /// Runs the commands of all targets for a stage. Returns why one of them fails.
    pub(super) fn run(&self, stage: Stage, surroundings: &Surroundings<'_>) -> Result<(), String> {
        self.all.iter().try_for_each(|taken| taken.run(stage, surroundings))
    }

    /// Makes the checks of all targets. Returns why one of them fails.
    pub(super) fn check(&self, surroundings: &Surroundings<'_>) -> Result<(), String> {
        self.all.iter().try_for_each(|taken| taken.check(surroundings))
    }

    /// Whether something that runs at a stage only counts after a reboot.
    pub(super) fn needs_reboot(&self, stage: Stage) -> bool {
        self.all.iter().any(|taken| taken.needs_reboot(stage))
    }

    /// Whether something that has run for targets which have gone back only counts after a reboot.
    pub(super) fn needs_reboot_for_rollback(&self, journal: &Journal) -> bool {
        self.gone_back(journal).any(|taken| taken.needs_reboot(Stage::Rollback))
    }

    /// Whether something that has run for targets which somebody has switched only counts after a reboot.
    pub(super) fn needs_reboot_for_chosen(&self, switched: Switched) -> bool {
        self.chosen(switched).any(|taken| taken.needs_reboot(Stage::Chosen))
    }

    /// Whether something that runs for a set knows itself how to take back what it does.
    pub(super) fn takes_back(&self, journal: &Journal) -> bool {
        let mut on_trial = journal.on_trial().filter_map(|(index, _)| self.get(index));
        on_trial.any(|taken| taken.after.takes_back())
    }

    /// The targets that this run has not switched.
    pub(super) fn not_moved(&self) -> Vec<PathBuf> {
        let all = self.all.iter().filter(|taken| !taken.is_moved);
        all.map(|taken| taken.target().to_owned()).collect()
    }

    /// Whether what was placed for this start of the machine is what runs; else what is not.
    pub(super) fn came_up(&self) -> Result<(), String> {
        let came = |taken: &Taken<'_>| {
            let came = came_up(taken.session.place(), &taken.after, taken.changed());
            came.map_err(|reason| taken.of_target(&reason))
        };
        self.all.iter().try_for_each(came)
    }

    /// Notes that the version of every target is confirmed.
    pub(super) fn note_confirmed(&self) -> Result<(), Failure> {
        for taken in &self.all {
            if let Some(version) = &taken.session.applied {
                Failed::forget(taken.state(), &version.manifest().to_string())?;
                Verdict::confirm(taken.state(), version)?;
            }
        }
        Ok(())
    }

    /// Notes how the set has ended for the targets on trial, of which some stay where they are; the others go back like
    /// this.
    pub(super) fn note_ending(
        &self,
        journal: &Journal,
        reason: &str,
        stuck: &[Stuck],
        others: &How,
        surroundings: &Surroundings<'_>,
    ) {
        for (index, _) in journal.on_trial() {
            let Some(taken) = self.get(index) else { continue };
            let stuck = stuck.iter().find(|stuck| stuck.target == taken.target());
            let how = stuck.map_or_else(|| others.clone(), |stuck| stuck.how(reason));
            if let Some(manifest) = taken.session.manifest() {
                remembered(Verdict::end(taken.state(), &manifest.to_string(), how), surroundings);
            }
        }
    }

    /// Switches all targets to where they go back to, the last one first. Returns those that cannot.
    pub(super) fn go_back(
        &mut self,
        ways: &[Way],
        surroundings: &Surroundings<'_>,
    ) -> Result<Vec<PathBuf>, Failure> {
        let mut stuck = Vec::new();
        let all = std::mem::take(&mut self.all);
        for taken in all.into_iter().rev() {
            let way = ways.iter().find(|way| way.target == taken.target());
            let (taken, is_stuck) = match way {
                Some(way) => taken.go_back(way, surroundings)?,
                None => (taken, false),
            };
            if is_stuck {
                stuck.push(taken.target().to_owned());
            }
            self.all.push(taken);
        }
        self.all.reverse();
        Ok(stuck)
    }

    /// Runs the commands of all targets that have gone back. Returns why one of them fails.
    pub(super) fn run_for_rollback(
        &self,
        journal: &Journal,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), String> {
        self.gone_back(journal).try_for_each(|taken| taken.run(Stage::Rollback, surroundings))
    }

    fn gone_back<'m>(&'m self, journal: &'m Journal) -> impl Iterator<Item = &'m Taken<'a>> {
        journal.changing().filter_map(|(index, _)| {
            let way = journal.back.get(index).filter(|way| way.manifest.is_some())?;
            self.get(index).filter(|taken| taken.is_at(way))
        })
    }

    /// Takes back what triggers have done for targets that stay where they are.
    pub(super) fn restore(&self, stuck: Vec<PathBuf>, surroundings: &Surroundings<'_>) -> Vec<Stuck> {
        let taken = |target: PathBuf| match self.all.iter().find(|taken| taken.target() == target) {
            Some(taken) => taken.restore(surroundings),
            None => Stuck { target, restored: Restored::Nothing },
        };
        stuck.into_iter().map(taken).collect()
    }

    /// Runs what is configured for the targets that somebody has taken to another version. Where an earlier run has begun
    /// with that, it is not known any more which ones it has switched, and it is run for all. Returns why a command fails.
    pub(super) fn run_for_chosen(
        &self,
        switched: Switched,
        surroundings: &Surroundings<'_>,
    ) -> Result<(), String> {
        self.chosen(switched).try_for_each(|taken| taken.run(Stage::Chosen, surroundings))
    }

    fn chosen(&self, switched: Switched) -> impl Iterator<Item = &Taken<'a>> {
        self.all.iter().filter(move |taken| taken.is_moved || switched == Switched::ByOthersToo)
    }

    /// What would run in each target that somebody takes to where a set says that it was, line by line.
    pub(super) fn foresee(&self, ways: &[Way]) -> Result<Vec<String>, Failure> {
        let mut lines = Vec::new();
        for way in ways {
            let taken = self.all.iter().find(|taken| taken.target() == way.target);
            let Some(taken) = taken.filter(|taken| !taken.is_at(way)) else { continue };
            let kept = taken.session.ready().target().kept()?;
            let Some(kept) = find(&kept, way.version.as_deref(), way.manifest.as_deref()) else { continue };
            lines.push(format!("{} would be at generation {}", way.target.display(), kept.number));
            let paths = changes(&taken.session, kept);
            let changed = paths.as_deref().map_or(Changed::Unknown, Changed::Paths);
            let place = taken.session.place();
            lines.extend(foreseen(place, &taken.after, changed, kept.version.manifest()));
        }
        Ok(lines)
    }

    /// The targets that cannot go to where a set says that they were.
    pub(super) fn unreachable<'w>(&self, ways: &'w [Way]) -> Result<Vec<&'w Path>, Failure> {
        let mut found = Vec::new();
        for way in ways {
            let taken = self.all.iter().find(|taken| taken.target() == way.target);
            let can_go = match taken {
                None => false,
                Some(taken) => {
                    let kept = taken.session.ready().target().kept()?;
                    taken.is_at(way) || find(&kept, way.version.as_deref(), way.manifest.as_deref()).is_some()
                }
            };
            if !can_go {
                found.push(&*way.target);
            }
        }
        Ok(found)
    }

    /// The place of each target, and the number of the version that it is at.
    pub(super) fn generations(&self) -> Result<Vec<(&Place, Option<u64>)>, Failure> {
        let number = |taken: &'_ Taken<'a>| {
            let kept = taken.session.ready().target().kept()?;
            let name = taken.session.applied.as_ref().and_then(|applied| applied.name());
            let number = kept.iter().find(|kept| Some(kept.name()) == name).map(|kept| kept.number);
            Ok((taken.session.place(), number))
        };
        self.all.iter().map(number).collect()
    }
}
