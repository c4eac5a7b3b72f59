//! What a `system` manifest keeps of a file, read from the file system.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::Statx;
use rustix::io::Errno;
use smart_sync_store::manifest::{FileTime, SystemMetadata, Xattr};

/// The most bytes that Linux gives as a list of attribute names, or as one value.
const XATTR_BUFFER: usize = 64 << 10;

/// The names of users and groups, as the files of the host give them.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: HashMap<u32, Box<[u8]>>,
    groups: HashMap<u32, Box<[u8]>>,
}

impl Owners {
    /// Reads `/etc/passwd` and `/etc/group`; a host without them has numbers only.
    pub(super) fn of_host() -> Self {
        let names = |file: &str| fs::read(file).map(|text| parse_names(&text)).unwrap_or_default();
        Self { users: names("/etc/passwd"), groups: names("/etc/group") }
    }

    fn user(&self, id: u32) -> Box<[u8]> {
        self.users.get(&id).cloned().unwrap_or_default()
    }

    fn group(&self, id: u32) -> Box<[u8]> {
        self.groups.get(&id).cloned().unwrap_or_default()
    }

    /// Puts together what a manifest keeps.
    pub(super) fn metadata(&self, stat: &Statx, xattrs: Vec<Xattr>, is_file: bool) -> SystemMetadata {
        SystemMetadata {
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            user: self.user(stat.stx_uid),
            group: self.group(stat.stx_gid),
            modified: FileTime { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
            xattrs,
            is_sparse: is_file && stat.stx_blocks.saturating_mul(512) < stat.stx_size,
        }
    }
}

/// The first name of each number, of lines `name:password:number:…`.
fn parse_names(text: &[u8]) -> HashMap<u32, Box<[u8]>> {
    let mut names = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(number)) = (fields.next(), fields.nth(1)) else { continue };
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|_| !name.is_empty() && name.len() <= 255) {
            names.entry(number).or_insert_with(|| name.into());
        }
    }
    names
}

/// The extended attributes of a name in a directory, a link not followed.
///
/// Linux has no such call relative to a handle, but the handle has a name of its own under `/proc`.
pub(super) fn xattrs_of(directory: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Vec<Xattr>> {
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    let mut list = vec![0; XATTR_BUFFER];
    let len = match rustix::fs::llistxattr(&path, &mut list[..]) {
        Ok(len) => len,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error),
    };
    let mut xattrs = Vec::new();
    for name in list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; XATTR_BUFFER];
        match rustix::fs::lgetxattr(&path, name, &mut value[..]) {
            Ok(len) => xattrs.push(Xattr { name: name.into(), value: value[..len].into() }),
            // Removed between the two calls.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let names = parse_names(
            b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\nbad\n:x:5:\nn:x:y:\nalice:x:1000:",
        );
        assert_eq!(names.len(), 2);
        assert_eq!(&*names[&0], b"root");
        assert_eq!(&*names[&1000], b"alice");
    }
}
