//! Contents on their way into a target: beside the tree, on its file system, and out of sight.
//!
//! A content becomes a file under its id only after its bytes were hashed and found to be it; until then it is a
//! partial file, which no one takes for more. What an earlier run left is hashed again before it is used: after
//! a power loss a name proves nothing. Contents are not made durable one by one; see the crash protocol in
//! [`journal`](super::journal). One that belongs to a new directory (the module `fresh`) is received at its path there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Mutex;

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::Content;

use super::error::ApplyError;
use super::fresh::Fresh;
use super::hash::hash_reader;
use super::metadata::give_new;
use super::op::Staged;
use super::partial::{ContentWriter, Partial, wrong};
use super::plan::{Action, Need};
use super::stat::FileKind;
use super::tree_dir::TreeDir;
use super::tree_walk::join;

/// The staging directory in a target.
pub const STAGE: &[u8] = b".smart-sync-stage";
/// Contents that were received, and those that are being received.
pub(super) const STAGE_CONTENTS: &[u8] = b".smart-sync-stage/contents";
/// Files made of contents: copies, links, special files. They are made anew by each run.
pub(super) const MADE: &[u8] = b".smart-sync-stage/made";
/// New directories, as they will stand in the root.
pub(super) const NEW: &[u8] = b".smart-sync-stage/new";

/// The staging directory of a run.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Where it lies.
    tree: &'a TreeDir,
    /// Where files of the target are copied from.
    sources: &'a TreeDir,
    /// Whether an earlier run may have left contents here.
    is_used: bool,
    fresh: Fresh,
    verified: Mutex<HashMap<ContentId, Lies>>,
}

/// Where a verified content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lies {
    UnderItsId,
    /// In a new directory.
    InItsSeat,
}

impl<'a> Stage<'a> {
    pub(super) fn open(tree: &'a TreeDir, sources: &'a TreeDir) -> Result<Self, ApplyError> {
        tree.make_directory(STAGE, 0o700)?;
        let is_used = tree.stat(STAGE_CONTENTS)?.is_some();
        tree.make_directory(STAGE_CONTENTS, 0o700)?;
        tree.remove_all(MADE)?;
        tree.make_directory(MADE, 0o700)?;
        let stage = Self { tree, sources, is_used, fresh: Fresh::default(), verified: Mutex::default() };
        if tree.stat(NEW)?.is_some() {
            stage.take_back(NEW)?;
            tree.remove_all(NEW)?;
        }
        Ok(stage)
    }

    /// Gives what an earlier run received in new directories the names under which contents are looked for: this run
    /// may want them at other paths, or nowhere.
    fn take_back(&self, directory: &[u8]) -> Result<(), ApplyError> {
        for (name, kind) in self.tree.list(directory)?.names() {
            let path = join(directory, name.to_bytes());
            match kind {
                FileKind::Directory => self.take_back(&path)?,
                FileKind::File => {
                    let id = hash_reader(self.tree.open_file(&path)?)
                        .map_err(|source| self.tree.failed("reading", &path, source))?;
                    self.tree.make_directory(&shard_path(id), 0o700)?;
                    self.keep(id, &path)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes what a plan does, and makes its new directories. What is received from here on for one of their files is
    /// received there.
    pub(super) fn begin(&mut self, actions: Vec<Action>) -> Result<(), ApplyError> {
        self.fresh = Fresh::of(self.tree, actions)?;
        self.fresh.make_directories(self.tree)
    }

    /// Takes what a plan does that makes every file at its own place.
    pub(super) fn begin_loose(&mut self, actions: Vec<Action>) {
        self.fresh = Fresh::none(actions);
    }

    /// Where a content lies that is staged.
    pub(super) fn path_of(&self, content: &Content) -> Result<Vec<u8>, ApplyError> {
        if self.has(content)? {
            Ok(self.path_of_verified(content.id))
        } else {
            Err(ApplyError::MissingContent(content.id))
        }
    }

    /// What the plan does, and its new directories.
    pub(super) const fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    pub(super) const fn tree(&self) -> &'a TreeDir {
        self.tree
    }

    /// Whether a content is staged. One that an earlier run left is hashed first, and removed if it is damaged.
    pub fn has(&self, content: &Content) -> Result<bool, ApplyError> {
        if self.is_verified(content.id) {
            return Ok(true);
        }
        if !self.is_used {
            return Ok(false);
        }
        let path = content_path(content.id);
        let Some(stat) = self.tree.stat(&path)? else { return Ok(false) };
        if stat.kind == FileKind::File && stat.size == content.size {
            let found = hash_reader(self.tree.open_file(&path)?)
                .map_err(|source| self.tree.failed("reading", &path, source))?;
            if found == content.id {
                self.set_verified(content.id, Lies::UnderItsId);
                return Ok(true);
            }
        }
        self.tree.remove_all(&path)?;
        Ok(false)
    }

    /// What an earlier run received of a content that it did not finish: bytes that nobody has looked at, with holes
    /// where some did not come.
    pub fn received(&self, need: &Need) -> Result<Option<File>, ApplyError> {
        let path = partial_path(need.content.id);
        let stat = if self.is_used { self.tree.stat(&path)? } else { None };
        match stat {
            Some(stat) if stat.kind == FileKind::File => self.tree.open_file(&path).map(Some),
            _ => Ok(None),
        }
    }

    /// Keeps the first bytes of what was received of a content, and nothing after them.
    pub fn keep_received(&self, need: &Need, bytes: u64) -> Result<(), ApplyError> {
        let path = partial_path(need.content.id);
        if bytes == 0 {
            return self.tree.remove_all(&path);
        }
        self.tree
            .open_to_write(&path)?
            .set_len(bytes)
            .map_err(|source| self.tree.failed("shortening", &path, source))
    }

    /// The file for what is received of a content, made if it is not there.
    pub fn partial(&self, need: &Need) -> Result<Partial<'_>, ApplyError> {
        let path = partial_path(need.content.id);
        let file = match self.create(need.content.id, &path) {
            Err(error) if error.io_kind() == Some(io::ErrorKind::AlreadyExists) => {
                self.tree.open_to_write(&path)?
            }
            created => created?,
        };
        Ok(Partial::new(self.tree, need, path, file))
    }

    /// Gives what was received of a content its name if it was found to be that, and removes it otherwise.
    pub fn accept(&self, need: &Need, found: ContentId) -> Result<(), ApplyError> {
        let path = partial_path(need.content.id);
        if found != need.content.id {
            self.tree.remove_file(&path)?;
            return Err(wrong(&need.content, format!("they are {found}")));
        }
        if need.is_sparse {
            // A hole at the end was only skipped.
            self.tree
                .open_to_write(&path)?
                .set_len(need.content.size)
                .map_err(|source| self.tree.failed("writing", &path, source))?;
        }
        self.keep(need.content.id, &path)
    }

    /// Has what was received so far written to the disk. The run does that in any case before anything is moved to
    /// its place; done now and then on another thread, the disk has less left to do then.
    pub fn write_out(&self) -> Result<(), ApplyError> {
        self.tree.sync_file_system()
    }

    /// Starts to write a content from its first byte to its last.
    pub fn writer<'b>(&'b self, need: &'b Need) -> Result<ContentWriter<'b>, ApplyError> {
        self.keep_received(need, 0)?;
        Ok(ContentWriter::new(self, need, self.partial(need)?))
    }

    /// Stages a content that is at hand as a whole. It is written under its name at once: one that a crash cuts off
    /// is found to be damaged by [`Self::has`].
    pub fn put(&self, need: &Need, bytes: &[u8]) -> Result<(), ApplyError> {
        let content = &need.content;
        if need.is_sparse || bytes.len() as u64 != content.size || ContentId::of(bytes) != content.id {
            // Holes are made, and wrong bytes are named, in one place.
            let mut writer = self.writer(need)?;
            writer.write(bytes)?;
            return writer.finish();
        }
        self.write_named(content, bytes, |file| give_new(file, need.mode, need.modified))
    }

    /// Stages a content whose names were found by hashing these bytes.
    pub(super) fn put_named(&self, content: &Content, bytes: &[u8]) -> Result<(), ApplyError> {
        if self.is_verified(content.id) {
            return Ok(());
        }
        self.write_named(content, bytes, |_| Ok(()))
    }

    fn write_named(
        &self,
        content: &Content,
        bytes: &[u8],
        finish: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), ApplyError> {
        let (path, lies) = self.destination(content.id);
        let mut file = match self.create(content.id, &path) {
            Err(error) if error.io_kind() == Some(io::ErrorKind::AlreadyExists) => {
                self.tree.remove_all(&path)?;
                self.create(content.id, &path)?
            }
            created => created?,
        };
        self.tree.announce("write", &path)?;
        file.write_all(bytes)
            .and_then(|()| finish(&file))
            .map_err(|source| self.tree.failed("writing", &path, source))?;
        self.set_verified(content.id, lies);
        Ok(())
    }

    /// Takes a file whose names were found by hashing what was written to it.
    pub(super) fn adopt(&self, content: &Content, path: &[u8]) -> Result<(), ApplyError> {
        self.tree.make_directory(&shard_path(content.id), 0o700)?;
        self.keep(content.id, path)
    }

    /// A staged content, to be read.
    pub fn open_content(&self, content: &Content) -> Result<Option<File>, ApplyError> {
        if self.has(content)? {
            self.tree.open_file(&self.path_of_verified(content.id)).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Removes a staged content that is needed no more.
    pub fn discard_content(&self, id: ContentId) -> Result<(), ApplyError> {
        let path = self.path_of_verified(id);
        self.verified.lock().expect("no one panics while holding the lock").remove(&id);
        self.tree.remove_all(&path)
    }

    /// Stages a content from the file of the target that the plan names; false if that is no longer the content,
    /// which then has to be fetched.
    pub fn copy_local(&self, need: &Need) -> Result<bool, ApplyError> {
        let Some(local) = &need.local else { return Ok(false) };
        if self.has(&need.content)? {
            return Ok(true);
        }
        let source = match self.sources.open_file(local) {
            Ok(source) => source,
            Err(ApplyError::Io { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.clone_local(need, &source)? {
            return Ok(true);
        }
        let mut writer = self.writer(need)?;
        match writer.copy_from(source) {
            Ok(()) => writer.finish().map(|()| true),
            Err(error) => Err(error),
        }
        .or_else(|error| match error {
            ApplyError::WrongContent { .. } => Ok(false),
            error => Err(error),
        })
    }

    /// Opens the file that a content replaces, if it is still there.
    pub fn former(&self, need: &Need) -> Option<File> {
        need.former.as_ref().and_then(|path| self.sources.open_file(path).ok())
    }

    /// Shares the blocks of a file, where the file system can, and hashes what it got.
    fn clone_local(&self, need: &Need, source: &File) -> Result<bool, ApplyError> {
        let path = partial_path(need.content.id);
        self.tree.remove_all(&path)?;
        let file = self.create(need.content.id, &path)?;
        self.tree.announce("clone", &path)?;
        if rustix::fs::ioctl_ficlone(&file, source).is_err() {
            return Ok(false);
        }
        let id = hash_reader(&file).map_err(|source| self.tree.failed("reading", &path, source))?;
        if id != need.content.id {
            return Ok(false);
        }
        self.keep(need.content.id, &path)?;
        Ok(true)
    }

    /// Makes the file of a content, and the directory for it when it is the first one there.
    fn create(&self, id: ContentId, path: &[u8]) -> Result<File, ApplyError> {
        match self.tree.create_file(path) {
            Err(error) if error.io_kind() == Some(io::ErrorKind::NotFound) => {
                self.tree.make_directory(&shard_path(id), 0o700)?;
                self.tree.create_file(path)
            }
            created => created,
        }
    }

    /// Gives a verified content its name.
    fn keep(&self, id: ContentId, partial: &[u8]) -> Result<(), ApplyError> {
        let (path, lies) = self.destination(id);
        self.tree.rename(partial, &path)?;
        self.set_verified(id, lies);
        Ok(())
    }

    /// Makes the file for a path: the staged file itself for the last one that wants it, else a copy.
    pub(super) fn take_file(
        &self,
        content: &Content,
        made: &Made<'_>,
        is_last: bool,
    ) -> Result<Vec<u8>, ApplyError> {
        let path = made.path();
        if content.size == 0 {
            self.tree.create_file(&path)?;
            return Ok(path);
        }
        if !self.has(content)? {
            return Err(ApplyError::MissingContent(content.id));
        }
        let staged = self.path_of_verified(content.id);
        match made {
            Made::Loose(_) if is_last => return Ok(staged),
            Made::InNewDirectory(_) if is_last => {
                if staged != path {
                    self.keep(content.id, &staged)?;
                }
                return Ok(path);
            }
            Made::Loose(_) | Made::InNewDirectory(_) => {}
        }
        let mut from = self.tree.open_file(&staged)?;
        let mut copy = self.tree.create_file(&path)?;
        self.tree.announce("copy", &path)?;
        if rustix::fs::ioctl_ficlone(&copy, &from).is_err() {
            io::copy(&mut from, &mut copy).map_err(|source| self.tree.failed("copying to", &path, source))?;
        }
        Ok(path)
    }

    /// The bytes of a small staged content.
    pub(super) fn read(&self, content: &Content) -> Result<Vec<u8>, ApplyError> {
        if !self.has(content)? {
            return Err(ApplyError::MissingContent(content.id));
        }
        let path = self.path_of_verified(content.id);
        let mut bytes = Vec::new();
        self.tree
            .open_file(&path)?
            .take(content.size)
            .read_to_end(&mut bytes)
            .map_err(|source| self.tree.failed("reading", &path, source))?;
        Ok(bytes)
    }

    fn is_verified(&self, id: ContentId) -> bool {
        self.lies(id).is_some()
    }

    fn lies(&self, id: ContentId) -> Option<Lies> {
        self.verified.lock().ok()?.get(&id).copied()
    }

    fn set_verified(&self, id: ContentId, lies: Lies) {
        self.verified.lock().expect("no one panics while holding the lock").insert(id, lies);
    }

    /// Where a content goes that is received now.
    fn destination(&self, id: ContentId) -> (Vec<u8>, Lies) {
        match self.fresh.seat(id) {
            Some(seat) => (seat, Lies::InItsSeat),
            None => (content_path(id), Lies::UnderItsId),
        }
    }

    /// Where a content is that was received.
    fn path_of_verified(&self, id: ContentId) -> Vec<u8> {
        let seat = self.lies(id).filter(|lies| *lies == Lies::InItsSeat).and_then(|_| self.fresh.seat(id));
        seat.unwrap_or_else(|| content_path(id))
    }
}

/// A file that is made for an action of a plan.
#[derive(Debug, Clone, Copy)]
pub(super) enum Made<'a> {
    /// For the action of this number.
    Loose(u64),
    /// In a new directory, for this path.
    InNewDirectory(&'a [u8]),
}

impl Made<'_> {
    /// Where it is made.
    pub(super) fn path(&self) -> Vec<u8> {
        match self {
            Self::Loose(number) => path_of(Staged::Made(*number)),
            Self::InNewDirectory(path) => join(NEW, path),
        }
    }
}

/// Where a staged file lies in the target.
pub(super) fn path_of(staged: Staged) -> Vec<u8> {
    match staged {
        Staged::Content(id) => content_path(id),
        Staged::Made(number) => join(MADE, number.to_string().as_bytes()),
    }
}

/// Removes the staging directory with everything that was received.
pub(super) fn discard(tree: &TreeDir) -> Result<(), ApplyError> {
    tree.remove_all(STAGE)
}

/// The directory of a content. There are several, so that processors which make files at the same time seldom wait
/// for each other.
fn shard_path(id: ContentId) -> Vec<u8> {
    join(STAGE_CONTENTS, format!("{:x}", id.as_bytes()[0] >> 4).as_bytes())
}

fn content_path(id: ContentId) -> Vec<u8> {
    join(&shard_path(id), id.to_string().as_bytes())
}

fn partial_path(id: ContentId) -> Vec<u8> {
    join(&shard_path(id), format!("{id}.part").as_bytes())
}
