//! Logs that shrink, prove nothing or break their own rules.

use crate::scene::{Scene, publish_as};
use smart_sync_sync::evidence::Answer;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::merkle::{LogHash, SIZE_MAX};
use smart_sync_sync::note::Note;
use smart_sync_sync::testing::{TestRealm, main_branch, secret};
use smart_sync_tests::hostile::{at, evidence, publish};

#[test]
fn logs_that_go_back_are_refused() {
    let old = TestRealm::clone(&Scene::new().realm);
    let scene = Scene::grown(|realm, tree| {
        publish(realm, &main_branch(), tree);
        realm.heads(at(90));
    });
    let rewritten = {
        let mut realm = old.clone();
        for time in [100, 110] {
            publish(&mut realm, &main_branch(), &scene.new);
            realm.heads(at(time));
        }
        realm
    };
    let said = scene.play(vec![
        ("a smaller tree", evidence(&old, 3, at(200))),
        ("a rewritten history", evidence(&rewritten, scene.base(), at(200))),
        ("a proof that begins elsewhere", evidence(&rewritten, 3, at(200))),
        ("a proof that begins nowhere", evidence(&scene.updated(), 0, at(200))),
        (
            "a number that goes back",
            scene.grow(|realm| {
                publish_as(realm, &scene.new, &["publish-repos"], |publication| {
                    (publication.seq, publication.prev) = (1, None);
                });
                realm.heads(at(150));
            }),
        ),
    ]);
    insta::assert_snapshot!(said, @r"
    a smaller tree: exit 7
        the server is behind: it offers one of 3, and a log of 5 leaves was seen before
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a rewritten history: exit 7
        the evidence does not prove what it claims: Prefix(5) does not lead to the root hash of the tree
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a proof that begins elsewhere: exit 7
        the evidence does not prove what it claims: it continues a log of 3 leaves, not the known one of 5
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a proof that begins nowhere: exit 7
        the evidence does not prove what it claims: it continues a log of 0 leaves, not the known one of 5
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a number that goes back: exit 7
        the log breaks its rules: the sequence number goes back from 2 to 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
");
}

#[test]
fn proofs_that_prove_nothing_are_refused() {
    let scene = Scene::grown(|realm, tree| {
        publish(realm, &main_branch(), tree);
        realm.heads(at(90));
    });
    let huge = scene.change(|realm, full| {
        let tree = Checkpoint { size: SIZE_MAX, ..realm.tree() };
        let text = tree.to_text().replace(&SIZE_MAX.to_string(), &u64::MAX.to_string());
        let mut note = Note::new(text).expect("a checkpoint is plain text");
        note.sign(&secret("log")).expect("a key in memory always signs");
        note.cosign(&secret("clock"), at(200)).expect("a key in memory always signs");
        full.checkpoint = note.to_bytes();
    });
    let node = LogHash::of_node(
        &LogHash::of_leaf(&scene.realm.leaves()[0]),
        &LogHash::of_leaf(&scene.realm.leaves()[1]),
    );
    let said = scene.play(vec![
        ("an empty proof", scene.change(|_, full| full.nodes.clear())),
        ("an oversized proof", scene.change(|_, full| full.nodes.push(LogHash::empty_root()))),
        ("a changed proof", scene.change(|_, full| full.nodes[0] = LogHash::empty_root())),
        ("a size of 2^64-1", huge),
        (
            "the index of another leaf",
            scene.change(|_, full| {
                full.head.entries[0].1 = full.head.entries[0].1.replace(" 3 5 ", " 3 3 ");
            }),
        ),
        (
            "an index outside of the log",
            scene.change(|_, full| {
                full.head.entries[0].1 = full.head.entries[0].1.replace(" 3 5 ", " 3 5000 ");
            }),
        ),
        (
            "an inner node as a leaf",
            scene.change(|_, full| {
                full.heads = [b"\x01", node.as_bytes().as_slice(), node.as_bytes()].concat();
            }),
        ),
        (
            "an older publication in the place of the newest",
            scene.change(|realm, full| full.answer = Answer::Publication(realm.leaves()[3].clone())),
        ),
        ("an entry that is not shown", scene.change(|_, full| full.head.entries.clear())),
        (
            "nothing where there is something",
            scene.change(|realm, full| {
                full.answer = Answer::Absent;
                full.nodes = realm.log_nodes(full);
            }),
        ),
    ]);
    insta::assert_snapshot!(said, @r"
    an empty proof: exit 7
        the evidence does not prove what it claims: the proof has 0 hashes instead of 5
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    an oversized proof: exit 7
        the evidence does not prove what it claims: the proof has 6 hashes instead of 5
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a changed proof: exit 7
        the evidence does not prove what it claims: Prefix(5) does not lead to the root hash of the tree
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a size of 2^64-1: exit 7
        the checkpoint is malformed: its size is not between 1 and 2^40
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    the index of another leaf: exit 7
        the evidence does not prove what it claims: the proof has 5 hashes instead of 7
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    an index outside of the log: exit 7
        the evidence does not prove what it claims: Leaf(5000) is not within a tree of 7 leaves
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    an inner node as a leaf: exit 7
        the evidence does not prove what it claims: Leaf(6) does not lead to the root hash of the tree
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    an older publication in the place of the newest: exit 7
        the evidence does not prove what it claims: Leaf(5) does not lead to the root hash of the tree
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    an entry that is not shown: exit 7
        the evidence does not prove what it claims: the entries shown say nothing of repos/nixos branch main
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    nothing where there is something: exit 7
        the evidence does not prove what it claims: the answer says one thing of the ref, and the table another
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
");
}

#[test]
fn heads_that_break_the_rules_are_refused() {
    let scene = Scene::new();
    let main = main_branch();
    let new = |realm: &mut TestRealm| publish(realm, &main, &scene.new);
    let said = scene.play(vec![
        (
            "a last leaf that is no heads",
            scene.grow(|realm| {
                realm.heads(at(150));
                new(realm);
            }),
        ),
        ("heads whose time goes back", scene.grow(|realm| _ = realm.heads(at(59)))),
        ("heads from after the clock", scene.grow(|realm| _ = realm.heads(at(801)))),
        (
            "heads of another table",
            scene.grow(|realm| {
                new(realm);
                realm.heads_with(at(150), |heads| heads.table = LogHash::empty_root());
            }),
        ),
        (
            "heads that count wrongly",
            scene.grow(|realm| {
                new(realm);
                realm.heads_with(at(150), |heads| heads.count = 3);
            }),
        ),
        (
            "a table with a ref twice",
            scene.change(|realm, full| {
                let entry = full.head.entries[0].clone();
                full.head.entries.push((entry.0 + 1, entry.1));
                full.nodes = realm.log_nodes(full);
            }),
        ),
    ]);
    insta::assert_snapshot!(said, @r#"
    a last leaf that is no heads: exit 7
        the log breaks its rules: a leaf that should be heads is not: a record of the kind smart-sync/heads/v1 was expected, and this is "smart-sync/pub/v1"
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    heads whose time goes back: exit 7
        the log breaks its rules: the time of its heads goes back from 2020-09-13T12:27:40Z to 2020-09-13T12:27:39Z
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    heads from after the clock: exit 7
        the log breaks its rules: its heads are from 2020-09-13T12:40:01Z, after the clock's 2020-09-13T12:30:00Z
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    heads of another table: exit 7
        the evidence does not prove what it claims: the entry is not shown to be in the table of heads
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    heads that count wrongly: exit 7
        the evidence does not prove what it claims: the entry is not shown to be in the table of heads
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a table with a ref twice: exit 7
        the evidence does not prove what it claims: the entry is not shown to be in the table of heads
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
"#);
}

#[test]
fn entries_that_contradict_the_log_are_refused() {
    let scene = Scene::new();
    let main = main_branch();
    let new = |realm: &mut TestRealm| publish(realm, &main, &scene.new);
    let said = scene.play(vec![
        (
            "a ref that is gone",
            scene.grow(|realm| {
                realm.forget(&main);
                realm.heads(at(150));
            }),
        ),
        (
            "one number for two publications",
            scene.grow(|realm| {
                let index = realm.size();
                publish_as(realm, &scene.new, &["publish-repos"], |publication| {
                    (publication.seq, publication.prev) = (1, None);
                });
                let leaf = LogHash::of_leaf(&realm.leaves()[3]);
                realm.set_head(&main, |head| (head.seq, head.index, head.leaf) = (1, index, leaf));
                realm.heads(at(150));
            }),
        ),
        (
            "a number over the index",
            scene.grow(|realm| {
                new(realm);
                realm.set_head(&main, |head| head.seq = 4);
                realm.heads(at(150));
            }),
        ),
        (
            "an entry of another leaf",
            scene.grow(|realm| {
                new(realm);
                realm.set_head(&main, |head| head.index = 2);
                realm.heads(at(150));
            }),
        ),
    ]);
    insta::assert_snapshot!(said, @r#"
    a ref that is gone: exit 7
        the log breaks its rules: a ref that was published is gone from the table of heads
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    one number for two publications: exit 7
        the log breaks its rules: it has two publications with the sequence number 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a number over the index: exit 7
        the evidence does not prove what it claims: not an entry of a table of heads: "repos/nixos branch main 4 3 sha256:868e8b72555642ca2b21da89ca900a1d3e990a2200330c3261296e21e00504c4\n"
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    an entry of another leaf: exit 7
        the log breaks its rules: the table of heads and the publication contradict each other: the entry names another leaf
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
"#);
}
