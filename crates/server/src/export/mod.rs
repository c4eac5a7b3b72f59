//! The public part of the realm as files, at the addresses that clients ask a server for.
//!
//! The order in which files are written is the whole protocol. What never changes comes first: packs, pages, deltas,
//! tiles, root documents. Then all of it is made durable, and only then comes what speaks of it: the evidence of each
//! ref, and the checkpoint last. So a reader never sees a log that is larger than its tiles or a tree whose packs are
//! not there, and an export that was interrupted is completed by the next one. What is no longer spoken of is removed
//! after that, when nobody can be reading it any more.

mod contents;
mod destination;
mod evidence;
mod prune;
#[cfg(test)]
mod tests;
mod writer;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, bail};
use smart_sync_store::catalogue::PackState;
use smart_sync_store::domain::Domain;
use smart_sync_store::error::Fault;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::tile::Tile;
use smart_sync_sync::note::Note;

pub(crate) use destination::Destination;
use writer::Writer;

use crate::bundles::{self, BundleFile, FromText};
use crate::realm::Realm;
use crate::realm::view::View;

/// The path of the checkpoint.
const CHECKPOINT: &str = "checkpoint";
/// The path of the list of what is no longer spoken of, and since when.
const UNREFERENCED: &str = "unreferenced";

/// What an export did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Report {
    /// Files that were written.
    pub(crate) written: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Files that were removed.
    pub(crate) removed: u64,
    /// Files that nothing speaks of any more, and that are still there.
    pub(crate) unreferenced: u64,
    /// The number of leaves of the log.
    pub(crate) size: u64,
}

/// Writes the realm as it stands now. What nothing has spoken of for `grace` seconds is removed, if that is given.
pub(crate) async fn export(
    realm: &Arc<Realm>,
    destination: &Destination,
    now: u64,
    grace: Option<u64>,
) -> anyhow::Result<Report> {
    let view = realm.view();
    if !view.is_signed {
        bail!(
            "the newest checkpoint is not signed by the clock and the witnesses yet, and no host would accept it\n\
             hint: export again when they have signed"
        );
    }
    check_before(destination, &view).await?;
    let mut writer = Writer::new(destination).await?;
    write_packs(realm, &mut writer).await?;
    contents::write_trees(realm, &view, &mut writer).await?;
    write_bundles(realm, &view, &mut writer).await?;
    write_log(realm, &view, &mut writer).await?;
    destination.settle()?;
    for (path, bytes) in evidence::of_all_refs(realm, &view)? {
        writer.replace(&path, bytes).await?;
    }
    destination.settle()?;
    writer.replace(CHECKPOINT, view.checkpoint.clone()).await?;
    destination.settle()?;
    let mut report = Report { size: view.size, ..writer.report() };
    let noted = prune::read(destination.get(UNREFERENCED).await?.as_deref());
    let outcome = prune::decide(writer.present(), writer.expected(), &noted, now, grace);
    if outcome.noted != noted {
        destination.put(UNREFERENCED, prune::write(&outcome.noted).into()).await?;
    }
    for path in &outcome.removed {
        destination.delete(path).await?;
    }
    destination.settle()?;
    report.removed = outcome.removed.len() as u64;
    report.unreferenced = outcome.noted.len() as u64;
    Ok(report)
}

/// The largest bundle that is exported: it is in memory while it is written.
const BUNDLE_BYTES_MAX: u64 = 256 << 20;

/// An export only ever goes forward, and stays one of its realm.
async fn check_before(destination: &Destination, view: &View) -> anyhow::Result<()> {
    let Some(bytes) = destination.get(CHECKPOINT).await? else { return Ok(()) };
    let parse =
        |bytes: &[u8]| -> anyhow::Result<Checkpoint> { Ok(Checkpoint::parse(Note::parse(bytes)?.text())?) };
    let there = parse(&bytes).with_context(|| format!("{destination} has a checkpoint that is none"))?;
    let here = parse(&view.checkpoint)?;
    if there.origin != here.origin {
        bail!("{destination} is an export of {}, and this is {}", there.origin, here.origin);
    }
    if there.size > here.size || there.size == here.size && there.root != here.root {
        bail!(
            "{destination} has a log of {} leaves that this server, with {}, does not have: it was set back\n\
             hint: see \"Backup and restore\"; the export may be what the log is taken back from",
            there.size,
            here.size
        );
    }
    Ok(())
}

/// Writes the packs that everybody may read.
async fn write_packs(realm: &Realm, writer: &mut Writer<'_>) -> anyhow::Result<()> {
    for pack in realm.store.catalogue().packs()? {
        // What is private stays here: a file cannot ask for a token.
        if pack.file.domain == Domain::public() && pack.state != PackState::Arriving {
            contents::write_pack(realm, pack.file.id, writer).await?;
        }
    }
    Ok(())
}

/// Writes the stored bundles that lead to where a ref stands, each step's best one. A web server gives what lies under an
/// address as a whole, so that one which is replaced while it is downloaded is found to be another by its tag.
async fn write_bundles(realm: &Realm, view: &View, writer: &mut Writer<'_>) -> anyhow::Result<()> {
    let mut current = HashSet::new();
    for (channel, reference) in evidence::refs(realm, view) {
        let newest = realm.newest(view, &channel, &reference)?;
        current.extend(newest.and_then(|newest| newest.publication.manifest).map(|manifest| manifest.id));
    }
    let mut best: BTreeMap<String, BundleFile> = BTreeMap::new();
    let backend = realm.store.backend();
    for file in bundles::list(backend).await? {
        let is_wanted = file.step.domain == Domain::public() && current.contains(&file.step.to);
        if !is_wanted || file.length > BUNDLE_BYTES_MAX {
            continue;
        }
        let path = format!("bundle/{}/{}", FromText(&file.step.from), file.step.to);
        let rank = |file: &BundleFile| (Reverse(file.variant.quality), file.length);
        if best.get(&path).is_none_or(|other| rank(&file) < rank(other)) {
            best.insert(path, file);
        }
    }
    for (path, file) in best {
        // A quick one and a better one that are equally long are equally good.
        if !writer.expect_of(&path, file.length) {
            match backend.get(&file).await {
                Ok(bytes) => writer.replace(&path, bytes).await?,
                // The server has removed it meanwhile: hosts take the delta.
                Err(error) if matches!(error.fault(), Fault::Absent) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Writes the tiles of the log and the root documents.
async fn write_log(realm: &Realm, view: &View, writer: &mut Writer<'_>) -> anyhow::Result<()> {
    for tile in Tile::added(0, view.size) {
        let path = tile.to_string();
        if !(tile.is_full() && writer.expect(&path)) {
            writer.replace(&path, realm.files.tile(tile)?.to_vec().into()).await?;
        }
    }
    let roots = realm.index().roots_from(0, view.size)?;
    for (number, leaf) in roots.iter().enumerate() {
        let note = realm.files.leaf(*leaf, view.size)?;
        writer.replace(&format!("v1/root/{}", number + 1), note.clone().into()).await?;
        if number + 1 == roots.len() {
            writer.replace("v1/root/latest", note.into()).await?;
        }
    }
    Ok(())
}
