use super::*;
use crate::name::RefName;
use crate::testing::{ORIGIN, TestRealm, after, main_branch, role, sign_text, vkey};

fn tag() -> RefName {
    RefName::tag("v1").unwrap()
}

#[track_caller]
fn check(what: &str, grow: impl FnOnce(&mut TestRealm), expected: &str) {
    let mut realm = TestRealm::with_main();
    grow(&mut realm);
    let error = realm.audit().map(|audit| audit.edge().size()).expect_err(what).to_string();
    assert!(error.contains(expected), "{what}: {error}");
}

#[test]
fn an_honest_log_is_recomputed_to_its_checkpoint() {
    let mut realm = TestRealm::with_main();
    realm.rotate(&["root-a", "root-b"], |_| {});
    realm.publish(&main_branch(), 2);
    realm.publish(&tag(), 3);
    realm.publish_sealed(&main_branch(), 4);
    realm.publish_sealed(&main_branch(), 5);
    assert_eq!(realm.audit().unwrap().check(&realm.tree()), Err(CheckpointFault::NotAtHeads));
    let expected = realm.audit().unwrap().next_heads(after(100)).unwrap();
    realm.heads(after(100));
    let mut audit = realm.audit().unwrap();
    assert_eq!(realm.leaves().last().unwrap(), expected.to_text().as_bytes());
    assert_eq!(audit.check(&realm.tree()), Ok(()));
    assert_eq!(audit.table().heads(), realm.table().heads());
    assert_eq!(audit.root(), Some(realm.root()));
    let other = Checkpoint { size: 3, ..realm.tree() };
    assert_eq!(audit.check(&other), Err(CheckpointFault::OtherLog));

    let before = (audit.edge().clone(), audit.table().root());
    let fault = audit.push(b"smart-sync/heads/v1\n").unwrap_err();
    assert_eq!(fault.index, realm.size());
    assert_eq!((audit.edge().clone(), audit.table().root()), before, "a fault changed something");
}

#[test]
fn the_first_wrong_leaf_is_named() {
    check("garbage", |realm| realm.push(b"garbage".to_vec()), "leaf 3 of the log: it is no record");
    check("another kind of note", |realm| realm.push(sign_text("x\n", &["log"])), "no record");
    let seq = |seq: u64| {
        move |realm: &mut TestRealm| {
            realm.publish_with(&main_branch(), &["publish-repos"], |publication| publication.seq = seq);
        }
    };
    check(
        "a number again",
        |realm| {
            realm.push(realm.leaves()[1].clone());
        },
        "has the sequence number 1, and 2 is next",
    );
    check("a skipped number", seq(3), "has the sequence number 3, and 2 is next");
    check(
        "another predecessor",
        |realm| {
            realm.publish_with(&main_branch(), &["publish-repos"], |publication| {
                publication.prev = Some(LogHash::empty_root());
            });
        },
        "names another predecessor",
    );
    check(
        "a stranger",
        |realm| {
            realm.publish_with(&main_branch(), &["stranger"], |_| {});
        },
        "keys: 0 of",
    );
    check(
        "the log key",
        |realm| {
            realm.publish_with(&main_branch(), &["log"], |_| {});
        },
        "keys: 0 of",
    );
    check(
        "a tag written twice",
        |realm| {
            realm.publish(&tag(), 1);
            realm.publish(&tag(), 2);
        },
        "leaf 4 of the log: line",
    );
}

#[test]
fn roots_and_heads_are_held_to_what_follows_from_the_log() {
    check(
        "a root that only the new keys signed",
        |realm| {
            realm.rotate(&["new-a"], |root| root.root = role(1, [vkey("new-a")]));
        },
        "of the previous root keys",
    );
    check(
        "a skipped root",
        |realm| {
            realm.rotate(&["root-a", "root-b"], |root| root.version = 3);
        },
        "does not follow",
    );
    check(
        "time that goes back",
        |realm| {
            realm.heads(after(59));
        },
        "goes back",
    );
    check(
        "a forgotten ref",
        |realm| {
            realm.forget(&main_branch());
            realm.heads(after(100));
        },
        "do not name the table",
    );
    check(
        "a ref that did not move",
        |realm| {
            realm.set_head(&main_branch(), |head| head.seq = 2);
            realm.heads(after(100));
        },
        "do not name the table",
    );
    check(
        "another count",
        |realm| {
            realm.heads_with(after(100), |heads| heads.count += 1);
        },
        "do not name the table",
    );
    check(
        "another root",
        |realm| {
            realm.heads_with(after(100), |heads| heads.root.version = 2);
        },
        "do not name the root document",
    );
    check(
        "heads that skip the ones before",
        |realm| {
            realm.heads_with(after(100), |heads| heads.prev = None);
        },
        "names another predecessor",
    );
    check(
        "a slot that goes back",
        |realm| {
            realm.publish_sealed(&main_branch(), 1);
            let leaf = realm.leaves()[3].clone();
            realm.push(leaf);
        },
        "has the sequence number 1, and 2 is next",
    );
}

#[test]
fn a_log_begins_with_its_first_root() {
    let realm = TestRealm::with_main();
    let fresh = || LogAudit::new(ORIGIN.parse().unwrap());
    for leaf in &realm.leaves()[1..] {
        let fault = fresh().push(leaf).unwrap_err();
        assert_eq!(fault.problem, AuditProblem::NoRoot(ORIGIN.parse().unwrap()));
    }
    let mut other = LogAudit::new("other.example.org".parse().unwrap());
    assert!(other.push(&realm.leaves()[0]).is_err());
    assert!(fresh().next_heads(after(0)).is_none());
}
