//! What belongs to the host in a target that keeps versions.
//!
//! Files that the host put into the tree, and those that it keeps to itself, must not come and go with versions. They
//! live in a directory beside these, `local`, and each version has a symbolic link where they were found.

use std::collections::BTreeMap;

use crate::apply::backup::Backup;
use crate::apply::error::ApplyError;
use crate::apply::plan::{Action, Change};
use crate::apply::scan::{Scan, Untracked};
use crate::apply::stat::FileKind;
use crate::apply::tree_dir::TreeDir;
use crate::apply::tree_walk::join;

pub(super) const LOCAL: &[u8] = b"local";
const UNFINISHED: &[u8] = b"local/.unfinished";

/// How a path of a version leads to the host's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// From the version upwards, so that the whole target can be moved.
    Upwards,
    /// By the path of the directory, which does not depend on where the version is.
    Absolute,
}

/// The host's own of one target.
#[derive(Debug)]
pub(super) struct Local<'a> {
    /// What holds the directory.
    pub(super) home: &'a TreeDir,
    pub(super) link: Link,
}

/// What of a target is the host's.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// At paths that a plan leaves to it.
    pub(super) stays: Vec<Box<[u8]>>,
    /// Below a path that a plan makes a file.
    pub(super) makes_way: Vec<Box<[u8]>>,
}

impl Own {
    pub(super) fn find(current: &TreeDir, scan: &Scan, actions: &[Action]) -> Result<Self, ApplyError> {
        let made = |action: &&Action| {
            !matches!(action.change, Change::Delete | Change::RemoveDirectory | Change::MakeRoom)
        };
        let made: BTreeMap<&[u8], bool> = actions
            .iter()
            .filter(made)
            .map(|action| (&*action.path, matches!(action.change, Change::Put(..) | Change::Link(_))))
            .collect();
        let mut own = Self::default();
        for Untracked { path, kind } in scan.untracked.iter().chain(&scan.excluded) {
            let mut parents = (0..path.len()).filter(|at| path[*at] == b'/');
            if parents.any(|at| made.get(&path[..at]).is_some_and(|is_file| *is_file)) {
                own.makes_way.push(path.clone());
            } else {
                own.gather(current, path, *kind, &made)?;
            }
        }
        Ok(own)
    }

    /// Adds a path, or those below it that nothing is made at.
    fn gather(
        &mut self,
        current: &TreeDir,
        path: &[u8],
        kind: FileKind,
        made: &BTreeMap<&[u8], bool>,
    ) -> Result<(), ApplyError> {
        let below = [path, b"/"].concat();
        let has_below = made.range(&*below..).next().is_some_and(|(made, _)| made.starts_with(&below));
        if kind == FileKind::Directory && has_below {
            for (name, kind) in current.list(path)?.names() {
                self.gather(current, &join(path, name.to_bytes()), kind, made)?;
            }
        } else if !made.contains_key(path) {
            self.stays.push(path.into());
        }
        Ok(())
    }
}

impl Local<'_> {
    /// The paths at which a version has links to what is the host's.
    pub(super) fn linked(&self, version: &TreeDir) -> Result<Vec<Box<[u8]>>, ApplyError> {
        let mut linked = Vec::new();
        if self.home.stat(LOCAL)?.is_some() {
            self.find_linked(version, b"", &mut linked)?;
        }
        Ok(linked)
    }

    fn find_linked(
        &self,
        version: &TreeDir,
        directory: &[u8],
        linked: &mut Vec<Box<[u8]>>,
    ) -> Result<(), ApplyError> {
        let listed = if directory.is_empty() { LOCAL.to_vec() } else { join(LOCAL, directory) };
        for (name, kind) in self.home.list(&listed)?.names() {
            let path = join(directory, name.to_bytes());
            if self.is_link(version, &path)? {
                linked.push(path.into());
            } else if kind == FileKind::Directory {
                self.find_linked(version, &path, linked)?;
            }
        }
        Ok(())
    }

    /// Takes what stands at a path of what readers see, and puts a link there, in one step.
    pub(super) fn take(
        &self,
        current: &TreeDir,
        path: &[u8],
        backup: &mut Backup<'_>,
    ) -> Result<(), ApplyError> {
        if self.is_link(current, path)? {
            return Ok(());
        }
        let own = self.make_way(path, backup)?;
        self.home.make_symlink(&self.text(path), &own)?;
        self.home.exchange(&own, current, path)
    }

    /// Copies what stands at a path of what readers see, and puts a link in its place in the next version.
    pub(super) fn copy(
        &self,
        current: &TreeDir,
        next: &TreeDir,
        path: &[u8],
        backup: &mut Backup<'_>,
    ) -> Result<(), ApplyError> {
        if self.is_link(current, path)? {
            return Ok(());
        }
        let own = self.make_way(path, backup)?;
        self.home.remove_all(UNFINISHED)?;
        current.copy_all(path, self.home, UNFINISHED)?;
        match self.home.stat(UNFINISHED)?.map(|stat| stat.kind) {
            None => return Ok(()), // It has gone.
            Some(FileKind::Directory) => self.home.rename_directory(UNFINISHED, &own)?,
            Some(_) => _ = self.home.rename(UNFINISHED, &own)?,
        }
        next.remove_all(path)
    }

    /// Puts links into a version where nothing stands.
    pub(super) fn link(&self, version: &TreeDir, paths: &[Box<[u8]>]) -> Result<(), ApplyError> {
        for path in paths {
            if version.stat(path)?.is_none() {
                version.make_parents(path, 0o755)?;
                version.make_symlink(&self.text(path), path)?;
            }
        }
        Ok(())
    }

    /// Frees the place of what is the host's. What was there before, and is not linked to any more, is backed up.
    fn make_way(&self, path: &[u8], backup: &mut Backup<'_>) -> Result<Vec<u8>, ApplyError> {
        let own = join(LOCAL, path);
        self.home.make_directory(LOCAL, 0o755)?;
        self.home.make_parents(&own, 0o755)?;
        match self.home.stat(&own)? {
            None => {}
            // A run was interrupted before it could exchange the two.
            Some(stat) if stat.kind == FileKind::Symlink && self.home.read_link(&own)? == self.text(path) => {
                self.home.remove_file(&own)?;
            }
            Some(_) => backup.take(self.home, &own)?,
        }
        Ok(own)
    }

    fn is_link(&self, version: &TreeDir, path: &[u8]) -> Result<bool, ApplyError> {
        let is_symlink = version.stat(path)?.is_some_and(|stat| stat.kind == FileKind::Symlink);
        Ok(is_symlink && version.read_link(path)? == self.text(path))
    }

    fn text(&self, path: &[u8]) -> Vec<u8> {
        let mut text = match self.link {
            Link::Upwards => {
                // The version, what holds versions, and the directories on the way.
                let depth = path.split(|byte| *byte == b'/').count() + 1;
                b"../".repeat(depth)
            }
            Link::Absolute => {
                use std::os::unix::ffi::OsStrExt as _;
                [self.home.path().as_os_str().as_bytes(), b"/"].concat()
            }
        };
        text.extend_from_slice(&join(LOCAL, path));
        text
    }
}
