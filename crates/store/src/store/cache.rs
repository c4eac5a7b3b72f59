//! The frames that were decoded last, up to a number of bytes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// A frame: the number of its pack's file and its place there. Numbers are never used twice, so an entry
/// never goes stale.
pub(super) type FrameKey = (i64, u32);

/// Keeps decoded frames; those that were not used for longest go first.
#[derive(Debug)]
pub(super) struct FrameCache {
    inner: Mutex<Inner>,
    len_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    frames: HashMap<FrameKey, (Bytes, u64)>,
    by_use: BTreeMap<u64, FrameKey>,
    uses: u64,
    len: usize,
    /// Frames of which one object alone was read.
    missed: VecDeque<FrameKey>,
}

/// How many frames are remembered of which one object alone was read.
const MISSED_MAX: usize = 16;

impl FrameCache {
    pub(super) fn new(len_max: usize) -> Self {
        Self { inner: Mutex::default(), len_max }
    }

    pub(super) fn get(&self, key: FrameKey) -> Option<Bytes> {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        inner.uses += 1;
        let (bytes, last_use) = inner.frames.get_mut(&key)?;
        inner.by_use.remove(last_use);
        inner.by_use.insert(inner.uses, key);
        *last_use = inner.uses;
        Some(bytes.clone())
    }

    /// Whether a frame is kept.
    pub(super) fn has(&self, key: FrameKey) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).frames.contains_key(&key)
    }

    /// Whether a frame that is not kept was missed a moment ago already: whoever reads what lies side by side needs all of
    /// it, and whoever reads here and there one object of each.
    pub(super) fn is_missed_again(&self, key: FrameKey) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = inner.missed.iter().position(|missed| *missed == key) {
            inner.missed.remove(at);
            return true;
        }
        if inner.missed.len() == MISSED_MAX {
            inner.missed.pop_front();
        }
        inner.missed.push_back(key);
        false
    }

    /// Forgets a frame that turned out to be wrong: it may be repaired where it is stored.
    pub(super) fn remove(&self, key: FrameKey) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bytes, last_use)) = inner.frames.remove(&key) {
            inner.by_use.remove(&last_use);
            inner.len -= bytes.len();
        }
    }

    pub(super) fn put(&self, key: FrameKey, bytes: Bytes) {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        if inner.frames.contains_key(&key) {
            return;
        }
        inner.uses += 1;
        inner.len += bytes.len();
        inner.by_use.insert(inner.uses, key);
        inner.frames.insert(key, (bytes, inner.uses));
        while inner.len > self.len_max {
            let Some((_, oldest)) = inner.by_use.pop_first() else { break };
            if let Some((bytes, _)) = inner.frames.remove(&oldest) {
                inner.len -= bytes.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_missed_a_second_time_soon_is_wanted_as_a_whole() {
        let cache = FrameCache::new(10);
        assert!(!cache.is_missed_again((1, 8)));
        assert!(cache.is_missed_again((1, 8)));
        assert!(!cache.is_missed_again((1, 8)));
        for number in 0..MISSED_MAX {
            assert!(!cache.is_missed_again((2, u32::try_from(number).unwrap())));
        }
        assert!(!cache.is_missed_again((1, 8)), "that was long ago");
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let cache = FrameCache::new(10);
        let put = |number| cache.put((number, 8), Bytes::from(vec![0; 4]));
        put(1);
        put(2);
        assert!(cache.get((1, 8)).is_some());
        put(3);
        let held: Vec<bool> = (1..=3).map(|number| cache.get((number, 8)).is_some()).collect();
        assert_eq!(held, [true, false, true]);
        cache.put((4, 8), Bytes::from(vec![0; 11]));
        assert!(cache.get((4, 8)).is_none(), "one frame over the bound is not kept");
    }
}
