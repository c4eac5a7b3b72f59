//! Tiles: the files that the log consists of, as [C2SP tlog-tiles](https://c2sp.org/tlog-tiles) lays them out.
//!
//! A tile of level L holds the hashes of up to 256 neighbouring nodes of level 8·L; the levels between follow from
//! them. A bundle holds the leaves themselves. Full tiles never change; the last tile of each level has the width
//! that the size of the log gives it, and its width is part of its name.

use std::fmt;
use std::str::FromStr;

use smart_sync_store::codec::{DecodeError, Reader};

use super::merkle::{LogHash, Node, NodeReader, SIZE_MAX};

/// The number of hashes of a full tile.
pub const TILE_WIDTH: u16 = 256;
/// The number of levels of nodes that a tile stands for.
const TILE_HEIGHT: u8 = 8;
/// The highest level of a tile in a log of [`SIZE_MAX`] leaves.
const LEVEL_MAX: u8 = 5;
/// The most bytes of a leaf: its length is written in two bytes.
pub const LEAF_BYTES_MAX: usize = 65_535;
/// The most bytes of a bundle.
pub const BUNDLE_BYTES_MAX: usize = TILE_WIDTH as usize * (LEAF_BYTES_MAX + 2);

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of nodes of this level times eight.
    Hashes(u8),
    /// Leaves.
    Entries,
}

/// One file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    kind: TileKind,
    index: u64,
    width: u16,
}

/// A path that is not that of a tile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the path of a tile")]
pub struct ParseTileError(String);

impl Tile {
    /// The tile that holds the hash of a node, in a log of `size` leaves; none if the node is not complete there.
    pub fn of_node(node: Node, size: u64) -> Option<Self> {
        if size > SIZE_MAX || node.level > 40 || node.index >= size >> node.level {
            return None;
        }
        let level = node.level / TILE_HEIGHT;
        // The first node of the tile's own level below this node.
        let first = node.index << (node.level % TILE_HEIGHT);
        Some(Self::at(TileKind::Hashes(level), first / u64::from(TILE_WIDTH), size))
    }

    /// The bundle that holds a leaf, in a log of `size` leaves; none if the leaf is not there.
    pub fn of_leaf(leaf: u64, size: u64) -> Option<Self> {
        (leaf < size && size <= SIZE_MAX)
            .then(|| Self::at(TileKind::Entries, leaf / u64::from(TILE_WIDTH), size))
    }

    /// The tiles that a log has after it grew from `old_size` to `size` leaves and that it did not have before,
    /// bundles first.
    pub fn added(old_size: u64, size: u64) -> impl Iterator<Item = Self> {
        let levels = (0..=LEVEL_MAX).map(TileKind::Hashes);
        std::iter::once(TileKind::Entries).chain(levels).flat_map(move |kind| {
            let (old, new) = (kind.items(old_size), kind.items(size));
            let width = u64::from(TILE_WIDTH);
            let tiles = if new > old { old / width..new.div_ceil(width) } else { 0..0 };
            tiles.map(move |index| Self::at(kind, index, size))
        })
    }

    fn at(kind: TileKind, index: u64, size: u64) -> Self {
        let left = kind.items(size) - index * u64::from(TILE_WIDTH);
        let width = u16::try_from(left).map_or(TILE_WIDTH, |left| left.min(TILE_WIDTH));
        Self { kind, index, width }
    }

    /// What it holds.
    pub const fn kind(self) -> TileKind {
        self.kind
    }

    /// The number of its hashes or leaves.
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it will never change.
    pub const fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The full tile that holds what this partial one holds, once the log has grown.
    #[must_use]
    pub const fn when_full(self) -> Self {
        Self { width: TILE_WIDTH, ..self }
    }

    /// Whether all it holds is there in a log of this size.
    pub fn is_within(self, size: u64) -> bool {
        size <= SIZE_MAX
            && self.index.saturating_mul(u64::from(TILE_WIDTH)).saturating_add(u64::from(self.width))
                <= self.kind.items(size)
    }

    /// The leaves of a bundle, or the leaves below the hashes of level 0.
    pub const fn start(self) -> u64 {
        self.index * TILE_WIDTH as u64
    }

    /// The nodes whose hashes it holds, in order; none for a bundle.
    pub fn nodes(self) -> impl Iterator<Item = Node> {
        let (level, width) = match self.kind {
            TileKind::Hashes(level) => (level * TILE_HEIGHT, self.width),
            TileKind::Entries => (0, 0),
        };
        let start = self.start();
        (0..u64::from(width)).map(move |offset| Node { level, index: start + offset })
    }

    /// The hash of a node that is in this tile or follows from it. `bytes` are the tile's.
    pub fn hash_of(self, node: Node, bytes: &[u8]) -> Result<LogHash, DecodeError> {
        if bytes.len() != usize::from(self.width) * LogHash::LEN {
            return Err(DecodeError::invalid(format!(
                "tile {self} has {} bytes instead of {}",
                bytes.len(),
                usize::from(self.width) * LogHash::LEN
            )));
        }
        let TileKind::Hashes(level) = self.kind else {
            return Err(DecodeError::invalid(format!("{self} holds no hashes")));
        };
        let above = node.level.checked_sub(level * TILE_HEIGHT).filter(|above| *above < TILE_HEIGHT);
        let hashes = above.and_then(|above| {
            let first = (node.index << above).checked_sub(self.start())?;
            let first = usize::try_from(first).ok()? * LogHash::LEN;
            bytes.get(first..first + (LogHash::LEN << above))
        });
        match hashes {
            Some(hashes) => Ok(hash_of_range(hashes)),
            None => Err(DecodeError::invalid(format!("tile {self} does not hold {node:?}"))),
        }
    }
}

impl TileKind {
    /// How many hashes or leaves of this kind a log of this size has.
    const fn items(self, size: u64) -> u64 {
        match self {
            Self::Hashes(level) => size >> (level * TILE_HEIGHT),
            Self::Entries => size,
        }
    }
}

/// The root over a power of two of hashes.
fn hash_of_range(hashes: &[u8]) -> LogHash {
    if let Ok(hash) = hashes.try_into() {
        return LogHash::from_bytes(hash);
    }
    let (left, right) = hashes.split_at(hashes.len() / 2);
    LogHash::of_node(&hash_of_range(left), &hash_of_range(right))
}

/// The path below the log's URL.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        while let Some(group) = groups.pop() {
            if groups.is_empty() {
                write!(f, "{group:03}")?;
            } else {
                write!(f, "x{group:03}/")?;
            }
        }
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for Tile {
    type Err = ParseTileError;

    fn from_str(path: &str) -> Result<Self, ParseTileError> {
        let tile = parse(path).ok_or_else(|| ParseTileError(path.chars().take(80).collect()))?;
        // One spelling for each tile: what is not written as we write it is refused.
        if tile.to_string() == path { Ok(tile) } else { Err(ParseTileError(path.chars().take(80).collect())) }
    }
}

fn parse(path: &str) -> Option<Tile> {
    let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let kind = match kind {
        "entries" => TileKind::Entries,
        level => TileKind::Hashes(level.parse().ok().filter(|level| *level <= LEVEL_MAX)?),
    };
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => {
            (number, width.parse().ok().filter(|width| (1..TILE_WIDTH).contains(width))?)
        }
        None => (rest, TILE_WIDTH),
    };
    let mut index = 0u64;
    for group in number.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        let value: u64 = digits.parse().ok().filter(|value| *value < 1000)?;
        index = index.checked_mul(1000)?.checked_add(value).filter(|index| *index <= SIZE_MAX)?;
    }
    Some(Tile { kind, index, width })
}

/// Appends a leaf to a bundle.
pub fn put_leaf(bundle: &mut Vec<u8>, leaf: &[u8]) -> Result<(), DecodeError> {
    let Ok(len) = u16::try_from(leaf.len()) else {
        let (field, limit) = ("the length of a leaf", LEAF_BYTES_MAX as u64);
        return Err(DecodeError::OverLimit { field, value: leaf.len() as u64, limit });
    };
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(leaf);
    Ok(())
}

/// Reads a bundle of `width` leaves.
pub fn read_bundle(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut leaves = Vec::with_capacity(usize::from(width));
    for _ in 0..width {
        let len = u16::from_be_bytes(reader.array("the length of a leaf")?);
        leaves.push(reader.bytes("a leaf", usize::from(len))?);
    }
    reader.finish()?;
    Ok(leaves)
}

/// The nodes of a log of `size` leaves whose tiles `read` gives.
pub struct TiledNodes<F> {
    size: u64,
    read: F,
}

impl<F> TiledNodes<F> {
    /// Reads nodes through tiles.
    pub const fn new(size: u64, read: F) -> Self {
        Self { size, read }
    }
}

impl<F, B, E> NodeReader for TiledNodes<F>
where
    F: Fn(Tile) -> Result<B, E>,
    B: AsRef<[u8]>,
    E: From<DecodeError>,
{
    type Error = E;

    fn node(&self, node: Node) -> Result<LogHash, E> {
        let tile = Tile::of_node(node, self.size).ok_or_else(|| {
            DecodeError::invalid(format!("a log of {} leaves has no complete {node:?}", self.size))
        })?;
        Ok(tile.hash_of(node, (self.read)(tile)?.as_ref())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::merkle::{NodesInMemory, root};
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// The tiles that a log has when leaves are appended in batches and each batch's new tiles are kept.
    fn tiles(batches: &[u64]) -> (HashMap<Tile, Vec<u8>>, NodesInMemory) {
        let size = batches.iter().sum::<u64>();
        let nodes =
            NodesInMemory::of_leaves((0..size).map(|index| LogHash::of_leaf(&index.to_be_bytes())).collect());
        let mut files = HashMap::new();
        let mut at = 0;
        for batch in batches {
            for tile in Tile::added(at, at + batch) {
                let bytes = tile.nodes().flat_map(|node| *nodes.node(node).unwrap().as_bytes()).collect();
                files.insert(tile, bytes);
            }
            at += batch;
        }
        (files, nodes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_node_is_read_from_the_tiles_of_the_last_batch_and_those_before(
            batches in proptest::collection::vec(1u64..700, 1..6),
        ) {
            let (files, nodes) = tiles(&batches);
            let size = nodes.size();
            let reader = TiledNodes::new(size, |tile| {
                files.get(&tile).ok_or_else(|| DecodeError::invalid(format!("no tile {tile}")))
            });
            prop_assert_eq!(root(size, &reader), Ok(nodes.root()));
            for level in 0..12 {
                for index in 0..size >> level {
                    let node = Node { level, index };
                    prop_assert_eq!(reader.node(node).unwrap(), nodes.node(node).unwrap());
                }
            }
        }

        #[test]
        fn a_path_comes_back(size in 1..=SIZE_MAX, at: prop::sample::Index) {
            let leaf = at.index(usize::MAX) as u64 % size;
            for tile in [Tile::of_leaf(leaf, size).unwrap(), Tile::of_node(Node::leaf(leaf), size).unwrap()] {
                prop_assert_eq!(tile.to_string().parse(), Ok(tile));
                prop_assert!(tile.is_within(size));
                prop_assert!(!tile.is_within(tile.start()));
            }
        }
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |kind, index, width| Tile { kind, index, width };
        assert_eq!(tile(TileKind::Hashes(0), 1_234_067, 256).to_string(), "tile/0/x001/x234/067");
        assert_eq!(tile(TileKind::Entries, 5, 17).to_string(), "tile/entries/005.p/17");
        for wrong in [
            "tile/0/1",
            "tile/0/x001",
            "tile/0/x000/001",
            "tile/6/001",
            "tile/00/001",
            "tile/0/001.p/256",
            "tile/0/001.p/0",
            "tile/0/001.p/01",
            "tile/0/+01",
            "tile/entries/",
            "tile/0/001/",
            "/tile/0/001",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert!(wrong.parse::<Tile>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_bundle_has_exactly_its_leaves() {
        let mut bundle = Vec::new();
        put_leaf(&mut bundle, b"one").unwrap();
        put_leaf(&mut bundle, b"").unwrap();
        assert_eq!(read_bundle(&bundle, 2), Ok(vec![&b"one"[..], b""]));
        assert!(read_bundle(&bundle, 1).is_err());
        assert!(read_bundle(&bundle, 3).is_err());
        assert!(put_leaf(&mut bundle, &vec![0; LEAF_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_tile_of_the_wrong_width_is_refused() {
        let tile = Tile::of_node(Node::leaf(3), 10).unwrap();
        assert!(tile.hash_of(Node::leaf(3), &[0; 32 * 10]).is_ok());
        assert!(tile.hash_of(Node::leaf(3), &[0; 32 * 9]).is_err());
        assert!(tile.hash_of(Node::leaf(11), &[0; 32 * 10]).is_err());
        assert!(tile.hash_of(Node { level: 8, index: 0 }, &[0; 32 * 10]).is_err());
    }
}
