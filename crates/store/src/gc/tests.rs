use std::sync::Arc;

use futures::TryStreamExt;
use futures::executor::block_on;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::*;
use crate::backend::Backend;
use crate::backend::faulty::{Failure, Faulty};
use crate::catalogue::PackState;
use crate::content::{cut_content, name_content};
use crate::domain::Domain;
use crate::id::{BlobId, ContentId, ObjectId};
use crate::manifest::entry::Content;
use crate::pack::PackWriter;
use crate::recipe;
use crate::store::tests::{NOW, domain, pack_of, read};
use crate::test_data::noise;

pub(super) const GRACE: u32 = 24 * 3600;

pub(super) fn later(seconds: u32) -> Timestamp {
    Timestamp(NOW.0 + i64::from(seconds))
}

/// A manifest for these tests: one page, a line of digits for each content.
pub(super) fn page_of(contents: &[Content]) -> Vec<u8> {
    let mut page = b"page\n".to_vec();
    for content in contents {
        page.extend_from_slice(format!("{} {} {}\n", content.size, content.blob, content.id).as_bytes());
    }
    page
}

fn children(page: &[u8]) -> Result<Vec<Reference>, DecodeError> {
    let bad = || DecodeError::invalid("not a page of this test");
    let text = std::str::from_utf8(page).map_err(|_| bad())?.strip_prefix("page\n").ok_or_else(bad)?;
    text.lines()
        .map(|line| {
            let mut fields = line.split(' ');
            let mut field = || fields.next().ok_or_else(bad);
            let size = field()?.parse().map_err(|_| bad())?;
            let blob: BlobId = field()?.parse().map_err(|_| bad())?;
            let id: ContentId = field()?.parse().map_err(|_| bad())?;
            Ok(Reference::Content(Content { size, blob, id }))
        })
        .collect()
}

pub(super) fn add(writer: &mut PackWriter, bytes: &[u8]) -> Content {
    let cut = cut_content(bytes, |chunk, bytes| writer.add(ObjectKey::chunk(chunk.id), bytes).unwrap());
    for (kind, id, bytes) in
        recipe::build(cut.content.id, &cut.chunks).into_iter().flat_map(|built| built.objects)
    {
        writer.add(ObjectKey::new(kind, id), &bytes).unwrap();
    }
    cut.content
}

/// Publishes a tree in one go: what is missing is uploaded, and the root is returned.
pub(super) fn publish(store: &Store, domain: &Domain, contents: &[Vec<u8>], now: Timestamp) -> Root {
    let names: Vec<Content> = contents.iter().map(|bytes| name_content(bytes)).collect();
    let missing = block_on(store.missing_contents(domain, &names, now)).unwrap();
    let mut writer = PackWriter::new(3);
    for bytes in contents.iter().filter(|bytes| missing.contains(&name_content(bytes))) {
        add(&mut writer, bytes);
    }
    let page = page_of(&names);
    let id = ObjectId::of(&page);
    writer.add(ObjectKey::page(id), &page).unwrap();
    block_on(store.add_pack(domain, writer.finish().unwrap().1.into(), now)).unwrap();
    Root { domain: domain.clone(), reference: Reference::Page(id) }
}

pub(super) fn assert_readable(store: &Arc<Store>, root: &Root) {
    let Reference::Page(page) = root.reference else { panic!("a root of these tests is a page") };
    let page = block_on(store.object(&root.domain, ObjectKey::page(page))).unwrap();
    for reference in children(page.bytes()).unwrap() {
        let Reference::Content(content) = reference else { panic!("a page of these tests names contents") };
        assert_eq!(ContentId::of(&read(store, &root.domain, content).unwrap()), content.id);
    }
}

pub(super) struct Place {
    directory: tempfile::TempDir,
    packs: Arc<InMemory>,
}

impl Place {
    pub(super) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), packs: Arc::new(InMemory::new()) }
    }

    pub(super) fn open(&self) -> Arc<Store> {
        self.open_on(self.packs.clone())
    }

    /// Throws the catalogue away; it must not be open.
    pub(super) fn lose_catalogue(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let path = self.directory.path().join(format!("catalogue.sqlite{suffix}"));
            if path.exists() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    fn open_on(&self, packs: Arc<dyn ObjectStore>) -> Arc<Store> {
        let catalogue = self.directory.path().join("catalogue.sqlite");
        Arc::new(block_on(Store::with_backend(Backend::new(packs), &catalogue, NOW)).unwrap())
    }
}

pub(super) fn plan_at(store: &Store, now: Timestamp, roots: &[Root]) -> GcPlan {
    block_on(plan(store, now, GRACE, roots, children)).unwrap()
}

pub(super) fn collect_at(store: &Store, now: Timestamp, roots: &[Root]) -> Collected {
    block_on(apply(store, &plan_at(store, now, roots), now)).unwrap()
}

pub(super) fn files(store: &Store) -> usize {
    block_on(store.backend().list().try_collect::<Vec<_>>()).unwrap().len()
}

#[test]
fn what_nobody_needs_goes_after_two_grace_periods() {
    let place = Place::new();
    let store = place.open();
    let public = Domain::public();
    let old = publish(&store, &public, &[noise(1, 50_000), noise(2, 400_000)], NOW);
    let new = publish(&store, &public, &[noise(3, 50_000), noise(4, 400_000)], NOW);
    let both = [old, new.clone()];
    assert_eq!(collect_at(&store, later(3 * GRACE), &both), Collected::default());

    let roots = [new];
    assert_eq!(collect_at(&store, later(GRACE), &roots), Collected::default(), "too young");
    let condemned = Collected { condemned: 1, ..Collected::default() };
    assert_eq!(collect_at(&store, later(GRACE + 1), &roots), condemned);
    assert_readable(&store, &both[0]);
    assert_eq!(collect_at(&store, later(2 * GRACE + 1), &roots), Collected::default());
    let removed = collect_at(&store, later(2 * GRACE + 2), &roots);
    assert_eq!((removed.removed, files(&store)), (1, 1));
    assert!(removed.bytes_freed > 450_000);
    assert_readable(&store, &roots[0]);
    assert_eq!(store.catalogue().removals().unwrap(), []);
}

#[test]
fn a_root_of_one_domain_keeps_nothing_of_another() {
    let place = Place::new();
    let store = place.open();
    let contents = [noise(1, 50_000)];
    let kept = publish(&store, &Domain::public(), &contents, NOW);
    publish(&store, &domain("private"), &contents, NOW);
    let collected = collect_at(&store, later(2 * GRACE), std::slice::from_ref(&kept));
    assert_eq!(collected.condemned, 1);
    assert_readable(&store, &kept);
}

#[test]
fn a_pack_with_little_that_is_needed_is_rewritten() {
    let place = Place::new();
    let store = place.open();
    let public = Domain::public();
    publish(&store, &public, &[noise(1, 50_000), noise(2, 400_000)], NOW);
    let root = publish(&store, &public, &[noise(1, 50_000)], NOW);
    let roots = [root];
    let collected = collect_at(&store, later(GRACE + 1), &roots);
    assert_eq!(collected, Collected { rewritten: 1, ..Collected::default() });
    let before: u64 = store.catalogue().packs().unwrap().iter().map(|pack| u64::from(pack.len)).sum();
    // Asking for what is needed does not bring the old pack back: the new one holds it.
    let names = [name_content(&noise(1, 50_000))];
    assert_eq!(block_on(store.missing_contents(&public, &names, later(GRACE + 2))).unwrap(), []);
    assert_eq!(collect_at(&store, later(2 * GRACE + 2), &roots).removed, 1);
    let after: u64 = store.catalogue().packs().unwrap().iter().map(|pack| u64::from(pack.len)).sum();
    assert!(after < before / 5, "{before} bytes became {after}");
    assert_readable(&store, &roots[0]);
}

#[test]
fn an_object_that_was_said_to_be_there_stays_for_the_grace_period() {
    let place = Place::new();
    let store = place.open();
    let public = Domain::public();
    let names = [name_content(&noise(1, 300_000))];
    let old = publish(&store, &public, &[noise(1, 300_000)], NOW);
    let asked = later(3 * GRACE);
    // Planned before the question, applied after it.
    let planned = plan_at(&store, asked, &[]);
    assert_eq!(planned.actions.len(), 1);
    assert_eq!(block_on(store.missing_contents(&public, &names, asked)).unwrap(), []);
    assert_eq!(block_on(apply(&store, &planned, asked)).unwrap(), Collected::default());
    // The question comes after the pack was condemned: it is taken back.
    let much_later = later(6 * GRACE);
    assert_eq!(collect_at(&store, much_later, &[]).condemned, 1);
    assert_eq!(block_on(store.missing_contents(&public, &names, much_later)).unwrap(), []);
    assert_eq!(store.catalogue().packs().unwrap()[0].state, PackState::Kept);
    assert_eq!(collect_at(&store, later(7 * GRACE), &[]), Collected::default());
    assert_readable(&store, &old);
}

#[test]
fn a_planned_removal_of_a_pack_that_was_taken_back_is_not_done() {
    let place = Place::new();
    let store = place.open();
    let names = [name_content(&noise(1, 50_000))];
    let root = publish(&store, &Domain::public(), &[noise(1, 50_000)], NOW);
    assert_eq!(collect_at(&store, later(2 * GRACE), &[]).condemned, 1);
    let planned = plan_at(&store, later(4 * GRACE), &[]);
    assert!(matches!(planned.actions[..], [Action::Remove(_)]), "{planned}");
    assert_eq!(block_on(store.missing_contents(&Domain::public(), &names, later(4 * GRACE))).unwrap(), []);
    assert_eq!(block_on(apply(&store, &planned, later(4 * GRACE))).unwrap(), Collected::default());
    assert_readable(&store, &root);
}

#[test]
fn a_content_that_is_named_without_its_size_is_kept_if_it_is_there() {
    let place = Place::new();
    let store = place.open();
    let contents = [noise(1, 1000), noise(2, 1_000_000), noise(3, 50_000)];
    let names = contents.clone().map(|bytes| {
        let (pack, names) = pack_of(&[bytes]);
        block_on(store.add_pack(&Domain::public(), pack, NOW)).unwrap();
        names[0]
    });
    let root = |domain: Domain, id| Root { domain, reference: Reference::Named(id) };
    let roots = [
        root(Domain::public(), names[0].id),
        root(Domain::public(), names[1].id),
        root(Domain::public(), name_content(b"never uploaded").id),
        root(domain("private"), names[2].id),
    ];
    collect_at(&store, later(2 * GRACE), &roots);
    collect_at(&store, later(4 * GRACE), &roots);
    for (content, bytes) in names.iter().zip(&contents).take(2) {
        assert_eq!(read(&store, &Domain::public(), *content).unwrap(), *bytes);
    }
    assert!(read(&store, &Domain::public(), names[2]).is_err(), "nobody names it in its domain");
}

#[test]
fn a_store_that_lacks_something_needed_is_not_collected() {
    let place = Place::new();
    let store = place.open();
    let root = Root { domain: Domain::public(), reference: Reference::Page(ObjectId::of(b"gone")) };
    publish(&store, &Domain::public(), &[noise(1, 50_000)], NOW);
    let error = block_on(plan(&store, later(3 * GRACE), GRACE, &[root], children)).unwrap_err();
    assert_eq!(error.fault(), crate::error::Fault::Absent, "{error:?}");
}

#[test]
fn a_pack_that_never_came_is_forgotten_after_the_grace_period() {
    let place = Place::new();
    let full = place.open_on(Arc::new(Faulty::new(place.packs.clone(), Failure::NoSpace, 0)));
    let mut writer = PackWriter::new(3);
    add(&mut writer, &noise(1, 1000));
    assert!(block_on(full.add_pack(&Domain::public(), writer.finish().unwrap().1.into(), NOW)).is_err());
    let store = place.open();
    assert_eq!(store.catalogue().packs().unwrap()[0].state, PackState::Arriving);
    assert_eq!(collect_at(&store, later(GRACE), &[]).removed, 0);
    assert_eq!(collect_at(&store, later(GRACE + 1), &[]).removed, 1);
    assert_eq!(store.catalogue().packs().unwrap(), []);
}

#[test]
fn a_removal_that_was_interrupted_is_finished_by_the_next_run() {
    let place = Place::new();
    let store = place.open();
    let contents = [noise(1, 50_000)];
    publish(&store, &Domain::public(), &contents, NOW);
    assert_eq!(collect_at(&store, later(2 * GRACE), &[]).condemned, 1);
    // The first operation on the back end is the removal of the file.
    let failing = place.open_on(Arc::new(Faulty::new(place.packs.clone(), Failure::Io, 0)));
    let planned = plan_at(&failing, later(4 * GRACE), &[]);
    assert!(block_on(apply(&failing, &planned, later(4 * GRACE))).is_err());
    assert_eq!((files(&store), store.catalogue().removals().unwrap().len()), (1, 1));
    // The same pack comes again before the old file is gone, and is another file.
    let root = publish(&store, &Domain::public(), &contents, later(4 * GRACE));
    assert_eq!(files(&store), 2);
    collect_at(&store, later(4 * GRACE), std::slice::from_ref(&root));
    assert_eq!((files(&store), store.catalogue().removals().unwrap().len()), (1, 0));
    assert_readable(&store, &root);
}

#[test]
fn a_plan_says_what_it_will_do() {
    let place = Place::new();
    let store = place.open();
    let root = publish(&store, &Domain::public(), &[noise(1, 50_000)], NOW);
    let text = plan_at(&store, later(2 * GRACE), &[root]).to_string();
    assert!(text.starts_with("1 pack stays as it is, 0 of them asked for in the last"), "{text}");
    let text = plan_at(&store, later(2 * GRACE), &[]).to_string();
    assert!(text.contains("\n0 packs stay as they are, "), "{text}");
    assert!(text.starts_with("condemn packs/public/"), "{text}");
    assert!(text.contains("0 of 50"), "{text}");
    assert!(text.contains("0 bytes are freed now, about 50"), "{text}");
}

#[test]
fn small_packs_are_merged_when_there_are_many() {
    let place = Place::new();
    let store = place.open();
    let roots: Vec<Root> =
        (0..20).map(|seed| publish(&store, &Domain::public(), &[noise(seed, 20_000)], NOW)).collect();
    assert_eq!(collect_at(&store, later(GRACE + 1), &roots).rewritten, 20);
    assert_eq!(collect_at(&store, later(2 * GRACE + 2), &roots).removed, 20);
    assert_eq!((files(&store), store.catalogue().packs().unwrap().len()), (1, 1));
    assert_eq!(collect_at(&store, later(4 * GRACE), &roots), Collected::default());
    for root in &roots {
        assert_readable(&store, root);
    }
}
