//! From a tree to packs and a manifest.
//!
//! Two threads work side by side: one walks the source and has contents read, hashed and cut on all processors, the
//! other asks the destination what it lacks, packs that, and sends it. Each has at most one batch in hand, and a
//! batch has a bounded number of bytes, so memory does not grow with the size of a tree or of a file. What is known
//! from an earlier run is asked for like everything else, and read only if the destination lacks it.
//! The root page of the manifest is in the last pack: a destination that has it was sent all the rest before.

mod known;
mod produce;
mod store;

use std::sync::mpsc;

use smart_sync_store::chunk::ChunkRef;
use smart_sync_store::id::{ObjectId, TreeId};
use smart_sync_store::manifest::{BuildError, Content, Entry, ManifestSummary};
use smart_sync_store::object::{ObjectKey, ObjectKind};
use smart_sync_store::pack::VerifiedPack;

use crate::source::{Handle, SourceError, TreeSource, Warning};
use known::find_known;
use produce::Producer;
use store::Storing;

/// Where packs go: a store on this machine, or a server.
pub trait Destination {
    /// Which of these objects it lacks, in their order. An object that it has stays until a publication that was
    /// begun now can be completed. Keys are at most [`MISSING_MAX`] and distinct.
    fn missing(&mut self, keys: &[ObjectKey]) -> Result<Vec<bool>, DestinationError>;

    /// Which of these contents it could not give back, in their order; with the same promise for the others. Contents
    /// are at most [`MISSING_MAX`], distinct, and not empty.
    fn missing_contents(&mut self, contents: &[Content]) -> Result<Vec<bool>, DestinationError>;

    /// Whether it has this manifest with all that it refers to, and will keep it while it is published.
    fn has_manifest(&mut self, manifest: &ManifestSummary) -> Result<bool, DestinationError>;

    /// Takes a pack; it is durable when this returns.
    fn put_pack(&mut self, pack: &VerifiedPack) -> Result<(), DestinationError>;
}

/// What a destination says when it fails.
pub type DestinationError = Box<dyn std::error::Error + Send + Sync>;

/// The most keys of one question to a destination.
pub const MISSING_MAX: usize = 65_536;

/// Why a tree was not stored. Packs that were sent by then stay, and are found by the next attempt.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The source could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The entries make no manifest.
    #[error("the tree cannot be published")]
    Build(#[from] BuildError),
    /// The destination failed.
    #[error("{operation} at the destination")]
    Destination {
        /// What it was asked to do.
        operation: &'static str,
        /// What it says.
        #[source]
        source: DestinationError,
    },
    /// The destination does not do what it promises.
    #[error("the destination answered for {answered} of {asked} objects")]
    BadAnswer {
        /// Keys that were asked about.
        asked: usize,
        /// Answers that came.
        answered: usize,
    },
}

/// How a tree is stored.
#[derive(Debug, Clone, Copy)]
pub struct IngestOptions {
    /// The level of zstd at which packs are compressed.
    pub compression_level: i32,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self { compression_level: 3 }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Contents that were read.
    pub contents_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Contents that were known without being read.
    pub contents_known: u64,
    /// Objects that the destination lacked.
    pub objects_sent: u64,
    /// Their bytes before compression.
    pub bytes_of_objects: u64,
    /// Packs that were sent.
    pub packs_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
}

/// A tree that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// The manifest, as a publication names it.
    pub manifest: ManifestSummary,
    /// The git tree id of the entries, where they have the fidelity of git.
    pub git_tree: Option<TreeId>,
    /// What the publisher should hear of.
    pub warnings: Vec<Warning>,
    /// What was done.
    pub statistics: Statistics,
}

/// Stores a tree at a destination.
pub fn ingest(
    source: &mut dyn TreeSource,
    destination: &mut dyn Destination,
    options: IngestOptions,
) -> Result<Ingested, IngestError> {
    if let Some(ingested) = find_known(source, destination)? {
        return Ok(ingested);
    }
    ingest_and_show(source, destination, options, &mut |_| ())
}

/// Stores a tree at a destination, and shows every entry of it in the order of the manifest. A tree that was stored
/// before is walked too.
pub fn ingest_and_show(
    source: &mut dyn TreeSource,
    destination: &mut dyn Destination,
    options: IngestOptions,
    show: &mut dyn FnMut(&Entry),
) -> Result<Ingested, IngestError> {
    let contents = source.contents();
    let mut storing = Storing::new(destination, source.fidelity(), source.expected_tree(), options);
    let produced = std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Batch>(0);
        let producing = scope.spawn(|| Producer::new(&mut *source, &*contents, sender).run());
        // The receiver goes when this fails, which ends the other thread at its next batch.
        let stored = (|| {
            for batch in receiver {
                storing.take(batch, &*contents, show)?;
            }
            Ok::<_, IngestError>(())
        })();
        let produced = match producing.join() {
            Ok(produced) => produced,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        stored?;
        produced
    })?;
    let mut ingested = storing.finish()?;
    ingested.warnings.splice(..0, source.take_warnings());
    ingested.statistics.contents_read += produced.contents_read;
    ingested.statistics.bytes_read += produced.bytes_read;
    // What the publisher has to hear, it has to hear each time.
    if ingested.warnings.is_empty() {
        source.remember_manifest(&ingested.manifest);
    }
    Ok(ingested)
}

/// A part of a tree on its way from one thread to the other.
#[derive(Default)]
struct Batch {
    /// Bytes of contents, with the chunks that they are cut into.
    pieces: Vec<Piece>,
    /// Recipes and their pages.
    recipes: Vec<(ObjectKind, ObjectId, Vec<u8>)>,
    /// The bytes of the contents that begin in this batch, those that are in later ones included.
    begun_bytes: u64,
    /// Entries whose contents are in this batch or an earlier one, or are known.
    entries: Vec<Made>,
}

/// Bytes, and the chunks that lie in them one after the other.
struct Piece {
    bytes: Vec<u8>,
    chunks: Vec<ChunkRef>,
}

/// An entry on its way into the manifest.
struct Made {
    entry: Entry,
    /// How its content is read if it must be, where it is known and was not read.
    unread: Option<Handle>,
    is_lfs_pointer: bool,
}
