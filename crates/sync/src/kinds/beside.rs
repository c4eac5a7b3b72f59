//! Small files that lie beside others and say what these are: signatures, digests.
//!
//! Such a file is in the directory that is published, or was published before and stays.

use std::io::Read as _;

use smart_sync_store::manifest::{Content, TreePath};

use super::{Before, KindError};
use crate::source::assembled::{AssembledSource, Part};
use crate::source::{FileStat, SourceError};

/// Where such a file is.
#[derive(Debug, Clone, Copy)]
pub(super) enum SmallFile<'a> {
    /// In the directory.
    Here(&'a TreePath, &'a FileStat),
    /// In the tree that is published now.
    Published(Content),
}

impl SmallFile<'_> {
    /// Its number of bytes.
    pub(super) const fn size(&self) -> u64 {
        match self {
            Self::Here(_, stat) => stat.size,
            Self::Published(content) => content.size,
        }
    }

    /// What the next tree has in its place.
    pub(super) fn part(&self) -> Part {
        match self {
            Self::Here(path, _) => Part::File((*path).clone()),
            Self::Published(content) => Part::Published(*content),
        }
    }

    /// Its bytes; none where it is longer than such a file may be.
    pub(super) fn read(
        &self,
        directory: &AssembledSource,
        before: Option<&dyn Before>,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, KindError> {
        match self {
            Self::Here(path, stat) => read_small(directory, path, stat, bytes_max),
            Self::Published(content) if content.size > bytes_max => Ok(None),
            Self::Published(content) => match before {
                Some(before) => Ok(before.read(&[*content], bytes_max)?.pop()),
                None => Ok(None),
            },
        }
    }
}

/// The bytes of a file of the directory; none where it is longer than that.
pub(super) fn read_small(
    directory: &AssembledSource,
    path: &TreePath,
    stat: &FileStat,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, KindError> {
    if stat.size > bytes_max {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = directory.open(path)?.take(bytes_max).read_to_end(&mut bytes);
    let path = || path.as_bytes().to_vec();
    read.map_err(|source| SourceError::Io { operation: "reading", path: path(), source })?;
    Ok(Some(bytes))
}
