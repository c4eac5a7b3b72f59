//! What is to be done, as data: made, printed, applied.

use std::fmt;
use std::ops::AddAssign;

use super::mark::Live;
use crate::Store;
use crate::backend::PackFile;
use crate::catalogue::{PackRow, PackState, Timestamp};
use crate::error::StoreError;
use crate::object::ObjectKey;

/// A pack is rewritten when less than one part in this many of it is needed.
const REWRITE_DIVISOR: u64 = 2;

/// A pack, and what is needed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPack {
    /// The pack and its file.
    pub file: PackFile,
    /// Its number of bytes.
    pub len: u32,
    /// The bytes of all its objects.
    pub raw: u64,
    /// The bytes of those that are needed.
    pub raw_needed: u64,
    /// The objects that are needed, sorted; only for a pack that is to be rewritten.
    pub(super) needed: Vec<ObjectKey>,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A condemned pack is needed after all.
    Spare(PlannedPack),
    /// Little of the pack is needed: move that to another one, and condemn the pack.
    Rewrite(PlannedPack),
    /// Nothing of the pack is needed: remove it after the grace period.
    Condemn(PlannedPack),
    /// The pack stayed condemned, or never came: remove it now.
    Remove(PlannedPack),
}

/// What garbage collection is going to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcPlan {
    /// When collecting began; the roots are at least as new.
    pub as_of: Timestamp,
    /// How long what nobody needs is kept.
    pub grace_seconds: u32,
    /// What to do, in order.
    pub actions: Vec<Action>,
    /// The number of packs that stay as they are.
    pub kept: usize,
    /// The number of packs that stay because somebody asked for something in them a short while ago.
    pub young: usize,
}

/// What garbage collection has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Packs that are condemned now.
    pub condemned: usize,
    /// Packs of which the needed part has been moved, and that are condemned now.
    pub rewritten: usize,
    /// Packs that are gone.
    pub removed: usize,
    /// The bytes of those.
    pub bytes_freed: u64,
}

impl GcPlan {
    /// Packs whose mark is at least this young are left alone.
    pub(super) const fn untouched_since(&self) -> Timestamp {
        self.as_of.minus(self.grace_seconds)
    }

    /// The bytes that applying the plan frees at once.
    pub fn bytes_freed(&self) -> u64 {
        self.bytes(|action| match action {
            Action::Remove(pack) => u64::from(pack.len),
            _ => 0,
        })
    }

    /// The bytes that a run after the grace period can free, if nobody asks for them, about.
    pub fn bytes_freed_later(&self) -> u64 {
        self.bytes(|action| match action {
            Action::Condemn(pack) => u64::from(pack.len),
            Action::Rewrite(pack) => u64::from(pack.len) * (pack.raw - pack.raw_needed) / pack.raw.max(1),
            Action::Spare(_) | Action::Remove(_) => 0,
        })
    }

    fn bytes(&self, of: impl Fn(&Action) -> u64) -> u64 {
        self.actions.iter().map(of).sum()
    }
}

impl fmt::Display for GcPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            let (verb, pack) = match action {
                Action::Spare(pack) => ("spare", pack),
                Action::Rewrite(pack) => ("rewrite", pack),
                Action::Condemn(pack) => ("condemn", pack),
                Action::Remove(pack) => ("remove", pack),
            };
            let PlannedPack { file, len, raw, raw_needed, .. } = pack;
            writeln!(f, "{verb:8}{file}  {len} bytes, {raw_needed} of {raw} needed")?;
        }
        writeln!(
            f,
            "{} packs stay as they are, {} of them because they were asked for in the last {} seconds",
            self.kept + self.young,
            self.young,
            self.grace_seconds
        )?;
        write!(
            f,
            "{} bytes are freed now, about {} more after the grace period",
            self.bytes_freed(),
            self.bytes_freed_later()
        )
    }
}

impl AddAssign for Collected {
    fn add_assign(&mut self, other: Self) {
        self.condemned += other.condemned;
        self.rewritten += other.rewritten;
        self.removed += other.removed;
        self.bytes_freed += other.bytes_freed;
    }
}

pub(super) fn plan(
    store: &Store,
    as_of: Timestamp,
    grace_seconds: u32,
    live: &Live,
) -> Result<GcPlan, StoreError> {
    let mut plan = GcPlan { as_of, grace_seconds, actions: Vec::new(), kept: 0, young: 0 };
    for row in store.catalogue().packs()? {
        let pack = examine(store, &row, live)?;
        match decide(&row, &pack, plan.untouched_since()) {
            Decision::Act(action) => plan.actions.push(action(pack)),
            Decision::Keep => plan.kept += 1,
            Decision::TooYoung => plan.young += 1,
        }
    }
    Ok(plan)
}

enum Decision {
    Act(fn(PlannedPack) -> Action),
    Keep,
    TooYoung,
}

fn decide(row: &PackRow, pack: &PlannedPack, untouched_since: Timestamp) -> Decision {
    let is_young = row.condemned.unwrap_or(row.touched) >= untouched_since;
    match row.state {
        PackState::Condemned if pack.raw_needed > 0 && !pack.needed.is_empty() => {
            Decision::Act(Action::Spare)
        }
        PackState::Condemned | PackState::Arriving if is_young => Decision::TooYoung,
        PackState::Condemned | PackState::Arriving => Decision::Act(Action::Remove),
        PackState::Kept if pack.raw_needed.saturating_mul(REWRITE_DIVISOR) >= pack.raw => Decision::Keep,
        PackState::Kept if is_young => Decision::TooYoung,
        PackState::Kept if pack.raw_needed == 0 => Decision::Act(Action::Condemn),
        PackState::Kept => Decision::Act(Action::Rewrite),
    }
}

fn examine(store: &Store, row: &PackRow, live: &Live) -> Result<PlannedPack, StoreError> {
    let index = store.catalogue().index_of(&row.file)?.unwrap_or_default();
    let mut pack =
        PlannedPack { file: row.file.clone(), len: row.len, raw: 0, raw_needed: 0, needed: Vec::new() };
    for object in index.objects() {
        let len = u64::from(object.len);
        pack.raw += len;
        if live.contains(&row.file.domain, &object.key) {
            pack.raw_needed += len;
            pack.needed.push(object.key);
        }
    }
    // A condemned pack is needed only for what no other pack holds.
    if row.state == PackState::Condemned {
        let locations = store.locate(&row.file.domain, &pack.needed)?;
        let mut locations = locations.into_iter();
        pack.needed.retain(|_| locations.next().flatten().is_some_and(|found| found.file == row.file));
    }
    // The names are needed only where something is done with them: a plan for a large store stays small.
    if pack.raw_needed.saturating_mul(REWRITE_DIVISOR) >= pack.raw && row.state == PackState::Kept {
        pack.needed.clear();
    }
    pack.needed.sort_unstable();
    Ok(pack)
}
