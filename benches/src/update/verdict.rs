//! What a group of pairs has to reach, and whether it does.

use std::cmp::Ordering;

use super::{Outcome, Outcomes};
use crate::report::{Bar, ratio, short};

/// What every update may take on top, for evidence and the headers of two requests.
const EXTRA: u64 = 4096;
/// The most requests of an update from our server.
const REQUESTS_MAX: u64 = 2;

/// The most memory of the server, bundles being prepared.
const SERVER_MEMORY_MAX: u64 = 1 << 30;
/// The most memory of the client.
const CLIENT_MEMORY_MAX: u64 = 256 << 20;

/// Bars as numbers; factors are in hundredths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    /// At most this many hundredths of the limit, and 4 KiB.
    pub(crate) limit_hundredths: u64,
    /// At most this many hundredths of the best peer.
    pub(crate) peer_hundredths: Option<u64>,
    /// Said of the peer's bar where not every pair can reach it.
    pub(crate) peer_condition: &'static str,
}

impl Aim {
    pub(crate) const fn of_limit(limit_hundredths: u64) -> Self {
        Self { limit_hundredths, peer_hundredths: None, peer_condition: "" }
    }

    pub(crate) const fn and_of_best_peer(self, hundredths: u64) -> Self {
        Self { peer_hundredths: Some(hundredths), ..self }
    }

    pub(crate) const fn where_it_applies(self, peer_condition: &'static str) -> Self {
        Self { peer_condition, ..self }
    }

    /// The verdicts on a group.
    pub(crate) fn bars(self, group: &Outcomes) -> Vec<Bar> {
        let factor = ratio(self.limit_hundredths, 100);
        let text = format!("at most {factor} × limit + 4 KiB");
        let mut bars = every_and_median(&text, group, |outcome| {
            Some((outcome.bytes()?, outcome.limit.bytes * self.limit_hundredths / 100 + EXTRA))
        });
        if let Some(hundredths) = self.peer_hundredths {
            let text = match hundredths {
                100 => "below every peer".to_owned(),
                _ => format!("at most {} of the best peer", ratio(hundredths, 100)),
            };
            let text = format!("{text}{}", self.peer_condition);
            bars.extend(every_and_median(&text, group, |outcome| {
                // Equal is not below.
                let best = outcome.best_peer()?.1 * hundredths / 100;
                Some((outcome.bytes()?, if hundredths == 100 { best.saturating_sub(1) } else { best }))
            }));
        }
        let name = &group.name;
        bars.push(bar(&format!("{name}: {REQUESTS_MAX} requests"), group, |outcome| {
            Some((outcome.ours?.best.wire.requests, REQUESTS_MAX))
        }));
        bars.push(bar(&format!("{name}: server under 1 GiB of memory"), group, |outcome| {
            Some((outcome.ours?.server.memory, SERVER_MEMORY_MAX))
        }));
        bars.push(bar(&format!("{name}: client under 256 MiB of memory"), group, |outcome| {
            Some((outcome.ours?.best.usage.memory, CLIENT_MEMORY_MAX))
        }));
        bars
    }
}

/// A bar on every pair, and one on the middle one of several.
fn every_and_median(
    text: &str,
    group: &Outcomes,
    figures: impl Fn(&Outcome) -> Option<(u64, u64)>,
) -> Vec<Bar> {
    let mut bars = vec![bar(&format!("{}: {text}", group.name), group, &figures)];
    let mut compared: Vec<(u64, u64)> = group.outcomes.iter().filter_map(&figures).collect();
    if compared.len() > 1 {
        compared.sort_by(by_factor);
        let (found, bound) = compared[compared.len() / 2];
        let median = Bar::new(format!("{}, median: {text}", group.name), Some(found <= bound));
        bars.push(if found <= bound {
            median
        } else {
            median.with_detail(format!("missed, {} times", ratio(found, bound)))
        });
    }
    bars
}

/// The order of figures by how far they are from their bounds.
pub(super) fn by_factor((a, b): &(u64, u64), (c, d): &(u64, u64)) -> Ordering {
    (u128::from(*a) * u128::from(*d)).cmp(&(u128::from(*c) * u128::from(*b)))
}

/// Compares a figure of every pair with what it may be. The pair that misses by the largest factor is named.
fn bar(text: &str, group: &Outcomes, figures: impl Fn(&Outcome) -> Option<(u64, u64)>) -> Bar {
    let compared: Vec<(&Outcome, u64, u64)> = group
        .outcomes
        .iter()
        .filter_map(|outcome| figures(outcome).map(|(found, bound)| (outcome, found, bound)))
        .collect();
    if compared.is_empty() {
        return Bar::new(text, None);
    }
    let missed: Vec<_> = compared.iter().filter(|(_, found, bound)| found > bound).collect();
    let worst = missed.iter().max_by(|(_, a, b), (_, c, d)| by_factor(&(*a, *b), &(*c, *d)));
    let Some((outcome, found, bound)) = worst else { return Bar::new(text, Some(true)) };
    let detail = format!(
        "missed by {} of {}, most by {} ({} instead of {}, {} times)",
        missed.len(),
        compared.len(),
        outcome.name,
        short(*found),
        short(*bound),
        ratio(*found, *bound)
    );
    Bar::new(text, Some(false)).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::outcome;
    use super::*;
    use crate::followers::Peer;

    fn verdicts(aim: Aim, outcomes: Vec<Outcome>) -> Vec<(Option<bool>, Option<String>)> {
        let group = Outcomes { name: "trees".to_owned(), outcomes };
        aim.bars(&group).into_iter().map(|bar| (bar.met, bar.detail)).collect()
    }

    #[test]
    fn what_is_within_the_bounds_is_reached() {
        let aim = Aim::of_limit(115).and_of_best_peer(100);
        let exact = 100_000 * 115 / 100 + 4096;
        let found = verdicts(aim, vec![outcome(100_000, &[(Peer::Git, exact + 1)], exact)]);
        assert!(found.iter().all(|verdict| *verdict == (Some(true), None)), "{found:?}");
    }

    #[test]
    fn the_worst_pair_is_named() {
        let aim = Aim::of_limit(100).and_of_best_peer(60);
        let found = verdicts(
            aim,
            vec![
                outcome(10_000, &[(Peer::Rsync, 100_000)], 14_096),
                outcome(10_000, &[(Peer::Rsync, 50_000)], 28_192),
                outcome(10_000, &[(Peer::Rsync, 1_000_000)], 30_000),
            ],
        );
        assert_eq!(found[0].0, Some(false));
        assert_eq!(
            found[0].1.as_deref(),
            Some("missed by 2 of 3, most by pair of 30000 (30.0 K instead of 14.0 K, 2.13 times)")
        );
        assert_eq!(found[1], (Some(false), Some("missed, 2.00 times".to_owned())));
        assert_eq!((found[2].0, found[3].0), (Some(true), Some(true)));
    }

    #[test]
    fn equal_to_a_peer_is_not_below_it() {
        let aim = Aim::of_limit(1000).and_of_best_peer(100);
        let found = verdicts(aim, vec![outcome(10_000, &[(Peer::Git, 20_000)], 20_000)]);
        assert_eq!(found[1].0, Some(false));
    }
}
