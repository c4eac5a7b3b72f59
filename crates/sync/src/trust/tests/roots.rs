//! Root documents: the walk, expiry, withholding, retired keys.

use super::*;

#[test]
fn roots_are_walked_one_version_at_a_time() {
    let two = &["root-a", "root-b"];
    let new_keys = |root: &mut Root| root.root = role(2, ["new-a", "new-b"].map(vkey));
    let rotated = |signers: &[&str], change: fn(&mut Root)| {
        grown(|realm| {
            realm.rotate(signers, change);
            realm.heads(after(100));
        })
    };
    let evidence = |realm: &TestRealm| realm.evidence(&question(), 3, after(100));
    let (realm, state) = rotated(two, |_| {});
    assert_eq!(accept(&state, &evidence(&realm), 100).state.root().unwrap().record().version, 2);
    assert_eq!(
        accept(&realm.pinned(), &realm.evidence(&question(), 0, after(100)), 100).root.record().version,
        2
    );

    let (realm, state) = rotated(two, |root| root.version = 3);
    check("a skipped version", &state, &evidence(&realm), 100, "does not follow version 1");
    let (realm, state) = rotated(two, |root| root.prev = Some(LogHash::empty_root()));
    check("another prev", &state, &evidence(&realm), 100, "made for another version");
    let (realm, state) = rotated(two, |root| root.origin = "evil.example.org".parse().unwrap());
    check("another origin", &state, &evidence(&realm), 100, "is of evil.example.org");
    let (mut realm, state) = seen();
    realm.rotate(&["new-a", "new-b"], new_keys);
    realm.heads(after(100));
    check("the new keys only", &state, &evidence(&realm), 100, "of the previous root keys");

    // A root that only the old keys signed is not even one that our test realm makes.
    let (realm, state) = seen();
    let mut next = Root { version: 2, prev: Some(realm.root().leaf()), ..realm.root().record().clone() };
    new_keys(&mut next);
    let mut offered = realm.evidence(&question(), 3, after(90));
    offered.roots.push(sign(&next, two));
    check("the old keys only", &state, &offered, 90, "of the root keys");
    let same_version = Root { max_age_seconds: 1, ..realm.root().record().clone() };
    offered.roots = vec![sign(&same_version, two)];
    check("the same version, other bytes", &state, &offered, 90, "does not follow version 1");
    offered.roots = vec![realm.leaves()[1].clone()];
    check("a publication as root", &state, &offered, 90, "smart-sync/root/v1 was expected");
    offered.roots = vec![sign_text("smart-sync/root/v2\n", two)];
    check("the next version of the format", &state, &offered, 90, "a newer smart-sync is needed");
    offered.roots = vec![realm.leaves()[0].clone(); 65];
    check("an endless chain", &state, &offered, 90, "over the limit of 64");
}

#[test]
fn only_the_last_root_is_judged_by_the_time() {
    let two = &["root-a", "root-b"];
    let mut realm = TestRealm::with_main();
    realm.rotate(two, |root| root.expires = after(200));
    realm.rotate(two, |_| {});
    realm.heads(after(1000));
    accept(&realm.pinned(), &realm.evidence(&question(), 0, after(1000)), 1000);

    let mut realm = TestRealm::with_main();
    realm.rotate(two, |root| root.expires = after(200));
    realm.heads(after(150));
    let evidence = realm.evidence(&question(), 0, after(200));
    accept(&realm.pinned(), &evidence, 200);
    let refusal = check("an expired root", &realm.pinned(), &evidence, 201, "expired at");
    assert_eq!(refusal.exit_code(), 7);
}

#[test]
fn a_withheld_root_is_noticed() {
    let (realm, state) = grown(|realm| {
        realm.rotate(&["root-a", "root-b"], |_| {});
        realm.heads(after(100));
    });
    let mut evidence = realm.evidence(&question(), 3, after(100));
    evidence.roots.pop();
    check("a withheld root", &state, &evidence, 100, "version 1 is the last one sent");
    check("a withheld root, to a new machine", &realm.pinned(), &evidence, 100, "is withheld");

    let (realm, state) = grown(|realm| {
        realm.heads_with(after(100), |heads| heads.root.leaf = LogHash::empty_root());
    });
    check(
        "heads of another root",
        &state,
        &realm.evidence(&question(), 3, after(100)),
        100,
        "another root document",
    );
}

#[test]
fn retired_keys_count_up_to_their_cutoff() {
    let retired = |after_index: u64, with_new_key: bool| {
        let mut realm = TestRealm::with_main();
        realm.rotate(&["root-a", "root-b"], |root| {
            root.publish[1].role = role(1, ["publish-repos", "publish-new"].map(vkey));
            root.revoked = vec![Revocation { key: vkey("publish-repos"), after: after_index }];
        });
        let signer = if with_new_key { "publish-new" } else { "publish-repos" };
        realm.publish_with(&RefName::branch("next").unwrap(), &[signer], |_| {});
        realm.heads(after(100));
        realm
    };
    let next = TestRealm::question(&RefName::branch("next").unwrap());
    let ask = |realm: &TestRealm, question: &Question| realm.evidence(question, 0, after(100));
    let realm = retired(2, false);
    accept(&realm.pinned(), &ask(&realm, &question()), 100);
    check_for(
        "after the cutoff",
        &next,
        &realm.pinned(),
        &ask(&realm, &next),
        100,
        "was revoked after leaf 2",
    );
    let realm = retired(2, true);
    accept_for(&next, &realm.pinned(), &ask(&realm, &next), 100);
    let realm = retired(0, true);
    check(
        "before it was published",
        &realm.pinned(),
        &ask(&realm, &question()),
        100,
        "was revoked after leaf 0",
    );

    // Without the key in the root there is no trust in what it signed, however old.
    let mut realm = TestRealm::with_main();
    realm.rotate(&["root-a", "root-b"], |root| root.publish[1].role = role(1, [vkey("publish-new")]));
    realm.heads(after(100));
    check("a removed key", &realm.pinned(), &ask(&realm, &question()), 100, "keys: 0 of");
}
