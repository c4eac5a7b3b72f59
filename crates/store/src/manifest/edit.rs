//! Edits: what turns the entries of one manifest into those of another.
//!
//! An edit says what stands at a path afterwards, or that nothing does. The list is sorted and shortened like the
//! entries of a page, and it is not trusted: whoever applies it builds the manifest anew and compares its id.

use std::iter::Peekable;

use super::diff::Change;
use super::entry::{Entry, Fidelity};
use super::fields::{check_entry, put_fields, read_fields};
use super::path::TreePath;
use super::shorten::{put_path, read_path};
use crate::codec::{DecodeError, Reader, put_number};

/// The fewest bytes of an edit: what a count may claim is bounded by it.
const EDIT_LEN_MIN: usize = 4;
const REMOVED: u8 = 0;
const PRESENT: u8 = 1;

/// What stands at a path afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Nothing.
    Remove(TreePath),
    /// This entry, whether something stood there before or not.
    Put(Entry),
}

impl Edit {
    /// The path.
    pub const fn path(&self) -> &TreePath {
        match self {
            Self::Remove(path) => path,
            Self::Put(entry) => &entry.path,
        }
    }

    /// The entry that stands there afterwards.
    pub const fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Remove(_) => None,
            Self::Put(entry) => Some(entry),
        }
    }
}

impl From<Change> for Edit {
    fn from(change: Change) -> Self {
        match change {
            Change::Removed(entry) => Self::Remove(entry.path),
            Change::Added(entry) | Change::Changed { new: entry, .. } => Self::Put(entry),
        }
    }
}

/// Appends a list of edits to `out`. They are sorted by path, and their entries are ones that a manifest of this
/// fidelity can hold.
pub fn put_edits(out: &mut Vec<u8>, fidelity: Fidelity, edits: &[Edit]) {
    put_number(out, edits.len() as u64);
    let mut previous: &[u8] = &[];
    for edit in edits {
        let path = edit.path().as_bytes();
        put_path(out, previous, path);
        match edit {
            Edit::Remove(_) => out.push(REMOVED),
            Edit::Put(entry) => {
                debug_assert_eq!(check_entry(entry, fidelity), Ok(()));
                out.push(PRESENT);
                put_fields(out, entry);
            }
        }
        previous = path;
    }
}

/// Reads a list of edits, strictly, whose paths have at most `path_bytes_max` bytes together: shortened as they are,
/// four bytes can stand for a path of 4 KiB.
pub fn read_edits(
    reader: &mut Reader<'_>,
    fidelity: Fidelity,
    path_bytes_max: u64,
) -> Result<Vec<Edit>, DecodeError> {
    let count = reader.count("number of edits", reader.rest().len() / EDIT_LEN_MIN)?;
    let mut edits: Vec<Edit> = Vec::new();
    let mut path_bytes = 0;
    for _ in 0..count {
        let path = read_path(reader, edits.last().map(Edit::path), fidelity == Fidelity::System)?;
        path_bytes += path.as_bytes().len() as u64;
        if path_bytes > path_bytes_max {
            let (field, limit) = ("length of all paths", path_bytes_max);
            return Err(DecodeError::OverLimit { field, value: path_bytes, limit });
        }
        edits.push(match reader.byte("kind of an edit")? {
            REMOVED => Edit::Remove(path),
            PRESENT => Edit::Put(read_fields(reader, path, fidelity)?),
            other => return Err(DecodeError::invalid(format!("{other} is not the kind of an edit"))),
        });
    }
    Ok(edits)
}

/// The entries that result when edits are made to sorted entries, in the order of their paths.
pub fn edited<E>(
    entries: impl Iterator<Item = Result<Entry, E>>,
    edits: impl IntoIterator<Item = Edit>,
) -> impl Iterator<Item = Result<Entry, E>> {
    Edited { entries: entries.peekable(), edits: edits.into_iter().peekable() }
}

struct Edited<I: Iterator, J: Iterator> {
    entries: Peekable<I>,
    edits: Peekable<J>,
}

impl<I, J, E> Iterator for Edited<I, J>
where
    I: Iterator<Item = Result<Entry, E>>,
    J: Iterator<Item = Edit>,
{
    type Item = Result<Entry, E>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let (Some(Ok(entry)), Some(edit)) = (self.entries.peek(), self.edits.peek()) {
                if entry.path < *edit.path() {
                    return self.entries.next();
                }
                if entry.path == *edit.path() {
                    self.entries.next();
                }
            } else if self.entries.peek().is_some() {
                return self.entries.next();
            }
            match self.edits.next()? {
                Edit::Remove(_) => {}
                Edit::Put(entry) => return Some(Ok(entry)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::name_content;
    use crate::manifest::{Attributes, GitMode, Node};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    fn entry(path: &str, text: &str) -> Entry {
        Entry {
            path: TreePath::new(path.as_bytes()).unwrap(),
            node: Node::File(name_content(text.as_bytes())),
            attributes: Attributes::Git(GitMode::FILE),
        }
    }

    fn after(entries: &[Entry], edits: Vec<Edit>) -> Vec<Entry> {
        edited(entries.iter().cloned().map(Ok::<_, Infallible>), edits).map(Result::unwrap).collect()
    }

    proptest! {
        #[test]
        fn edits_come_back_and_lead_from_the_old_to_the_new(
            old in proptest::collection::btree_map("[a-c]{1,3}", "[xy]", 0..12),
            new in proptest::collection::btree_map("[a-c]{1,3}", "[xy]", 0..12),
        ) {
            let entries = |tree: &BTreeMap<String, String>| -> Vec<Entry> {
                tree.iter().map(|(path, text)| entry(path, text)).collect()
            };
            let mut edits = BTreeMap::new();
            for path in old.keys() {
                edits.insert(path.clone(), Edit::Remove(TreePath::new(path.as_bytes()).unwrap()));
            }
            for (path, text) in &new {
                edits.insert(path.clone(), Edit::Put(entry(path, text)));
            }
            let edits: Vec<_> = edits.into_values().collect();
            let mut bytes = Vec::new();
            put_edits(&mut bytes, Fidelity::Git, &edits);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(read_edits(&mut reader, Fidelity::Git, 1 << 20), Ok(edits.clone()));
            prop_assert!(reader.is_empty());
            prop_assert_eq!(after(&entries(&old), edits), entries(&new));
        }

        #[test]
        fn what_is_accepted_has_one_spelling(at: prop::sample::Index, byte: u8) {
            let edits = [
                Edit::Put(entry("a/b", "1")),
                Edit::Remove(TreePath::new(*b"a/c").unwrap()),
                Edit::Put(entry("d", "2")),
            ];
            let mut bytes = Vec::new();
            put_edits(&mut bytes, Fidelity::Git, &edits);
            *at.get_mut(&mut bytes) = byte;
            let mut reader = Reader::new(&bytes);
            if let Ok(read) = read_edits(&mut reader, Fidelity::Git, 1 << 20) {
                let mut again = Vec::new();
                put_edits(&mut again, Fidelity::Git, &read);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.rest().len()]);
            }
        }
    }

    #[test]
    fn a_count_cannot_claim_more_than_is_there() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, 10_000_000);
        bytes.resize(1024, 0);
        let refused = read_edits(&mut Reader::new(&bytes), Fidelity::Git, u64::MAX);
        assert!(matches!(refused, Err(DecodeError::OverLimit { .. })), "{refused:?}");
    }

    #[test]
    fn short_edits_cannot_stand_for_long_paths_without_end() {
        let long = "d/".repeat(2000);
        let edits: Vec<_> = (0..500)
            .map(|n| Edit::Remove(TreePath::new(format!("{long}{n:03}").as_bytes()).unwrap()))
            .collect();
        let mut bytes = Vec::new();
        put_edits(&mut bytes, Fidelity::Git, &edits);
        assert!(bytes.len() < 7000, "{} bytes for 2 MB of paths", bytes.len());
        let read = |limit| read_edits(&mut Reader::new(&bytes), Fidelity::Git, limit);
        assert_eq!(read(500 * 4003), Ok(edits.clone()));
        assert!(matches!(read(500 * 4003 - 1), Err(DecodeError::OverLimit { .. })));
    }
}
