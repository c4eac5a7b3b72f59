//! `check`: every byte of the store is read and hashed again, and what a fault affects is named.
//!
//! Repairing is asked for: a mirror brings packs back whole, and what nobody has any more is given up, so that the
//! store says that it is missing, and whoever publishes the same tree again is asked for it.

mod affected;
mod discard;
mod mirror;
mod output;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use smart_sync_store::backend::PackFile;
use smart_sync_store::check::{Finding, Report, check};
use smart_sync_store::count::counted;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ContentId;

use super::Failure;
use crate::args::CheckArgs;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::realm::Realm;
use affected::{Affected, affected};
use output::Output;

pub(super) async fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    let output = Output { is_json: args.json };
    let sound = super::log::audit(&args.data)?;
    output.say(&sound, &sound.to_json())?;
    let mut state = State::examine(&realm).await?;
    state.show(output)?;
    if let Some(mirror) = args.mirror.as_ref().filter(|_| state.is_damaged()) {
        mirror::repair(&realm.store, &state.damaged(), mirror, args.yes, output).await?;
        state = state.after(&realm, args.yes).await?;
    }
    if args.discard && state.is_damaged() {
        discard::discard(&realm.store, &state.damaged(), args.yes, output).await?;
        state = state.after(&realm, args.yes).await?;
    }
    state.conclude(output)
}

/// The store as it was found.
struct State {
    report: Report,
    affected: Vec<Affected>,
    /// Contents that are there and that this program cannot rebuild.
    not_rebuildable: Vec<(Domain, ContentId)>,
}

impl State {
    /// Reads everything. Where all is there, whatever was in doubt before is settled.
    async fn examine(realm: &Arc<Realm>) -> anyhow::Result<Self> {
        let catalogue = realm.store.catalogue();
        let doubt = catalogue.doubt()?;
        let report = check(&realm.store).await?;
        let (of_realm, lost) = (Arc::clone(realm), report.lost.clone());
        let affected = tokio::task::spawn_blocking(move || affected(&of_realm, &lost)).await??;
        // What is damaged is told already.
        let not_rebuildable =
            if report.is_clean() { realm.store.not_rebuildable().await? } else { Vec::new() };
        let state = Self { report, affected, not_rebuildable };
        if let Some(doubt) = doubt.filter(|_| state.is_whole()) {
            catalogue.settle(doubt)?;
        }
        Ok(state)
    }

    /// The state after a repair, which is another one only if something was done.
    async fn after(self, realm: &Arc<Realm>, is_done: bool) -> anyhow::Result<Self> {
        if is_done { Self::examine(realm).await } else { Ok(self) }
    }

    fn is_whole(&self) -> bool {
        self.report.is_clean() && self.affected.is_empty() && self.not_rebuildable.is_empty()
    }

    fn is_damaged(&self) -> bool {
        self.report.findings.iter().any(is_of_file)
    }

    /// The packs that another copy would make whole.
    fn damaged(&self) -> BTreeSet<PackFile> {
        self.report
            .findings
            .iter()
            .filter(|finding| is_of_file(finding))
            .map(Finding::file)
            .cloned()
            .collect()
    }

    fn show(&self, output: Output) -> anyhow::Result<()> {
        for finding in &self.report.findings {
            let text = chain(finding);
            let pack = finding.file().to_string();
            output.say(&text, &json!({ "event": "fault", "pack": pack, "fault": text }))?;
        }
        for affected in &self.affected {
            output.say(&format_args!("affected: {affected}"), &affected.to_json())?;
        }
        for (domain, content) in &self.not_rebuildable {
            let text =
                format!("content {content} of {domain} was compressed by a library that is not built in");
            output.say(&text, &json!({ "event": "not-rebuildable", "domain": domain.as_str(), "content": content.to_string() }))?;
        }
        Ok(())
    }

    fn conclude(self, output: Output) -> anyhow::Result<()> {
        let Report { findings, packs, objects, bytes, .. } = &self.report;
        let is_whole = self.is_whole();
        let summary = json!({
            "event": "summary", "whole": is_whole, "packs": packs, "objects": objects, "bytes": bytes,
            "faults": findings.len(), "affected": self.affected.len(),
        });
        if is_whole {
            let packs = counted(*packs as u64, "pack", "packs");
            let objects = counted(*objects as u64, "object", "objects");
            let bytes = counted(*bytes, "byte", "bytes");
            return output.say(&format_args!("{packs}, {objects}, {bytes}: all as they should be"), &summary);
        }
        output.say_to_programs(&summary)?;
        Err(Failure::Damaged(format!(
            "damaged; faults: {}, paths affected: {}\nhint: {}",
            findings.len(),
            self.affected.len(),
            self.hint()
        ))
        .into())
    }

    fn hint(&self) -> &'static str {
        if self.is_damaged() {
            "`check --mirror URL --yes` fetches what is damaged from a mirror; else copy the packs that are named back \
             from a backup; else `check --discard --yes` gives up what cannot be read, and publishing the same trees \
             again brings it back"
        } else if !self.not_rebuildable.is_empty() {
            "run `see-through --undo` with the program that stored them, or publish the artifacts again"
        } else if self.report.is_clean() {
            "publish the trees that are named again: what they lack is uploaded, also where nothing has changed"
        } else {
            "stop the server and delete store/catalogue.sqlite: it is made anew from the packs"
        }
    }
}

/// Whether a finding is about the bytes of a pack, not about what the catalogue says of it.
fn is_of_file(finding: &Finding) -> bool {
    !matches!(finding, Finding::UnknownPack { .. } | Finding::CatalogueDiffers { .. })
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
