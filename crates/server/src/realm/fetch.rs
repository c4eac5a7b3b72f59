//! Where contents lie: what a client needs to fetch them from packs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context;
use smart_sync_store::domain::Domain;
use smart_sync_store::error::{Fault, StoreError};
use smart_sync_store::id::{ContentId, ManifestId, ObjectId};
use smart_sync_store::manifest::{Change, Content, Edit, Manifest, diff};
use smart_sync_store::object::ObjectKey;
use smart_sync_store::recipe::Plain;
use smart_sync_store::{LaidOut, Store, catalogue::Location};
use smart_sync_sync::wire::delta::Delta;
use smart_sync_sync::wire::fetch_map::{
    ContentParts, FetchMap, FrameChunk, FrameRef, PackRef, RebuiltContent,
};
use tokio::runtime::Handle;

use super::pages::StorePages;

/// Computes the delta between two manifests of a domain, or from nothing. To be called on a thread that may block.
pub(crate) fn delta(
    store: &Arc<Store>,
    domain: &Domain,
    from: Option<ManifestId>,
    to: ManifestId,
) -> Result<Delta, anyhow::Error> {
    let pages = StorePages::new(Arc::clone(store), domain.clone());
    let new = Manifest::open(pages.clone(), to, None)?;
    let old = from.map(|from| Manifest::open(pages, from, None)).transpose()?;
    let mut edits = Vec::new();
    let mut moved = HashSet::new();
    match old.filter(|old| old.fidelity() == new.fidelity()) {
        Some(old) => {
            for change in diff(&old, &new) {
                let change = change?;
                if let Change::Removed(old) | Change::Changed { old, .. } = &change {
                    moved.extend(old.content().map(|content| content.id));
                }
                edits.push(Edit::from(change));
            }
        }
        None => {
            for entry in &new {
                edits.push(Edit::Put(entry?));
            }
        }
    }
    let mut seen = HashSet::new();
    let wanted: Vec<Content> = edits
        .iter()
        .filter_map(|edit| edit.entry()?.content())
        .filter(|content| content.size > 0 && !moved.contains(&content.id) && seen.insert(content.id))
        .copied()
        .collect();
    let map = locate(store, domain, &wanted)?;
    Ok(Delta { fidelity: new.fidelity(), edits, map })
}

/// Says where contents lie; those that the domain does not have are left out.
pub(crate) fn locate(store: &Arc<Store>, domain: &Domain, wanted: &[Content]) -> anyhow::Result<FetchMap> {
    let mut builder = MapBuilder::default();
    let keys: Vec<_> = wanted.iter().map(|content| ObjectKey::chunk(content.id.as_chunk())).collect();
    let mut in_pieces = Vec::new();
    for (content, location) in wanted.iter().zip(store.locate(domain, &keys)?) {
        match location.filter(|location| u64::from(location.len) == content.size) {
            Some(location) => {
                builder.place(content.id.as_chunk(), &location);
                builder.contents.push((content.id, content.size, vec![content.id.as_chunk()]));
            }
            None => in_pieces.push(content),
        }
    }
    for content in in_pieces {
        let (plain, chunks) = match Handle::current().block_on(store.laid_out(domain, content)) {
            Ok(LaidOut::Chunks(chunks)) => (None, chunks),
            Ok(LaidOut::Rebuilt(plain, chunks)) => (Some(plain), chunks),
            Err(error) if matches!(error.fault(), Fault::Absent) => continue,
            Err(error) => return Err(error).with_context(|| format!("locating content {}", content.id)),
        };
        let keys: Vec<_> = chunks.iter().map(|chunk| ObjectKey::chunk(chunk.id)).collect();
        for (key, location) in keys.iter().zip(store.locate(domain, &keys)?) {
            let location = location
                .ok_or_else(|| StoreError::Absent { key: *key, domain: domain.clone() })
                .with_context(|| format!("locating content {}", content.id))?;
            builder.place(key.id, &location);
        }
        let ids = chunks.iter().map(|chunk| chunk.id).collect();
        builder.add(content, plain, ids);
    }
    Ok(builder.finish(&pack_lengths(store)?))
}

/// The length of each pack, which tells a client what a range may be.
fn pack_lengths(store: &Store) -> anyhow::Result<HashMap<i64, u64>> {
    let packs = store.catalogue().packs()?;
    Ok(packs.into_iter().map(|pack| (pack.file.number, u64::from(pack.len))).collect())
}

/// A frame: the number of its pack, and where it begins there.
type FrameKey = (i64, u32);

/// The wanted chunks of a frame by where they begin in it.
type ChunksOfFrame = BTreeMap<u32, (ObjectId, u32)>;

#[derive(Default)]
struct MapBuilder {
    frames: BTreeMap<FrameKey, (Location, ChunksOfFrame)>,
    places: HashMap<ObjectId, (FrameKey, u32)>,
    contents: Vec<(ContentId, u64, Vec<ObjectId>)>,
    rebuilt: Vec<RebuiltContent>,
}

impl MapBuilder {
    fn place(&mut self, chunk: ObjectId, location: &Location) {
        let key = (location.file.number, location.frame_offset);
        if self.places.insert(chunk, (key, location.start)).is_none() {
            let (_, chunks) = self.frames.entry(key).or_insert_with(|| (location.clone(), BTreeMap::new()));
            chunks.insert(location.start, (chunk, location.len));
        }
    }

    /// Adds a content that is made of these chunks, or rebuilt from what is.
    fn add(&mut self, content: &Content, plain: Option<Plain>, chunks: Vec<ObjectId>) {
        let Some(plain) = plain else {
            self.contents.push((content.id, content.size, chunks));
            return;
        };
        let source = u32::try_from(self.contents.len()).expect("contents are counted in 32 bits");
        self.contents.push((plain.id, plain.size(), chunks));
        self.rebuilt.push(RebuiltContent { id: content.id, size: content.size, source, plain });
    }

    fn finish(self, pack_lengths: &HashMap<i64, u64>) -> FetchMap {
        let mut map = FetchMap { rebuilt: self.rebuilt, ..FetchMap::default() };
        let mut ordinals = HashMap::new();
        let mut next = 0u32;
        let mut last_pack = None;
        for ((pack, _), (location, chunks)) in &self.frames {
            if last_pack != Some(*pack) {
                let length = pack_lengths.get(pack).copied().unwrap_or_default();
                map.packs.push(PackRef { id: location.file.id, length });
                last_pack = Some(*pack);
            }
            let chunks = chunks
                .iter()
                .map(|(start, (id, length))| {
                    ordinals.insert(*id, next);
                    next += 1;
                    FrameChunk { id: *id, start: *start, length: *length }
                })
                .collect();
            map.frames.push(FrameRef {
                pack: u32::try_from(map.packs.len() - 1).expect("packs are counted in 32 bits"),
                offset: u64::from(location.frame_offset),
                stored: location.stored,
                raw: location.raw,
                codec: location.codec,
                chunks,
            });
        }
        for (id, size, chunks) in self.contents {
            let chunks = chunks.iter().filter_map(|chunk| ordinals.get(chunk).copied()).collect();
            map.contents.push(ContentParts { id, size, chunks });
        }
        map
    }
}
