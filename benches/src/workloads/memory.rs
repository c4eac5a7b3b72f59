//! The peak memory of client and server.

use std::path::Path;

use anyhow::Result;

use super::sizes;
use crate::bench::{Bench, check_same};
use crate::data;
use crate::measure::{Usage, measure, spawn};
use crate::ours::Ours;
use crate::peers::rsync;
use crate::report::{Bar, Row, Section};

const CLIENT_MAX: u64 = 200 * 1024 * 1024;
const SERVER_MAX: u64 = 300 * 1024 * 1024;

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let large = data::one_file(bench, bench.scale.large_file)?;
    let many = data::many_files(bench)?;
    let shared = data::served_files(bench)?;
    let few = data::few_files(bench)?;
    let mut rows = Vec::new();
    let mut client = Vec::new();
    let mut server = None;
    for (tree, what) in [(&large, "one large file"), (&many, "many files")] {
        let daemon = rsync::serve(bench, tree)?;
        let target = bench.scratch("memory/target")?;
        let mut row = Row::new(format!("rsync -a, {what}"));
        row.usages.push(measure(bench, &rsync::sync(bench, &daemon.address(), &target))?);
        check_same("rsync", tree, &target)?;
        rows.push(row);
        if !bench.peers_only() {
            let measured = one_tree(bench, tree, what)?;
            client.extend(measured.iter().filter_map(Row::memory));
            rows.extend(measured);
        }
    }
    if !bench.peers_only() {
        let row = serving(bench, &shared)?;
        server = row.memory();
        rows.push(row);
    }
    let peak = client.into_iter().max();
    let bars = vec![
        Bar::compare("client under 200 MiB", peak, Some(CLIENT_MAX), |ours, bar| ours < bar),
        Bar::compare(
            &format!("server under 300 MiB serving {} clients", bench.scale.clients),
            server,
            Some(SERVER_MAX),
            |ours, bar| ours < bar,
        ),
    ];
    let method = format!(
        "The peak resident memory of the largest process of a command. One large file: {}; many files: {}. The \
         server's is that of its process group while {} clients at once sync {} for the first time; its \
         wall time is that of all of them. A small tree for scale: {}.",
        sizes(&large),
        sizes(&many),
        bench.scale.clients,
        sizes(&shared),
        sizes(&few)
    );
    Ok(Section { title: "Peak memory".to_owned(), method, tables: Vec::new(), rows, bars })
}

/// Publishing a tree, its first sync, and a sync that finds nothing new.
fn one_tree(bench: &Bench, tree: &Path, what: &str) -> Result<Vec<Row>> {
    let realm = Ours::start(bench)?;
    let target = bench.scratch("memory/target")?;
    let mut rows = Vec::new();
    let mut add = |name: &str, usage: Usage| {
        let mut row = Row::new(format!("{name}, {what}"));
        row.usages.push(usage);
        rows.push(row);
    };
    add("smart-sync publish", realm.publish(tree)?);
    realm.trust("host", realm.url())?;
    let sync = realm.sync("host", realm.url(), &target);
    add("smart-sync, first", measure(bench, &sync)?);
    check_same("smart-sync", tree, &target)?;
    add("smart-sync, nothing new", measure(bench, &sync)?);
    Ok(rows)
}

/// The server while many clients sync at once.
fn serving(bench: &Bench, tree: &Path) -> Result<Row> {
    // Publishing is another load: this realm's server starts with what was published before.
    let realm = Ours::start(bench)?;
    realm.publish(tree)?;
    let realm = realm.restart();
    let before = realm.server_usage()?;
    let mut clients = Vec::new();
    for number in 0..bench.scale.clients {
        let host = format!("host-{number}");
        realm.trust(&host, realm.url())?;
        let target = bench.scratch(&format!("memory/targets/{number}"))?;
        clients.push((spawn(bench, &realm.sync(&host, realm.url(), &target))?, target));
    }
    let mut wall = std::time::Duration::ZERO;
    let mut targets = Vec::new();
    for (client, target) in clients {
        wall = wall.max(client.finish()?.wall);
        targets.push(target);
    }
    let after = realm.server_usage()?;
    for target in targets {
        check_same("smart-sync", tree, &target)?;
        std::fs::remove_dir_all(&target)?;
    }
    let mut row = Row::new(format!("smart-sync-server, {} clients", bench.scale.clients));
    row.usages.push(Usage { wall, cpu: after.cpu.saturating_sub(before.cpu), memory: after.memory });
    Ok(row)
}
