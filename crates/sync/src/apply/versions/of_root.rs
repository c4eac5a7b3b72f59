//! Snapshots of a root that is no target: of what others are about to change, such as the packages of a machine.
//!
//! They are taken and destroyed here, and nothing is ever switched to one of them: what a machine has as its root cannot be
//! exchanged while it runs. Which of them may go is for whoever had them taken to know; under another name than ours
//! nothing goes.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use smart_sync_store::id::ManifestId;

use super::btrfs::{self, is_subvolume};
use super::name::VersionName;
use super::zfs::{self, Snapshots, is_dataset, is_mounted_at};
use crate::apply::backup::Stamp;
use crate::apply::error::ApplyError;
use crate::apply::step::Steps;

/// Where snapshots of subvolumes go that nobody has named a directory for, at the top of their file system.
const STORE: &str = ".smart-sync-snapshots";
/// Only its owner can reach what is in it: a program of root's in a snapshot may be one that was replaced for a reason.
const STORE_MODE: u32 = 0o700;
/// That its group or everybody can write to a directory.
const OTHERS_WRITE: u32 = 0o022;

/// How snapshots of a root are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKind {
    /// It is a subvolume of btrfs, and they go into this directory.
    Btrfs(PathBuf),
    /// It is a dataset of ZFS, which keeps them itself.
    Zfs,
}

impl RootKind {
    /// How snapshots of a root are taken, where they can be. They go into this directory, if one is named.
    pub fn of(root: &Path, store: Option<&Path>) -> Option<Self> {
        if is_subvolume(root) {
            let top = || root.ancestors().find(|path| is_mounted_at(path)).unwrap_or(root).join(STORE);
            return Some(Self::Btrfs(store.map_or_else(top, Path::to_owned)));
        }
        is_dataset(root).then_some(Self::Zfs)
    }

    /// The program that it takes.
    pub const fn program(&self) -> &'static str {
        match self {
            Self::Btrfs(_) => btrfs::PROGRAM,
            Self::Zfs => zfs::PROGRAM,
        }
    }

    /// Opens them.
    pub fn open(self, root: &Path) -> Result<RootSnapshots, ApplyError> {
        match self {
            Self::Btrfs(store) => Ok(RootSnapshots(Layout::Btrfs { root: root.to_owned(), store })),
            Self::Zfs => RootSnapshots::of_dataset(root, Path::new(zfs::PROGRAM)),
        }
    }
}

/// The snapshots of a root.
#[derive(Debug)]
pub struct RootSnapshots(Layout);

#[derive(Debug)]
enum Layout {
    Btrfs { root: PathBuf, store: PathBuf },
    Zfs(Snapshots),
}

impl RootSnapshots {
    /// Those of the dataset that is mounted at a root, by a program that knows of it.
    pub(in crate::apply) fn of_dataset(root: &Path, program: &Path) -> Result<Self, ApplyError> {
        let (snapshots, _) = Snapshots::open(root, &Steps::default(), program)?;
        Ok(Self(Layout::Zfs(snapshots)))
    }

    /// The name of the next one: the time, and the tree that it is taken for.
    pub fn free_name(&self, stamp: &Stamp, manifest: ManifestId) -> Result<VersionName, ApplyError> {
        let taken = match &self.0 {
            Layout::Btrfs { .. } => Vec::new(),
            Layout::Zfs(snapshots) => snapshots.names()?,
        };
        let is_taken = |name: &VersionName| match &self.0 {
            Layout::Btrfs { store, .. } => store.join(name.as_str()).symlink_metadata().is_ok(),
            Layout::Zfs(_) => taken.contains(name),
        };
        VersionName::free(stamp, manifest, is_taken)
            .ok_or_else(|| ApplyError::NoVersion("a name for another one".to_owned()))
    }

    /// What a person calls the one of a name.
    pub fn shown(&self, name: &VersionName) -> String {
        match &self.0 {
            Layout::Btrfs { store, .. } => store.join(name.as_str()).display().to_string(),
            Layout::Zfs(snapshots) => snapshots.snapshot(name),
        }
    }

    /// Takes one, of what is on the disk and of what is about to be.
    pub fn take(&self, name: &VersionName) -> Result<(), ApplyError> {
        match &self.0 {
            Layout::Zfs(snapshots) => snapshots.keep(name),
            Layout::Btrfs { root, store } => {
                make_store(store).map_err(|source| ApplyError::Io {
                    operation: "making the directory of snapshots",
                    path: store.display().to_string(),
                    source,
                })?;
                let to = store.join(name.as_str());
                let (from, to) = (root.as_os_str().as_bytes(), to.as_os_str().as_bytes());
                let words = [b"subvolume", &b"snapshot"[..], b"-r", b"--", from, to];
                btrfs::run("making a snapshot of", root, &words).map(|_| ())
            }
        }
    }

    /// Whether there is one of this name.
    pub fn is_there(&self, name: &VersionName) -> Result<bool, ApplyError> {
        match &self.0 {
            Layout::Zfs(snapshots) => Ok(snapshots.names()?.contains(name)),
            Layout::Btrfs { store, .. } => Ok(is_subvolume(&store.join(name.as_str()))),
        }
    }

    /// Destroys one. What is not there is gone already.
    pub fn remove(&self, name: &VersionName) -> Result<(), ApplyError> {
        match &self.0 {
            Layout::Zfs(snapshots) => snapshots.remove(name),
            Layout::Btrfs { store, .. } => {
                let path = store.join(name.as_str());
                if !is_subvolume(&path) {
                    return Ok(());
                }
                let words = [b"subvolume", &b"delete"[..], b"--", path.as_os_str().as_bytes()];
                btrfs::run("deleting the subvolume", &path, &words).map(|_| ())
            }
        }
    }
}

fn make_store(store: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(STORE_MODE).create(store) {
        // A link would lead to where others may have prepared something.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(store)?;
            if !found.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            let is_ours = found.uid() == rustix::process::geteuid().as_raw();
            if is_ours && found.mode() & OTHERS_WRITE == 0 { Ok(()) } else { Err(not_alone()) }
        }
        made => made,
    }
}

/// Whoever may write there could exchange a snapshot for something else.
fn not_alone() -> io::Error {
    let reason = "it is there already, and belongs to somebody else or can be written by others";
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_holds_no_snapshots() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        make_store(&store).unwrap();
        assert_eq!(store.metadata().unwrap().mode() & 0o7777, STORE_MODE);
        let made = |mode| {
            fs::set_permissions(&store, fs::Permissions::from_mode(mode)).unwrap();
            make_store(&store).map_err(|error| error.kind())
        };
        for mode in [0o700, 0o750, 0o755] {
            assert_eq!(made(mode), Ok(()), "{mode:o}");
        }
        for mode in [0o770, 0o775, 0o702, 0o1777] {
            assert_eq!(made(mode), Err(io::ErrorKind::PermissionDenied), "{mode:o}");
        }
        let link = directory.path().join("link");
        symlink(&store, &link).unwrap();
        assert_eq!(make_store(&link).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
