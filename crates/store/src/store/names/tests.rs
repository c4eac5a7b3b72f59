use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;

use super::*;
use crate::content::cut_content;
use crate::pack::PackWriter;
use crate::recipe;
use crate::store::tests::{NOW, pack_of};
use crate::test_data::{noise, text};

struct Place {
    directory: tempfile::TempDir,
    store: Arc<Store>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(block_on(Store::open(directory.path(), NOW)).unwrap());
        Self { directory, store }
    }

    fn add(&self, pack: Bytes) {
        block_on(self.store.add_pack(&Domain::public(), pack, NOW)).unwrap();
    }

    /// What was noted, without reading anything.
    fn noted(&self, contents: &[Content]) -> Vec<Option<BlobId>> {
        let ids = contents.iter().map(|content| content.id);
        self.store.catalogue().blobs_of(&Domain::public(), ids).unwrap()
    }

    fn missing(&self, contents: &[Content]) -> Vec<Content> {
        block_on(self.store.missing_contents(&Domain::public(), contents, NOW)).unwrap()
    }

    fn blob_ids(&self, contents: &[Content]) -> Vec<BlobId> {
        block_on(self.store.blob_ids(&Domain::public(), contents)).unwrap()
    }
}

fn blobs(contents: &[Content]) -> Vec<BlobId> {
    contents.iter().map(|content| content.blob).collect()
}

fn known(contents: &[Content]) -> Vec<Option<BlobId>> {
    contents.iter().map(|content| Some(content.blob)).collect()
}

/// A content of two packs: half of the chunks, and the other half with the recipe.
fn two_packs(bytes: &[u8]) -> (Bytes, Bytes, Content) {
    let (mut first, mut second) = (PackWriter::new(3), PackWriter::new(3));
    let mut taken = 0;
    let cut = cut_content(bytes, |chunk, piece| {
        let writer = if taken < bytes.len() * 2 / 3 { &mut first } else { &mut second };
        writer.add(ObjectKey::chunk(chunk.id), piece).unwrap();
        taken += piece.len();
    });
    for (kind, id, bytes) in recipe::build(cut.content.id, &cut.chunks).unwrap().objects {
        second.add(ObjectKey::new(kind, id), &bytes).unwrap();
    }
    (first.finish().unwrap().1.into(), second.finish().unwrap().1.into(), cut.content)
}

#[test]
fn contents_are_named_when_their_pack_comes_and_once_it_is_gone_no_more() {
    let place = Place::new();
    let (pack, contents) = pack_of(&[text(1, 500), noise(2, 700_000), text(3, 90_000)]);
    assert_eq!(place.noted(&contents), [None; 3]);
    place.add(pack);
    assert_eq!(place.noted(&contents), known(&contents));
    let row = place.store.catalogue().packs().unwrap().remove(0);
    let index = place.store.catalogue().index_of(&row.file).unwrap().unwrap();
    place.store.catalogue().discard(&row.file, &index).unwrap();
    assert_eq!(place.noted(&contents), [None; 3]);
}

#[test]
fn a_content_in_two_packs_is_named_when_it_is_asked_for() {
    let place = Place::new();
    let (first, second, content) = two_packs(&noise(1, 2_000_000));
    place.add(first);
    assert_eq!(place.missing(&[content]), [content]);
    place.add(second);
    assert_eq!(place.noted(&[content]), [None]);
    assert_eq!(place.missing(&[content]), []);
    assert_eq!(place.noted(&[content]), known(&[content]));
    let recipes = place.store.catalogue().recipes_of(&Domain::public(), content.id).unwrap();
    assert!(recipes.iter().all(|recipe| recipe.is_proven), "it is hashed once");
}

#[test]
fn a_content_may_borrow_chunks_that_the_domain_has() {
    let place = Place::new();
    let old = noise(1, 1_000_000);
    let new = [noise(2, 600_000), old.clone(), noise(3, 900_000)].concat();
    let (pack, _) = pack_of(std::slice::from_ref(&old));
    place.add(pack);
    let mut writer = PackWriter::new(3);
    let cut = cut_content(&new, |chunk, bytes| {
        let key = ObjectKey::chunk(chunk.id);
        if !place.store.missing(&Domain::public(), &[key], NOW).unwrap().is_empty() {
            writer.add(key, bytes).unwrap();
        }
    });
    for (kind, id, bytes) in recipe::build(cut.content.id, &cut.chunks).unwrap().objects {
        writer.add(ObjectKey::new(kind, id), &bytes).unwrap();
    }
    let pack: Bytes = writer.finish().unwrap().1.into();
    let elsewhere = Place::new();
    block_on(elsewhere.store.add_pack(&Domain::public(), pack.clone(), NOW)).unwrap();
    assert_eq!(elsewhere.noted(&[cut.content]), [None]);
    place.add(pack);
    assert_eq!(place.noted(&[cut.content]), known(&[cut.content]));
}

#[test]
fn names_are_found_again_after_the_catalogue_was_lost() {
    let place = Place::new();
    let (pack, mut contents) = pack_of(&[text(1, 500), noise(2, 700_000)]);
    let (first, second, content) = two_packs(&noise(3, 900_000));
    for pack in [pack, first, second] {
        place.add(pack);
    }
    contents.extend([content, crate::content::name_content(b"")]);
    let Place { directory, store } = place;
    drop(store);
    for name in ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
        let _ = std::fs::remove_file(directory.path().join(name));
    }
    let store = Arc::new(block_on(Store::open(directory.path(), NOW)).unwrap());
    let place = Place { directory, store };
    assert_eq!(place.noted(&contents), [None; 4]);
    assert_eq!(place.blob_ids(&contents), blobs(&contents));
    assert_eq!(place.noted(&contents[..3]), known(&contents[..3]));
    assert_eq!(place.blob_ids(&contents), blobs(&contents));
}

#[test]
fn who_asks_with_a_wrong_size_takes_nothing_from_others() {
    for is_named in [true, false] {
        let place = Place::new();
        let bytes = noise(1, 900_000);
        let content = if is_named {
            let (pack, contents) = pack_of(&[bytes]);
            place.add(pack);
            contents[0]
        } else {
            let (first, second, content) = two_packs(&bytes);
            place.add(first);
            place.add(second);
            content
        };
        let wrong = Content { size: content.size + 1, ..content };
        assert_eq!(place.missing(&[wrong]), [wrong]);
        assert_eq!(place.missing(&[content]), []);
        assert_eq!(place.missing(&[wrong]), [wrong]);
    }
}
