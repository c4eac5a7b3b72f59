//! Targets that keep their versions: switching, going back, and the space of many versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::sizes;
use crate::bench::{Bench, check_same, prepare};
use crate::data::{self, Edit};
use crate::measure::{measure, measure_with_output};
use crate::ours::Ours;
use crate::peers::ostree;
use crate::report::{Bar, Row, Section, Table};
use crate::volume::{FileSystem, Volume};

/// How many files change.
const CHANGED: u32 = 5;
/// Versions whose space is measured.
const VERSIONS: u32 = 20;
const SWITCH_MAX: Duration = Duration::from_millis(500);
const AFTER_FETCH_MAX: Duration = Duration::from_secs(1);
/// Hundredths of a tree.
const SPACE_MAX: u64 = 140;

/// A kind of target on the file system that it is meant for.
const KINDS: [(&str, &str, FileSystem); 3] = [
    ("generations, ext4", "generations", FileSystem::Ext4),
    ("generations, xfs", "generations", FileSystem::Xfs),
    ("btrfs", "btrfs", FileSystem::Btrfs),
];

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Timing {
    staged: f64,
    switched: f64,
    noted: f64,
}

pub(super) fn switch(bench: &Bench) -> Result<Section> {
    let tree = data::many_files(bench)?;
    let mut rows = vec![ostree_checkout(bench, &tree)?];
    let mut bars = Vec::new();
    let mut table = Table {
        head: ["", "the rest, s", "fetched, s", "switched, s", "noted, s"].map(ToOwned::to_owned).to_vec(),
        rows: Vec::new(),
    };
    let checkout = rows[0].wall();
    if !bench.peers_only() {
        for (name, kind, file_system) in KINDS {
            let measured = one_kind(bench, &tree, kind, file_system)?;
            let [update, back] = measured.rows(name);
            let timing = middle(&measured.timings);
            let wall = update.wall().unwrap_or_default().as_secs_f64();
            let rest = wall - timing.staged - timing.switched - timing.noted;
            let cells = [rest, timing.staged, timing.switched, timing.noted];
            let cells = cells.map(|seconds| format!("{seconds:.2}"));
            table.rows.push([vec![name.to_owned()], cells.to_vec()].concat());
            let switched = Duration::from_secs_f64(timing.switched);
            match file_system {
                FileSystem::Btrfs => {
                    let after = Duration::from_secs_f64(timing.switched + timing.noted);
                    bars.push(Bar::new(
                        "btrfs: under 0.5 s from staged to switched",
                        Some(switched < SWITCH_MAX),
                    ));
                    bars.push(Bar::new(
                        "btrfs: under 1 s in all after the fetch, beside the look at the target",
                        Some(after < AFTER_FETCH_MAX),
                    ));
                    bars.push(Bar::new(
                        "btrfs: back in under 0.5 s",
                        back.wall().map(|wall| wall < SWITCH_MAX),
                    ));
                }
                FileSystem::Ext4 => bars.push(Bar::compare(
                    "generations with hard links: switched in less time than `ostree checkout -H`",
                    Some(switched),
                    checkout,
                    |ours, theirs| ours < theirs,
                )),
                FileSystem::Xfs => bars.push(Bar::compare(
                    "generations with shared blocks: in at most twice that",
                    Some(switched),
                    checkout,
                    |ours, theirs| ours <= 2 * theirs,
                )),
            }
            rows.extend([update, back]);
        }
    }
    let method = format!(
        "One line is replaced in each of {CHANGED} files of a tree of small files ({}), which is then synced to a \
         target that keeps its versions, each kind on a file system of its own. The whole command is measured, and \
         where its time goes is what it says itself; what is not the fetch, the switch or the note after it is the \
         start, the question to the server, the look at each file, and on btrfs the end of a subvolume that readers \
         left before. ostree makes a new checkout of the same tree from a `bare-user` repository on ext4, as names of its files; it neither looks at a target nor asks anybody.",
        sizes(&tree)
    );
    let title = "Switching a tree of many files".to_owned();
    Ok(Section { title, method, tables: vec![table], rows, bars })
}

fn ostree_checkout(bench: &Bench, tree: &Path) -> Result<Row> {
    crate::say("  ostree checkout -H");
    let volume = Volume::new(bench, "versions/ostree")?;
    let repository = volume.join("repository");
    prepare(&mut ostree::init(bench, &repository, "bare-user"))?;
    prepare(&mut ostree::commit(bench, &repository, tree))?;
    let mut row = Row::new("ostree checkout -H");
    for run in 0..bench.runs {
        let target = volume.join(&format!("checkout-{run}"));
        row.usages.push(measure(bench, &ostree::checkout_linked(bench, &repository, &target))?);
        check_same("ostree", tree, &target)?;
    }
    Ok(row)
}

/// What was measured of one kind.
struct Measured {
    updates: Row,
    backs: Row,
    timings: Vec<Timing>,
}

impl Measured {
    fn rows(&self, name: &str) -> [Row; 2] {
        let named = |what: &str, row: &Row| Row {
            what: format!("smart-sync, {name}: {what}"),
            usages: row.usages.clone(),
            ..Row::default()
        };
        [named("update", &self.updates), named("rollback", &self.backs)]
    }
}

/// Where readers find what a target holds.
fn seen(kind: &str, target: &Path) -> PathBuf {
    if kind == "generations" { target.join("current") } else { target.to_owned() }
}

fn one_kind(bench: &Bench, tree: &Path, kind: &str, file_system: FileSystem) -> Result<Measured> {
    crate::say(&format!("  {kind} on {file_system:?}"));
    let volume = Volume::with(bench, "versions/target", file_system)?;
    let target = volume.join("host");
    let realm = Ours::start(bench)?;
    realm.trust("host", realm.url())?;
    realm.publish(tree)?;
    let sync = || measure_with_output(bench, &realm.sync_versions("host", kind, &target));
    sync()?;
    check_same(kind, tree, &seen(kind, &target).canonicalize()?)?;
    let mut measured = Measured { updates: Row::default(), backs: Row::default(), timings: Vec::new() };
    for run in (0..).take(bench.runs) {
        // Other files each time: what a version had before is not fetched again.
        let edit = Edit::make(tree, bench.scale.many_files - 100 * run, CHANGED)?;
        realm.publish(tree)?;
        let (usage, said) = sync()?;
        check_same(kind, tree, &seen(kind, &target).canonicalize()?)?;
        measured.updates.usages.push(usage);
        measured.timings.push(timing(&said)?);
        drop(edit);
        measured.backs.usages.push(measure(bench, &realm.rollback("host", &target, 1))?);
        check_same(kind, tree, &seen(kind, &target).canonicalize()?)?;
        prepare(&mut realm.resume("host", &target))?;
        realm.publish(tree)?;
        sync()?;
    }
    Ok(measured)
}

/// What a run says of its own time.
fn timing(said: &str) -> Result<Timing> {
    let line = said.lines().find(|line| line.contains("\"event\":\"timing\""));
    serde_json::from_str(line.context("the run says nothing of its time")?)
        .context("reading the time of a run")
}

fn middle(timings: &[Timing]) -> Timing {
    let middle = |value: fn(&Timing) -> f64| {
        let mut values: Vec<f64> = timings.iter().map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Timing {
        staged: middle(|timing| timing.staged),
        switched: middle(|timing| timing.switched),
        noted: middle(|timing| timing.noted),
    }
}

/// The space of many versions.
pub(super) fn space(bench: &Bench) -> Result<Section> {
    let mut table = Table {
        head: ["", "one tree, MiB", "with 20 versions more, MiB", "÷ one tree", "metadata per version, KiB"]
            .map(ToOwned::to_owned)
            .to_vec(),
        rows: Vec::new(),
    };
    let mut bars = Vec::new();
    let files = bench.scale.few_files;
    for (name, kind, file_system) in KINDS {
        if bench.peers_only() {
            break;
        }
        crate::say(&format!("  space of {name}"));
        let Space { one, all, metadata } = space_of(bench, kind, file_system, files)?;
        let share = all * 100 / one.max(1);
        bars.push(Bar::at_most(&format!("{name}: at most 1.4 × one tree"), Some(share), SPACE_MAX));
        table.rows.push(vec![
            name.to_owned(),
            (one >> 20).to_string(),
            (all >> 20).to_string(),
            format!("{}.{:02}", share / 100, share % 100),
            (metadata >> 10).to_string(),
        ]);
    }
    let method = format!(
        "{files} files of 64 to 320 KiB, of which one in a hundred is replaced by another one in each of {VERSIONS} \
         versions; all are kept. What is counted is what the file system says is taken, so that metadata are in it. \
         The last column is the same for a tree of {} small files of 1 to 4 KiB of which nothing but one changes: \
         what a version costs where it is nothing but metadata.",
        bench.scale.few_files * 10
    );
    Ok(Section { title: "Space of versions".to_owned(), method, tables: vec![table], rows: Vec::new(), bars })
}

struct Space {
    one: u64,
    all: u64,
    metadata: u64,
}

fn space_of(bench: &Bench, kind: &str, file_system: FileSystem, files: u32) -> Result<Space> {
    let volume = Volume::with(bench, "versions/target", file_system)?;
    let realm = Ours::start(bench)?;
    realm.trust("host", realm.url())?;
    let (tree, target) = (bench.scratch("versions/tree")?, volume.join("host"));
    let empty = volume.taken()?;
    data::versioned_tree(&tree, files, 0)?;
    let publish = || -> Result<()> {
        realm.publish(&tree)?;
        measure(bench, &realm.sync_versions("host", kind, &target))?;
        check_same(kind, &tree, &seen(kind, &target).canonicalize()?)
    };
    publish()?;
    let one = volume.taken()? - empty;
    for version in 1..=VERSIONS {
        data::versioned_tree(&tree, files, version)?;
        publish()?;
    }
    let all = volume.taken()? - empty;

    let small = data::small_tree(bench)?;
    let target = volume.join("small");
    let sync = || -> Result<u64> {
        realm.publish(&small)?;
        measure(bench, &realm.sync_versions("host", kind, &target))?;
        volume.taken()
    };
    sync()?;
    let mut takes = Vec::new();
    for number in 0..4 {
        fs::write(small.join("number"), format!("{number}\n")).context("changing a file")?;
        takes.push(sync()?);
    }
    fs::remove_file(small.join("number")).context("removing a file")?;
    let metadata = takes[takes.len() - 1].saturating_sub(takes[0]) / (takes.len() as u64 - 1);
    Ok(Space { one, all, metadata })
}
