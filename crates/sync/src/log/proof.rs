//! Proofs: which nodes show that a leaf, or an older tree, is part of a tree.
//!
//! What is proven is a list of [`Claim`]s about one tree, and the proof of all of them is one set of nodes: both
//! sides compute which nodes those are, so only hashes travel, and a node that two claims need travels once. The
//! order is that of [`Node`].

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use super::merkle::{LogHash, Node, NodeReader, SIZE_MAX, Visit, fold, peaks};

/// Something that is to be shown of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The leaf at this index.
    Leaf(u64),
    /// The tree of the first so many leaves.
    Prefix(u64),
}

/// Why a proof does not show what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// More leaves than a log may have.
    #[error("a tree of {0} leaves is larger than a log may be")]
    TooLarge(u64),
    /// The claim is about something outside of the tree.
    #[error("{claim:?} is not within a tree of {size} leaves")]
    OutOfRange {
        /// The claim.
        claim: Claim,
        /// The size of the tree.
        size: u64,
    },
    /// A proof has one hash for each node that is needed, not more and not less.
    #[error("the proof has {found} hashes instead of {needed}")]
    WrongLength {
        /// The number of nodes that are needed.
        needed: usize,
        /// The number of hashes that came.
        found: usize,
    },
    /// A node that the claim needs is not in the proof.
    #[error("the proof lacks node {index} of level {level}", index = .0.index, level = .0.level)]
    Missing(Node),
    /// The hashes do not lead to the root.
    #[error("{0:?} does not lead to the root hash of the tree")]
    Mismatch(Claim),
}

/// The nodes that show all claims about a tree of this size.
pub fn needed(size: u64, claims: &[Claim]) -> Result<BTreeSet<Node>, ProofError> {
    if size > SIZE_MAX {
        return Err(ProofError::TooLarge(size));
    }
    let mut nodes = BTreeSet::new();
    for claim in claims {
        check_range(size, *claim)?;
        collect(size, *claim, &mut nodes);
    }
    Ok(nodes)
}

/// The hashes that show all claims, in the order of their nodes.
pub fn prove<R: NodeReader>(nodes: &BTreeSet<Node>, reader: &R) -> Result<Vec<LogHash>, R::Error> {
    nodes.iter().map(|node| reader.node(*node)).collect()
}

/// A proof that came from outside: nothing is known of its hashes until they lead to a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    size: u64,
    nodes: BTreeMap<Node, LogHash>,
}

impl Proof {
    /// Takes hashes as the proof of these claims.
    pub fn new(size: u64, claims: &[Claim], hashes: &[LogHash]) -> Result<Self, ProofError> {
        let needed = needed(size, claims)?;
        if needed.len() != hashes.len() {
            return Err(ProofError::WrongLength { needed: needed.len(), found: hashes.len() });
        }
        Ok(Self { size, nodes: needed.into_iter().zip(hashes.iter().copied()).collect() })
    }

    /// Checks that the leaf at `index` of the tree with this root has this hash.
    pub fn check_leaf(&self, root: &LogHash, index: u64, leaf: &LogHash) -> Result<(), ProofError> {
        let claim = Claim::Leaf(index);
        check_range(self.size, claim)?;
        let found = fold(self.size, &mut |node| match step(claim, node) {
            Step::Leaf => Ok(Visit::Take(*leaf)),
            Step::Split => Ok(Visit::Split),
            Step::Node => self.node(node).map(Visit::Take),
        })?;
        if found == *root { Ok(()) } else { Err(ProofError::Mismatch(claim)) }
    }

    /// Checks that the tree with this root begins with the tree of `old_size` leaves that has the root `old_root`.
    pub fn check_prefix(&self, root: &LogHash, old_size: u64, old_root: &LogHash) -> Result<(), ProofError> {
        let claim = Claim::Prefix(old_size);
        check_range(self.size, claim)?;
        if old_size == 0 {
            // Every tree begins with nothing.
            return if *old_root == LogHash::empty_root() {
                Ok(())
            } else {
                Err(ProofError::Mismatch(claim))
            };
        }
        let old = fold(old_size, &mut |peak| self.node(peak).map(Visit::Take))?;
        let new = fold(self.size, &mut |node| match step(claim, node) {
            Step::Split => Ok(Visit::Split),
            Step::Leaf | Step::Node => self.node(node).map(Visit::Take),
        })?;
        if old == *old_root && new == *root { Ok(()) } else { Err(ProofError::Mismatch(claim)) }
    }

    fn node(&self, node: Node) -> Result<LogHash, ProofError> {
        self.nodes.get(&node).copied().ok_or(ProofError::Missing(node))
    }
}

/// What a walk that shows a claim does at a complete subtree.
enum Step {
    /// This is the leaf that the claim is about.
    Leaf,
    /// What the claim is about lies inside.
    Split,
    /// Its hash is part of the proof.
    Node,
}

const fn step(claim: Claim, node: Node) -> Step {
    match claim {
        Claim::Leaf(index) if node.contains(index) => {
            if node.level == 0 {
                Step::Leaf
            } else {
                Step::Split
            }
        }
        Claim::Prefix(size) if node.start() < size && size < node.end() => Step::Split,
        _ => Step::Node,
    }
}

const fn check_range(size: u64, claim: Claim) -> Result<(), ProofError> {
    let is_within = match claim {
        Claim::Leaf(index) => index < size,
        Claim::Prefix(old) => old <= size,
    };
    if is_within { Ok(()) } else { Err(ProofError::OutOfRange { claim, size }) }
}

fn collect(size: u64, claim: Claim, nodes: &mut BTreeSet<Node>) {
    if let Claim::Prefix(old) = claim {
        if old == 0 {
            return;
        }
        // A peak of the old tree that lies under a larger subtree of the new one is met on the walk below; one that
        // is a part of a subtree which the walk takes whole would not be.
        nodes.extend(peaks(old));
    }
    // The hashes do not matter here, only where the walk stops.
    let nothing = LogHash::empty_root();
    let walked: Result<_, Infallible> = fold(size, &mut |node| {
        Ok(match step(claim, node) {
            Step::Leaf => Visit::Take(nothing),
            Step::Split => Visit::Split,
            Step::Node => {
                nodes.insert(node);
                Visit::Take(nothing)
            }
        })
    });
    let Ok(_) = walked;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::merkle::NodesInMemory;
    use proptest::prelude::*;

    fn tree(size: u64) -> NodesInMemory {
        NodesInMemory::of_leaves((0..size).map(|index| LogHash::of_leaf(&index.to_be_bytes())).collect())
    }

    fn proof_of(tree: &NodesInMemory, claims: &[Claim]) -> Vec<LogHash> {
        prove(&needed(tree.size(), claims).unwrap(), tree).unwrap()
    }

    #[test]
    fn every_leaf_and_every_prefix_of_small_trees_is_proven() {
        for size in 1..50 {
            let tree = tree(size);
            for index in 0..size {
                let claims = [Claim::Leaf(index), Claim::Prefix(index + 1)];
                let proof = Proof::new(size, &claims, &proof_of(&tree, &claims)).unwrap();
                let leaf = LogHash::of_leaf(&index.to_be_bytes());
                assert_eq!(proof.check_leaf(&tree.root(), index, &leaf), Ok(()), "{index} of {size}");
                let old = NodesInMemory::of_leaves(
                    (0..=index).map(|index| LogHash::of_leaf(&index.to_be_bytes())).collect(),
                );
                assert_eq!(
                    proof.check_prefix(&tree.root(), index + 1, &old.root()),
                    Ok(()),
                    "{index} of {size}"
                );
            }
        }
    }

    #[test]
    fn claims_outside_of_the_tree_are_refused() {
        let outside = |claim| needed(10, &[claim]).is_err();
        assert!(outside(Claim::Leaf(10)) && outside(Claim::Prefix(11)) && outside(Claim::Leaf(u64::MAX)));
        assert!(!outside(Claim::Prefix(10)) && !outside(Claim::Prefix(0)));
        assert_eq!(needed(u64::MAX, &[Claim::Leaf(0)]), Err(ProofError::TooLarge(u64::MAX)));
    }

    #[test]
    fn three_claims_about_a_log_of_20_000_leaves_are_short() {
        let claims = [Claim::Leaf(19_999), Claim::Leaf(7_000), Claim::Prefix(19_500)];
        let nodes = needed(20_000, &claims).unwrap().len();
        assert!(nodes <= 40, "{nodes} nodes");
    }

    proptest! {
        #[test]
        fn a_changed_proof_or_claim_shows_nothing(
            size in 2u64..300, at: prop::sample::Index, which: prop::sample::Index, bit in 0usize..256,
        ) {
            let tree = tree(size);
            let index = at.index(usize::try_from(size).unwrap()) as u64;
            let claims = [Claim::Leaf(index), Claim::Prefix(index + 1)];
            let good = proof_of(&tree, &claims);
            let leaf = LogHash::of_leaf(&index.to_be_bytes());
            let old_root = tree_root(index + 1);
            let proof = Proof::new(size, &claims, &good).unwrap();
            let other = LogHash::of_leaf(b"other");
            prop_assert!(proof.check_leaf(&tree.root(), index, &other).is_err());
            prop_assert!(proof.check_leaf(&other, index, &leaf).is_err());
            prop_assert!(proof.check_prefix(&tree.root(), index + 1, &other).is_err());
            prop_assert!(proof.check_leaf(&tree.root(), (index + 1) % size, &leaf).is_err());
            prop_assert!(Proof::new(size, &claims, &good[1..]).is_err());

            let mut bad = good.clone();
            let changed = which.index(bad.len());
            let mut bytes = *bad[changed].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bad[changed] = LogHash::from_bytes(bytes);
            let proof = Proof::new(size, &claims, &bad).unwrap();
            prop_assert!(
                proof.check_leaf(&tree.root(), index, &leaf).is_err()
                    || proof.check_prefix(&tree.root(), index + 1, &old_root).is_err()
            );
        }
    }

    fn tree_root(size: u64) -> LogHash {
        tree(size).root()
    }
}
