//! Packages and distfiles by plain GET, as many clients of a mirror ask for them, beside nginx.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{distfiles, packages};
use crate::bench::Bench;
use crate::daemon::{Daemon, group_usage, wait_until_quiet};
use crate::data;
use crate::loader::{self, Request};
use crate::measure::Usage;
use crate::ours::Ours;
use crate::peers::nginx;
use crate::report::{Bar, Row, Section};

const CLIENTS: usize = 32;
/// Distfiles that all clients together fetch in one run.
const DISTFILES: u32 = 20_000;

/// A tree, and what of it is asked for.
struct Served {
    what: &'static str,
    channel: &'static str,
    kind: &'static str,
    directory: PathBuf,
    requests: Vec<Request>,
    theirs: Row,
    ours: Row,
}

impl Served {
    fn new(
        what: &'static str,
        (channel, kind): (&'static str, &'static str),
        directory: PathBuf,
        requests: Vec<Request>,
    ) -> Self {
        let (theirs, ours) =
            (Row::new(format!("nginx, {what}")), Row::new(format!("smart-sync-server, {what}")));
        Self { what, channel, kind, directory, requests, theirs, ours }
    }

    fn ours_of(&self) -> Vec<Request> {
        let moved = |request: &Request| Request {
            path: format!("/{}{}", self.channel, request.path),
            size: request.size,
        };
        self.requests.iter().map(moved).collect()
    }
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let package_files = data::generated_packages(bench, bench.scale.binary_packages)?;
    let package_requests = packages_below(&package_files)?;
    let small = data::distfiles(bench, bench.scale.distfiles)?;
    let small_requests = distfiles::requests(bench, &small, "", DISTFILES.min(bench.scale.distfiles))?;
    let mut all = [
        Served::new("packages", (packages::CHANNEL, "binpkgs"), package_files, package_requests),
        Served::new("distfiles", (distfiles::CHANNEL, "distfiles"), small, small_requests),
    ];
    let realm = if bench.peers_only() { None } else { Some(Ours::start_unlimited(bench)?) };
    for served in &mut all {
        let web = nginx::serve(bench, &served.directory)?;
        if let Some(realm) = &realm {
            realm.publish_kind(served.channel, served.kind, &served.directory)?;
            check(served, realm, &web)?;
            wait_until_quiet(realm.process())?;
        }
        for _ in 0..bench.runs {
            let requests = &served.requests;
            served.theirs.push(one_run(&web.address(), web.process(), requests)?);
            if let Some(realm) = &realm {
                let requests = served.ours_of();
                served.ours.push(one_run(realm.address(), realm.process(), &requests)?);
            }
        }
    }
    let bars = all.iter().map(|served| {
        let text = format!("{}: at least half of nginx's throughput", served.what);
        let bar =
            Bar::compare(&text, served.ours.wall(), served.theirs.wall(), |ours, theirs| ours <= theirs * 2);
        match served.theirs.wall().zip(served.ours.wall()) {
            Some((theirs, ours)) => {
                bar.with_detail(format!("{:.2} of it", theirs.as_secs_f64() / ours.as_secs_f64()))
            }
            None => bar,
        }
    });
    let bars = bars.collect();
    let method = format!(
        "{CLIENTS} connections at once, each of which fetches one file after the other: {} packages of 2 MiB, and {} \
         distfiles of 1 to 4 KiB, out of the trees of the sections above. The loader is the same, on the same machine, \
         and throws away what it reads; wall time is that of all files. CPU is the server's, and so is memory, summed \
         over its processes. Neither server has a limit of requests or writes a line for each. Before that, what both serve is compared, \
         and what smart-sync-server does in the background with what was published has ended.",
        all[0].requests.len(),
        all[1].requests.len()
    );
    let mut rows: Vec<Row> = all.into_iter().flat_map(|served| [served.theirs, served.ours]).collect();
    rows.retain(|row| !row.usages.is_empty());
    Ok(Section { title: "Plain GET of a mirror".to_owned(), method, tables: Vec::new(), rows, bars })
}

impl Row {
    fn push(&mut self, (usage, rate): (Usage, u64)) {
        self.usages.push(usage);
        self.throughput.push(rate);
    }
}

fn one_run(address: &str, process: u32, requests: &[Request]) -> Result<(Usage, u64)> {
    let before = group_usage(process)?;
    let wall = loader::load_many(address, requests, CLIENTS)?;
    let after = group_usage(process)?;
    let bytes: u128 = requests.iter().map(|request| u128::from(request.size)).sum();
    let rate = u64::try_from(bytes * 1_000_000 / wall.as_micros().max(1)).unwrap_or(u64::MAX);
    Ok((Usage { wall, cpu: after.cpu.saturating_sub(before.cpu), memory: after.memory }, rate))
}

fn packages_below(directory: &Path) -> Result<Vec<Request>> {
    let request = |(name, path): (PathBuf, PathBuf)| {
        let size = std::fs::metadata(&path).with_context(|| format!("finding {}", path.display()))?.len();
        Ok(Request { path: format!("/{}", name.display()), size })
    };
    data::files_below(directory)?.into_iter().map(request).collect()
}

fn check(served: &Served, realm: &Ours<'_>, web: &Daemon) -> Result<()> {
    for (ours, theirs) in served.ours_of().iter().zip(&served.requests).step_by(10) {
        let found = loader::digest(realm.address(), &ours.path, ours.size)?;
        ensure!(
            found == loader::digest(&web.address(), &theirs.path, theirs.size)?,
            "smart-sync-server served other bytes than nginx for {}",
            theirs.path
        );
    }
    Ok(())
}
