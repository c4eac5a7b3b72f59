//! `log audit`: everything that follows from the leaves, computed again.

use anyhow::Context;
use smart_sync_sync::log::audit::LogAudit;
use smart_sync_sync::log::checkpoint::{Checkpoint, SignedCheckpoint};
use smart_sync_sync::note::Note;

use super::{Failure, print};
use crate::args::Data;
use crate::data_dir::DataDir;
use crate::realm::log_files::LogFiles;

pub(super) fn audit(data: &Data) -> anyhow::Result<()> {
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
    let refs = audit.table().count();
    print(format_args!(
        "the log of {} is sound: {} leaves, {refs} {}, root document {}, signed at {}",
        checkpoint.origin,
        checkpoint.size,
        if refs == 1 { "ref" } else { "refs" },
        root.record().version,
        signed.time()
    ))
}
