//! Records: root documents, publications, sealed publications and heads.
//!
//! A record arrives as bytes that nobody vouches for ([`Unverified`]). Its signatures are checked over those bytes
//! before anything in them is given a meaning, and only what passed has the type [`Signed`]. Each kind has one
//! header line, so that a record of one kind cannot stand in for another.

mod heads;
mod lines;
mod publication;
mod root;
mod sealed;

use std::marker::PhantomData;

pub use heads::{Heads, RootRef};
pub use publication::{ContentSummary, GitIds, ManifestRef, Publication};
pub use root::{MAX_AGE_SECONDS_MAX, PublishRole, Revocation, Role, Root};
pub use sealed::{COMMITMENT_RANDOM_BYTES, Opening, Sealed, SlotSecret};

use crate::log::merkle::LogHash;
use crate::note::{Note, NoteError};

/// A kind of record that is a signed note.
pub trait NoteRecord: Sized {
    /// Its first line.
    const HEADER: &'static str;

    /// Gives the text its meaning, strictly.
    fn parse(text: &str) -> Result<Self, RecordError>;

    /// The one text that has this meaning.
    fn to_text(&self) -> String;
}

/// A note that is taken for a record of this kind, without anything in it being believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified<T> {
    note: Note,
    leaf: LogHash,
    record: PhantomData<T>,
}

/// A record whose signatures were found sufficient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    record: T,
    note: Note,
    leaf: LogHash,
}

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is not a sound note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Its signatures are not in the order of the log, so that it would have a second leaf hash.
    #[error("the signatures are not sorted by key name and hash")]
    SignatureOrder,
    /// It is a record of another kind.
    #[error("a record of the kind {expected} was expected, and this is {found:?}")]
    OtherKind {
        /// The header that was expected.
        expected: &'static str,
        /// The header that was found.
        found: String,
    },
    /// It is of the right kind, in a version of the format that is not known here.
    #[error("this is {found:?}, and only {expected} is known here: a newer smart-sync is needed")]
    OtherVersion {
        /// The header that was expected.
        expected: &'static str,
        /// The header that was found.
        found: String,
    },
    /// A line breaks the grammar.
    #[error("line {line} of {record}: {reason}")]
    Line {
        /// The header of the record.
        record: &'static str,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Too few of the keys that count have signed.
    #[error("too few signatures of the {role} keys: {found} of {needed}")]
    Threshold {
        /// Whose signatures.
        role: &'static str,
        /// How many are needed.
        needed: usize,
        /// How many distinct keys have signed.
        found: usize,
    },
    /// No role may publish to the channel.
    #[error("no key may publish to the channel {0}")]
    NoPublisher(String),
    /// The signatures of a retired key were left out, and what remains is too little.
    #[error("the key {key} was revoked after leaf {after}, and this is leaf {index}")]
    Revoked {
        /// The key's name.
        key: String,
        /// The last leaf where its signature counts.
        after: u64,
        /// Where its signature was found.
        index: u64,
    },
    /// It is not what the statement before it leads to.
    #[error("{0}")]
    Chain(String),
}

impl<T: NoteRecord> Unverified<T> {
    /// Takes bytes as a record of this kind. Only the note and its first line are looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let note = Note::parse(bytes)?;
        if !note.is_sorted() {
            return Err(RecordError::SignatureOrder);
        }
        lines::check_header(T::HEADER, note.text())?;
        Ok(Self { note, leaf: LogHash::of_leaf(bytes), record: PhantomData })
    }

    /// The hash of the note as a leaf of the log.
    pub const fn leaf(&self) -> LogHash {
        self.leaf
    }

    /// The note.
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// What the record says, for whoever is about to sign it or has to choose the keys that it is checked with.
    /// Nothing of it is to be acted upon.
    pub fn claims(&self) -> Result<T, RecordError> {
        T::parse(self.note.text())
    }

    fn into_signed(self, record: T) -> Signed<T> {
        Signed { record, note: self.note, leaf: self.leaf }
    }
}

impl<T> Signed<T> {
    /// What it says.
    pub const fn record(&self) -> &T {
        &self.record
    }

    /// The hash of the note as a leaf of the log.
    pub const fn leaf(&self) -> LogHash {
        self.leaf
    }

    /// The note, for further checks of its signatures.
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// The bytes of the note: the leaf.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.note.to_bytes()
    }
}

/// What kind of record the bytes of a leaf claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafKind {
    /// A root document.
    Root,
    /// A publication.
    Publication,
    /// A sealed publication.
    Sealed,
    /// Heads.
    Heads,
}

impl LeafKind {
    /// Looks at the first line.
    pub fn of(leaf: &[u8]) -> Option<Self> {
        let header = leaf.split(|byte| *byte == b'\n').next()?;
        [
            (Root::HEADER, Self::Root),
            (Publication::HEADER, Self::Publication),
            (Sealed::HEADER, Self::Sealed),
            (Heads::HEADER, Self::Heads),
        ]
        .into_iter()
        .find_map(|(text, kind)| (text.as_bytes() == header).then_some(kind))
    }
}

#[cfg(test)]
mod tests;
