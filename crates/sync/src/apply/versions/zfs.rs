//! Versions as snapshots of a ZFS dataset, which itself is changed in place.
//!
//! ```text
//! TARGET                              the mount point of the dataset: what readers see, and may write to
//! TARGET/.zfs/snapshot/smart-sync-…   the versions, each a snapshot that is held by us
//! ```
//!
//! What is mounted cannot be exchanged, and to roll a dataset back would destroy every later snapshot and all that the
//! host has written since. So the tree is changed as a plain directory is, and a snapshot of each version is taken as
//! soon as it stands; going back is another change, with the bytes of that snapshot. The journal knows that the tree
//! stands before the snapshot is taken, so whoever completes a run takes it, once.
//!
//! Datasets are worked on by the program `zfs`, and each command names one snapshot: nothing is done recursively.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use smart_sync_store::manifest::path::Shown;

use super::name::VersionName;
use super::program;
use crate::apply::error::ApplyError;
use crate::apply::stat::FileKind;
use crate::apply::step::Steps;
use crate::apply::tree_dir::{RootLink, TreeDir};
use crate::apply::tree_walk::join;

pub(in crate::apply) const PROGRAM: &str = "zfs";
/// The type of the file system, as `statfs` says it.
const MAGIC: u64 = 0x2fc1_2fc1;
/// The directory that the file system has in the root of every dataset.
const CONTROL: &[u8] = b".zfs";
const SNAPSHOTS: &[u8] = b".zfs/snapshot";
/// What our holds are called.
const HOLD: &str = "smart-sync";
/// What a dataset has for a mount point that is mounted by `mount`, as file systems of other kinds are.
const LEGACY: &str = "legacy";
const DATASET_BYTES_MAX: usize = 255;

/// A dataset and the snapshots of its versions.
#[derive(Debug)]
pub(in crate::apply) struct Snapshots {
    tree: TreeDir,
    dataset: String,
    program: PathBuf,
}

/// Whether a path is where a dataset of ZFS is mounted.
pub fn is_dataset(path: &Path) -> bool {
    let is_zfs = rustix::fs::statfs(path)
        .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == MAGIC));
    is_zfs && is_mounted_at(path)
}

pub(super) fn is_mounted_at(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::BASIC_STATS);
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

impl Snapshots {
    /// Opens the dataset that is mounted at a directory, and what readers see of it.
    pub(in crate::apply) fn open(
        root: &Path,
        steps: &Steps,
        program: &Path,
    ) -> Result<(Self, TreeDir), ApplyError> {
        let open = || Ok(TreeDir::open(root, RootLink::Refuse, steps.clone())?.reserving(CONTROL));
        let (tree, seen) = (open()?, open()?);
        let words: [&[u8]; 5] = [b"list", b"-H", b"-o", b"name,mountpoint", root.as_os_str().as_bytes()];
        let said = program::run(program, PROGRAM, "asking which dataset is", root, &words)?;
        let refused = |reason: String| ApplyError::NotForVersions { path: tree.show(b""), reason };
        let dataset = dataset_at(&said, root, is_mounted_at(root)).map_err(refused)?;
        Ok((Self { tree, dataset, program: program.to_owned() }, seen))
    }

    /// The names of all snapshots that are called as ours are.
    pub(in crate::apply) fn names(&self) -> Result<Vec<VersionName>, ApplyError> {
        let words = ["list", "-H", "-o", "name", "-t", "snapshot", "-d", "1", &*self.dataset];
        let said = self.run("listing the snapshots of", &words)?;
        Ok(said.lines().filter_map(|line| self.name_of(line)).collect())
    }

    fn name_of(&self, snapshot: &str) -> Option<VersionName> {
        let name = snapshot.strip_prefix(&*self.dataset)?.strip_prefix('@')?;
        VersionName::parse(name.as_bytes())
    }

    /// Keeps what readers see as a version, unless that was done.
    pub(in crate::apply) fn keep(&self, name: &VersionName) -> Result<(), ApplyError> {
        let snapshot = self.snapshot(name);
        if !self.names()?.contains(name) {
            self.tree.announce("snapshot", name.as_bytes())?;
            self.run("making a snapshot of", &["snapshot", &snapshot])?;
        }
        if !self.holds(name)?.iter().any(|hold| hold == HOLD) {
            self.tree.announce("hold", name.as_bytes())?;
            self.run("holding a snapshot of", &["hold", HOLD, &snapshot])?;
        }
        Ok(())
    }

    /// Opens a version that is kept.
    pub(in crate::apply) fn open_version(&self, name: &VersionName) -> Result<Option<TreeDir>, ApplyError> {
        let path = join(SNAPSHOTS, name.as_bytes());
        match self.tree.stat(&path)? {
            Some(stat) if stat.kind == FileKind::Directory => self.tree.below(&path).map(Some),
            _ => Ok(None),
        }
    }

    /// Removes a version that is known to be ours by its record. Somebody else's hold is respected, and ours is let go
    /// first: a snapshot without any is one whose removal was interrupted.
    pub(in crate::apply) fn remove(&self, name: &VersionName) -> Result<(), ApplyError> {
        if !self.names()?.contains(name) {
            return Ok(());
        }
        let snapshot = self.snapshot(name);
        let holds = self.holds(name)?;
        if let Some(other) = holds.iter().find(|hold| *hold != HOLD) {
            return Err(ApplyError::HeldSnapshot { snapshot, hold: Shown(other.as_bytes()).to_string() });
        }
        if !holds.is_empty() {
            self.tree.announce("release", name.as_bytes())?;
            self.run("releasing a snapshot of", &["release", HOLD, &snapshot])?;
        }
        self.tree.announce("destroy", name.as_bytes())?;
        self.run("destroying a snapshot of", &["destroy", &snapshot]).map(|_| ())
    }

    /// What a snapshot is held by.
    fn holds(&self, name: &VersionName) -> Result<Vec<String>, ApplyError> {
        let said = self.run("asking what holds a snapshot of", &["holds", "-H", &self.snapshot(name)])?;
        Ok(said.lines().filter_map(|line| line.split('\t').nth(1)).map(str::to_owned).collect())
    }

    /// What the snapshot of a version is called.
    pub(super) fn snapshot(&self, name: &VersionName) -> String {
        format!("{}@{name}", self.dataset)
    }

    fn run(&self, operation: &'static str, words: &[&str]) -> Result<String, ApplyError> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        program::run(&self.program, PROGRAM, operation, Path::new(&self.dataset), &words)
    }
}

/// The dataset that `zfs list` names for a directory, if that is where it is mounted.
fn dataset_at(said: &str, root: &Path, is_mounted: bool) -> Result<String, String> {
    let line = said.strip_suffix('\n').unwrap_or(said);
    let Some((dataset, mount_point)) = line.split_once('\t').filter(|_| !line.contains('\n')) else {
        return Err(format!("`zfs list` names no dataset for it: {}", Shown(line.as_bytes())));
    };
    let is_name = !dataset.is_empty()
        && dataset.len() <= DATASET_BYTES_MAX
        && !dataset.starts_with('-')
        && dataset.chars().all(|character| character.is_ascii_graphic() || character == ' ')
        && !dataset.contains(['@', '#']);
    if !is_name {
        return Err(format!("{} is not the name of a dataset", Shown(dataset.as_bytes())));
    }
    let is_here = Path::new(mount_point) == root || mount_point == LEGACY && is_mounted;
    if is_here {
        return Ok(dataset.to_owned());
    }
    let (dataset, mount_point) = (Shown(dataset.as_bytes()), Shown(mount_point.as_bytes()));
    Err(format!("it is a directory of the dataset {dataset}, which is mounted at {mount_point}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, is_mounted: bool, expected: Result<&str, &str>) {
        let found = dataset_at(said, Path::new("/srv/site"), is_mounted);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
            (found, _) => panic!("{said:?}: {found:?}"),
        }
    }

    #[test]
    fn a_dataset_is_the_one_that_is_mounted_at_the_target_itself() {
        check("tank/site\t/srv/site\n", false, Ok("tank/site"));
        check("tank/a site\tlegacy\n", true, Ok("tank/a site"));
        check("tank/site\tlegacy\n", false, Err("mounted at legacy"));
        check("tank/srv\t/srv\n", true, Err("of the dataset tank/srv, which is mounted at /srv"));
        check("tank/site@a\t/srv/site\n", true, Err("not the name of a dataset"));
        check("-r\t/srv/site\n", true, Err("not the name of a dataset"));
        check("\t/srv/site\n", true, Err("not the name of a dataset"));
        check("", true, Err("names no dataset"));
        check("tank/a\t/srv/site\ntank/b\t/srv/site\n", true, Err("names no dataset"));
        check("tank/\x1b[2J\t/srv/site\n", true, Err("not the name of a dataset"));
    }
}
