//! The targets of a set, each taken for this run: proving that all is well, and going back.

use std::path::{Path, PathBuf};

use smart_sync_sync::name::Channel;

use super::journal::{Journal, Standing, Way};
use super::merge::{From, Given, Layer, Section, Source, merge};
use super::permit::Rules;
use super::set::{Member, Set};
use super::store::find;
use crate::after::trigger::{After, Changed, Stage};
use crate::after::work::Work;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::settings::{self, TargetPolicy, Validation};
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::Session;
use crate::versions::rollback::go_back;

/// Where the targets of a set are, as far as they are there, and what holds for each.
pub(super) struct Places(Vec<(usize, Place, TargetPolicy)>);

/// The targets of a set, taken.
pub(super) struct Members<'a> {
    all: Vec<Taken<'a>>,
}

/// A target of a set, taken.
pub(super) struct Taken<'a> {
    /// Its number in the set.
    index: usize,
    session: Session<'a>,
    after: After,
    /// What changed in it, where that is known.
    changed: Option<Vec<Box<[u8]>>>,
    /// Whether it has been switched back.
    is_back: bool,
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
        Ok(Self(found))
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

impl<'a> Members<'a> {
    /// Takes all targets, and settles what interrupted runs left of each.
    pub(super) fn take(places: &'a Places, surroundings: &'a Surroundings<'a>) -> Result<Self, Failure> {
        let take = |(index, place, policy): &'a (usize, Place, TargetPolicy)| {
            let session = Session::begin(place, policy, Validation::TrustStat, surroundings.output)?;
            Ok(Taken { index: *index, session, after: policy.after.clone(), changed: None, is_back: false })
        };
        Ok(Self { all: places.0.iter().map(take).collect::<Result<_, Failure>>()? })
    }

    /// Notes what changed in the target of this number.
    pub(super) fn note_changed(&mut self, index: usize, changed: Vec<Box<[u8]>>) {
        if let Some(taken) = self.all.iter_mut().find(|taken| taken.index == index) {
            taken.changed = Some(changed);
        }
    }

    /// Leaves out what would run afterwards.
    pub(super) fn skip_after(&mut self) {
        self.all.iter_mut().for_each(|taken| taken.after = After::default());
    }

    /// Whether anything runs afterwards.
    pub(super) fn has_after(&self) -> bool {
        self.all.iter().any(|taken| !taken.after.is_empty())
    }

    fn get(&self, index: usize) -> Option<&Taken<'a>> {
        self.all.iter().find(|taken| taken.index == index)
    }

    /// Where the targets stand that the set of a journal changes.
    pub(super) fn standings(&self, journal: &Journal) -> Vec<Standing> {
        let members = journal.set.members.iter().enumerate();
        let changing = members.filter(|(index, member)| {
            journal.back.get(*index).is_none_or(|way| way.manifest.as_ref() != Some(&member.manifest))
        });
        changing
            .map(|(index, member)| {
                let is_new = self.get(index).is_some_and(|taken| taken.holds(&member.manifest));
                if is_new { Standing::New } else { Standing::Elsewhere }
            })
            .collect()
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

    /// Runs what the update of all targets needs, then the checks of all, then what waits for those. Returns why
    /// not all is well.
    pub(super) fn prove(&self, surroundings: &Surroundings<'_>) -> Result<Result<(), String>, Failure> {
        for taken in &self.all {
            if let Err(reason) = taken.run(Stage::Update, surroundings)? {
                return Ok(Err(reason));
            }
        }
        for taken in &self.all {
            if let Err(reason) = taken.check(surroundings)? {
                return Ok(Err(reason));
            }
        }
        for taken in &self.all {
            if let Err(reason) = taken.run(Stage::Confirmed, surroundings)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(()))
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
            let way = ways.iter().find(|way| way.target == taken.session.place().target);
            let (taken, is_stuck) = match way {
                Some(way) => taken.go_back(way, surroundings)?,
                None => (taken, false),
            };
            if is_stuck {
                stuck.push(taken.session.place().target.clone());
            }
            self.all.push(taken);
        }
        self.all.reverse();
        Ok(stuck)
    }

    /// Runs the commands of all targets that were switched back. Returns why one of them fails.
    pub(super) fn run_for_rollback(
        &self,
        surroundings: &Surroundings<'_>,
    ) -> Result<Result<(), String>, Failure> {
        for taken in self.all.iter().filter(|taken| taken.is_back) {
            if let Err(reason) = taken.run(Stage::Rollback, surroundings)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(()))
    }

    /// The targets that cannot go to where a set says that they were.
    pub(super) fn unreachable<'w>(&self, ways: &'w [Way]) -> Result<Vec<&'w Path>, Failure> {
        let mut found = Vec::new();
        for way in ways {
            let taken = self.all.iter().find(|taken| taken.session.place().target == way.target);
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

impl Taken<'_> {
    fn holds(&self, manifest: &str) -> bool {
        self.session.manifest().is_some_and(|held| held.to_string() == manifest)
    }

    fn is_at(&self, way: &Way) -> bool {
        let applied = self.session.applied.as_ref();
        let name = applied.and_then(|applied| applied.name()).map(ToString::to_string);
        match &way.manifest {
            Some(manifest) => self.holds(manifest) && (name == way.version || name.is_none()),
            None => applied.is_none(),
        }
    }

    /// Switches the target to where it goes back to. Returns also whether it cannot.
    fn go_back(self, way: &Way, surroundings: &Surroundings<'_>) -> Result<(Self, bool), Failure> {
        if self.is_at(way) {
            return Ok((self, false));
        }
        let kept = self.session.ready().target().kept()?;
        let Some(kept) = find(&kept, way.version.as_deref(), way.manifest.as_deref()) else {
            return Ok((self, true));
        };
        go_back(&self.session, kept, surroundings)?;
        let session = self.session.reopened()?;
        Ok((Self { session, is_back: true, ..self }, false))
    }

    fn work<'w>(&'w self, stage: Stage, surroundings: &'w Surroundings<'w>) -> Result<Work<'w>, Failure> {
        let changed = self.changed.as_deref().map_or(Changed::Unknown, Changed::Paths);
        Work::new(&self.session, changed, stage, surroundings)
    }

    fn run(&self, stage: Stage, surroundings: &Surroundings<'_>) -> Result<Result<(), String>, Failure> {
        if self.after.run.is_empty() {
            return Ok(Ok(()));
        }
        let ran = self.work(stage, surroundings)?.run(&self.after);
        Ok(ran.map_err(|reason| self.of_target(&reason)))
    }

    fn check(&self, surroundings: &Surroundings<'_>) -> Result<Result<(), String>, Failure> {
        if self.after.check.is_empty() {
            return Ok(Ok(()));
        }
        let checked = self.work(Stage::Update, surroundings)?.check(&self.after);
        Ok(checked.map_err(|reason| self.of_target(&reason)))
    }

    fn of_target(&self, reason: &str) -> String {
        format!("{}: {reason}", self.session.place().target.display())
    }
}
