//! What is to be done, as data: made, printed, applied.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use super::mark::Live;
use crate::Store;
use crate::backend::PackFile;
use crate::catalogue::{PackRow, PackState, Timestamp};
use crate::count::counted;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::object::ObjectKey;

/// A pack is rewritten when less than one part in this many of it is needed.
const REWRITE_DIVISOR: u64 = 2;
/// A pack with fewer bytes is small: every publication leaves one, and many are slow to read a tree from.
const SMALL_PACK_LEN: u32 = 4 << 20;
/// The number of small packs of a domain that are worth merging.
const SMALL_PACKS_MIN: usize = 16;
/// The bytes of objects that are moved in one go: what is done and not finished is done again after a crash.
const GROUP_RAW_MAX: u64 = 256 << 20;

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
    /// The objects that are needed, sorted; only for a pack that may be rewritten.
    pub(super) needed: Vec<ObjectKey>,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A condemned pack is needed after all.
    Spare(PlannedPack),
    /// Little of these packs of a domain is needed, or they are small and many: move what is needed into new ones,
    /// and condemn them.
    Rewrite(Vec<PlannedPack>),
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

impl PlannedPack {
    /// The bytes of the pack that hold what is not needed, about.
    fn len_not_needed(&self) -> u64 {
        u64::from(self.len) * (self.raw - self.raw_needed) / self.raw.max(1)
    }
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
            Action::Rewrite(packs) => packs.iter().map(PlannedPack::len_not_needed).sum(),
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
            let (verb, packs) = match action {
                Action::Spare(pack) => ("spare", std::slice::from_ref(pack)),
                Action::Rewrite(packs) => ("rewrite", &packs[..]),
                Action::Condemn(pack) => ("condemn", std::slice::from_ref(pack)),
                Action::Remove(pack) => ("remove", std::slice::from_ref(pack)),
            };
            for PlannedPack { file, len, raw, raw_needed, .. } in packs {
                let bytes = counted(u64::from(*len), "byte", "bytes");
                writeln!(f, "{verb:8}{file}  {bytes}, {raw_needed} of {raw} needed")?;
            }
        }
        let stays = if self.kept + self.young == 1 { "stays as it is" } else { "stay as they are" };
        writeln!(
            f,
            "{} {stays}, {} of them asked for in the last {}",
            counted((self.kept + self.young) as u64, "pack", "packs"),
            self.young,
            counted(u64::from(self.grace_seconds), "second", "seconds")
        )?;
        let freed = self.bytes_freed();
        write!(
            f,
            "{} {} freed now, about {} more after the grace period",
            counted(freed, "byte", "bytes"),
            if freed == 1 { "is" } else { "are" },
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
    let mut rewrites: BTreeMap<Domain, Vec<PlannedPack>> = BTreeMap::new();
    let mut small: BTreeMap<Domain, Vec<PlannedPack>> = BTreeMap::new();
    for row in store.catalogue().packs()? {
        let pack = examine(store, &row, live)?;
        let domain = row.file.domain.clone();
        match decide(&row, &pack, plan.untouched_since()) {
            Decision::Keep => plan.kept += 1,
            Decision::TooYoung => plan.young += 1,
            Decision::Spare => plan.actions.push(Action::Spare(pack)),
            Decision::Condemn => plan.actions.push(Action::Condemn(pack)),
            Decision::Remove => plan.actions.push(Action::Remove(pack)),
            Decision::Rewrite => rewrites.entry(domain).or_default().push(pack),
            Decision::Merge => small.entry(domain).or_default().push(pack),
        }
    }
    for (domain, packs) in small {
        if packs.len() >= SMALL_PACKS_MIN {
            rewrites.entry(domain).or_default().extend(packs);
        } else {
            plan.kept += packs.len();
        }
    }
    plan.actions.extend(rewrites.into_values().flat_map(groups).map(Action::Rewrite));
    Ok(plan)
}

/// Cuts the packs of a domain into groups that are rewritten one after the other.
fn groups(mut packs: Vec<PlannedPack>) -> Vec<Vec<PlannedPack>> {
    packs.sort_by_key(|pack| pack.file.number);
    let mut groups: Vec<Vec<PlannedPack>> = Vec::new();
    let mut raw = 0;
    for pack in packs {
        raw += pack.raw_needed;
        match groups.last_mut() {
            Some(group) if raw <= GROUP_RAW_MAX => group.push(pack),
            _ => {
                raw = pack.raw_needed;
                groups.push(vec![pack]);
            }
        }
    }
    groups
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Keep,
    TooYoung,
    Spare,
    Condemn,
    Remove,
    Rewrite,
    Merge,
}

fn decide(row: &PackRow, pack: &PlannedPack, untouched_since: Timestamp) -> Decision {
    let is_young = row.condemned.unwrap_or(row.touched) >= untouched_since;
    let is_worth_keeping = pack.raw_needed.saturating_mul(REWRITE_DIVISOR) >= pack.raw;
    match row.state {
        PackState::Condemned if !pack.needed.is_empty() => Decision::Spare,
        PackState::Kept if is_worth_keeping && row.len >= SMALL_PACK_LEN => Decision::Keep,
        _ if is_young => Decision::TooYoung,
        PackState::Condemned | PackState::Arriving => Decision::Remove,
        PackState::Kept if pack.raw_needed == 0 => Decision::Condemn,
        PackState::Kept if is_worth_keeping => Decision::Merge,
        PackState::Kept => Decision::Rewrite,
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
    let is_large = row.len >= SMALL_PACK_LEN && pack.raw_needed.saturating_mul(REWRITE_DIVISOR) >= pack.raw;
    if is_large && row.state == PackState::Kept {
        pack.needed.clear();
    }
    pack.needed.sort_unstable();
    Ok(pack)
}
