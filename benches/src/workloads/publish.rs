//! Publishing a realistic tree, for the first time and again unchanged.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::{sizes, stored};
use crate::bench::{Bench, check_same, prepare};
use crate::data;
use crate::measure::{Usage, measure};
use crate::ours::Ours;
use crate::peers::{casync, ostree, restic};
use crate::report::{Bar, Row, Section};

/// What one program used for the first time and for the second.
struct Pair {
    first: Row,
    again: Row,
}

impl Pair {
    fn new(name: &str) -> Self {
        Self { first: Row::new(format!("{name}, first")), again: Row::new(format!("{name}, unchanged")) }
    }
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let tree = data::realistic_tree(bench)?;
    let mut casync_pair = Pair::new("casync make");
    let mut restic_pair = Pair::new("restic backup");
    let mut archive_pair = Pair::new("ostree commit, archive");
    let mut bare_pair = Pair::new("ostree commit, bare-user");
    let mut local_pair = Pair::new("smart-sync-server publish-local");
    let mut our_pair = Pair::new("smart-sync publish, client and server");
    for run in 0..bench.runs {
        let check = run == 0;
        crate::say(&format!("  run {} of {}", run + 1, bench.runs));
        run_casync(bench, &tree, &mut casync_pair, check)?;
        run_restic(bench, &tree, &mut restic_pair, check)?;
        run_ostree(bench, &tree, "archive", &mut archive_pair, check)?;
        run_ostree(bench, &tree, "bare-user", &mut bare_pair, check)?;
        if !bench.peers_only() {
            run_ours(bench, &tree, &mut local_pair, check, Ours::publish_local)?;
            run_ours(bench, &tree, &mut our_pair, check, Ours::publish)?;
        }
    }
    let peers = [&casync_pair, &restic_pair, &archive_pair, &bare_pair];
    let mut bars = bars("into a store on this machine", &local_pair, peers);
    bars.extend(self::bars("over the network, all of both programs", &our_pair, peers));
    let mut rows = Vec::new();
    for pair in [casync_pair, restic_pair, archive_pair, bare_pair, local_pair, our_pair] {
        rows.extend([pair.first, pair.again].into_iter().filter(|row| !row.usages.is_empty()));
    }
    let method = format!(
        "A tree of programs, libraries, headers, sources and fonts ({}) into an empty repository on the same disk, \
         then the same again with nothing changed. CPU is user and system time of all processes. `publish-local` \
         does what the others do: it puts a directory into a repository on the same machine, and signs it. `publish` \
         does it over the network, and counts the server too, which takes nothing on trust: it decompresses and \
         hashes every chunk and every file that it gets. casync compresses with zstd (its default), restic compresses \
         with zstd (`auto`) and encrypts, ostree's archive mode compresses with zlib and its bare-user mode not at \
         all. Each repository's content is restored once and compared.",
        sizes(&tree)
    );
    Ok(Section { title: "Publishing a tree".to_owned(), method, tables: Vec::new(), rows, bars })
}

fn bars(what: &str, ours: &Pair, theirs: [&Pair; 4]) -> Vec<Bar> {
    let names = ["casync make", "restic backup", "ostree commit (archive)", "ostree commit (bare-user)"];
    let mut bars: Vec<Bar> = theirs
        .iter()
        .zip(names)
        .map(|(pair, name)| {
            let text = format!("{what}: less CPU than {name}");
            Bar::compare(&text, ours.first.cpu(), pair.first.cpu(), |ours, theirs| ours < theirs)
        })
        .collect();
    bars.push(Bar::compare(
        &format!("{what}, unchanged: under 5 % of the CPU of the first"),
        ours.again.cpu(),
        ours.first.cpu(),
        |again, first| again * 20 < first,
    ));
    bars
}

fn run_casync(bench: &Bench, tree: &Path, pair: &mut Pair, check: bool) -> Result<()> {
    let repository = bench.scratch("publish/casync")?;
    fs::create_dir_all(&repository)?;
    pair.first.usages.push(measure(bench, &casync::make(bench, &repository, tree))?);
    pair.first.stored = Some(stored(bench, &repository)?);
    pair.again.usages.push(measure(bench, &casync::make(bench, &repository, tree))?);
    if check {
        let target = bench.scratch("publish/target")?;
        let source = repository.display().to_string();
        prepare(&mut casync::extract(bench, &source, &target))?;
        check_same("casync", tree, &target)?;
    }
    Ok(())
}

fn run_restic(bench: &Bench, tree: &Path, pair: &mut Pair, check: bool) -> Result<()> {
    let repository = bench.scratch("publish/restic")?;
    // Its cache knows repositories by id, and this one is new.
    prepare(&mut restic::init(bench, &repository))?;
    pair.first.usages.push(measure(bench, &restic::backup(bench, &repository, tree))?);
    pair.first.stored = Some(stored(bench, &repository)?);
    pair.again.usages.push(measure(bench, &restic::backup(bench, &repository, tree))?);
    if check {
        let target = bench.scratch("publish/target")?;
        prepare(&mut restic::restore(bench, &repository, &target))?;
        check_same("restic", tree, &target)?;
    }
    Ok(())
}

fn run_ostree(bench: &Bench, tree: &Path, mode: &str, pair: &mut Pair, check: bool) -> Result<()> {
    let repository = bench.scratch("publish/ostree")?;
    prepare(&mut ostree::init(bench, &repository, mode))?;
    pair.first.usages.push(measure(bench, &ostree::commit(bench, &repository, tree))?);
    pair.first.stored = Some(stored(bench, &repository)?);
    pair.again.usages.push(measure(bench, &ostree::commit(bench, &repository, tree))?);
    if check {
        let target = bench.scratch("publish/target")?;
        prepare(&mut ostree::checkout(bench, &repository, "bench", &target))?;
        check_same("ostree", tree, &target)?;
    }
    Ok(())
}

/// Publishes in one of our ways into a new realm.
fn run_ours<'bench>(
    bench: &'bench Bench,
    tree: &Path,
    pair: &mut Pair,
    check: bool,
    publish: impl Fn(&Ours<'bench>, &Path) -> Result<Usage>,
) -> Result<()> {
    let realm = Ours::start(bench)?;
    pair.first.usages.push(publish(&realm, tree)?);
    pair.first.stored = Some(stored(bench, realm.data())?);
    pair.again.usages.push(publish(&realm, tree)?);
    if check {
        let target = bench.scratch("publish/target")?;
        realm.trust("host", realm.url())?;
        prepare(&mut realm.sync("host", realm.url(), &target))?;
        check_same("smart-sync", tree, &target)?;
    }
    Ok(())
}
