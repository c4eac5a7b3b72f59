//! Files below one directory, reached in a way that never leaves it.
//!
//! A path is never handed to the kernel to be followed. The directory that holds its last name is opened with
//! `openat2` below the handle of the root, refusing symbolic links on the way, and the last name is acted upon in
//! that directory with calls that do not follow it. So a link that stands in the tree, or is put there meanwhile, is
//! met as a link and never as what it points to.

mod handles;

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;
use smart_sync_store::manifest::path::Shown;

use super::error::ApplyError;
use super::stat::{FileKind, Stat};
use super::step::Steps;
use handles::{DIRECTORY, Handles};

/// Whether the directory that is opened may itself be reached through a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootLink {
    /// The link is followed once, when the directory is opened.
    Follow,
    /// A link is refused.
    Refuse,
}

/// A directory and everything below it. Paths are relative to it, and the empty path is the directory itself.
#[derive(Debug)]
pub struct TreeDir {
    handles: Handles,
    path: PathBuf,
    steps: Steps,
    /// A name in the root that belongs to the file system.
    reserved: Option<&'static [u8]>,
}

impl TreeDir {
    /// Opens a directory that exists.
    pub fn open(path: &Path, link: RootLink, steps: Steps) -> Result<Self, ApplyError> {
        let flags = match link {
            RootLink::Follow => DIRECTORY.difference(OFlags::NOFOLLOW),
            RootLink::Refuse => DIRECTORY,
        };
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| ApplyError::Io {
            operation: "opening the directory",
            path: Shown(path.as_os_str().as_bytes()).to_string(),
            source: errno.into(),
        })?;
        Ok(Self { handles: Handles::new(root), path: path.to_owned(), steps, reserved: None })
    }

    /// The same with a name in the root that belongs to the file system: it is not looked at, and nothing gets it.
    pub(super) fn reserving(self, name: &'static [u8]) -> Self {
        Self { reserved: Some(name), ..self }
    }

    /// Whether a path is the file system's own, or lies below one that is.
    pub(super) fn is_reserved(&self, path: &[u8]) -> bool {
        self.reserved.is_some() && path.split(|byte| *byte == b'/').next() == self.reserved
    }

    /// Where the directory was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below as a person may see it.
    pub fn show(&self, path: &[u8]) -> String {
        let root = Shown(self.path.as_os_str().as_bytes());
        if path.is_empty() { root.to_string() } else { format!("{root}/{}", Shown(path)) }
    }

    /// What stands at a path, a symbolic link not followed; none if nothing does, or if what holds it is not a
    /// directory.
    pub fn stat(&self, path: &[u8]) -> Result<Option<Stat>, ApplyError> {
        match self.at(path, |directory, name| stat_at(directory, name, AtFlags::empty())) {
            Ok(stat) => Ok(Some(stat)),
            // What has a name that the file system cannot hold is not there either.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(self.error("looking at", path, errno)),
        }
    }

    /// Opens a directory.
    pub fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, ApplyError> {
        self.handles.open(path).map_err(|errno| self.error("opening the directory", path, errno))
    }

    /// Opens a regular file for reading. Anything else is refused, and never waited for.
    pub fn open_file(&self, path: &[u8]) -> Result<File, ApplyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.open_regular("opening", path, flags)
    }

    /// Opens a regular file for reading and writing.
    pub fn open_to_write(&self, path: &[u8]) -> Result<File, ApplyError> {
        self.announce("open to write", path)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.open_regular("opening", path, flags)
    }

    /// Makes a file that is not there yet, readable by its owner alone.
    pub fn create_file(&self, path: &[u8]) -> Result<File, ApplyError> {
        self.announce("create", path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at(path, |directory, name| rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR))
            .map(File::from)
            .map_err(|errno| self.error("creating", path, errno))
    }

    /// Makes a directory with exactly this mode; one that is there already is left as it is.
    pub fn make_directory(&self, path: &[u8], mode: u32) -> Result<(), ApplyError> {
        self.announce("make directory", path)?;
        let outcome = self.at(path, |directory, name| rustix::fs::mkdirat(directory, name, Mode::RWXU));
        match outcome {
            Ok(()) => self.set_mode(path, mode),
            Err(Errno::EXIST) if self.stat(path)?.is_some_and(|stat| stat.kind == FileKind::Directory) => {
                Ok(())
            }
            Err(errno) => Err(self.error("making the directory", path, errno)),
        }
    }

    /// Makes the directories that lead to a path. The nearest one that exists is looked for from below, so that
    /// a deep path costs one look where its directory is there.
    pub fn make_parents(&self, path: &[u8], mode: u32) -> Result<(), ApplyError> {
        let mut missing = Vec::new();
        for at in (0..path.len()).rev().filter(|at| path[*at] == b'/') {
            if self.stat(&path[..at])?.is_some_and(|stat| stat.kind == FileKind::Directory) {
                break;
            }
            missing.push(at);
        }
        missing.into_iter().rev().try_for_each(|at| self.make_directory(&path[..at], mode))
    }

    /// Makes a symbolic link.
    pub fn make_symlink(&self, target: &[u8], path: &[u8]) -> Result<(), ApplyError> {
        self.announce("symlink", path)?;
        self.at(path, |directory, name| rustix::fs::symlinkat(target, directory, name))
            .map_err(|errno| self.error("making the symbolic link", path, errno))
    }

    /// Makes a device, a named pipe or a socket.
    pub fn make_node(&self, path: &[u8], kind: FileKind, device: (u32, u32)) -> Result<(), ApplyError> {
        self.announce("make node", path)?;
        let device = rustix::fs::makedev(device.0, device.1);
        self.at(path, |directory, name| {
            rustix::fs::mknodat(directory, name, kind.as_rustix(), Mode::RUSR | Mode::WUSR, device)
        })
        .map_err(|errno| self.error("making the special file", path, errno))
    }

    /// Gives a file another name; false if that name is taken.
    pub fn link(&self, from: &[u8], to: &[u8]) -> Result<bool, ApplyError> {
        self.announce("link", to)?;
        let linked = self.handles.parent(from).and_then(|(from_directory, from_name)| {
            self.at(to, |directory, name| {
                rustix::fs::linkat(from_directory.as_fd(), &*from_name, directory, name, AtFlags::empty())
            })
        });
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(self.error("linking", to, errno)),
        }
    }

    /// Gives a file below another directory a name here; false if it cannot have another name.
    pub(super) fn link_from(&self, other: &Self, from: &[u8], to: &[u8]) -> Result<bool, ApplyError> {
        self.announce("link", to)?;
        let linked = other.handles.parent(from).and_then(|(from_directory, from_name)| {
            self.at(to, |directory, name| {
                rustix::fs::linkat(from_directory.as_fd(), &*from_name, directory, name, AtFlags::empty())
            })
        });
        match linked {
            Ok(()) => Ok(true),
            // It has as many as the file system allows, or is protected against having another.
            Err(Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(self.error("linking", to, errno)),
        }
    }

    /// Exchanges what stands at two paths, in one step.
    pub(super) fn exchange(&self, path: &[u8], other: &Self, other_path: &[u8]) -> Result<(), ApplyError> {
        self.announce("exchange", path)?;
        let exchanged = other.handles.parent(other_path).and_then(|(other_directory, other_name)| {
            self.at(path, |directory, name| {
                let flags = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(directory, name, other_directory.as_fd(), &*other_name, flags)
            })
        });
        self.handles.forget();
        other.handles.forget();
        exchanged.map_err(|errno| self.error("exchanging", path, errno))
    }

    /// A directory below, as one that nothing leads out of.
    pub(super) fn below(&self, path: &[u8]) -> Result<Self, ApplyError> {
        let root = self.open_directory(path)?;
        let shown = self.path.join(OsStr::from_bytes(path));
        Ok(Self { handles: Handles::new(root), path: shown, steps: self.steps.clone(), reserved: None })
    }

    /// Moves a file over whatever is not a directory at the other path; false if there is nothing to move.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Result<bool, ApplyError> {
        self.announce("rename", to)?;
        let (from_directory, from_name) = match self.handles.parent(from) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(self.error("renaming", from, errno)),
        };
        let renamed = self.at(to, |directory, name| {
            // A missing source and a missing destination directory have the same number.
            stat_at(from_directory.as_fd(), &from_name, AtFlags::empty())
                .map(Some)
                .or_else(|errno| if errno == Errno::NOENT { Ok(None) } else { Err(errno) })?
                .map(|_| rustix::fs::renameat(from_directory.as_fd(), &*from_name, directory, name))
                .transpose()
        });
        renamed.map(|moved| moved.is_some()).map_err(|errno| self.error("renaming to", to, errno))
    }

    /// Moves a file to a path where nothing is. False if that cannot be done in one step: the file is not there or
    /// the directory is not, something stands at the path, or the file system has no such step.
    pub(super) fn rename_to_free(&self, from: &[u8], to: &[u8]) -> Result<bool, ApplyError> {
        self.announce("rename", to)?;
        let renamed = self.handles.parent(from).and_then(|(from_directory, from_name)| {
            self.at(to, |directory, name| {
                let flags = RenameFlags::NOREPLACE;
                rustix::fs::renameat_with(from_directory.as_fd(), &*from_name, directory, name, flags)
            })
        });
        match renamed {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::NOSYS) => {
                Ok(false)
            }
            Err(errno) => Err(self.error("renaming to", to, errno)),
        }
    }

    /// Moves a directory to a path where nothing is.
    pub(super) fn rename_directory(&self, from: &[u8], to: &[u8]) -> Result<(), ApplyError> {
        self.announce("rename directory", to)?;
        let renamed = self.handles.parent(from).and_then(|(from_directory, from_name)| {
            self.at(to, |directory, name| {
                // Where something has appeared at the path it stays: only an empty directory can be moved over.
                rustix::fs::renameat(from_directory.as_fd(), &*from_name, directory, name)
            })
        });
        self.handles.forget();
        renamed.map_err(|errno| self.error("renaming to", to, errno))
    }

    /// Moves anything to a free path below another directory, on the same file system.
    pub fn move_to(&self, path: &[u8], other: &Self, to: &[u8]) -> Result<Moved, ApplyError> {
        self.announce("move away", path)?;
        let (directory, name) =
            self.handles.parent(path).map_err(|errno| self.error("moving", path, errno))?;
        let moved = other.at(to, |to_directory, to_name| {
            rustix::fs::renameat_with(
                directory.as_fd(),
                &*name,
                to_directory,
                to_name,
                RenameFlags::NOREPLACE,
            )
        });
        match moved {
            Ok(()) => {
                self.handles.forget();
                Ok(Moved::Yes)
            }
            // A file system that does not know the flag says EINVAL; a copy does the same, slower.
            Err(Errno::XDEV | Errno::INVAL) => Ok(Moved::OtherFileSystem),
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(Moved::Taken),
            Err(errno) => Err(self.error("moving", path, errno)),
        }
    }

    /// Removes whatever is not a directory; false if it was not there.
    pub fn remove_file(&self, path: &[u8]) -> Result<bool, ApplyError> {
        self.announce("unlink", path)?;
        match self.at(path, |directory, name| rustix::fs::unlinkat(directory, name, AtFlags::empty())) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("removing", path, errno)),
        }
    }

    /// Removes a directory if it is empty.
    pub fn remove_directory(&self, path: &[u8]) -> Result<Removed, ApplyError> {
        self.announce("rmdir", path)?;
        match self.at(path, |directory, name| rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)) {
            Ok(()) => {
                self.handles.forget();
                Ok(Removed::Yes)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Removed::Absent),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(Removed::NotEmpty),
            Err(errno) => Err(self.error("removing the directory", path, errno)),
        }
    }

    /// Where a symbolic link points.
    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, ApplyError> {
        self.at(path, |directory, name| rustix::fs::readlinkat(directory, name, Vec::new()))
            .map(CString::into_bytes)
            .map_err(|errno| self.error("reading the symbolic link", path, errno))
    }

    /// Sets permission bits exactly, whatever the umask.
    pub fn set_mode(&self, path: &[u8], mode: u32) -> Result<(), ApplyError> {
        self.announce("chmod", path)?;
        let mode = Mode::from_raw_mode(mode);
        self.at(path, |directory, name| {
            // A handle that cannot be read from: a device may act on being opened, a socket cannot be, and an owner
            // may change the mode of a file that nobody may read.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
            if stat_at(file.as_fd(), c"", AtFlags::EMPTY_PATH)?.kind == FileKind::Symlink {
                return Err(Errno::LOOP);
            }
            rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
        })
        .map_err(|errno| self.error("setting the mode of", path, errno))
    }

    /// Makes everything that was written to this file system durable.
    pub fn sync_file_system(&self) -> Result<(), ApplyError> {
        self.announce("syncfs", b"")?;
        rustix::fs::syncfs(self.handles.root()).map_err(|errno| self.error("making durable", b"", errno))
    }

    /// Makes a directory's own list of names durable.
    pub fn sync_directory(&self, path: &[u8]) -> Result<(), ApplyError> {
        self.announce("fsync directory", path)?;
        self.handles
            .open(path)
            .and_then(rustix::fs::fsync)
            .map_err(|errno| self.error("making the directory durable", path, errno))
    }

    /// Announces an effect on a handle that was opened here.
    pub(super) fn announce(&self, effect: &'static str, path: &[u8]) -> Result<(), ApplyError> {
        self.steps.before(effect).map_err(|source| self.failed(effect, path, source))
    }

    /// An error that names a path below.
    pub(super) fn failed(&self, operation: &'static str, path: &[u8], source: io::Error) -> ApplyError {
        ApplyError::Io { operation, path: self.show(path), source }
    }

    /// Acts on the last name of a path, in the directory that holds it.
    pub(super) fn at<T>(
        &self,
        path: &[u8],
        act: impl FnOnce(BorrowedFd<'_>, &CStr) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        let (directory, name) = self.handles.parent(path)?;
        act(directory.as_fd(), &name)
    }

    /// The directory that holds the last name of a path, and that name.
    pub(super) fn parent_of(&self, path: &[u8]) -> Result<(Arc<OwnedFd>, CString), ApplyError> {
        self.handles.parent(path).map_err(|errno| self.error("opening the directory of", path, errno))
    }

    pub(super) fn error(&self, operation: &'static str, path: &[u8], errno: Errno) -> ApplyError {
        self.failed(operation, path, errno.into())
    }

    fn open_regular(&self, operation: &'static str, path: &[u8], flags: OFlags) -> Result<File, ApplyError> {
        let file = self
            .at(path, |directory, name| {
                let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
                match stat_at(file.as_fd(), c"", AtFlags::EMPTY_PATH)?.kind {
                    FileKind::File => Ok(file),
                    _ => Err(Errno::INVAL),
                }
            })
            .map_err(|errno| self.error(operation, path, errno))?;
        Ok(File::from(file))
    }

    /// The same directory, with lookups done one by one as on a kernel without `openat2`.
    #[cfg(test)]
    pub(super) fn without_openat2(mut self) -> Self {
        self.handles = self.handles.without_openat2();
        self
    }
}

/// How a move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It is at the other path.
    Yes,
    /// It cannot be moved there, only copied.
    OtherFileSystem,
    /// Something else is at the other path.
    Taken,
}

/// How the removal of a directory ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Yes,
    /// There was no directory.
    Absent,
    /// It holds something.
    NotEmpty,
}

/// What stands at a name in an open directory.
pub(super) fn stat_at(directory: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> rustix::io::Result<Stat> {
    let flags = flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS).map(|found| Stat::from_statx(&found))
}
