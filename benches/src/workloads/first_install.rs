//! The first install of a tree of sources, counted in bytes.

use std::fs;

use anyhow::Result;

use super::sizes;
use crate::bench::Bench;
use crate::data::{self, Pair};
use crate::followers;
use crate::limit;
use crate::report::{Bar, Section};
use crate::update::{Outcome, Outcomes, costs, peers, tables};

const EXTRA: u64 = 4096;

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let tree = data::first_install(bench)?;
    let empty = bench.scratch("empty")?;
    fs::create_dir_all(&empty)?;
    let pair = Pair::trees("from nothing".to_owned(), empty, tree.clone()).in_git();
    let limit = limit::of_first(bench, &tree)?;
    let peers = peers(bench, &pair)?;
    let ours = if bench.peers_only() { None } else { Some(followers::first_install(bench, &tree)?) };
    let bytes = ours.map(|ours| ours.best.wire.bytes());
    let bars = vec![
        Bar::at_most("at most 1.15 × limit + 4 KiB", bytes, limit.bytes * 115 / 100 + EXTRA),
        Bar::at_most(
            "one request for the evidence, one for the content",
            ours.map(|ours| ours.best.wire.requests),
            2,
        ),
    ];
    let outcome = Outcome { name: pair.name.clone(), limit, peers, ours };
    let group = Outcomes { name: "install".to_owned(), outcomes: vec![outcome] };
    let method = format!(
        "A tree of sources ({}) into an empty place. The limit is `tar | zstd -19 --long=31` of it. Every program has \
         nothing: git makes a shallow fetch beside an empty commit, ostree a static delta from an empty commit.",
        sizes(&tree)
    );
    let groups = [group];
    let title = "First install".to_owned();
    Ok(Section { title, method, tables: tables(&groups), rows: costs(&groups), bars })
}
