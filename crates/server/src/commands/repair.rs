//! `check --mirror`: packs that are damaged or lost, fetched again from somebody who has them.
//!
//! A pack is named by its hash, so it does not matter who is asked: what comes is the pack, or it is thrown away.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use reqwest::{Client, Url};
use smart_sync_store::Store;
use smart_sync_store::backend::PackFile;
use smart_sync_store::check::{Finding, Report, check};
use smart_sync_store::id::PackId;
use smart_sync_store::pack::{PACK_LEN_MAX, VerifiedPack};

use super::{Failure, print};

/// What came of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    /// Everything is as it should be now.
    Whole,
    /// Something is still damaged.
    Damaged,
}

/// Fetches what the report found damaged from a mirror, and replaces it if that is allowed.
pub(super) async fn repair(
    store: &Store,
    report: &Report,
    mirror: &str,
    is_allowed: bool,
) -> anyhow::Result<Repair> {
    let mut mirror: Url = mirror
        .parse()
        .map_err(|error| Failure::Arguments(format!("--mirror {mirror:?} is not a URL: {error}")))?;
    if !mirror.path().ends_with('/') {
        let path = format!("{}/", mirror.path());
        mirror.set_path(&path);
    }
    let client = Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .build()
        .context("preparing for HTTP")?;
    for file in damaged(report) {
        match fetch(&client, &mirror, file.id).await {
            Ok(pack) if !is_allowed => {
                let bytes = pack.bytes().len();
                print(format_args!("{file}: the mirror has it, {bytes} bytes; add --yes to replace it"))?;
            }
            Ok(pack) if store.repair_pack(&file.domain, &pack).await? => {
                print(format_args!("{file}: replaced"))?;
            }
            Ok(_) => print(format_args!("{file}: the catalogue does not know it; nothing was replaced"))?,
            Err(error) => print(format_args!("{file}: {error:#}"))?,
        }
    }
    if !is_allowed {
        return Ok(Repair::Damaged);
    }
    let report = check(store).await?;
    if !report.is_clean() {
        print(format_args!("{} faults are left", report.findings.len()))?;
        return Ok(Repair::Damaged);
    }
    print(format_args!("{} packs, {} objects: all as they should be now", report.packs, report.objects))?;
    Ok(Repair::Whole)
}

/// The packs that another copy would make whole.
fn damaged(report: &Report) -> BTreeSet<&PackFile> {
    let is_of_file = |finding: &&Finding| {
        !matches!(finding, Finding::UnknownPack { .. } | Finding::CatalogueDiffers { .. })
    };
    report.findings.iter().filter(is_of_file).map(Finding::file).collect()
}

async fn fetch(client: &Client, mirror: &Url, id: PackId) -> anyhow::Result<VerifiedPack> {
    let url = mirror.join(&format!("pack/{id}"))?;
    let mut response = client.get(url.clone()).send().await.context("asking the mirror")?;
    if !response.status().is_success() {
        bail!("the mirror does not have it ({})", response.status());
    }
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.with_context(|| format!("reading {url}"))? {
        if bytes.len() + piece.len() > PACK_LEN_MAX {
            bail!("the mirror sends more than a pack may be");
        }
        bytes.extend_from_slice(&piece);
    }
    let pack = VerifiedPack::verify(Bytes::from(bytes)).context("the mirror has a damaged pack too")?;
    if pack.id() != id {
        bail!("the mirror sent the pack {}", pack.id());
    }
    Ok(pack)
}
