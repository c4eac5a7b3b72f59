//! The entries of a git tree in the order of a manifest.
//!
//! Git's own order is that of a manifest, save for a directory that has an entry of its own: it stands where its
//! bare name sorts, and what is below it where the name with a slash does. Such a directory therefore comes up
//! twice. Trees are parsed here, because modes have to be taken exactly as they are written.

use gix::objs::Kind;
use smart_sync_store::id::{BlobId, CommitId, TreeId};
use smart_sync_store::manifest::{GitMode, Node, TreePath};

use super::{GitError, blob_size, find};
use crate::source::{SourceError, tree_path};

/// The tree without entries.
const EMPTY_TREE: [u8; 20] = [
    0x4b, 0x82, 0x5d, 0xc6, 0x42, 0xcb, 0x6e, 0xb9, 0xa0, 0x60, 0xe5, 0x4b, 0xf8, 0xd6, 0x92, 0x88, 0xfb,
    0xee, 0x49, 0x04,
];

/// What stands at a path of a git tree.
pub(super) enum WalkNode {
    /// A file or a symbolic link.
    Blob(BlobId),
    /// A submodule, or a directory that needs an entry.
    Plain(Node),
}

/// One line of a tree object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeItem {
    /// What the line is about, as it is written.
    pub mode: GitMode,
    /// One component of a path; bytes without a slash.
    pub name: Vec<u8>,
    /// The object: a blob, a tree or a commit.
    pub id: [u8; 20],
}

/// What is still to come in one directory.
struct Frame {
    path: Vec<u8>,
    items: std::vec::IntoIter<(Step, TreeItem)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Report,
    Enter,
}

/// Walks a tree; what it holds is the trees of one path from the root down.
pub(super) struct TreeWalk {
    repository: gix::Repository,
    frames: Vec<Frame>,
}

impl TreeWalk {
    pub(super) fn new(repository: gix::Repository, root: TreeId) -> Result<Self, SourceError> {
        let mut walk = Self { repository, frames: Vec::new() };
        walk.enter(Vec::new(), *root.as_bytes())?;
        Ok(walk)
    }

    pub(super) fn next(&mut self) -> Result<Option<(TreePath, GitMode, WalkNode)>, SourceError> {
        while let Some(frame) = self.frames.last_mut() {
            let Some((step, item)) = frame.items.next() else {
                self.frames.pop();
                continue;
            };
            let mut path = frame.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&item.name);
            let path = tree_path(path)?;
            if step == Step::Enter {
                self.enter(path.as_bytes().to_vec(), item.id)?;
                continue;
            }
            let node = if item.mode.is_directory() {
                WalkNode::Plain(Node::Directory)
            } else if item.mode.is_submodule() {
                WalkNode::Plain(Node::Submodule(CommitId::from_bytes(item.id)))
            } else {
                WalkNode::Blob(BlobId::from_bytes(item.id))
            };
            return Ok(Some((path, item.mode, node)));
        }
        Ok(None)
    }

    pub(super) fn blob_size(&self, path: &TreePath, blob: BlobId) -> Result<u64, GitError> {
        blob_size(&self.repository, blob, path.as_bytes())
    }

    fn enter(&mut self, path: Vec<u8>, id: [u8; 20]) -> Result<(), SourceError> {
        let object = find(&self.repository, id, Kind::Tree, &path)?;
        let items = parse_tree(&object.data)
            .map_err(|reason| GitError::MalformedTree { id: object.id.to_string(), reason })?;
        let mut steps = Vec::with_capacity(items.len());
        for item in items {
            let is_directory = item.mode.is_directory();
            if !is_directory || item.id == EMPTY_TREE || item.mode != GitMode::DIRECTORY {
                steps.push((Step::Report, item.clone()));
            }
            if is_directory && item.id != EMPTY_TREE {
                steps.push((Step::Enter, item));
            }
        }
        // A stable sort: a tree with one name twice keeps both, and is refused further on.
        steps.sort_by(|(a_step, a), (b_step, b)| key(*a_step, a).cmp(key(*b_step, b)));
        self.frames.push(Frame { path, items: steps.into_iter() });
        Ok(())
    }
}

/// The bytes by which a step is sorted among those of its directory.
fn key(step: Step, item: &TreeItem) -> impl Iterator<Item = &u8> {
    item.name.iter().chain((step == Step::Enter).then_some(&b'/'))
}

/// Reads a tree object: octal mode, space, name, NUL, id. What is accepted has one spelling; whether the names are ones
/// that may be published is not looked at.
pub fn parse_tree(mut rest: &[u8]) -> Result<Vec<TreeItem>, &'static str> {
    let mut items = Vec::new();
    while !rest.is_empty() {
        let space = rest.iter().take(7).position(|byte| *byte == b' ').ok_or("a mode is too long")?;
        let mode = parse_mode(&rest[..space])?;
        rest = &rest[space + 1..];
        let end = rest.iter().position(|byte| *byte == 0).ok_or("a name has no end")?;
        let name = rest[..end].to_vec();
        if name.contains(&b'/') {
            return Err("a name holds a slash");
        }
        let (id, after) = rest[end + 1..].split_first_chunk::<20>().ok_or("an id is cut short")?;
        items.push(TreeItem { mode, name, id: *id });
        rest = after;
    }
    Ok(items)
}

fn parse_mode(digits: &[u8]) -> Result<GitMode, &'static str> {
    match digits.first() {
        None => return Err("a mode is empty"),
        Some(b'0') => return Err("a mode begins with zero, which `git fsck --strict` refuses too"),
        Some(_) => {}
    }
    let mut mode = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err("a mode is not octal");
        }
        mode = mode << 3 | u32::from(digit - b'0');
    }
    GitMode::new(mode).ok_or("a mode is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(items: &[(&str, &[u8])]) -> Vec<u8> {
        items
            .iter()
            .flat_map(|(mode, name)| [mode.as_bytes(), b" ", name, b"\0", &[7; 20]].concat())
            .collect()
    }

    #[test]
    fn modes_are_taken_as_they_are_written() {
        let bytes = tree(&[("40000", b"a"), ("100664", b"b\n"), ("777777", b"\xff")]);
        let items = parse_tree(&bytes).unwrap();
        let modes: Vec<u32> = items.iter().map(|item| item.mode.bits()).collect();
        assert_eq!(modes, [0o40_000, 0o100_664, 0o777_777]);
        assert_eq!(items[2].name, b"\xff");
    }

    #[test]
    fn malformed_trees_are_refused() {
        let check = |bytes: &[u8], reason: &str| {
            let error = parse_tree(bytes).unwrap_err();
            assert!(error.contains(reason), "{error}");
        };
        check(&tree(&[("040000", b"a")]), "begins with zero");
        check(&tree(&[("10064x", b"a")]), "not octal");
        check(&tree(&[("1000000", b"a")]), "too long");
        check(&tree(&[("", b"a")]), "empty");
        check(&tree(&[("100644", b"a/b")]), "holds a slash");
        check(b"100644 a", "no end");
        check(b"100644 a\0short", "cut short");
    }
}
