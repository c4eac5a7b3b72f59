//! Contents that are being received.
//!
//! Each has a file beside the tree that no one takes for more than its beginning. Its bytes may come in any order and
//! from several threads; that they are the content is found out by whoever hashes them, and only then does the file
//! get the name under which contents are looked for.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use smart_sync_store::id::{ContentId, ContentIdHasher};
use smart_sync_store::manifest::entry::Content;

use super::error::ApplyError;
use super::plan::Need;
use super::stage::Stage;
use super::tree_dir::TreeDir;

const HOLE_BYTES: usize = 64 << 10;
const BUFFER_BYTES: usize = 128 << 10;

/// The file of a content that is being received.
#[derive(Debug)]
pub struct Partial<'a> {
    tree: &'a TreeDir,
    /// The content, where it is known which it is.
    content: Option<Content>,
    size: u64,
    path: Vec<u8>,
    file: File,
    is_sparse: bool,
}

impl<'a> Partial<'a> {
    pub(super) fn new(tree: &'a TreeDir, need: &Need, path: Vec<u8>, file: File) -> Self {
        let content = Some(need.content);
        Self { tree, content, size: need.content.size, path, file, is_sparse: need.is_sparse }
    }

    /// The file of a content of which only the size is known.
    pub(super) fn of_size(tree: &'a TreeDir, size: u64, path: Vec<u8>, file: File, is_sparse: bool) -> Self {
        Self { tree, content: None, size, path, file, is_sparse }
    }

    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Writes bytes to their place in the content. What is beyond its end is refused before it is written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), ApplyError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            let text = format!("they go on after its {} bytes", self.size);
            return Err(match &self.content {
                Some(content) => wrong(content, text),
                None => {
                    self.tree.failed("writing", &self.path, io::Error::new(io::ErrorKind::InvalidData, text))
                }
            });
        }
        self.tree.announce("write", &self.path)?;
        let written = if self.is_sparse {
            self.write_around_holes(offset, bytes)
        } else {
            self.file.write_all_at(bytes, offset)
        };
        written.map_err(|source| self.tree.failed("writing", &self.path, source))
    }

    /// Hashes what is in the file.
    pub fn hash(&self) -> Result<ContentId, ApplyError> {
        self.end()?;
        let failed = |source| self.tree.failed("reading", &self.path, source);
        let mut hasher = ContentIdHasher::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut position = 0;
        loop {
            match self.file.read_at(&mut buffer, position) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(len) => {
                    hasher.update(&buffer[..len]);
                    position += len as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Makes the file as long as its content: a hole at the end was only skipped.
    pub(super) fn end(&self) -> Result<(), ApplyError> {
        if !self.is_sparse {
            return Ok(());
        }
        self.file.set_len(self.size).map_err(|source| self.tree.failed("writing", &self.path, source))
    }

    fn write_around_holes(&self, mut offset: u64, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(HOLE_BYTES) {
            let is_hole = piece.len() == HOLE_BYTES && piece.iter().all(|byte| *byte == 0);
            if !is_hole {
                self.file.write_all_at(piece, offset)?;
            }
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

/// A content whose bytes come from the first to the last.
#[derive(Debug)]
pub struct ContentWriter<'a> {
    stage: &'a Stage<'a>,
    need: &'a Need,
    partial: Partial<'a>,
    hasher: ContentIdHasher,
}

impl<'a> ContentWriter<'a> {
    pub(super) fn new(stage: &'a Stage<'a>, need: &'a Need, partial: Partial<'a>) -> Self {
        Self { stage, need, partial, hasher: ContentIdHasher::default() }
    }

    /// Takes the next bytes. More than the content has are refused before they are written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ApplyError> {
        self.partial.write_at(self.hasher.count(), bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Accepts the content if it is the one that was asked for; otherwise removes what was received.
    pub fn finish(self) -> Result<(), ApplyError> {
        let (content, position) = (&self.need.content, self.hasher.count());
        if position != content.size {
            return Err(wrong(content, format!("{position} of {} bytes came", content.size)));
        }
        self.stage.accept(self.need, self.hasher.finish())
    }

    pub(super) fn copy_from(&mut self, mut source: File) -> Result<(), ApplyError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => self.write(&buffer[..len])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(self.partial.tree.failed("reading a copy for", &self.partial.path, source));
                }
            }
        }
    }
}

pub(super) fn wrong(content: &Content, found: String) -> ApplyError {
    ApplyError::WrongContent { expected: content.id, found }
}
