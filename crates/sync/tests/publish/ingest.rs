//! What is asked, packed and sent.

use std::fs;
use std::path::Path;

use smart_sync_store::manifest::{Fidelity, FileTime};
use smart_sync_store::object::ObjectKind;
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{IngestError, IngestOptions, ingest, ingest_and_show};
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};

use crate::destination::{Memory, noise};

fn open(path: &Path) -> DirectorySource {
    let now = FileTime { seconds: 1 << 40, nanoseconds: 0 };
    let options = DirectoryOptions { fidelity: Fidelity::Git, exclusions: Exclusions::none(), now };
    DirectorySource::open(path, options, ContentCache::default()).unwrap()
}

fn sample() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..3_000u64 {
        let parent = directory.path().join(format!("d{}", n % 17));
        fs::create_dir_all(&parent).unwrap();
        fs::write(parent.join(format!("f{n}")), noise(n % 1_000, 300)).unwrap();
    }
    // One that is read in pieces, and a copy of it.
    fs::write(directory.path().join("large"), noise(7, 9 << 20)).unwrap();
    fs::write(directory.path().join("large copy"), noise(7, 9 << 20)).unwrap();
    directory
}

#[test]
fn a_content_that_fits_a_pack_is_in_one() {
    let directory = tempfile::tempdir().unwrap();
    // Two fill most of a pack, and then there is a small one before one that would not fit.
    for (name, seed, len) in [("a", 1, 24 << 20), ("b", 2, 24 << 20), ("c", 3, 4 << 20), ("d", 4, 20 << 20)] {
        fs::write(directory.path().join(name), noise(seed, len)).unwrap();
    }
    let mut memory = Memory::default();
    memory.ingest(&mut open(directory.path()));
    assert_eq!((memory.packs.len(), memory.unproven), (2, 0));
}

#[test]
fn what_is_sent_is_complete_and_nothing_is_sent_twice() {
    let directory = sample();
    let mut memory = Memory::default();
    // The destination refuses an object that it has.
    let ingested = memory.ingest(&mut open(directory.path()));
    let tree = memory.tree(&ingested);
    assert_eq!(tree.len(), 3_002);
    assert_eq!(tree["large copy"].1, noise(7, 9 << 20));
    assert_eq!(tree["d3/f3"].1, noise(3, 300));
    assert_eq!(ingested.manifest.bytes, 3_000 * 300 + 2 * (9 << 20));
    assert_eq!(ingested.statistics.bytes_read, ingested.manifest.bytes);
    // A thousand small contents, and those of the large one.
    let chunks = memory.objects.keys().filter(|key| key.kind == ObjectKind::Chunk).count();
    assert!(chunks > 1_000 + 72, "{chunks}");

    let packs = memory.packs.len();
    let again = memory.ingest(&mut open(directory.path()));
    assert_eq!((again.manifest, memory.packs.len()), (ingested.manifest, packs));
}

#[test]
fn a_changed_file_costs_its_changed_chunks_and_one_page_of_each_level() {
    let directory = sample();
    let mut memory = Memory::default();
    memory.ingest(&mut open(directory.path()));
    let mut bytes = noise(7, 9 << 20);
    bytes[6 << 20] ^= 1;
    fs::write(directory.path().join("large"), bytes).unwrap();
    let changed = memory.ingest(&mut open(directory.path()));
    assert!(changed.statistics.objects_sent < 20, "{:?}", changed.statistics);
    assert_eq!(changed.statistics.packs_sent, 1);
}

#[test]
fn a_destination_that_fails_is_reported_and_the_next_attempt_goes_on() {
    let directory = sample();
    let mut memory = Memory { fails_at: Some(0), ..Memory::default() };
    let error = ingest(&mut open(directory.path()), &mut memory, IngestOptions::default()).unwrap_err();
    assert!(matches!(&error, IngestError::Destination { operation: "storing a pack", .. }), "{error:?}");
    memory.fails_at = None;
    let ingested = memory.ingest(&mut open(directory.path()));
    assert_eq!(memory.tree(&ingested).len(), 3_002);
}

#[test]
fn a_file_that_cannot_be_read_ends_the_run() {
    let directory = sample();
    let mut source = open(directory.path());
    fs::remove_file(directory.path().join("large copy")).unwrap();
    let error = ingest(&mut source, &mut Memory::default(), IngestOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("large copy changes while it is read"), "{error}");
}

#[test]
fn every_entry_is_shown_in_the_order_of_the_manifest() {
    let directory = sample();
    let (mut memory, mut shown) = (Memory::default(), Vec::new());
    let (mut source, options) = (open(directory.path()), IngestOptions::default());
    let ingested =
        ingest_and_show(&mut source, &mut memory, options, &mut |entry| shown.push(entry.clone())).unwrap();
    assert_eq!(shown, memory.entries(&ingested));
}
