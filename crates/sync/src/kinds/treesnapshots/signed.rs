//! Whether snapshots are signed by keys that count.
//!
//! What a signature signs is hashed once and kept with the signature, so that a key that was revoked since is noticed
//! without reading the archive again.

use std::collections::BTreeMap;

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::{Content, TreePath};

use super::super::findings::Findings;
use super::super::published::tree_path;
use super::super::{Before, KindError, Refusal, file_time};
use super::{BESIDE_BYTES_MAX, Found, read_small};
use crate::openpgp::{Digested, KeyRing, SignatureError, Signatures, Signer};
use crate::source::assembled::AssembledSource;
use crate::source::{FileStat, SourceError};
use crate::time::UnixTime;

/// What is needed to judge signatures.
pub(super) struct Judge<'a> {
    pub(super) directory: &'a AssembledSource,
    pub(super) files: &'a BTreeMap<String, (&'a TreePath, &'a FileStat)>,
    pub(super) before: Option<&'a dyn Before>,
    pub(super) published: &'a BTreeMap<TreePath, Content>,
    pub(super) ring: &'a KeyRing,
    pub(super) now: UnixTime,
}

impl Judge<'_> {
    /// Who has signed a snapshot, or why it must not be published.
    pub(super) fn judge(
        &self,
        found: &Found<'_>,
        findings: &mut Findings,
    ) -> Result<Result<Signer, Refusal>, KindError> {
        let refuse = |error: &SignatureError| {
            Ok(Err(Refusal { hint: Some(error.hint()), ..Refusal::of(found.path, error) }))
        };
        let beside = self.files.get(&found.name.signature()).copied();
        let known = beside.and_then(|(path, stat)| decode(findings.get(path, stat)?, found.looked.content));
        let digested = if let Some(known) = known {
            known
        } else {
            let Some(bytes) = self.signature_of(found)? else { return refuse(&SignatureError::NotSigned) };
            let signatures = match Signatures::detached(&bytes) {
                Ok(signatures) => signatures,
                Err(error) => return refuse(&error),
            };
            let digested = signatures.digest(self.directory.open(found.path)?).map_err(|source| {
                SourceError::Io { operation: "reading", path: found.path.as_bytes().to_vec(), source }
            })?;
            if let Some((path, stat)) = beside {
                findings.remember(path, stat, file_time(self.now), &encode(&digested, found.looked.content));
            }
            digested
        };
        match self.ring.judge(&digested, self.now) {
            Ok(signer) => Ok(Ok(signer)),
            Err(error) => refuse(&error),
        }
    }

    /// The signature that lies beside a snapshot, or is published for it.
    fn signature_of(&self, found: &Found<'_>) -> Result<Option<Vec<u8>>, KindError> {
        if let Some((path, stat)) = self.files.get(&found.name.signature()) {
            return read_small(self.directory, path, stat);
        }
        let content = self.published.get(&tree_path(&found.name.signature())?);
        let Some((before, content)) = self.before.zip(content) else { return Ok(None) };
        Ok(before.read(&[*content], BESIDE_BYTES_MAX)?.pop())
    }
}

/// A line for each key that has signed something.
pub(super) fn said_of(signers: &[Signer]) -> Vec<String> {
    let line = |signer: &Signer| match &signer.user {
        Some(user) => format!("snapshots are signed by {user}, {}", signer.primary),
        None => format!("snapshots are signed by {}", signer.primary),
    };
    let mut lines: Vec<String> = signers.iter().map(line).collect();
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
