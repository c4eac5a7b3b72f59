//! `check`: every stored byte is compared with a digest, and every fault is named with what it affects.
//!
//! The packs are read from the back end, not through the catalogue, so that the two can be compared. A fault
//! never ends the check: what can be read is checked, and what cannot is a finding.

mod affected;
mod repair;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use bytes::Bytes;
use futures::TryStreamExt;
use rayon::prelude::*;

pub use affected::{AffectedContent, affected_contents};
pub use repair::{Repaired, replace_pack};

use crate::Store;
use crate::backend::PackFile;
use crate::catalogue::{PackRow, PackState};
use crate::count::counted;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::id::PackId;
use crate::object::{ObjectKey, ObjectKind};
use crate::pack::{Frame, PackError, PackIndex, decode_frame};
use crate::recipe::{Recipe, RecipePage};

/// Something that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    /// The file of a pack that the catalogue knows is not there.
    #[error("{file} is lost")]
    LostPack {
        /// The file.
        file: PackFile,
    },
    /// The file of a pack cannot be read.
    #[error("{file} cannot be read")]
    UnreadablePack {
        /// The file.
        file: PackFile,
        /// Why.
        source: StoreError,
    },
    /// The bytes of a file are not the pack that its name says.
    #[error("{file} is corrupt: its bytes are those of pack {found}")]
    PackDigest {
        /// The file.
        file: PackFile,
        /// The digest of its bytes.
        found: PackId,
    },
    /// The index of a pack cannot be read from the pack.
    #[error("the index of {file} is corrupt")]
    Index {
        /// The file.
        file: PackFile,
        /// Why.
        source: PackError,
    },
    /// A frame cannot be decoded, or an object in it is not what its name says.
    #[error("{file} has a corrupt frame")]
    Frame {
        /// The file.
        file: PackFile,
        /// Why.
        source: PackError,
    },
    /// A pack is in the back end and not in the catalogue.
    #[error("{file} is not in the catalogue")]
    UnknownPack {
        /// The file.
        file: PackFile,
    },
    /// The catalogue says other things of a pack than the pack does.
    #[error("the catalogue is wrong about {file}: {what}")]
    CatalogueDiffers {
        /// The file.
        file: PackFile,
        /// What differs.
        what: String,
    },
}

impl Finding {
    /// The file that it was found in.
    pub const fn file(&self) -> &PackFile {
        match self {
            Self::LostPack { file }
            | Self::UnreadablePack { file, .. }
            | Self::PackDigest { file, .. }
            | Self::Index { file, .. }
            | Self::Frame { file, .. }
            | Self::UnknownPack { file }
            | Self::CatalogueDiffers { file, .. } => file,
        }
    }
}

/// What a check has found.
#[derive(Debug, Default)]
pub struct Report {
    /// All faults, in the order of the packs.
    pub findings: Vec<Finding>,
    /// Objects that no pack of their domain holds unharmed.
    pub lost: BTreeMap<Domain, BTreeSet<ObjectKey>>,
    /// The number of packs that were read.
    pub packs: usize,
    /// The number of objects that were hashed.
    pub objects: usize,
    /// The number of bytes that were read.
    pub bytes: u64,
}

impl Report {
    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            write!(f, "{finding}")?;
            let mut source = std::error::Error::source(finding);
            while let Some(error) = source {
                write!(f, ": {error}")?;
                source = error.source();
            }
            writeln!(f)?;
        }
        for (domain, keys) in &self.lost {
            for key in keys {
                writeln!(f, "lost in domain {domain}: {key}")?;
            }
        }
        write!(
            f,
            "{} in {} with {} and {}",
            counted(self.findings.len() as u64, "fault", "faults"),
            counted(self.packs as u64, "pack", "packs"),
            counted(self.objects as u64, "object", "objects"),
            counted(self.bytes, "byte", "bytes")
        )
    }
}

/// Reads and hashes the whole store. It changes nothing.
pub async fn check(store: &Store) -> Result<Report, StoreError> {
    // The files are listed after the rows: a pack that is added meanwhile has its row before its file.
    let mut rows: BTreeMap<PackFile, PackRow> =
        store.catalogue().packs()?.into_iter().map(|row| (row.file.clone(), row)).collect();
    let mut files: Vec<(PackFile, u64)> = store.backend().list().try_collect().await?;
    files.sort();
    let mut survey =
        Survey { store, report: Report::default(), harmed: BTreeMap::new(), harmed_frames: HashSet::new() };
    for (file, _) in files {
        let row = rows.remove(&file);
        survey.pack(&file, row.as_ref()).await?;
    }
    for (file, row) in rows {
        survey.lost_pack(file, &row)?;
    }
    survey.finish()
}

struct Survey<'a> {
    store: &'a Store,
    report: Report,
    /// Objects that could not be read somewhere.
    harmed: BTreeMap<Domain, BTreeSet<ObjectKey>>,
    /// Where that was: the numbers of the files and the offsets of the frames.
    harmed_frames: HashSet<(i64, u32)>,
}

impl Survey<'_> {
    async fn pack(&mut self, file: &PackFile, row: Option<&PackRow>) -> Result<(), StoreError> {
        let bytes = match self.store.backend().get(file).await {
            Ok(bytes) => bytes,
            // Collected while the check went on.
            Err(_) if !self.is_current(file)? => return Ok(()),
            Err(source) => {
                self.harm_all(file)?;
                self.report.findings.push(Finding::UnreadablePack { file: file.clone(), source });
                return Ok(());
            }
        };
        self.report.packs += 1;
        self.report.bytes += bytes.len() as u64;
        let found = PackId::from_bytes(*blake3::hash(&bytes).as_bytes());
        if found != file.id {
            self.report.findings.push(Finding::PackDigest { file: file.clone(), found });
        }
        let known = self.store.catalogue().index_of(file);
        let index = match (PackIndex::of_pack(&bytes), known) {
            (Ok(index), known) => {
                self.compare(file, row, &index, known)?;
                index
            }
            (Err(source), known) => {
                self.report.findings.push(Finding::Index { file: file.clone(), source });
                // The catalogue has a copy, with which the frames can still be checked.
                known.ok().flatten().unwrap_or_default()
            }
        };
        self.frames(file, &index, &bytes);
        Ok(())
    }

    fn frames(&mut self, file: &PackFile, index: &PackIndex, bytes: &Bytes) {
        let faults: Vec<Result<usize, PackError>> =
            index.frames().par_iter().map(|frame| check_frame(frame, bytes)).collect();
        for (frame, fault) in index.frames().iter().zip(faults) {
            match fault {
                Ok(objects) => self.report.objects += objects,
                Err(source) => {
                    self.harm(file, frame);
                    self.report.findings.push(Finding::Frame { file: file.clone(), source });
                }
            }
        }
    }

    /// Compares what the catalogue says of a pack with what the pack says.
    fn compare(
        &mut self,
        file: &PackFile,
        row: Option<&PackRow>,
        index: &PackIndex,
        known: Result<Option<PackIndex>, StoreError>,
    ) -> Result<(), StoreError> {
        let Some(row) = row else {
            if !self.is_current(file)? && !self.store.catalogue().removals()?.contains(file) {
                self.report.findings.push(Finding::UnknownPack { file: file.clone() });
            }
            return Ok(());
        };
        if row.state == PackState::Arriving {
            return Ok(());
        }
        let differs = |what: String| Finding::CatalogueDiffers { file: file.clone(), what };
        if known.ok().flatten().as_ref() != Some(index) {
            self.report.findings.push(differs("its copy of the index is another one".to_owned()));
        }
        let keys: Vec<ObjectKey> = index.objects().map(|object| object.key).collect();
        let locations = self.store.locate(&file.domain, &keys)?;
        let objects = index.frames().iter().flat_map(|frame| {
            frame.objects.iter().scan(0, move |start, object| {
                let place = (frame, *start, object);
                *start += object.len;
                Some(place)
            })
        });
        for ((frame, start, object), location) in objects.zip(locations) {
            let is_right = location.is_some_and(|found| {
                found.file != *file
                    || (found.frame_offset, found.codec, found.stored, found.raw)
                        == (frame.offset, frame.codec, frame.stored, frame.raw)
                        && (found.start, found.len) == (start, object.len)
            });
            if !is_right && self.is_current(file)? {
                self.report.findings.push(differs(format!("{} is not where it says", object.key)));
            }
        }
        Ok(())
    }

    fn lost_pack(&mut self, file: PackFile, row: &PackRow) -> Result<(), StoreError> {
        if row.state != PackState::Arriving && self.is_current(&file)? {
            self.harm_all(&file)?;
            self.report.findings.push(Finding::LostPack { file });
        }
        Ok(())
    }

    fn harm(&mut self, file: &PackFile, frame: &Frame) {
        self.harmed_frames.insert((file.number, frame.offset));
        let keys = frame.objects.iter().map(|object| object.key);
        self.harmed.entry(file.domain.clone()).or_default().extend(keys);
    }

    /// Nothing of the pack can be read: what it held is known from the catalogue alone.
    fn harm_all(&mut self, file: &PackFile) -> Result<(), StoreError> {
        let index = self.store.catalogue().index_of(file)?.unwrap_or_default();
        index.frames().iter().for_each(|frame| self.harm(file, frame));
        Ok(())
    }

    /// Whether the catalogue knows the file now.
    fn is_current(&self, file: &PackFile) -> Result<bool, StoreError> {
        let found = self.store.catalogue().file_of(&file.domain, file.id)?;
        Ok(found.is_some_and(|(found, _)| found == *file))
    }

    /// Takes what another pack holds unharmed from what is lost.
    fn finish(mut self) -> Result<Report, StoreError> {
        if !self.harmed.is_empty() {
            for row in self.store.catalogue().packs()? {
                let Some(harmed) = self.harmed.get_mut(&row.file.domain) else { continue };
                let Ok(Some(index)) = self.store.catalogue().index_of(&row.file) else { continue };
                for frame in index.frames() {
                    if !self.harmed_frames.contains(&(row.file.number, frame.offset)) {
                        frame.objects.iter().for_each(|object| _ = harmed.remove(&object.key));
                    }
                }
            }
        }
        self.harmed.retain(|_, keys| !keys.is_empty());
        self.report.lost = self.harmed;
        Ok(self.report)
    }
}

/// Hashes the objects of a frame and reads the recipes among them.
fn check_frame(frame: &Frame, pack: &Bytes) -> Result<usize, PackError> {
    let (start, end) = (frame.offset as usize, frame.offset as usize + frame.stored as usize);
    if end > pack.len() {
        let reason = "it lies beyond the end of the file".to_owned();
        return Err(PackError::Frame { offset: frame.offset, reason });
    }
    let objects = decode_frame(frame, &pack.slice(start..end))?;
    for object in &objects {
        let decoded = match object.kind() {
            ObjectKind::Recipe => Recipe::decode(object.bytes()).map(drop),
            ObjectKind::RecipePage => RecipePage::decode(object.bytes()).map(drop),
            ObjectKind::Chunk | ObjectKind::Page => Ok(()),
        };
        decoded.map_err(|source| PackError::Recipe { key: object.key(), source })?;
    }
    Ok(objects.len())
}

#[cfg(test)]
mod tests;
