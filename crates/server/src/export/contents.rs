//! The trees that everybody may see: their pages, and the deltas that lead to them.
//!
//! A delta names packs, and collecting garbage rewrites packs: one that is there stays for as long as every pack that
//! it names is in the store, and is computed again otherwise. To where a ref stands now there is a delta from nothing
//! and one from each of its last versions; a host with another version takes the first and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use smart_sync_store::domain::Domain;
use smart_sync_store::gc::Reference;
use smart_sync_store::id::{ManifestId, ObjectId, PackId};
use smart_sync_store::manifest::{PageSource as _, references};
use smart_sync_store::object::ObjectKey;
use smart_sync_sync::log::heads::HeadKey;
use smart_sync_sync::name::{Channel, RefName};
use smart_sync_sync::record::ContentSummary;
use smart_sync_sync::wire::delta::{Delta, decoded_len_max};

use super::evidence::refs;
use super::writer::Writer;
use crate::realm::Realm;
use crate::realm::fetch;
use crate::realm::pages::StorePages;
use crate::realm::view::View;

/// Versions before the newest one of a ref from which there are deltas: as many as are kept as a rule.
const STEPS: u64 = 10;
/// How hard a delta is compressed: it is computed once, and read by many.
const DELTA_LEVEL: i32 = 12;

/// A delta that belongs into the export.
struct Step {
    from: Option<ManifestId>,
    to: ManifestId,
    /// The most bytes that it decompresses to.
    decoded_len_max: u64,
}

impl Step {
    fn path(&self) -> String {
        let from = self.from.map_or_else(|| "none".to_owned(), |from| from.to_string());
        format!("v1/delta/{from}/{}", self.to)
    }
}

/// Writes pages and deltas.
pub(super) async fn write_trees(
    realm: &Arc<Realm>,
    view: &Arc<View>,
    writer: &mut Writer<'_>,
) -> anyhow::Result<()> {
    let steps = {
        let (realm, view) = (Arc::clone(realm), Arc::clone(view));
        blocking(move || steps(&realm, &view)).await?
    };
    let mut seen = BTreeSet::new();
    for step in steps.values().filter(|step| step.from.is_none()) {
        write_pages(realm, step.to, &mut seen, writer).await?;
    }
    for (path, step) in steps {
        let is_needed = step.from.is_none();
        match write_delta(realm, &path, step, writer).await {
            // Of an old version a part may have been collected. Whoever has it takes the delta from nothing.
            Err(error) if !is_needed => tracing::debug!(error = format!("{error:#}"), path, "no such step"),
            written => written?,
        }
    }
    Ok(())
}

/// Writes a pack.
pub(super) async fn write_pack(realm: &Realm, id: PackId, writer: &mut Writer<'_>) -> anyhow::Result<()> {
    let found = realm.store.catalogue().file_of(&Domain::public(), id)?;
    let (file, length) = found
        .with_context(|| format!("pack {id} was removed from the store meanwhile\nhint: export again"))?;
    let path = format!("pack/{id}");
    if !writer.expect_of(&path, u64::from(length)) {
        writer.write(&path, realm.store.backend().get(&file).await?).await?;
    }
    Ok(())
}

/// The deltas that belong into the export, by their paths.
fn steps(realm: &Realm, view: &View) -> anyhow::Result<BTreeMap<String, Step>> {
    let mut steps = BTreeMap::new();
    for (channel, reference) in refs(realm, view) {
        let mut versions = versions(realm, view, &channel, &reference)?.into_iter();
        let Some(Some((to, content))) = versions.next() else { continue };
        let from_nothing = decoded_len_max(0, content.entries, content.bytes);
        let mut add = |step: Step| steps.insert(step.path(), step);
        add(Step { from: None, to, decoded_len_max: from_nothing });
        for (from, old) in versions.flatten().filter(|(from, _)| *from != to) {
            let root = [ObjectKey::page(from.root_page())];
            if realm.store.locate(&Domain::public(), &root)?.iter().all(Option::is_some) {
                let limit = decoded_len_max(old.entries, content.entries, content.bytes);
                add(Step { from: Some(from), to, decoded_len_max: limit });
            }
        }
    }
    Ok(steps)
}

/// The last trees of a ref, newest first; nothing where it was withdrawn.
fn versions(
    realm: &Realm,
    view: &View,
    channel: &Channel,
    reference: &RefName,
) -> anyhow::Result<Vec<Option<(ManifestId, ContentSummary)>>> {
    let key = HeadKey::open(channel, reference);
    let leaves = realm.index().history(&key, None, STEPS + 1, view.size)?;
    let version = |(_, leaf): (u64, u64)| {
        let publication = realm.published(leaf, view.size)?.publication;
        Ok(publication.manifest.map(|manifest| (manifest.id, publication.content)))
    };
    leaves.into_iter().map(version).collect()
}

/// Writes the pages of a manifest that were not seen before, and what they refer to.
async fn write_pages(
    realm: &Arc<Realm>,
    manifest: ManifestId,
    seen: &mut BTreeSet<ObjectId>,
    writer: &mut Writer<'_>,
) -> anyhow::Result<()> {
    let mut next = vec![manifest.root_page()];
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        let page = read_page(realm, id).await.with_context(|| format!("reading page {id} of {manifest}"))?;
        let below = references(&page)?.into_iter().filter_map(|reference| match reference {
            Reference::Page(page) => Some(page),
            _ => None,
        });
        next.extend(below);
        let path = format!("page/{id}");
        if !writer.expect_of(&path, page.len() as u64) {
            writer.write(&path, page).await?;
        }
    }
    Ok(())
}

async fn read_page(realm: &Arc<Realm>, id: ObjectId) -> anyhow::Result<Bytes> {
    let store = Arc::clone(&realm.store);
    blocking(move || Ok(StorePages::new(store, Domain::public()).page(&id)?)).await
}

/// Writes a delta unless one is there that names packs which are in the store.
async fn write_delta(
    realm: &Arc<Realm>,
    path: &str,
    step: Step,
    writer: &mut Writer<'_>,
) -> anyhow::Result<()> {
    writer.expect(path);
    if let Some(bytes) = writer.read(path).await?
        && let Ok(delta) = Delta::decode(&bytes, step.decoded_len_max)
        && has_packs_of(realm, &delta)?
    {
        return Ok(());
    }
    let store = Arc::clone(&realm.store);
    let computed = blocking(move || {
        let delta = fetch::delta(&store, &Domain::public(), step.from, step.to)?;
        let packs: Vec<PackId> = delta.map.packs.iter().map(|pack| pack.id).collect();
        Ok((packs, Bytes::from(delta.encode(DELTA_LEVEL)?)))
    });
    let (packs, bytes) = computed.await.with_context(|| format!("computing {path}"))?;
    for pack in packs {
        // It may have come into the store after the others were written.
        write_pack(realm, pack, writer).await?;
    }
    writer.write(path, bytes).await
}

fn has_packs_of(realm: &Realm, delta: &Delta) -> anyhow::Result<bool> {
    for pack in &delta.map.packs {
        if realm.store.catalogue().file_of(&Domain::public(), pack.id)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}
