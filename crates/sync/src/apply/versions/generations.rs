//! Versions as directories beside each other, of which a symbolic link names one.
//!
//! ```text
//! current                  -> versions/smart-sync-20260101T120000Z-1a2b3c4d
//! versions/smart-sync-…    the versions
//! versions/.work/next      the next one, which only its owner can reach
//! local/                   what belongs to the host, linked into every version
//! ```
//!
//! The link is replaced by a rename: whoever follows it comes to one version or the other, and whoever is in one stays
//! there.

use std::path::{Path, PathBuf};

use super::fill::Sharing;
use super::local::{LOCAL, Link, Local};
use super::name::VersionName;
use crate::apply::error::ApplyError;
use crate::apply::stage::STAGE;
use crate::apply::stat::FileKind;
use crate::apply::step::Steps;
use crate::apply::tree_dir::{RootLink, TreeDir};
use crate::apply::tree_walk::join;

/// The link that readers follow.
pub const CURRENT: &str = "current";
const VERSIONS: &[u8] = b"versions";
const WORK: &[u8] = b"versions/.work";
const NEXT: &[u8] = b"versions/.work/next";
const EMPTY: &[u8] = b"versions/.work/empty";
const LINK: &[u8] = b"versions/.work/current";
const PROBES: [&[u8]; 2] = [b"versions/.work/probe", b"versions/.work/probe-2"];

/// The directory of a target.
#[derive(Debug)]
pub(super) struct Generations {
    home: TreeDir,
}

impl Generations {
    /// Opens the directory of a target, which holds versions or nothing, and its current version.
    pub(super) fn open(root: &Path, steps: &Steps) -> Result<(Self, TreeDir), ApplyError> {
        let home = TreeDir::open(root, RootLink::Refuse, steps.clone())?;
        let generations = Self { home };
        generations.check()?;
        let current = generations.current_tree()?;
        Ok((generations, current))
    }

    /// What readers see; an empty directory where they do not see anything yet.
    pub(super) fn current_tree(&self) -> Result<TreeDir, ApplyError> {
        if let Some(name) = self.current()? {
            return self.home.below(&path_of(&name));
        }
        self.make_work()?;
        self.home.make_directory(EMPTY, 0o700)?;
        self.home.below(EMPTY)
    }

    /// A directory with anything else in it was never made for versions.
    fn check(&self) -> Result<(), ApplyError> {
        let known = [CURRENT.as_bytes(), VERSIONS, LOCAL];
        let names = self.home.list(b"")?;
        let stranger = names.names().map(|(name, _)| name.to_bytes()).find(|name| !known.contains(name));
        if let Some(name) = stranger.filter(|_| self.home.stat(VERSIONS).is_ok_and(|found| found.is_none())) {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(self.refused(format!(
                "it holds `{}`, and no versions",
                smart_sync_store::manifest::path::Shown(name.as_bytes())
            )));
        }
        Ok(())
    }

    /// The version that the link names.
    fn current(&self) -> Result<Option<VersionName>, ApplyError> {
        let link = CURRENT.as_bytes();
        match self.home.stat(link)? {
            None => Ok(None),
            Some(stat) if stat.kind == FileKind::Symlink => {
                let target = self.home.read_link(link)?;
                let name = target.strip_prefix(&*join(VERSIONS, b"")).and_then(VersionName::parse);
                name.map(Some).ok_or_else(|| self.refused("`current` does not name a version".to_owned()))
            }
            Some(stat) => Err(self.refused(format!("`current` is {}", stat.kind.name()))),
        }
    }

    fn refused(&self, reason: String) -> ApplyError {
        ApplyError::NotForVersions { path: self.home.show(b""), reason }
    }

    fn make_work(&self) -> Result<(), ApplyError> {
        self.home.make_directory(VERSIONS, 0o755)?;
        self.home.make_directory(WORK, 0o700)
    }

    /// How files of two versions share their bytes here: asked of the file system by sharing a few.
    pub(super) fn sharing(&self) -> Result<Sharing, ApplyError> {
        self.make_work()?;
        for probe in PROBES {
            self.home.remove_file(probe)?;
        }
        let [from, to] = PROBES.map(|probe| self.home.create_file(probe));
        let (from, to) = (from?, to?);
        let block = [b'x'; 4096];
        rustix::io::write(&from, &block).map_err(|errno| self.home.error("writing", PROBES[0], errno))?;
        let shares = rustix::fs::ioctl_ficlone(&to, &from).is_ok();
        for probe in PROBES {
            self.home.remove_file(probe)?;
        }
        Ok(if shares { Sharing::Blocks } else { Sharing::Names })
    }

    pub(super) const fn local(&self) -> Local<'_> {
        Local { home: &self.home, link: Link::Upwards }
    }

    /// Begins the next version. What an interrupted run received is still in it, and nothing else.
    pub(super) fn begin_next(&self) -> Result<TreeDir, ApplyError> {
        self.make_work()?;
        self.home.make_directory(NEXT, 0o755)?;
        let next = self.home.below(NEXT)?;
        for (name, _) in next.list(b"")?.names().filter(|(name, _)| name.to_bytes() != STAGE) {
            next.remove_all(name.to_bytes())?;
        }
        Ok(next)
    }

    /// The next version as it is, for what was interrupted.
    pub(super) fn next(&self) -> Result<Option<TreeDir>, ApplyError> {
        if self.home.stat(NEXT)?.is_some() { self.home.below(NEXT).map(Some) } else { Ok(None) }
    }

    /// Makes a version the one that readers come to: the next one, unless there is one of this name.
    pub(super) fn switch(&self, name: &VersionName) -> Result<(), ApplyError> {
        let path = path_of(name);
        if self.home.stat(&path)?.is_none() {
            self.home.rename_directory(NEXT, &path)?;
            self.home.sync_directory(VERSIONS)?;
        }
        if self.current().is_ok_and(|current| current.as_ref() == Some(name)) {
            return Ok(());
        }
        self.home.remove_file(LINK)?;
        self.home.make_symlink(&path, LINK)?;
        self.home.rename(LINK, CURRENT.as_bytes())?;
        self.home.sync_directory(b"")
    }

    pub(super) fn open_version(&self, name: &VersionName) -> Result<Option<TreeDir>, ApplyError> {
        let path = path_of(name);
        match self.home.stat(&path)? {
            Some(stat) if stat.kind == FileKind::Directory => self.home.below(&path).map(Some),
            _ => Ok(None),
        }
    }

    /// Removes a version. It loses its name first, so that it is there as a whole or not at all.
    pub(super) fn remove(&self, name: &VersionName) -> Result<(), ApplyError> {
        self.make_work()?;
        let gone = join(WORK, name.as_bytes());
        if self.home.stat(&path_of(name))?.is_some() {
            self.home.remove_all(&gone)?;
            self.home.rename_directory(&path_of(name), &gone)?;
        }
        self.home.remove_all(&gone)
    }

    /// Removes what interrupted runs left.
    pub(super) fn clean(&self) -> Result<(), ApplyError> {
        for (name, _) in self.home.list(WORK)?.names() {
            let path = join(WORK, name.to_bytes());
            if path != EMPTY {
                self.home.remove_all(&path)?;
            }
        }
        Ok(())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.home.path().to_owned()
    }
}

fn path_of(name: &VersionName) -> Vec<u8> {
    join(VERSIONS, name.as_bytes())
}
