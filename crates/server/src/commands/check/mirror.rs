//! `check --mirror`: packs that are damaged or lost, fetched again from somebody who has them.
//!
//! A pack is named by its hash, so it does not matter who is asked: what comes is the pack, or it is thrown away.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use reqwest::{Client, Url};
use serde_json::json;
use smart_sync_store::Store;
use smart_sync_store::backend::PackFile;
use smart_sync_store::count::counted;
use smart_sync_store::id::PackId;
use smart_sync_store::pack::{PACK_LEN_MAX, VerifiedPack};

use super::super::Failure;
use super::output::Output;

/// Fetches these packs from a mirror, and replaces them if that is allowed.
pub(super) async fn repair(
    store: &Store,
    damaged: &BTreeSet<PackFile>,
    mirror: &str,
    is_allowed: bool,
    output: Output,
) -> anyhow::Result<()> {
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
    for file in damaged {
        let pack = file.to_string();
        match fetch(&client, &mirror, file.id).await {
            Ok(found) if !is_allowed => {
                let bytes = found.bytes().len();
                let counted = counted(bytes as u64, "byte", "bytes");
                let text = format_args!("{file}: the mirror has it, {counted}; add --yes to replace it");
                output.say(&text, &json!({ "event": "available", "pack": pack, "bytes": bytes }))?;
            }
            Ok(found) if store.repair_pack(&file.domain, &found).await? => {
                let text = format_args!("{file}: replaced");
                output.say(&text, &json!({ "event": "replaced", "pack": pack }))?;
            }
            Ok(_) => {
                let reason = "the catalogue does not know it; nothing was replaced";
                not_replaced(file, reason, output)?;
            }
            Err(error) => not_replaced(file, &format!("{error:#}"), output)?,
        }
    }
    Ok(())
}

fn not_replaced(file: &PackFile, reason: &str, output: Output) -> anyhow::Result<()> {
    let event = json!({ "event": "not_replaced", "pack": file.to_string(), "reason": reason });
    output.say(&format_args!("{file}: {reason}"), &event)
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
