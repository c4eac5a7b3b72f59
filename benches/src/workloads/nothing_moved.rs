//! An update that finds the tree unchanged, while the log stood still or other channels moved.

use anyhow::Result;
use smart_sync_tests::proxy::Protocol;
use smart_sync_tests::{CountingProxy, Totals};

use crate::bench::{Bench, prepare};
use crate::data;
use crate::measure::measure;
use crate::ours::Ours;
use crate::report::{Bar, Row, Section};

/// Publications to other channels between two updates.
const OTHERS: u32 = 10;
const STILL_MAX: u64 = 1024;
const MOVED_MAX: u64 = 2560;

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let pair = data::dotfiles(bench)?;
    let mut still = Row::new("smart-sync, nothing new");
    let mut moved = Row::new("smart-sync, other channels moved");
    if !bench.peers_only() {
        let realm = Ours::start(bench)?;
        let proxy = CountingProxy::start(realm.address(), Protocol::Http)?;
        let target = bench.scratch("moved/target")?;
        realm.publish(&pair.old)?;
        realm.trust("host", &proxy.url())?;
        prepare(&mut realm.sync("host", &proxy.url(), &target))?;
        proxy.take_totals();
        still.usages.push(measure(bench, &realm.sync("host", &proxy.url(), &target))?);
        still.wire = Some(proxy.totals());
        for number in 0..OTHERS {
            realm.publish_to(&format!("repos/other-{number}"), &pair.new)?;
        }
        proxy.take_totals();
        moved.usages.push(measure(bench, &realm.sync("host", &proxy.url(), &target))?);
        moved.wire = Some(proxy.totals());
    }
    let bytes = |row: &Row| row.wire.map(Totals::bytes);
    let requests = |row: &Row| row.wire.map(|wire| wire.requests);
    let bars = vec![
        Bar::at_most("nothing new: at most 1 KiB in both directions", bytes(&still), STILL_MAX),
        Bar::at_most("nothing new: one request", requests(&still), 1),
        Bar::at_most("other channels moved: at most 2.5 KiB in both directions", bytes(&moved), MOVED_MAX),
    ];
    let method = format!(
        "A small tree that has not changed: once with a log that stood still, once after {OTHERS} publications to \
         other channels, each of which makes the log longer."
    );
    let mut rows = vec![still, moved];
    rows.retain(|row| !row.usages.is_empty());
    Ok(Section { title: "Nothing to update".to_owned(), method, tables: Vec::new(), rows, bars })
}
