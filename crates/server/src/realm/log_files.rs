//! The log on disk: a checkpoint and tiles, in the layout in which they are served.
//!
//! The files are the log; everything else about it can be made anew from them. An append writes new tiles first and
//! makes them durable, then replaces the checkpoint, which is the one moment at which the log grows. Tiles beyond
//! the checkpoint, left by a process that was killed in between, are never read and are overwritten by the next
//! append. Only the holder of the log's lock may append.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use smart_sync_store::codec::DecodeError;
use smart_sync_sync::log::merkle::{Edge, LogHash, Node, NodeReader};
use smart_sync_sync::log::tile::{
    LEAF_BYTES_MAX, TILE_WIDTH, Tile, TileKind, TiledNodes, put_leaf, read_bundle,
};

use crate::durable;

/// The tiles of hashes that are kept in memory: 8 KiB each.
const CACHED_TILES_MAX: usize = 512;

/// The files of a log.
pub(crate) struct LogFiles {
    directory: PathBuf,
    cache: Mutex<HashMap<Tile, Arc<[u8]>>>,
}

/// Why a node of the log could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogReadError {
    /// The file system said no.
    #[error("reading {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("the log is damaged")]
    Damaged(#[from] DecodeError),
}

impl LogFiles {
    /// The log in this directory.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, cache: Mutex::default() }
    }

    /// The newest checkpoint, or nothing for a log that has never had one.
    pub(crate) fn checkpoint(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.checkpoint_path();
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Replaces the checkpoint, durably.
    pub(crate) fn write_checkpoint(&self, bytes: &[u8]) -> anyhow::Result<()> {
        durable::write(&self.checkpoint_path(), bytes)
    }

    /// Where the checkpoint lies, to tell cheaply whether it changed.
    pub(crate) fn checkpoint_path(&self) -> PathBuf {
        self.directory.join("checkpoint")
    }

    /// The bytes of a tile.
    pub(crate) fn tile(&self, tile: Tile) -> Result<Arc<[u8]>, LogReadError> {
        if let Some(bytes) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&tile) {
            return Ok(Arc::clone(bytes));
        }
        let bytes: Arc<[u8]> = self.read_tile(tile)?.into();
        if matches!(tile.kind(), TileKind::Hashes(_)) {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.len() >= CACHED_TILES_MAX {
                // Which ones go hardly matters: the few that proofs need are back with the next requests.
                cache.clear();
            }
            cache.insert(tile, Arc::clone(&bytes));
        }
        Ok(bytes)
    }

    fn read_tile(&self, tile: Tile) -> Result<Vec<u8>, LogReadError> {
        let path = self.tile_path(tile);
        match fs::read(&path) {
            Ok(bytes) => Ok(bytes),
            // A partial tile is removed when the full one is there, which begins with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !tile.is_full() => {
                let full = self.tile_path(tile.when_full());
                let bytes = fs::read(&full).map_err(|_| LogReadError::Io { path, source: error })?;
                Ok(beginning_of(tile, bytes)?)
            }
            Err(source) => Err(LogReadError::Io { path, source }),
        }
    }

    /// The nodes of the log when it had `size` leaves.
    pub(crate) fn nodes(&self, size: u64) -> impl NodeReader<Error = LogReadError> + '_ {
        TiledNodes::new(size, |tile| self.tile(tile))
    }

    /// Reads the leaves of a range in order, in a log of `size` leaves.
    pub(crate) fn for_each_leaf(
        &self,
        range: Range<u64>,
        size: u64,
        mut visit: impl FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut index = range.start;
        while index < range.end {
            let tile = Tile::of_leaf(index, size);
            let tile = tile.with_context(|| format!("a log of {size} leaves has no leaf {index}"))?;
            let bytes = self.read_tile(tile)?;
            let leaves = read_bundle(&bytes, tile.width()).with_context(|| format!("in {tile}"))?;
            for leaf in leaves.into_iter().skip(usize::try_from(index - tile.start())?) {
                if index == range.end {
                    break;
                }
                visit(index, leaf)?;
                index += 1;
            }
        }
        Ok(())
    }

    /// One leaf of a log of `size` leaves.
    pub(crate) fn leaf(&self, index: u64, size: u64) -> anyhow::Result<Vec<u8>> {
        let mut found = Vec::new();
        self.for_each_leaf(index..index + 1, size, |_, bytes| {
            found = bytes.to_vec();
            Ok(())
        })?;
        Ok(found)
    }

    /// Writes the tiles of a log that grows from `edge` by these leaves, durably, and returns its new edge. The log
    /// has not grown before its checkpoint says so.
    pub(crate) fn write_leaves(&self, edge: &Edge, leaves: &[Vec<u8>]) -> anyhow::Result<Edge> {
        let old_size = edge.size();
        let mut grown = edge.clone();
        let mut completed = HashMap::new();
        for leaf in leaves {
            ensure!(leaf.len() <= LEAF_BYTES_MAX, "a leaf of {} bytes does not fit the log", leaf.len());
            grown.append(LogHash::of_leaf(leaf), |node, hash| {
                completed.insert(node, hash);
            });
        }
        let mut directories = HashSet::new();
        for tile in Tile::added(old_size, grown.size()) {
            let bytes = match tile.kind() {
                TileKind::Entries => self.grown_bundle(tile, old_size, leaves)?,
                TileKind::Hashes(_) => self.grown_hashes(tile, old_size, &completed)?,
            };
            self.write_tile(tile, &bytes, &mut directories)?;
        }
        // One fsync per directory, after all renames in it.
        for directory in directories {
            sync_directory(&directory).with_context(|| format!("writing {}", directory.display()))?;
        }
        Ok(grown)
    }

    fn grown_bundle(&self, tile: Tile, old_size: u64, leaves: &[Vec<u8>]) -> anyhow::Result<Vec<u8>> {
        let mut bundle = match Tile::of_leaf(tile.start(), old_size) {
            Some(old) => self.read_tile(old)?,
            None => Vec::new(),
        };
        let first = usize::try_from(tile.start().saturating_sub(old_size))?;
        let end = usize::try_from(tile.start() + u64::from(tile.width()) - old_size)?;
        for leaf in &leaves[first..end] {
            put_leaf(&mut bundle, leaf)?;
        }
        Ok(bundle)
    }

    fn grown_hashes(
        &self,
        tile: Tile,
        old_size: u64,
        completed: &HashMap<Node, LogHash>,
    ) -> anyhow::Result<Vec<u8>> {
        let old_nodes = self.nodes(old_size);
        let mut bytes = Vec::with_capacity(usize::from(TILE_WIDTH) * LogHash::LEN);
        for node in tile.nodes() {
            let hash = match completed.get(&node) {
                Some(hash) => *hash,
                None => old_nodes.node(node)?,
            };
            bytes.extend_from_slice(hash.as_bytes());
        }
        Ok(bytes)
    }

    fn write_tile(&self, tile: Tile, bytes: &[u8], directories: &mut HashSet<PathBuf>) -> anyhow::Result<()> {
        let path = self.tile_path(tile);
        // What a killed append left under the same name may still be in the cache of another process, never in
        // this one's: tiles beyond the checkpoint are not read.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).remove(&tile);
        let directory = path.parent().context("a tile lies in a directory")?;
        self.make_directories(directory, directories)?;
        let temporary = path.with_extension("tmp");
        let written = (|| {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        })();
        written.with_context(|| format!("writing {}", path.display()))?;
        directories.insert(directory.to_owned());
        Ok(())
    }

    /// Makes directories, and remembers the ones that got a new entry.
    fn make_directories(&self, directory: &Path, changed: &mut HashSet<PathBuf>) -> anyhow::Result<()> {
        if directory == self.directory || directory.is_dir() {
            return Ok(());
        }
        let parent = directory.parent().context("the log lies in a directory")?;
        self.make_directories(parent, changed)?;
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("making {}", directory.display()));
            }
            _ => changed.insert(parent.to_owned()),
        };
        Ok(())
    }

    fn tile_path(&self, tile: Tile) -> PathBuf {
        self.directory.join(tile.to_string())
    }
}

/// The part of a full tile's bytes that a partial one has.
fn beginning_of(tile: Tile, mut bytes: Vec<u8>) -> Result<Vec<u8>, DecodeError> {
    match tile.kind() {
        TileKind::Hashes(_) => bytes.truncate(usize::from(tile.width()) * LogHash::LEN),
        TileKind::Entries => {
            let leaves = read_bundle(&bytes, TILE_WIDTH)?;
            let length = leaves.iter().take(usize::from(tile.width())).map(|leaf| leaf.len() + 2).sum();
            bytes.truncate(length);
        }
    }
    Ok(bytes)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_sync_sync::log::merkle::root;

    fn leaf(index: u64) -> Vec<u8> {
        format!("leaf {index}\n").into_bytes()
    }

    #[test]
    fn a_log_grows_by_batches_and_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let files = LogFiles::new(directory.path().to_owned());
        let mut edge = Edge::default();
        for batch in [1u64, 2, 300, 1, 255, 513] {
            let leaves: Vec<_> = (edge.size()..edge.size() + batch).map(leaf).collect();
            // An append that is killed before its checkpoint leaves tiles behind; the next one replaces them.
            files.write_leaves(&edge, &[b"never".to_vec(), b"acknowledged".to_vec()]).unwrap();
            edge = files.write_leaves(&edge, &leaves).unwrap();
            assert_eq!(root(edge.size(), &files.nodes(edge.size())).unwrap(), edge.root());
        }
        let mut seen = 0;
        files
            .for_each_leaf(3..edge.size(), edge.size(), |index, bytes| {
                assert_eq!((index, bytes), (3 + seen, &leaf(3 + seen)[..]));
                seen += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, edge.size() - 3);
        let again = LogFiles::new(directory.path().to_owned());
        assert_eq!(Edge::read(edge.size(), &again.nodes(edge.size())).unwrap(), edge);
    }

    #[test]
    fn the_beginning_of_a_full_tile_stands_for_a_partial_one() {
        let directory = tempfile::tempdir().unwrap();
        let files = LogFiles::new(directory.path().to_owned());
        let leaves: Vec<_> = (0..256).map(leaf).collect();
        files.write_leaves(&Edge::default(), &leaves).unwrap();
        assert_eq!(root(100, &files.nodes(100)).unwrap(), {
            let mut edge = Edge::default();
            leaves[..100].iter().for_each(|leaf| edge.append(LogHash::of_leaf(leaf), |_, _| {}));
            edge.root()
        });
        let mut count = 0;
        files
            .for_each_leaf(0..100, 100, |_, _| {
                count += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(count, 100);
    }
}
