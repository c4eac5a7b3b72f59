//! The Merkle tree of RFC 6962: hashes, the nodes of a tree, and how its root follows from them.
//!
//! Only complete subtrees are ever stored, sent or asked for: a [`Node`] is 2^level leaves that begin at a multiple
//! of 2^level, and its hash never changes once those leaves are there. Everything about a tree of a given size is a
//! walk from its root that stops at such nodes, and a proof is the set of nodes at which the walk stopped.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use smart_sync_store::id::{from_hex, to_hex};

/// The most leaves of a log.
pub const SIZE_MAX: u64 = 1 << 40;

/// A hash of a leaf or a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogHash([u8; 32]);

/// A text that is not `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a hash: expected sha256: and 64 lower-case hexadecimal digits, found {0:?}")]
pub struct ParseLogHashError(String);

impl LogHash {
    /// The number of bytes of a hash.
    pub const LEN: usize = 32;

    /// The root of a tree without leaves: SHA-256 of nothing.
    pub fn empty_root() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// The hash of a leaf.
    pub fn of_leaf(leaf: &[u8]) -> Self {
        Self(Sha256::new_with_prefix([0]).chain_update(leaf).finalize().into())
    }

    /// The hash of a node from those of its halves.
    pub fn of_node(left: &Self, right: &Self) -> Self {
        Self(Sha256::new_with_prefix([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// Takes a digest as a hash of the log.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for LogHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", to_hex(&self.0))
    }
}

impl fmt::Debug for LogHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogHash({self})")
    }
}

impl FromStr for LogHash {
    type Err = ParseLogHashError;

    fn from_str(text: &str) -> Result<Self, ParseLogHashError> {
        text.strip_prefix("sha256:")
            .and_then(from_hex)
            .map(Self)
            .ok_or_else(|| ParseLogHashError(text.chars().take(80).collect()))
    }
}

/// A complete subtree: the leaves from `index << level` up to `(index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// 0 for a leaf.
    pub level: u8,
    /// How many subtrees of this level lie before it.
    pub index: u64,
}

impl Node {
    /// A leaf.
    pub const fn leaf(index: u64) -> Self {
        Self { level: 0, index }
    }

    /// Its first leaf.
    pub const fn start(self) -> u64 {
        self.index << self.level
    }

    /// One past its last leaf.
    pub const fn end(self) -> u64 {
        (self.index + 1) << self.level
    }

    /// Whether this leaf is in it.
    pub const fn contains(self, leaf: u64) -> bool {
        leaf >> self.level == self.index
    }

    /// Its two halves, for a node above the leaves.
    const fn halves(self) -> (Self, Self) {
        let left = Self { level: self.level - 1, index: self.index << 1 };
        (left, Self { level: left.level, index: left.index + 1 })
    }
}

/// Where hashes of nodes come from.
pub trait NodeReader {
    /// Why a hash could not be had.
    type Error;

    /// The hash of a node all of whose leaves are there.
    fn node(&self, node: Node) -> Result<LogHash, Self::Error>;
}

impl<R: NodeReader + ?Sized> NodeReader for &R {
    type Error = R::Error;

    fn node(&self, node: Node) -> Result<LogHash, Self::Error> {
        (**self).node(node)
    }
}

/// What a walk does at a complete subtree.
pub(super) enum Visit {
    /// Takes this hash for it.
    Take(LogHash),
    /// Looks at its halves; not for a leaf.
    Split,
}

/// The complete subtrees that a tree of this size is made of, from the left.
pub fn peaks(size: u64) -> impl DoubleEndedIterator<Item = Node> + Clone {
    (0..64u8).rev().filter(move |level| size >> level & 1 == 1).map(move |level| Node {
        level,
        // What lies above this bit are the larger peaks to its left.
        index: (size >> level) & !1,
    })
}

/// The root of a tree of this size, from what a walk over its complete subtrees takes.
pub(super) fn fold<E>(size: u64, visit: &mut impl FnMut(Node) -> Result<Visit, E>) -> Result<LogHash, E> {
    let mut root = None;
    for peak in peaks(size).rev() {
        let hash = fold_node(peak, visit)?;
        root = Some(root.map_or(hash, |right| LogHash::of_node(&hash, &right)));
    }
    Ok(root.unwrap_or_else(LogHash::empty_root))
}

fn fold_node<E>(node: Node, visit: &mut impl FnMut(Node) -> Result<Visit, E>) -> Result<LogHash, E> {
    match visit(node)? {
        Visit::Take(hash) => Ok(hash),
        Visit::Split => {
            let (left, right) = node.halves();
            let left = fold_node(left, visit)?;
            let right = fold_node(right, visit)?;
            Ok(LogHash::of_node(&left, &right))
        }
    }
}

/// The root of a tree of this size.
pub fn root<R: NodeReader>(size: u64, nodes: &R) -> Result<LogHash, R::Error> {
    fold(size, &mut |node| nodes.node(node).map(Visit::Take))
}

/// The right edge of a tree: all that is needed to append to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edge {
    size: u64,
    /// The hashes of the peaks, from the left.
    peaks: Vec<LogHash>,
}

impl Edge {
    /// The edge of a tree whose nodes can be read.
    pub fn read<R: NodeReader>(size: u64, nodes: &R) -> Result<Self, R::Error> {
        let peaks = peaks(size).map(|peak| nodes.node(peak)).collect::<Result<_, _>>()?;
        Ok(Self { size, peaks })
    }

    /// The number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf and reports the nodes that this completes, the leaf itself first.
    pub fn append(&mut self, leaf: LogHash, mut completed: impl FnMut(Node, LogHash)) {
        let mut node = Node::leaf(self.size);
        let mut hash = leaf;
        completed(node, hash);
        while node.index & 1 == 1 {
            let left = self.peaks.pop().expect("a right half has its left half as the last peak");
            hash = LogHash::of_node(&left, &hash);
            node = Node { level: node.level + 1, index: node.index >> 1 };
            completed(node, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> LogHash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return LogHash::empty_root();
        };
        peaks.fold(*last, |right, left| LogHash::of_node(left, &right))
    }
}

/// All complete nodes of a tree that is held in memory.
#[derive(Debug, Clone, Default)]
pub struct NodesInMemory {
    levels: Vec<Vec<LogHash>>,
}

impl NodesInMemory {
    /// Computes the nodes above these leaves.
    pub fn of_leaves(leaves: Vec<LogHash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let above = below.chunks_exact(2).map(|pair| LogHash::of_node(&pair[0], &pair[1])).collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// The root of the tree.
    pub fn root(&self) -> LogHash {
        root(self.size(), self).expect("every node of the tree is in memory")
    }
}

/// A node was asked for that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("node {index} of level {level} of the log is not there", index = .0.index, level = .0.level)]
pub struct NoSuchNode(pub Node);

impl NodeReader for NodesInMemory {
    type Error = NoSuchNode;

    fn node(&self, node: Node) -> Result<LogHash, NoSuchNode> {
        usize::try_from(node.index)
            .ok()
            .and_then(|index| self.levels.get(usize::from(node.level))?.get(index))
            .copied()
            .ok_or(NoSuchNode(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn leaves(count: u64) -> Vec<LogHash> {
        (0..count).map(|index| LogHash::of_leaf(&index.to_be_bytes())).collect()
    }

    /// The definition of RFC 6962, section 2.1.
    fn by_definition(leaves: &[LogHash]) -> LogHash {
        match leaves {
            [] => LogHash::empty_root(),
            [leaf] => *leaf,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(half);
                LogHash::of_node(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        let mut edge = Edge::default();
        for size in 0..200 {
            let leaves = leaves(size);
            let expected = by_definition(&leaves);
            let nodes = NodesInMemory::of_leaves(leaves);
            assert_eq!(nodes.root(), expected, "{size}");
            assert_eq!(edge.root(), expected, "{size}");
            assert_eq!(Edge::read(size, &nodes).unwrap(), edge, "{size}");
            edge.append(LogHash::of_leaf(&size.to_be_bytes()), |_, _| {});
        }
    }

    #[test]
    fn appending_reports_every_node_once() {
        let mut edge = Edge::default();
        let mut reported = Vec::new();
        for index in 0..77u64 {
            edge.append(LogHash::of_leaf(&index.to_be_bytes()), |node, hash| reported.push((node, hash)));
        }
        let nodes = NodesInMemory::of_leaves(leaves(77));
        assert_eq!(reported.len(), nodes.levels.iter().map(Vec::len).sum::<usize>());
        for (node, hash) in reported {
            assert_eq!(nodes.node(node), Ok(hash));
        }
    }

    #[test]
    fn the_empty_root_is_the_digest_of_nothing() {
        let expected = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(LogHash::empty_root().to_string(), expected);
        assert_eq!(expected.parse(), Ok(LogHash::empty_root()));
        assert!(expected.to_uppercase().parse::<LogHash>().is_err());
        assert!(expected[7..].parse::<LogHash>().is_err());
    }

    proptest! {
        #[test]
        fn peaks_cover_the_tree_from_the_left(size in 0..=SIZE_MAX) {
            let mut at = 0;
            for peak in peaks(size) {
                prop_assert_eq!(peak.start(), at);
                at = peak.end();
            }
            prop_assert_eq!(at, size);
        }
    }
}
