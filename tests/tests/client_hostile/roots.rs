//! Root documents that do not lead to where they should.

use crate::scene::{Scene, TWO, encode};
use smart_sync_sync::evidence::FullEvidence;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::record::Root;
use smart_sync_sync::testing::{main_branch, role, sign, sign_text, vkey};
use smart_sync_tests::hostile::{at, lasting, publish, question};

#[test]
fn roots_that_do_not_follow_are_refused() {
    let scene = Scene::new();
    let rotated = |signers: &[&str], change: &dyn Fn(&mut Root)| {
        scene.grow(|realm| {
            realm.rotate(signers, |root| {
                lasting(root);
                change(root);
            });
            publish(realm, &main_branch(), &scene.new);
            realm.heads(at(150));
        })
    };
    let with_roots = |roots: Vec<Vec<u8>>| {
        encode(FullEvidence { roots, ..scene.realm.evidence(&question(), scene.base(), at(200)) })
    };
    let first = scene.realm.root().record();
    let mut next = Root { version: 2, prev: Some(scene.realm.root().leaf()), ..first.clone() };
    next.root = role(2, ["new-a", "new-b"].map(vkey));
    let same_version = Root { max_age_seconds: 1, ..first.clone() };
    let withheld = {
        let mut realm = scene.realm.clone();
        realm.rotate(TWO, lasting);
        publish(&mut realm, &main_branch(), &scene.new);
        realm.heads(at(150));
        let mut full = realm.evidence(&question(), scene.base(), at(200));
        full.roots.pop();
        encode(full)
    };
    let endless = with_roots(vec![scene.realm.leaves()[0].clone(); 65]);
    let said = scene.play(vec![
        ("a root that skips a version", rotated(TWO, &|root| root.version = 3)),
        (
            "a root signed by the old keys only",
            with_roots(vec![scene.realm.leaves()[0].clone(), sign(&next, TWO)]),
        ),
        (
            "a root signed by the new keys only",
            rotated(&["new-a", "new-b"], &|root| root.root = role(2, ["new-a", "new-b"].map(vkey))),
        ),
        ("the same version with other bytes", with_roots(vec![sign(&same_version, TWO)])),
        ("a root after another one", rotated(TWO, &|root| root.prev = Some(LogHash::empty_root()))),
        (
            "a root of another realm",
            rotated(TWO, &|root| root.origin = "evil.example.org".parse().expect("a name")),
        ),
        ("a root that has expired", rotated(TWO, &|root| root.expires = at(300))),
        ("a publication in the place of a root", with_roots(vec![scene.realm.leaves()[1].clone()])),
        ("a root of another format", with_roots(vec![sign_text("smart-sync/root/v2\n", TWO)])),
        ("the newest root withheld", withheld),
    ]);
    insta::assert_snapshot!(said, @r#"
    a root that skips a version: exit 7
        the root document after version 1 is not acceptable: root version 3 does not follow version 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a root signed by the old keys only: exit 7
        the root document after version 1 is not acceptable: too few signatures of the root keys: 0 of 2
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a root signed by the new keys only: exit 7
        the root document after version 1 is not acceptable: too few signatures of the previous root keys: 0 of 2
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    the same version with other bytes: exit 7
        the root document after version 1 is not acceptable: root version 1 does not follow version 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a root after another one: exit 7
        the root document after version 1 is not acceptable: root version 2 was made for another version 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a root of another realm: exit 7
        the root document after version 1 is not acceptable: the root is of evil.example.org, not of lab.example.org
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a root that has expired: exit 7
        the root document of lab.example.org (version 2) expired at 2020-09-13T12:31:40Z
        hint: the realm's owner has to sign a new root document (`smart-sync root edit`); if it did, check this machine's time with `date`
    a publication in the place of a root: exit 7
        the root document after version 1 is not acceptable: a record of the kind smart-sync/root/v1 was expected, and this is "smart-sync/pub/v1"
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a root of another format: exit 7
        the root document after version 1 is not acceptable: this is "smart-sync/root/v2", and only smart-sync/root/v1 is known here: a newer smart-sync is needed
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    the newest root withheld: exit 7
        a root document is withheld: the log is at version 2, and version 1 is the last one sent
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
"#);
    scene.serve(endless);
    insta::assert_snapshot!(scene.host.refuses("an endless chain of roots", 5), @r"
    an endless chain of roots: exit 5
        SERVER1 does not answer as a smart-sync server does
        because: number of roots is 65, over the limit of 64
        hint: check the address: something else, such as a proxy, may answer in the server's place
");
}

#[test]
fn an_expired_root_in_the_middle_is_only_a_step() {
    let scene = Scene::new();
    let evidence = scene.grow(|realm| {
        realm.rotate(TWO, |root| root.expires = at(300));
        realm.rotate(TWO, lasting);
        publish(realm, &main_branch(), &scene.new);
        realm.heads(at(150));
    });
    scene.serve(evidence);
    scene.host.sync().success();
}
