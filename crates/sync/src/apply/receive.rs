//! Contents that come before it is known which they are: those of a bundle.
//!
//! A content is hashed and gets the name that its bytes have, so that the stage holds nothing under a name that is not
//! its own. Whether anybody wants it is found out when the manifest is known; what nobody wants goes with the stage.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use smart_sync_store::content::{BlobHasher, name_content};
use smart_sync_store::id::ContentIdHasher;
use smart_sync_store::manifest::entry::Content;

use super::error::ApplyError;
use super::partial::Partial;
use super::plan::Problem;
use super::stage::{STAGE, Stage};
use super::tree_dir::TreeDir;
use super::tree_walk::join;
use crate::bundle::apply::{ContentTaker, NewContents};
use crate::bundle::resolve::Delivery;

/// The bytes from which on they are given to several threads.
const APART_BYTES_MIN: usize = 256 << 10;

/// Takes the contents of a bundle into a stage.
#[derive(Debug)]
pub struct Receiver<'a> {
    stage: &'a Stage<'a>,
    begun: AtomicU64,
}

impl<'a> Receiver<'a> {
    /// Prepares to take contents that have so many bytes together, if there is room for them.
    pub fn new(stage: &'a Stage<'a>, bytes: u64) -> Result<Self, ApplyError> {
        let free = free_bytes(stage.tree())?;
        if bytes > free {
            return Err(ApplyError::Refused(vec![Problem::Space { needed: bytes, free }]));
        }
        Ok(Self { stage, begun: AtomicU64::new(0) })
    }
}

impl Receiver<'_> {
    fn new_file(&self) -> Result<(Vec<u8>, File), ApplyError> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let path = join(STAGE, format!("received-{number}").as_bytes());
        let tree = self.stage.tree();
        // What a run that was killed left there is of no use.
        tree.remove_all(&path)?;
        let file = tree.create_file(&path)?;
        Ok((path, file))
    }
}

/// The bytes that a file system has left for this user.
pub(super) fn free_bytes(tree: &TreeDir) -> Result<u64, ApplyError> {
    let root = tree.open_directory(b"")?;
    let found = rustix::fs::fstatvfs(&root).map_err(|errno| tree.error("asking for space on", b"", errno))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

impl<'a> NewContents for Receiver<'a> {
    type Error = ApplyError;
    type Writer = Received<'a>;

    fn put(&self, item: &Delivery, bytes: &[u8]) -> Result<Content, ApplyError> {
        if item.is_sparse {
            let mut writer = self.begin(item)?;
            writer.write(bytes)?;
            return writer.finish();
        }
        let content = name_content(bytes);
        self.stage.put_named(&content, bytes)?;
        Ok(content)
    }

    fn scratch(&self) -> io::Result<File> {
        let (path, file) = self.new_file().map_err(io::Error::other)?;
        self.stage.tree().remove_file(&path).map_err(io::Error::other)?;
        Ok(file)
    }

    fn begin(&self, item: &Delivery) -> Result<Received<'a>, ApplyError> {
        let tree = self.stage.tree();
        let (path, file) = self.new_file()?;
        Ok(Received {
            stage: self.stage,
            partial: Partial::of_size(tree, item.size, path, file, item.is_sparse),
            whole: ContentIdHasher::default(),
            blob: BlobHasher::new(item.size),
        })
    }
}

/// A content that comes in pieces.
#[derive(Debug)]
pub struct Received<'a> {
    stage: &'a Stage<'a>,
    partial: Partial<'a>,
    whole: ContentIdHasher,
    blob: BlobHasher,
}

impl ContentTaker for Received<'_> {
    type Error = ApplyError;

    fn write(&mut self, bytes: &[u8]) -> Result<(), ApplyError> {
        let Self { partial, whole, blob, .. } = self;
        let offset = whole.count();
        if bytes.len() < APART_BYTES_MIN {
            partial.write_at(offset, bytes)?;
            whole.update(bytes);
            blob.update(bytes);
            return Ok(());
        }
        // The disk's copy and the two names are made side by side: each takes about as long as the others.
        let name = || rayon::join(|| whole.update(bytes), || blob.update(bytes));
        let (written, _) = rayon::join(|| partial.write_at(offset, bytes), name);
        written
    }

    fn finish(self) -> Result<Content, ApplyError> {
        let size = self.whole.count();
        let wrong = |error| {
            let source = io::Error::new(io::ErrorKind::InvalidData, error);
            self.stage.tree().failed("receiving", b"a content", source)
        };
        let blob = self.blob.finish().map_err(wrong)?;
        let content = Content { size, blob, id: self.whole.finish() };
        self.partial.end()?;
        self.stage.adopt(&content, self.partial.path())?;
        Ok(content)
    }
}
