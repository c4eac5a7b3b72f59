//! Evidence that everybody gets alike, made to continue the log that one reader knows.
//!
//! A file cannot know what its reader has verified. So evidence out of a file shows the log from nothing, and the
//! reader adds the nodes that show how it continues the known one, from the log's tiles. Nothing is decided here:
//! [`verify`](crate::trust::verify) judges the result as it judges what a server put together.

use std::collections::{BTreeMap, BTreeSet};

use super::FullEvidence;
use crate::log::checkpoint::Checkpoint;
use crate::log::merkle::{LogHash, Node, NodeReader};
use crate::log::proof::{Claim, ProofError, needed};
use crate::note::Note;

/// Why evidence could not be made to continue a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContinueError<E> {
    /// The log could not be read.
    #[error("reading the log")]
    Log(#[source] E),
    /// The evidence does not have the nodes that it should, or the log is not the longer one.
    #[error("the evidence does not hold together")]
    Evidence(#[from] ProofError),
}

impl FullEvidence {
    /// The log that it says to be of. Nothing of that is believed.
    pub fn claimed_log(&self) -> Option<Checkpoint> {
        Checkpoint::parse(Note::parse(&self.checkpoint).ok()?.text()).ok()
    }

    /// The nodes that it lacks to show that a log of `size` leaves continues one of `base` leaves.
    pub fn lacking(&self, size: u64, base: u64) -> Result<BTreeSet<Node>, ProofError> {
        let own = self.own_nodes(size)?;
        let mut lacking = self.needed_from(size, base)?;
        lacking.retain(|node| !own.contains_key(node));
        Ok(lacking)
    }

    /// The same evidence, showing that a log of `size` leaves continues one of `base` leaves. What it lacks for that
    /// is read from `nodes`.
    pub fn continued<R: NodeReader>(
        mut self,
        size: u64,
        base: u64,
        nodes: &R,
    ) -> Result<Self, ContinueError<R::Error>> {
        let own = self.own_nodes(size)?;
        let hash = |node: Node| match own.get(&node) {
            Some(hash) => Ok(*hash),
            None => nodes.node(node).map_err(ContinueError::Log),
        };
        self.nodes = self.needed_from(size, base)?.into_iter().map(hash).collect::<Result<_, _>>()?;
        self.base = base;
        Ok(self)
    }

    fn needed_from(&self, size: u64, base: u64) -> Result<BTreeSet<Node>, ProofError> {
        let mut claims = self.claims(size);
        claims.retain(|claim| !matches!(claim, Claim::Prefix(_)));
        if base > 0 {
            claims.push(Claim::Prefix(base));
        }
        needed(size, &claims)
    }

    /// The nodes that it has, and those that follow from them and from the last leaf.
    fn own_nodes(&self, size: u64) -> Result<BTreeMap<Node, LogHash>, ProofError> {
        let needed = needed(size, &self.claims(size))?;
        if needed.len() != self.nodes.len() {
            return Err(ProofError::WrongLength { needed: needed.len(), found: self.nodes.len() });
        }
        let mut own: BTreeMap<Node, LogHash> = needed.into_iter().zip(self.nodes.iter().copied()).collect();
        own.insert(Node::leaf(size.saturating_sub(1)), LogHash::of_leaf(&self.heads));
        let mut next: Vec<Node> = own.keys().copied().collect();
        while let Some(node) = next.pop() {
            let (left, right) =
                (Node { index: node.index & !1, ..node }, Node { index: node.index | 1, ..node });
            let above = Node { level: node.level + 1, index: node.index >> 1 };
            if let (Some(left), Some(right)) = (own.get(&left), own.get(&right))
                && !own.contains_key(&above)
            {
                own.insert(above, LogHash::of_node(left, right));
                next.push(above);
            }
        }
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tile::Tile;
    use crate::testing::{TestRealm, after, main_branch};
    use crate::trust::{Policy, Refusal, verify};

    /// A log that grew from `known` leaves to about `size`, and evidence for its end.
    fn grown(known: u64, size: u64) -> (TestRealm, crate::trust::TrustState) {
        let mut realm = TestRealm::with_main();
        while realm.size() + 1 < known {
            realm.push(realm.size().to_be_bytes().to_vec());
        }
        realm.heads(after(100));
        let question = TestRealm::question(&main_branch());
        let evidence = realm.evidence(&question, 0, after(100));
        let state = verify(Some(&realm.pinned()), &evidence, &question, after(100), &Policy::default());
        while realm.size() + 2 < size {
            realm.push(realm.size().to_be_bytes().to_vec());
        }
        realm.publish(&main_branch(), 2);
        realm.heads(after(200));
        (realm, state.unwrap().state)
    }

    #[test]
    fn evidence_from_nothing_continues_what_is_known_with_a_few_tiles() {
        let question = TestRealm::question(&main_branch());
        for (known, size) in
            [(4, 6), (4, 300), (255, 257), (256, 700), (300, 512), (511, 1000), (19_500, 20_000)]
        {
            let (realm, state) = grown(known, size);
            let (known, size) = (state.size(), realm.size());
            let decide = |evidence: &FullEvidence| {
                verify(Some(&state), evidence, &question, after(200), &Policy::default())
            };
            let plain = realm.evidence(&question, 0, after(200));
            assert!(matches!(decide(&plain), Err(Refusal::Unproven(_))), "{known} to {size}");
            let lacking = plain.lacking(size, known).unwrap();
            let tiles: BTreeSet<_> = lacking.iter().map(|node| Tile::of_node(*node, size).unwrap()).collect();
            assert!(tiles.len() <= 2, "{known} to {size}: {tiles:?}");
            let continued = plain.continued(size, known, &realm.log()).unwrap();
            assert_eq!(continued, realm.evidence(&question, known, after(200)), "{known} to {size}");
            assert!(decide(&continued).is_ok(), "{known} to {size}");
        }
    }

    #[test]
    fn evidence_for_another_base_is_as_good() {
        let (realm, state) = grown(300, 700);
        let question = TestRealm::question(&main_branch());
        let other = realm.evidence(&question, 5, after(200));
        let continued = other.continued(realm.size(), state.size(), &realm.log()).unwrap();
        assert_eq!(continued, realm.evidence(&question, state.size(), after(200)));
    }

    #[test]
    fn nodes_that_are_not_those_of_the_log_are_refused() {
        let (realm, state) = grown(300, 700);
        let other = grown(301, 700).0;
        let question = TestRealm::question(&main_branch());
        let evidence = realm.evidence(&question, 0, after(200));
        let continued = evidence.clone().continued(realm.size(), state.size(), &other.log()).unwrap();
        assert!(verify(Some(&state), &continued, &question, after(200), &Policy::default()).is_err());
        let mut torn = evidence.clone();
        torn.nodes.pop();
        assert!(torn.lacking(realm.size(), state.size()).is_err());
        assert!(evidence.lacking(realm.size(), realm.size() + 1).is_err(), "the log is the shorter one");
    }
}
