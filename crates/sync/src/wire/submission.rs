//! What a publisher sends when everything that its publication refers to has been uploaded.

use smart_sync_store::codec::{DecodeError, Reader, put_number, put_prefixed};

use crate::note::NOTE_BYTES_MAX;

const MAGIC: &[u8] = b"sspb\x01";

/// The most sidecars of a publication.
pub const SIDECARS_MAX: usize = 8;
/// The most bytes of a sidecar.
pub const SIDECAR_BYTES_MAX: usize = 4096;
/// The most bytes of a sidecar's name.
const NAME_BYTES_MAX: usize = 64;
/// The most bytes of a submission.
pub const SUBMISSION_BYTES_MAX: usize =
    MAGIC.len() + 16 + NOTE_BYTES_MAX + SIDECARS_MAX * (8 + NAME_BYTES_MAX + SIDECAR_BYTES_MAX);

/// A publication on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The signed note.
    pub note: Vec<u8>,
    /// Signatures that other programs check.
    pub sidecars: Vec<Sidecar>,
}

/// A signature beside a publication: of its note, or of the tree as `b3sum` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// One of [`Sidecar::NAMES`].
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Sidecar {
    /// The names that a sidecar may have.
    pub const NAMES: [&str; 4] = ["publication.minisig", "publication.sshsig", "SUMS.minisig", "SUMS.sshsig"];
}

impl Submission {
    /// Writes the submission.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_prefixed(&mut out, &self.note);
        put_number(&mut out, self.sidecars.len() as u64);
        for sidecar in &self.sidecars {
            put_prefixed(&mut out, sidecar.name.as_bytes());
            put_prefixed(&mut out, &sidecar.bytes);
        }
        out
    }

    /// Reads a submission.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic("a submission", MAGIC)?;
        let note = reader.prefixed("the note", NOTE_BYTES_MAX)?.to_vec();
        let count = reader.count("the number of sidecars", SIDECARS_MAX)?;
        let mut sidecars: Vec<Sidecar> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = reader.prefixed("the name of a sidecar", NAME_BYTES_MAX)?;
            let name = Sidecar::NAMES.into_iter().find(|known| known.as_bytes() == name);
            let name = name.ok_or_else(|| DecodeError::invalid("a sidecar has a name that is not known"))?;
            if sidecars.iter().any(|other| other.name == name) {
                return Err(DecodeError::invalid(format!("{name} is there twice")));
            }
            let bytes = reader.prefixed("a sidecar", SIDECAR_BYTES_MAX)?.to_vec();
            sidecars.push(Sidecar { name: name.to_owned(), bytes });
        }
        reader.finish()?;
        Ok(Self { note, sidecars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Submission {
        let sidecars = vec![Sidecar { name: "SUMS.minisig".into(), bytes: vec![1, 2] }];
        Submission { note: b"note".to_vec(), sidecars }
    }

    #[test]
    fn a_submission_comes_back_as_it_was() {
        assert_eq!(Submission::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn unknown_and_repeated_sidecars_are_refused() {
        let mut twice = sample();
        twice.sidecars.push(twice.sidecars[0].clone());
        assert!(Submission::decode(&twice.encode()).is_err());
        let mut unknown = sample();
        unknown.sidecars[0].name = "../../etc/passwd".into();
        assert!(Submission::decode(&unknown.encode()).is_err());
        let long = Submission { note: vec![0; NOTE_BYTES_MAX + 1], sidecars: Vec::new() };
        assert!(Submission::decode(&long.encode()).is_err());
    }
}
