//! The names in a directory, in the order that paths have below it.
//!
//! Names lie in one block of bytes, each with the NUL that system calls want, so that a directory of any size
//! costs a handful of allocations.

use std::cmp::Ordering;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, RawDir};

use super::stat::FileKind;
use super::tree_dir::stat_at;

const BUFFER_BYTES: usize = 32 << 10;

/// The names in a directory.
#[derive(Debug)]
pub(super) struct Listing {
    bytes: Vec<u8>,
    names: Vec<Name>,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    start: usize,
    len: usize,
    kind: FileKind,
}

impl Listing {
    /// Reads all names and sorts them so that, with a `/` behind those of directories, they are in the order of
    /// the paths of files below.
    pub(super) fn read(directory: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        let (mut bytes, mut names) = (Vec::new(), Vec::new());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match FileKind::from_rustix(entry.file_type()) {
                // Some file systems do not say; a file that is gone by now is one that never was.
                FileKind::Other => match stat_at(directory.as_fd(), name, AtFlags::empty()) {
                    Err(rustix::io::Errno::NOENT) => continue,
                    stat => stat?.kind,
                },
                kind => kind,
            };
            names.push(Name { start: bytes.len(), len: name.to_bytes().len(), kind });
            bytes.extend_from_slice(name.to_bytes_with_nul());
        }
        names.sort_unstable_by(|a, b| {
            let name = |name: &Name| &bytes[name.start..][..name.len];
            let is_directory = |name: &Name| name.kind == FileKind::Directory;
            compare(name(a), is_directory(a), name(b), is_directory(b))
        });
        Ok(Self { bytes, names })
    }

    /// The names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = (&CStr, FileKind)> {
        self.names.iter().map(|name| {
            let bytes = &self.bytes[name.start..=name.start + name.len];
            (CStr::from_bytes_with_nul(bytes).expect("names were stored with their NUL"), name.kind)
        })
    }
}

/// Compares two names as if those of directories ended in `/`.
pub(super) fn compare(a: &[u8], a_is_directory: bool, b: &[u8], b_is_directory: bool) -> Ordering {
    let common = a.len().min(b.len());
    a[..common].cmp(&b[..common]).then_with(|| {
        let next = |name: &[u8], is_directory: bool| match name.get(common) {
            Some(byte) => Some(*byte),
            None => is_directory.then_some(b'/'),
        };
        next(a, a_is_directory).cmp(&next(b, b_is_directory)).then(a.len().cmp(&b.len()))
    })
}
