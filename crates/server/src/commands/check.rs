//! `check`: every byte of the store is read and hashed again, and what a fault affects is named.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::json;
use smart_sync_store::check::{affected_contents, check};
use smart_sync_store::domain::Domain;
use smart_sync_store::error::Fault;
use smart_sync_store::manifest::{Content, Manifest, TreePath};
use smart_sync_store::object::ObjectKey;

use super::{Failure, print, repair};
use crate::args::CheckArgs;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::realm::pages::StorePages;
use crate::realm::{Realm, timestamp};
use repair::Repair;

pub(super) async fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    super::log::audit(&args.data)?;
    let report = check(&realm.store).await?;
    for finding in &report.findings {
        let text = chain(finding);
        if args.json {
            print(format_args!("{}", json!({ "fault": text, "pack": finding.file().to_string() })))?;
        } else {
            print(format_args!("{text}"))?;
        }
    }
    let affected = {
        let (realm, lost) = (Arc::clone(&realm), report.lost.clone());
        tokio::task::spawn_blocking(move || affected(&realm, &lost)).await??
    };
    for line in &affected {
        if args.json {
            print(format_args!("{}", json!({ "affected": line })))?;
        } else {
            print(format_args!("affected: {line}"))?;
        }
    }
    if report.is_clean() && affected.is_empty() {
        return print(format_args!(
            "{} {}, {} objects, {} bytes: all as they should be",
            report.packs,
            if report.packs == 1 { "pack" } else { "packs" },
            report.objects,
            report.bytes
        ));
    }
    if let Some(mirror) = args.mirror.as_ref().filter(|_| !report.is_clean())
        && repair::repair(&realm.store, &report, mirror, args.yes).await? == Repair::Whole
    {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "damaged; faults: {}, paths affected: {}\nhint: `check --mirror URL --yes` fetches what is damaged from a mirror; \
         else copy the packs that are named back from a backup",
        report.findings.len(),
        affected.len()
    ))
    .into())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The channels, refs and paths that cannot be read: because these objects are lost, or because the store knows
/// nothing of what they need, as after a pack went and the catalogue was made anew.
fn affected(realm: &Realm, lost: &BTreeMap<Domain, BTreeSet<ObjectKey>>) -> anyhow::Result<Vec<String>> {
    let view = realm.newest_view()?;
    let mut lines = Vec::new();
    let mut looked_at = HashSet::new();
    let nothing = BTreeSet::new();
    for state in realm.refs(&view)?.iter() {
        let (channel, reference) = (&state.publication.channel, &state.publication.reference);
        let domain = realm.domain(channel)?;
        let lost = lost.get(&domain).unwrap_or(&nothing);
        let Some(manifest) = state.publication.manifest else { continue };
        if !looked_at.insert((domain.as_str().to_owned(), manifest.id)) {
            continue; // Another ref is the same tree.
        }
        let pages = StorePages::new(Arc::clone(&realm.store), domain.clone());
        let tree = Tree { realm, domain, lost, name: format!("{channel} {reference}") };
        match Manifest::open(pages, manifest.id, Some(manifest.bytes)) {
            Ok(manifest) => tree.affected(&manifest, &mut lines)?,
            Err(error) => lines.push(format!("{}: the whole tree ({})", tree.name, chain(&error))),
        }
    }
    Ok(lines)
}

struct Tree<'a> {
    realm: &'a Realm,
    domain: Domain,
    lost: &'a BTreeSet<ObjectKey>,
    name: String,
}

impl Tree<'_> {
    fn affected(&self, manifest: &Manifest<StorePages>, lines: &mut Vec<String>) -> anyhow::Result<()> {
        /// Entries that are looked at together.
        const BATCH: usize = 1024;
        let mut batch = Vec::new();
        for entry in manifest {
            match entry {
                Ok(entry) => batch.extend(entry.content().map(|content| (*content, entry.path.clone()))),
                Err(error) => {
                    self.flush(&mut batch, lines)?;
                    lines.push(format!("{}: the rest of the tree ({})", self.name, chain(&error)));
                    return Ok(());
                }
            }
            if batch.len() >= BATCH {
                self.flush(&mut batch, lines)?;
            }
        }
        self.flush(&mut batch, lines)
    }

    /// Whether a content cannot be read, or turns out wrong when it is.
    fn is_missing(&self, content: Content) -> anyhow::Result<bool> {
        let contents = [content];
        let missing = self.realm.store.missing_contents(&self.domain, &contents, timestamp(now()));
        match tokio::runtime::Handle::current().block_on(missing) {
            Ok(missing) => Ok(!missing.is_empty()),
            Err(error) if matches!(error.fault(), Fault::Absent | Fault::Corrupt) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&self, batch: &mut Vec<(Content, TreePath)>, lines: &mut Vec<String>) -> anyhow::Result<()> {
        let contents: Vec<Content> = batch.iter().map(|(content, _)| *content).collect();
        let affected = affected_contents(&self.realm.store, &self.domain, self.lost, &contents);
        let affected = tokio::runtime::Handle::current().block_on(affected)?;
        let mut affected: HashSet<_> = affected.into_iter().map(|affected| affected.content.id).collect();
        for content in contents {
            if !affected.contains(&content.id) && self.is_missing(content)? {
                affected.insert(content.id);
            }
        }
        for (content, path) in batch.drain(..) {
            if affected.contains(&content.id) {
                lines.push(format!("{}: {path}", self.name));
            }
        }
        Ok(())
    }
}
