//! Whether files are signed by keys that count, by signatures that lie beside them.
//!
//! What a signature signs is hashed once and kept with the signature, so that a key that was revoked since is noticed
//! without reading a large file again.

use rayon::prelude::*;
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::TreePath;

use super::beside::SmallFile;
use super::findings::Findings;
use super::{Before, KindError, file_time};
use crate::openpgp::{Digested, KeyRing, SIGNATURES_BYTES_MAX, SignatureError, Signatures, Signer};
use crate::source::SourceError;
use crate::source::assembled::AssembledSource;
use crate::time::UnixTime;

/// A file of the directory that has to be signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignedFile<'a> {
    pub(super) path: &'a TreePath,
    /// What it holds.
    pub(super) content: ContentId,
    /// The signature, if there is one.
    pub(super) signature: Option<SmallFile<'a>>,
}

/// What is needed to judge signatures.
pub(super) struct Judge<'a> {
    pub(super) directory: &'a AssembledSource,
    pub(super) before: Option<&'a dyn Before>,
    pub(super) ring: &'a KeyRing,
    pub(super) now: UnixTime,
}

/// What is known of one signature before the file is read.
enum State {
    Known(Digested),
    Read(Signatures),
    Refused(SignatureError),
}

impl Judge<'_> {
    /// Who has signed each of these files, or why that counts for nothing.
    pub(super) fn judge(
        &self,
        files: &[SignedFile<'_>],
        findings: &mut Findings,
    ) -> Result<Vec<Result<Signer, SignatureError>>, KindError> {
        let mut states = Vec::with_capacity(files.len());
        for file in files {
            states.push(self.state(file, findings)?);
        }
        let directory = self.directory;
        let digested: Vec<Result<Result<Digested, SignatureError>, SourceError>> =
            files.par_iter().zip(states).map(|(file, state)| digest(directory, file.path, state)).collect();
        let mut judged = Vec::with_capacity(files.len());
        for (file, digested) in files.iter().zip(digested) {
            let digested = digested?;
            if let (Ok(digested), Some(SmallFile::Here(path, stat))) = (&digested, file.signature) {
                findings.remember(path, stat, file_time(self.now), &encode(digested, file.content));
            }
            judged.push(digested.and_then(|digested| self.ring.judge(&digested, self.now)));
        }
        Ok(judged)
    }

    fn state(&self, file: &SignedFile<'_>, findings: &mut Findings) -> Result<State, KindError> {
        let Some(signature) = file.signature else { return Ok(State::Refused(SignatureError::NotSigned)) };
        if let SmallFile::Here(path, stat) = signature
            && let Some(known) = findings.get(path, stat).and_then(|known| decode(known, file.content))
        {
            return Ok(State::Known(known));
        }
        let bytes = signature.read(self.directory, self.before, SIGNATURES_BYTES_MAX as u64)?;
        let Some(bytes) = bytes else {
            let reason = format!("it is longer than {SIGNATURES_BYTES_MAX} bytes");
            return Ok(State::Refused(SignatureError::Malformed(reason)));
        };
        Ok(match Signatures::detached(&bytes) {
            Ok(signatures) => State::Read(signatures),
            Err(error) => State::Refused(error),
        })
    }
}

fn digest(
    directory: &AssembledSource,
    path: &TreePath,
    state: State,
) -> Result<Result<Digested, SignatureError>, SourceError> {
    match state {
        State::Known(digested) => Ok(Ok(digested)),
        State::Refused(error) => Ok(Err(error)),
        State::Read(signatures) => {
            let lost =
                |source| SourceError::Io { operation: "reading", path: path.as_bytes().to_vec(), source };
            signatures.digest(directory.open(path)?).map(Ok).map_err(lost)
        }
    }
}

/// A line for each key that has signed some of what `things` are.
pub(super) fn said_of<'s>(things: &str, signers: impl IntoIterator<Item = &'s Signer>) -> Vec<String> {
    let line = |signer: &Signer| match &signer.user {
        Some(user) => format!("{things} are signed by {user}, {}", signer.primary),
        None => format!("{things} are signed by {}", signer.primary),
    };
    let mut lines: Vec<String> = signers.into_iter().map(line).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

fn encode(digested: &Digested, of: ContentId) -> Vec<u8> {
    [&of.as_bytes()[..], &digested.encode()].concat()
}

/// What is remembered of a signature, if it was compared with this content.
fn decode(bytes: &[u8], of: ContentId) -> Option<Digested> {
    let (content, digested) = bytes.split_first_chunk::<32>()?;
    (ContentId::from_bytes(*content) == of).then(|| Digested::decode(digested)).flatten()
}
