//! Where a leaf stands in a log, as the log's tiles prove it.
//!
//! Whoever revokes a key names a leaf, and must not have been told another one: a server says where a leaf stands,
//! and the hashes of its tiles have to lead from there to the root that was verified. Tiles are kept for as long as
//! one log is looked at, since neighbouring leaves need the same ones.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use smart_sync_store::codec::DecodeError;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::log::proof::{Claim, Proof, needed, prove};
use smart_sync_sync::log::tile::{Tile, TiledNodes};

use super::remote::{OTHER_ANSWER_HINT, Remote};
use crate::failure::{Exit, Failure};

/// A verified log, and the tiles of it that some server has shown.
pub struct LogTiles<'a, F> {
    log: &'a Checkpoint,
    remotes: &'a [Remote],
    get: F,
    tiles: RefCell<HashMap<(usize, Tile), Bytes>>,
}

impl<'a, F: Fn(&Remote, &str, u64) -> Result<Bytes, Failure>> LogTiles<'a, F> {
    /// A log, whose tiles `get` asks a server for: by their path, and of at most so many bytes.
    pub fn new(log: &'a Checkpoint, remotes: &'a [Remote], get: F) -> Self {
        Self { log, remotes, get, tiles: RefCell::default() }
    }

    /// Proves that a leaf stands at an index, by the tiles of the first server that can.
    pub fn check(&self, index: u64, leaf: &LogHash) -> Result<(), Failure> {
        let mut last = None;
        for number in 0..self.remotes.len() {
            match self.check_by(number, index, leaf) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.exit() == Exit::Interrupted => return Err(failure),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::message(Exit::Network, "no server could be asked")))
    }

    fn check_by(&self, number: usize, index: u64, leaf: &LogHash) -> Result<(), Failure> {
        let refused = |error| {
            Failure::new(Exit::Refused, error)
                .context(format!(
                    "{} does not prove that the publication is leaf {index} of the log",
                    self.remotes[number].base()
                ))
                .hint("nothing was changed; try another mirror with --server, and tell the realm's owner if it persists")
        };
        let Checkpoint { size, root, .. } = self.log;
        let claims = [Claim::Leaf(index)];
        let nodes = needed(*size, &claims).map_err(refused)?;
        let read = TiledNodes::new(*size, |tile| self.tile(number, tile));
        let hashes = prove(&nodes, &read).map_err(|failed| match failed {
            TileError::Absent(failure) => failure,
            TileError::Malformed(error) => Failure::new(Exit::Network, error)
                .context(format!(
                    "{} does not answer as a smart-sync server does",
                    self.remotes[number].base()
                ))
                .hint(OTHER_ANSWER_HINT),
        })?;
        let proof = Proof::new(*size, &claims, &hashes).map_err(refused)?;
        proof.check_leaf(root, index, leaf).map_err(refused)
    }

    fn tile(&self, number: usize, tile: Tile) -> Result<Bytes, TileError> {
        if let Some(bytes) = self.tiles.borrow().get(&(number, tile)) {
            return Ok(bytes.clone());
        }
        let limit = u64::from(tile.width()) * LogHash::LEN as u64;
        let bytes = (self.get)(&self.remotes[number], &tile.to_string(), limit).map_err(TileError::Absent)?;
        self.tiles.borrow_mut().insert((number, tile), bytes.clone());
        Ok(bytes)
    }
}

/// Why a tile is of no use.
enum TileError {
    /// It could not be had.
    Absent(Failure),
    /// It is none.
    Malformed(DecodeError),
}

impl From<DecodeError> for TileError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{NetworkSettings, TokenWay};
    use smart_sync_sync::log::merkle::{NodeReader as _, NodesInMemory, SIZE_MAX};
    use std::sync::Arc;
    use std::time::Duration;

    const SIZE: u64 = 600;

    fn leaf(index: u64) -> LogHash {
        LogHash::of_leaf(&index.to_be_bytes())
    }

    fn tree() -> NodesInMemory {
        NodesInMemory::of_leaves((0..SIZE).map(leaf).collect())
    }

    fn remotes() -> [Remote; 2] {
        let second = Duration::from_secs(1);
        let network = NetworkSettings {
            connections: 1,
            stall: second,
            rate_limit_wait: second,
            token_way: TokenWay::Confidential,
        };
        ["http://one", "http://two"]
            .map(|url| Remote::new(url.parse().unwrap(), None, network, Arc::default()).unwrap())
    }

    /// What comes of a proof when servers show these tiles, and how many were asked for.
    fn check(index: u64, leaf: &LogHash, show: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> (Option<Exit>, usize) {
        let nodes = tree();
        let log = Checkpoint { origin: "lab.example.org".parse().unwrap(), size: SIZE, root: nodes.root() };
        let remotes = remotes();
        let asked = RefCell::new(0);
        let tiles = LogTiles::new(&log, &remotes, |remote, path, limit| {
            *asked.borrow_mut() += 1;
            let tile: Tile = path.parse().unwrap();
            let hashes = tile.nodes().flat_map(|node| *nodes.node(node).unwrap().as_bytes());
            let bytes: Vec<u8> = hashes.collect();
            assert_eq!(bytes.len() as u64, limit, "{path}");
            Ok(show(&remote.base().to_string(), bytes).into())
        });
        let ended = tiles.check(index, leaf).and_then(|()| tiles.check(index, leaf));
        let asked = *asked.borrow();
        (ended.err().map(|failure| failure.exit()), asked)
    }

    #[test]
    fn a_leaf_is_proven_by_tiles_that_are_asked_for_once() {
        for index in [0, 255, 256, 511, 512, SIZE - 1] {
            let (ended, asked) = check(index, &leaf(index), |_, bytes| bytes);
            assert_eq!(ended, None, "{index}");
            assert!(asked <= 3, "{index}: {asked}");
        }
    }

    #[test]
    fn what_is_not_at_that_place_is_refused() {
        for (index, other) in [(5, leaf(6)), (SIZE, leaf(SIZE)), (SIZE_MAX, leaf(0))] {
            assert_eq!(check(index, &other, |_, bytes| bytes).0, Some(Exit::Refused), "{index}");
        }
        let garble = |_: &str, mut bytes: Vec<u8>| {
            bytes[0] ^= 1;
            bytes
        };
        assert_eq!(check(5, &leaf(5), garble).0, Some(Exit::Refused));
    }

    #[test]
    fn a_tile_of_another_width_is_none_and_another_mirror_may_have_it() {
        let shorten = |bytes: &[u8]| bytes[..bytes.len() - LogHash::LEN].to_vec();
        assert_eq!(check(5, &leaf(5), |_, bytes| shorten(&bytes)).0, Some(Exit::Network));
        let one_is_wrong =
            |server: &str, bytes: Vec<u8>| if server == "http://one" { shorten(&bytes) } else { bytes };
        assert_eq!(check(5, &leaf(5), one_is_wrong).0, None);
    }
}
