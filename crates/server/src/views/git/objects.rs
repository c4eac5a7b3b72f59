//! Which objects of git a version needs that the one before did not have.
//!
//! The manifest is read once to the end: a directory's id follows from those of all that is in it. Of the directories,
//! only those on the way to a change are kept, and of the contents only those that changed.

use std::collections::HashSet;

use anyhow::Context as _;
use smart_sync_store::id::{BlobId, TreeId};
use smart_sync_store::manifest::{
    Change, Content, Edit, Fidelity, GitTreeHasher, Manifest, Node, PageSource, TreePath, TreeSink, diff,
};

/// The objects of a version.
#[derive(Debug)]
pub(super) struct Objects {
    /// The tree itself.
    pub(super) root: TreeId,
    /// What git keeps of each directory that changed.
    pub(super) trees: Vec<Box<[u8]>>,
    /// The contents that changed.
    pub(super) blobs: Vec<Content>,
}

/// What `new` needs that `old` has not; everything, where there is no `old`.
pub(super) fn objects<S: PageSource>(
    old: Option<&Manifest<S>>,
    new: &Manifest<S>,
) -> anyhow::Result<Objects> {
    let mut wanted = Wanted {
        trees: Trees { changed: old.map(|_| HashSet::new()), ..Trees::default() },
        ..Wanted::default()
    };
    if let Some(old) = old {
        for change in diff(old, new) {
            wanted.take(change.context("comparing with the version before")?);
        }
    }
    let mut hasher = GitTreeHasher::with_sink(&mut wanted.trees);
    for entry in new {
        let entry = entry.context("reading the manifest")?;
        hasher.push(&entry)?;
        if old.is_none()
            && let Some(content) = entry.content()
        {
            wanted.contents.push(*content);
        }
    }
    let root = hasher.finish();
    let mut seen = HashSet::new();
    wanted.contents.retain(|content| seen.insert(content.blob));
    Ok(Objects { root, trees: wanted.trees.kept, blobs: wanted.contents })
}

/// Whether a tree is one that git can hold: those with owners and times are not.
pub(super) fn is_of_git<S: PageSource>(manifest: &Manifest<S>) -> bool {
    manifest.fidelity() == Fidelity::Git
}

#[derive(Default)]
struct Wanted {
    trees: Trees,
    contents: Vec<Content>,
}

impl Wanted {
    fn take(&mut self, change: Change) {
        let before: Option<BlobId> = match &change {
            Change::Changed { old, .. } => old.content().map(|content| content.blob),
            _ => None,
        };
        self.trees.note(change.path());
        let Edit::Put(entry) = Edit::from(change) else { return };
        if entry.node == Node::Directory {
            self.trees.note_directory(entry.path.as_bytes());
        }
        self.contents.extend(entry.content().filter(|content| Some(content.blob) != before));
    }
}

#[derive(Default)]
struct Trees {
    /// The directories on the way to a change; none where all are kept.
    changed: Option<HashSet<Box<[u8]>>>,
    kept: Vec<Box<[u8]>>,
    seen: HashSet<TreeId>,
}

impl Trees {
    fn note(&mut self, path: &TreePath) {
        let path = path.as_bytes();
        self.note_directory(&[]);
        for (slash, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            self.note_directory(&path[..slash]);
        }
    }

    fn note_directory(&mut self, path: &[u8]) {
        if let Some(changed) = &mut self.changed
            && !changed.contains(path)
        {
            changed.insert(path.into());
        }
    }
}

impl TreeSink for Trees {
    fn tree(&mut self, path: &[u8], id: TreeId, object: &[u8]) {
        let is_wanted = self.changed.as_ref().is_none_or(|changed| changed.contains(path));
        if is_wanted && self.seen.insert(id) {
            self.kept.push(object.into());
        }
    }
}
