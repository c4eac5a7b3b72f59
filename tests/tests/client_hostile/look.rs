//! The commands that only look: what is shown is what was signed, and safe to show.

use std::collections::BTreeMap;

use smart_sync_store::codec::{put_number, put_prefixed};
use smart_sync_store::content::name_content;
use smart_sync_store::id::{ManifestId, ObjectId};
use smart_sync_store::manifest::{Content, Fidelity};
use smart_sync_sync::evidence::Evidence;
use smart_sync_sync::name::RefName;
use smart_sync_sync::testing::{TestRealm, main_branch};
use smart_sync_sync::trust::Question;
use smart_sync_tests::Finished;
use smart_sync_tests::hostile::{
    Host, HostileServer, RawEntry, Reply, Tree, TreeBuilder, World, at, evidence, honest_realm, lasting,
    page, publish, question, tiles,
};

use crate::scene::Publisher;

/// A tree that is a single page of any bytes.
fn of_page(bytes: Vec<u8>) -> Tree {
    let (id, root_length) = (ObjectId::of(&bytes), bytes.len() as u64);
    let tree = TreeBuilder::default().forge();
    Tree { id: ManifestId::from_root_page(id), root_length, pages: [(id.to_string(), bytes)].into(), ..tree }
}

/// What a command says of a tree that it has to refuse.
#[track_caller]
fn refuses(publisher: &mut Publisher, what: &str, tree: &Tree, arguments: &[&str]) -> String {
    let world = publisher.publish(tree);
    publisher.server.set(move |request| world.answer(request));
    let finished = publisher.host.ask(arguments).expect_code(7);
    assert_eq!(finished.stdout, "", "{what} was shown");
    let said = publisher.host.said(what, &finished);
    assert!(said.contains("    hint: "), "it says what to do: {said}");
    let page = tree.pages.keys().next().expect("a page");
    said.replace(page, "PAGE").replace(&tree.pack.0, "PACK")
}

#[test]
fn pages_that_are_malformed_or_another_are_not_shown() {
    let old = TreeBuilder::of(&[("a", "old\n")]).build();
    let mut publisher = Publisher::of(&old);
    let mut many = b"ssmp\x01\x00\x00".to_vec();
    put_number(&mut many, 10_000_000);
    many.resize(1024, 0);
    let mut deep = b"ssmp\x01\xff\x00\x01".to_vec();
    deep.resize(64, 0);
    let huge = |path: &str| RawEntry::file(path, &Content { size: u64::MAX, ..name_content(b"x") });
    let new = TreeBuilder::of(&[("a", "new\n")]).build();
    let mut other = new.clone();
    other.pages.values_mut().for_each(|page| page.clone_from(old.pages.values().next().expect("a page")));
    let said = [
        refuses(&mut publisher, "ten million entries in a KiB", &of_page(many), &["ls"]),
        refuses(&mut publisher, "a level of 255", &of_page(deep), &["ls"]),
        refuses(
            &mut publisher,
            "sizes whose sum overflows",
            &of_page(page(Fidelity::Git, &[huge("a"), huge("b")])),
            &["ls"],
        ),
        refuses(&mut publisher, "another page", &other, &["ls"]),
        refuses(&mut publisher, "another length", &Tree { root_length: 9, ..new.clone() }, &["ls"]),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    ten million entries in a KiB: exit 7
        manifest page PAGE is corrupt
        because: number of items is 10000000, over the limit of 256
        hint: another mirror may have it unharmed; the server's operator should run `smart-sync-server check`
    a level of 255: exit 7
        manifest page PAGE is corrupt
        because: level is 255, over the limit of 15
        hint: another mirror may have it unharmed; the server's operator should run `smart-sync-server check`
    sizes whose sum overflows: exit 7
        manifest page PAGE is corrupt
        because: the sums of a page do not fit 64 bits
        hint: another mirror may have it unharmed; the server's operator should run `smart-sync-server check`
    another page: exit 7
        SERVER1 sent another page than PAGE
        because: manifest page PAGE is corrupt: its bytes have the digest ae0a6c3ef9989ff34a3dc2c8d6da4cb68e944d3b13af84461c9300ab72b4ffe7
        hint: another mirror may have it unharmed; the server's operator should run `smart-sync-server check`
    another length: exit 7
        manifest page PAGE is corrupt
        because: it has 65 bytes, which is not the length it should have
        hint: another mirror may have it unharmed; the server's operator should run `smart-sync-server check`
");
}

#[test]
fn contents_that_are_another_are_not_shown() {
    let mut publisher = Publisher::of(&TreeBuilder::of(&[("a", "old\n")]).build());
    let mut tree = TreeBuilder::of(&[("a", "new\n")]).build();
    *tree.pack.1.last_mut().expect("a pack has bytes") ^= 1;
    insta::assert_snapshot!(refuses(&mut publisher, "another content", &tree, &["cat", "a"]), @r"
    another content: exit 7
        in pack PACK
        because: chunk 79d1d8da0b625035cdbfc9d51841030861b9f4cf7c5abbe442a8d13efc352170 is corrupt: its bytes have the digest 428563a1c363e6a4ef76bd5b8c4463f972b61cb1556b2b452f7385bf756dce99
        hint: another mirror may have it unharmed; the server's operator should run `smart-sync-server check`
");
}

/// A ref of two publications, and a host that asks for its history.
struct History {
    realm: TestRealm,
    world: World,
    server: HostileServer,
    host: Host,
}

impl History {
    fn new() -> Self {
        let trees = ["one\n", "two\n"].map(|text| TreeBuilder::of(&[("a", text)]).build());
        let mut realm = honest_realm(&trees[0]);
        publish(&mut realm, &main_branch(), &trees[1]);
        realm.heads(at(90));
        let world = World::new(evidence(&realm, 0, at(100)), &[]);
        let server = HostileServer::start(|_| Reply::Close);
        let host = Host::new(&server);
        Self { realm, world, server, host }
    }

    /// The older publication and the newer one, each with its place in the log.
    fn publications(&self) -> [(u64, &[u8]); 2] {
        [(1, &self.realm.leaves()[1]), (3, &self.realm.leaves()[3])]
    }

    /// What the host lists of these publications, in a log of these tiles.
    fn show(&self, publications: &[(u64, &[u8])], tiles: BTreeMap<String, Vec<u8>>) -> Finished {
        let mut answer = Vec::new();
        for (index, note) in publications {
            put_number(&mut answer, *index);
            put_prefixed(&mut answer, note);
            answer.extend_from_slice(&[0, 0]);
        }
        let world = self.world.clone();
        self.server.set(move |request| match tiles.get(&request.path) {
            Some(tile) => Reply::Ok(tile.clone()),
            None if request.path.starts_with("/v1/history/") => Reply::Ok(answer.clone()),
            None => world.answer(request),
        });
        self.host.ask(&["log"])
    }

    /// What the host says of a lie.
    #[track_caller]
    fn refused(&self, what: &str, code: i32, finished: Finished) -> String {
        let finished = finished.expect_code(code);
        assert_eq!(finished.stdout, "", "{what}: something was shown");
        let said = self.host.said(what, &finished);
        assert!(said.contains("    hint: "), "it says what to do: {said}");
        said
    }
}

#[test]
fn a_history_that_leads_elsewhere_is_not_shown() {
    let history = History::new();
    let [first, second] = history.publications();
    let mut stranger = TestRealm::with_root(lasting);
    publish(&mut stranger, &main_branch(), &TreeBuilder::of(&[("a", "two\n")]).build());
    let show = |publications: &[(u64, &[u8])]| history.show(publications, tiles(&history.realm));
    assert_eq!(show(&[second, first]).success().stdout.lines().count(), 2);
    let mut said = String::new();
    for (what, code, publications) in [
        ("the newest left out", 7, &[first][..]),
        ("an invented one before it", 7, &[second, (1, &stranger.leaves()[1])]),
        ("the newest again", 7, &[second, second]),
        ("the place of another leaf", 7, &[(2, second.1)]),
        ("a place after the end of the log", 7, &[(5, second.1)]),
        ("no note", 7, &[(3, b"\x1b[31mred")]),
        ("nothing", 5, &[]),
    ] {
        said.push_str(&history.refused(what, code, show(publications)));
    }
    insta::assert_snapshot!(said, @r"
    the newest left out: exit 7
        the history that the server shows does not lead on to number 2
        hint: nothing was changed; try another mirror with --server, and tell the realm's owner if it persists
    an invented one before it: exit 7
        the history that the server shows does not lead on to number 1
        hint: nothing was changed; try another mirror with --server, and tell the realm's owner if it persists
    the newest again: exit 7
        the history that the server shows does not lead on to number 1
        hint: nothing was changed; try another mirror with --server, and tell the realm's owner if it persists
    the place of another leaf: exit 7
        SERVER1 does not prove that the publication is leaf 2 of the log
        because: Leaf(2) does not lead to the root hash of the tree
        hint: nothing was changed; try another mirror with --server, and tell the realm's owner if it persists
    a place after the end of the log: exit 7
        SERVER1 does not prove that the publication is leaf 5 of the log
        because: Leaf(5) is not within a tree of 5 leaves
        hint: nothing was changed; try another mirror with --server, and tell the realm's owner if it persists
    no note: exit 7
        the history that the server shows does not lead on to number 2
        hint: nothing was changed; try another mirror with --server, and tell the realm's owner if it persists
    nothing: exit 5
        SERVER1 has no history of this ref
        hint: try another mirror with --server
");
}

#[test]
fn tiles_of_another_width_or_of_another_log_prove_no_place() {
    let history = History::new();
    let [first, second] = history.publications();
    let honest = tiles(&history.realm);
    let (path, tile) = honest.iter().find(|(path, _)| path.starts_with("/tile/0/")).expect("a tile");
    let mut moved = tile.clone();
    moved.rotate_left(32);
    let mut said = String::new();
    for (what, code, tile) in [
        ("a tile of too few hashes", 5, tile[32..].to_vec()),
        ("a tile of too many hashes", 5, [&tile[..], &tile[..32]].concat()),
        ("a tile that ends in the middle of a hash", 5, tile[..tile.len() - 1].to_vec()),
        ("a tile of other hashes", 7, moved),
    ] {
        let finished = history.show(&[second, first], BTreeMap::from([(path.clone(), tile)]));
        said.push_str(&history.refused(what, code, finished));
    }
    insta::assert_snapshot!(said, @r"
    a tile of too few hashes: exit 5
        SERVER1 does not answer as a smart-sync server does
        because: tile tile/0/000.p/5 has 128 bytes instead of 160
        hint: check the address: something else, such as a proxy, may answer in the server's place
    a tile of too many hashes: exit 5
        the answer of SERVER1/tile/0/000.p/5 is longer than the 160 bytes that it could have
        hint: check the address and the network; what was received so far is kept
    a tile that ends in the middle of a hash: exit 5
        SERVER1 does not answer as a smart-sync server does
        because: tile tile/0/000.p/5 has 159 bytes instead of 160
        hint: check the address: something else, such as a proxy, may answer in the server's place
    a tile of other hashes: exit 7
        SERVER1 does not prove that the publication is leaf 3 of the log
        because: Leaf(3) does not lead to the root hash of the tree
        hint: nothing was changed; try another mirror with --server, and tell the realm's owner if it persists
");
}

#[test]
fn differences_are_shown_escaped() {
    let trees = [("red\u{1b}[31m", "one\n"), ("rtl\u{202e}gpj", "\u{1b}]0;title\u{7}\n")]
        .map(|file| TreeBuilder::of(&[file]).build());
    let tag = RefName::tag("v1").expect("a name");
    let mut realm = honest_realm(&trees[0]);
    publish(&mut realm, &tag, &trees[1]);
    realm.heads(at(90));
    let of_tag = Question { reference: tag, ..question() };
    let of_tag = Evidence::Full(Box::new(realm.evidence(&of_tag, 0, at(100)))).encode();
    let world = World::new(evidence(&realm, 0, at(100)), &[&trees[0], &trees[1]]);
    let server = HostileServer::start(move |request| {
        if request.path.ends_with("/tag~3av1") { Reply::Ok(of_tag.clone()) } else { world.answer(request) }
    });
    let host = Host::new(&server);
    let shown = host.ask(&["diff", "main", "tag:v1", "--names-only"]).success().stdout;
    insta::assert_snapshot!(shown, @r"
    D red\u{1b}[31m
    A rtl\u{202e}gpj
");
}
