//! Reading what lies in a directory: names, numbers, and the bytes of files.
//!
//! Everything is opened from the handle of the directory that is published, without following links, by whichever
//! thread needs it. A file is read only as what the walk saw: its numbers are compared before and after.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Statx};
use rustix::io::Errno;
use smart_sync_store::manifest::{Attributes, Fidelity, GitMode, TreePath, Xattr};

use super::super::{ContentReader, Contents, FileStat, Handle, SourceError, TakeBytes};
use super::beneath::{Beneath, bytes_of, file_stat, stat_of, stat_of_handle};
use super::metadata::{Owners, xattrs_of};

/// The number of bytes that are read at once.
const READ_LEN: usize = 256 << 10;

/// What is shared between the walk and the readers of contents.
pub(super) struct Access {
    beneath: Beneath,
    pub(super) fidelity: Fidelity,
    owners: Owners,
}

/// Something in a directory that has been read.
pub(super) struct Listed {
    pub(super) name: Vec<u8>,
    pub(super) stat: Statx,
    pub(super) xattrs: Vec<Xattr>,
}

impl Access {
    pub(super) fn open(path: &Path, fidelity: Fidelity) -> Result<Self, SourceError> {
        let beneath = Beneath::open(path).map_err(SourceError::errno("opening", bytes_of(path)))?;
        let owners = match fidelity {
            Fidelity::Git => Owners::default(),
            Fidelity::System => Owners::of_host(),
        };
        Ok(Self { beneath, fidelity, owners })
    }

    /// The directory itself.
    pub(super) fn top(&self) -> rustix::io::Result<Listed> {
        let handle = self.beneath.directory(b"")?;
        let xattrs = xattrs_of(handle.as_fd(), c".")?;
        Ok(Listed { name: Vec::new(), stat: stat_of_handle(&handle)?, xattrs })
    }

    /// What is in a directory.
    pub(super) fn list(&self, path: &[u8]) -> rustix::io::Result<Vec<Listed>> {
        let handle = self.beneath.directory(path)?;
        let mut listing = Vec::new();
        for found in rustix::fs::Dir::read_from(&handle)? {
            let found = found?;
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match self.look(&handle, name) {
                Ok(listed) => listing.push(listed),
                // Removed since the name was read.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listing)
    }

    fn look(&self, directory: &OwnedFd, name: &std::ffi::CStr) -> rustix::io::Result<Listed> {
        let stat = stat_of(directory, name)?;
        let xattrs = match self.fidelity {
            Fidelity::Git => Vec::new(),
            Fidelity::System => xattrs_of(directory.as_fd(), name)?,
        };
        Ok(Listed { name: name.to_bytes().to_vec(), stat, xattrs })
    }

    pub(super) fn link_target(&self, path: &TreePath) -> rustix::io::Result<Vec<u8>> {
        let (parent, name) = self.beneath.parent(path.as_bytes())?;
        Ok(rustix::fs::readlinkat(&parent, name, Vec::new())?.into_bytes())
    }

    pub(super) fn attributes(&self, stat: &Statx, xattrs: Vec<Xattr>) -> Attributes {
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        match self.fidelity {
            Fidelity::System => {
                let metadata = self.owners.metadata(stat, xattrs, kind == FileType::RegularFile);
                Attributes::System(Some(Box::new(metadata)))
            }
            Fidelity::Git if kind == FileType::Symlink => Attributes::Git(GitMode::SYMLINK),
            Fidelity::Git if stat.stx_mode & 0o100 != 0 => Attributes::Git(GitMode::EXECUTABLE),
            Fidelity::Git => Attributes::Git(GitMode::FILE),
        }
    }

    /// Opens a file that is what the walk saw.
    pub(super) fn open_file(&self, path: &TreePath, expected: &FileStat) -> Result<OwnedFd, SourceError> {
        let bytes = path.as_bytes();
        let handle = match self.beneath.file(bytes) {
            Ok(handle) => handle,
            // It was there when the directory was read.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => {
                return Err(SourceError::Changed(path.clone()));
            }
            Err(error) => return Err(SourceError::errno("opening", bytes)(error)),
        };
        check_unchanged(&handle, path, expected)?;
        Ok(handle)
    }

    fn read_file(
        &self,
        path: &TreePath,
        expected: &FileStat,
        take: TakeBytes<'_>,
    ) -> Result<(), SourceError> {
        let bytes = path.as_bytes();
        let changed = || SourceError::Changed(path.clone());
        let handle = self.open_file(path, expected)?;
        let mut buffer = vec![0; READ_LEN.min(usize::try_from(expected.size).unwrap_or(READ_LEN).max(1))];
        let mut left = expected.size;
        while left > 0 {
            let read = match rustix::io::read(&handle, &mut buffer[..]) {
                Ok(0) => return Err(changed()),
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(SourceError::errno("reading", bytes)(error)),
            };
            left = left.checked_sub(read as u64).ok_or_else(changed)?;
            take(&buffer[..read])?;
        }
        check_unchanged(&handle, path, expected)
    }
}

/// Refuses a file that is not the one that was listed any more.
pub(super) fn check_unchanged(
    handle: impl AsFd,
    path: &TreePath,
    expected: &FileStat,
) -> Result<(), SourceError> {
    let stat = stat_of_handle(handle).map_err(SourceError::errno("reading", path.as_bytes()))?;
    if file_stat(&stat) == *expected { Ok(()) } else { Err(SourceError::Changed(path.clone())) }
}

impl Contents for Access {
    fn reader(&self) -> Box<dyn ContentReader + '_> {
        Box::new(self)
    }

    fn look_again(&self, path: &TreePath) -> Result<Option<(Attributes, u64, Handle)>, SourceError> {
        let look = || -> rustix::io::Result<Listed> {
            let (parent, name) = self.beneath.parent(path.as_bytes())?;
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            self.look(&parent, &name)
        };
        let listed = match look() {
            Ok(listed) => listed,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(SourceError::errno("reading", path.as_bytes())(error)),
        };
        if FileType::from_raw_mode(listed.stat.stx_mode.into()) != FileType::RegularFile {
            return Ok(None);
        }
        let numbers = file_stat(&listed.stat);
        Ok(Some((self.attributes(&listed.stat, listed.xattrs), numbers.size, Handle::File(numbers))))
    }
}

impl ContentReader for &Access {
    fn read(&mut self, path: &TreePath, handle: &Handle, take: TakeBytes<'_>) -> Result<(), SourceError> {
        match handle {
            Handle::File(stat) => self.read_file(path, stat, take),
            Handle::Bytes(bytes) => take(bytes),
            Handle::Blob(_) | Handle::Spooled { .. } | Handle::Published => Ok(()),
        }
    }
}
