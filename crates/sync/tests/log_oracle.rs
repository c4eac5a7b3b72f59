//! The log as an independent implementation of the same specifications sees it.

use proptest::prelude::*;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::merkle::{LogHash, Node, NodeReader, NodesInMemory};
use smart_sync_sync::log::tile::{Tile, TileKind};
use tlog_tiles::tile as oracle_tile;
use tlog_tiles::tlog as oracle;

/// The nodes of our tree, as the oracle asks for them.
struct Nodes<'a>(&'a NodesInMemory);

impl oracle::HashReader for Nodes<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<oracle::Hash>, oracle::Error> {
        Ok(indexes
            .iter()
            .map(|index| {
                let (level, index) = oracle::split_stored_hash_index(*index);
                oracle::Hash(*self.0.node(Node { level, index }).expect("the node is complete").as_bytes())
            })
            .collect())
    }
}

fn leaf(index: u64) -> LogHash {
    LogHash::of_leaf(&index.to_be_bytes())
}

fn tree(size: u64) -> NodesInMemory {
    NodesInMemory::of_leaves((0..size).map(leaf).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_oracle_proves_our_leaves_and_older_trees_from_our_nodes(size in 1u64..3000, at: prop::sample::Index) {
        let tree = tree(size);
        let root = oracle::Hash(*tree.root().as_bytes());
        prop_assert_eq!(oracle::tree_hash(size, &Nodes(&tree)).unwrap(), root);
        let index = at.index(usize::try_from(size).unwrap()) as u64;
        let hash = oracle::record_hash(&index.to_be_bytes());
        prop_assert_eq!(hash, oracle::Hash(*leaf(index).as_bytes()));
        let proof = oracle::prove_record(size, index, &Nodes(&tree)).unwrap();
        prop_assert!(oracle::check_record(&proof, size, root, index, hash).is_ok());
        let old = oracle::Hash(*self::tree(index + 1).root().as_bytes());
        let proof = oracle::prove_tree(size, index + 1, &Nodes(&tree)).unwrap();
        prop_assert!(oracle::check_tree(&proof, size, root, index + 1, old).is_ok());
    }

    #[test]
    fn tiles_have_the_names_and_the_bytes_of_the_oracle(old in 0u64..1500, grown in 1u64..1500) {
        let size = old + grown;
        let tree = tree(size);
        let ours: Vec<(String, Vec<u8>)> = Tile::added(old, size)
            .filter(|tile| tile.kind() != TileKind::Entries)
            .map(|tile| {
                let bytes = tile.nodes().flat_map(|node| *tree.node(node).unwrap().as_bytes()).collect();
                (tile.to_string(), bytes)
            })
            .collect();
        let mut theirs: Vec<(String, Vec<u8>)> = oracle_tile::Tile::new_tiles(8, old, size)
            .iter()
            // The oracle names the height of tiles, which tlog-tiles fixes at eight.
            .map(|tile| (tile.path().replace("tile/8/", "tile/"), tile.read_data(&Nodes(&tree)).unwrap()))
            .collect();
        theirs.sort();
        let mut sorted = ours;
        sorted.sort();
        prop_assert_eq!(sorted, theirs);
    }

    #[test]
    fn checkpoints_are_read_alike(size in 1u64..1 << 40, root: [u8; 32]) {
        let origin = "lab.example.org".parse().unwrap();
        let text = Checkpoint { origin, size, root: LogHash::from_bytes(root) }.to_text();
        let theirs = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).unwrap();
        prop_assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), ("lab.example.org", size, root));
        prop_assert_eq!(theirs.to_bytes(), text.into_bytes());
    }
}
