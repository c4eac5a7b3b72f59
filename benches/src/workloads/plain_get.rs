//! A large file by plain GET over several connections.

use anyhow::{Result, bail};

use crate::bench::Bench;
use crate::daemon::group_usage;
use crate::data;
use crate::loader;
use crate::measure::Usage;
use crate::ours::Ours;
use crate::peers::nginx;
use crate::report::{Bar, Row, Section};

const CONNECTIONS: usize = 8;
/// How often each connection fetches the file in one run.
const TIMES: usize = 4;

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let size = bench.scale.plain_file;
    let tree = data::one_file(bench, size)?;
    let mut theirs = Row::new("nginx");
    let mut ours = Row::new("smart-sync-server");
    let web = nginx::serve(bench, &tree)?;
    let realm = if bench.peers_only() { None } else { Some(Ours::start(bench)?) };
    let expected = loader::digest(&web.address(), "/file", size)?;
    let path = Ours::plain_path("file");
    if let Some(realm) = &realm {
        realm.publish(&tree)?;
        if loader::digest(realm.address(), &path, size)? != expected {
            bail!("smart-sync-server served other bytes than nginx");
        }
    }
    for _ in 0..bench.runs {
        one_run(&mut theirs, &web.address(), "/file", web.process(), size)?;
        if let Some(realm) = &realm {
            one_run(&mut ours, realm.address(), &path, realm.process(), size)?;
        }
    }
    let bars = vec![Bar::compare(
        "at least half of nginx's throughput",
        ours.wall(),
        theirs.wall(),
        |ours, theirs| ours <= theirs * 2,
    )];
    let mut rows = vec![theirs, ours];
    rows.retain(|row| !row.usages.is_empty());
    let method = format!(
        "One file of {} MiB, {TIMES} times over each of {CONNECTIONS} connections at once, read and thrown away by \
         the same loader on the same machine. CPU is the server's, and so is memory, summed over its processes.",
        size / (1024 * 1024)
    );
    Ok(Section { title: "Plain GET".to_owned(), method, tables: Vec::new(), rows, bars })
}

fn one_run(row: &mut Row, address: &str, path: &str, process: u32, size: u64) -> Result<()> {
    let before = group_usage(process)?;
    let wall = loader::load(address, path, CONNECTIONS, TIMES, size)?;
    let after = group_usage(process)?;
    row.usages.push(Usage { wall, cpu: after.cpu.saturating_sub(before.cpu), memory: after.memory });
    let bytes = u128::from(size) * CONNECTIONS as u128 * TIMES as u128;
    let rate = bytes * 1_000_000 / wall.as_micros().max(1);
    row.throughput.push(u64::try_from(rate).unwrap_or(u64::MAX));
    Ok(())
}
