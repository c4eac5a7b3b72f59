//! Publishers, collectors and crashes in any order: nothing that is needed is lost, and what is not needed goes.

use std::sync::Arc;

use futures::executor::block_on;
use proptest::prelude::*;

use super::tests::{GRACE, Place, add, assert_readable, collect_at, files, page_of, plan_at};
use super::*;
use crate::content::name_content;
use crate::domain::Domain;
use crate::id::ObjectId;
use crate::manifest::entry::Content;
use crate::pack::PackWriter;
use crate::store::tests::NOW;
use crate::test_data::noise;

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
    /// A publisher is met by a collector at every step.
    Race { contents: Vec<u64> },
    /// Files of forgotten packs are removed.
    Sweep,
    /// Everything is killed and started again.
    Crash,
}

fn moves() -> impl Strategy<Value = Move> {
    let publisher = 0usize..2;
    let contents = proptest::collection::vec(0u64..6, 1..3);
    let race = contents.clone();
    let waits = [100, GRACE / 3, GRACE / 2, GRACE - LEASE_SLACK_SECONDS, GRACE + 1];
    prop_oneof![
        6 => proptest::sample::select(waits.to_vec()).prop_map(Move::Wait),
        4 => (publisher.clone(), contents).prop_map(|(publisher, contents)| Move::Begin { publisher, contents }),
        3 => publisher.clone().prop_map(|publisher| Move::Upload { publisher }),
        4 => publisher.prop_map(|publisher| Move::Commit { publisher }),
        4 => (0usize..3).prop_map(Move::Drop),
        2 => Just(Move::Plan),
        3 => Just(Move::Act),
        4 => Just(Move::Collect),
        3 => race.prop_map(|contents| Move::Race { contents }),
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
        let may_lose = matches!(next, Move::Commit { .. } | Move::Act | Move::Collect | Move::Crash);
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
            Move::Race { contents } => {
                let publisher = 0;
                for next in [
                    Move::Begin { publisher, contents },
                    Move::Collect,
                    Move::Upload { publisher },
                    Move::Collect,
                    Move::Commit { publisher },
                ] {
                    self.make(next);
                }
            }
            Move::Collect => {
                collect_at(&self.store, self.now, &self.roots);
            }
            Move::Sweep => block_on(remove_forgotten(&self.store)).unwrap(),
            Move::Crash => {
                self.planned = None;
                self.store = self.place.open();
            }
        }
        for root in self.roots.iter().filter(|_| may_lose) {
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
            self.roots.retain(|root| root.reference != Reference::Page(page));
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
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn nothing_that_is_needed_is_lost_whatever_the_order(moves in proptest::collection::vec(moves(), 20..120)) {
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
