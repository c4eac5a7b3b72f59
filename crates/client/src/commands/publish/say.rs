//! What is said of a publication, to people and to programs.

use std::fmt::Write as _;

use indicatif::HumanBytes;
use smart_sync_sync::ingest::{Ingested, Statistics};
use smart_sync_sync::name::RefName;
use smart_sync_sync::record::Publication;
use smart_sync_sync::source::Warning;

use super::source::Job;
use super::submit::Shown;
use super::{Publisher, count};

/// The most warnings of one kind of work that are shown one by one.
const WARNINGS_MAX: usize = 20;

impl Publisher<'_> {
    pub(super) fn show_warnings(&self, warnings: &[Warning]) {
        for warning in warnings.iter().take(WARNINGS_MAX) {
            self.output().warning(&warning.to_string());
        }
        if let Some(more) = warnings.len().checked_sub(WARNINGS_MAX).filter(|more| *more > 0) {
            self.output().warning(&format!("and {}", count(more as u64, "more warning", "more warnings")));
        }
    }

    pub(super) fn say_unchanged(&self, reference: &RefName, seq: u64, statistics: Statistics) {
        let channel = self.channel();
        let mut text = format!("{channel} {reference} is that tree already, as number {seq}");
        if statistics.objects_sent > 0 {
            let objects = count(statistics.objects_sent, "object", "objects");
            let what = if self.args.dry_run { "to upload" } else { "uploaded" };
            // Writing to a string does not fail.
            let _ = write!(text, "; {objects} {what} again, which the server had lost");
        }
        self.output().info(&text);
        self.output().event(&serde_json::json!({
            "event": "unchanged",
            "channel": channel.as_str(),
            "ref": reference.to_string(),
            "seq": seq,
            "objects": statistics.objects_sent,
            "uploaded": if self.args.dry_run { 0 } else { statistics.bytes_sent },
        }));
    }

    pub(super) fn say_what_would_be(&self, job: &Job, tree: &Ingested) {
        let statistics = tree.statistics;
        let (channel, reference) = (self.channel(), &job.reference);
        self.output().info(&format!(
            "{channel} {reference} would be {} with {}; {} to upload in {}, and nothing was sent",
            count(tree.manifest.entries, "entry", "entries"),
            HumanBytes(tree.manifest.bytes),
            count(statistics.objects_sent, "object", "objects"),
            HumanBytes(statistics.bytes_sent)
        ));
        self.output().event(&serde_json::json!({
            "event": "would_publish",
            "channel": channel.as_str(),
            "ref": reference.to_string(),
            "manifest": format!("blake3:{}", tree.manifest.id),
            "entries": tree.manifest.entries,
            "bytes": tree.manifest.bytes,
            "objects": statistics.objects_sent,
            "upload": statistics.bytes_sent,
        }));
    }

    pub(super) fn say_published(&self, publication: &Publication, tree: Option<&Ingested>, shown: Shown) {
        let Publication { channel, reference, seq, content, .. } = publication;
        let statistics = tree.map(|tree| tree.statistics).unwrap_or_default();
        if shown == Shown::NotYet {
            self.output().warning(
                "the server has taken it, but shows it only when the clock has signed the newest checkpoint",
            );
        }
        match publication.manifest {
            None => self.output().info(&format!("{channel} {reference} is withdrawn, as number {seq}")),
            Some(_) => self.output().info(&format!(
                "{channel} {reference} is published as number {seq}: {} with {}; {} uploaded in {}",
                count(content.entries, "entry", "entries"),
                HumanBytes(content.bytes),
                count(statistics.objects_sent, "object", "objects"),
                HumanBytes(statistics.bytes_sent)
            )),
        }
        self.output().event(&serde_json::json!({
            "event": "published",
            "channel": channel.as_str(),
            "ref": reference.to_string(),
            "seq": seq,
            "manifest": publication.manifest.map(|manifest| format!("blake3:{}", manifest.id)),
            "entries": content.entries,
            "bytes": content.bytes,
            "objects": statistics.objects_sent,
            "uploaded": statistics.bytes_sent,
            "shown": shown == Shown::Proven,
        }));
    }
}
