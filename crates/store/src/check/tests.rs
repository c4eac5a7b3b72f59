use std::sync::Arc;

use futures::executor::block_on;
use object_store::memory::InMemory;

use super::*;
use crate::backend::Backend;
use crate::pack::VerifiedPack;
use crate::store::tests::{NOW, domain, pack_of, read};
use crate::test_data::{noise, text};

struct Place {
    directory: tempfile::TempDir,
    store: Arc<Store>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let backend = Backend::new(Arc::new(InMemory::new()));
        let store =
            block_on(Store::with_backend(backend, &directory.path().join("catalogue.sqlite"), NOW)).unwrap();
        Self { directory, store: Arc::new(store) }
    }

    fn check(&self) -> Report {
        block_on(check(&self.store)).unwrap()
    }

    fn catalogue(&self, sql: &str) {
        let path = self.directory.path().join("catalogue.sqlite");
        assert!(rusqlite::Connection::open(path).unwrap().execute(sql, []).unwrap() > 0, "{sql}");
    }
}

#[test]
fn a_sound_store_is_clean() {
    let place = Place::new();
    let (bytes, _) = pack_of(&[text(1, 300_000), noise(2, 100)]);
    block_on(place.store.add_pack(&Domain::public(), bytes.clone(), NOW)).unwrap();
    block_on(place.store.add_pack(&domain("private"), bytes.clone(), NOW)).unwrap();
    let report = place.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.packs, report.bytes), (2, 2 * bytes.len() as u64));
}

#[test]
fn every_flipped_bit_is_found_and_repaired() {
    let place = Place::new();
    let (bytes, names) = pack_of(&[text(1, 400), noise(2, 300), text(5, 40_000)]);
    block_on(place.store.add_pack(&Domain::public(), bytes.clone(), NOW)).unwrap();
    let good = VerifiedPack::verify(bytes.clone()).unwrap();
    let file = place.store.catalogue().packs().unwrap().remove(0).file;
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1 << (at % 8);
        block_on(place.store.backend().put(&file, bad.into())).unwrap();
        assert!(!place.check().is_clean(), "byte {at}");
    }
    assert!(block_on(place.store.repair_pack(&Domain::public(), &good)).unwrap());
    assert!(place.check().is_clean());
    for content in names {
        assert!(read(&place.store, &Domain::public(), content).is_ok());
    }
}

#[test]
fn what_a_fault_affects_is_named() {
    let place = Place::new();
    let public = Domain::public();
    let contents = [noise(1, 100_000), noise(2, 3_000_000), noise(3, 1000)];
    let (bytes, names) = pack_of(&contents);
    block_on(place.store.add_pack(&public, bytes.clone(), NOW)).unwrap();
    let file = place.store.catalogue().packs().unwrap().remove(0).file;
    let mut bad = bytes.to_vec();
    // The first frame: a quarter of a mebibyte, all of the first content and a part of the second.
    bad[100] ^= 1;
    block_on(place.store.backend().put(&file, bad.into())).unwrap();
    let report = place.check();
    assert!(matches!(report.findings[..], [Finding::PackDigest { .. }, Finding::Frame { .. }]), "{report}");
    let lost = &report.lost[&public];
    let affected = block_on(affected_contents(&place.store, &public, lost, &names)).unwrap();
    let found: Vec<_> = affected.iter().map(|affected| affected.content).collect();
    assert_eq!(found, names[..2]);
    assert!(affected.iter().flat_map(|affected| &affected.lacks).all(|key| lost.contains(key)));
    assert!(report.to_string().contains("lost in domain public: chunk "), "{report}");

    // The same objects, unharmed in another pack: a fault is still found, and nothing is lost.
    let (other, _) = pack_of(&[contents[0].clone(), contents[1].clone()]);
    block_on(place.store.add_pack(&public, other, NOW)).unwrap();
    let report = place.check();
    assert!(!report.is_clean() && report.lost.is_empty(), "{report}");
}

#[test]
fn a_lost_pack_and_all_that_was_in_it_are_named() {
    let place = Place::new();
    let (bytes, names) = pack_of(&[noise(1, 300_000), noise(3, 1000)]);
    block_on(place.store.add_pack(&Domain::public(), bytes, NOW)).unwrap();
    block_on(place.store.backend().delete(&place.store.catalogue().packs().unwrap()[0].file)).unwrap();
    let report = place.check();
    assert!(matches!(report.findings[..], [Finding::LostPack { .. }]), "{report}");
    let lost = &report.lost[&Domain::public()];
    let affected = block_on(affected_contents(&place.store, &Domain::public(), lost, &names)).unwrap();
    assert_eq!(affected.len(), 2);
    assert_eq!(place.store.catalogue().doubt().unwrap(), None, "a check changes nothing");

    // Given up, it is missing, so that a publisher is asked for it again.
    let file = place.store.catalogue().packs().unwrap().remove(0).file;
    let repaired = block_on(replace_pack(&place.store, &file, Vec::new(), NOW)).unwrap();
    assert_eq!((repaired.saved, repaired.given_up.is_empty()), (0, false));
    assert!(place.check().is_clean());
    assert!(place.store.catalogue().doubt().unwrap().is_some());
    assert_eq!(block_on(place.store.missing_contents(&Domain::public(), &names, NOW)).unwrap(), names);
}

#[test]
fn a_catalogue_that_differs_from_the_packs_is_found() {
    let check = |sql: &str| {
        let place = Place::new();
        let (bytes, _) = pack_of(&[text(1, 300_000), noise(2, 100)]);
        block_on(place.store.add_pack(&Domain::public(), bytes, NOW)).unwrap();
        place.catalogue(sql);
        assert!(!place.check().is_clean(), "{sql}");
    };
    check("DELETE FROM objects WHERE start = 0");
    check("UPDATE objects SET len = len + 1");
    check("UPDATE objects SET start = start + 1");
    check("UPDATE frames SET stored = stored - 1");
    check("DELETE FROM frames");
    check("UPDATE packs SET pack_index = zeroblob(100)");
    check("DELETE FROM packs");
}

#[test]
fn a_damaged_pack_is_replaced_by_what_can_be_saved() {
    let place = Place::new();
    let public = Domain::public();
    let contents = [noise(1, 100_000), noise(2, 2_000_000), noise(3, 1000)];
    let (bytes, names) = pack_of(&contents);
    block_on(place.store.add_pack(&public, bytes.clone(), NOW)).unwrap();
    let file = place.store.catalogue().packs().unwrap().remove(0).file;
    let mut bad = bytes.to_vec();
    bad[100] ^= 1;
    block_on(place.store.backend().put(&file, bad.into())).unwrap();
    let repaired = block_on(replace_pack(&place.store, &file, Vec::new(), NOW)).unwrap();
    // The frame was stored as it is: all its objects but one can be read.
    assert_eq!(repaired.given_up.len(), 1);
    assert!(place.store.catalogue().doubt().unwrap().is_some(), "something is lost");
    assert!(place.check().is_clean(), "{}", place.check());
    assert_eq!(block_on(place.store.missing_contents(&public, &names, NOW)).unwrap(), names[..1]);
    for (content, bytes) in names.iter().zip(&contents).skip(1) {
        assert_eq!(read(&place.store, &public, *content).unwrap(), *bytes);
    }
    block_on(place.store.add_pack(&public, pack_of(&contents[..1]).0, NOW)).unwrap();
    assert_eq!(block_on(place.store.missing_contents(&public, &names, NOW)).unwrap(), []);
}

#[test]
fn a_damaged_pack_for_which_all_is_recovered_loses_nothing() {
    let place = Place::new();
    let public = Domain::public();
    let contents = [text(1, 200_000), noise(3, 1000)];
    let (bytes, names) = pack_of(&contents);
    block_on(place.store.add_pack(&public, bytes.clone(), NOW)).unwrap();
    let mirror = Place::new();
    block_on(mirror.store.add_pack(&public, bytes.clone(), NOW)).unwrap();
    let file = place.store.catalogue().packs().unwrap().remove(0).file;
    block_on(place.store.backend().put(&file, bytes.slice(..1000))).unwrap();
    let report = place.check();
    let recovered =
        report.lost[&public].iter().map(|key| block_on(mirror.store.object(&public, *key)).unwrap());
    let repaired = block_on(replace_pack(&place.store, &file, recovered.collect(), NOW)).unwrap();
    assert_eq!(repaired.given_up, []);
    assert!(place.check().is_clean(), "{}", place.check());
    for (content, bytes) in names.iter().zip(&contents) {
        assert_eq!(read(&place.store, &public, *content).unwrap(), *bytes);
    }
}
