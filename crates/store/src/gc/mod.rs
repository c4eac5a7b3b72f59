//! Garbage collection: what no manifest needs goes, beside publishers that are at work.
//!
//! # The protocol
//!
//! A publisher asks what is missing ([`Store::missing`], [`Store::missing_contents`]), uploads it, and has its manifest
//! published, which makes it a root. In between, nothing that it needs may go: neither what it uploaded, which no
//! root needs yet, nor what it was told is there.
//!
//! 1. Every answer "it is there" marks the pack that holds the object with the time of the answer, in the catalogue's write
//!    transaction; adding a pack marks it too. Marks are renewed when they are older than [`LEASE_SLACK_SECONDS`].
//! 2. A publication becomes a root only after everything that it refers to was asked for once more, and within the grace
//!    period less [`LEASE_SLACK_SECONDS`] of that answer.
//! 3. Collecting begins with a time, `as_of`; the roots are read after it. A pack that no root needs is *condemned*
//!    only if its mark is older than `as_of` less the grace period, which is looked at in the transaction that condemns.
//!    So of a publication that rests on the pack, either the mark is young, or the publication was a root when the roots
//!    were read. It does not matter how long collecting takes.
//! 4. A condemned pack is still read from. Asking for an object that no other pack holds takes it back, in
//!    the transaction that answers. One that stayed condemned for the grace period is *forgotten*: in one
//!    transaction its objects leave the catalogue and its file is listed for removal. Only then is the file removed, so
//!    that requests that began long ago have ended.
//! 5. A stored file has a number that is never used twice. The same pack, added again while its old file is being
//!    removed, is another file.
//! 6. Packs with little in them that is needed, and small packs when there are many, are rewritten: what is needed
//!    becomes durable in other packs first, then the old ones are condemned as above.
//!
//! A crash between any two steps leaves a pack too many, never one too few: an announced pack that never came is
//! forgotten after the grace period, a file listed for removal is removed by the next run.

mod mark;
mod plan;

pub use mark::{Reference, Root};
pub use plan::{Action, Collected, GcPlan, PlannedPack};

use crate::Store;
use crate::backend::PackFile;
use crate::catalogue::{Condemnable, LEASE_SLACK_SECONDS, Timestamp};
use crate::codec::DecodeError;
use crate::error::StoreError;
use crate::object::ObjectKey;
use crate::pack::{Frame, decode_frame};
use crate::store::Repack;

/// The shortest grace period: below it, marks that are not renewed at every answer would be too coarse.
pub const GRACE_SECONDS_MIN: u32 = 10 * LEASE_SLACK_SECONDS;

/// Rewriting is rare and its result is read often: it may take its time.
const REWRITE_LEVEL: i32 = 9;

/// Finds out what can go.
///
/// `roots` has to be read after `as_of`, and to hold everything that is to be kept. `children` says what a manifest
/// page refers to. A grace period below [`GRACE_SECONDS_MIN`] is taken for that.
pub async fn plan(
    store: &Store,
    as_of: Timestamp,
    grace_seconds: u32,
    roots: &[Root],
    children: impl Fn(&[u8]) -> Result<Vec<Reference>, DecodeError>,
) -> Result<GcPlan, StoreError> {
    let live = mark::mark(store, roots, children).await?;
    plan::plan(store, as_of, grace_seconds.max(GRACE_SECONDS_MIN), &live)
}

/// Does what was planned, as far as it still holds. Stopped at any point, the store is whole.
pub async fn apply(store: &Store, plan: &GcPlan, now: Timestamp) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    for action in &plan.actions {
        collected += run(store, plan, action, now).await?;
    }
    remove_forgotten(store).await?;
    store.backend().remove_unfinished::<PackFile>(plan.untouched_since())?;
    Ok(collected)
}

/// Does one of the things that were planned.
pub(crate) async fn run(
    store: &Store,
    plan: &GcPlan,
    action: &Action,
    now: Timestamp,
) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    let catalogue = store.catalogue();
    match action {
        Action::Spare(pack) => catalogue.spare_pack(&pack.file, now)?,
        Action::Rewrite(packs) => {
            rewrite(store, packs, now).await?;
            for pack in packs {
                if catalogue.condemn(&pack.file, plan.untouched_since(), now)? == Condemnable::Condemned {
                    collected.rewritten += 1;
                }
            }
        }
        Action::Condemn(pack) => {
            if catalogue.condemn(&pack.file, plan.untouched_since(), now)? == Condemnable::Condemned {
                collected.condemned += 1;
            }
        }
        Action::Remove(pack) => {
            if catalogue.forget(&pack.file, plan.untouched_since())? {
                collected.removed += 1;
                collected.bytes_freed += u64::from(pack.len);
            }
        }
    }
    Ok(collected)
}

/// Removes the files of packs that have been forgotten, those of earlier runs that were interrupted included.
pub(crate) async fn remove_forgotten(store: &Store) -> Result<(), StoreError> {
    for file in store.catalogue().removals()? {
        store.backend().delete(&file).await?;
        store.catalogue().removed(&file)?;
    }
    Ok(())
}

/// Makes what is needed of packs of a domain durable in new ones.
async fn rewrite(store: &Store, packs: &[PlannedPack], now: Timestamp) -> Result<(), StoreError> {
    let Some(first) = packs.first() else { return Ok(()) };
    let mut repack = Repack::new(store, &first.file.domain, REWRITE_LEVEL, now);
    for pack in packs {
        let index = store.catalogue().index_of(&pack.file)?.unwrap_or_default();
        for frame in index.frames() {
            move_frame(store, pack, frame, &mut repack).await?;
        }
    }
    repack.finish().await?;
    Ok(())
}

async fn move_frame(
    store: &Store,
    pack: &PlannedPack,
    frame: &Frame,
    repack: &mut Repack<'_>,
) -> Result<(), StoreError> {
    let is_needed = |key: &ObjectKey| pack.needed.binary_search(key).is_ok();
    if !frame.objects.iter().any(|object| is_needed(&object.key)) {
        return Ok(());
    }
    let stored = store.backend().get_range(&pack.file, frame.range()).await?;
    let objects = decode_frame(frame, &stored)
        .map_err(|source| StoreError::Pack { pack: pack.file.id, source: Box::new(source) })?;
    for object in objects.iter().filter(|object| is_needed(&object.key())) {
        repack.add(object).await?;
    }
    Ok(())
}

#[cfg(test)]
mod apart_tests;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;
