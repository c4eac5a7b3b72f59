//! Sorted paths, each shortened against the one before it: what pages and lists of edits have in common.

use super::order::shared_len;
use super::path::{PATH_BYTES_MAX, Shown, TreePath};
use crate::codec::{DecodeError, Reader, put_number, put_prefixed};

/// Appends a path that is greater than `previous`; at the beginning of a list, `previous` is empty.
pub fn put_path(out: &mut Vec<u8>, previous: &[u8], path: &[u8]) {
    let shared = shared_len(previous, path);
    put_number(out, shared as u64);
    put_prefixed(out, &path[shared..]);
}

/// Reads a path that is greater than `previous` and shortened as far as it can be.
pub fn read_path(
    reader: &mut Reader<'_>,
    previous: Option<&TreePath>,
    root_is_allowed: bool,
) -> Result<TreePath, DecodeError> {
    let before = previous.map_or(&[][..], TreePath::as_bytes);
    let shared = reader.count("shared length of a path", before.len())?;
    let suffix = reader.prefixed("path", PATH_BYTES_MAX - shared)?;
    if previous.is_none() && suffix.is_empty() && root_is_allowed {
        return Ok(TreePath::root());
    }
    let path = [&before[..shared], suffix].concat();
    let path = TreePath::new(&path[..]).map_err(|error| {
        DecodeError::invalid(format!("the path \"{}\" is refused: {error}", Shown(&path)))
    })?;
    if previous.is_some() && before >= path.as_bytes() {
        return Err(DecodeError::invalid(format!("{path} is not in its place")));
    }
    if shared_len(before, path.as_bytes()) != shared {
        return Err(DecodeError::invalid(format!("{path} is not shortened as far as it can be")));
    }
    Ok(path)
}
