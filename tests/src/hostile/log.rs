//! Realms that say what a test wants, at times that do not depend on when the test runs.
//!
//! Everything happens in the year 2020 and nothing ever expires; hosts allow proofs of any age.

use std::collections::BTreeMap;

use smart_sync_sync::evidence::Evidence;
use smart_sync_sync::log::merkle::{LogHash, NodeReader as _, NodesInMemory};
use smart_sync_sync::log::tile::Tile;
use smart_sync_sync::name::RefName;
use smart_sync_sync::record::{ContentSummary, ManifestRef, Publication, Root};
use smart_sync_sync::testing::{TestRealm, main_branch};
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::trust::Question;

use super::tree::Tree;

/// When everything begins: in 2020, which is the past on every machine that runs tests.
const BEGINNING: u64 = 1_600_000_000;

/// The time so many seconds after the beginning.
pub fn at(seconds: u64) -> UnixTime {
    UnixTime::new(BEGINNING + seconds).expect("tests do not last eight thousand years")
}

/// Lets a root document last for ever.
pub fn lasting(root: &mut Root) {
    root.expires = UnixTime::MAX;
}

/// A realm that has published a tree as its branch `main`, and behaves well.
pub fn honest_realm(tree: &Tree) -> TestRealm {
    let mut realm = TestRealm::with_root(lasting);
    publish(&mut realm, &main_branch(), tree);
    realm.heads(at(60));
    realm
}

/// Publishes a tree, properly signed.
pub fn publish(realm: &mut TestRealm, reference: &RefName, tree: &Tree) -> u64 {
    realm.publish_with(reference, &["publish-repos"], |publication| name_tree(publication, tree))
}

/// Lets a publication name a tree.
pub fn name_tree(publication: &mut Publication, tree: &Tree) {
    publication.manifest = Some(ManifestRef { id: tree.id, bytes: tree.root_length });
    publication.content = ContentSummary { entries: tree.entries, bytes: tree.bytes };
    publication.git = None;
}

/// What hosts ask: where `main` stands.
pub fn question() -> Question {
    Question { kind: None, ..TestRealm::question(&main_branch()) }
}

/// The tiles of a realm's log by their paths, as an honest server has them.
pub fn tiles(realm: &TestRealm) -> BTreeMap<String, Vec<u8>> {
    let leaves = realm.leaves().iter().map(|leaf| LogHash::of_leaf(leaf)).collect();
    let nodes = NodesInMemory::of_leaves(leaves);
    let hash = |node| nodes.node(node).expect("a tile holds complete nodes");
    Tile::added(0, realm.size())
        .map(|tile| (format!("/{tile}"), tile.nodes().flat_map(|node| *hash(node).as_bytes()).collect()))
        .collect()
}

/// The bytes that answer it, for a host that has seen a log of `base` leaves.
pub fn evidence(realm: &TestRealm, base: u64, time: UnixTime) -> Vec<u8> {
    Evidence::Full(Box::new(realm.evidence(&question(), base, time))).encode()
}
