//! The log: growing, forks, proofs, its own rules, sequence numbers.

use super::*;

#[test]
fn a_log_only_grows() {
    let (mut realm, _) = seen();
    let old = realm.clone();
    realm.publish(&main_branch(), 2);
    realm.heads(after(100));
    let state = accept(&realm.pinned(), &realm.evidence(&question(), 0, after(100)), 100).state;
    check(
        "a smaller tree",
        &state,
        &old.evidence(&question(), 0, after(110)),
        110,
        "a log of 5 leaves was seen",
    );

    let mut other = old.clone();
    other.publish(&main_branch(), 9);
    other.heads(after(100));
    let fork = other.evidence(&question(), 5, after(110));
    let refusal = check("the same size, another root", &state, &fork, 110, "FORK");
    let Refusal::Fork { latched, fork: both, .. } = refusal else { panic!("no fork: {refusal}") };
    assert_eq!(both.known, *state.checkpoint_note().unwrap());
    assert_eq!(both.offered.to_bytes(), fork.checkpoint);
    assert_eq!(latched.to_text().parse(), Ok((*latched).clone()), "both notes are kept");
    let honest = realm.evidence(&question(), 5, after(120));
    check("anything, after a fork", &latched, &honest, 120, "has shown two histories");
    accept(&state, &honest, 120);

    other.publish(&main_branch(), 10);
    other.heads(after(110));
    check(
        "a rewritten history",
        &state,
        &other.evidence(&question(), 5, after(120)),
        120,
        "Prefix(5) does not lead",
    );
    check(
        "a proof from elsewhere",
        &state,
        &other.evidence(&question(), 3, after(120)),
        120,
        "not the known one of 5",
    );
    check(
        "a proof from nowhere",
        &state,
        &other.evidence(&question(), 0, after(120)),
        120,
        "not the known one of 5",
    );
}

#[test]
fn proofs_have_exactly_what_they_need() {
    let (realm, state) = grown(|realm| {
        realm.publish(&main_branch(), 2);
        realm.heads(after(100));
    });
    let good = realm.evidence(&question(), 3, after(100));
    let with = |change: &dyn Fn(&mut FullEvidence)| {
        let mut evidence = good.clone();
        change(&mut evidence);
        evidence
    };
    let check = |what, change: &dyn Fn(&mut FullEvidence), expected| {
        check(what, &state, &with(change), 100, expected);
    };
    check("an empty proof", &|evidence| evidence.nodes.clear(), "the proof has 0 hashes");
    check("an oversized proof", &|evidence| evidence.nodes.push(LogHash::empty_root()), "hashes instead of");
    check(
        "a changed proof",
        &|evidence| evidence.nodes[0] = LogHash::empty_root(),
        "does not lead to the root",
    );
    check("an empty proof of the table", &|evidence| evidence.head.entries.clear(), "say nothing of");
    check("a changed leaf", &|evidence| evidence.heads[30] ^= 1, "Leaf(4) does not lead");
    check("another leaf as the last one", &|evidence| evidence.heads = realm.leaves()[2].clone(), "Leaf(4)");
    check(
        "the first publication in place of the second",
        &|evidence| {
            evidence.answer = Answer::Publication(realm.leaves()[1].clone());
        },
        "Leaf(3) does not lead",
    );
    check(
        "another index",
        &|evidence| {
            evidence.head.entries[0].1 = evidence.head.entries[0].1.replace(" 2 3 ", " 1 1 ");
        },
        "hashes",
    );
    check(
        "an index outside",
        &|evidence| {
            evidence.head.entries[0].1 = evidence.head.entries[0].1.replace(" 2 3 ", " 2 3000 ");
        },
        "is not within a tree of 5 leaves",
    );
    check("another place in the table", &|evidence| evidence.head.entries[0].0 = 1, "the entry is not shown");
    check(
        "absent and present",
        &|evidence| {
            evidence.answer = Answer::Absent;
            evidence.nodes = realm.log_nodes(evidence);
        },
        "the table another",
    );
    let node = LogHash::of_node(&LogHash::of_leaf(&realm.leaves()[0]), &LogHash::of_leaf(&realm.leaves()[1]));
    check(
        "an inner node as a leaf",
        &|evidence| {
            evidence.heads = [b"\x01", node.as_bytes().as_slice(), node.as_bytes()].concat();
        },
        "Leaf(4) does not lead",
    );
    check(
        "a size of 2^64-1",
        &|evidence| {
            let tree = crate::log::checkpoint::Checkpoint { size: SIZE_MAX, ..realm.tree() };
            let huge = TestRealm::sign_checkpoint(&tree, &["log"], &[]);
            let text = String::from_utf8(huge).unwrap().replace(&SIZE_MAX.to_string(), &u64::MAX.to_string());
            let text = text.split_once("\n\n").unwrap().0.to_owned() + "\n";
            let mut huge = crate::note::Note::new(text).unwrap();
            huge.sign(&secret("log")).unwrap();
            huge.cosign(&secret("clock"), after(100)).unwrap();
            evidence.checkpoint = huge.to_bytes();
        },
        "not between 1 and 2^40",
    );
}

#[test]
fn the_log_keeps_its_own_rules() {
    let evidence = |realm: &TestRealm| realm.evidence(&question(), 3, after(200));
    let (realm, state) = grown(|realm| {
        realm.heads(after(100));
        realm.publish(&main_branch(), 2);
    });
    check(
        "a last leaf that is no heads",
        &state,
        &evidence(&realm),
        200,
        "a leaf that should be heads is not",
    );
    let (realm, state) = grown(|realm| {
        realm.heads(after(59));
    });
    check("time that goes back", &state, &evidence(&realm), 200, "goes back from");
    let (realm, state) = grown(|realm| {
        realm.heads(after(801));
    });
    check("heads after the clock", &state, &evidence(&realm), 200, "after the clock's");
    let (realm, state) = grown(|realm| {
        realm.publish(&main_branch(), 2);
        realm.heads_with(after(100), |heads| heads.table = LogHash::empty_root());
    });
    check("another table", &state, &evidence(&realm), 200, "the entry is not shown");
    let (realm, state) = grown(|realm| {
        realm.publish(&main_branch(), 2);
        realm.heads_with(after(100), |heads| heads.count = 3);
    });
    check("another count", &state, &evidence(&realm), 200, "the entry is not shown");
    let (realm, state) = grown(|realm| {
        realm.forget(&main_branch());
        realm.heads(after(100));
    });
    check("a ref that is gone", &state, &evidence(&realm), 200, "is gone from the table");
    let (realm, state) = grown(|realm| {
        realm.publish(&main_branch(), 2);
        realm.set_head(&main_branch(), |head| head.index = 2);
        realm.heads(after(100));
    });
    check("an entry of another leaf", &state, &evidence(&realm), 200, "the entry names another leaf");
    let (realm, state) = grown(|realm| {
        realm.publish(&main_branch(), 2);
        realm.set_head(&main_branch(), |head| head.seq = 4);
        realm.heads(after(100));
    });
    check("seq over the index", &state, &evidence(&realm), 200, "not an entry of a table of heads");
    let (realm, state) = grown(|realm| {
        realm.publish(&main_branch(), 2);
        realm.set_head(&main_branch(), |head| head.seq = 3);
        realm.heads(after(100));
    });
    check("seq of another publication", &state, &evidence(&realm), 200, "different sequence numbers");
}

#[test]
fn sequence_numbers_never_go_back() {
    let mut realm = TestRealm::with_main();
    realm.publish(&main_branch(), 2);
    realm.heads(after(100));
    let state = accept(&realm.pinned(), &realm.evidence(&question(), 0, after(100)), 100).state;
    let back = |change: fn(&mut crate::record::Publication)| {
        let mut realm = realm.clone();
        realm.publish_with(&main_branch(), &["publish-repos"], change);
        realm.heads(after(110));
        realm.evidence(&question(), 5, after(110))
    };
    let first = back(|publication| {
        publication.seq = 1;
        publication.prev = None;
    });
    check("a replay from the beginning", &state, &first, 110, "goes back from 2 to 1");
    check("the same seq again", &state, &back(|publication| publication.seq = 2), 110, "two publications");
    accept(&state, &back(|publication| publication.seq = 3), 110);

    let mut realm = TestRealm::with_main();
    realm.publish(&tag(), 1);
    realm.heads(after(100));
    let tagged = TestRealm::question(&tag());
    let state = accept_for(&tagged, &realm.pinned(), &realm.evidence(&tagged, 0, after(100)), 100).state;
    let mut rewritten = realm.clone();
    rewritten.publish(&tag(), 2);
    rewritten.heads(after(110));
    let evidence = rewritten.evidence(&tagged, 5, after(110));
    check_for("a tag written twice", &tagged, &state, &evidence, 110, "a tag is written once");
    check_for(
        "a tag written twice, to a new machine",
        &tagged,
        &realm.pinned(),
        &evidence,
        110,
        "written once",
    );
    withdraw(&mut realm, &tag());
    realm.heads(after(110));
    let refusal = check_for(
        "a withdrawn tag",
        &tagged,
        &state,
        &realm.evidence(&tagged, 5, after(110)),
        110,
        "was withdrawn",
    );
    assert_eq!(refusal.exit_code(), 1, "everything was verified, and there is nothing");
    assert!(matches!(refusal, Refusal::Withdrawn { seq: 2, .. }), "{refusal:?}");
}

#[test]
fn entries_name_the_leaf_that_they_mean_and_only_leaves_before_them() {
    let (realm, state) = grown(|realm| {
        realm.publish(&main_branch(), 2);
        realm.set_head(&main_branch(), |head| head.leaf = LogHash::empty_root());
        realm.heads(after(100));
    });
    let evidence = realm.evidence(&question(), 3, after(200));
    check("the hash of another leaf", &state, &evidence, 200, "the entry names another leaf");

    // The table of yesterday names what was published today.
    let (mut realm, state) = seen();
    let mut tomorrow = realm.clone();
    tomorrow.publish(&main_branch(), 2);
    let leaf = LogHash::of_leaf(&tomorrow.leaves()[3]);
    let honest = realm.clone();
    realm.set_head(&main_branch(), |head| (head.seq, head.index, head.leaf) = (2, 4, leaf));
    realm.heads(after(100));
    realm.publish(&main_branch(), 2);
    assert_eq!(LogHash::of_leaf(&realm.leaves()[4]), leaf);
    realm.heads(after(200));
    let yesterday = Question { at: Some(after(150)), ..question() };
    let evidence = realm.evidence(&yesterday, 3, after(200));
    check_for("a leaf after the table", &yesterday, &state, &evidence, 200, "names a leaf after the table");
    accept(&state, &honest.evidence(&question(), 3, after(200)), 200);
}

#[test]
fn a_later_publication_stands_later_in_the_log() {
    let mut realm = TestRealm::new();
    for name in ["a", "b", "c"] {
        realm.publish(&RefName::branch(name).unwrap(), 1);
    }
    realm.publish(&main_branch(), 1);
    let numbered = |realm: &mut TestRealm, seq| {
        let change = |publication: &mut crate::record::Publication| publication.seq = seq;
        realm.publish_with(&main_branch(), &["publish-repos"], change)
    };
    let third = numbered(&mut realm, 3);
    numbered(&mut realm, 2);
    realm.heads(after(100));
    let state = accept(&realm.pinned(), &realm.evidence(&question(), 0, after(100)), 100).state;
    let leaf = LogHash::of_leaf(&realm.leaves()[5]);
    realm.set_head(&main_branch(), |head| (head.seq, head.index, head.leaf) = (3, third, leaf));
    realm.heads(after(110));
    let evidence = realm.evidence(&question(), state.size(), after(110));
    check("an older leaf with a higher number", &state, &evidence, 110, "in different orders");
}
