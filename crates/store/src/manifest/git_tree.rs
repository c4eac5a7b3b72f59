//! The git tree id of a manifest, computed from its entries in one pass.
//!
//! Git sorts a directory as if its name ended in a slash, which is where the manifest has what lies below it; only
//! a directory that has an entry of its own may come too early, and waits. A tree's hash begins with its length, so
//! the objects of all directories that are open are in memory: those of one path from the root down.

use sha1::{Digest, Sha1};

use super::entry::{Attributes, Entry, GitMode, Node};
use super::path::TreePath;
use crate::id::TreeId;

/// An entry that no tree of git can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitTreeError {
    /// The entry is of a kind or a fidelity that git does not know.
    #[error("{0} cannot stand in a tree of git")]
    NotOfGit(TreePath),
}

/// Is shown every directory of a tree as soon as it is complete, which is after all that are in it.
pub trait TreeSink {
    /// A directory: its path, its id, and what git keeps of it, without the header that is hashed with it.
    fn tree(&mut self, path: &[u8], id: TreeId, object: &[u8]);
}

/// Where only the id of the whole is asked for.
impl TreeSink for () {
    fn tree(&mut self, _: &[u8], _: TreeId, _: &[u8]) {}
}

impl<S: TreeSink> TreeSink for &mut S {
    fn tree(&mut self, path: &[u8], id: TreeId, object: &[u8]) {
        (**self).tree(path, id, object);
    }
}

/// Takes the entries of a `git` manifest in their order and computes the id that git gives the tree.
#[derive(Debug, Default)]
pub struct GitTreeHasher<S = ()> {
    sink: S,
    root: Vec<u8>,
    /// The directories that the last path lies in, from the top down.
    open: Vec<Directory>,
    /// Directories with an entry of their own whose place among their siblings has not come; each one's path
    /// begins with the path of the one before it.
    waiting: Vec<(TreePath, GitMode)>,
}

#[derive(Debug)]
struct Directory {
    path: Vec<u8>,
    mode: GitMode,
    object: Vec<u8>,
}

impl GitTreeHasher {
    /// Starts with no entries.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S: TreeSink> GitTreeHasher<S> {
    /// Starts with no entries; the sink is shown every directory.
    pub fn with_sink(sink: S) -> Self {
        Self { sink, root: Vec::new(), open: Vec::new(), waiting: Vec::new() }
    }

    /// Takes the next entry. Entries come in the order of a manifest and keep its rules.
    pub fn push(&mut self, entry: &Entry) -> Result<(), GitTreeError> {
        let not_of_git = || GitTreeError::NotOfGit(entry.path.clone());
        let Attributes::Git(mode) = entry.attributes else { return Err(not_of_git()) };
        let id = match &entry.node {
            Node::File(content) | Node::Symlink(content) => content.blob.as_bytes(),
            Node::Submodule(commit) => commit.as_bytes(),
            Node::Directory => {
                self.settle(entry.path.as_bytes());
                self.open_parents(&entry.path);
                self.waiting.push((entry.path.clone(), mode));
                return Ok(());
            }
            _ => return Err(not_of_git()),
        };
        self.settle(entry.path.as_bytes());
        self.open_parents(&entry.path);
        put_entry(self.object(), mode, entry.path.file_name(), id);
        Ok(())
    }

    /// The id of the whole tree.
    pub fn finish(mut self) -> TreeId {
        while let Some((path, mode)) = self.waiting.pop() {
            self.close_down_to(&path);
            self.put_directory(path.as_bytes(), mode, &[]);
        }
        while !self.open.is_empty() {
            self.close();
        }
        let id = hash_tree(&self.root);
        self.sink.tree(&[], id, &self.root);
        id
    }

    /// Writes and closes everything whose place is before `next`.
    fn settle(&mut self, next: &[u8]) {
        while let Some((path, mode)) = self.waiting.pop_if(|(path, _)| is_over(path.as_bytes(), next)) {
            self.close_down_to(&path);
            self.put_directory(path.as_bytes(), mode, &[]);
        }
        while self.open.last().is_some_and(|directory| !is_inside(&directory.path, next)) {
            self.close();
        }
    }

    /// Closes the directories that do not hold `path`.
    fn close_down_to(&mut self, path: &TreePath) {
        while self.open.last().is_some_and(|directory| !is_inside(&directory.path, path.as_bytes())) {
            self.close();
        }
    }

    fn open_parents(&mut self, path: &TreePath) {
        let bytes = path.as_bytes();
        let from = self.open.last().map_or(0, |directory| directory.path.len() + 1);
        for slash in (from..bytes.len()).filter(|index| bytes[*index] == b'/') {
            let parent = &bytes[..slash];
            let mode = self.waiting.pop_if(|(waiting, _)| waiting.as_bytes() == parent);
            let mode = mode.map_or(GitMode::DIRECTORY, |(_, mode)| mode);
            self.open.push(Directory { path: parent.to_vec(), mode, object: Vec::new() });
        }
    }

    fn close(&mut self) {
        if let Some(directory) = self.open.pop() {
            self.put_directory(&directory.path, directory.mode, &directory.object);
        }
    }

    fn put_directory(&mut self, path: &[u8], mode: GitMode, object: &[u8]) {
        let id = hash_tree(object);
        self.sink.tree(path, id, object);
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        put_entry(self.object(), mode, name, id.as_bytes());
    }

    /// The object of the innermost directory that is open.
    fn object(&mut self) -> &mut Vec<u8> {
        self.open.last_mut().map_or(&mut self.root, |directory| &mut directory.object)
    }
}

/// Whether `path` is in the directory.
fn is_inside(directory: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Whether a directory and all below it is before `next`.
fn is_over(directory: &[u8], next: &[u8]) -> bool {
    match next.strip_prefix(directory) {
        Some(rest) => rest.first().is_some_and(|byte| *byte > b'/'),
        None => true,
    }
}

fn put_entry(object: &mut Vec<u8>, mode: GitMode, name: &[u8], id: &[u8]) {
    object.extend_from_slice(format!("{:o} ", mode.bits()).as_bytes());
    object.extend_from_slice(name);
    object.push(0);
    object.extend_from_slice(id);
}

fn hash_tree(object: &[u8]) -> TreeId {
    let mut hash = Sha1::new();
    hash.update(format!("tree {}\0", object.len()));
    hash.update(object);
    TreeId::from_bytes(hash.finalize().into())
}
