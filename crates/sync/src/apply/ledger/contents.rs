//! Contents that are kept, each a file under its id.
//!
//! A name proves nothing after a power loss, so whoever takes a content out hashes it again.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use smart_sync_store::id::{ContentId, to_hex};

use crate::apply::error::ApplyError;
use crate::apply::hash::hash_reader;
use crate::apply::stat::FileKind;
use crate::apply::step::Steps;
use crate::apply::tree_dir::{RootLink, TreeDir};
use crate::apply::tree_walk::join;

/// What is being copied.
const UNFINISHED: &[u8] = b"unfinished";

/// A directory of contents.
#[derive(Debug)]
pub(in crate::apply) struct Contents {
    home: TreeDir,
}

impl Contents {
    /// Opens the directory of this name in another one, and makes it where it is not there.
    pub(in crate::apply) fn open(parent: &TreeDir, name: &[u8]) -> Result<Self, ApplyError> {
        parent.make_directory(name, 0o700)?;
        Ok(Self { home: parent.below(name)? })
    }

    /// Those of the ledger in a directory, if it has any.
    pub(in crate::apply) fn of_ledger(home: &Path) -> Result<Option<Self>, ApplyError> {
        let home = TreeDir::open(home, RootLink::Follow, Steps::default())?;
        match home.stat(super::CONTENTS)? {
            Some(stat) if stat.kind == FileKind::Directory => {
                Ok(Some(Self { home: home.below(super::CONTENTS)? }))
            }
            _ => Ok(None),
        }
    }

    /// Keeps the content that has no bytes.
    pub(in crate::apply) fn keep_nothing(&self) -> Result<(), ApplyError> {
        let id = ContentId::of(b"");
        if self.get(id)?.is_none() {
            self.home.remove_all(UNFINISHED)?;
            self.home.create_file(UNFINISHED)?;
            self.name(id)?;
        }
        Ok(())
    }

    /// Opens a content that is kept, if it is what its name says.
    pub(in crate::apply) fn get(&self, id: ContentId) -> Result<Option<File>, ApplyError> {
        let path = path_of(id);
        match self.home.stat(&path)? {
            Some(stat) if stat.kind == FileKind::File => {}
            _ => return Ok(None),
        }
        let found = hash_reader(self.home.open_file(&path)?)
            .map_err(|source| self.home.failed("reading", &path, source))?;
        if found == id { self.home.open_file(&path).map(Some) } else { Ok(None) }
    }

    /// Keeps what a file holds; says how much that is, and its id.
    pub(in crate::apply) fn keep(&self, tree: &TreeDir, path: &[u8]) -> Result<(u64, ContentId), ApplyError> {
        let mut from = tree.open_file(path)?;
        self.home.remove_all(UNFINISHED)?;
        let copy = self.home.create_file(UNFINISHED)?;
        self.home.announce("copy", UNFINISHED)?;
        copy_file(&mut from, &copy).map_err(|source| tree.failed("keeping a copy of", path, source))?;
        let copy = self.home.open_file(UNFINISHED)?;
        let read = |source| self.home.failed("reading", UNFINISHED, source);
        let size = copy.metadata().map_err(read)?.len();
        let id = hash_reader(copy).map_err(read)?;
        self.name(id)?;
        Ok((size, id))
    }

    /// Keeps a content that another directory keeps, if it does; as one file with two names where that is possible.
    pub(in crate::apply) fn keep_from(&self, other: &Self, id: ContentId) -> Result<bool, ApplyError> {
        let path = path_of(id);
        if other.home.stat(&path)?.is_none() {
            return Ok(false);
        }
        self.keep_file(&other.home, &path, id)
    }

    /// Keeps a file whose content has been verified; as one file with two names where that is possible.
    pub(in crate::apply) fn keep_file(
        &self,
        tree: &TreeDir,
        path: &[u8],
        id: ContentId,
    ) -> Result<bool, ApplyError> {
        if self.get(id)?.is_some() {
            return Ok(true);
        }
        self.home.remove_all(&path_of(id))?;
        self.home.make_directory(&shard_of(id), 0o700)?;
        let is_linked = match self.home.link_from(tree, path, &path_of(id)) {
            Ok(is_linked) => is_linked,
            Err(error) if error.io_kind() == Some(io::ErrorKind::CrossesDevices) => false,
            Err(error) => return Err(error),
        };
        Ok(is_linked || self.keep(tree, path)?.1 == id)
    }

    /// Removes all but these.
    pub(in crate::apply) fn retain(&self, kept: &HashSet<ContentId>) -> Result<(), ApplyError> {
        let kept: HashSet<Vec<u8>> = kept.iter().map(|id| path_of(*id)).collect();
        for (shard, kind) in self.home.list(b"")?.names() {
            let shard = shard.to_bytes();
            if kind != FileKind::Directory {
                self.home.remove_file(shard)?;
                continue;
            }
            for (name, _) in self.home.list(shard)?.names() {
                let path = join(shard, name.to_bytes());
                if !kept.contains(&path) {
                    self.home.remove_all(&path)?;
                }
            }
        }
        Ok(())
    }

    fn name(&self, id: ContentId) -> Result<(), ApplyError> {
        self.home.make_directory(&shard_of(id), 0o700)?;
        self.home.rename(UNFINISHED, &path_of(id)).map(|_| ())
    }
}

/// Copies a file into an empty one; blocks are shared where the file system can do that.
pub(super) fn copy_file(from: &mut File, mut to: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, &*from).is_err() {
        io::copy(from, &mut to)?;
    }
    Ok(())
}

fn shard_of(id: ContentId) -> Vec<u8> {
    to_hex(&id.as_bytes()[..1]).into_bytes()
}

fn path_of(id: ContentId) -> Vec<u8> {
    join(&shard_of(id), id.to_string().as_bytes())
}
