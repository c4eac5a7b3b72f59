//! The table of heads: where each ref stands, as a heads leaf sums it up.
//!
//! The table is a function of the log, and its root is that of a tree over its lines in their order. So one entry
//! is proven by a handful of hashes however many refs there are, and that a ref has no entry is proven by the two
//! neighbours between which it would stand.

use std::fmt;

use smart_sync_store::id::{from_hex, to_hex};

use super::merkle::{LogHash, NodeReader, NodesInMemory, SIZE_MAX};
use super::proof::{Claim, Proof, ProofError, needed, prove};
use crate::name::{Channel, RefName};

/// The longest line of a table: a channel, a ref, two numbers and a hash.
pub const LINE_BYTES_MAX: usize = 700;

/// What an entry is about: a channel and a ref, or the slot that stands for both in a private channel.
///
/// The order is that of the lines: slots begin with `~`, which no channel does, and follow all others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadKey(Box<str>);

impl HeadKey {
    /// The entry of a ref that everybody may see.
    pub fn open(channel: &Channel, reference: &RefName) -> Self {
        Self(format!("{channel} {}", reference.to_record()).into())
    }

    /// The entry of a ref of a private channel.
    pub fn sealed(slot: &LogHash) -> Self {
        Self(format!("~{}", to_hex(slot.as_bytes())).into())
    }

    /// The beginning of the line.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The channel and the ref, unless this is a slot.
    pub fn channel_and_ref(&self) -> Option<(Channel, RefName)> {
        let (channel, reference) = self.0.split_once(' ')?;
        Some((channel.parse().ok()?, RefName::from_record(reference).ok()?))
    }

    fn parse(text: &str) -> Option<Self> {
        let key = if let Some(slot) = text.strip_prefix('~') {
            Self::sealed(&LogHash::from_bytes(from_hex(slot)?))
        } else {
            let (channel, reference) = text.split_once(' ')?;
            Self::open(&channel.parse().ok()?, &RefName::from_record(reference).ok()?)
        };
        (key.as_str() == text).then_some(key)
    }
}

impl fmt::Debug for HeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeadKey({})", self.0)
    }
}

/// An entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What it is about.
    pub key: HeadKey,
    /// How many publications the ref has had.
    pub seq: u64,
    /// The index of the newest one in the log.
    pub index: u64,
    /// The hash of that leaf.
    pub leaf: LogHash,
}

/// A line that is not an entry of a table of heads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of a table of heads: {0:?}")]
pub struct ParseHeadError(String);

impl Head {
    /// The line, with its newline, that the root of the table covers.
    pub fn to_line(&self) -> String {
        format!("{} {} {} {}\n", self.key.as_str(), self.seq, self.index, self.leaf)
    }

    /// Reads a line with its newline.
    pub fn from_line(line: &str) -> Result<Self, ParseHeadError> {
        parse_line(line)
            // A number with leading zeros would be a second spelling of the same entry.
            .filter(|head| head.to_line() == line)
            .ok_or_else(|| ParseHeadError(line.chars().take(200).collect()))
    }
}

fn parse_line(line: &str) -> Option<Head> {
    if line.len() > LINE_BYTES_MAX {
        return None;
    }
    let mut fields = line.strip_suffix('\n')?.rsplitn(4, ' ');
    let leaf = fields.next()?.parse().ok()?;
    let index = fields.next()?.parse().ok().filter(|index| *index < SIZE_MAX)?;
    let seq = fields.next()?.parse().ok().filter(|seq| (1..=index).contains(seq))?;
    let key = HeadKey::parse(fields.next()?)?;
    Some(Head { key, seq, index, leaf })
}

/// Where every ref stands, and the tree over it.
#[derive(Debug, Clone, Default)]
pub struct HeadsTable {
    heads: Vec<Head>,
    nodes: NodesInMemory,
}

impl HeadsTable {
    /// A table of these entries, whatever their order; of two about the same ref, the later one counts.
    pub fn new(mut heads: Vec<Head>) -> Self {
        // Stable, so that of equal keys the last one stands last.
        heads.sort_by(|one, other| one.key.cmp(&other.key));
        heads.reverse();
        heads.dedup_by(|later_in_list, kept| later_in_list.key == kept.key);
        heads.reverse();
        let leaves = heads.iter().map(|head| LogHash::of_leaf(head.to_line().as_bytes())).collect();
        Self { heads, nodes: NodesInMemory::of_leaves(leaves) }
    }

    /// The table after these refs have moved.
    #[must_use]
    pub fn with(&self, moved: impl IntoIterator<Item = Head>) -> Self {
        Self::new(self.heads.iter().cloned().chain(moved).collect())
    }

    /// The entries in their order.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The number of entries.
    pub fn count(&self) -> u64 {
        self.nodes.size()
    }

    /// The root over the entries.
    pub fn root(&self) -> LogHash {
        self.nodes.root()
    }

    /// Where a ref stands.
    pub fn get(&self, key: &HeadKey) -> Option<&Head> {
        self.position(key).ok().map(|position| &self.heads[position])
    }

    /// What shows where a ref stands, or that it does not stand in the table.
    pub fn prove(&self, key: &HeadKey) -> HeadProof {
        let entries: Vec<_> = match self.position(key) {
            Ok(position) => vec![position],
            Err(position) => (position.saturating_sub(1)..self.heads.len().min(position + 1)).collect(),
        };
        let claims: Vec<_> = entries.iter().map(|position| Claim::Leaf(*position as u64)).collect();
        let nodes = needed(self.count(), &claims).expect("the entries are in the table");
        let hashes = prove(&nodes, &self.nodes).expect("every node of the table is in memory");
        HeadProof {
            entries: entries
                .into_iter()
                .map(|position| (position as u64, self.heads[position].to_line()))
                .collect(),
            hashes,
        }
    }

    fn position(&self, key: &HeadKey) -> Result<usize, usize> {
        self.heads.binary_search_by(|head| head.key.cmp(key))
    }
}

/// What shows where a ref stands: its entry, or the neighbours between which it would stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadProof {
    /// Lines of the table and their places.
    pub entries: Vec<(u64, String)>,
    /// The hashes that show them, in the order of their nodes.
    pub hashes: Vec<LogHash>,
}

/// Why a proof does not show where a ref stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadProofError {
    /// A line is malformed.
    #[error(transparent)]
    Line(#[from] ParseHeadError),
    /// The hashes do not lead to the root of the table.
    #[error("the entry is not shown to be in the table of heads")]
    Proof(#[from] ProofError),
    /// The entries are not about the ref, and not the neighbours of the place where it would stand.
    #[error("the entries shown say nothing of {0}")]
    NotAbout(String),
}

impl HeadProof {
    /// Checks the proof against the root and the number of entries that a heads leaf gives, and returns where the
    /// ref stands, or nothing if it is shown not to stand in the table.
    pub fn check(&self, root: &LogHash, count: u64, key: &HeadKey) -> Result<Option<Head>, HeadProofError> {
        let claims: Vec<_> = self.entries.iter().map(|(position, _)| Claim::Leaf(*position)).collect();
        let proof = Proof::new(count, &claims, &self.hashes)?;
        let mut heads = Vec::with_capacity(self.entries.len());
        for (position, line) in &self.entries {
            proof.check_leaf(root, *position, &LogHash::of_leaf(line.as_bytes()))?;
            heads.push((*position, Head::from_line(line)?));
        }
        let is_absent = match &heads[..] {
            [(_, head)] if head.key == *key => return Ok(Some(head.clone())),
            // Nothing stands in an empty table.
            [] => count == 0 && *root == LogHash::empty_root(),
            // It would stand before the first, or after the last.
            [(0, first)] if *key < first.key => true,
            [(position, last)] if last.key < *key => *position + 1 == count,
            [(left, before), (right, after)] => {
                left.checked_add(1) == Some(*right) && before.key < *key && *key < after.key
            }
            _ => false,
        };
        if is_absent { Ok(None) } else { Err(HeadProofError::NotAbout(key.as_str().to_owned())) }
    }
}

impl NodeReader for HeadsTable {
    type Error = super::merkle::NoSuchNode;

    fn node(&self, node: super::merkle::Node) -> Result<LogHash, Self::Error> {
        self.nodes.node(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> HeadKey {
        HeadKey::open(&"repos/test".parse().unwrap(), &RefName::branch(name).unwrap())
    }

    fn head(name: &str, seq: u64) -> Head {
        Head { key: key(name), seq, index: 1000 + seq, leaf: LogHash::of_leaf(name.as_bytes()) }
    }

    #[test]
    fn lines_have_one_spelling() {
        let line = head("main", 3).to_line();
        assert_eq!(Head::from_line(&line), Ok(head("main", 3)));
        let sealed = Head { key: HeadKey::sealed(&LogHash::empty_root()), ..head("x", 1) };
        assert_eq!(Head::from_line(&sealed.to_line()), Ok(sealed.clone()));
        assert!(sealed.key > key("zzz"));
        for wrong in [
            line.trim_end().to_owned(),
            line.replace(" 3 ", " 03 "),
            line.replace(" 3 ", " 0 "),
            line.replace(" 3 ", " 1004 "),
            line.replace("repos", "/repos"),
            line.replace("branch", "twig"),
            line.replace("sha256", "sha512"),
            format!(" {line}"),
        ] {
            assert!(Head::from_line(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn of_two_entries_about_one_ref_the_later_counts() {
        let table = HeadsTable::new(vec![head("b", 1), head("a", 1)]).with([head("a", 2)]);
        let shown: Vec<_> = table.heads().iter().map(|head| (head.key.as_str(), head.seq)).collect();
        assert_eq!(shown, [("repos/test branch a", 2), ("repos/test branch b", 1)]);
    }

    proptest! {
        #[test]
        fn presence_and_absence_are_proven_and_nothing_else_is(
            present in proptest::collection::btree_set("[a-d]{1,3}", 0..12),
            asked in "[a-d]{1,3}",
            other in "[a-d]{1,3}",
        ) {
            let table = HeadsTable::new(present.iter().map(|name| head(name, 7)).collect());
            let (root, count) = (table.root(), table.count());
            let proof = table.prove(&key(&asked));
            let found = proof.check(&root, count, &key(&asked)).unwrap();
            prop_assert_eq!(found.is_some(), present.contains(&asked));
            prop_assert_eq!(found.as_ref(), table.get(&key(&asked)));
            prop_assert!(proof.check(&LogHash::of_leaf(b"other"), count, &key(&asked)).is_err());
            // A proof may show something of another ref too, but never anything wrong.
            if let Ok(found) = proof.check(&root, count, &key(&other)) {
                prop_assert_eq!(found.is_some(), present.contains(&other));
            }
        }
    }
}
