//! Handles of the directories below one directory.
//!
//! A directory is opened by `openat2` below the handle of the root, refusing symbolic links on the way. Where that
//! call is missing (an old kernel, a strict sandbox) the directories are opened one by one without following links,
//! which is as safe and slower. Handles of the directories that were used last are kept, because most files have
//! neighbours: a kept handle leads to the very directory that was found below the root, wherever somebody moves it
//! meanwhile, and never to what a link points to.
//!
//! Who looks at a tree should not change it: directories are opened so that reading them leaves no time behind, where
//! that is allowed.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Kept handles at most; with one more, all are let go.
const KEPT_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lookup {
    Openat2,
    OneByOne,
}

/// The handle of a directory, and those of directories below it.
#[derive(Debug)]
pub(super) struct Handles {
    root: Arc<OwnedFd>,
    lookup: Lookup,
    /// Whether it was refused to leave the times of directories alone.
    changes_times: AtomicBool,
    kept: Mutex<HashMap<Box<[u8]>, Arc<OwnedFd>>>,
}

impl Handles {
    pub(super) fn new(root: OwnedFd) -> Self {
        let lookup = match rustix::fs::openat2(&root, c".", DIRECTORY, Mode::empty(), BENEATH) {
            Err(Errno::NOSYS | Errno::PERM) => Lookup::OneByOne,
            _ => Lookup::Openat2,
        };
        Self { root: Arc::new(root), lookup, changes_times: AtomicBool::new(false), kept: Mutex::default() }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory that holds the last name of a path, and that name. The empty path is the root itself.
    pub(super) fn parent(&self, path: &[u8]) -> rustix::io::Result<(Arc<OwnedFd>, CString)> {
        if path.is_empty() {
            return Ok((Arc::clone(&self.root), c".".to_owned()));
        }
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let name = checked_name(name)?;
        if parent.is_empty() {
            return Ok((Arc::clone(&self.root), name));
        }
        if let Some(directory) = self.kept().get(parent) {
            return Ok((Arc::clone(directory), name));
        }
        let directory = Arc::new(self.open(parent)?);
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(parent.into(), Arc::clone(&directory));
        Ok((directory, name))
    }

    /// Opens a directory anew.
    pub(super) fn open(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        if self.changes_times.load(Ordering::Relaxed) {
            return self.open_with(path, DIRECTORY);
        }
        match self.open_with(path, DIRECTORY.union(OFlags::NOATIME)) {
            // Only the owner of a directory and root may ask for that.
            Err(Errno::PERM) => {
                self.changes_times.store(true, Ordering::Relaxed);
                self.open_with(path, DIRECTORY)
            }
            opened => opened,
        }
    }

    fn open_with(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        if path.is_empty() {
            return rustix::fs::openat(&*self.root, c".", flags, Mode::empty());
        }
        path.split(|byte| *byte == b'/').try_for_each(check_name)?;
        let mut names = path.split(|byte| *byte == b'/');
        match self.lookup {
            Lookup::Openat2 => loop {
                match rustix::fs::openat2(&*self.root, path, flags, Mode::empty(), BENEATH) {
                    // The kernel could not rule out that a rename elsewhere moved the path meanwhile.
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    opened => return opened,
                }
            },
            Lookup::OneByOne => {
                let open = |directory: BorrowedFd<'_>, name: &[u8]| {
                    rustix::fs::openat(directory, checked_name(name)?, flags, Mode::empty())
                };
                let first = open(self.root.as_fd(), names.next().unwrap_or_default())?;
                names.try_fold(first, |directory, name| open(directory.as_fd(), name))
            }
        }
    }

    /// Lets go of all handles: a directory went, and its path may come to mean another one.
    pub(super) fn forget(&self) {
        self.kept().clear();
    }

    #[cfg(test)]
    pub(super) fn without_openat2(self) -> Self {
        Self { lookup: Lookup::OneByOne, ..self }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Arc<OwnedFd>>> {
        // Whatever a panic left behind is a set of handles, each of the directory it is kept for.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_name(name: &[u8]) -> rustix::io::Result<()> {
    if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') { Err(Errno::INVAL) } else { Ok(()) }
}

fn checked_name(name: &[u8]) -> rustix::io::Result<CString> {
    check_name(name)?;
    CString::new(name).map_err(|_| Errno::INVAL)
}
