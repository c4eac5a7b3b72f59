//! Access to what lies below one directory, and to nothing else.
//!
//! Every access starts from the handle of the top directory and follows no symbolic link, so that a directory that
//! is exchanged for a link while it is read cannot lead outside.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;
use smart_sync_store::manifest::FileTime;

use crate::source::FileStat;

/// The handle of a top directory.
#[derive(Debug)]
pub(super) struct Beneath {
    top: OwnedFd,
}

impl Beneath {
    /// Opens the top directory, which is named by the user and may be a link.
    pub(super) fn open(path: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { top: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Opens a directory below the top; an empty path is the top itself.
    pub(super) fn directory(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.handle(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a regular file for reading. It does not wait, should the file have become a pipe.
    pub(super) fn file(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.handle(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// Opens the directory that holds a path, and gives the name in it.
    pub(super) fn parent<'a>(&self, path: &'a [u8]) -> rustix::io::Result<(OwnedFd, &'a [u8])> {
        match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Ok((self.directory(&path[..slash])?, &path[slash + 1..])),
            None => Ok((self.directory(b"")?, path)),
        }
    }

    fn handle(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.top, path, flags, Mode::empty(), resolve) {
                // The kernel asks to try again when something was renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Kernels before 5.6, and sandboxes that do not know the call.
                Err(Errno::NOSYS | Errno::PERM) => return self.handle_step_by_step(path, flags),
                opened => return opened,
            }
        }
    }

    fn handle_step_by_step(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut components = path.split(|byte| *byte == b'/').peekable();
        let mut at = rustix::fs::openat(&self.top, c".", directory, Mode::empty())?;
        while let Some(component) = components.next() {
            let flags = if components.peek().is_some() { directory } else { flags };
            at = rustix::fs::openat(&at, component, flags, Mode::empty())?;
        }
        Ok(at)
    }
}

/// What the system says of a name, without following a link.
pub(super) fn stat_of(directory: impl AsFd, name: &CStr) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)
}

/// What the system says of an open file.
pub(super) fn stat_of_handle(handle: impl AsFd) -> rustix::io::Result<Statx> {
    rustix::fs::statx(handle, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// The numbers that tell whether a file changed.
pub(super) fn file_stat(stat: &Statx) -> FileStat {
    let time =
        |time: rustix::fs::StatxTimestamp| FileTime { seconds: time.tv_sec, nanoseconds: time.tv_nsec };
    FileStat {
        size: stat.stx_size,
        modified: time(stat.stx_mtime),
        changed: time(stat.stx_ctime),
        inode: stat.stx_ino,
        device: (stat.stx_dev_major, stat.stx_dev_minor),
    }
}

/// A path of the operating system as bytes.
pub(super) fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
