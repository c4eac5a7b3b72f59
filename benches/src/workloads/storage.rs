//! What many versions take on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::stored;
use crate::bench::{Bench, Scope, check_same, prepare};
use crate::data;
use crate::measure::{Usage, measure};
use crate::ours::Ours;
use crate::peers::{borg, restic};
use crate::report::{Bar, Row, Section};
use smart_sync_tests::program;
use smart_sync_tests::server::age_marks;

/// How many kernels are published.
const KERNELS: usize = 5;

/// Versions of one thing, oldest first, and the channel that they are published to.
struct Line {
    channel: &'static str,
    versions: Vec<PathBuf>,
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let lines = [
        Line { channel: "repos/repository", versions: data::repository_versions(bench)? },
        Line { channel: "repos/kernel", versions: data::kernels(bench, KERNELS)? },
        Line { channel: "repos/tarball", versions: data::tarball_versions(bench)? },
    ];
    let title = "Storage".to_owned();
    if bench.scope == Scope::Limits {
        let method = String::new();
        return Ok(Section { title, method, tables: Vec::new(), rows: Vec::new(), bars: Vec::new() });
    }
    let restic = run_restic(bench, &lines)?;
    let borg = run_borg(bench, &lines)?;
    let ours = if bench.peers_only() { None } else { Some(run_ours(bench, &lines)?) };
    let size = |row: Option<&Row>| row.and_then(|row| row.stored);
    let bars = [("restic", &restic), ("borg", &borg)].map(|(name, theirs)| {
        let text = format!("smaller than {name}'s repository");
        Bar::compare(&text, size(ours.as_ref()), size(Some(theirs)), |ours, theirs| ours < theirs)
    });
    let counts: Vec<String> = lines.iter().map(|line| line.versions.len().to_string()).collect();
    let method = format!(
        "{} releases of a Python project, unpacked, {} kernels, unpacked, and {} releases of another project as \
         `.tar.gz`, each after the one before, into one store. restic: format 2, `--compression=max`. borg: \
         `--compression=zstd`, no encryption. smart-sync: `publish` to three channels, then `see-through` and \
         `gc`; its size is that of packs and catalogue. Bundles, which are a cache, are not made. CPU is that of all \
         publications and of these two commands. The newest version of each is restored and compared.",
        counts[0], counts[1], counts[2]
    );
    let rows = [Some(restic), Some(borg), ours].into_iter().flatten().collect();
    Ok(Section { title, method, tables: Vec::new(), rows, bars: bars.into() })
}

/// Each version with the name that a backup of it has.
fn versions(lines: &[Line]) -> impl Iterator<Item = (&Line, String, &Path)> {
    lines.iter().flat_map(|line| {
        let name = line.channel.rsplit('/').next().unwrap_or(line.channel);
        line.versions.iter().enumerate().map(move |(number, tree)| {
            let backup = format!("{name}-{number}");
            (line, backup, tree.as_path())
        })
    })
}

fn run_restic(bench: &Bench, lines: &[Line]) -> Result<Row> {
    let repository = bench.scratch("storage/restic")?;
    prepare(&mut restic::init(bench, &repository))?;
    let mut usage = Usage::default();
    for (_, name, tree) in versions(lines) {
        let mut command = restic::backup(bench, &repository, tree);
        command.args(["--compression=max", "--tag", &name]);
        usage = usage.then(measure(bench, &command)?);
    }
    for line in lines {
        let (_, name, tree) = versions(std::slice::from_ref(line)).last().context("a line has versions")?;
        let target = bench.scratch("storage/target")?;
        prepare(restic::restore(bench, &repository, &target).args(["--tag", &name]))?;
        check_same("restic", tree, &target)?;
    }
    row(bench, "restic", usage, &repository)
}

fn run_borg(bench: &Bench, lines: &[Line]) -> Result<Row> {
    let repository = bench.scratch("storage/borg")?;
    prepare(&mut borg::init(bench, &repository))?;
    let mut usage = Usage::default();
    for (_, name, tree) in versions(lines) {
        usage = usage.then(measure(bench, &borg::create(bench, &repository, &name, tree))?);
    }
    for line in lines {
        let (_, name, tree) = versions(std::slice::from_ref(line)).last().context("a line has versions")?;
        let target = bench.scratch("storage/target")?;
        fs::create_dir_all(&target)?;
        prepare(&mut borg::extract(bench, &repository, &name, &target))?;
        check_same("borg", tree, &target)?;
    }
    row(bench, "borg", usage, &repository)
}

fn run_ours(bench: &Bench, lines: &[Line]) -> Result<Row> {
    let realm = Ours::start_without_bundles(bench)?;
    let mut usage = Usage::default();
    for line in lines {
        for tree in &line.versions {
            usage = usage.then(realm.publish_to(line.channel, tree)?);
        }
    }
    for line in lines {
        let tree = line.versions.last().context("a line has versions")?;
        let target = bench.scratch("storage/target")?;
        let host = line.channel.replace('/', "-");
        realm.trust(&host, realm.url())?;
        prepare(&mut realm.sync_channel(&host, realm.url(), line.channel, &target))?;
        check_same("smart-sync", tree, &target)?;
    }
    let data = realm.data().to_owned();
    drop(realm);
    let mut command = bench.environment.command(program::built("smart-sync-server"));
    usage = usage.then(measure(bench, command.arg("see-through").arg("--data").arg(&data))?);
    for _ in 0..2 {
        age_marks(&data);
        let mut command = bench.environment.command(program::built("smart-sync-server"));
        command.arg("gc").arg("--data").arg(&data).args(["--yes", "--keep", "1000", "--grace-hours", "0"]);
        usage = usage.then(measure(bench, &command)?);
    }
    let mut ours = Row::new("smart-sync-server");
    ours.usages.push(usage);
    ours.stored = Some(stored(bench, &data.join("store/packs"))? + catalogue_size(&data)?);
    check_sound(bench, &data)?;
    Ok(ours)
}

fn catalogue_size(data: &Path) -> Result<u64> {
    Ok(fs::metadata(data.join("store/catalogue.sqlite")).context("looking at the catalogue")?.len())
}

/// What is left is whole.
fn check_sound(bench: &Bench, data: &Path) -> Result<()> {
    let mut command = bench.environment.command(program::built("smart-sync-server"));
    prepare(command.arg("check").arg("--data").arg(data)).map(drop)
}

fn row(bench: &Bench, name: &str, usage: Usage, directory: &Path) -> Result<Row> {
    let mut row = Row::new(name);
    row.usages.push(usage);
    row.stored = Some(stored(bench, directory)?);
    Ok(row)
}
