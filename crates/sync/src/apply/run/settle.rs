//! The end of the work on a tree.

use super::super::error::ApplyError;
use super::super::op::{Op, OpKind};
use super::super::stage;
use super::super::tree_dir::TreeDir;
use super::super::versions::Versions;

/// Ends the work on a tree that is not seen yet, and makes it durable. Returns by what it is known whether it is seen.
pub(super) fn settle(work: &TreeDir, versions: Option<&Versions>, ops: &[Op]) -> Result<Vec<u8>, ApplyError> {
    let Some(versions) = versions else {
        work.sync_file_system()?;
        return Ok(Vec::new());
    };
    stage::discard(work)?;
    settle_root(work, ops)?;
    work.sync_file_system()?;
    versions.token()
}

/// Gives the root its metadata once more, where it has any: the staging directory that was in it is gone.
pub(super) fn settle_root(tree: &TreeDir, ops: &[Op]) -> Result<(), ApplyError> {
    match ops.iter().find(|op| op.path.is_empty()).map(|op| &op.kind) {
        Some(OpKind::SetMetadata(kind, metadata)) => metadata.give(tree, b"", *kind),
        _ => Ok(()),
    }
}
