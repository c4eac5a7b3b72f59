//! Sealed publications: what the log shows of a private channel.
//!
//! Everybody sees that some slot moved, and nobody but the readers of the channel sees which channel and ref the
//! slot stands for, or what was published. The random bytes keep a publication from being guessed.

use sha2::{Digest, Sha256};

use super::RecordError;
use super::lines::{Lines, or_none};
use crate::log::merkle::LogHash;
use crate::name::{Channel, RefName};

/// The number of random bytes that go into a commitment.
pub const COMMITMENT_RANDOM_BYTES: usize = 32;

/// The leaf of a private publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Stands for the channel and the ref.
    pub slot: LogHash,
    /// Counts the publications of the slot, from 1.
    pub seq: u64,
    /// The leaf hash of the previous sealed publication of the slot.
    pub prev: Option<LogHash>,
    /// Binds the publication.
    pub commitment: LogHash,
}

/// The secret of a private channel from which the slots of its refs follow.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSecret(pub [u8; 32]);

/// What readers are given, beside the secret of the slot, to open a sealed publication.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    /// The random bytes of the commitment.
    pub random: [u8; COMMITMENT_RANDOM_BYTES],
    /// The note of the publication.
    pub note: Vec<u8>,
}

impl SlotSecret {
    /// The slot of a ref.
    pub fn slot(&self, channel: &Channel, reference: &RefName) -> LogHash {
        let digest = Sha256::new_with_prefix("smart-sync/slot/v1\n")
            .chain_update(self.0)
            .chain_update(format!("{channel} {}\n", reference.to_record()))
            .finalize();
        LogHash::from_bytes(digest.into())
    }
}

impl Opening {
    /// What a sealed publication says that this opens.
    pub fn commitment(&self) -> LogHash {
        let digest = Sha256::new_with_prefix("smart-sync/commitment/v1\n")
            .chain_update(self.random)
            .chain_update(&self.note)
            .finalize();
        LogHash::from_bytes(digest.into())
    }
}

impl Sealed {
    /// The first line.
    pub const HEADER: &'static str = "smart-sync/sealed/v1";
    /// No sealed publication is longer.
    const BYTES_MAX: usize = 1024;

    /// Reads the bytes of a leaf.
    pub fn parse(leaf: &[u8]) -> Result<Self, RecordError> {
        let text =
            str::from_utf8(leaf).ok().filter(|text| text.len() <= Self::BYTES_MAX).ok_or_else(|| {
                let reason = "it is not a short text in UTF-8".to_owned();
                RecordError::Line { record: Self::HEADER, line: 1, reason }
            })?;
        let mut lines = Lines::open(Self::HEADER, text)?;
        let slot = lines.parse("slot")?;
        let seq = lines.number("seq")?;
        let prev = lines.hash_or_none("prev")?;
        if seq == 0 || (seq == 1) != prev.is_none() {
            return Err(lines.refuse("seq 1 has no previous publication, and every other has one"));
        }
        let commitment = lines.parse("commitment")?;
        lines.finish()?;
        Ok(Self { slot, seq, prev, commitment })
    }

    /// The text of the leaf.
    pub fn to_text(&self) -> String {
        format!(
            "{}\nslot {}\nseq {}\nprev {}\ncommitment {}\n",
            Self::HEADER,
            self.slot,
            self.seq,
            or_none(self.prev.as_ref()),
            self.commitment
        )
    }
}

/// Secrets are not printed.
impl std::fmt::Debug for SlotSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SlotSecret")
    }
}

/// What is private is not printed.
impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opening")
    }
}
