use std::sync::Arc;

use futures::executor::block_on;
use object_store::memory::InMemory;

use super::*;
use crate::backend::faulty::{Failure, Faulty};
use crate::catalogue::LEASE_SLACK_SECONDS;
use crate::content::{cut_content, name_content};
use crate::error::Fault;
use crate::id::{ContentId, ObjectId};
use crate::manifest::entry::Content;
use crate::pack::PackWriter;
use crate::recipe::{self, Method, Part};
use crate::test_data::{noise, text};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);

pub(crate) fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

/// One pack with these contents, as a publisher makes it.
pub(crate) fn pack_of(contents: &[Vec<u8>]) -> (Bytes, Vec<Content>) {
    let mut writer = PackWriter::new(3);
    let mut names = Vec::new();
    for bytes in contents {
        let cut = cut_content(bytes, |chunk, bytes| writer.add(ObjectKey::chunk(chunk.id), bytes).unwrap());
        for (kind, id, bytes) in
            recipe::build(cut.content.id, &cut.chunks).into_iter().flat_map(|built| built.objects)
        {
            writer.add(ObjectKey::new(kind, id), &bytes).unwrap();
        }
        names.push(cut.content);
    }
    (writer.finish().unwrap().1.into(), names)
}

pub(crate) fn read(store: &Arc<Store>, domain: &Domain, content: Content) -> Result<Vec<u8>, StoreError> {
    read_range(store, domain, content, 0..content.size)
}

fn read_range(
    store: &Arc<Store>,
    domain: &Domain,
    content: Content,
    range: Range<u64>,
) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<Bytes> = block_on(store.read_content(domain, content, range).try_collect())?;
    Ok(pieces.concat())
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Arc<Store> {
        Arc::new(block_on(Store::open(self.directory.path(), NOW)).unwrap())
    }
}

fn sample() -> Vec<Vec<u8>> {
    vec![text(1, 500), noise(2, 3_000), noise(3, 700_000), text(4, 2_500_000), vec![0; 400_000]]
}

#[test]
fn contents_come_back_whole_and_in_part() {
    let place = Place::new();
    let store = place.open();
    let public = Domain::public();
    let contents = sample();
    let (bytes, names) = pack_of(&contents);
    let (id, added) = block_on(store.add_pack(&public, bytes.clone(), NOW)).unwrap();
    assert_eq!(added, Added::New);
    assert_eq!(block_on(store.add_pack(&public, bytes.clone(), NOW)).unwrap(), (id, Added::Known));
    let again = place.open();
    for (content, bytes) in names.iter().zip(&contents) {
        for store in [&store, &again] {
            assert_eq!(read(store, &public, *content).unwrap(), *bytes);
        }
        let laid_out = block_on(store.laid_out(&public, content)).unwrap();
        assert_eq!(laid_out, LaidOut::Chunks(cut_content(bytes, |_, _| ()).chunks));
        let len = content.size;
        for range in [0..0, 0..1, len - 1..len, len..len, len / 3..len / 2, len / 2..len] {
            let expected = &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            assert_eq!(read_range(&store, &public, *content, range).unwrap(), expected);
        }
        let error = read_range(&store, &public, *content, 0..len + 1).unwrap_err();
        assert_eq!(error.fault(), Fault::Invalid);
    }
    assert_eq!(read(&store, &public, name_content(b"")).unwrap(), b"");
    assert_eq!(block_on(store.pack_range(&public, id, 0..8)).unwrap().unwrap(), bytes.slice(..8));
    assert!(block_on(store.pack_range(&public, id, 0..bytes.len() as u64 + 1)).is_err());
}

/// Whether bytes of a file can be asked for without waiting, where the store is.
fn is_nowait_known(place: &Place) -> bool {
    use rustix::io::{ReadWriteFlags, preadv2};
    let path = place.directory.path().join("probe");
    std::fs::write(&path, [7; 16]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let mut bytes = [0; 16];
    let mut buffers = [std::io::IoSliceMut::new(&mut bytes)];
    preadv2(&file, &mut buffers, 0, ReadWriteFlags::NOWAIT) != Err(rustix::io::Errno::OPNOTSUPP)
}

#[test]
fn a_small_content_is_at_hand_when_its_pack_was_read_from_often() {
    let place = Place::new();
    let store = place.open();
    let (public, other) = (Domain::public(), domain("dotfiles/alice"));
    // Compressed together with others, stored as it is, and too large.
    let contents = [text(1, 5_000), noise(2, 3_000), noise(3, 700_000)];
    let (bytes, names) = pack_of(&contents);
    block_on(store.add_pack(&public, bytes, NOW)).unwrap();
    for content in &names {
        for _ in 0..8 {
            let is_at_hand = store.at_hand(&public, content).is_some();
            assert!(!is_at_hand || content.size <= AT_HAND_LEN_MAX);
            read(&store, &public, *content).unwrap();
            store.note_not_at_hand(&public, content).unwrap();
        }
    }
    assert_eq!(store.at_hand(&public, &names[0]).unwrap(), contents[0]);
    let raw = store.at_hand(&public, &names[1]);
    assert_eq!(raw.is_some(), is_nowait_known(&place));
    assert!(raw.is_none_or(|raw| raw == contents[1]));
    assert_eq!(store.at_hand(&public, &names[2]), None);
    assert_eq!(store.at_hand(&other, &names[0]), None);
    let of_another_size = Content { size: names[0].size + 1, ..names[0] };
    assert_eq!(store.at_hand(&public, &of_another_size), None);

    // What is not what it should be any more is not given, and neither is what is not there.
    let (pack, _) = block_on(store.backend().list().try_collect::<Vec<_>>()).unwrap().pop().unwrap();
    let path = store.backend().local_path(&pack).unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap();
    assert_eq!(store.at_hand(&public, &names[1]), None);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(store.at_hand(&public, &names[1]), None);
}

#[test]
fn an_object_of_another_domain_is_absent() {
    let place = Place::new();
    let store = place.open();
    let (alice, bob) = (domain("dotfiles/alice"), domain("dotfiles/bob"));
    let (bytes, names) = pack_of(&sample());
    let (id, _) = block_on(store.add_pack(&alice, bytes.clone(), NOW)).unwrap();
    let keys: Vec<ObjectKey> = names.iter().map(|content| ObjectKey::chunk(content.id.as_chunk())).collect();
    assert_eq!(store.missing(&bob, &keys, NOW).unwrap(), keys);
    assert_eq!(block_on(store.missing_contents(&bob, &names, NOW)).unwrap(), names);
    assert_eq!(block_on(store.missing_contents(&alice, &names, NOW)).unwrap(), []);
    assert_eq!(block_on(store.object(&bob, keys[0])).unwrap_err().fault(), Fault::Absent);
    assert_eq!(read(&store, &bob, names[2]).unwrap_err().fault(), Fault::Absent);
    assert_eq!(block_on(store.pack_range(&bob, id, 0..8)).unwrap(), None);

    // The same pack may be in both; it is then stored for each.
    assert_eq!(block_on(store.add_pack(&bob, bytes, NOW)).unwrap().1, Added::New);
    assert_eq!(read(&store, &bob, names[2]).unwrap(), sample()[2]);
}

#[test]
fn the_kind_is_part_of_the_name() {
    let place = Place::new();
    let store = place.open();
    let page = b"bytes that are a page, and the copy of one in a file".to_vec();
    let (bytes, names) = pack_of(&[page]);
    block_on(store.add_pack(&Domain::public(), bytes, NOW)).unwrap();
    let id = names[0].id.as_chunk();
    assert_eq!(store.missing(&Domain::public(), &[ObjectKey::chunk(id)], NOW).unwrap(), []);
    let page = [ObjectKey::page(id)];
    assert_eq!(store.missing(&Domain::public(), &page, NOW).unwrap(), page);
}

#[test]
fn the_catalogue_is_rebuilt_from_the_packs() {
    let place = Place::new();
    let private = domain("private");
    let (bytes, names) = pack_of(&sample());
    let (more, more_names) = pack_of(&[noise(9, 300_000)]);
    let before = {
        let store = place.open();
        block_on(store.add_pack(&private, bytes, NOW)).unwrap();
        block_on(store.add_pack(&Domain::public(), more, NOW)).unwrap();
        store.catalogue().packs().unwrap()
    };
    for name in ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
        let _ = std::fs::remove_file(place.directory.path().join(name));
    }
    let store = place.open();
    assert_eq!(store.catalogue().packs().unwrap(), before);
    for (content, bytes) in names.iter().zip(sample()) {
        assert_eq!(read(&store, &private, *content).unwrap(), bytes);
        assert_eq!(read(&store, &Domain::public(), *content).unwrap_err().fault(), Fault::Absent);
    }
    assert_eq!(read(&store, &Domain::public(), more_names[0]).unwrap(), noise(9, 300_000));
    assert_eq!(block_on(store.adopt_found_packs(NOW)).unwrap(), 0);
}

#[test]
fn a_catalogue_that_was_made_anew_is_in_doubt_until_that_is_settled() {
    let place = Place::new();
    assert_eq!(place.open().catalogue().doubt().unwrap(), None, "nothing can be lost of nothing");
    block_on(place.open().add_pack(&Domain::public(), pack_of(&sample()).0, NOW)).unwrap();
    assert_eq!(place.open().catalogue().doubt().unwrap(), None);
    for name in ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
        let _ = std::fs::remove_file(place.directory.path().join(name));
    }
    let doubt = place.open().catalogue().doubt().unwrap().expect("what no pack holds any more is not known");
    let store = place.open();
    assert_eq!(store.catalogue().doubt().unwrap(), Some(doubt));
    // A loss that comes after a search has begun is not settled by it.
    store.catalogue().raise_doubt().unwrap();
    store.catalogue().settle(doubt).unwrap();
    let later = store.catalogue().doubt().unwrap().expect("there is another doubt");
    assert!(later > doubt);
    store.catalogue().settle(later).unwrap();
    assert_eq!(place.open().catalogue().doubt().unwrap(), None);
    // The same number does not come again.
    store.catalogue().raise_doubt().unwrap();
    assert!(store.catalogue().doubt().unwrap() > Some(later));
}

#[test]
fn a_pack_that_comes_back_while_there_is_doubt_is_found() {
    let place = Place::new();
    let (bytes, names) = pack_of(&sample());
    block_on(place.open().add_pack(&Domain::public(), bytes.clone(), NOW)).unwrap();
    let file = place.open().catalogue().packs().unwrap().remove(0).file;
    let path = place.directory.path().join(file.to_string());
    std::fs::remove_file(&path).unwrap();
    block_on(place.open().add_pack(&Domain::public(), pack_of(&[noise(9, 1000)]).0, NOW)).unwrap();
    for name in ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
        let _ = std::fs::remove_file(place.directory.path().join(name));
    }
    assert_eq!(place.open().catalogue().packs().unwrap().len(), 1);
    std::fs::write(&path, bytes).unwrap();
    let store = place.open();
    assert_eq!(block_on(store.missing_contents(&Domain::public(), &names, NOW)).unwrap(), []);
}

#[test]
fn a_catalogue_of_another_version_is_refused() {
    let place = Place::new();
    drop(place.open());
    let path = place.directory.path().join("catalogue.sqlite");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = block_on(Store::open(place.directory.path(), NOW)).unwrap_err();
    assert!(matches!(error, StoreError::CatalogueVersion { found: 99, known: 3 }), "{error:?}");
}

#[test]
fn a_wrong_recipe_cannot_stand_for_a_content() {
    let place = Place::new();
    let store = place.open();
    let public = Domain::public();
    let content = noise(3, 300_000);
    let cut = cut_content(&content, |_, _| ());
    // Chunks in the wrong order: all of them are right, and the lengths add up.
    let parts =
        cut.chunks.iter().rev().map(|chunk| Part { id: chunk.id, len: u64::from(chunk.len) }).collect();
    let bad =
        Recipe { method: Method::Raw, content: cut.content.id, size: cut.content.size, level: 0, parts };
    let mut writer = PackWriter::new(3);
    cut_content(&content, |chunk, bytes| writer.add(ObjectKey::chunk(chunk.id), bytes).unwrap());
    let bad = bad.encode();
    writer.add(ObjectKey::recipe(ObjectId::of(&bad)), &bad).unwrap();
    block_on(store.add_pack(&public, writer.finish().unwrap().1.into(), NOW)).unwrap();
    assert_eq!(store.catalogue().recipes_of(&public, cut.content.id).unwrap().len(), 1);
    assert_eq!(block_on(store.missing_contents(&public, &[cut.content], NOW)).unwrap(), [cut.content]);
    assert_eq!(read(&store, &public, cut.content).unwrap_err().fault(), Fault::Absent);

    let (good, _) = pack_of(std::slice::from_ref(&content));
    block_on(store.add_pack(&public, good, NOW)).unwrap();
    assert_eq!(block_on(store.missing_contents(&public, &[cut.content], NOW)).unwrap(), []);
    assert_eq!(read(&store, &public, cut.content).unwrap(), content);
    let recipes = store.catalogue().recipes_of(&public, cut.content.id).unwrap();
    assert!(recipes.len() == 1 && recipes[0].is_proven);
}

#[test]
fn a_content_of_the_right_digest_and_a_wrong_size_is_missing() {
    let place = Place::new();
    let store = place.open();
    let (bytes, mut names) = pack_of(&sample());
    block_on(store.add_pack(&Domain::public(), bytes, NOW)).unwrap();
    for name in &mut names {
        name.size += 1;
    }
    assert_eq!(block_on(store.missing_contents(&Domain::public(), &names, NOW)).unwrap(), names);
    for name in names {
        assert!(read(&store, &Domain::public(), name).is_err());
    }
}

#[test]
fn a_refused_pack_leaves_no_trace() {
    let place = Place::new();
    let store = place.open();
    let (bytes, _) = pack_of(&sample());
    let mut bad = bytes.to_vec();
    bad[1000] ^= 1;
    let error = block_on(store.add_pack(&Domain::public(), bad.into(), NOW)).unwrap_err();
    assert_eq!(error.fault(), Fault::Invalid, "{error:?}");
    assert_eq!(store.catalogue().packs().unwrap(), []);
    assert_eq!(block_on(store.backend().list().try_collect::<Vec<_>>()).unwrap(), []);
}

#[test]
fn a_pack_that_could_not_be_stored_is_not_acknowledged_and_can_be_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    let inner = Arc::new(InMemory::new());
    let open = |store| {
        block_on(Store::with_backend(Backend::new(store), &directory.path().join("catalogue.sqlite"), NOW))
            .unwrap()
    };
    let (bytes, names) = pack_of(&sample());
    let full = open(Arc::new(Faulty::new(inner.clone(), Failure::NoSpace, 0)));
    let error = block_on(full.add_pack(&Domain::public(), bytes.clone(), NOW)).unwrap_err();
    assert_eq!(error.fault(), Fault::Full, "{error:?}");
    assert_eq!(block_on(full.missing_contents(&Domain::public(), &names, NOW)).unwrap(), names);
    let store = open(inner);
    assert_eq!(block_on(store.add_pack(&Domain::public(), bytes, NOW)).unwrap().1, Added::New);
    assert_eq!(block_on(store.missing_contents(&Domain::public(), &names, NOW)).unwrap(), []);
}

#[test]
fn a_lost_file_is_stored_again_when_its_pack_comes_again() {
    let place = Place::new();
    let store = place.open();
    let (bytes, names) = pack_of(&sample());
    block_on(store.add_pack(&Domain::public(), bytes.clone(), NOW)).unwrap();
    block_on(store.backend().delete(&store.catalogue().packs().unwrap()[0].file)).unwrap();
    assert_eq!(read(&store, &Domain::public(), names[2]).unwrap_err().fault(), Fault::Absent);
    block_on(store.add_pack(&Domain::public(), bytes, NOW)).unwrap();
    assert_eq!(read(&store, &Domain::public(), names[2]).unwrap(), sample()[2]);
}

#[test]
fn answers_mark_the_pack_once_in_a_while() {
    let place = Place::new();
    let store = place.open();
    let (bytes, names) = pack_of(&sample()[..2]);
    block_on(store.add_pack(&Domain::public(), bytes, NOW)).unwrap();
    let keys = [ObjectKey::chunk(names[0].id.as_chunk())];
    let check = |after: u32, touched: u32| {
        let now = Timestamp(NOW.0 + i64::from(after));
        assert_eq!(store.missing(&Domain::public(), &keys, now).unwrap(), []);
        let pack = store.catalogue().packs().unwrap().remove(0);
        assert_eq!(pack.touched, Timestamp(NOW.0 + i64::from(touched)));
    };
    check(LEASE_SLACK_SECONDS, 0);
    check(LEASE_SLACK_SECONDS + 1, LEASE_SLACK_SECONDS + 1);
    check(0, LEASE_SLACK_SECONDS + 1);
}

#[test]
fn several_processes_may_add_and_ask_at_once() {
    let place = Place::new();
    let stores: Vec<_> = (0..4).map(|_| place.open()).collect();
    let all: Vec<Content> = std::thread::scope(|scope| {
        let workers: Vec<_> = stores
            .iter()
            .enumerate()
            .map(|(worker, store)| {
                scope.spawn(move || {
                    let mut published = Vec::new();
                    for turn in 0..6 {
                        // Every second pack is the same for all.
                        let seed = if turn % 2 == 0 { turn } else { 100 * (worker as u64 + 1) + turn };
                        let (bytes, names) = pack_of(&[noise(seed, 20_000), text(seed, 100_000)]);
                        block_on(store.add_pack(&Domain::public(), bytes, NOW)).unwrap();
                        assert_eq!(
                            block_on(store.missing_contents(&Domain::public(), &names, NOW)).unwrap(),
                            []
                        );
                        published.extend(names);
                    }
                    published
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(stores[0].catalogue().packs().unwrap().len(), 3 + 4 * 3);
    for content in all {
        assert_eq!(ContentId::of(&read(&stores[0], &Domain::public(), content).unwrap()), content.id);
    }
}

#[test]
fn a_second_file_of_a_pack_is_listed_for_removal() {
    let place = Place::new();
    let store = place.open();
    let (bytes, names) = pack_of(&sample());
    block_on(store.add_pack(&Domain::public(), bytes.clone(), NOW)).unwrap();
    let mut second = store.catalogue().packs().unwrap().remove(0).file;
    second.number += 5;
    block_on(store.backend().put(&second, bytes)).unwrap();
    assert_eq!(block_on(store.adopt_found_packs(NOW)).unwrap(), 0);
    assert_eq!(store.catalogue().removals().unwrap(), [second]);
    block_on(crate::gc::remove_forgotten(&store)).unwrap();
    assert_eq!(read(&store, &Domain::public(), names[2]).unwrap(), sample()[2]);
}
