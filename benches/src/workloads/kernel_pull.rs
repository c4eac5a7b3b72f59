//! A host that pulls the next version of a kernel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::{CountingProxy, Totals, kernel_files};

use super::sizes;
use crate::bench::{Bench, check_same, prepare};
use crate::data;
use crate::followers::{Variant, wait_for_best};
use crate::measure::measure;
use crate::ours::Ours;
use crate::peers::rsync;
use crate::report::{Bar, Row, Section};

/// The releases that are made where nothing is fetched.
const GENERATED: [&str; 2] = ["6.9.1-bench", "6.10.1-bench"];
/// What the bytes with bundles may be of those of rsync, in percent.
const PERCENT_MAX: u64 = 60;

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let [old, new] = built(bench)?;
    let releases = [release(&old)?, release(&new)?];
    // What a host has of each version is what the server publishes of it: the same for all.
    let trees = [as_published(bench, &old, "old")?, as_published(bench, &new, "new")?];
    let mut rows = Vec::new();
    if !bench.peers_only() {
        rows.push(ours(bench, &old, &new, &trees[1], With::Bundles)?);
        rows.push(ours(bench, &old, &new, &trees[1], With::Chunks)?);
    }
    let named = bench.scratch("kernel-pull/named")?;
    data::kernel::copy(&trees[0], &named)?;
    data::kernel::rename_below(&named, &releases[0], &releases[1])?;
    rows.push(peer(bench, "rsync -az, each version in a directory of its own", None, &trees[1])?);
    rows.push(peer(
        bench,
        "rsync -az onto the old version, its files named as the new ones",
        Some(&named),
        &trees[1],
    )?);
    let bytes = |what: &str| {
        let found = rows.iter().find(|row| row.what.starts_with(what));
        found.and_then(|row| row.wire).map(Totals::bytes)
    };
    let (apart, onto) = (bytes("rsync -az, "), bytes("rsync -az onto"));
    let bars = vec![
        Bar::compare(
            "with bundles: at most 0.60 of the bytes of rsync, whichever way it is run",
            bytes("smart-sync, with"),
            apart.min(onto),
            |ours, theirs| ours * 100 <= theirs * PERCENT_MAX,
        ),
        Bar::compare(
            "without bundles: no more than rsync -az",
            bytes("smart-sync without"),
            apart,
            |ours, theirs| ours <= theirs,
        ),
    ];
    let method = format!(
        "Debian's kernel image for amd64, the two newest ABI versions that its archive has, {} to {} ({}), published by \
         `smart-sync kernel publish` and pulled by `smart-sync kernel pull` onto the one before: with the best bundle, and \
         from a server that makes none. rsync has the same trees. As on the servers that came before, each version lies in \
         a directory of its own, so that rsync finds nothing there; what it would take if somebody renamed every file for it \
         is given, too. Bytes of both directions at the socket. The results are compared file by file.",
        releases[0],
        releases[1],
        sizes(&trees[1])
    );
    Ok(Section { title: "Pulling the next kernel".to_owned(), method, tables: Vec::new(), rows, bars })
}

/// Two successive kernels, as they are installed.
fn built(bench: &Bench) -> Result<[PathBuf; 2]> {
    if !bench.scale.generated {
        let pair = data::kernel_tree(bench)?;
        return Ok([pair.old, pair.new]);
    }
    bench.scratch("kernel-pull/built")?;
    Ok(GENERATED.map(|release| {
        let directory = format!("kernel-pull/built/{release}");
        kernel_files::install(&bench.environment, &directory, release);
        bench.environment.path(&directory)
    }))
}

/// What a kernel calls itself: the directory of its modules.
fn release(built: &Path) -> Result<String> {
    let modules = built.join("lib/modules");
    let mut names = fs::read_dir(&modules).with_context(|| format!("reading {}", modules.display()))?;
    let name = names.next().context("a kernel has modules")??.file_name();
    Ok(name.to_string_lossy().into_owned())
}

/// The tree of one version.
fn as_published(bench: &Bench, built: &Path, name: &str) -> Result<PathBuf> {
    let realm = Ours::start(bench)?;
    let target = bench.scratch(&format!("kernel-pull/{name}"))?;
    realm.publish_kernel(built)?;
    realm.trust("host", realm.url())?;
    prepare(&mut realm.pull_kernel("host", realm.url(), &target))?;
    Ok(target)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Bundles,
    Chunks,
}

fn ours(bench: &Bench, old: &Path, new: &Path, expected: &Path, with: With) -> Result<Row> {
    let (realm, what) = match with {
        With::Bundles => (Ours::start(bench)?, "smart-sync, with bundles"),
        With::Chunks => (Ours::start_without_bundles(bench)?, "smart-sync without bundles"),
    };
    let proxy = CountingProxy::start(realm.address(), Protocol::Http)?;
    let target = bench.scratch("kernel-pull/target")?;
    realm.publish_kernel(old)?;
    let from = realm.newest_kernel()?;
    realm.trust("host", &proxy.url())?;
    prepare(&mut realm.pull_kernel("host", &proxy.url(), &target))?;
    realm.publish_kernel(new)?;
    let to = realm.newest_kernel()?;
    if with == With::Bundles {
        let variant = wait_for_best(&realm, &from, &to)?;
        anyhow::ensure!(variant == Variant::Smallest, "there is no bundle from one kernel to the next");
    }
    proxy.take_totals();
    let mut row = Row::new(what);
    row.usages.push(measure(bench, &realm.pull_kernel("host", &proxy.url(), &target))?);
    row.wire = Some(proxy.totals());
    check_same("smart-sync", expected, &target)?;
    crate::say(&format!("    {what}: {}", crate::report::short(proxy.totals().bytes())));
    Ok(row)
}

fn peer(bench: &Bench, what: &str, before: Option<&Path>, new: &Path) -> Result<Row> {
    let daemon = rsync::serve(bench, new)?;
    let target = bench.scratch("kernel-pull/target")?;
    if let Some(before) = before {
        data::kernel::copy(before, &target)?;
    }
    let proxy = CountingProxy::start(&daemon.address(), Protocol::Other)?;
    let mut row = Row::new(what);
    row.usages.push(measure(bench, &rsync::sync_compressed(bench, &proxy.address().to_string(), &target))?);
    row.wire = Some(proxy.totals());
    check_same("rsync", new, &target)?;
    crate::say(&format!("    {what}: {}", crate::report::short(proxy.totals().bytes())));
    Ok(row)
}
