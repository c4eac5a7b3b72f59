//! The store: packs in a back end, found through the catalogue.
//!
//! Every byte that leaves the store has been compared with its name on the way out, so that a fault of the disk is an
//! error here and not a surprise later. The async functions run on any executor; hashing, decompression and the
//! catalogue's short queries run on the caller's thread.

mod at_hand;
mod cache;
mod contents;
mod names;
mod plain;
mod rebuilt;
mod repack;

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt;

use crate::backend::{Backend, PackFile};
use crate::catalogue::{Catalogue, Location, Timestamp};
use crate::domain::Domain;
use crate::error::StoreError;
use crate::id::PackId;
use crate::object::{ObjectKey, ObjectKind, VerifiedObject};
use crate::pack::{
    Codec, OpenedPack, PackError, PackIndex, PackTrailer, RecipeOf, VerifiedPack, decode_frame, decode_raw,
};
use crate::recipe::Recipe;
pub use at_hand::AT_HAND_LEN_MAX;
use at_hand::Places;
use cache::FrameCache;
pub use contents::LaidOut;
pub use plain::{Apart, Originals};
use rebuilt::RebuiltFiles;
pub(crate) use repack::Repack;

/// An object that is smaller than this part of its frame may be read alone.
const ALONE_DIVISOR: u32 = 4;
/// The bytes of decoded frames that a store keeps unless told otherwise.
const CACHE_LEN_MAX: usize = 32 << 20;

/// Packs and where everything is in them.
#[derive(Debug)]
pub struct Store {
    backend: Backend,
    catalogue: Catalogue,
    frames: FrameCache,
    rebuilt: RebuiltFiles,
    places: Places,
}

/// What came of adding a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New,
    /// The domain had it already.
    Known,
}

impl Store {
    /// Opens the store in a directory, which is made if it is not there. A catalogue that is missing is rebuilt.
    pub async fn open(directory: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let backend = Backend::local(directory)?;
        Self::with_backend(backend, &directory.join("catalogue.sqlite"), now).await
    }

    /// Opens a store whose packs are in a back end of the caller's choice.
    pub async fn with_backend(
        backend: Backend,
        catalogue: &Path,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let scratch = catalogue.parent().unwrap_or(Path::new(".")).to_owned();
        let store = Self {
            backend,
            catalogue: Catalogue::open(catalogue)?,
            frames: FrameCache::new(CACHE_LEN_MAX),
            rebuilt: RebuiltFiles::new(scratch),
            places: Places::default(),
        };
        // In doubt, a pack may have come back, or making the catalogue anew was interrupted.
        if store.catalogue.packs()?.is_empty() || store.catalogue.doubt()?.is_some() {
            store.adopt_found_packs(now).await?;
        }
        Ok(store)
    }

    /// The index of the store.
    pub const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Where the packs are.
    pub const fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Verifies a publisher's pack and adds it. When this returns, the pack is durable and its objects are found.
    pub async fn add_pack(
        &self,
        domain: &Domain,
        bytes: Bytes,
        now: Timestamp,
    ) -> Result<(PackId, Added), StoreError> {
        let pack = self.verify_pack(domain, bytes).await?;
        Ok((pack.id(), self.add_verified(domain, &pack, now).await?))
    }

    /// Verifies a publisher's pack, and names the contents in it with the help of chunks that the domain has.
    pub async fn verify_pack(&self, domain: &Domain, bytes: Bytes) -> Result<VerifiedPack, StoreError> {
        let refused = |error| StoreError::Refused(Box::new(error));
        let opened = OpenedPack::open(bytes).map_err(refused)?;
        let wanted = opened.wanted();
        let mut found = Vec::with_capacity(wanted.len());
        for (key, location) in wanted.iter().zip(self.locate(domain, &wanted)?) {
            // What cannot be read here is missed, and named, when its content is asked for.
            if let Some(location) = location
                && let Ok(object) = self.object_at(*key, &location).await
            {
                found.push(object.detached());
            }
        }
        opened.verify(found).map_err(refused)
    }

    /// Adds a pack that has been verified. When this returns, the pack is durable and its objects are found.
    pub async fn add_verified(
        &self,
        domain: &Domain,
        pack: &VerifiedPack,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        let len = u32::try_from(pack.bytes().len()).expect("a pack has at most 64 MiB");
        let arrival = self.catalogue.announce(domain, pack.id(), len, now)?;
        if arrival.is_recorded && self.backend.len(&arrival.file).await? == Some(u64::from(len)) {
            return Ok(Added::Known);
        }
        self.backend.put(&arrival.file, pack.bytes().clone()).await?;
        if self.catalogue.record(&arrival.file, pack, now)? {
            return Ok(if arrival.is_recorded { Added::Known } else { Added::New });
        }
        self.backend.delete(&arrival.file).await?;
        Err(StoreError::Abandoned { pack: pack.id() })
    }

    /// Writes a pack that the domain has once more, over a file that is damaged; false if the domain does not have it.
    pub async fn repair_pack(&self, domain: &Domain, pack: &VerifiedPack) -> Result<bool, StoreError> {
        let Some((file, _)) = self.catalogue.file_of(domain, pack.id())? else { return Ok(false) };
        self.backend.put(&file, pack.bytes().clone()).await?;
        self.forget_frames(&file, pack.index());
        Ok(true)
    }

    /// Forgets the decoded frames of a file that changes or goes.
    pub(crate) fn forget_frames(&self, file: &PackFile, index: &PackIndex) {
        for frame in index.frames() {
            self.frames.remove((file.number, frame.offset));
        }
    }

    /// Which of these objects the domain does not have; see [`Catalogue::missing`] for what the answer promises.
    pub fn missing(
        &self,
        domain: &Domain,
        keys: &[ObjectKey],
        now: Timestamp,
    ) -> Result<Vec<ObjectKey>, StoreError> {
        self.catalogue.missing(domain, keys, now)
    }

    /// Where each of these objects is; nothing for those that the domain does not have.
    pub fn locate(&self, domain: &Domain, keys: &[ObjectKey]) -> Result<Vec<Option<Location>>, StoreError> {
        self.catalogue.locate(domain, keys)
    }

    /// Reads an object.
    pub async fn object(&self, domain: &Domain, key: ObjectKey) -> Result<VerifiedObject, StoreError> {
        let location = self.catalogue.locate(domain, &[key])?.pop().flatten();
        let location = location.ok_or_else(|| StoreError::Absent { key, domain: domain.clone() })?;
        self.object_at(key, &location).await
    }

    /// Reads an object whose place is known.
    pub async fn object_at(&self, key: ObjectKey, location: &Location) -> Result<VerifiedObject, StoreError> {
        if let Some(object) = self.alone(key, location).await {
            return Ok(object);
        }
        let frame = self.frame_at(location).await?;
        let pack = location.file.id;
        let range = location.start as usize..location.start as usize + location.len as usize;
        if range.end > frame.len() {
            let reason = format!("{key} is said to lie beyond its end");
            return Err(frame_error(pack, location.frame_offset, reason));
        }
        VerifiedObject::verify(key, frame.slice(range)).map_err(|source| {
            self.frames.remove((location.file.number, location.frame_offset));
            StoreError::Object { pack, source: Box::new(source) }
        })
    }

    /// Reads a small object without the frame around it, where the frame is stored as it is and nobody else has asked for
    /// it lately. One that is not right is read as any other, which says what is wrong.
    async fn alone(&self, key: ObjectKey, location: &Location) -> Option<VerifiedObject> {
        let frame = (location.file.number, location.frame_offset);
        let is_small = location.codec == Codec::Raw && location.len < location.raw / ALONE_DIVISOR;
        if !is_small || self.frames.has(frame) || self.frames.is_missed_again(frame) {
            return None;
        }
        if location.start.checked_add(location.len)? > location.stored {
            return None;
        }
        let start = u64::from(location.frame_offset) + u64::from(location.start);
        let range = start..start + u64::from(location.len);
        let bytes = self.backend.read_range(&location.file, range).await.ok()?;
        VerifiedObject::verify(key, bytes).ok()
    }

    /// Reads a part of a pack as it is stored; nothing if the domain does not have the pack.
    pub async fn pack_range(
        &self,
        domain: &Domain,
        id: PackId,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some((file, len)) = self.catalogue.file_of(domain, id)? else { return Ok(None) };
        let len = u64::from(len);
        if range.start > range.end || range.end > len {
            return Err(StoreError::Range { start: range.start, end: range.end, len });
        }
        self.backend.get_range(&file, range).await.map(Some)
    }

    /// Makes the catalogue know every pack of the back end; returns how many it did not know. With an empty catalogue
    /// this rebuilds it, and whether something is lost is in doubt from then on.
    pub async fn adopt_found_packs(&self, now: Timestamp) -> Result<usize, StoreError> {
        let found: Vec<(PackFile, u64)> = self.backend.list().try_collect().await?;
        let mut known: HashSet<PackFile> =
            self.catalogue.packs()?.into_iter().map(|pack| pack.file).collect();
        if known.is_empty() && !found.is_empty() {
            self.catalogue.raise_doubt()?;
        }
        known.extend(self.catalogue.removals()?);
        let mut adopted = 0;
        for (file, len) in found {
            if known.contains(&file) {
                continue;
            }
            match self.adopt(&file, len, now).await {
                Ok(is_new) => adopted += usize::from(is_new),
                Err(error) => {
                    tracing::warn!(%file, error = %error, "a pack was passed over; check the store");
                }
            }
        }
        Ok(adopted)
    }

    async fn adopt(&self, file: &PackFile, len: u64, now: Timestamp) -> Result<bool, StoreError> {
        let index = self.read_index(file, len).await?;
        let recipes = self.read_recipes(file, &index).await?;
        let len = u32::try_from(len).expect("a pack whose trailer was accepted has at most 64 MiB");
        self.catalogue.adopt(file, len, &index, &recipes, now)
    }

    /// Reads the index from the pack itself.
    pub(crate) async fn read_index(&self, file: &PackFile, len: u64) -> Result<PackIndex, StoreError> {
        let corrupt = |source: PackError| StoreError::Pack { pack: file.id, source: Box::new(source) };
        let start = len.saturating_sub(PackTrailer::LEN as u64);
        let trailer = self.backend.get_range(file, start..len).await?;
        let trailer: &[u8; PackTrailer::LEN] = trailer.first_chunk().ok_or_else(|| StoreError::Short {
            object: file.to_string(),
            expected: PackTrailer::LEN as u64,
            found: len,
        })?;
        let trailer = PackTrailer::decode(trailer, len).map_err(corrupt)?;
        let index = self.backend.get_range(file, trailer.index_range(len)).await?;
        PackIndex::decode(&index, &trailer, len).map_err(corrupt)
    }

    /// Reads the recipes of a pack, of which the index says only that they are there.
    async fn read_recipes(&self, file: &PackFile, index: &PackIndex) -> Result<Vec<RecipeOf>, StoreError> {
        let mut recipes = Vec::new();
        for frame in index.frames() {
            if frame.objects.iter().all(|object| object.key.kind != ObjectKind::Recipe) {
                continue;
            }
            let stored = self.backend.get_range(file, frame.range()).await?;
            let objects = decode_frame(frame, &stored)
                .map_err(|source| StoreError::Pack { pack: file.id, source: Box::new(source) })?;
            for object in objects.iter().filter(|object| object.kind() == ObjectKind::Recipe) {
                // One that cannot be read is of no use to anybody, and no reason to pass over the pack.
                if let Ok(recipe) = Recipe::decode(object.bytes()) {
                    recipes.push(RecipeOf::new(&recipe, object.id(), false));
                }
            }
        }
        Ok(recipes)
    }

    async fn frame_at(&self, location: &Location) -> Result<Bytes, StoreError> {
        let key = (location.file.number, location.frame_offset);
        if let Some(frame) = self.frames.get(key) {
            return Ok(frame);
        }
        let start = u64::from(location.frame_offset);
        let range = start..start + u64::from(location.stored);
        let stored = self.backend.read_range(&location.file, range).await?;
        let frame = decode_raw(location.codec, &stored, location.raw)
            .map_err(|reason| frame_error(location.file.id, location.frame_offset, reason))?;
        self.frames.put(key, frame.clone());
        Ok(frame)
    }
}

fn frame_error(pack: PackId, offset: u32, reason: String) -> StoreError {
    StoreError::Pack { pack, source: Box::new(PackError::Frame { offset, reason }) }
}

#[cfg(test)]
pub(crate) mod tests;
