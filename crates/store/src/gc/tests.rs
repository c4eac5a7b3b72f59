use std::sync::Arc;

use futures::TryStreamExt;
use futures::executor::block_on;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use proptest::prelude::*;

use super::*;
use crate::backend::Backend;
use crate::backend::faulty::{Failure, Faulty};
use crate::catalogue::PackState;
use crate::content::{cut_content, name_content};
use crate::domain::Domain;
use crate::id::{BlobId, ContentId, ObjectId};
use crate::manifest::entry::Content;
use crate::recipe;
use crate::store::tests::{NOW, domain, read};
use crate::test_data::noise;

const GRACE: u32 = 24 * 3600;

fn later(seconds: u32) -> Timestamp {
    Timestamp(NOW.0 + i64::from(seconds))
}

/// A manifest for these tests: one page, a line of digits for each content.
fn page_of(contents: &[Content]) -> Vec<u8> {
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

fn add(writer: &mut PackWriter, bytes: &[u8]) -> Content {
    let cut = cut_content(bytes, |chunk, bytes| writer.add(ObjectKey::chunk(chunk.id), bytes).unwrap());
    for (kind, id, bytes) in
        recipe::build(cut.content.id, &cut.chunks).into_iter().flat_map(|built| built.objects)
    {
        writer.add(ObjectKey::new(kind, id), &bytes).unwrap();
    }
    cut.content
}

/// Publishes a tree in one go: what is missing is uploaded, and the root is returned.
fn publish(store: &Store, domain: &Domain, contents: &[Vec<u8>], now: Timestamp) -> Root {
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

fn assert_readable(store: &Arc<Store>, root: &Root) {
    let Reference::Page(page) = root.reference else { panic!("a root of these tests is a page") };
    let page = block_on(store.object(&root.domain, ObjectKey::page(page))).unwrap();
    for reference in children(page.bytes()).unwrap() {
        let Reference::Content(content) = reference else { panic!("a page of these tests names contents") };
        assert_eq!(ContentId::of(&read(store, &root.domain, content).unwrap()), content.id);
    }
}

struct Place {
    directory: tempfile::TempDir,
    packs: Arc<InMemory>,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), packs: Arc::new(InMemory::new()) }
    }

    fn open(&self) -> Arc<Store> {
        self.open_on(self.packs.clone())
    }

    fn open_on(&self, packs: Arc<dyn ObjectStore>) -> Arc<Store> {
        let catalogue = self.directory.path().join("catalogue.sqlite");
        Arc::new(block_on(Store::with_backend(Backend::new(packs), &catalogue, NOW)).unwrap())
    }
}

fn plan_at(store: &Store, now: Timestamp, roots: &[Root]) -> GcPlan {
    block_on(plan(store, now, GRACE, roots, children)).unwrap()
}

fn collect_at(store: &Store, now: Timestamp, roots: &[Root]) -> Collected {
    block_on(apply(store, &plan_at(store, now, roots), now)).unwrap()
}

fn files(store: &Store) -> usize {
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
    publish(&store, &Domain::public(), &[noise(1, 50_000)], NOW);
    let text = plan_at(&store, later(2 * GRACE), &[]).to_string();
    assert!(text.starts_with("condemn packs/public/"), "{text}");
    assert!(text.contains("0 of 50"), "{text}");
    assert!(text.contains("0 bytes are freed now, about 50"), "{text}");
}

/// One move of somebody in the stress test.
#[derive(Debug, Clone)]
enum Move {
    /// Time passes.
    Wait(u32),
    /// A publisher decides what to publish and asks what is missing.
    Begin { publisher: usize, contents: Vec<u64> },
    /// It uploads what was missing.
    Upload { publisher: usize },
    /// Its manifest becomes a root, if the answers still hold.
    Commit { publisher: usize },
    /// A root is given up.
    Drop(usize),
    /// Somebody plans.
    Plan,
    /// Somebody does the next thing of the plan.
    Act,
    /// Somebody plans and does all of it.
    Collect,
    /// Files of forgotten packs are removed.
    Sweep,
    /// Everything is killed and started again.
    Crash,
}

fn moves() -> impl Strategy<Value = Move> {
    let publisher = 0usize..2;
    let contents = proptest::collection::vec(0u64..6, 1..4);
    let waits = [100, GRACE / 3, GRACE / 2, GRACE - LEASE_SLACK_SECONDS, GRACE + 1];
    prop_oneof![
        5 => proptest::sample::select(waits.to_vec()).prop_map(Move::Wait),
        4 => (publisher.clone(), contents).prop_map(|(publisher, contents)| Move::Begin { publisher, contents }),
        3 => publisher.clone().prop_map(|publisher| Move::Upload { publisher }),
        4 => publisher.prop_map(|publisher| Move::Commit { publisher }),
        3 => (0usize..3).prop_map(Move::Drop),
        2 => Just(Move::Plan),
        3 => Just(Move::Act),
        4 => Just(Move::Collect),
        1 => Just(Move::Sweep),
        1 => Just(Move::Crash),
    ]
}

/// What a publisher is at.
#[derive(Debug, Clone)]
struct Publication {
    contents: Vec<Content>,
    missing: Vec<(u64, Content)>,
    page: Vec<u8>,
    is_uploaded: bool,
    answered: Timestamp,
}

/// Contents of one and of several chunks, some of which share chunks.
fn content_number(number: u64) -> Vec<u8> {
    let mut bytes = noise(number / 2, 30_000);
    if number % 2 == 1 {
        bytes.extend(noise(number % 3 + 100, 90_000));
    }
    bytes
}

struct World {
    place: Place,
    store: Arc<Store>,
    now: Timestamp,
    roots: Vec<Root>,
    publishers: [Option<Publication>; 2],
    planned: Option<(GcPlan, usize)>,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let store = place.open();
        Self { place, store, now: NOW, roots: Vec::new(), publishers: [None, None], planned: None }
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::Wait(seconds) => self.now = Timestamp(self.now.0 + i64::from(seconds)),
            Move::Begin { publisher, contents } => self.publishers[publisher] = Some(self.begin(&contents)),
            Move::Upload { publisher } => self.upload(publisher),
            Move::Commit { publisher } => self.commit(publisher),
            Move::Drop(which) => {
                if which < self.roots.len() {
                    self.roots.remove(which);
                }
            }
            Move::Plan => self.planned = Some((plan_at(&self.store, self.now, &self.roots), 0)),
            Move::Act => self.act(),
            Move::Collect => {
                collect_at(&self.store, self.now, &self.roots);
            }
            Move::Sweep => block_on(remove_forgotten(&self.store)).unwrap(),
            Move::Crash => {
                self.planned = None;
                self.store = self.place.open();
            }
        }
        for root in &self.roots {
            assert_readable(&self.store, root);
        }
    }

    fn begin(&self, numbers: &[u64]) -> Publication {
        let contents: Vec<Content> =
            numbers.iter().map(|&number| name_content(&content_number(number))).collect();
        let missing = block_on(self.store.missing_contents(&Domain::public(), &contents, self.now)).unwrap();
        let missing = numbers
            .iter()
            .zip(&contents)
            .filter(|(_, content)| missing.contains(content))
            .map(|(&number, &content)| (number, content))
            .collect();
        let page = page_of(&contents);
        Publication { contents, missing, page, is_uploaded: false, answered: self.now }
    }

    fn upload(&mut self, publisher: usize) {
        let Some(publication) = &mut self.publishers[publisher] else { return };
        let mut writer = PackWriter::new(1);
        for (number, content) in &publication.missing {
            assert_eq!(add(&mut writer, &content_number(*number)), *content);
        }
        writer.add(ObjectKey::page(ObjectId::of(&publication.page)), &publication.page).unwrap();
        let pack = writer.finish().unwrap().1.into();
        block_on(self.store.add_pack(&Domain::public(), pack, self.now)).unwrap();
        publication.is_uploaded = true;
    }

    fn commit(&mut self, publisher: usize) {
        let Some(publication) = self.publishers[publisher].take() else { return };
        let in_time = self.now.0 - publication.answered.0 <= i64::from(GRACE - LEASE_SLACK_SECONDS);
        let page = ObjectId::of(&publication.page);
        let public = Domain::public();
        let lacks_page = !self.store.missing(&public, &[ObjectKey::page(page)], self.now).unwrap().is_empty();
        let lacking =
            block_on(self.store.missing_contents(&public, &publication.contents, self.now)).unwrap();
        if in_time && publication.is_uploaded {
            // This is the promise: who was in time finds everything.
            assert!(!lacks_page && lacking.is_empty(), "{lacking:?} lost between answer and commit");
        }
        if !lacks_page && lacking.is_empty() {
            self.roots.push(Root { domain: public, reference: Reference::Page(page) });
        }
    }

    fn act(&mut self) {
        let Some((plan, next)) = &mut self.planned else { return };
        if let Some(action) = plan.actions.get(*next) {
            block_on(run(&self.store, plan, action, self.now)).unwrap();
            *next += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn nothing_that_is_needed_is_lost_whatever_the_order(moves in proptest::collection::vec(moves(), 1..120)) {
        let mut world = World::new();
        for next in moves {
            world.make(next);
        }
        // And what is not needed does go.
        world.publishers = [None, None];
        for _ in 0..4 {
            world.now = Timestamp(world.now.0 + 2 * i64::from(GRACE));
            collect_at(&world.store, world.now, &world.roots);
            for root in &world.roots {
                assert_readable(&world.store, root);
            }
        }
        if world.roots.is_empty() {
            prop_assert_eq!(files(&world.store), 0);
        }
    }
}
