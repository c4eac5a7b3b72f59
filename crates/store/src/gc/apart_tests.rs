//! Contents that are stored taken apart, from the first publication to the catalogue that is made anew.

use std::io::Cursor;
use std::time::Duration;

use futures::executor::block_on;

use super::Collected;
use super::tests::{GRACE, Place, collect_at, later, publish};
use crate::catalogue::Timestamp;
use crate::content::name_content;
use crate::domain::Domain;
use crate::error::Fault;
use crate::manifest::entry::Content;
use crate::object::ObjectKey;
use crate::pack::PackWriter;
use crate::recipe::{Method, Recipe, build_rebuilt};
use crate::store::tests::{NOW, read};
use crate::test_data::{noise, text};
use crate::unpack::tests::make::{gzip, tar};
use crate::unpack::{self, Dissected, InMemory, InThisProcess, Limits, Program, write_plain};
use crate::{LaidOut, Store};

/// A tarball in which one of three files is the version's own.
fn tarball(version: u64) -> Vec<u8> {
    let files =
        [("same", noise(1, 300_000)), ("also", text(2, 200_000)), ("version", noise(100 + version, 20_000))];
    gzip(&tar(&files), 6)
}

fn take_apart(store: &Store, content: &Content, keeps_original: bool, now: Timestamp) {
    let public = Domain::public();
    assert!(block_on(store.could_be_apart(&public, content, Duration::MAX)).unwrap());
    let apart = block_on(store.take_apart(&public, content, &InThisProcess)).unwrap().unwrap();
    block_on(store.keep_apart(&public, &apart, keeps_original, now)).unwrap();
}

fn is_rebuilt(store: &Store, content: &Content) -> bool {
    matches!(block_on(store.laid_out(&Domain::public(), content)).unwrap(), LaidOut::Rebuilt(..))
}

#[test]
fn what_a_content_is_rebuilt_from_takes_its_place() {
    let place = Place::new();
    let store = place.open();
    let public = Domain::public();
    let versions = [tarball(1), tarball(2)];
    let names: Vec<Content> = versions.iter().map(|bytes| name_content(bytes)).collect();
    let roots = versions.each_ref().map(|bytes| publish(&store, &public, std::slice::from_ref(bytes), NOW));
    let aparts: Vec<_> = names
        .iter()
        .map(|content| block_on(store.take_apart(&public, content, &InThisProcess)).unwrap().unwrap())
        .collect();
    let (first, both) = (store.weigh(&public, &aparts[..1]).unwrap(), store.weigh(&public, &aparts).unwrap());
    assert!(both - first < 25_000, "{first} and {both}");
    for content in &names {
        take_apart(&store, content, false, NOW);
        assert!(!is_rebuilt(&store, content), "the original is read as long as it is there");
    }
    assert_eq!(store.weigh(&public, &aparts).unwrap(), 0);

    for grace in [1, 2] {
        collect_at(&store, later(grace * GRACE + 1), &roots);
    }
    let removed = collect_at(&store, later(3 * GRACE), &roots);
    assert!(removed.bytes_freed > 600_000, "{removed:?}");
    for (content, bytes) in names.iter().zip(&versions) {
        assert!(is_rebuilt(&store, content));
        assert_eq!(read(&store, &public, *content).unwrap(), *bytes);
        assert!(!block_on(store.could_be_apart(&public, content, Duration::MAX)).unwrap());
    }
    assert_eq!(block_on(store.missing_contents(&public, &names, later(3 * GRACE))).unwrap(), []);
    assert_eq!(block_on(store.blob_ids(&public, &names)).unwrap(), [names[0].blob, names[1].blob]);

    let originals = block_on(store.store_originals(later(3 * GRACE))).unwrap();
    assert_eq!((originals.contents, originals.bytes), (2, names[0].size + names[1].size));
    assert!(!is_rebuilt(&store, &names[0]));
    let preferred = |content: &Content| {
        let recipes = store.catalogue().recipes_of(&public, content.id).unwrap();
        let rebuilt = recipes.iter().find(|recipe| {
            let object = block_on(store.object(&public, ObjectKey::recipe(recipe.id))).unwrap();
            Recipe::decode(object.bytes()).unwrap().method != Method::Raw
        });
        store.catalogue().prefer(&public, content.id, rebuilt.unwrap().id).unwrap();
    };
    names.iter().for_each(preferred);
    for grace in [5, 7] {
        collect_at(&store, later(grace * GRACE), &roots);
    }
    assert!(is_rebuilt(&store, &names[0]));

    // A catalogue that knows nothing of what was proven finds it out again.
    drop(store);
    place.lose_catalogue();
    let store = place.open();
    assert_eq!(block_on(store.blob_ids(&public, &names)).unwrap(), [names[0].blob, names[1].blob]);
    for (content, bytes) in names.iter().zip(&versions) {
        assert_eq!(read(&store, &public, *content).unwrap(), *bytes);
    }
    assert_eq!(collect_at(&store, later(19 * GRACE), &roots), Collected::default());
}

#[test]
fn an_original_that_is_to_be_kept_is_kept_beside_its_parts() {
    let place = Place::new();
    let store = place.open();
    let public = Domain::public();
    let bytes = tarball(1);
    let content = name_content(&bytes);
    let roots = [publish(&store, &public, &[bytes], NOW)];
    take_apart(&store, &content, true, NOW);
    assert_eq!(collect_at(&store, later(3 * GRACE), &roots), Collected::default());
    assert!(!is_rebuilt(&store, &content));
}

#[test]
fn a_small_artifact_goes_too_when_its_parts_are_kept() {
    let place = Place::new();
    let store = place.open();
    let public = Domain::public();
    let bytes = gzip(&tar(&[("small", text(1, 20_000))]), 9);
    let content = name_content(&bytes);
    let roots = [publish(&store, &public, std::slice::from_ref(&bytes), NOW)];
    take_apart(&store, &content, false, NOW);
    for grace in [2, 4, 6] {
        collect_at(&store, later(grace * GRACE), &roots);
    }
    let chunk = [ObjectKey::chunk(content.id.as_chunk())];
    assert_eq!(store.locate(&public, &chunk).unwrap(), [None]);
    assert_eq!(read(&store, &public, content).unwrap(), bytes);
}

#[test]
fn what_another_library_made_is_told_of() {
    let place = Place::new();
    let store = place.open();
    let public = Domain::public();
    let bytes = tarball(1);
    let content = name_content(&bytes);
    let roots = [publish(&store, &public, std::slice::from_ref(&bytes), NOW)];
    take_apart(&store, &content, false, NOW);
    assert_eq!(block_on(store.not_rebuildable()).unwrap(), []);

    // The same as a program of another version would have stored it.
    let taken = unpack::take_apart(&mut Cursor::new(&bytes), content.size, &Limits::default(), &mut InMemory);
    let mut dissected = Dissected::from(taken.unwrap().unwrap());
    let mut program = Program::decode(&dissected.program).unwrap();
    program.encoders[0].version = b"0.0.0".to_vec();
    dissected.program = program.encode();
    let mut stream = Vec::new();
    let cut = write_plain(dissected, &mut stream).unwrap();
    let recipe = build_rebuilt(content.id, content.size, cut.plain, &cut.chunks);
    let mut writer = PackWriter::new(3);
    for chunk in &cut.chunks {
        let start = usize::try_from(chunk.offset).unwrap();
        writer.add(ObjectKey::chunk(chunk.id), &stream[start..start + chunk.len as usize]).unwrap();
    }
    for (kind, id, bytes) in &recipe.objects {
        writer.add(ObjectKey::new(*kind, *id), bytes).unwrap();
    }
    block_on(store.add_verified(&public, &writer.finish_own().unwrap(), NOW)).unwrap();
    store.catalogue().prefer_none(&public, content.id).unwrap();
    store.catalogue().prefer(&public, content.id, recipe.id).unwrap();
    assert_eq!(block_on(store.not_rebuildable()).unwrap(), [(public.clone(), content.id)]);
    for grace in [2, 4] {
        collect_at(&store, later(grace * GRACE), &roots);
    }
    let error = read(&store, &public, content).unwrap_err();
    assert_eq!(error.fault(), Fault::Corrupt, "{error:?}");
}
