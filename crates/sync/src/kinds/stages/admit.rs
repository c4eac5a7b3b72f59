//! Which media of a directory may be published: those that are what the texts beside them say, signed by keys that count.

use std::collections::BTreeMap;

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::{Content, TreePath};

use super::digests::{self, Algorithm, FileDigests};
use super::look::{FileHere, Here, Looked};
use super::name::{Beside, Medium};
use super::signed::{SignedText, TEXT_BYTES_MAX, hint};
use super::stock::{Kept, Stock};
use crate::kinds::beside::SmallFile;
use crate::kinds::detached::{Judge, SignedFile};
use crate::kinds::findings::Findings;
use crate::kinds::{Before, KindError, Refusal};
use crate::openpgp::{KeyRing, Signer};
use crate::source::assembled::AssembledSource;
use crate::time::UnixTime;

/// What to do about a medium that nothing says anything of.
const DIGESTS_HINT: &str = "fetch the file with .DIGESTS behind its name from where the medium comes from";
/// What to do about a file that changed under its name.
const NAME_HINT: &str = "a build that was made again has a time of its own in its name";

/// What is needed to look at media.
pub(super) struct Admission<'a> {
    pub(super) directory: &'a AssembledSource,
    pub(super) before: Option<&'a dyn Before>,
    pub(super) published: &'a BTreeMap<TreePath, Content>,
    pub(super) ring: Option<&'a KeyRing>,
    pub(super) now: UnixTime,
}

/// Who has signed which files of a tree.
pub(super) type Signers = BTreeMap<TreePath, Signer>;

/// What is published of a directory.
#[derive(Default)]
pub(super) struct Admitted {
    pub(super) stock: Stock,
    pub(super) signers: Signers,
    /// Why others are not.
    pub(super) refused: Vec<Refusal>,
}

/// Why a medium is not published.
enum Stop {
    /// It must not be.
    Refused(Refusal),
    /// That could not be found out.
    Failed(KindError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<KindError> for Stop {
    fn from(error: KindError) -> Self {
        Self::Failed(error)
    }
}

/// A medium of the directory.
struct Found<'a> {
    medium: &'a Medium,
    files: &'a BTreeMap<Beside, FileHere<'a>>,
    path: &'a TreePath,
    looked: Looked,
}

impl Admission<'_> {
    /// Looks at every medium of the directory.
    pub(super) fn admit(
        &self,
        here: &Here<'_>,
        looked: &BTreeMap<&TreePath, Looked>,
        findings: &mut Findings,
    ) -> Result<Admitted, KindError> {
        let found: Vec<Found<'_>> = (here.media.iter())
            .filter_map(|(medium, files)| {
                let (path, _) = *files.get(&Beside::Itself)?;
                Some(Found { medium, files, path, looked: *looked.get(path)? })
            })
            .collect();
        let mut admitted = Admitted::default();
        for found in &found {
            match self.one(found, looked, &mut admitted.signers) {
                Ok(files) => {
                    admitted.stock.insert(found.medium.clone(), files);
                }
                Err(Stop::Refused(refusal)) => admitted.refused.push(refusal),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        self.signatures(&found, findings, &mut admitted)?;
        Ok(admitted)
    }

    /// The files of a medium, if its digests are right.
    fn one(
        &self,
        found: &Found<'_>,
        looked: &BTreeMap<&TreePath, Looked>,
        signers: &mut Signers,
    ) -> Result<BTreeMap<Beside, Kept>, Stop> {
        let Found { medium, files, path, looked: of_medium } = found;
        let Some(text) = self.beside(found, Beside::Digests)? else {
            let reason = "there is no file with its digests beside it";
            return Err(Refusal { hint: Some(DIGESTS_HINT), ..Refusal::new(path, reason) }.into());
        };
        let said = self.digests(found, Beside::Digests, text, signers)?;
        for (beside, (path, _)) in *files {
            // The others are texts, which are judged by themselves.
            let Some(looked) = looked.get(path) else { continue };
            let name = format!("{}{}", medium.name.file, beside.suffix());
            if self.is_other(&medium.path(*beside)?, looked.content) {
                let reason = "a file of this name is published, and is another one";
                return Err(Refusal { hint: Some(NAME_HINT), ..Refusal::new(path, reason) }.into());
            }
            if !said.get(&name).is_some_and(|said| looked.is(said)) {
                return Err(Refusal::new(path, "it is not what the file with its digests says").into());
            }
        }
        if let Some(text) = self.beside(found, Beside::Sha256)? {
            let said = self.digests(found, Beside::Sha256, text, signers)?;
            if said.get(&medium.name.file).and_then(|said| said.sha256) != Some(of_medium.sha256) {
                return Err(Refusal::new(path, "it is not what the file with its SHA-256 says").into());
            }
        }
        let mut kept = BTreeMap::new();
        // What was published beside the same medium stays, where the directory has nothing in its place.
        for beside in [Beside::Itself].into_iter().chain(Beside::ALL) {
            if let Some(file) = self.beside(found, beside)? {
                kept.insert(beside, Kept { part: file.part(), size: file.size() });
            }
        }
        Ok(kept)
    }

    /// Whether a file is published under this path and is another one.
    fn is_other(&self, place: &TreePath, content: ContentId) -> bool {
        self.published.get(place).is_some_and(|published| published.id != content)
    }

    /// What lies beside a medium, or was published for it.
    fn beside<'f>(&self, found: &Found<'f>, beside: Beside) -> Result<Option<SmallFile<'f>>, KindError> {
        if let Some((path, stat)) = found.files.get(&beside) {
            return Ok(Some(SmallFile::Here(path, stat)));
        }
        let published = self.published.get(&found.medium.path(beside)?);
        Ok(published.map(|content| SmallFile::Published(*content)))
    }

    /// Reads a text with digests, and notes who has signed it.
    fn digests(
        &self,
        found: &Found<'_>,
        beside: Beside,
        file: SmallFile<'_>,
        signers: &mut Signers,
    ) -> Result<BTreeMap<String, FileDigests>, Stop> {
        let place = found.medium.path(beside)?;
        let named = match file {
            SmallFile::Here(path, _) => path,
            SmallFile::Published(_) => &place,
        };
        let Some(bytes) = file.read(self.directory, self.before, TEXT_BYTES_MAX)? else {
            return Err(Refusal::new(named, "it is too long to be a text with digests").into());
        };
        let judged = SignedText::read(&bytes).and_then(|text| Ok((text.judge(self.ring, self.now)?, text)));
        let (signer, text) =
            judged.map_err(|error| Refusal { hint: Some(hint(&error)), ..Refusal::of(named, &error) })?;
        let always = (beside == Beside::Sha256).then_some(Algorithm::Sha256);
        let said = digests::parse(&text.text, always).map_err(|error| Refusal::of(named, &error))?;
        signers.extend(signer.map(|signer| (place, signer)));
        Ok(said)
    }

    /// Judges the signatures of the media themselves.
    fn signatures(
        &self,
        found: &[Found<'_>],
        findings: &mut Findings,
        admitted: &mut Admitted,
    ) -> Result<(), KindError> {
        let Some(ring) = self.ring else { return Ok(()) };
        let mut files = Vec::with_capacity(found.len());
        for found in found {
            let signature = self.beside(found, Beside::Signature)?;
            files.push(SignedFile { path: found.path, content: found.looked.content, signature });
        }
        let judge = Judge { directory: self.directory, before: self.before, ring, now: self.now };
        for (found, judged) in found.iter().zip(judge.judge(&files, findings)?) {
            match judged {
                Ok(signer) => {
                    admitted.signers.insert(found.medium.path(Beside::Itself)?, signer);
                }
                Err(error) => {
                    let refusal = Refusal { hint: Some(hint(&error)), ..Refusal::of(found.path, &error) };
                    admitted.refused.push(refusal);
                }
            }
        }
        Ok(())
    }
}
