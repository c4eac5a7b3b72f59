//! Pages of manifests that were decoded, for requests that each look at one path.
//!
//! A page that is found again costs neither a look at the catalogue nor decoding: that would be more than half of what a
//! small file costs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ObjectId;
use smart_sync_store::manifest::{Page, PageError, PageSource};

use crate::realm::pages::StorePages;

/// The bytes of pages that are kept, as they are stored; decoded, they are a few times that.
const BYTES_MAX: u64 = 16 << 20;

/// Pages that were asked for last. What one domain has is no answer for another.
#[derive(Debug, Default)]
pub(crate) struct PageCache(Mutex<Generations>);

type Kept = HashMap<(Domain, ObjectId), (Arc<Page>, u64)>;

/// What was asked for lately, and what was before that. When the former has grown to half of what is kept, it takes the
/// place of the latter.
#[derive(Debug, Default)]
struct Generations {
    young: Kept,
    young_bytes: u64,
    old: Kept,
}

impl PageCache {
    fn get(&self, key: &(Domain, ObjectId)) -> Option<(Arc<Page>, u64)> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.young.get(key) {
            return Some(found.clone());
        }
        let found = kept.old.remove(key)?;
        kept.put(key.clone(), found.clone());
        Some(found)
    }

    fn put(&self, key: (Domain, ObjectId), page: (Arc<Page>, u64)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(key, page);
    }
}

impl Generations {
    fn put(&mut self, key: (Domain, ObjectId), page: (Arc<Page>, u64)) {
        let length = page.1;
        if self.young.insert(key, page).is_none() {
            self.young_bytes += length;
        }
        if self.young_bytes > BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

/// The pages of a domain, by way of those that were asked for last.
#[derive(Clone)]
pub(crate) struct CachedPages {
    /// Where the others are; none where what is not kept is to be left alone.
    pages: Option<StorePages>,
    domain: Domain,
    cache: Arc<PageCache>,
}

impl CachedPages {
    pub(super) fn new(pages: StorePages, domain: Domain, cache: Arc<PageCache>) -> Self {
        Self { pages: Some(pages), domain, cache }
    }

    /// Those alone that are kept, so that nothing has to be waited for. The others are absent.
    pub(super) fn kept(domain: Domain, cache: Arc<PageCache>) -> Self {
        Self { pages: None, domain, cache }
    }
}

impl PageSource for CachedPages {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        self.pages.as_ref().map_or(Err(PageError::Absent), |pages| pages.page(id))
    }

    fn is_verified(&self) -> bool {
        self.pages.as_ref().is_some_and(PageSource::is_verified)
    }

    fn decoded(&self, id: &ObjectId) -> Option<(Arc<Page>, u64)> {
        self.cache.get(&(self.domain.clone(), *id))
    }

    fn keep(&self, id: &ObjectId, page: &Arc<Page>, length: u64) {
        self.cache.put((self.domain.clone(), *id), (Arc::clone(page), length));
    }
}

#[cfg(test)]
mod tests {
    use smart_sync_store::manifest::{BuildError, Fidelity, ManifestBuilder};

    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_goes() {
        let cache = PageCache::default();
        let domain = Domain::public();
        let key = |number: u8| (domain.clone(), ObjectId::of(&[number]));
        let mut bytes = Vec::new();
        let emit = |_, page| {
            bytes = page;
            Ok::<_, BuildError>(())
        };
        ManifestBuilder::new(Fidelity::Git, emit).finish().unwrap();
        let page = Arc::new(Page::decode(&bytes).unwrap());
        let quarter = BYTES_MAX / 4 + 1;
        for number in 0..8 {
            cache.put(key(number), (Arc::clone(&page), quarter));
            assert!(cache.get(&key(0)).is_some(), "after {number}");
        }
        let kept = (0..8).filter(|number| cache.get(&key(*number)).is_some()).count();
        assert!((2..=4).contains(&kept), "{kept}");
        assert!(cache.get(&key(9)).is_none());
    }
}
