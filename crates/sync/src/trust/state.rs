//! What a machine remembers of a realm.

use std::collections::BTreeMap;

use smart_sync_store::id::ManifestId;

use super::refusal::Fork;
use crate::log::checkpoint::Checkpoint;
use crate::log::merkle::LogHash;
use crate::name::{Channel, Origin, RefName};
use crate::note::Note;
use crate::record::{Root, Signed, SlotSecret};
use crate::time::UnixTime;

/// What a machine remembers of a realm. It only ever moves forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustState {
    pub(super) origin: Origin,
    pub(super) anchor: Anchor,
    pub(super) refs: BTreeMap<(Channel, RefName), RefState>,
    pub(super) private: BTreeMap<Channel, SlotSecret>,
    pub(super) fork: Option<Fork>,
}

/// Where trust begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Nothing was verified yet: a root document of this hash is believed.
    Pin(LogHash),
    /// What was verified last.
    Seen(Box<Seen>),
}

/// What was verified last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) root: Signed<Root>,
    pub(super) checkpoint: Checkpoint,
    pub(super) checkpoint_note: Note,
    pub(super) time: UnixTime,
    pub(super) heads_time: UnixTime,
}

/// Where a ref was seen to stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefState {
    /// Its sequence number.
    pub seq: u64,
    /// The index of its leaf.
    pub index: u64,
    /// The hash of its leaf.
    pub leaf: LogHash,
    /// The tree that was published.
    pub manifest: ManifestId,
}

impl TrustState {
    /// Trust in a realm begins with the hash of one of its root documents.
    pub fn pinned(origin: Origin, pin: LogHash) -> Self {
        Self { origin, anchor: Anchor::Pin(pin), refs: BTreeMap::new(), private: BTreeMap::new(), fork: None }
    }

    /// The realm.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The pin, as long as nothing was verified.
    pub fn pin(&self) -> Option<LogHash> {
        match &self.anchor {
            Anchor::Pin(pin) => Some(*pin),
            Anchor::Seen(_) => None,
        }
    }

    /// The root document that was in force last.
    pub fn root(&self) -> Option<&Signed<Root>> {
        self.seen().map(|seen| &seen.root)
    }

    /// The newest checkpoint that was verified.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.seen().map(|seen| &seen.checkpoint)
    }

    /// The note of that checkpoint, to be shown to others who may have seen another one.
    pub fn checkpoint_note(&self) -> Option<&Note> {
        self.seen().map(|seen| &seen.checkpoint_note)
    }

    /// The size of the newest tree that was verified; 0 before the first.
    pub fn size(&self) -> u64 {
        self.seen().map_or(0, |seen| seen.checkpoint.size)
    }

    /// The newest time that was ever verified. It is never earlier than this.
    pub fn time_floor(&self) -> Option<UnixTime> {
        self.seen().map(|seen| seen.time)
    }

    /// Where a ref was seen to stand.
    pub fn reference(&self, channel: &Channel, reference: &RefName) -> Option<&RefState> {
        self.refs.get(&(channel.clone(), reference.clone()))
    }

    /// All refs that were seen.
    pub fn references(&self) -> impl Iterator<Item = (&Channel, &RefName, &RefState)> {
        self.refs.iter().map(|((channel, reference), state)| (channel, reference, state))
    }

    /// The two contradicting checkpoints, once the log was caught. Nothing is accepted until a person has looked at
    /// it and begun anew with `trust reset`.
    pub const fn fork(&self) -> Option<&Fork> {
        self.fork.as_ref()
    }

    pub(super) fn seen(&self) -> Option<&Seen> {
        match &self.anchor {
            Anchor::Pin(_) => None,
            Anchor::Seen(seen) => Some(seen),
        }
    }

    /// The same state, latched.
    pub(super) fn latched(&self, fork: Fork) -> Self {
        Self { fork: Some(fork), ..self.clone() }
    }
}
