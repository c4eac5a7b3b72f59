//! Checkpoints: the signed head of the log ([C2SP tlog-checkpoint](https://c2sp.org/tlog-checkpoint)).
//!
//! Three kinds of key sign the same text: the log says "this is my tree", the clock says "and it was at this time",
//! witnesses say "and I have seen no other". Which of them are needed is what the root document says.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::merkle::{LogHash, SIZE_MAX};
use crate::name::Origin;
use crate::note::{Note, NoteError};
use crate::record::{Role, Root};
use crate::time::UnixTime;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The realm.
    pub origin: Origin,
    /// The number of leaves; a log has at least its first root.
    pub size: u64,
    /// The root hash.
    pub root: LogHash,
}

/// A checkpoint that the log, the clock and the witnesses stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
    time: UnixTime,
}

/// Why a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is not a sound note.
    #[error("the checkpoint: {0}")]
    Note(#[from] NoteError),
    /// Too few keys stand for it.
    #[error("the checkpoint has too few signatures of the {role} keys: {found} of {needed}")]
    Quorum {
        /// Whose signatures.
        role: &'static str,
        /// How many are needed.
        needed: usize,
        /// How many distinct keys have signed.
        found: usize,
    },
    /// The text is not that of a checkpoint.
    #[error("the checkpoint is malformed: {0}")]
    Malformed(&'static str),
    /// It is the checkpoint of another log.
    #[error("the checkpoint is of {found}, not of {expected}")]
    OtherOrigin {
        /// The log that was asked for.
        expected: Origin,
        /// The log that it is of.
        found: Origin,
    },
}

impl Checkpoint {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root.as_bytes()))
    }

    /// Reads the text.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let malformed = CheckpointError::Malformed;
        let lines: Vec<&str> = text.splitn(5, '\n').collect();
        let [origin, size, root, ""] = lines[..] else {
            return Err(malformed("it has to have three lines"));
        };
        let origin = origin.parse().map_err(|_| malformed("its first line is no origin"))?;
        let size = size.parse().ok().filter(|size| (1..=SIZE_MAX).contains(size));
        let size = size.ok_or(malformed("its size is not between 1 and 2^40"))?;
        let root = BASE64_STANDARD.decode(root).ok().and_then(|root| root.try_into().ok());
        let root = LogHash::from_bytes(root.ok_or(malformed("its root hash is not 32 bytes in base64"))?);
        let checkpoint = Self { origin, size, root };
        // A size with a sign or leading zeros would be another spelling of the same tree.
        if checkpoint.to_text() == text { Ok(checkpoint) } else { Err(malformed("its size is misspelt")) }
    }
}

impl SignedCheckpoint {
    /// Checks a checkpoint under a root document: the log's signature, the clock's quorum, the witnesses'.
    pub fn verify(bytes: &[u8], root: &Root) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        quorum(&note, "log", &root.log)?;
        let mut times = quorum(&note, "clock", &root.clock)?;
        if let Some(witness) = &root.witness {
            quorum(&note, "witness", witness)?;
        }
        // The time that a whole quorum stands for: a single key that runs ahead cannot make it later.
        times.sort_unstable();
        let time = times[times.len() - root.clock.threshold];
        let checkpoint = Checkpoint::parse(note.text())?;
        if checkpoint.origin != root.origin {
            return Err(CheckpointError::OtherOrigin {
                expected: root.origin.clone(),
                found: checkpoint.origin,
            });
        }
        Ok(Self { checkpoint, note, time })
    }

    /// What it says.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note.
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// When the clock last stood for it.
    pub const fn time(&self) -> UnixTime {
        self.time
    }
}

/// The times of at least as many distinct keys as the role asks for; the beginning of time for signatures without.
fn quorum(note: &Note, name: &'static str, role: &Role) -> Result<Vec<UnixTime>, CheckpointError> {
    let by = note.verified_by(&role.keys)?;
    if by.len() < role.threshold {
        return Err(CheckpointError::Quorum { role: name, needed: role.threshold, found: by.len() });
    }
    Ok(by.iter().map(|by| by.time.unwrap_or(UnixTime::EPOCH)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_has_one_spelling() {
        let good = format!("lab.example.org\n17\n{}\n", BASE64_STANDARD.encode([7; 32]));
        assert_eq!(Checkpoint::parse(&good).unwrap().to_text(), good);
        for wrong in [
            String::new(),
            good.trim_end().to_owned(),
            format!("{good}extension\n"),
            good.replace("17", "017"),
            good.replace("17", "+17"),
            good.replace("17", "0"),
            good.replace("17", "18446744073709551615"),
            good.replace("17", "1099511627777"),
            good.replace("lab", "Lab"),
            good.replace('=', ""),
        ] {
            assert!(Checkpoint::parse(&wrong).is_err(), "{wrong:?}");
        }
    }
}
