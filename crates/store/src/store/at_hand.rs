//! Small contents that can be read at once, without waiting for anything.
//!
//! Whoever serves many small files would spend most of the time on asking the catalogue, and on going to a thread that
//! may wait for it. So it is remembered where the objects of packs are that small contents were read from several times,
//! and what the disk would have to be waited for is left to the ordinary way. What is read is compared with its name as
//! it always is; what is remembered of a pack that has gone leads to nothing, and is forgotten.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::IoSliceMut;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::io::{ReadWriteFlags, preadv2};

use super::Store;
use crate::backend::PackFile;
use crate::catalogue::Location;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::id::ObjectId;
use crate::manifest::entry::Content;
use crate::object::{ObjectKey, ObjectKind, VerifiedObject};
use crate::pack::{Codec, PackIndex};

/// Contents up to this size are read so, in bytes.
pub const AT_HAND_LEN_MAX: u64 = 64 << 10;
/// The objects that are remembered.
const OBJECTS_MAX: usize = 400_000;
/// How often something was looked for in a pack before its objects are remembered.
const MISSES: u32 = 4;
/// The packs of which it is counted how often something was looked for in them.
const COUNTED_MAX: usize = 256;

/// Where objects of packs are that are read from often.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    domains: HashMap<Domain, HashMap<ObjectId, Place>>,
    /// The packs whose objects are there, those that came first in front, and how many that are.
    packs: VecDeque<(Arc<PackFile>, usize)>,
    objects: usize,
    /// How often something was looked for in a pack.
    misses: HashMap<i64, u32>,
}

/// Where an object is.
#[derive(Debug, Clone)]
struct Place {
    file: Arc<PackFile>,
    frame_offset: u32,
    codec: Codec,
    raw: u32,
    start: u32,
    len: u32,
}

impl Places {
    fn find(&self, domain: &Domain, id: &ObjectId) -> Option<Place> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.domains.get(domain)?.get(id).cloned()
    }

    /// Whether a pack was looked into so often that its objects should be remembered.
    fn is_worth_it(&self, file: &PackFile) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.misses.len() >= COUNTED_MAX {
            inner.misses.clear();
        }
        let misses = inner.misses.entry(file.number).or_default();
        *misses += 1;
        *misses == MISSES
    }

    fn remember(&self, file: PackFile, index: &PackIndex) {
        let file = Arc::new(file);
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        let of_domain = inner.domains.entry(file.domain.clone()).or_default();
        let mut count = 0;
        for frame in index.frames() {
            let mut start = 0;
            for object in &frame.objects {
                if object.key.kind == ObjectKind::Chunk && u64::from(object.len) <= AT_HAND_LEN_MAX {
                    let (frame_offset, codec, raw, len) = (frame.offset, frame.codec, frame.raw, object.len);
                    let place = Place { file: Arc::clone(&file), frame_offset, codec, raw, start, len };
                    count += usize::from(of_domain.insert(object.key.id, place).is_none());
                }
                start += object.len;
            }
        }
        inner.packs.push_back((file, count));
        inner.objects += count;
        while inner.objects > OBJECTS_MAX {
            let Some((oldest, _)) = inner.packs.front().cloned() else { break };
            inner.forget(&oldest);
        }
    }

    fn forget(&self, file: &PackFile) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).forget(file);
    }
}

impl Inner {
    fn forget(&mut self, file: &PackFile) {
        self.misses.remove(&file.number);
        let Some(at) = self.packs.iter().position(|(known, _)| **known == *file) else { return };
        self.packs.remove(at);
        if let Some(places) = self.domains.get_mut(&file.domain) {
            let before = places.len();
            places.retain(|_, place| *place.file != *file);
            self.objects = self.objects.saturating_sub(before - places.len());
        }
    }
}

impl Store {
    /// The bytes of a small content, if where they are is remembered and reading them waits for nothing. None says nothing
    /// of whether it is there.
    pub fn at_hand(&self, domain: &Domain, content: &Content) -> Option<Bytes> {
        if content.size == 0 || content.size > AT_HAND_LEN_MAX {
            return None;
        }
        let key = ObjectKey::chunk(content.id.as_chunk());
        let place = self.places.find(domain, &key.id)?;
        if u64::from(place.len) != content.size {
            return None;
        }
        let bytes = self.bytes_at_hand(&place)?;
        VerifiedObject::verify(key, bytes).ok().map(VerifiedObject::into_bytes)
    }

    fn bytes_at_hand(&self, place: &Place) -> Option<Bytes> {
        if place.codec != Codec::Raw {
            let frame = self.frames.get((place.file.number, place.frame_offset))?;
            let (start, len) = (place.start as usize, place.len as usize);
            return (start + len <= frame.len()).then(|| frame.slice(start..start + len));
        }
        if place.start.checked_add(place.len)? > place.raw {
            return None;
        }
        let path = self.backend.local_path(&*place.file)?;
        let Ok(file) = File::open(path) else {
            self.places.forget(&place.file);
            return None;
        };
        let mut bytes = vec![0; place.len as usize];
        let offset = u64::from(place.frame_offset) + u64::from(place.start);
        let read = preadv2(&file, &mut [IoSliceMut::new(&mut bytes)], offset, ReadWriteFlags::NOWAIT);
        (read == Ok(bytes.len())).then(|| bytes.into())
    }

    /// Notes that a small content was not at hand, and remembers where things are when that was worth it. It asks the
    /// catalogue.
    pub fn note_not_at_hand(&self, domain: &Domain, content: &Content) -> Result<(), StoreError> {
        if content.size == 0 || content.size > AT_HAND_LEN_MAX || !self.backend.is_local() {
            return Ok(());
        }
        let key = ObjectKey::chunk(content.id.as_chunk());
        let Some(Location { file, .. }) = self.catalogue.locate(domain, &[key])?.pop().flatten() else {
            return Ok(());
        };
        if self.places.is_worth_it(&file)
            && let Some(index) = self.catalogue.index_of(&file)?
        {
            self.places.remember(file, &index);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{Frame, FrameObject};

    fn file(number: i64) -> PackFile {
        PackFile { domain: Domain::public(), id: crate::id::PackId::from_bytes([7; 32]), number }
    }

    fn index(objects: &[(u64, u32)]) -> PackIndex {
        let object = |(id, len): &(u64, u32)| FrameObject {
            key: ObjectKey { kind: ObjectKind::Chunk, id: ObjectId::of(&id.to_be_bytes()) },
            len: *len,
        };
        let raw = objects.iter().map(|(_, len)| len).sum();
        let objects = objects.iter().map(object).collect();
        PackIndex::new(vec![Frame { offset: 8, codec: Codec::Raw, stored: raw, raw, objects }])
    }

    #[test]
    fn a_pack_is_remembered_when_it_was_looked_into_often_and_forgotten_as_a_whole() {
        let places = Places::default();
        let worth: Vec<bool> = (0..6).map(|_| places.is_worth_it(&file(1))).collect();
        assert_eq!(worth, [false, false, false, true, false, false]);
        places.remember(file(1), &index(&[(1, 10), (2, 1 << 20), (3, 5)]));
        let find = |id: u64| places.find(&Domain::public(), &ObjectId::of(&id.to_be_bytes()));
        assert_eq!(find(1).map(|place| (place.start, place.len)), Some((0, 10)));
        assert!(find(2).is_none(), "it is large");
        assert_eq!(find(3).map(|place| place.start), Some(10 + (1 << 20)));
        places.remember(file(2), &index(&[(4, 1)]));
        places.forget(&file(1));
        assert!(find(1).is_none() && find(3).is_none() && find(4).is_some());
        assert_eq!(places.0.lock().unwrap().objects, 1);
    }

    #[test]
    fn what_came_first_goes_when_there_is_too_much() {
        let places = Places::default();
        let half = OBJECTS_MAX as u64 / 2 + 1;
        for number in 0..3 {
            let objects: Vec<_> = (0..half).map(|at| (number * half + at, 1)).collect();
            places.remember(file(i64::try_from(number).unwrap()), &index(&objects));
        }
        let inner = places.0.lock().unwrap();
        assert_eq!((inner.packs.len(), inner.objects as u64), (1, half));
        assert_eq!(inner.domains[&Domain::public()].len() as u64, half);
    }
}
