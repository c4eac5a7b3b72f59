//! How often each step was asked for lately.
//!
//! A count is halved every day, so that what was wanted once is not wanted for ever, and the number of steps is bounded:
//! anybody may ask for any two manifests.

use std::collections::HashMap;

use super::step::Step;

/// Steps that are counted.
const STEPS_MAX: usize = 4096;
/// Seconds after which a count is worth half.
const HALF_LIFE_SECONDS: u64 = 24 * 3600;

#[derive(Debug, Default)]
pub(super) struct Demand {
    counts: HashMap<Step, u32>,
    halved: u64,
}

impl Demand {
    /// Counts a request; returns how many there were lately.
    pub(super) fn note(&mut self, step: &Step, now: u64) -> u32 {
        while now.saturating_sub(self.halved) >= HALF_LIFE_SECONDS && !self.counts.is_empty() {
            self.halve();
            self.halved += HALF_LIFE_SECONDS;
        }
        if self.counts.is_empty() {
            self.halved = now;
        }
        if let Some(count) = self.counts.get_mut(step) {
            *count = count.saturating_add(1);
            return *count;
        }
        while self.counts.len() >= STEPS_MAX {
            self.halve();
        }
        self.counts.insert(step.clone(), 1);
        1
    }

    fn halve(&mut self) {
        self.counts.retain(|_, count| {
            *count /= 2;
            *count > 0
        });
    }

    /// The counts of all steps, as they were last looked at.
    pub(super) fn counts(&self) -> Vec<(Step, u32)> {
        self.counts.iter().map(|(step, count)| (step.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles::step::tests::step;

    fn count(demand: &Demand, wanted: &Step) -> u32 {
        demand.counts.get(wanted).copied().unwrap_or(0)
    }

    #[test]
    fn counts_grow_and_fade() {
        let mut demand = Demand::default();
        for _ in 0..8 {
            demand.note(&step(1, 2), 1_000_000);
        }
        demand.note(&step(3, 2), 1_000_000);
        assert_eq!((count(&demand, &step(1, 2)), count(&demand, &step(3, 2))), (8, 1));
        demand.note(&step(4, 2), 1_000_000 + 2 * HALF_LIFE_SECONDS);
        assert_eq!((count(&demand, &step(1, 2)), count(&demand, &step(3, 2))), (2, 0));
        demand.note(&step(5, 2), u64::MAX);
        assert_eq!(demand.counts(), [(step(5, 2), 1)]);
    }

    #[test]
    fn the_number_of_steps_is_bounded_and_what_is_wanted_often_stays() {
        let mut demand = Demand::default();
        for _ in 0..4 {
            demand.note(&step(1, 2), 10);
        }
        for number in (0u32..).take(STEPS_MAX) {
            let mut other = step(3, 2);
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            other.to = smart_sync_store::id::ManifestId::from_bytes(bytes);
            demand.note(&other, 10);
        }
        assert!(demand.counts.len() <= STEPS_MAX);
        assert_eq!(count(&demand, &step(1, 2)), 2);
    }
}
