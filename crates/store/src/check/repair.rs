//! Replacing a damaged pack by what is left of it and what somebody else still has.
//!
//! Afterwards the catalogue names no object that cannot be read: what could not be saved is missing, and a publisher who
//! has it is asked for it again.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::Store;
use crate::backend::PackFile;
use crate::catalogue::Timestamp;
use crate::error::{Fault, StoreError};
use crate::object::{ObjectKey, VerifiedObject};
use crate::pack::{Frame, PackWriter, VerifiedPack, decode_raw};

/// The level of zstd for what was saved.
const LEVEL: i32 = 3;

/// What came of replacing a pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The number of objects that the new pack holds.
    pub saved: usize,
    /// Objects that are not there any more, as far as this pack is concerned.
    pub given_up: Vec<ObjectKey>,
}

/// Replaces a pack by one that holds the objects of it that can still be read, and those that `recovered` brings.
///
/// Where the very same pack is at hand, [`Store::repair_pack`] is simpler.
pub async fn replace_pack(
    store: &Store,
    file: &PackFile,
    recovered: Vec<VerifiedObject>,
    now: Timestamp,
) -> Result<Repaired, StoreError> {
    let mut recovered: BTreeMap<ObjectKey, VerifiedObject> =
        recovered.into_iter().map(|object| (object.key(), object)).collect();
    let index = store.catalogue().index_of(file)?.unwrap_or_default();
    let mut repaired = Repaired::default();
    let mut writer = PackWriter::new(LEVEL);
    for frame in index.frames() {
        let mut readable = readable(store, file, frame).await?;
        for object in &frame.objects {
            let Some(found) = readable.remove(&object.key).or_else(|| recovered.remove(&object.key)) else {
                repaired.given_up.push(object.key);
                continue;
            };
            if writer.is_full() {
                add(store, file, std::mem::replace(&mut writer, PackWriter::new(LEVEL)), now).await?;
            }
            writer.add(found.key(), found.bytes()).expect("a pack that is not full takes any object");
            repaired.saved += 1;
        }
    }
    if add(store, file, writer, now).await? == Place::SameFile {
        return Ok(repaired);
    }
    store.catalogue().discard(file, &index)?;
    store.forget_frames(file, &index);
    store.backend().delete(file).await?;
    store.catalogue().removed(file)?;
    Ok(repaired)
}

/// Where saved objects are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Everything was saved and packs the same way: the damaged file has been overwritten.
    SameFile,
    OtherFile,
}

async fn add(
    store: &Store,
    damaged: &PackFile,
    writer: PackWriter,
    now: Timestamp,
) -> Result<Place, StoreError> {
    let Some((id, bytes)) = writer.finish() else { return Ok(Place::OtherFile) };
    let pack = VerifiedPack::verify(bytes.into()).map_err(|error| StoreError::Refused(Box::new(error)))?;
    if id == damaged.id && store.repair_pack(&damaged.domain, &pack).await? {
        return Ok(Place::SameFile);
    }
    store.add_verified(&damaged.domain, &pack, now).await?;
    Ok(Place::OtherFile)
}

/// The objects of a frame that can be read; none of a frame that cannot be decoded.
async fn readable(
    store: &Store,
    file: &PackFile,
    frame: &Frame,
) -> Result<BTreeMap<ObjectKey, VerifiedObject>, StoreError> {
    let stored = match store.backend().get_range(file, frame.range()).await {
        Ok(stored) => stored,
        Err(error) if matches!(error.fault(), Fault::Absent | Fault::Corrupt | Fault::Transient) => {
            Bytes::new()
        }
        Err(error) => return Err(error),
    };
    let Ok(mut raw) = decode_raw(frame.codec, &stored, frame.raw) else { return Ok(BTreeMap::new()) };
    let mut objects = BTreeMap::new();
    for object in &frame.objects {
        let bytes = raw.split_to(raw.len().min(object.len as usize));
        if let Ok(verified) = VerifiedObject::verify(object.key, bytes) {
            objects.insert(object.key, verified);
        }
    }
    Ok(objects)
}
