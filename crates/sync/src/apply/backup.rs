//! Where the host's own changes go when something of ours takes their place.
//!
//! A backup is a directory of the run, named by its time, in which each file keeps its path. On the same file
//! system a file is moved there; on another it is copied, the copy made durable, and only then removed.

use super::error::ApplyError;
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

/// What becomes of what is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Original {
    Goes,
    Stays,
}

/// The backup of one run.
#[derive(Debug)]
pub struct Backup<'a> {
    state: &'a TreeDir,
    directory: Vec<u8>,
    saved: Vec<Box<[u8]>>,
}

impl<'a> Backup<'a> {
    /// The backup of the run of this time, in a state directory. Nothing is made before it is needed.
    pub fn new(state: &'a TreeDir, stamp: &Stamp) -> Self {
        Self { state, directory: join(BACKUPS, stamp.as_bytes()), saved: Vec::new() }
    }

    /// The paths that were backed up.
    pub fn into_saved(self) -> Vec<Box<[u8]>> {
        self.saved
    }

    /// Takes what stands at a path of the tree, which is free afterwards.
    pub(super) fn take(&mut self, tree: &TreeDir, path: &[u8]) -> Result<(), ApplyError> {
        self.save(tree, path, Original::Goes)
    }

    /// Keeps a copy of what stands at a path of the tree.
    pub(super) fn copy_aside(&mut self, tree: &TreeDir, path: &[u8]) -> Result<(), ApplyError> {
        if tree.stat(path)?.is_none() {
            return Ok(());
        }
        self.save(tree, path, Original::Stays)
    }

    fn save(&mut self, tree: &TreeDir, path: &[u8], original: Original) -> Result<(), ApplyError> {
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
            match original {
                Original::Stays => self.copy(tree, path, &to)?,
                Original::Goes => match tree.move_to(path, self.state, &to)? {
                    Moved::Yes => {}
                    Moved::Taken => continue,
                    Moved::OtherFileSystem => {
                        self.copy(tree, path, &to)?;
                        tree.remove_all(path)?;
                    }
                },
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
        self.state.sync_directory(b"")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::apply::step::Steps;
    use crate::apply::tree_dir::RootLink;

    #[test]
    fn a_copy_to_another_file_system_is_whole() {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |path| TreeDir::open(path, RootLink::Refuse, Steps::default()).unwrap();
        let (tree, kept) = (open(root.path()), open(state.path()));
        fs::create_dir_all(root.path().join("dir/below")).unwrap();
        fs::write(root.path().join("dir/below/file"), "mine").unwrap();
        symlink("/etc", root.path().join("dir/link")).unwrap();

        let backup = Backup::new(&kept, &Stamp::new(b"1").unwrap());
        kept.make_parents(b"backups/1/dir", 0o700).unwrap();
        backup.copy(&tree, b"dir", b"backups/1/dir").unwrap();
        assert!(root.path().join("dir/below/file").exists());
        let copy = state.path().join("backups/1/dir");
        assert_eq!(fs::read_to_string(copy.join("below/file")).unwrap(), "mine");
        assert_eq!(fs::read_link(copy.join("link")).unwrap(), std::path::Path::new("/etc"));
        assert_eq!(fs::read_dir(state.path().join("backups/1")).unwrap().count(), 1);
    }

    #[test]
    fn a_second_backup_of_a_path_does_not_replace_the_first() {
        let (root, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |path| TreeDir::open(path, RootLink::Refuse, Steps::default()).unwrap();
        let (tree, kept) = (open(root.path()), open(state.path()));
        let mut backup = Backup::new(&kept, &Stamp::new(b"1").unwrap());
        for text in ["first", "second"] {
            fs::write(root.path().join("file"), text).unwrap();
            backup.take(&tree, b"file").unwrap();
        }
        let read = |name: &str| fs::read_to_string(state.path().join("backups/1").join(name)).unwrap();
        assert_eq!((read("file"), read("file.1")), ("first".into(), "second".into()));
    }
}
