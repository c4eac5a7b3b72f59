//! The realm as it stands at one checkpoint.
//!
//! A view never changes. A request takes the newest one and works on it to its end; an append makes the next.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use smart_sync_sync::log::checkpoint::{Checkpoint, SignedCheckpoint};
use smart_sync_sync::log::heads::{Head, HeadsTable};
use smart_sync_sync::log::merkle::{Edge, LogHash};
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{
    Heads, LeafKind, NoteRecord as _, Publication, Root, Sealed, Signed, Unverified,
};

use super::index::{Entry, Index};
use super::log_files::LogFiles;
use super::refs::Refs;
use super::secrets::Secrets;
use smart_sync_sync::log::heads::HeadKey;

/// The realm at one checkpoint.
pub(crate) struct View {
    /// Tells whether the checkpoint file is still the one this was read from.
    pub(super) identity: Identity,
    /// The checkpoint with its signatures.
    pub(crate) checkpoint: Bytes,
    /// The number of leaves.
    pub(crate) size: u64,
    /// The right edge of the log.
    pub(crate) edge: Edge,
    /// The newest heads leaf, which is the last leaf of the log.
    pub(crate) heads: Heads,
    /// The bytes of that leaf.
    pub(crate) heads_leaf: Vec<u8>,
    /// Where every ref stands.
    pub(crate) table: Arc<HeadsTable>,
    /// The root document in force.
    pub(crate) root: Arc<Signed<Root>>,
    /// Whether everybody has signed the checkpoint whom clients ask for: log, clock and witnesses.
    pub(crate) is_signed: bool,
    /// All refs, once somebody has asked for them.
    pub(super) refs: OnceLock<Arc<Refs>>,
}

/// Tells one file from the one that replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl Identity {
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        let metadata = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self {
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
        })
    }
}

impl View {
    /// Reads the realm as the checkpoint on disk has it. `previous` saves work where the log has not grown.
    pub(super) fn load(
        files: &LogFiles,
        index: &mut Index,
        secrets: &Secrets,
        previous: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let identity = Identity::of(&files.checkpoint_path())?;
        let bytes = files.checkpoint()?.context("the log has no checkpoint")?;
        let checkpoint = Checkpoint::parse(Note::parse(&bytes)?.text())?;
        let size = checkpoint.size;
        if let Some(previous) = previous.filter(|previous| previous.size == size) {
            ensure!(previous.edge.root() == checkpoint.root, "the log on disk was rewritten");
            return Ok(Self {
                is_signed: is_signed(&bytes, &previous.root),
                identity,
                checkpoint: bytes.into(),
                size,
                edge: previous.edge.clone(),
                heads: previous.heads.clone(),
                heads_leaf: previous.heads_leaf.clone(),
                table: Arc::clone(&previous.table),
                root: Arc::clone(&previous.root),
                refs: previous.refs.clone(),
            });
        }
        let edge = Edge::read(size, &files.nodes(size))?;
        ensure!(
            edge.root() == checkpoint.root,
            "the tiles of the log do not lead to its checkpoint; restore the log from a mirror"
        );
        catch_up(files, index, secrets, size)?;
        let heads_leaf = files.leaf(size - 1, size)?;
        let heads = Heads::parse(&heads_leaf).context("the last leaf of the log")?;
        let table = Arc::new(index.table(size)?);
        ensure!(
            table.root() == heads.table && table.count() == heads.count,
            "index.db does not agree with the log; delete it and start again"
        );
        let root_leaf = index.root(None, size)?.context("the log has no root document")?;
        let root = Arc::new(Unverified::<Root>::parse(&files.leaf(root_leaf, size)?)?.verify_own()?);
        ensure!(
            root.leaf() == heads.root.leaf,
            "the last heads leaf names another root document than the log has"
        );
        Ok(Self {
            is_signed: is_signed(&bytes, &root),
            identity,
            checkpoint: bytes.into(),
            size,
            edge,
            heads,
            heads_leaf,
            table,
            root,
            refs: OnceLock::new(),
        })
    }

    /// The view after an append whose checkpoint is on disk.
    pub(super) fn after(
        files: &LogFiles,
        checkpoint: Vec<u8>,
        edge: Edge,
        heads: Heads,
        table: HeadsTable,
        root: Arc<Signed<Root>>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            is_signed: is_signed(&checkpoint, &root),
            identity: Identity::of(&files.checkpoint_path())?,
            checkpoint: checkpoint.into(),
            size: edge.size(),
            edge,
            heads_leaf: heads.to_text().into_bytes(),
            heads,
            table: Arc::new(table),
            root,
            refs: OnceLock::new(),
        })
    }

    /// The hash of the last leaf, which the next heads leaf refers to.
    pub(crate) fn heads_hash(&self) -> LogHash {
        LogHash::of_leaf(&self.heads_leaf)
    }
}

fn is_signed(checkpoint: &[u8], root: &Signed<Root>) -> bool {
    SignedCheckpoint::verify(checkpoint, root.record()).is_ok()
}

/// Adds the leaves that the index does not cover yet.
pub(super) fn catch_up(
    files: &LogFiles,
    index: &mut Index,
    secrets: &Secrets,
    size: u64,
) -> anyhow::Result<()> {
    /// Leaves in one transaction.
    const STEP: u64 = 4096;
    let mut start = index.size()?;
    ensure!(
        start <= size,
        "the log has {size} leaves and its index knows {start}: it was restored from an older backup, or lost its end"
    );
    while start < size {
        let end = size.min(start + STEP);
        let mut entries = Vec::new();
        files.for_each_leaf(start..end, size, |at, bytes| {
            entries
                .push((at, entry_of(at, bytes, secrets).with_context(|| format!("leaf {at} of the log"))?));
            Ok(())
        })?;
        index.add(start, end, &entries)?;
        start = index.size()?;
    }
    Ok(())
}

fn entry_of(index: u64, bytes: &[u8], secrets: &Secrets) -> anyhow::Result<Entry> {
    let hash = LogHash::of_leaf(bytes);
    Ok(match LeafKind::of(bytes) {
        Some(LeafKind::Root) => Entry::Root(Unverified::<Root>::parse(bytes)?.claims()?.version),
        Some(LeafKind::Heads) => Entry::Heads(Heads::parse(bytes)?.time.seconds()),
        Some(LeafKind::Publication) => {
            let publication = Unverified::<Publication>::parse(bytes)?.claims()?;
            let key = HeadKey::open(&publication.channel, &publication.reference);
            let head = Head { key, seq: publication.seq, index, leaf: hash };
            Entry::Move { head, sealed: None }
        }
        Some(LeafKind::Sealed) => {
            let sealed = Sealed::parse(bytes)?;
            let head = Head { key: HeadKey::sealed(&sealed.slot), seq: sealed.seq, index, leaf: hash };
            let note = Note::parse(&secrets.opening(&hash)?.note)?;
            let publication = Publication::parse(note.text())?;
            Entry::Move { head, sealed: Some((publication.channel, publication.reference)) }
        }
        None => bail!("it is of no known kind"),
    })
}
