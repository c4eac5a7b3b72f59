//! Several contents as one stream: each after a line with its name and size.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::expand::Item;

/// A piece of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) item: usize,
    pub(super) start: u64,
    pub(super) size: u64,
}

impl Slice {
    pub(super) fn whole(item: usize, items: &[Item]) -> Self {
        Self { item, start: 0, size: items[item].size }
    }
}

/// Every item, whole.
pub(super) fn all(items: &[Item]) -> Vec<Slice> {
    (0..items.len()).map(|item| Slice::whole(item, items)).collect()
}

/// Writes slices one after the other. The name stands before the first slice of an item.
pub(super) fn write(path: &Path, items: &[Item], slices: &[Slice]) -> Result<()> {
    let mut file =
        BufWriter::new(File::create(path).with_context(|| format!("creating {}", path.display()))?);
    for slice in slices {
        let item = &items[slice.item];
        if slice.start == 0 {
            file.write_all(&item.name)?;
            writeln!(file, " {}", item.size)?;
        }
        item.write(slice.start, slice.size, &mut file)?;
    }
    file.flush().with_context(|| format!("writing {}", path.display()))
}
