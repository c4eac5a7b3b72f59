//! The comparison on bytes: groups of pairs, each brought from the old version to the new one by every program.

mod table;
mod verdict;

use anyhow::{Context as _, Result};

use crate::bench::{Bench, Scope};
use crate::data::{Group, Pair};
use crate::followers::{self, Measured, OurUpdate, Peer};
use crate::limit::{self, Limit};
use crate::report::{Row, Section, Table, short};

pub(crate) use verdict::Aim;

/// What every program needed for one pair.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) limit: Limit,
    pub(crate) peers: Vec<(Peer, Measured)>,
    /// None where only the other programs are measured.
    pub(crate) ours: Option<OurUpdate>,
}

/// The outcomes of one group.
#[derive(Debug, Clone)]
pub(crate) struct Outcomes {
    pub(crate) name: String,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Outcome {
    /// The peer that needed the fewest bytes.
    pub(crate) fn best_peer(&self) -> Option<(Peer, u64)> {
        let sizes = self.peers.iter().map(|(peer, measured)| (*peer, measured.wire.bytes()));
        sizes.min_by_key(|(_, bytes)| *bytes)
    }

    /// What ours needed, with the best bundle.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.ours.map(|ours| ours.best.wire.bytes())
    }
}

/// Measures groups of pairs and makes a section of them.
pub(crate) fn compare(
    bench: &Bench,
    title: &str,
    method: &str,
    groups: Vec<(Group, Aim)>,
) -> Result<Section> {
    let mut all = Vec::new();
    let mut bars = Vec::new();
    for (group, aim) in groups {
        if group.pairs.is_empty() {
            continue;
        }
        let mut outcomes = Vec::new();
        for pair in &group.pairs {
            crate::say(&format!("  {}: {}", group.name, pair.name));
            outcomes.push(one_pair(bench, pair).with_context(|| pair.name.clone())?);
        }
        let outcomes = Outcomes { name: group.name, outcomes };
        bars.extend(aim.bars(&outcomes));
        all.push(outcomes);
    }
    let method = format!(
        "{method} Bytes of both directions at the socket, headers included; below them what each program cost the \
         client over all pairs that it took part in: times and bytes are added up, memory and requests are the most \
         of one pair."
    );
    Ok(Section { title: title.to_owned(), method, tables: tables(&all), rows: costs(&all), bars })
}

fn one_pair(bench: &Bench, pair: &Pair) -> Result<Outcome> {
    let limit = limit::of_pair(bench, pair).context("computing the limit")?;
    crate::say(&format!(
        "    limit {} of {} changed ({})",
        short(limit.bytes),
        short(limit.changed),
        limit.how
    ));
    let peers = peers(bench, pair)?;
    let ours = if bench.peers_only() { None } else { Some(followers::update(bench, pair)?) };
    if let Some(ours) = &ours {
        let quick =
            ours.quick.map_or_else(String::new, |quick| format!(", quick {}", short(quick.wire.bytes())));
        crate::say(&format!("    smart-sync: {}{quick}", short(ours.best.wire.bytes())));
    }
    Ok(Outcome { name: pair.name.clone(), limit, peers, ours })
}

/// What the other programs need for a pair, those that it is for.
pub(crate) fn peers(bench: &Bench, pair: &Pair) -> Result<Vec<(Peer, Measured)>> {
    let mut found = Vec::new();
    if bench.scope == Scope::Limits {
        return Ok(found);
    }
    for peer in Peer::ALL {
        if let Some(measured) = peer.update(bench, pair)? {
            crate::say(&format!("    {}: {}", peer.name(), short(measured.wire.bytes())));
            found.push((peer, measured));
        }
    }
    Ok(found)
}

/// The table of bytes.
pub(crate) fn tables(groups: &[Outcomes]) -> Vec<Table> {
    vec![table::bytes(groups)]
}

/// What each program cost over all pairs: times and bytes added up, the largest memory, the most requests of one.
pub(crate) fn costs(groups: &[Outcomes]) -> Vec<Row> {
    let outcomes = || groups.iter().flat_map(|group| &group.outcomes);
    let mut rows = Vec::new();
    for peer in Peer::ALL {
        let measured: Vec<Measured> = outcomes()
            .flat_map(|outcome| &outcome.peers)
            .filter(|(found, _)| *found == peer)
            .map(|(_, measured)| *measured)
            .collect();
        rows.extend(table::cost(peer.name(), &measured));
    }
    let quick: Vec<Measured> = outcomes().filter_map(|outcome| outcome.ours?.quick).collect();
    let best: Vec<Measured> = outcomes().filter_map(|outcome| Some(outcome.ours?.best)).collect();
    rows.extend(table::cost("smart-sync, quick bundle", &quick));
    rows.extend(table::cost("smart-sync", &best));
    rows
}
