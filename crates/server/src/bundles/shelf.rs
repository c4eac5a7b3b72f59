//! Which bundles are stored: a list in memory, made from the names in the object store.

use std::collections::BTreeMap;
use std::sync::Arc;

use smart_sync_store::backend::Listed;

use super::step::{BundleFile, Step};

/// A stored bundle, and what has been done with it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) file: BundleFile,
    /// When it was asked for last, or stored.
    pub(super) asked: u64,
    /// When another variant took its place; it stays for those who are in the middle of it.
    pub(super) replaced: Option<u64>,
    /// One for the shelf, and one for each reader.
    pub(super) reading: Arc<()>,
    /// How many bundles had been added before it; 0 for one that was found.
    added: u64,
}

impl Kept {
    /// Whether somebody reads it now.
    pub(super) fn is_read(&self) -> bool {
        Arc::strong_count(&self.reading) > 1
    }
}

/// All stored bundles.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    bundles: BTreeMap<Step, Vec<Kept>>,
    added: u64,
}

impl Shelf {
    /// How many bundles were added so far: to be asked before the object store is.
    pub(super) const fn added(&self) -> u64 {
        self.added
    }

    /// Makes the list agree with what was found in the object store. What was known already keeps its history, and what
    /// was added since `added` is not missed because it was not found yet.
    pub(super) fn settle(&mut self, found: Vec<Listed<BundleFile>>, added: u64, now: u64) {
        let mut known: BTreeMap<BundleFile, Kept> = std::mem::take(&mut self.bundles)
            .into_values()
            .flatten()
            .map(|kept| (kept.file.clone(), kept))
            .collect();
        for listed in found {
            let kept = known.remove(&listed.file).unwrap_or_else(|| Kept {
                asked: u64::try_from(listed.stored.0).unwrap_or(0).min(now),
                file: listed.file,
                replaced: None,
                reading: Arc::default(),
                added: 0,
            });
            self.place(kept, now);
        }
        for kept in known.into_values().filter(|kept| kept.added > added) {
            self.place(kept, now);
        }
    }

    /// Adds a bundle that is stored now. It takes the place of a lesser variant, or stands behind a better one.
    pub(super) fn add(&mut self, file: BundleFile, now: u64) {
        self.added += 1;
        let kept = Kept { file, asked: now, replaced: None, reading: Arc::default(), added: self.added };
        self.place(kept, now);
    }

    fn place(&mut self, kept: Kept, now: u64) {
        let variants = self.bundles.entry(kept.file.step.clone()).or_default();
        variants.retain(|other| other.file != kept.file);
        variants.push(kept);
        let first = variants.iter().map(|kept| rank(&kept.file)).max();
        for kept in variants.iter_mut().filter(|kept| Some(rank(&kept.file)) != first) {
            kept.replaced.get_or_insert(now);
        }
    }

    /// Forgets a bundle.
    pub(super) fn remove(&mut self, file: &BundleFile) {
        let Some(variants) = self.bundles.get_mut(&file.step) else { return };
        variants.retain(|kept| kept.file != *file);
        if variants.is_empty() {
            self.bundles.remove(&file.step);
        }
        // What stood behind it is the first one again.
        else if let Some(first) = variants.iter_mut().max_by_key(|kept| rank(&kept.file)) {
            first.replaced = None;
        }
    }

    /// The variants of a step, in no particular order.
    pub(super) fn of(&self, step: &Step) -> &[Kept] {
        self.bundles.get(step).map_or(&[], Vec::as_slice)
    }

    /// The variant with which a step is answered.
    pub(super) fn first(&self, step: &Step) -> Option<&Kept> {
        self.of(step).iter().find(|kept| kept.replaced.is_none())
    }

    /// Notes that a step was asked for.
    pub(super) fn note(&mut self, step: &Step, now: u64) {
        for kept in self.bundles.get_mut(step).into_iter().flatten() {
            kept.asked = kept.asked.max(now);
        }
    }

    /// All stored bundles.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.bundles.values().flatten()
    }
}

/// The better one is the greater: more work was put into it, else it is shorter.
fn rank(file: &BundleFile) -> impl Ord + use<> {
    (file.variant.quality, std::cmp::Reverse(file.length), file.variant.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles::step::tests::step;
    use crate::bundles::step::{Quality, Variant};
    use smart_sync_store::catalogue::Timestamp;

    fn file(quality: Quality, number: u8, length: u64) -> BundleFile {
        BundleFile { step: step(1, 2), variant: Variant { quality, number: [number; 8] }, length }
    }

    #[test]
    fn the_better_variant_is_first_and_the_other_stays_behind_it() {
        let mut shelf = Shelf::default();
        let (quick, best) = (file(Quality::Quick, 1, 100), file(Quality::Best, 2, 80));
        shelf.add(quick.clone(), 10);
        assert_eq!(shelf.first(&step(1, 2)).unwrap().file, quick);
        shelf.add(best.clone(), 20);
        shelf.add(file(Quality::Quick, 3, 50), 30);
        assert_eq!(shelf.first(&step(1, 2)).unwrap().file, best);
        let replaced: Vec<_> = shelf.of(&step(1, 2)).iter().map(|kept| kept.replaced).collect();
        assert_eq!(replaced, [Some(20), None, Some(30)]);
        shelf.remove(&best);
        assert_eq!(shelf.first(&step(1, 2)).unwrap().file.length, 50);
        for file in shelf.iter().map(|kept| kept.file.clone()).collect::<Vec<_>>() {
            shelf.remove(&file);
        }
        assert!(shelf.first(&step(1, 2)).is_none() && shelf.iter().next().is_none());
    }

    #[test]
    fn a_list_of_what_is_there_replaces_what_was_known() {
        let mut shelf = Shelf::default();
        let (gone, stays, new) =
            (file(Quality::Quick, 1, 1), file(Quality::Quick, 2, 2), file(Quality::Best, 3, 3));
        shelf.add(gone, 10);
        shelf.add(stays.clone(), 10);
        shelf.note(&step(1, 2), 15);
        let listed =
            |file: &BundleFile| Listed { file: file.clone(), length: file.length, stored: Timestamp(5) };
        let added = shelf.added();
        let late = file(Quality::Quick, 4, 9);
        shelf.add(late.clone(), 20);
        shelf.settle(vec![listed(&new), listed(&stays)], added, 20);
        assert_eq!(shelf.of(&step(1, 2)).len(), 3, "what was added meanwhile stays");
        shelf.remove(&late);
        let all: Vec<_> = shelf.iter().map(|kept| (kept.file.clone(), kept.asked, kept.replaced)).collect();
        assert_eq!(all, [(new, 5, None), (stays, 15, Some(10))]);
    }

    #[test]
    fn a_reader_is_noticed() {
        let mut shelf = Shelf::default();
        shelf.add(file(Quality::Quick, 1, 1), 10);
        let reader = Arc::clone(&shelf.first(&step(1, 2)).unwrap().reading);
        assert!(shelf.first(&step(1, 2)).unwrap().is_read());
        drop(reader);
        assert!(!shelf.first(&step(1, 2)).unwrap().is_read());
    }
}
