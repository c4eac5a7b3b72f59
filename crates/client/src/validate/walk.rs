//! Everything below a directory, for checks: bounded, within one file system, and without following a link.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::look::shown;

/// The most entries that are looked at.
const ENTRIES_MAX: usize = 1_000_000;

/// Paths below a directory that are wanted, in the order of their names; none where the directory is none. `is_wanted`
/// is asked with the path below the directory.
pub(super) fn walk(
    directory: &Path,
    is_wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<(PathBuf, Metadata)>, String> {
    let Ok(top) = fs::symlink_metadata(directory) else { return Ok(Vec::new()) };
    let mut waiting = if top.is_dir() { vec![directory.to_owned()] } else { Vec::new() };
    let (mut found, mut seen) = (Vec::new(), 0_usize);
    while let Some(next) = waiting.pop() {
        let failed = |error: io::Error| format!("{}: {error}", shown(&next));
        let entries = match fs::read_dir(&next) {
            // It went just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            seen += 1;
            if seen > ENTRIES_MAX {
                return Err(format!("there is more below {} than {ENTRIES_MAX} paths", shown(directory)));
            }
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() && metadata.dev() == top.dev() {
                waiting.push(path.clone());
            }
            if path.strip_prefix(directory).is_ok_and(&is_wanted) {
                found.push((path, metadata));
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}
