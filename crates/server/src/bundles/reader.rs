//! Reading a bundle in pieces, from wherever it is.
//!
//! What is read from a file is read through a handle that was opened when the answer began, so that neither a variant
//! that takes its place nor its removal changes what a client gets. An object store has no handles: there, a variant
//! is not removed while somebody reads it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use smart_sync_store::backend::Backend;

use super::spool::{Spool, State};
use super::step::{BundleFile, Variant};

/// Bytes that are read at once.
const PIECE: u64 = 256 << 10;

/// A bundle that somebody reads.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    /// Which one it is.
    pub(crate) variant: Variant,
    pub(super) source: Source,
    /// Counts as a reader for as long as it is there.
    pub(super) _reading: Arc<()>,
}

/// Where its bytes are.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In a file that is being written.
    Spool(Spool),
    /// In a file of this machine.
    File {
        /// The file.
        file: Arc<File>,
        /// How long it is.
        length: u64,
    },
    /// In an object store.
    Stored {
        /// The object store.
        backend: Backend,
        /// The bundle.
        file: BundleFile,
    },
}

impl Reader {
    /// The length, if it is known already.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Spool(spool) => {
                let progress = spool.progress();
                (progress.state == State::Whole).then_some(progress.written)
            }
            Source::File { length, .. } => Some(*length),
            Source::Stored { file, .. } => Some(file.length),
        }
    }

    /// Waits until the length is known.
    pub(crate) async fn whole(&self) -> anyhow::Result<u64> {
        match &self.source {
            Source::Spool(spool) => Ok(spool.whole().await?),
            Source::File { length, .. } => Ok(*length),
            Source::Stored { file, .. } => Ok(file.length),
        }
    }

    /// Waits until there is a byte at `start`, or the end; returns how many bytes there are.
    pub(crate) async fn beyond(&self, start: u64) -> anyhow::Result<u64> {
        match &self.source {
            Source::Spool(spool) => Ok(spool.beyond(start).await?.written),
            _ => self.whole().await,
        }
    }

    /// The bytes of a range, in pieces; those that are not there yet are waited for. Where the bundle ends before the
    /// range does, so do they; where its computation breaks off, they end with an error.
    pub(crate) fn pieces(self, range: Range<u64>) -> impl Stream<Item = anyhow::Result<Bytes>> + Send {
        stream::try_unfold((self, range), |(reader, range)| async move {
            if range.is_empty() {
                return Ok(None);
            }
            let there = reader.beyond(range.start).await?;
            let end = range.end.min(there).min(range.start.saturating_add(PIECE));
            if end <= range.start {
                return Ok(None);
            }
            let piece = reader.read(range.start..end).await?;
            Ok(Some((piece, (reader, end..range.end))))
        })
    }

    async fn read(&self, range: Range<u64>) -> anyhow::Result<Bytes> {
        match &self.source {
            Source::Spool(spool) => Ok(read_at(&spool.file, range).await?),
            Source::File { file, .. } => Ok(read_at(file, range).await?),
            Source::Stored { backend, file } => Ok(backend.get_range(file, range).await?),
        }
    }
}

async fn read_at(file: &Arc<File>, range: Range<u64>) -> io::Result<Bytes> {
    let file = Arc::clone(file);
    let reading = move || {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut piece = vec![0; length];
        file.read_exact_at(&mut piece, range.start)?;
        Ok(piece.into())
    };
    tokio::task::spawn_blocking(reading).await.map_err(io::Error::other)?
}
