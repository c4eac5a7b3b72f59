use proptest::prelude::*;

use super::*;
use crate::bundles::step::Variant;
use crate::bundles::step::tests::{manifest, step};

const RULES: Rules = Rules { bytes: 1000, ladder: 2, hot: 3, grace: 100 };

/// A ref of the public domain: its versions from the newest on.
fn history(moved: u64, versions: &[u8]) -> History {
    let earlier = [1, 2, 4, 8]
        .into_iter()
        .filter_map(|distance: usize| Some((distance as u64, manifest(*versions.get(distance)?))))
        .collect();
    History { domain: Domain::public(), moved, current: manifest(versions[0]), earlier }
}

fn stored(from: u8, to: u8, quality: Quality, length: u64) -> Stored {
    let variant = Variant { quality, number: [from ^ to; 8] };
    let file = BundleFile { step: step(from, to), variant, length };
    Stored { file, asked: 50, replaced: None, is_read: false }
}

#[derive(Default)]
struct Case {
    histories: Vec<History>,
    stored: Vec<Stored>,
    demand: Vec<(Step, u32)>,
    gone: Vec<u8>,
    settled: Vec<(Step, Quality)>,
}

impl Case {
    fn plan(&self) -> Plan {
        let gone = self.gone.iter().map(|number| (Domain::public(), manifest(*number))).collect();
        let settled = self.settled.iter().cloned().collect();
        plan(&Situation {
            now: 1000,
            rules: RULES,
            histories: &self.histories,
            stored: &self.stored,
            demand: &self.demand,
            gone: &gone,
            settled: &settled,
        })
    }

    #[track_caller]
    fn makes(&self, expected: &[(u8, u8, Quality)]) {
        let expected: Vec<_> =
            expected.iter().map(|(from, to, quality)| (step(*from, *to), *quality)).collect();
        assert_eq!(self.plan().make, expected);
    }

    #[track_caller]
    fn evicts(&self, expected: &[usize]) {
        let expected: Vec<_> = expected.iter().map(|index| self.stored[*index].file.clone()).collect();
        assert_eq!(self.plan().evict, expected);
    }
}

use Quality::{Best, Quick};

#[test]
fn the_step_from_the_previous_version_comes_first_quickly_made_then_well_made() {
    let mut case = Case { histories: vec![history(3, &[2, 1])], ..Case::default() };
    case.makes(&[(1, 2, Quick), (1, 2, Best)]);
    case.stored.push(stored(1, 2, Quick, 10));
    case.makes(&[(1, 2, Best)]);
    case.stored.push(stored(1, 2, Best, 8));
    case.makes(&[]);
}

#[test]
fn the_ref_that_moved_last_comes_first_and_a_step_that_two_refs_make_is_made_once() {
    let histories = vec![history(3, &[2, 1]), history(9, &[4, 3]), history(7, &[2, 1])];
    let case = Case { histories, ..Case::default() };
    case.makes(&[(3, 4, Quick), (1, 2, Quick), (3, 4, Best), (1, 2, Best)]);
}

#[test]
fn a_version_that_came_back_is_no_step() {
    Case { histories: vec![history(3, &[2, 2])], ..Case::default() }.makes(&[]);
}

#[test]
fn older_versions_are_a_ladder_of_so_many_steps() {
    let case = Case { histories: vec![history(9, &[9, 8, 7, 6, 5, 4, 3, 2, 1])], ..Case::default() };
    case.makes(&[(8, 9, Quick), (8, 9, Best), (7, 9, Best), (5, 9, Best)]);
}

#[test]
fn what_is_asked_for_often_is_worth_the_work_the_most_asked_for_first() {
    let demand = vec![(step(0, 9), 3), (step(4, 9), 2), (step(6, 9), 7), (step(8, 9), 9)];
    let mut case = Case { histories: vec![history(9, &[9, 8])], demand, ..Case::default() };
    case.makes(&[(8, 9, Quick), (8, 9, Best), (6, 9, Best), (0, 9, Quick), (0, 9, Best)]);
    case.settled = vec![(step(6, 9), Best), (step(8, 9), Best)];
    case.makes(&[(8, 9, Quick), (0, 9, Quick), (0, 9, Best)]);
}

#[test]
fn a_first_install_that_was_asked_for_once_is_made_quickly_and_then_well() {
    let demand = vec![(step(0, 9), 1), (step(4, 9), 1)];
    let mut case = Case { demand, ..Case::default() };
    case.makes(&[(0, 9, Quick), (0, 9, Best)]);
    case.stored.push(stored(0, 9, Quick, 10));
    case.makes(&[(0, 9, Best)]);
}

#[test]
fn without_room_only_the_step_from_the_previous_version_is_made() {
    let demand = vec![(step(0, 9), 30)];
    let histories = vec![history(9, &[9, 8, 7])];
    let mut case = Case { histories, demand, ..Case::default() };
    case.stored.push(stored(1, 9, Quick, RULES.bytes));
    case.makes(&[(8, 9, Quick), (8, 9, Best)]);
    // What ends elsewhere goes for what is wanted now, and takes no room.
    case.stored[0] = stored(1, 3, Quick, RULES.bytes);
    case.makes(&[(8, 9, Quick), (8, 9, Best), (0, 9, Quick), (0, 9, Best), (7, 9, Best)]);
}

#[test]
fn what_ends_at_no_ref_goes_first_then_what_was_replaced_then_what_was_not_asked_for() {
    let mut case = Case { histories: vec![history(9, &[9, 8])], ..Case::default() };
    case.stored = vec![
        Stored { asked: 10, ..stored(8, 9, Best, 400) },
        Stored { asked: 20, ..stored(7, 9, Best, 400) },
        Stored { asked: 90, ..stored(1, 2, Best, 100) },
        Stored { asked: 99, replaced: Some(990), ..stored(7, 9, Quick, 100) },
    ];
    case.evicts(&[]);
    case.stored.push(Stored { asked: 90, ..stored(3, 9, Best, 50) });
    case.evicts(&[2]);
    case.stored.push(Stored { asked: 90, ..stored(4, 9, Best, 100) });
    case.evicts(&[2, 3]);
    case.stored.push(Stored { asked: 90, ..stored(5, 9, Best, 100) });
    case.evicts(&[2, 3, 0]);
    case.stored[0].is_read = true;
    case.evicts(&[2, 3, 1]);
}

#[test]
fn what_nobody_can_use_any_more_goes_although_there_is_room() {
    let mut case = Case { histories: vec![history(9, &[9, 8])], ..Case::default() };
    case.stored = vec![
        stored(8, 9, Best, 1),
        Stored { replaced: Some(900), ..stored(8, 9, Quick, 1) },
        Stored { replaced: Some(901), ..stored(7, 9, Quick, 1) },
        stored(3, 9, Quick, 1),
        stored(0, 3, Quick, 1),
    ];
    case.evicts(&[1]);
    case.gone = vec![3];
    case.evicts(&[1, 3, 4]);
    case.stored[4].is_read = true;
    case.evicts(&[1, 3]);
}

fn any_stored() -> impl Strategy<Value = Stored> {
    (0..6u8, 1..6u8, any::<bool>(), 0..600u64, 0..1000u64, any::<Option<u16>>(), any::<bool>()).prop_map(
        |(from, to, is_best, length, asked, replaced, is_read)| Stored {
            asked,
            replaced: replaced.map(u64::from),
            is_read,
            ..stored(from, to, if is_best { Best } else { Quick }, length)
        },
    )
}

proptest! {
    #[test]
    fn every_plan_keeps_to_the_rules(
        stored in prop::collection::vec(any_stored(), 0..12),
        versions in prop::collection::vec(prop::collection::vec(1..6u8, 1..9), 0..4),
        demand in prop::collection::vec((0..6u8, 1..6u8, 0..6u32), 0..6),
        gone in prop::collection::vec(1..6u8, 0..2),
    ) {
        let histories: Vec<_> =
            versions.iter().zip(1..).map(|(versions, moved)| history(moved, versions)).collect();
        let demand = demand.into_iter().map(|(from, to, count)| (step(from, to), count)).collect();
        let mut case = Case { histories, stored, demand, gone, ..Case::default() };
        let plan = case.plan();
        for (at, (step, quality)) in plan.make.iter().enumerate() {
            prop_assert!(step.from != Some(step.to));
            prop_assert!(!plan.make[..at].contains(&(step.clone(), *quality)));
            let is_stored =
                |stored: &&Stored| stored.file.step == *step && stored.file.variant.quality >= *quality;
            prop_assert!(!case.stored.iter().any(|stored| is_stored(&stored)));
        }
        let is_evicted = |stored: &Stored| plan.evict.contains(&stored.file);
        prop_assert!(case.stored.iter().all(|stored| !(stored.is_read && is_evicted(stored))
            || case.stored.iter().any(|other| other.file == stored.file && !other.is_read)));
        let left: Vec<Stored> = case.stored.iter().filter(|stored| !is_evicted(stored)).cloned().collect();
        let bytes: u64 = left.iter().map(|stored| stored.file.length).sum();
        prop_assert!(bytes <= RULES.bytes || left.iter().all(|stored| stored.is_read));
        case.stored = left;
        prop_assert_eq!(case.plan().evict, vec![], "what was done is not done again");
    }
}
