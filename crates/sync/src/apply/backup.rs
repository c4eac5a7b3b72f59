//! Where the host's own changes go when something of ours takes their place.
//!
//! A backup is a directory of the run, named by its time, in which each file keeps its path. On the same file
//! system a file is moved there; on another it is copied, the copy made durable, and only then removed.

use super::error::ApplyError;
use super::stat::FileKind;
use super::tree_dir::{Moved, TreeDir};
use super::tree_walk::join;

const BACKUPS: &[u8] = b"backups";
const STAMP_BYTES_MAX: usize = 64;
/// Backups of one path in one run: more than one only if the path changed again while the run went on.
const SAME_PATH_MAX: usize = 1000;

/// The name of the backups of one run: its time, as `20260101T120000Z`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Box<[u8]>);

impl Stamp {
    /// Takes letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
    pub fn new(text: &[u8]) -> Option<Self> {
        let is_name = text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
        let begins = text.first().is_some_and(u8::is_ascii_alphanumeric);
        (is_name && begins && text.len() <= STAMP_BYTES_MAX).then(|| Self(text.into()))
    }

    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The backup of one run.
#[derive(Debug)]
pub(super) struct Backup<'a> {
    state: &'a TreeDir,
    directory: Vec<u8>,
    saved: Vec<Box<[u8]>>,
}

impl<'a> Backup<'a> {
    pub(super) fn new(state: &'a TreeDir, stamp: &Stamp) -> Self {
        Self { state, directory: join(BACKUPS, stamp.as_bytes()), saved: Vec::new() }
    }

    /// The paths that were backed up.
    pub(super) fn into_saved(self) -> Vec<Box<[u8]>> {
        self.saved
    }

    /// Takes what stands at a path of the tree, which is free afterwards.
    pub(super) fn take(&mut self, tree: &TreeDir, path: &[u8]) -> Result<(), ApplyError> {
        let wanted = join(&self.directory, path);
        self.state.make_parents(&wanted, 0o700)?;
        for number in 0..SAME_PATH_MAX {
            let to = if number == 0 {
                wanted.clone()
            } else {
                [&*wanted, format!(".{number}").as_bytes()].concat()
            };
            if self.state.stat(&to)?.is_some() {
                continue;
            }
            match tree.move_to(path, self.state, &to)? {
                Moved::Yes => {}
                Moved::Taken => continue,
                Moved::OtherFileSystem => self.copy(tree, path, &to)?,
            }
            self.saved.push(path.into());
            return Ok(());
        }
        let taken = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        Err(self.state.failed("backing up to", &wanted, taken))
    }

    fn copy(&self, tree: &TreeDir, path: &[u8], to: &[u8]) -> Result<(), ApplyError> {
        let unfinished = join(&self.directory, b".unfinished");
        self.state.remove_all(&unfinished)?;
        tree.copy_all(path, self.state, &unfinished)?;
        self.state.rename(&unfinished, to)?;
        // The file and each directory that leads to it have to be found again after a power loss.
        for (at, _) in to.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.state.sync_directory(&to[..at])?;
        }
        self.state.sync_directory(b"")?;
        match tree.stat(path)? {
            Some(stat) if stat.kind == FileKind::Directory => tree.remove_all(path),
            _ => tree.remove_file(path).map(|_| ()),
        }
    }
}
