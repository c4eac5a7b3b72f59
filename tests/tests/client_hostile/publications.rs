//! Publications of others, of something else, or a second time.

use crate::scene::{Scene, TWO, encode, publish_as};
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::{Channel, RefName};
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{Publication, Revocation};
use smart_sync_sync::testing::{TestRealm, alias, main_branch, role, vkey};
use smart_sync_sync::trust::Question;
use smart_sync_tests::hostile::{Reply, World, at, lasting, publish, question};

#[test]
fn publications_of_others_and_of_something_else_are_refused() {
    let scene = Scene::new();
    let by = |signer: &str, change: &dyn Fn(&mut Publication)| {
        scene.grow(|realm| {
            publish_as(realm, &scene.new, &[signer], change);
            realm.heads(at(150));
        })
    };
    let labelled = |change: &dyn Fn(&mut Publication)| {
        scene.grow(|realm| {
            let index = publish_as(realm, &scene.new, &["publish-repos"], change);
            let leaf = LogHash::of_leaf(&realm.leaves()[3]);
            realm.set_head(&main_branch(), |head| (head.seq, head.index, head.leaf) = (2, index, leaf));
            realm.heads(at(150));
        })
    };
    let revoked = scene.grow(|realm| {
        realm.rotate(TWO, |root| {
            lasting(root);
            root.publish[1].role = role(1, ["publish-repos", "publish-new"].map(vkey));
            root.revoked = vec![Revocation { key: vkey("publish-repos"), after: 2 }];
        });
        publish(realm, &main_branch(), &scene.new);
        realm.heads(at(150));
    });
    let two_needed = |signers: &[&str]| {
        scene.grow(|realm| {
            realm.rotate(TWO, |root| {
                lasting(root);
                root.publish[1].role = role(2, ["publish-repos", "publish-new"].map(vkey));
            });
            publish_as(realm, &scene.new, signers, |_| {});
            realm.heads(at(150));
        })
    };
    let said = scene.play(vec![
        ("signed by a stranger", by("stranger", &|_| {})),
        ("signed by the log", by("log", &|_| {})),
        ("signed by a root key", by("root-a", &|_| {})),
        ("signed by the publisher of another channel", by("publish-kernels", &|_| {})),
        ("signed by one of two", two_needed(&["publish-repos"])),
        ("signed by a revoked key", revoked),
        (
            "of another realm",
            by("publish-repos", &|publication| {
                publication.origin = "other.example.org".parse().expect("a name");
            }),
        ),
        (
            "of another channel",
            labelled(&|publication| publication.channel = "repos/other".parse().expect("a name")),
        ),
        (
            "of another ref",
            labelled(&|publication| publication.reference = RefName::branch("next").expect("a name")),
        ),
    ]);
    insta::assert_snapshot!(said, @r"
    signed by a stranger: exit 7
        the publication is not valid: too few signatures of the publish keys: 0 of 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    signed by the log: exit 7
        the publication is not valid: too few signatures of the publish keys: 0 of 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    signed by a root key: exit 7
        the publication is not valid: too few signatures of the publish keys: 0 of 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    signed by the publisher of another channel: exit 7
        the publication is not valid: too few signatures of the publish keys: 0 of 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    signed by one of two: exit 7
        the publication is not valid: too few signatures of the publish keys: 1 of 2
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    signed by a revoked key: exit 7
        the publication is not valid: the key publish-repos was revoked after leaf 2, and this is leaf 4
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    of another realm: exit 7
        the publication is not valid: the publication is of other.example.org, not of lab.example.org
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    of another channel: exit 7
        the publication is not valid: the publication is for the channel repos/other, not for repos/nixos
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    of another ref: exit 7
        the publication is of branch:next, and branch:main was asked for
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
");
}

#[test]
fn a_publisher_under_two_names_is_one() {
    let scene = Scene::new();
    // The note that the publisher of two signs, with a second signature by the same key.
    let signed_twice = scene.grow(|realm| {
        realm.rotate(TWO, |root| {
            lasting(root);
            root.publish[1].role = role(2, ["publish-repos", "publish-new"].map(vkey));
        });
        let mut next = realm.clone();
        let index = publish(&mut next, &main_branch(), &scene.new);
        let note = next.leaves().last().expect("a publication");
        let mut note = Note::parse(note).expect("an honest note");
        note.sign(&alias("publish-alias", "publish-repos")).expect("a key in memory always signs");
        note.sort_signatures();
        let leaf = note.to_bytes();
        realm.push(leaf.clone());
        let leaf = LogHash::of_leaf(&leaf);
        realm.set_head(&main_branch(), |head| (head.seq, head.index, head.leaf) = (2, index, leaf));
        realm.heads(at(150));
    });
    let said = scene.play(vec![("signed by one of two under two names", signed_twice)]);
    insta::assert_snapshot!(said, @r"
    signed by one of two under two names: exit 7
        the publication is not valid: too few signatures of the publish keys: 1 of 2
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
");
}

/// Whoever may publish to `repos/*` may not publish to what only begins so.
#[test]
fn a_channel_whose_name_begins_as_another_belongs_to_nobody() {
    let scene = Scene::new();
    let mut said = String::new();
    for (channel, signer) in [
        ("repos-evil/nixos", "publish-repos"),
        ("reposnixos", "publish-repos"),
        ("repos", "publish-repos"),
        ("evil/repos/nixos", "publish-repos"),
        ("kernels/amd64-evil", "publish-kernels"),
        ("kernels/amd64/evil", "publish-kernels"),
    ] {
        let mut realm = scene.realm.clone();
        let channel: Channel = channel.parse().expect("a name");
        publish_as(&mut realm, &scene.new, &[signer], |publication| {
            (publication.seq, publication.prev) = (1, None);
            publication.channel = channel.clone();
        });
        realm.heads(at(150));
        let asked = Question { channel: channel.clone(), ..question() };
        scene.serve(encode(realm.evidence(&asked, scene.base(), at(200))));
        let before = scene.host.kept();
        let target = scene.host.target();
        let target = target.to_str().expect("paths of the tests are text");
        let finished = scene.host.run(&["--target", target, "--channel", channel.as_str()]).expect_code(7);
        assert_eq!(scene.host.kept(), before, "{channel} changed something");
        said.push_str(&scene.host.said(channel.as_str(), &finished));
    }
    insta::assert_snapshot!(said, @r"
    repos-evil/nixos: exit 7
        the publication is not valid: no key may publish to the channel repos-evil/nixos
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    reposnixos: exit 7
        the publication is not valid: no key may publish to the channel reposnixos
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    repos: exit 7
        the publication is not valid: no key may publish to the channel repos
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    evil/repos/nixos: exit 7
        the publication is not valid: no key may publish to the channel evil/repos/nixos
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    kernels/amd64-evil: exit 7
        the publication is not valid: no key may publish to the channel kernels/amd64-evil
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    kernels/amd64/evil: exit 7
        the publication is not valid: no key may publish to the channel kernels/amd64/evil
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
");
}

#[test]
fn a_revoked_key_counts_before_its_cutoff() {
    let scene = Scene::new();
    let evidence = scene.grow(|realm| {
        publish(realm, &main_branch(), &scene.new);
        realm.rotate(TWO, |root| {
            lasting(root);
            root.publish[1].role = role(1, ["publish-repos", "publish-new"].map(vkey));
            root.revoked = vec![Revocation { key: vkey("publish-repos"), after: 3 }];
        });
        realm.heads(at(150));
    });
    scene.serve(evidence);
    scene.host.sync().success();
}

#[test]
fn a_tag_is_written_once() {
    let scene = Scene::new();
    let tag = RefName::tag("v1").expect("a name");
    let asked = Question { reference: tag.clone(), ..question() };
    let answer = |realm: &TestRealm, base: u64, time: u64| encode(realm.evidence(&asked, base, at(time)));
    let serve = |evidence: Vec<u8>| {
        let world = World::new(evidence.clone(), &[&scene.old, &scene.new]);
        scene.server.set(move |request| {
            if request.path.ends_with("/tag~3av1") {
                Reply::Ok(evidence.clone())
            } else {
                world.answer(request)
            }
        });
    };
    let mut realm = scene.realm.clone();
    publish(&mut realm, &tag, &scene.old);
    realm.heads(at(150));
    serve(answer(&realm, 3, 200));
    scene.host.sync_with(&["--ref", "tag:v1"]).success();
    publish(&mut realm, &tag, &scene.new);
    realm.heads(at(250));
    serve(answer(&realm, 5, 300));
    let before = scene.host.kept();
    let finished = scene.host.sync_with(&["--ref", "tag:v1"]).expect_code(7);
    assert_eq!(scene.host.kept(), before);
    insta::assert_snapshot!(scene.host.said("a tag written twice", &finished), @r"
    a tag written twice: exit 7
        the publication is not valid: line 13 of smart-sync/pub/v1: a tag is written once; after that it can only be withdrawn
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
");
}
