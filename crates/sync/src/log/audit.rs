//! Reading a whole log, leaf after leaf, and finding the first one that should not be there.
//!
//! The clock reads the log this way before it stands for a checkpoint, and `log audit` does for anybody. Each leaf is
//! judged by the root in force where it stands; nothing is believed that was not recomputed.

use std::collections::BTreeMap;

use super::checkpoint::Checkpoint;
use super::heads::{Head, HeadKey, HeadsTable};
use super::merkle::{Edge, LogHash, SIZE_MAX};
use crate::name::Origin;
use crate::record::{Heads, LeafKind, Publication, RecordError, Root, RootRef, Sealed, Signed, Unverified};
use crate::time::UnixTime;

/// What follows from the leaves that were read so far.
#[derive(Debug, Clone)]
pub struct LogAudit {
    origin: Origin,
    edge: Edge,
    root: Option<Signed<Root>>,
    heads: BTreeMap<HeadKey, Head>,
    last_heads: Option<(LogHash, UnixTime)>,
    ends_in_heads: bool,
}

/// A leaf that should not be in the log, or not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("leaf {index} of the log: {problem}")]
pub struct AuditFault {
    /// Which leaf.
    pub index: u64,
    /// What is wrong with it.
    pub problem: AuditProblem,
}

/// What is wrong with a leaf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditProblem {
    /// It is none of the records that a log holds.
    #[error("it is no record of a known kind")]
    UnknownKind,
    /// The record is not acceptable here.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A log begins with a root.
    #[error("a log begins with a root document of {0}")]
    NoRoot(Origin),
    /// The log is full.
    #[error("a log has at most 2^40 leaves")]
    Full,
    /// A sequence number that is not the next one.
    #[error("{key} has the sequence number {found}, and {expected} is next")]
    Sequence {
        /// The ref or slot.
        key: String,
        /// The next one.
        expected: u64,
        /// The one found.
        found: u64,
    },
    /// A record that was made for another predecessor.
    #[error("{0} names another predecessor than the one in the log")]
    Predecessor(String),
    /// Time that runs backwards.
    #[error("the time of the heads goes back from {0} to {1}")]
    TimeBackwards(UnixTime, UnixTime),
    /// Heads that do not sum up the log.
    #[error("the heads do not name the {0} that follow from the log")]
    WrongHeads(&'static str),
}

/// A checkpoint that is not of the log that was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFault {
    /// Of another size or root hash, or another origin.
    #[error("the checkpoint is not of the log that was read")]
    OtherLog,
    /// The last leaf is not a heads leaf.
    #[error("the last leaf is not a heads leaf")]
    NotAtHeads,
}

impl LogAudit {
    /// Begins before the first leaf.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            edge: Edge::default(),
            root: None,
            heads: BTreeMap::new(),
            last_heads: None,
            ends_in_heads: false,
        }
    }

    /// Takes the next leaf. After a fault nothing has changed.
    pub fn push(&mut self, leaf: &[u8]) -> Result<LeafKind, AuditFault> {
        let index = self.edge.size();
        self.take(index, leaf).map_err(|problem| AuditFault { index, problem })
    }

    /// Checks that a checkpoint may be made of, or is of, exactly the leaves that were read.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointFault> {
        let is_same = checkpoint.origin == self.origin
            && checkpoint.size == self.edge.size()
            && checkpoint.root == self.edge.root();
        match (is_same, self.ends_in_heads) {
            (false, _) => Err(CheckpointFault::OtherLog),
            (true, false) => Err(CheckpointFault::NotAtHeads),
            (true, true) => Ok(()),
        }
    }

    /// The right edge of the log.
    pub const fn edge(&self) -> &Edge {
        &self.edge
    }

    /// The root document in force.
    pub const fn root(&self) -> Option<&Signed<Root>> {
        self.root.as_ref()
    }

    /// Where every ref stands.
    pub fn table(&self) -> HeadsTable {
        HeadsTable::new(self.heads.values().cloned().collect())
    }

    /// Where one ref stands.
    pub fn head(&self, key: &HeadKey) -> Option<&Head> {
        self.heads.get(key)
    }

    /// The heads leaf that sums up all leaves so far; none before the first root.
    pub fn next_heads(&self, time: UnixTime) -> Option<Heads> {
        let root = self.root.as_ref()?;
        let table = self.table();
        Some(Heads {
            time: self.last_heads.map_or(time, |(_, last)| last.max(time)),
            prev: self.last_heads.map(|(leaf, _)| leaf),
            root: RootRef { version: root.record().version, leaf: root.leaf() },
            table: table.root(),
            count: table.count(),
        })
    }

    fn take(&mut self, index: u64, leaf: &[u8]) -> Result<LeafKind, AuditProblem> {
        if index >= SIZE_MAX {
            return Err(AuditProblem::Full);
        }
        let kind = LeafKind::of(leaf).ok_or(AuditProblem::UnknownKind)?;
        match kind {
            LeafKind::Root => self.take_root(leaf)?,
            LeafKind::Publication => self.take_publication(index, leaf)?,
            LeafKind::Sealed => self.take_sealed(index, leaf)?,
            LeafKind::Heads => self.take_heads(leaf)?,
        }
        self.edge.append(LogHash::of_leaf(leaf), |_, _| {});
        self.ends_in_heads = kind == LeafKind::Heads;
        Ok(kind)
    }

    fn take_root(&mut self, leaf: &[u8]) -> Result<(), AuditProblem> {
        let root = Unverified::<Root>::parse(leaf)?;
        let root = match &self.root {
            Some(old) => root.verify_next(old)?,
            None => root.verify_own()?,
        };
        if root.record().origin != self.origin || self.root.is_none() && root.record().version != 1 {
            return Err(AuditProblem::NoRoot(self.origin.clone()));
        }
        self.root = Some(root);
        Ok(())
    }

    fn take_publication(&mut self, index: u64, leaf: &[u8]) -> Result<(), AuditProblem> {
        let root = self.root.as_ref().ok_or_else(|| AuditProblem::NoRoot(self.origin.clone()))?;
        let publication = Unverified::<Publication>::parse(leaf)?;
        // The claimed channel only chooses the keys; `verify` holds it against what they signed.
        let channel = publication.claims()?.channel;
        let publication = publication.verify(root, &channel, index)?;
        let record = publication.record();
        let key = HeadKey::open(&channel, &record.reference);
        self.move_head(key, record.seq, record.prev, index, leaf)
    }

    fn take_sealed(&mut self, index: u64, leaf: &[u8]) -> Result<(), AuditProblem> {
        if self.root.is_none() {
            return Err(AuditProblem::NoRoot(self.origin.clone()));
        }
        let sealed = Sealed::parse(leaf)?;
        self.move_head(HeadKey::sealed(&sealed.slot), sealed.seq, sealed.prev, index, leaf)
    }

    fn move_head(
        &mut self,
        key: HeadKey,
        seq: u64,
        prev: Option<LogHash>,
        index: u64,
        leaf: &[u8],
    ) -> Result<(), AuditProblem> {
        let before = self.heads.get(&key);
        let expected = before.map_or(1, |head| head.seq + 1);
        if seq != expected {
            let key = key.as_str().to_owned();
            return Err(AuditProblem::Sequence { key, expected, found: seq });
        }
        if prev != before.map(|head| head.leaf) {
            return Err(AuditProblem::Predecessor(key.as_str().to_owned()));
        }
        self.heads.insert(key.clone(), Head { key, seq, index, leaf: LogHash::of_leaf(leaf) });
        Ok(())
    }

    fn take_heads(&mut self, leaf: &[u8]) -> Result<(), AuditProblem> {
        let heads = Heads::parse(leaf)?;
        if let Some((_, last)) = self.last_heads.filter(|(_, last)| heads.time < *last) {
            return Err(AuditProblem::TimeBackwards(last, heads.time));
        }
        let expected =
            self.next_heads(heads.time).ok_or_else(|| AuditProblem::NoRoot(self.origin.clone()))?;
        if heads.prev != expected.prev {
            return Err(AuditProblem::Predecessor("the heads leaf".to_owned()));
        }
        if heads.root != expected.root {
            return Err(AuditProblem::WrongHeads("root document"));
        }
        if heads != expected {
            return Err(AuditProblem::WrongHeads("table of heads"));
        }
        self.last_heads = Some((LogHash::of_leaf(leaf), heads.time));
        Ok(())
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
