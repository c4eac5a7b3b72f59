//! Files that a killed process left half written.
//!
//! A file is written beside its place, under its name and `#` and a number, and renamed. What is older than the grace
//! period is nobody's any more.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::catalogue::Timestamp;
use crate::error::StoreError;

/// The components of a domain, and one directory above them.
const DEPTH_MAX: usize = 17;

pub(super) fn remove(directory: &Path, extension: &str, before: Timestamp) -> Result<usize, StoreError> {
    let Ok(seconds) = u64::try_from(before.0) else { return Ok(0) };
    let before = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    remove_below(directory, extension, before, DEPTH_MAX).map_err(|source| StoreError::Io {
        operation: "removing unfinished files below",
        path: directory.display().to_string(),
        source,
    })
}

fn remove_below(directory: &Path, extension: &str, before: SystemTime, depth: usize) -> io::Result<usize> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            removed += remove_below(&entry.path(), extension, before, depth - 1)?;
        } else if kind.is_file()
            && is_unfinished(&entry.file_name(), extension)
            && entry.metadata()?.modified()? < before
        {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_unfinished(name: &std::ffi::OsStr, extension: &str) -> bool {
    let Some((name, number)) = name.to_str().and_then(|name| name.rsplit_once('#')) else { return false };
    name.ends_with(extension) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}
