//! What is worth preparing, and what goes when there is no room.
//!
//! Pure: where the refs stand, what is stored and what was asked for in, a plan out. What is prepared always ends at
//! what a ref is now, or at what was asked for again and again; what goes first is what ends anywhere else, then what
//! was not asked for in the longest time. A bundle that went for lack of room is not prepared again (`settled`), or
//! preparing and removing would never come to an end.

use std::collections::{HashMap, HashSet};

use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;

use super::step::{BundleFile, Quality, Step};

/// Where a ref stands, and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct History {
    /// Where its manifests are.
    pub(super) domain: Domain,
    /// The leaf with which it came to stand where it stands. Of two refs, the one that moved later comes first.
    pub(super) moved: u64,
    /// What it is now.
    pub(super) current: ManifestId,
    /// What it was, by how many versions ago: 1, 2, 4, 8, …
    pub(super) earlier: Vec<(u64, ManifestId)>,
}

/// A stored bundle, as far as it matters here.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) file: BundleFile,
    /// When it was asked for last, or stored.
    pub(super) asked: u64,
    /// When another variant took its place.
    pub(super) replaced: Option<u64>,
    /// Whether somebody reads it now.
    pub(super) is_read: bool,
}

/// What an operator decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// The bytes that all bundles may have.
    pub(super) bytes: u64,
    /// The number of steps from 2, 4, 8, … versions ago that are prepared.
    pub(super) ladder: u32,
    /// How often a step is asked for before it is worth the work.
    pub(super) hot: u32,
    /// Seconds for which a variant stays that another took the place of.
    pub(super) grace: u64,
}

/// All that the plan follows from.
pub(super) struct Situation<'a> {
    pub(super) now: u64,
    pub(super) rules: Rules,
    pub(super) histories: &'a [History],
    pub(super) stored: &'a [Stored],
    /// How often steps were asked for lately.
    pub(super) demand: &'a [(Step, u32)],
    /// Manifests that stored bundles speak of, and that are not here any more.
    pub(super) gone: &'a HashSet<(Domain, ManifestId)>,
    /// What is not to be made: it failed, is too large, or went for lack of room.
    pub(super) settled: &'a HashSet<(Step, Quality)>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// What to make, the most urgent first.
    pub(super) make: Vec<(Step, Quality)>,
    /// What to remove.
    pub(super) evict: Vec<BundleFile>,
}

/// Decides.
pub(super) fn plan(situation: &Situation<'_>) -> Plan {
    Plan { make: make(situation), evict: evict(situation) }
}

fn make(situation: &Situation<'_>) -> Vec<(Step, Quality)> {
    let mut histories: Vec<_> = situation.histories.iter().collect();
    histories.sort_by_key(|history| (std::cmp::Reverse(history.moved), history.current));
    let mut wanted = Wanted { situation, stored: HashMap::new(), seen: HashSet::new(), make: Vec::new() };
    for stored in situation.stored {
        let best = wanted.stored.entry(&stored.file.step).or_insert(stored.file.variant.quality);
        *best = stored.file.variant.quality.max(*best);
    }
    for quality in [Quality::Quick, Quality::Best] {
        for history in &histories {
            wanted.steps_of(history, quality, |distance| distance == 1);
        }
    }
    if !has_room(situation) {
        return wanted.make;
    }
    // Whoever installs one host is likely to install another, and it is the largest bundle that there is.
    let is_hot = |step: &Step, count: u32| count >= if step.from.is_none() { 1 } else { situation.rules.hot };
    let mut hot: Vec<_> = situation.demand.iter().filter(|(step, count)| is_hot(step, *count)).collect();
    hot.sort_by(|(one, fewer), (other, more)| more.cmp(fewer).then_with(|| one.cmp(other)));
    for (step, _) in hot {
        if step.from.is_none() {
            wanted.add(step.clone(), Quality::Quick);
        }
        wanted.add(step.clone(), Quality::Best);
    }
    let longest = 1u64.checked_shl(situation.rules.ladder).unwrap_or(u64::MAX);
    for history in &histories {
        wanted.steps_of(history, Quality::Best, |distance| (2..=longest).contains(&distance));
    }
    wanted.make
}

/// Whether there is room for what is not urgent: what is used now has to leave some.
fn has_room(situation: &Situation<'_>) -> bool {
    let current = current(situation);
    let used = situation.stored.iter().filter(|stored| is_current(&current, stored));
    used.map(|stored| stored.file.length).fold(0, u64::saturating_add) < situation.rules.bytes
}

struct Wanted<'a> {
    situation: &'a Situation<'a>,
    /// The best that is stored of each step.
    stored: HashMap<&'a Step, Quality>,
    seen: HashSet<(Step, Quality)>,
    make: Vec<(Step, Quality)>,
}

impl Wanted<'_> {
    fn steps_of(&mut self, history: &History, quality: Quality, is_wanted: impl Fn(u64) -> bool) {
        for (_, from) in history.earlier.iter().filter(|(distance, _)| is_wanted(*distance)) {
            let (domain, to) = (history.domain.clone(), history.current);
            self.add(Step { domain, from: Some(*from), to }, quality);
        }
    }

    fn add(&mut self, step: Step, quality: Quality) {
        let is_stored = self.stored.get(&step).is_some_and(|stored| *stored >= quality);
        let is_step = step.from != Some(step.to);
        let wanted = (step, quality);
        if is_step
            && !is_stored
            && !self.situation.settled.contains(&wanted)
            && self.seen.insert(wanted.clone())
        {
            self.make.push(wanted);
        }
    }
}

fn current<'a>(situation: &Situation<'a>) -> HashSet<(&'a Domain, ManifestId)> {
    situation.histories.iter().map(|history| (&history.domain, history.current)).collect()
}

fn is_current(current: &HashSet<(&Domain, ManifestId)>, stored: &Stored) -> bool {
    current.contains(&(&stored.file.step.domain, stored.file.step.to))
}

fn evict(situation: &Situation<'_>) -> Vec<BundleFile> {
    let current = current(situation);
    let mut evict = Vec::new();
    let mut kept: Vec<&Stored> = Vec::new();
    for stored in situation.stored {
        if !stored.is_read && is_useless(situation, stored) {
            evict.push(stored.file.clone());
        } else {
            kept.push(stored);
        }
    }
    let mut bytes: u64 = kept.iter().map(|stored| stored.file.length).fold(0, u64::saturating_add);
    kept.sort_by_key(|stored| {
        (is_current(&current, stored), stored.replaced.is_none(), stored.asked, stored.file.clone())
    });
    for stored in kept.into_iter().filter(|stored| !stored.is_read) {
        if bytes <= situation.rules.bytes {
            break;
        }
        bytes = bytes.saturating_sub(stored.file.length);
        evict.push(stored.file.clone());
    }
    evict
}

fn is_useless(situation: &Situation<'_>, stored: &Stored) -> bool {
    let Step { domain, from, to } = &stored.file.step;
    let is_gone = |manifest: &ManifestId| situation.gone.contains(&(domain.clone(), *manifest));
    let is_over = |since: u64| situation.now.saturating_sub(since) >= situation.rules.grace;
    is_gone(to) || from.as_ref().is_some_and(is_gone) || stored.replaced.is_some_and(is_over)
}

#[cfg(test)]
mod tests;
