//! The metadata that an entry's file gets on disk, and giving it to the file.
//!
//! Both fidelities come down to the same few values, so that what writes files does not ask which one it serves.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use smart_sync_store::manifest::entry::{Attributes, Entry, FileTime, Node, Xattr};
use xattr::FileExt;

use super::error::ApplyError;
use super::stat::{FileKind, Stat};
use super::tree_dir::{TreeDir, stat_at};

/// What a file gets beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    /// Owner and group, where they are restored.
    pub owner: Option<(u32, u32)>,
    /// The time of the last change, where it is set.
    pub modified: Option<FileTime>,
    /// All extended attributes that are restored, where they are.
    pub xattrs: Option<Vec<Xattr>>,
}

/// The users and groups of this host, by name.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    users: HashMap<Box<[u8]>, u32>,
    groups: HashMap<Box<[u8]>, u32>,
}

impl Owners {
    /// Takes the contents of `/etc/passwd` and `/etc/group`. Lines that are not theirs are passed over.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let ids = |text: &[u8]| {
            text.split(|byte| *byte == b'\n')
                .filter_map(|line| {
                    let mut fields = line.split(|byte| *byte == b':');
                    let name = fields.next().filter(|name| !name.is_empty())?;
                    let id = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
                    Some((name.into(), id))
                })
                .collect()
        };
        Self { users: ids(passwd), groups: ids(group) }
    }

    /// The numbers for an owner of a manifest: a name that is known here wins over the number.
    pub(super) fn resolve(&self, user: &[u8], uid: u32, group: &[u8], gid: u32) -> (u32, u32) {
        (*self.users.get(user).unwrap_or(&uid), *self.groups.get(group).unwrap_or(&gid))
    }
}

/// Whether git would make this file executable.
pub(super) fn is_executable(entry: &Entry) -> bool {
    matches!(&entry.attributes, Attributes::Git(mode) if mode.is_executable())
}

/// What the file of an entry gets. With `git` fidelity, a file that is written has the time at which it is.
pub(super) fn metadata_of(entry: &Entry, owners: Option<&Owners>, now: FileTime) -> Metadata {
    match &entry.attributes {
        Attributes::System(Some(system)) => Metadata {
            mode: system.mode,
            owner: owners.map(|owners| owners.resolve(&system.user, system.uid, &system.group, system.gid)),
            modified: Some(system.modified),
            xattrs: Some(system.xattrs.clone()),
        },
        Attributes::System(None) | Attributes::Git(_) => {
            let is_directory = matches!(entry.node, Node::Directory | Node::Submodule(_));
            let mode = if is_directory || is_executable(entry) { 0o755 } else { 0o644 };
            let modified = (!is_directory).then_some(now);
            Metadata { mode, owner: None, modified, xattrs: None }
        }
    }
}

impl Metadata {
    /// Whether a file that looks like this has it all already.
    pub(super) fn is_met_by(&self, stat: &Stat, xattrs: &[Xattr]) -> bool {
        (stat.kind == FileKind::Symlink || self.mode == stat.mode)
            && self.owner.is_none_or(|owner| owner == (stat.uid, stat.gid))
            && self.modified.is_none_or(|modified| modified == stat.modified)
            && self.xattrs.as_ref().is_none_or(|wanted| {
                // Attributes of the system are its own affair unless the manifest names them.
                let is_ours = |xattr: &&Xattr| {
                    xattr.name.starts_with(b"user.") || wanted.iter().any(|own| own.name == xattr.name)
                };
                xattrs.iter().filter(is_ours).eq(wanted)
            })
    }

    /// The mode that a file may have from the beginning: one that depends on the owner is set after that.
    pub(super) fn mode_of_new(&self) -> Option<u32> {
        self.owner.is_none().then_some(self.mode)
    }

    /// Gives it to what stands at a path. The order matters: a new owner clears set-id bits, and every other
    /// change would move the time.
    pub(super) fn give(&self, tree: &TreeDir, path: &[u8], kind: FileKind) -> Result<(), ApplyError> {
        if let Some((uid, gid)) = self.owner {
            tree.announce("chown", path)?;
            tree.at(path, |directory, name| {
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            })
            .map_err(|errno| tree.error("setting the owner of", path, errno))?;
        }
        if let Some(wanted) = self.xattrs.as_ref().filter(|_| has_xattrs(kind)) {
            tree.announce("set xattrs", path)?;
            tree.at(path, |directory, name| Ok(open_for_xattrs(directory, name)))
                .map_err(io::Error::from)
                .flatten()
                .and_then(|file| set_xattrs(&file, wanted))
                .map_err(|source| tree.failed("setting extended attributes of", path, source))?;
        }
        if kind != FileKind::Symlink {
            tree.set_mode(path, self.mode)?;
        }
        if let Some(times) = self.modified.map(times) {
            tree.announce("utimens", path)?;
            tree.at(path, |directory, name| {
                rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            })
            .map_err(|errno| tree.error("setting the time of", path, errno))?;
        }
        Ok(())
    }

    /// Gives it to a file that was made here, as far as the file does not have it, and says what the file is then. One
    /// handle serves for all of it, which counts where there are very many.
    pub(super) fn give_made(&self, tree: &TreeDir, path: &[u8]) -> Result<Stat, ApplyError> {
        match tree.open_file(path) {
            // An owner may give what may not be read, even by the owner.
            Err(error) if error.io_kind() == Some(io::ErrorKind::PermissionDenied) => {
                self.give_unread(tree, path)
            }
            file => self.give_made_to(tree, path, &file?),
        }
    }

    /// The same to an open file.
    pub(super) fn give_made_to(&self, tree: &TreeDir, path: &[u8], file: &File) -> Result<Stat, ApplyError> {
        let look = || {
            stat_at(file.as_fd(), c"", AtFlags::EMPTY_PATH)
                .map_err(|errno| tree.error("looking at", path, errno))
        };
        let stat = look()?;
        if self.is_met_by(&stat, &[]) {
            return Ok(stat);
        }
        let is_given_away = self.owner.is_some_and(|owner| owner != (stat.uid, stat.gid));
        if let Some((uid, gid)) = self.owner.filter(|_| is_given_away) {
            tree.announce("chown", path)?;
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|errno| tree.error("setting the owner of", path, errno))?;
        }
        if let Some(wanted) = &self.xattrs {
            tree.announce("set xattrs", path)?;
            set_xattrs(file, wanted)
                .map_err(|source| tree.failed("setting extended attributes of", path, source))?;
        }
        if is_given_away || stat.mode != self.mode {
            tree.announce("chmod", path)?;
            rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))
                .map_err(|errno| tree.error("setting the mode of", path, errno))?;
        }
        if let Some(times) = self.modified.map(times) {
            tree.announce("utimens", path)?;
            rustix::fs::futimens(file, &times)
                .map_err(|errno| tree.error("setting the time of", path, errno))?;
        }
        look()
    }

    fn give_unread(&self, tree: &TreeDir, path: &[u8]) -> Result<Stat, ApplyError> {
        let look = || tree.stat(path)?.ok_or_else(|| tree.error("looking at", path, Errno::NOENT));
        let stat = look()?;
        if self.is_met_by(&stat, &[]) {
            return Ok(stat);
        }
        self.give(tree, path, stat.kind)?;
        look()
    }
}

/// Gives a file that was just made what can be given through its handle. It is a shortcut: whatever is not met
/// afterwards, [`Metadata::give`] gives.
pub(super) fn give_new(file: &File, mode: Option<u32>, modified: Option<FileTime>) -> io::Result<()> {
    if let Some(mode) = mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    }
    if let Some(times) = modified.map(times) {
        rustix::fs::futimens(file, &times)?;
    }
    Ok(())
}

fn times(modified: FileTime) -> Timestamps {
    let modified = Timespec { tv_sec: modified.seconds, tv_nsec: i64::from(modified.nanoseconds) };
    Timestamps { last_access: modified, last_modification: modified }
}

impl TreeDir {
    /// The extended attributes of a file or directory, sorted by name.
    pub(super) fn xattrs(&self, path: &[u8]) -> Result<Vec<Xattr>, ApplyError> {
        let Some(stat) = self.stat(path)? else { return Ok(Vec::new()) };
        self.at(path, |directory, name| Ok(read_xattrs(directory, name, stat.kind)))
            .map_err(io::Error::from)
            .flatten()
            .map_err(|source| self.failed("reading extended attributes of", path, source))
    }
}

/// Reads the extended attributes of a file or directory, sorted by name; of anything else, none.
pub(super) fn read_xattrs(directory: BorrowedFd<'_>, name: &CStr, kind: FileKind) -> io::Result<Vec<Xattr>> {
    if !has_xattrs(kind) {
        return Ok(Vec::new());
    }
    let file = open_for_xattrs(directory, name)?;
    let names = match file.list_xattr() {
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => return Ok(Vec::new()),
        names => names?,
    };
    let mut xattrs = Vec::new();
    for name in names {
        if let Some(value) = file.get_xattr(&name)? {
            xattrs.push(Xattr { name: name.as_bytes().into(), value: value.into() });
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

fn set_xattrs(file: &File, wanted: &[Xattr]) -> io::Result<()> {
    let present = match file.list_xattr() {
        Err(error) if wanted.is_empty() && error.kind() == io::ErrorKind::Unsupported => return Ok(()),
        present => present?,
    };
    for name in present {
        let is_wanted = wanted.iter().any(|xattr| *xattr.name == *name.as_bytes());
        if name.as_bytes().starts_with(b"user.") && !is_wanted {
            file.remove_xattr(&name)?;
        }
    }
    wanted.iter().try_for_each(|xattr| file.set_xattr(OsStr::from_bytes(&xattr.name), &xattr.value))
}

fn open_for_xattrs(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?))
}

const fn has_xattrs(kind: FileKind) -> bool {
    matches!(kind, FileKind::File | FileKind::Directory)
}
