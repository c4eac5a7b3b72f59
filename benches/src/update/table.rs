//! The tables of a comparison on bytes.

use smart_sync_tests::Totals;

use super::{Outcome, Outcomes};
use crate::followers::{Measured, Peer, Variant};
use crate::measure::Usage;
use crate::report::{Row, Table, ratio, short};

/// A row for each pair, and one for the middle of each group that has several.
pub(super) fn bytes(groups: &[Outcomes]) -> Table {
    let all = || groups.iter().flat_map(|group| &group.outcomes);
    let taking_part: Vec<Peer> = Peer::ALL
        .into_iter()
        .filter(|peer| all().any(|outcome| outcome.peers.iter().any(|(found, _)| found == peer)))
        .collect();
    let mut head: Vec<String> = ["", "changed", "limit"].map(str::to_owned).to_vec();
    head.extend(taking_part.iter().map(|peer| peer.name().to_owned()));
    let ours = ["best peer", "ours, quick", "ours", "requests", "÷ limit", "÷ best peer"];
    head.extend(ours.map(str::to_owned));
    let mut rows = Vec::new();
    for group in groups {
        for outcome in &group.outcomes {
            rows.push(pair_row(&group.name, outcome, &taking_part));
        }
        if group.outcomes.len() > 1 {
            rows.push(median_row(group, head.len()));
        }
    }
    Table { head, rows }
}

fn pair_row(group: &str, outcome: &Outcome, taking_part: &[Peer]) -> Vec<String> {
    let mut row =
        vec![format!("{group}: {}", outcome.name), short(outcome.limit.changed), short(outcome.limit.bytes)];
    let best_peer = outcome.best_peer();
    for peer in taking_part {
        let found = outcome.peers.iter().find(|(found, _)| found == peer);
        row.push(found.map_or_else(|| "–".to_owned(), |(_, measured)| short(measured.wire.bytes())));
    }
    row.push(best_peer.map(|(peer, _)| peer.name().to_owned()).unwrap_or_default());
    let Some(ours) = outcome.ours else {
        row.extend(std::iter::repeat_n(String::new(), 5));
        return row;
    };
    let bytes = ours.best.wire.bytes();
    row.push(ours.quick.map_or_else(|| "–".to_owned(), |quick| short(quick.wire.bytes())));
    let chunks = if ours.variant == Variant::None { " (chunks)" } else { "" };
    row.push(format!("**{}**{chunks}", short(bytes)));
    row.push(ours.best.wire.requests.to_string());
    row.push(ratio(bytes, outcome.limit.bytes));
    row.push(best_peer.map(|(_, best)| ratio(bytes, best)).unwrap_or_default());
    row
}

fn median_row(group: &Outcomes, columns: usize) -> Vec<String> {
    let mut row = vec![format!("{}, median", group.name)];
    row.resize(columns, String::new());
    let limit = group.outcomes.iter().filter_map(|outcome| Some((outcome.bytes()?, outcome.limit.bytes)));
    let peer = group.outcomes.iter().filter_map(|outcome| Some((outcome.bytes()?, outcome.best_peer()?.1)));
    row[columns - 2] = median_ratio(limit).unwrap_or_default();
    row[columns - 1] = median_ratio(peer).unwrap_or_default();
    row
}

/// The middle one of several ratios.
fn median_ratio(ratios: impl Iterator<Item = (u64, u64)>) -> Option<String> {
    let mut ratios: Vec<(u64, u64)> = ratios.collect();
    ratios
        .sort_by(|(a, b), (c, d)| (u128::from(*a) * u128::from(*d)).cmp(&(u128::from(*c) * u128::from(*b))));
    let (above, below) = *ratios.get(ratios.len() / 2)?;
    Some(ratio(above, below))
}

/// What one program cost in all.
pub(super) fn cost(name: &str, measured: &[Measured]) -> Option<Row> {
    if measured.is_empty() {
        return None;
    }
    let mut usage = Usage::default();
    let mut wire = Totals::default();
    for one in measured {
        usage = usage.then(one.usage);
        wire.sent += one.wire.sent;
        wire.received += one.wire.received;
        wire.requests = wire.requests.max(one.wire.requests);
        wire.connections += one.wire.connections;
    }
    let steps = if measured.len() == 1 { "step" } else { "steps" };
    let mut row = Row::new(format!("{name}, {} {steps}", measured.len()));
    row.usages.push(usage);
    row.wire = Some(wire);
    Some(row)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::daemon::GroupUsage;
    use crate::followers::OurUpdate;
    use crate::limit::Limit;

    pub(in crate::update) fn measured(bytes: u64) -> Measured {
        let wire = Totals { connections: 1, requests: 2, sent: 0, received: bytes };
        Measured { usage: Usage::default(), wire }
    }

    pub(in crate::update) fn outcome(limit: u64, peers: &[(Peer, u64)], ours: u64) -> Outcome {
        let limit = Limit { bytes: limit, changed: 10 * limit, how: String::new() };
        let update = OurUpdate {
            quick: Some(measured(ours * 2)),
            best: measured(ours),
            variant: Variant::Smallest,
            server: GroupUsage::default(),
        };
        Outcome {
            name: format!("pair of {ours}"),
            limit,
            peers: peers.iter().map(|(peer, bytes)| (*peer, measured(*bytes))).collect(),
            ours: Some(update),
        }
    }

    #[test]
    fn only_programs_that_took_part_have_a_column() {
        let outcomes = vec![
            outcome(1_000, &[(Peer::Rsync, 5_000), (Peer::Git, 4_000)], 2_000),
            outcome(1_000, &[(Peer::Rsync, 3_000)], 1_500),
        ];
        let table = bytes(&[Outcomes { name: "trees".to_owned(), outcomes }]);
        assert_eq!(
            table.head,
            [
                "",
                "changed",
                "limit",
                "rsync -z",
                "git fetch",
                "best peer",
                "ours, quick",
                "ours",
                "requests",
                "÷ limit",
                "÷ best peer"
            ]
        );
        assert_eq!(
            table.rows[0],
            [
                "trees: pair of 2000",
                "10.0 K",
                "1.00 K",
                "5.00 K",
                "4.00 K",
                "git fetch",
                "4.00 K",
                "**2.00 K**",
                "2",
                "2.00",
                "0.50"
            ]
        );
        assert_eq!(table.rows[1][4], "–");
        assert_eq!(table.rows[2][0], "trees, median");
        assert_eq!(table.rows[2][9..], ["2.00", "0.50"]);
    }

    #[test]
    fn costs_are_added_up() {
        let row = cost("rsync", &[measured(10), measured(20)]).unwrap();
        assert_eq!(row.what, "rsync, 2 steps");
        let wire = row.wire.unwrap();
        assert_eq!((wire.received, wire.requests), (30, 2));
        assert!(cost("git", &[]).is_none());
    }
}
