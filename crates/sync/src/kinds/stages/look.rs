//! Which release media a directory holds, and what they are.

use std::collections::BTreeMap;

use blake2::{Blake2b512, Digest as _};
use rayon::prelude::*;
use sha2::{Sha256, Sha512};
use smart_sync_store::id::{ContentId, ContentIdHasher};
use smart_sync_store::manifest::TreePath;

use super::digests::FileDigests;
use super::name::{Beside, Medium, Place, TextPlace};
use crate::kinds::findings::Findings;
use crate::kinds::{KindError, Refusal, file_time};
use crate::source::assembled::AssembledSource;
use crate::source::{FileStat, SourceError};
use crate::time::UnixTime;

/// A file of the directory.
pub(super) type FileHere<'a> = (&'a TreePath, &'a FileStat);

/// The files of a directory that have a place in a tree.
pub(super) struct Here<'a> {
    /// Each medium that is there itself, with what lies beside it.
    pub(super) media: BTreeMap<Medium, BTreeMap<Beside, FileHere<'a>>>,
    /// Texts that say what is the newest.
    pub(super) texts: BTreeMap<TextPlace, FileHere<'a>>,
    /// How many files are none of these.
    pub(super) others: u64,
}

impl<'a> Here<'a> {
    /// Sorts the files of a directory.
    pub(super) fn sort(directory: &'a AssembledSource) -> Result<Self, KindError> {
        let mut here = Self { media: BTreeMap::new(), texts: BTreeMap::new(), others: 0 };
        let mut copies = Vec::new();
        let mut refused = Vec::new();
        for (path, stat) in directory.files() {
            let before = match Place::parse(path) {
                Some(Place::Text(place)) => here.texts.insert(place, (path, stat)),
                Some(Place::Medium { medium, beside, is_copy: false }) => {
                    here.media.entry(medium).or_default().insert(beside, (path, stat))
                }
                Some(Place::Medium { medium, beside, .. }) => {
                    copies.push((medium, beside, (path, stat)));
                    None
                }
                None => {
                    here.others += 1;
                    None
                }
            };
            if before.is_some() {
                refused
                    .push(Refusal::new(path, "another directory has a file of this architecture and name"));
            }
        }
        // What lies in the directory of the newest build as well is taken from there where it lies nowhere else.
        for (medium, beside, file) in copies {
            here.media.entry(medium).or_default().entry(beside).or_insert(file);
        }
        let (media, alone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            here.media.into_iter().partition(|(_, files)| files.contains_key(&Beside::Itself));
        here.media = media;
        here.others += alone.values().map(|files| files.len() as u64).sum::<u64>();
        if refused.is_empty() { Ok(here) } else { Err(KindError::Refused(refused)) }
    }
}

/// What was found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) content: ContentId,
    pub(super) blake2b: [u8; 64],
    pub(super) sha512: [u8; 64],
    pub(super) sha256: [u8; 32],
}

impl Looked {
    /// Whether it is what a text says with both digests that have to be there.
    pub(super) fn is(&self, said: &FileDigests) -> bool {
        said.blake2b == Some(self.blake2b) && said.sha512 == Some(self.sha512)
    }

    fn encode(&self) -> Vec<u8> {
        [&self.content.as_bytes()[..], &self.blake2b, &self.sha512, &self.sha256].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, rest) = bytes.split_first_chunk::<32>()?;
        let (blake2b, rest) = rest.split_first_chunk::<64>()?;
        let (sha512, sha256) = rest.split_first_chunk::<64>()?;
        Some(Self {
            content: ContentId::from_bytes(*content),
            blake2b: *blake2b,
            sha512: *sha512,
            sha256: sha256.try_into().ok()?,
        })
    }
}

/// Reads media and their contents, by their paths in the directory. Those that did not change are not read again.
pub(super) fn look<'a>(
    directory: &AssembledSource,
    here: &Here<'a>,
    findings: &mut Findings,
    now: UnixTime,
) -> Result<BTreeMap<&'a TreePath, Looked>, KindError> {
    let is_looked_at = |beside: &Beside| matches!(beside, Beside::Itself | Beside::Contents(_));
    let files = here.media.values().flatten().filter(|(beside, _)| is_looked_at(beside));
    let files: Vec<(&TreePath, &FileStat, Option<Looked>)> = files
        .map(|(_, (path, stat))| (*path, *stat, findings.get(path, stat).and_then(Looked::decode)))
        .collect();
    let looked: Vec<Result<Looked, SourceError>> = files
        .par_iter()
        .map(|(path, _, known)| known.map_or_else(|| look_into(directory, path), Ok))
        .collect();
    let (mut found, mut failed) = (BTreeMap::new(), None);
    for ((path, stat, _), looked) in files.into_iter().zip(looked) {
        match looked {
            Ok(looked) => {
                findings.remember(path, stat, file_time(now), &looked.encode());
                found.insert(path, looked);
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(found), |error| Err(error.into()))
}

fn look_into(directory: &AssembledSource, path: &TreePath) -> Result<Looked, SourceError> {
    let (mut blake2b, mut sha512, mut sha256) = (Blake2b512::new(), Sha512::new(), Sha256::new());
    let mut content = ContentIdHasher::default();
    directory.read_through(path, &mut |bytes| {
        content.update(bytes);
        blake2b.update(bytes);
        sha512.update(bytes);
        sha256.update(bytes);
    })?;
    Ok(Looked {
        content: content.finish(),
        blake2b: blake2b.finalize().into(),
        sha512: sha512.finalize().into(),
        sha256: sha256.finalize().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_again() {
        let content = ContentId::of(b"a");
        let looked = Looked { content, blake2b: [1; 64], sha512: [2; 64], sha256: [3; 32] };
        assert_eq!(Looked::decode(&looked.encode()), Some(looked));
        assert_eq!(Looked::decode(&looked.encode()[1..]), None);
    }
}
