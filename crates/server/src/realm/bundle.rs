//! Making bundles from the store.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use smart_sync_store::chunk::ChunkRef;
use smart_sync_store::content::ContentHasher;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Content, Entry, Manifest, ReadError};
use smart_sync_store::unpack::Dissector;
use smart_sync_store::{LaidOut, Store};
use smart_sync_sync::bundle::encode::{ContentSource, Effort, arrange};
use smart_sync_sync::bundle::plan::{Draft, draft};
use smart_sync_sync::confined::Confined;
use tokio::runtime::Handle;

use super::pages::StorePages;
use crate::CONFINED;

/// The contents of a domain. To be used on threads that may block.
pub(crate) struct StoreContents<'a> {
    store: &'a Arc<Store>,
    domain: &'a Domain,
    runtime: Handle,
    /// A directory for what lies between two steps.
    scratch: &'a Path,
    confined: Confined,
    /// Says that nobody wants what is made of them any more.
    is_cancelled: &'a AtomicBool,
}

impl<'a> StoreContents<'a> {
    /// The contents of a domain. Called on a thread of the runtime.
    pub(crate) fn new(
        store: &'a Arc<Store>,
        domain: &'a Domain,
        scratch: &'a Path,
        is_cancelled: &'a AtomicBool,
    ) -> Self {
        let confined = Confined::this_program(CONFINED).in_directory(scratch);
        Self { store, domain, runtime: Handle::current(), scratch, confined, is_cancelled }
    }
}

impl ContentSource for StoreContents<'_> {
    fn read(&self, content: &Content, range: Range<u64>) -> io::Result<Vec<u8>> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was stopped"));
        }
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let reading = self.store.read_content(self.domain, *content, range);
        let bytes = reading.try_fold(Vec::with_capacity(length), |mut bytes, piece| async move {
            bytes.extend_from_slice(&piece);
            Ok(bytes)
        });
        self.runtime.block_on(bytes).map_err(io::Error::other)
    }

    fn chunks(&self, content: &Content) -> io::Result<Vec<ChunkRef>> {
        match self.runtime.block_on(self.store.laid_out(self.domain, content)).map_err(io::Error::other)? {
            LaidOut::Chunks(chunks) => Ok(chunks),
            // Its own chunks were not kept: it is cut once more.
            LaidOut::Rebuilt(..) => {
                let reading = self.store.read_content(self.domain, *content, 0..content.size);
                let hasher = reading.map_err(io::Error::other).try_fold(
                    ContentHasher::new(content.size),
                    |mut hasher, piece| async move {
                        hasher.update(&piece, |_, _| ()).map_err(io::Error::other)?;
                        Ok(hasher)
                    },
                );
                let cut = self.runtime.block_on(hasher)?.finish().map_err(io::Error::other)?;
                Ok(cut.chunks)
            }
        }
    }

    fn scratch(&self) -> io::Result<File> {
        std::fs::create_dir_all(self.scratch)?;
        tempfile::tempfile_in(self.scratch)
    }

    fn dissector(&self) -> Option<&dyn Dissector> {
        Some(&self.confined)
    }
}

/// What a bundle would have to say and deliver. To be called on a thread of the runtime that may block.
pub(crate) fn plan_bundle(
    store: &Arc<Store>,
    domain: &Domain,
    from: Option<ManifestId>,
    to: ManifestId,
) -> anyhow::Result<Draft> {
    let pages = StorePages::new(Arc::clone(store), domain.clone());
    let new = Manifest::open(pages.clone(), to, None).with_context(|| format!("reading manifest {to}"))?;
    let old = from.map(|from| Manifest::open(pages, from, None)).transpose().context("reading a manifest")?;
    let old = old.filter(|old| old.fidelity() == new.fidelity());
    let entries: Box<dyn Iterator<Item = Result<Entry, ReadError>> + '_> = match &old {
        Some(old) => Box::new(old.iter()),
        None => Box::new(std::iter::empty()),
    };
    Ok(draft(new.fidelity(), entries, new.iter())?)
}

/// Makes a bundle, and writes it to `out` in order; it ends early when `out` fails. Returns its number of bytes. To be
/// called on a thread of the runtime that may block; what it compresses side by side, it does on the threads of the
/// current pool.
pub(crate) fn make_bundle(
    source: &StoreContents<'_>,
    draft: Draft,
    effort: Effort,
    out: &mut dyn Write,
) -> anyhow::Result<u64> {
    let arranged = arrange(draft, source, effort).context("arranging a bundle")?;
    arranged.write(source, effort, out).context("writing a bundle")
}
