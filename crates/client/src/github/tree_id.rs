//! Whether a listing is the tree that was asked for.
//!
//! Each directory of the listing is hashed as git hashes it and compared with the id that its parent gives it, from the
//! id that the commit gives the root; so one pass over the listing proves every name, mode and id in it.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};
use smart_sync_store::id::{BlobId, TreeId};
use smart_sync_store::manifest::entry::GitMode;
use smart_sync_store::manifest::path::Shown;

use super::error::SourceError;

/// A row of a listing: a path of any depth, directories included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) path: Vec<u8>,
    pub(super) mode: GitMode,
    /// The id of a blob, a tree or a commit, by the mode.
    pub(super) object: [u8; 20],
    /// The size of a blob.
    pub(super) size: u64,
}

/// Proves a listing against the id of its root.
pub(super) fn verify(root: TreeId, rows: &[Row]) -> Result<(), SourceError> {
    let mut directories: BTreeMap<&[u8], (TreeId, Vec<&Row>)> = BTreeMap::new();
    directories.insert(b"", (root, Vec::new()));
    for row in rows.iter().filter(|row| row.mode.is_directory()) {
        directories.insert(&row.path, (TreeId::from_bytes(row.object), Vec::new()));
    }
    let wrong = |directory: &[u8]| SourceError::WrongTree {
        expected: root,
        directory: format!("/{}", Shown(directory)),
    };
    for row in rows {
        let parent = split(&row.path).0;
        directories.get_mut(parent).ok_or_else(|| wrong(parent))?.1.push(row);
    }
    for (path, (id, mut children)) in directories {
        if hash(&mut children) != id {
            return Err(wrong(path));
        }
    }
    Ok(())
}

/// The id that git gives a content.
pub(super) fn blob_hasher(size: u64) -> Sha1 {
    Sha1::new_with_prefix(format!("blob {size}\0"))
}

/// The end of a [`blob_hasher`].
pub(super) fn blob_id(hasher: Sha1) -> BlobId {
    BlobId::from_bytes(hasher.finalize().into())
}

/// A path's directory and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn hash(children: &mut [&Row]) -> TreeId {
    // Git sorts a directory as if its name ended in a slash.
    children.sort_by(|left, right| sort_key(left).cmp(sort_key(right)));
    let mut object = Vec::new();
    for row in children {
        object.extend_from_slice(format!("{:o} ", row.mode.bits()).as_bytes());
        object.extend_from_slice(split(&row.path).1);
        object.push(0);
        object.extend_from_slice(&row.object);
    }
    let hasher = Sha1::new_with_prefix(format!("tree {}\0", object.len()));
    TreeId::from_bytes(hasher.chain_update(object).finalize().into())
}

fn sort_key(row: &Row) -> impl Iterator<Item = &u8> {
    let end: &[u8] = if row.mode.is_directory() { b"/" } else { b"" };
    split(&row.path).1.iter().chain(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str, mode: GitMode, object: [u8; 20]) -> Row {
        Row { path: path.as_bytes().to_vec(), mode, object, size: 0 }
    }

    /// The ids are those that `git mktree` gives.
    #[test]
    fn ids_are_those_of_git() {
        let empty_tree: TreeId = "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().unwrap();
        verify(empty_tree, &[]).unwrap();
        let empty: BlobId = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391".parse().unwrap();
        assert_eq!(blob_id(blob_hasher(0)), empty);
        // The directory `a` comes after `a.b` and before `a0`.
        let inner: TreeId = "5805b676e247eb9a8046ad0c4d249cd2fb2513df".parse().unwrap();
        let rows = [
            row("a", GitMode::DIRECTORY, *inner.as_bytes()),
            row("a/x", GitMode::FILE, *empty.as_bytes()),
            row("a.b", GitMode::EXECUTABLE, *empty.as_bytes()),
            row("a0", GitMode::SYMLINK, *empty.as_bytes()),
        ];
        let root: TreeId = "950d1c1edb5d786012e384a0808f1bfe48153bb6".parse().unwrap();
        verify(root, &rows).unwrap();
        for changed in 0..rows.len() {
            let mut rows = rows.clone();
            rows[changed].object[3] ^= 1;
            assert!(matches!(verify(root, &rows), Err(SourceError::WrongTree { .. })), "{changed}");
        }
        assert!(verify(root, &rows[..3]).is_err(), "a missing entry was not noticed");
        assert!(verify(root, &rows[1..]).is_err(), "an entry without its directory was not noticed");
    }
}
