//! A mirror of many distfiles: how soon it answers after a start, and how soon each answer begins.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::bench::Bench;
use crate::data;
use crate::loader::{self, Request};
use crate::measure::Usage;
use crate::ours::Ours;
use crate::report::{Bar, Row, Section, Table};

pub(super) const CHANNEL: &str = "repos/distfiles";
/// Files that are asked for, one after the other.
const ASKED: u32 = 2_000;
const START_MAX: Duration = Duration::from_secs(2);
const FIRST_BYTE_MAX: Duration = Duration::from_millis(5);

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let count = bench.scale.distfiles;
    let files = data::distfiles(bench, count)?;
    let asked = requests(bench, &files, "", ASKED.min(count))?;
    let layout = asked.iter().map(|request| by_digest(bench, request)).collect::<Result<Vec<_>>>()?;
    let mut published = Row::new("publishing all of them: client and server");
    let mut started = Row::new("from start to the first answer");
    let mut table = Table {
        head: ["", "median, ms", "99 of 100, ms", "last, ms"].map(str::to_owned).to_vec(),
        rows: Vec::new(),
    };
    let mut medians = Vec::new();
    if !bench.peers_only() {
        let mut realm = Ours::start_unlimited(bench)?;
        let [client, server] = realm.publish_kind(CHANNEL, "distfiles", &files)?;
        published.usages.push(Usage { cpu: client.cpu + server.cpu, ..client });
        for run in 0..bench.runs {
            let (restarted, listening) = realm.restart_timed();
            realm = restarted;
            let begun = Instant::now();
            let first = layout.first().context("something is asked for")?;
            loader::first_bytes(realm.address(), &below(CHANNEL, std::slice::from_ref(first)))?;
            started.usages.push(Usage { wall: listening + begun.elapsed(), ..Usage::default() });
            for (what, requests) in [("by its name", &asked), ("by the digest of its name", &layout)] {
                let requests = below(CHANNEL, requests);
                let mut times = loader::first_bytes(realm.address(), &requests)?;
                times.sort_unstable();
                let at = |share: usize| times[(times.len() - 1) * share / 100];
                medians.push(at(50));
                let cells =
                    [at(50), at(99), at(100)].map(|time| format!("{:.2}", time.as_secs_f64() * 1000.0));
                let mut row = vec![format!("{what}, run {}", run + 1)];
                row.extend(cells);
                table.rows.push(row);
            }
        }
        check(&realm, &files, &asked)?;
    }
    let bars = vec![
        Bar::compare("a start under 2 s", started.wall(), Some(START_MAX), |ours, most| ours < most),
        Bar::compare(
            "the first byte of a GET under 5 ms at the median, in every run",
            medians.iter().max().copied(),
            Some(FIRST_BYTE_MAX),
            |ours, most| ours < most,
        ),
    ];
    let method = format!(
        "{count} distfiles of 1 to 4 KiB that nothing compresses, published as one tree. The server is started anew, \
         and asked for a file by the digest of its name, which is not answered before it has learnt those of the \
         tree. Then {} files are fetched, one after the other over one connection, by their names and by the digests \
         of their names; times are from the request to the first byte of the body. Afterwards all of these are \
         compared with the files.",
        asked.len()
    );
    let mut rows = vec![published, started];
    rows.retain(|row| !row.usages.is_empty());
    Ok(Section { title: "A mirror of many distfiles".to_owned(), method, tables: vec![table], rows, bars })
}

/// Requests of files that lie all over the directory.
pub(super) fn requests(bench: &Bench, files: &Path, prefix: &str, asked: u32) -> Result<Vec<Request>> {
    let count = bench.scale.distfiles;
    let request = |number: u32| {
        // A step that shares no factor with the number of files meets each once.
        let name = data::distfile(u32::try_from(u64::from(number) * 7919 % u64::from(count))?);
        let path = files.join(&name);
        let size = std::fs::metadata(&path).with_context(|| format!("finding {}", path.display()))?.len();
        Ok(Request { path: format!("{prefix}/{name}"), size })
    };
    (0..asked).map(request).collect()
}

/// The same file by GLEP 75's `filename-hash BLAKE2B 8`.
fn by_digest(bench: &Bench, request: &Request) -> Result<Request> {
    let name = request.path.trim_start_matches('/');
    let work = bench.environment.path("name");
    std::fs::write(&work, name).context("writing a name")?;
    let sum = crate::bench::prepare(bench.environment.command("b2sum").arg(&work))?;
    let directory = sum.get(..2).context("a digest is printed first")?;
    Ok(Request { path: format!("/{directory}/{name}"), size: request.size })
}

fn below(channel: &str, requests: &[Request]) -> Vec<Request> {
    let moved =
        |request: &Request| Request { path: format!("/{channel}{}", request.path), size: request.size };
    requests.iter().map(moved).collect()
}

fn check(realm: &Ours<'_>, files: &Path, asked: &[Request]) -> Result<()> {
    for request in asked {
        let served = loader::digest(realm.address(), &format!("/{CHANNEL}{}", request.path), request.size)?;
        let path = files.join(request.path.trim_start_matches('/'));
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(served == blake3::hash(&bytes), "{} is served otherwise", request.path);
    }
    Ok(())
}
