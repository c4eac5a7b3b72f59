//! What bundles cost those who make, serve and apply them.

use std::time::Duration;

use anyhow::Result;

use crate::bench::{Bench, check_same, prepare};
use crate::daemon::group_usage;
use crate::data;
use crate::followers::{Variant, wait_for_best};
use crate::limit;
use crate::loader;
use crate::measure::{Usage, measure};
use crate::ours::Ours;
use crate::peers::nginx;
use crate::report::{Bar, Row, Section, short};

/// How often the bundle is fetched, so that the kernel's clock is fine enough.
const TIMES: usize = 64;
const PREPARING_MAX: u64 = 1 << 30;
const APPLYING_MAX: u64 = 256 << 20;
/// Bytes of output for each second of one processor.
const APPLYING_RATE: u64 = 100_000_000;

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let pair = data::kernel_tree(bench)?;
    let limit = limit::of_pair(bench, &pair)?;
    let method = format!(
        "The step of the kernel's tree ({} of changed files). Preparing: what the server used from the publication \
         until the best bundle was there, its memory from its start. Serving: {TIMES} times the bundle, fetched by \
         the same loader from smart-sync-server, and a file of the same size from it and from nginx. Applying: the \
         client's update, everything included, in bytes of changed files for each second of a processor.",
        short(limit.changed)
    );
    let title = "Making, serving and applying bundles".to_owned();
    if bench.peers_only() {
        return Ok(Section { title, method, tables: Vec::new(), rows: Vec::new(), bars: Vec::new() });
    }
    let realm = Ours::start(bench)?;
    let target = bench.scratch("bundles/target")?;
    realm.publish(&pair.old)?;
    let from = realm.manifest()?;
    realm.trust("host", realm.url())?;
    prepare(&mut realm.sync("host", realm.url(), &target))?;

    let before = realm.server_usage()?;
    let start = std::time::Instant::now();
    realm.publish(&pair.new)?;
    let to = realm.manifest()?;
    let variant = wait_for_best(&realm, &from, &to)?;
    let after = realm.server_usage()?;
    let mut preparing = Row::new("preparing the best bundle");
    let cpu = after.cpu.saturating_sub(before.cpu);
    preparing.usages.push(Usage { wall: start.elapsed(), cpu, memory: after.memory });

    let applied = measure(bench, &realm.sync("host", realm.url(), &target))?;
    check_same("smart-sync", &pair.new, &target)?;
    let mut applying = Row::new("applying it");
    let rate = rate(limit.changed, applied.cpu);
    applying.throughput.push(rate);
    applying.usages.push(applied);
    let mut bars = vec![
        Bar::at_most("preparing: at most 1 GiB", preparing.memory(), PREPARING_MAX),
        Bar::at_most("client: under 256 MiB", applying.memory(), APPLYING_MAX - 1),
        Bar::new("applying: over 100 MB of output for a second of a processor", Some(rate > APPLYING_RATE)),
    ];
    let mut rows = vec![preparing, applying];
    let path = Ours::bundle_path(&from, &to);
    if variant == Variant::None {
        bars.push(Bar::new("the second request costs the server no more than a static file", None));
    } else {
        let (serving, bar) = serving(bench, &realm, &path)?;
        rows.extend(serving);
        bars.push(bar);
    }
    Ok(Section { title, method, tables: Vec::new(), rows, bars })
}

/// The server's CPU for a bundle that is there, and for files of its size.
fn serving(bench: &Bench, realm: &Ours<'_>, path: &str) -> Result<(Vec<Row>, Bar)> {
    let size = realm.head(path).header("content-length").parse()?;
    let tree = data::one_file(bench, size)?;
    realm.publish_to("repos/file", &tree)?;
    let web = nginx::serve(bench, &tree)?;
    let one = |what: &str, address: &str, process: u32, path: &str| -> Result<Row> {
        let mut row = Row::new(what);
        for _ in 0..bench.runs {
            let before = group_usage(process)?;
            let wall = loader::load(address, path, 1, TIMES, size)?;
            let after = group_usage(process)?;
            let cpu = after.cpu.saturating_sub(before.cpu);
            row.usages.push(Usage { wall, cpu, memory: after.memory });
        }
        Ok(row)
    };
    let file = "/files/repos/file/main/file";
    let bundle = one("serving the bundle", realm.address(), realm.process(), path)?;
    let ours = one("serving a file of its size", realm.address(), realm.process(), file)?;
    let theirs = one("nginx serving a file of its size", &web.address(), web.process(), "/file")?;
    let text = "the second request costs the server no more than a static file";
    let bar = Bar::compare(text, bundle.cpu(), ours.cpu(), |bundle, file| bundle <= file);
    Ok((vec![bundle, ours, theirs], bar))
}

fn rate(bytes: u64, cpu: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / cpu.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_by_second_of_a_processor() {
        assert_eq!(rate(300, Duration::from_secs(3)), 100);
        assert_eq!(rate(300, Duration::ZERO), 300_000_000);
    }
}
