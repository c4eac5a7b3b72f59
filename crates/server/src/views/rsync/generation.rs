//! A version of a tree, laid out as a directory.
//!
//! What did not change since the version before is another name of the same file. Everything lies in a directory that
//! nobody else has seen yet; it is durable before it gets its name.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, syncfs, utimensat};
use smart_sync_store::Store;
use smart_sync_store::domain::Domain;
use smart_sync_store::manifest::{
    Attributes, Change, Content, Entry, Fidelity, Manifest, Node, TreePath, diff,
};

use super::config::MUNGED;
use super::times::{Seconds, Times};
use crate::realm::Realm;
use crate::realm::pages::StorePages;
use crate::views::content::write_content;
use crate::views::history::{Version, has_tree};

/// The longest target of a link that a file system holds.
const LINK_BYTES_MAX: u64 = 4095;

/// A version that is laid out already.
pub(super) struct Base<'a> {
    pub(super) directory: &'a Path,
    pub(super) version: &'a Version,
}

/// Lays out the last of `versions`, which follow one another and the base, in a new directory.
pub(super) fn build(
    realm: &Realm,
    domain: &Domain,
    base: Option<Base<'_>>,
    versions: &[Version],
    directory: &Path,
) -> anyhow::Result<()> {
    let newest = versions.last().context("there is nothing to lay out")?;
    // Without the tree of the version before, it cannot be told what has changed since.
    let base = match base {
        Some(base) if has_tree(realm, domain, base.version.manifest)? => Some(base),
        _ => None,
    };
    let store = &realm.store;
    let times = times(store, domain, base.as_ref(), versions)?;
    let manifest = open(store, domain, newest)?;
    let mut layout = Layout {
        store,
        domain,
        directory,
        base: base.as_ref().map(|base| base.directory),
        times,
        directories: HashMap::new(),
    };
    layout.make_directory(&[])?;
    for entry in &manifest {
        let entry = entry.context("reading the manifest")?;
        layout.place(&entry).with_context(|| format!("placing {}", entry.path))?;
    }
    layout.finish()
}

fn open(store: &Arc<Store>, domain: &Domain, version: &Version) -> anyhow::Result<Manifest<StorePages>> {
    let pages = StorePages::new(Arc::clone(store), domain.clone());
    let manifest = Manifest::open(pages, version.manifest, None)?;
    if manifest.fidelity() != Fidelity::Git {
        bail!(
            "the tree keeps owners and times, which are not given out by rsync\n\
             hint: publish it without --fidelity system, or take the channel out of [rsync.modules]"
        );
    }
    Ok(manifest)
}

/// When what has changed since the base has changed last. Without a base, everything has come with the first version.
fn times(
    store: &Arc<Store>,
    domain: &Domain,
    base: Option<&Base<'_>>,
    versions: &[Version],
) -> anyhow::Result<Times> {
    let of_base = base.map(|base| modified(base.directory)).transpose()?;
    let mut times = Times::after(of_base);
    let mut before = base.map(|base| open(store, domain, base.version)).transpose()?;
    for version in versions {
        let manifest = open(store, domain, version)?;
        times.advance(version.publication.time.seconds());
        match before {
            Some(before) => {
                for change in diff(&before, &manifest) {
                    times.note(
                        change
                            .as_ref()
                            .map(Change::path)
                            .map_err(|_| anyhow::anyhow!("comparing two versions"))?,
                    );
                }
            }
            None => {
                for entry in &manifest {
                    times.note(&entry.context("reading the manifest")?.path);
                }
            }
        }
        before = Some(manifest);
    }
    Ok(times)
}

struct Layout<'a> {
    store: &'a Arc<Store>,
    domain: &'a Domain,
    directory: &'a Path,
    base: Option<&'a Path>,
    times: Times,
    /// The directories that were made, and the times that they get when everything is in them.
    directories: HashMap<Box<[u8]>, Seconds>,
}

impl Layout<'_> {
    fn place(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let path = entry.path.as_bytes();
        for (slash, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.make_directory(&path[..slash])?;
        }
        match &entry.node {
            // A submodule is another repository, which is not here.
            Node::Directory | Node::Submodule(_) => self.make_directory(path),
            Node::File(content) => self.place_file(&entry.path, *content, is_executable(entry)),
            Node::Symlink(content) => self.place_link(&entry.path, *content),
            Node::Hardlink(_) | Node::Device { .. } | Node::Fifo | Node::Socket => {
                bail!("it is something that is not given out by rsync")
            }
        }
    }

    fn make_directory(&mut self, path: &[u8]) -> anyhow::Result<()> {
        if self.directories.contains_key(path) {
            return Ok(());
        }
        let time = match (self.times.of(path), self.base) {
            (Some(time), _) => time,
            (None, Some(base)) => modified(&below(base, path))?,
            (None, None) => self.times.newest(),
        };
        let made = below(self.directory, path);
        DirBuilder::new().mode(0o755).create(&made).with_context(|| format!("making {}", made.display()))?;
        self.directories.insert(path.into(), time);
        Ok(())
    }

    /// Takes what did not change from the version before; whether that could be done.
    fn link(&self, path: &TreePath) -> bool {
        let Some(base) = self.base else { return false };
        let (from, to) = (below(base, path.as_bytes()), below(self.directory, path.as_bytes()));
        // A file system may have no hard links, or no more for this file.
        self.times.of(path.as_bytes()).is_none() && fs::hard_link(from, to).is_ok()
    }

    fn time_of(&self, path: &TreePath) -> anyhow::Result<Seconds> {
        match (self.times.of(path.as_bytes()), self.base) {
            (Some(time), _) => Ok(time),
            (None, Some(base)) => modified(&below(base, path.as_bytes())),
            (None, None) => Ok(self.times.newest()),
        }
    }

    fn place_file(&self, path: &TreePath, content: Content, is_executable: bool) -> anyhow::Result<()> {
        if self.link(path) {
            return Ok(());
        }
        let mode = if is_executable { 0o755 } else { 0o644 };
        let place = below(self.directory, path.as_bytes());
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&place)?;
        let mut out = io::BufWriter::with_capacity(1 << 16, file);
        write_content(self.store, self.domain, content, &mut out)?;
        out.flush()?;
        set_time(&place, self.time_of(path)?)
    }

    fn place_link(&self, path: &TreePath, content: Content) -> anyhow::Result<()> {
        if self.link(path) {
            return Ok(());
        }
        ensure!(
            content.size + MUNGED.len() as u64 <= LINK_BYTES_MAX,
            "the target of the link is too long to be given out by rsync"
        );
        let mut target = MUNGED.to_vec();
        write_content(self.store, self.domain, content, &mut target)?;
        let place = below(self.directory, path.as_bytes());
        symlink(std::ffi::OsStr::from_bytes(&target), &place)?;
        set_time(&place, self.time_of(path)?)
    }

    fn finish(self) -> anyhow::Result<()> {
        for (path, time) in &self.directories {
            set_time(&below(self.directory, path), *time)?;
        }
        let root = File::open(self.directory).and_then(|root| Ok(syncfs(root)?));
        root.with_context(|| format!("making {} durable", self.directory.display()))
    }
}

fn is_executable(entry: &Entry) -> bool {
    matches!(entry.attributes, Attributes::Git(mode) if mode.is_executable())
}

fn below(directory: &Path, path: &[u8]) -> PathBuf {
    directory.join(std::ffi::OsStr::from_bytes(path))
}

/// The time of what stands at a path, a link not being followed.
fn modified(path: &Path) -> anyhow::Result<Seconds> {
    let metadata = fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    Ok(u64::try_from(metadata.mtime()).unwrap_or(0))
}

fn set_time(path: &Path, seconds: Seconds) -> anyhow::Result<()> {
    let time = Timespec { tv_sec: i64::try_from(seconds)?, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let set = utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    set.with_context(|| format!("setting the time of {}", path.display()))
}
