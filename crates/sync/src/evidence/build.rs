//! Putting evidence together, on the side that has the log.

use super::{Answer, Dated, FullEvidence, IndexedLeaf};
use crate::log::heads::{HeadKey, HeadsTable};
use crate::log::merkle::NodeReader;
use crate::log::proof::{ProofError, needed, prove};
use crate::record::{Opening, SlotSecret};

/// Where the leaves and nodes of a log come from.
pub trait LogReader: NodeReader {
    /// The bytes of a leaf that is there.
    fn leaf(&self, index: u64) -> Result<Vec<u8>, Self::Error>;
}

/// What is asked, and what of it the asker knows.
#[derive(Debug, Clone)]
pub struct Inquiry<'a> {
    /// The note of the checkpoint that the answer is under.
    pub checkpoint: Vec<u8>,
    /// The size of that checkpoint's tree, at least 1. Its last leaf is a heads leaf.
    pub size: u64,
    /// The size of the tree that the asker knows; 0 for none.
    pub base: u64,
    /// The root documents that the asker may lack, from the oldest: all of them if it knows none.
    pub roots: Vec<Vec<u8>>,
    /// The entry of the ref that is asked for.
    pub key: HeadKey,
    /// The table of the heads leaf that answers: the last one, or the one found for the date.
    pub table: &'a HeadsTable,
    /// For a question about the past: where the heads leaves around the date stand.
    pub dated: Option<DatedIndexes>,
    /// For a private channel: what opens the answer.
    pub private: Option<Private>,
}

/// Where two neighbouring heads leaves stand, between which a date lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatedIndexes {
    /// The last one at or before the date.
    pub found: Option<u64>,
    /// The first one after it.
    pub next: Option<u64>,
}

/// What opens the publication of a private channel. `Inquiry::key` is the one of its slot.
#[derive(Debug, Clone)]
pub struct Private {
    /// The secret of the channel.
    pub secret: SlotSecret,
    /// What opens the leaf; not used if the ref is absent.
    pub opening: Option<Opening>,
}

/// Why evidence could not be put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError<E> {
    /// The log could not be read.
    #[error("reading the log")]
    Log(#[source] E),
    /// The table or the date name leaves that are not in a log of this size.
    #[error("the inquiry is about leaves that are not in the log")]
    Inquiry(#[from] ProofError),
}

/// Puts evidence together.
pub fn build<R: LogReader>(log: &R, inquiry: Inquiry<'_>) -> Result<FullEvidence, BuildError<R::Error>> {
    let leaf = |index| log.leaf(index).map_err(BuildError::Log);
    let indexed = |index: Option<u64>| {
        index.map(|index| leaf(index).map(|leaf| IndexedLeaf { index, leaf })).transpose()
    };
    let dated = match inquiry.dated {
        Some(dated) => Some(Dated { found: indexed(dated.found)?, next: indexed(dated.next)? }),
        None => None,
    };
    // Before the first heads leaf there is no table to prove anything in.
    let has_table = dated.as_ref().is_none_or(|dated| dated.found.is_some());
    let head = inquiry.table.get(&inquiry.key).filter(|_| has_table);
    let answer = match (head, inquiry.private) {
        (None, None) => Answer::Absent,
        (None, Some(private)) => Answer::SealedAbsent { secret: private.secret },
        (Some(head), Some(Private { secret, opening: Some(opening) })) => {
            Answer::Sealed { leaf: leaf(head.index)?, secret, opening }
        }
        (Some(head), _) => Answer::Publication(leaf(head.index)?),
    };
    let mut evidence = FullEvidence {
        checkpoint: inquiry.checkpoint,
        roots: inquiry.roots,
        base: if inquiry.base <= inquiry.size { inquiry.base } else { 0 },
        heads: leaf(inquiry.size.saturating_sub(1))?,
        dated,
        head: if has_table { inquiry.table.prove(&inquiry.key) } else { <_>::default() },
        answer,
        nodes: Vec::new(),
    };
    let claims = evidence.claims(inquiry.size);
    evidence.nodes = prove(&needed(inquiry.size, &claims)?, log).map_err(BuildError::Log)?;
    Ok(evidence)
}
