//! Evidence: everything that has to be seen to believe where a ref stands, in one message.
//!
//! The message only carries; [`crate::trust::verify`] judges. All proofs about the log share one list of nodes whose
//! places both sides compute, so that no place is sent and no hash is sent twice. When nothing new is in the log, the
//! new checkpoint alone is sent, and the rest is what was kept from the last time.

mod build;
mod codec;
mod continued;

pub use build::{BuildError, DatedIndexes, Inquiry, LogReader, Private, build};
pub use continued::ContinueError;

use crate::log::heads::{Head, HeadProof};
use crate::log::merkle::LogHash;
use crate::log::proof::Claim;
use crate::record::{Opening, SlotSecret};

/// The most root documents in one message; a client that is further behind is pinned anew.
pub const ROOTS_MAX: usize = 64;
/// The most bytes of a message.
pub const EVIDENCE_BYTES_MAX: usize = 5 * 1024 * 1024;

/// A message about a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The log has not grown: a checkpoint that is only newer.
    Unchanged {
        /// The note of the checkpoint.
        checkpoint: Vec<u8>,
    },
    /// Everything.
    Full(Box<FullEvidence>),
}

/// All that is needed to judge where a ref stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullEvidence {
    /// The note of the checkpoint.
    pub checkpoint: Vec<u8>,
    /// The notes of root documents, from the oldest.
    pub roots: Vec<Vec<u8>>,
    /// The size of an older tree that this one is shown to begin with; 0 for none.
    pub base: u64,
    /// The last leaf of the log.
    pub heads: Vec<u8>,
    /// For a question about the past: the heads leaf that answers it.
    pub dated: Option<Dated>,
    /// Where the ref stands in the table of the heads leaf that answers.
    pub head: HeadProof,
    /// What stands there.
    pub answer: Answer,
    /// The hashes of the log's nodes that show all of this, in the order of [`crate::log::merkle::Node`].
    pub nodes: Vec<LogHash>,
}

/// Two neighbouring heads leaves, between which the date lies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dated {
    /// The last one at or before the date; none if the log is younger.
    pub found: Option<IndexedLeaf>,
    /// The first one after it; none if there is none.
    pub next: Option<IndexedLeaf>,
}

/// A leaf and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedLeaf {
    /// Where.
    pub index: u64,
    /// Its bytes.
    pub leaf: Vec<u8>,
}

/// What stands at a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Absent,
    /// A publication: the leaf.
    Publication(Vec<u8>),
    /// A publication of a private channel.
    Sealed {
        /// The leaf.
        leaf: Vec<u8>,
        /// The secret of the channel.
        secret: SlotSecret,
        /// What opens the leaf.
        opening: Opening,
    },
    /// Nothing, in a private channel.
    SealedAbsent {
        /// The secret of the channel.
        secret: SlotSecret,
    },
}

impl Evidence {
    /// Completes a message that says "unchanged" with what was kept of the last full one about the same question.
    /// Where nothing was kept, the full message has to be asked for.
    pub fn complete(self, kept: Option<&FullEvidence>) -> Option<FullEvidence> {
        match self {
            Self::Full(full) => Some(*full),
            Self::Unchanged { checkpoint } => Some(FullEvidence { checkpoint, ..kept?.clone() }),
        }
    }
}

impl FullEvidence {
    /// What the nodes have to show of a log of this size. Both sides call this, so the order is theirs.
    pub fn claims(&self, size: u64) -> Vec<Claim> {
        let mut claims = vec![Claim::Leaf(size.saturating_sub(1))];
        if self.base > 0 {
            claims.push(Claim::Prefix(self.base));
        }
        if matches!(self.answer, Answer::Publication(_) | Answer::Sealed { .. })
            && let [(_, line)] = &self.head.entries[..]
            && let Ok(head) = Head::from_line(line)
        {
            claims.push(Claim::Leaf(head.index));
        }
        let dated = self.dated.iter().flat_map(|dated| dated.found.iter().chain(&dated.next));
        claims.extend(dated.map(|leaf| Claim::Leaf(leaf.index)));
        claims
    }
}

#[cfg(test)]
mod tests;
