//! `log audit`: everything that follows from the leaves, computed again.

use std::fmt;

use anyhow::Context;
use serde_json::{Value, json};
use smart_sync_store::count::counted;
use smart_sync_sync::log::audit::LogAudit;
use smart_sync_sync::log::checkpoint::{Checkpoint, SignedCheckpoint};
use smart_sync_sync::name::Origin;
use smart_sync_sync::note::Note;
use smart_sync_sync::time::UnixTime;

use super::{Failure, print};
use crate::args::Data;
use crate::data_dir::DataDir;
use crate::realm::log_files::LogFiles;

pub(super) fn run(data: &Data) -> anyhow::Result<()> {
    let sound = audit(data)?;
    print(format_args!("{sound}"))
}

/// A log that keeps its rules.
#[derive(Debug)]
pub(super) struct SoundLog {
    origin: Origin,
    leaves: u64,
    refs: u64,
    root_version: u64,
    signed: UnixTime,
}

impl fmt::Display for SoundLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaves = counted(self.leaves, "leaf", "leaves");
        let refs = counted(self.refs, "ref", "refs");
        write!(
            f,
            "the log of {} is sound: {leaves}, {refs}, root document {}, signed at {}",
            self.origin, self.root_version, self.signed
        )
    }
}

impl SoundLog {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "event": "log", "origin": self.origin.to_string(), "leaves": self.leaves, "refs": self.refs,
            "root_version": self.root_version, "signed": self.signed.seconds(),
        })
    }
}

/// Recomputes the log of a data directory.
pub(super) fn audit(data: &Data) -> anyhow::Result<SoundLog> {
    let data = DataDir::open(&data.path)?;
    let origin = data.load_config()?.origin.parse()?;
    let files = LogFiles::new(data.log());
    let bytes = files.checkpoint()?.context("the log has no checkpoint")?;
    let checkpoint = Checkpoint::parse(Note::parse(&bytes)?.text())?;
    let mut audit = LogAudit::new(origin);
    files.for_each_leaf(0..checkpoint.size, checkpoint.size, |_, leaf| {
        audit.push(leaf).map_err(|fault| Failure::Damaged(fault.to_string()))?;
        Ok(())
    })?;
    audit.check(&checkpoint).map_err(|fault| Failure::Damaged(fault.to_string()))?;
    let root = audit.root().context("the log has no root document")?;
    let signed = SignedCheckpoint::verify(&bytes, root.record())
        .map_err(|fault| Failure::Damaged(format!("the checkpoint: {fault}")))?;
    Ok(SoundLog {
        leaves: checkpoint.size,
        refs: audit.table().count(),
        root_version: root.record().version,
        signed: signed.time(),
        origin: checkpoint.origin,
    })
}
