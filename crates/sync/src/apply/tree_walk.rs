//! Removing and copying whole directories, without following a link on the way.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use super::error::ApplyError;
use super::listing::Listing;
use super::metadata::Metadata;
use super::stat::{FileKind, Stat};
use super::tree_dir::TreeDir;

impl TreeDir {
    /// The names in a directory.
    pub(super) fn list(&self, path: &[u8]) -> Result<Listing, ApplyError> {
        let directory = self.open_directory(path)?;
        Listing::read(directory.as_fd()).map_err(|errno| self.error("reading the directory", path, errno))
    }

    /// Removes whatever stands at a path and everything below it.
    pub(super) fn remove_all(&self, path: &[u8]) -> Result<(), ApplyError> {
        match self.stat(path)? {
            None => Ok(()),
            Some(stat) if stat.kind == FileKind::Directory => {
                for (name, _) in self.list(path)?.names() {
                    self.remove_all(&join(path, name.to_bytes()))?;
                }
                self.remove_directory(path).map(|_| ())
            }
            Some(_) => self.remove_file(path).map(|_| ()),
        }
    }

    /// Copies whatever stands at a path to a free path of another directory, durably.
    pub(super) fn copy_all(&self, path: &[u8], other: &Self, to: &[u8]) -> Result<(), ApplyError> {
        self.copy_below(path, other, to, true)
    }

    /// The same for what need not be durable.
    pub(super) fn share_all(&self, path: &[u8], other: &Self, to: &[u8]) -> Result<(), ApplyError> {
        self.copy_below(path, other, to, false)
    }

    fn copy_below(&self, path: &[u8], other: &Self, to: &[u8], is_durable: bool) -> Result<(), ApplyError> {
        let Some(stat) = self.stat(path)? else { return Ok(()) };
        match stat.kind {
            FileKind::Directory => {
                other.make_directory(to, 0o700)?;
                for (name, _) in self.list(path)?.names() {
                    let name = name.to_bytes();
                    self.copy_below(&join(path, name), other, &join(to, name), is_durable)?;
                }
                if is_durable {
                    other.sync_directory(to)?;
                }
            }
            FileKind::File => {
                let mut from = self.open_file(path)?;
                let mut copy = other.create_file(to)?;
                other.announce("copy", to)?;
                // Blocks are shared where the file system can do that.
                if rustix::fs::ioctl_ficlone(&copy, &from).is_err() {
                    io::copy(&mut from, &mut copy)
                        .map_err(|source| other.failed("copying to", to, source))?;
                }
                if is_durable {
                    copy.sync_all().map_err(|source| other.failed("copying to", to, source))?;
                }
            }
            FileKind::Symlink => other.make_symlink(&self.read_link(path)?, to)?,
            kind => other.make_node(to, kind, stat.device_file)?,
        }
        as_it_was(&stat).give(other, to, stat.kind)
    }
}

/// Makes an open file's content durable.
pub(super) fn sync_file(tree: &TreeDir, path: &[u8], file: &File) -> Result<(), ApplyError> {
    tree.announce("fsync", path)?;
    file.sync_all().map_err(|source| tree.failed("making durable", path, source))
}

/// A path below a directory.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

/// The metadata of a copy. Only root can give files away.
fn as_it_was(stat: &Stat) -> Metadata {
    let owner = rustix::process::geteuid().is_root().then_some((stat.uid, stat.gid));
    Metadata { mode: stat.mode, owner, modified: Some(stat.modified), xattrs: None }
}
