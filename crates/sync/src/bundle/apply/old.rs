//! The bytes that a batch is compressed against: ranges of files, and of what files are taken apart into.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rayon::prelude::*;
use smart_sync_store::manifest::TreePath;
use smart_sync_store::unpack::{Storage, decode_views};

use super::{BundleError, OldFiles};
use crate::bundle::head::{BaseRange, Batch};
use crate::bundle::range_reader::RangeReader;
use crate::bundle::resolve::{OldFile, Role, Slot, bases_of};
use crate::bundle::{index, unpack_limits};

/// The old tree, as batches use it.
pub(super) struct Old<'a, F> {
    files: &'a dyn OldFiles,
    scratch: F,
    /// The file that was taken apart last: the slots of a content follow each other.
    apart: Option<Apart>,
}

/// A file that was taken apart.
struct Apart {
    path: TreePath,
    frames: File,
    members: File,
}

impl<'a, F: Fn() -> io::Result<File>> Old<'a, F> {
    pub(super) const fn new(files: &'a dyn OldFiles, scratch: F) -> Self {
        Self { files, scratch, apart: None }
    }

    /// What a batch is compressed against.
    pub(super) fn base_of<N: fmt::Display + Send>(
        &mut self,
        batch: &Batch,
        slots: &[Slot],
    ) -> Result<Vec<u8>, BundleError<N>> {
        match batch {
            Batch::Whole(whole) => {
                let bases: Vec<_> = bases_of(whole, slots).collect();
                let files = self.files;
                let pieces = bases
                    .par_iter()
                    .map(|base| read(files, base, 0..base.content.size))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(pieces.concat())
            }
            Batch::Section { base: BaseRange { length: 0, .. }, .. } => Ok(Vec::new()),
            Batch::Section { slot, base: BaseRange { offset, length }, .. } => {
                self.range_of(&slots[index(*slot)], *offset..offset + length)
            }
        }
    }

    /// A range of what a slot is compressed against.
    pub(super) fn range_of<N: fmt::Display>(
        &mut self,
        slot: &Slot,
        range: Range<u64>,
    ) -> Result<Vec<u8>, BundleError<N>> {
        let Some(base) = &slot.base else { return Ok(Vec::new()) };
        let failed = |source| BundleError::OldFile { path: base.path.clone(), source };
        let apart = match slot.role {
            Role::Content | Role::Program => return read(self.files, base, range),
            Role::Frames => &self.take_apart(base).map_err(failed)?.frames,
            Role::Members => &self.take_apart(base).map_err(failed)?.members,
        };
        let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("a batch fits in memory")];
        apart.read_exact_at(&mut bytes, range.start).map_err(failed)?;
        Ok(bytes)
    }

    fn take_apart(&mut self, base: &OldFile) -> io::Result<&Apart> {
        if self.apart.as_ref().is_none_or(|apart| apart.path != base.path) {
            self.apart = None;
            let (frames, members) = ((self.scratch)()?, (self.scratch)()?);
            let files = self.files;
            let mut source = RangeReader::new(base.content.size, |range| files.read(base, range));
            let mut spools = || Ok(Box::new((self.scratch)()?) as Box<dyn Storage>);
            let (mut to_frames, mut to_members) = (BufWriter::new(&frames), BufWriter::new(&members));
            decode_views(
                &mut source,
                base.content.size,
                &unpack_limits(),
                &mut spools,
                &mut to_frames,
                &mut to_members,
            )?;
            to_frames.flush()?;
            to_members.flush()?;
            drop((to_frames, to_members));
            self.apart = Some(Apart { path: base.path.clone(), frames, members });
        }
        self.apart.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn read<N: fmt::Display>(
    files: &dyn OldFiles,
    file: &OldFile,
    range: Range<u64>,
) -> Result<Vec<u8>, BundleError<N>> {
    let length = range.end - range.start;
    let failed = |source| BundleError::OldFile { path: file.path.clone(), source };
    let bytes = files.read(file, range).map_err(failed)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(failed(io::ErrorKind::UnexpectedEof.into())) }
}
