//! The manifest of what a target holds, kept beside its other state.
//!
//! One file: every page, each with its length in front. It is read as a whole, and a page is found by the hash of its
//! bytes, so a file that was damaged is one that lacks pages, and nothing false is ever read from it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf as _, Bytes};
use smart_sync_store::id::{ManifestId, ObjectId};
use smart_sync_store::manifest::{
    BuildError, Edit, Entry, Fidelity, Manifest, ManifestBuilder, ManifestSummary, PageError, PageSource,
    ReadError, edited,
};

use crate::failure::{Exit, Failure};
use crate::realm::trust_store::write;

/// Pages in memory, each one verified.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    pages: HashMap<ObjectId, Bytes>,
}

impl PageSource for Pages {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        self.pages.page(id)
    }

    fn is_verified(&self) -> bool {
        true
    }
}

impl Pages {
    /// The pages of a file; none if it is not there or cannot be used.
    pub fn load(state: &Path, manifest: ManifestId) -> Result<Self, Failure> {
        let path = path_of(state, manifest);
        let mut rest: Bytes = match fs::read(&path) {
            Ok(bytes) => bytes.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::from(error).context(format!("reading {}", path.display()))),
        };
        let mut pages = HashMap::new();
        while rest.len() >= 4 {
            let length = rest.get_u32_le() as usize;
            if length > rest.len() {
                break;
            }
            let page = rest.split_to(length);
            pages.insert(ObjectId::of(&page), page);
        }
        Ok(Self { pages })
    }

    /// Builds a manifest from entries.
    pub fn build(
        fidelity: Fidelity,
        entries: impl Iterator<Item = Result<Entry, ReadError>>,
    ) -> Result<(Self, ManifestSummary), BuildPagesError> {
        let mut pages = HashMap::new();
        let mut builder = ManifestBuilder::new(fidelity, |id, bytes: Vec<u8>| {
            pages.insert(id, Bytes::from(bytes));
            Ok::<_, BuildPagesError>(())
        });
        for entry in entries {
            builder.push(&entry?)?;
        }
        let summary = builder.finish()?;
        Ok((Self { pages }, summary))
    }

    /// Builds the manifest that results from edits to this one.
    pub fn edited(
        &self,
        from: Option<ManifestId>,
        fidelity: Fidelity,
        edits: Vec<Edit>,
    ) -> Result<(Self, ManifestSummary), BuildPagesError> {
        match from {
            Some(from) => {
                let manifest = Manifest::open(self, from, None)?;
                Self::build(fidelity, edited(manifest.iter(), edits))
            }
            None => Self::build(fidelity, edited(std::iter::empty(), edits)),
        }
    }

    /// The number of entries of a manifest, if all its pages are here and right.
    pub fn count(&self, manifest: ManifestId) -> Result<u64, ReadError> {
        Manifest::open(self, manifest, None)?.iter().try_fold(0, |count, entry| entry.map(|_| count + 1))
    }

    /// Works with the entries of a manifest, one after the other: all of them at once would take several times the
    /// room of the pages. What was done with a part of them does not count.
    pub fn with_entries<T, E: From<ReadError>>(
        &self,
        manifest: ManifestId,
        work: impl FnOnce(&mut dyn Iterator<Item = Entry>) -> Result<T, E>,
    ) -> Result<T, E> {
        let manifest = Manifest::open(self, manifest, None)?;
        let mut failure = None;
        let mut entries = manifest.iter().map_while(|entry| match entry {
            Ok(entry) => Some(entry),
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        let outcome = work(&mut entries);
        drop(entries);
        match failure {
            Some(error) => Err(error.into()),
            None => outcome,
        }
    }

    /// Keeps the pages, durably.
    pub fn save(&self, state: &Path, manifest: ManifestId) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        for page in self.pages.values() {
            let length = u32::try_from(page.len()).expect("a page has at most 1 MiB");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(page);
        }
        write(&path_of(state, manifest), &bytes)
    }

    /// Removes the pages of every manifest but these.
    pub fn discard_others(state: &Path, kept: impl IntoIterator<Item = ManifestId>) -> Result<(), Failure> {
        let kept: HashSet<PathBuf> = kept.into_iter().map(|manifest| path_of(state, manifest)).collect();
        for entry in fs::read_dir(state)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "pages") && !kept.contains(&path) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

fn path_of(state: &Path, manifest: ManifestId) -> PathBuf {
    state.join(format!("{manifest}.pages"))
}

/// Why entries did not make a manifest.
#[derive(Debug, thiserror::Error)]
pub enum BuildPagesError {
    /// The manifest that was edited could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The entries do not go together.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::new(Exit::Refused, error)
    }
}

impl From<BuildPagesError> for Failure {
    fn from(error: BuildPagesError) -> Self {
        Self::new(Exit::Refused, error)
    }
}
