//! A sync that finds nothing new.

use anyhow::Result;
use smart_sync_tests::CountingProxy;
use smart_sync_tests::proxy::Protocol;

use super::sizes;
use crate::bench::{Bench, check_same, prepare};
use crate::data;
use crate::measure::measure;
use crate::ours::Ours;
use crate::peers::rsync;
use crate::report::{Bar, Row, Section};

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let tree = data::many_files(bench)?;
    let mut theirs = Row::new("rsync -a, local daemon");
    let mut ours = Row::new("smart-sync");
    let mut trusting = Row::new("smart-sync --skip-validation");

    let daemon = rsync::serve(bench, &tree)?;
    let rsync_target = bench.scratch("rsync-target")?;
    prepare(&mut rsync::sync(bench, &daemon.address(), &rsync_target))?;
    check_same("rsync", &tree, &rsync_target)?;

    let realm = if bench.peers_only() { None } else { Some(Ours::start(bench)?) };
    let our_target = bench.scratch("our-target")?;
    if let Some(realm) = &realm {
        realm.publish(&tree)?;
        realm.trust("host", realm.url())?;
        prepare(&mut realm.sync("host", realm.url(), &our_target))?;
        check_same("smart-sync", &tree, &our_target)?;
    }
    for _ in 0..bench.runs {
        theirs.usages.push(measure(bench, &rsync::sync(bench, &daemon.address(), &rsync_target))?);
        if let Some(realm) = &realm {
            let mut command = realm.sync("host", realm.url(), &our_target);
            ours.usages.push(measure(bench, &command)?);
            command.arg("--skip-validation");
            trusting.usages.push(measure(bench, &command)?);
        }
    }
    // Bytes are counted in runs of their own: the proxy would cost the others time.
    let proxy = CountingProxy::start(&daemon.address(), Protocol::Other)?;
    measure(bench, &rsync::sync(bench, &proxy.address().to_string(), &rsync_target))?;
    theirs.wire = Some(proxy.totals());
    if let Some(realm) = &realm {
        let proxy = CountingProxy::start(realm.address(), Protocol::Http)?;
        measure(bench, &realm.sync("host", &proxy.url(), &our_target))?;
        ours.wire = Some(proxy.totals());
    }

    let bars = vec![
        Bar::new(
            "one request, under 1 KiB each way",
            ours.wire.map(|wire| wire.requests == 1 && wire.sent < 1024 && wire.received < 1024),
        ),
        Bar::compare("no more wall time than rsync", ours.wall(), theirs.wall(), |ours, theirs| {
            ours <= theirs
        }),
    ];
    let rows = if bench.peers_only() { vec![theirs] } else { vec![theirs, ours, trusting] };
    let method = format!(
        "A tree ({}) that was synced before and has not changed on either side. rsync compares size and time of \
         every file; smart-sync compares what the stat cache has, re-hashes a sample (not with \
         `--skip-validation`), and verifies that the published version is the newest.",
        sizes(&tree)
    );
    Ok(Section { title: "Nothing new".to_owned(), method, tables: Vec::new(), rows, bars })
}
