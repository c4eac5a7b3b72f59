//! Looking at the paths of a manifest and at nothing else.
//!
//! What an overlay is laid over belongs to others and may be the whole file system, so that its directories are not read,
//! and neither are the metadata of directories compared: they may be anybody's.

use std::sync::Mutex;

use rayon::prelude::*;

use super::walk::{Output, Task, Walk, sample};
use super::{Drift, Finding, Found, Scan, ScanOptions, is_excluded};
use crate::apply::error::ApplyError;
use crate::apply::stat::FileKind;
use crate::apply::stat_cache::StatCache;
use crate::apply::tree_dir::TreeDir;

/// Paths that are one task.
const BATCH: usize = 256;

pub(super) fn look(tree: &TreeDir, cache: StatCache, options: &ScanOptions<'_>) -> Result<Scan, ApplyError> {
    let walk = Walk {
        tree,
        cache: &cache,
        options,
        root_device: tree.stat(b"")?.map_or((0, 0), |stat| stat.device),
        sample: sample(options.rehash, cache.len()),
        gathered: Mutex::new(Ok(Output::default())),
    };
    let positions: Vec<usize> = (0..cache.len()).collect();
    let outputs = positions
        .par_chunks(BATCH)
        .map(|positions| {
            let mut task = Task::new(&walk, Vec::new());
            positions.iter().try_for_each(|position| look_at(&mut task, tree, *position))?;
            Ok(task.output)
        })
        .collect::<Result<Vec<_>, ApplyError>>()?;
    let mut found = Output::default();
    for output in outputs {
        found.append(output);
    }
    Ok(found.into_scan(cache, options))
}

fn look_at(task: &mut Task<'_, '_>, tree: &TreeDir, position: usize) -> Result<(), ApplyError> {
    let record = task.walk.cache.record(position);
    let is_directory = record.expected.kind() == FileKind::Directory;
    if is_excluded(task.walk.options.excluded, record.path, is_directory) {
        return Ok(());
    }
    let stands = tree.stat(record.path)?;
    match stands {
        Some(stat) if is_directory => {
            if stat.kind != FileKind::Directory && !record.path.is_empty() {
                let found = Some(Found { stat, content: None, xattrs: Vec::new() });
                task.output.findings.push(Finding { path: record.path.into(), drift: Drift::Type, found });
            }
        }
        // With what is below it, if anything is.
        None if is_directory => {
            task.output.findings.push(Finding {
                path: record.path.into(),
                drift: Drift::Missing,
                found: None,
            });
        }
        None => task.missing(position..position + 1),
        Some(_) => {
            let (directory, name) = tree.parent_of(record.path)?;
            task.compare_file(std::os::fd::AsFd::as_fd(&*directory), &name, position)?;
        }
    }
    Ok(())
}
