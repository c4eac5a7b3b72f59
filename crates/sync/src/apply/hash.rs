//! The content id of what stands on disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use smart_sync_store::id::{ContentId, ContentIdHasher};

use super::stat::{FileKind, Stat};
use super::tree_dir::stat_at;

const BUFFER_BYTES: usize = 128 << 10;

/// Hashes a file or the target of a symbolic link. None if it is something else, or changed while it was read.
pub(super) fn hash_at(
    directory: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    kind: FileKind,
) -> io::Result<Option<(Stat, ContentId)>> {
    match kind {
        FileKind::Symlink => {
            let before = stat_at(directory, name, AtFlags::empty())?;
            let target = match rustix::fs::readlinkat(directory, name, Vec::new()) {
                Err(Errno::INVAL) => return Ok(None),
                target => target?,
            };
            let after = stat_at(directory, name, AtFlags::empty())?;
            Ok((before == after).then(|| (after, ContentId::of(target.as_bytes()))))
        }
        FileKind::File => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
                Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
                file => File::from(file?),
            };
            let before = stat_at(file.as_fd(), c"", AtFlags::EMPTY_PATH)?;
            if before.kind != FileKind::File {
                return Ok(None);
            }
            let id = hash_reader(&file)?;
            let after = stat_at(file.as_fd(), c"", AtFlags::EMPTY_PATH)?;
            Ok((before == after).then_some((after, id)))
        }
        _ => Ok(None),
    }
}

/// Hashes everything that is left to read.
pub(super) fn hash_reader(mut reader: impl Read) -> io::Result<ContentId> {
    let mut hasher = ContentIdHasher::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(len) => hasher.update(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
