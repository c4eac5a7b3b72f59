//! An index without some of its packages, made of nothing but what is published.

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::count::counted;
use smart_sync_store::manifest::TreePath;

use super::super::{Absent, Before, KindError, Prepared};
use super::generation;
use super::index::Index;
use super::made::Replaced;
use super::tree::{INDEX, Made, Published};
use crate::time::UnixTime;

/// Takes packages out of an index, which `choose` names by their paths. The files stay for as long as somebody may have an
/// index that names them, and a build host that still has such a build does not bring it back.
pub fn take_out<E: From<KindError>>(
    before: &dyn Before,
    choose: impl FnOnce(&Index) -> Result<BTreeSet<TreePath>, E>,
    now: UnixTime,
) -> Result<Prepared, E> {
    let published = Published::read(Some(before), Absent::Stays)?;
    let index = published.index.as_ref();
    let index = index.ok_or_else(|| KindError::Before(format!("it has no {INDEX}")))?;
    let gone = choose(index)?;
    let current = published.current();
    let mut taken_out = published.taken_out.clone();
    current.live.iter().filter(|(path, _)| gone.contains(*path)).for_each(|(_, build)| taken_out.add(build));
    let generation = generation::without(&current, &gone, now);
    let settings = index.settings();
    let made = Made::new(
        &generation,
        (&BTreeMap::new(), &Replaced::new()),
        (None, &taken_out),
        &published,
        settings,
        now,
    )?;
    let left = counted(generation.live.len() as u64, "package", "packages");
    let count = counted(generation.retired.len() as u64, "file stays", "files stay");
    let notes = vec![
        format!("the index has {left}"),
        format!("{count} for a week for clients that have an older index"),
    ];
    Ok(Prepared { parts: made.parts, content_time: made.time, notes, signers: BTreeMap::new() })
}
