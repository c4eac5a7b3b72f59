//! Trees that hang together with that of the branch `main`: directories of it that are trees of their own, and branches
//! that each follow one of its directories. A kind says [which those are](super::ArtifactKind::alone).
//!
//! The former come first and the latter last. Whatever a run is killed between, what `main` shows is there by itself, and
//! the next run brings the branches: they are made of what `main` is then, whoever has published it.

use std::collections::BTreeMap;

use smart_sync_store::manifest::{PathError, TreePath};

use crate::source::assembled::Part;

/// The branch that holds the whole tree.
pub const WHOLE: &str = "main";

/// What lies in a directory, by the paths below it.
pub fn below<'a>(
    directory: &TreePath,
    parts: impl Iterator<Item = (&'a TreePath, Part)>,
) -> Result<BTreeMap<TreePath, Part>, PathError> {
    let prefix = [directory.as_bytes(), b"/"].concat();
    let mut found = BTreeMap::new();
    for (path, part) in parts {
        if let Some(below) = path.as_bytes().strip_prefix(&prefix[..]) {
            found.insert(TreePath::new(below)?, part);
        }
    }
    Ok(found)
}

/// A path below a directory, below what that directory lies in.
pub fn joined(directory: &TreePath, path: &TreePath) -> Result<TreePath, PathError> {
    TreePath::new([directory.as_bytes(), b"/", path.as_bytes()].concat())
}
