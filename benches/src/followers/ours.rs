//! smart-sync on one pair, with the bundle that is quick to make and with the best one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use smart_sync_tests::CountingProxy;
use smart_sync_tests::proxy::Protocol;

use super::{Measured, place};
use crate::bench::{Bench, check_same, prepare};
use crate::daemon::GroupUsage;
use crate::data::Pair;
use crate::measure::measure;
use crate::ours::Ours;

/// How long the best variant may take.
const BEST_TIMEOUT: Duration = Duration::from_secs(3600);
/// How often is asked for it.
const BEST_INTERVAL: Duration = Duration::from_millis(200);

/// What is at a bundle's URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// No bundle: the client goes by chunks.
    None,
    /// The variant that is quick to make.
    Quick,
    /// The one that takes its place when it is made.
    Smallest,
}

/// An update by our programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OurUpdate {
    /// Before the best variant was there; none where it was there at once.
    pub(crate) quick: Option<Measured>,
    pub(crate) best: Measured,
    /// What was at the URL in the end.
    pub(crate) variant: Variant,
    /// What the server had used when everything was prepared, its publishing included.
    pub(crate) server: GroupUsage,
}

/// Updates two hosts: one as soon as the new version is published, one when the best bundle is there.
pub(crate) fn update(bench: &Bench, pair: &Pair) -> Result<OurUpdate> {
    let realm = Ours::start(bench)?;
    let place = place(bench)?;
    let proxy = CountingProxy::start(realm.address(), Protocol::Http)?;
    let hosts = [("host-quick", place.join("quick")), ("host-best", place.join("best"))];
    realm.publish(&pair.old)?;
    let from = realm.manifest()?;
    for (host, target) in &hosts {
        realm.trust(host, &proxy.url())?;
        prepare(&mut realm.sync(host, &proxy.url(), target))?;
    }
    realm.publish(&pair.new)?;
    let to = realm.manifest()?;
    let step = |host: &str, target: &Path, prefer: &str| -> Result<Measured> {
        let mut sync = realm.sync(host, &proxy.url(), target);
        sync.args(["--prefer", prefer]);
        proxy.take_totals();
        let usage = measure(bench, &sync)?;
        let wire = proxy.totals();
        check_same("smart-sync", &pair.new, target)?;
        Ok(Measured { usage, wire })
    };
    let [(quick_host, quick_target), (best_host, best_target)] = &hosts;
    let quick = step(quick_host, quick_target, "time")?;
    let was_quick = variant(&realm, &from, &to) != Variant::Smallest;
    let variant = wait_for_best(&realm, &from, &to)?;
    let server = realm.server_usage()?;
    let best = step(best_host, best_target, "bytes")?;
    let quick = (was_quick && variant != Variant::None).then_some(quick);
    Ok(OurUpdate { quick, best, variant, server })
}

/// Installs a tree where nothing is, with the best bundle that there is for it.
pub(crate) fn first_install(bench: &Bench, tree: &Path) -> Result<OurUpdate> {
    let realm = Ours::start(bench)?;
    let place = place(bench)?;
    let proxy = CountingProxy::start(realm.address(), Protocol::Http)?;
    realm.publish(tree)?;
    let to = realm.manifest()?;
    let step = |host: &str, target: &Path| -> Result<Measured> {
        realm.trust(host, &proxy.url())?;
        proxy.take_totals();
        let usage = measure(bench, &realm.sync(host, &proxy.url(), target))?;
        let wire = proxy.totals();
        check_same("smart-sync", tree, target)?;
        Ok(Measured { usage, wire })
    };
    let quick = step("host-quick", &place.join("quick"))?;
    let was_quick = variant(&realm, "none", &to) != Variant::Smallest;
    let variant = wait_for_best(&realm, "none", &to)?;
    let server = realm.server_usage()?;
    fs::remove_dir_all(place.join("quick")).context("removing the first target")?;
    let best = step("host-best", &place.join("best"))?;
    let quick = (was_quick && variant != Variant::None).then_some(quick);
    Ok(OurUpdate { quick, best, variant, server })
}

/// Waits until the best variant of a bundle is there. What there is without bundles needs no waiting.
pub(crate) fn wait_for_best(realm: &Ours<'_>, from: &str, to: &str) -> Result<Variant> {
    let deadline = Instant::now() + BEST_TIMEOUT;
    loop {
        match variant(realm, from, to) {
            Variant::Quick if Instant::now() > deadline => bail!("the best bundle is not made in time"),
            Variant::Quick => std::thread::sleep(BEST_INTERVAL),
            found => return Ok(found),
        }
    }
}

/// Asks what is at a bundle's URL.
fn variant(realm: &Ours<'_>, from: &str, to: &str) -> Variant {
    let head = realm.head(&Ours::bundle_path(from, to));
    variant_of(head.status, head.header("etag"))
}

fn variant_of(status: u16, etag: &str) -> Variant {
    match status {
        200 if etag.starts_with("\"best-") => Variant::Smallest,
        // Busy is not an answer yet.
        200 | 429 | 503 => Variant::Quick,
        _ => Variant::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_etag_names_the_variant() {
        assert_eq!(variant_of(200, "\"best-1f00\""), Variant::Smallest);
        assert_eq!(variant_of(200, "\"quick-1f00\""), Variant::Quick);
        assert_eq!(variant_of(503, ""), Variant::Quick);
        assert_eq!(variant_of(404, ""), Variant::None);
    }
}
