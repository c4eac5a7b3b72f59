//! Checkpoints that nobody, too few or nobody of today stands for, and forks.

use crate::scene::{Scene, TWO, encode, publish_as};
use smart_sync_sync::evidence::{Evidence, FullEvidence};
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::note::Note;
use smart_sync_sync::testing::{TestRealm, alias, cosigner, main_branch, role, secret};
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::trust::TrustState;
use smart_sync_tests::hostile::{Host, at, evidence, lasting, publish, question};

#[test]
fn checkpoints_without_a_quorum_or_out_of_time_are_refused() {
    let scene = Scene::new();
    let guarded = {
        let mut realm = scene.realm.clone();
        realm.rotate(TWO, |root| {
            lasting(root);
            root.clock = role(2, ["clock", "clock-b"].map(cosigner));
            root.witness = Some(role(2, ["witness-a", "witness-b"].map(cosigner)));
        });
        publish(&mut realm, &main_branch(), &scene.new);
        realm.heads(at(150));
        realm
    };
    let signed = |realm: &TestRealm, signers: &[&str], cosigners: &[(&str, UnixTime)]| {
        let checkpoint = TestRealm::sign_checkpoint(&realm.tree(), signers, cosigners);
        encode(FullEvidence { checkpoint, ..realm.evidence(&question(), scene.base(), at(200)) })
    };
    let plain = scene.updated();
    let [clock, clock_b] = ["clock", "clock-b"].map(|name| (name, at(200)));
    let [one, other] = ["witness-a", "witness-b"].map(|name| (name, at(200)));
    // A witness that cosigns once more, as itself or under another name.
    let cosigned_again = |again: &SecretKey| {
        let cosigners = [clock, clock_b, one];
        let mut checkpoint = TestRealm::sign_checkpoint(&guarded.tree(), &["log"], &cosigners);
        let mut note = Note::new(guarded.tree().to_text()).expect("a checkpoint is plain text");
        note.cosign(again, at(201)).expect("a key in memory always signs");
        let line = note.to_bytes();
        checkpoint.extend_from_slice(&line[note.text().len() + 1..]);
        encode(FullEvidence { checkpoint, ..guarded.evidence(&question(), scene.base(), at(200)) })
    };
    let garbled = scene.change(|_, full| full.checkpoint[0] ^= 1);
    let said = scene.play(vec![
        ("no signature of the log", signed(&plain, &["stranger"], &[clock])),
        ("the clock's signature as the log's", signed(&plain, &["clock"], &[clock])),
        ("no cosignature", signed(&plain, &["log"], &[])),
        ("the log's cosignature as the clock's", signed(&plain, &["log"], &[("log", at(200))])),
        ("a clock short", signed(&guarded, &["log"], &[clock, one, other])),
        ("a witness short", signed(&guarded, &["log"], &[clock, clock_b, one])),
        ("one witness under two names", cosigned_again(&alias("witness-b", "witness-a"))),
        ("one witness under a name that is not listed", cosigned_again(&alias("witness-c", "witness-a"))),
        ("one witness twice", cosigned_again(&secret("witness-a"))),
        ("one bit changed", garbled),
        ("a cosignature from the future", signed(&plain, &["log"], &[("clock", at(30_000_000_000))])),
        ("a cosignature before the last one", signed(&plain, &["log"], &[("clock", at(99))])),
    ]);
    insta::assert_snapshot!(said, @r"
    no signature of the log: exit 7
        the checkpoint has too few signatures of the log keys: 0 of 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    the clock's signature as the log's: exit 7
        the checkpoint has too few signatures of the log keys: 0 of 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    no cosignature: exit 7
        the checkpoint has too few signatures of the clock keys: 0 of 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    the log's cosignature as the clock's: exit 7
        the checkpoint has too few signatures of the clock keys: 0 of 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a clock short: exit 7
        the checkpoint has too few signatures of the clock keys: 1 of 2
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a witness short: exit 7
        the checkpoint has too few signatures of the witness keys: 1 of 2
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    one witness under two names: exit 7
        the checkpoint has too few signatures of the witness keys: 1 of 2
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    one witness under a name that is not listed: exit 7
        the checkpoint has too few signatures of the witness keys: 1 of 2
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    one witness twice: exit 7
        the checkpoint: the note has two signatures of the key witness-a
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    one bit changed: exit 7
        the checkpoint: the signature of log is wrong: the note was changed, or another key signed it
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    a cosignature from the future: exit 7
        the checkpoint is from 2971-05-13T17:46:40Z, and this machine's time is NOW
        hint: check this machine's time with `date`, set it, and try again
    a cosignature before the last one: exit 7
        the server is behind: it offers one from 2020-09-13T12:28:19Z, and a checkpoint from 2020-09-13T12:28:20Z was seen before
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
");
}

#[test]
fn a_stale_clock_is_refused_however_right_the_rest_is() {
    let scene = Scene::new();
    scene.host.configure("max-age = \"14d\"", "");
    let update = evidence(&scene.updated(), scene.base(), at(200));
    scene.serve(update.clone());
    let said = scene.host.refuses("an old proof", 7);
    let age = said.split_once("checkpoint is ").and_then(|(_, rest)| rest.split(' ').next()).expect("an age");
    insta::assert_snapshot!(said.replace(age, "AGE"), @r"
    an old proof: exit 7
        the checkpoint is AGE seconds old, and 1209600 are allowed: updates may be hidden
        hint: try another mirror with `--server`; for a copy that is meant to be old, such as a disk that was carried here, type `--max-age 30d` or set `max-age` for its realm in the configuration
");
    scene.host.configure("max-age = \"40000d\"", "");
    scene.host.sync().success();
}

/// A battery is empty, and the clock begins anew: what was verified before is the least that the time can be.
#[test]
fn a_machine_that_takes_it_to_be_1970_believes_nothing_from_later() {
    let mut scene = Scene::new();
    let mut new = Host::new(&scene.server);
    if !new.set_clock("1970-01-01 00:10:00") || !scene.host.set_clock("1970-01-01 00:10:00") {
        return;
    }
    scene.serve(evidence(&scene.updated(), 0, at(200)));
    let mut said = new.refuses("a first sync", 7);
    let month = 30 * 86_400;
    let late = |time: u64| evidence(&scene.updated(), scene.base(), at(time));
    scene.serve(late(month));
    said.push_str(&scene.host.refuses("an update from a month after what was seen", 7));
    insta::assert_snapshot!(said, @r"
    a first sync: exit 7
        the checkpoint is from 2020-09-13T12:30:00Z, and this machine's time is NOW
        hint: check this machine's time with `date`, set it, and try again
    an update from a month after what was seen: exit 7
        the checkpoint is from 2020-10-13T12:26:40Z, and this machine's time is NOW
        hint: check this machine's time with `date`, set it, and try again
");
    // The clock of the realm may be a little ahead of the newest time that is known.
    scene.serve(late(200));
    scene.host.sync().success();
    let text = std::fs::read_to_string(scene.host.target().join("a")).expect("the target has its file");
    assert_eq!(text, "new\n");
}

#[test]
fn a_fork_is_proven_kept_and_believed_by_nobody() {
    let scene = Scene::new();
    let mut other = TestRealm::with_root(lasting);
    publish(&mut other, &main_branch(), &scene.new);
    other.heads(at(60));
    scene.serve(evidence(&other, 3, at(200)));
    let before = scene.host.kept();
    let finished = scene.host.sync().expect_code(7);
    insta::assert_snapshot!(scene.host.said("the same size and another history", &finished), @r"
    the same size and another history: exit 7
        [smart-sync] warning: both checkpoints are kept in ROOT/state/trust/lab.example.org/fork-1.notes
        FORK: the log has shown two different histories of 3 leaves, both properly signed
        hint: tell the realm's owner: type `smart-sync trust show` for both signed checkpoints; only when the cause is known type `smart-sync trust reset ORIGIN`
");
    assert!(scene.host.kept().has_same_target(&before));
    let proof = scene.host.environment().state_directory().join("trust/lab.example.org/fork-1.notes");
    let proof = std::fs::read_to_string(proof).expect("both checkpoints are kept");
    for realm in [&scene.realm, &other] {
        assert!(proof.contains(realm.tree().to_text().trim_end()), "{proof}");
    }
    // From now on nothing of the realm is believed, however honest it is.
    scene.serve(evidence(&scene.updated(), scene.base(), at(200)));
    insta::assert_snapshot!(scene.host.refuses("an honest answer after a fork", 7), @r"
    an honest answer after a fork: exit 7
        lab.example.org has shown two histories, and nothing of it is accepted
        hint: tell the realm's owner: type `smart-sync trust show` for both signed checkpoints; only when the cause is known type `smart-sync trust reset ORIGIN`
");
}

#[test]
fn a_new_machine_refuses_the_same() {
    let scene = Scene::new();
    let host = Host::new(&scene.server);
    let other_pin = Host::trusting(
        &TrustState::pinned(scene.realm.pinned().origin().clone(), LogHash::empty_root()),
        &scene.server,
    );
    scene.serve(evidence(&scene.updated(), 0, at(200)));
    let mut said = other_pin.refuses("another root than the one that is pinned", 7);
    let mut realm = TestRealm::with_root(lasting);
    publish_as(&mut realm, &scene.new, &["stranger"], |_| {});
    realm.heads(at(60));
    scene.serve(evidence(&realm, 0, at(200)));
    said.push_str(&host.refuses("a stranger's publication", 7));
    insta::assert_snapshot!(said, @r"
    another root than the one that is pinned: exit 7
        the root document sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 that is pinned was not sent
        hint: check the URL and the hash; if the realm began anew, type `smart-sync trust reset ORIGIN` and add it again
    a stranger's publication: exit 7
        the publication is not valid: too few signatures of the publish keys: 0 of 1
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
");
    scene.serve(evidence(&scene.updated(), 0, at(200)));
    host.sync().success();
}

/// When nothing is new, a server may send the checkpoint alone: the rest is what the host has kept.
#[test]
fn a_checkpoint_alone_says_nothing_new() {
    let scene = Scene::new();
    let alone = |realm: &TestRealm, time: u64| {
        Evidence::Unchanged { checkpoint: realm.checkpoint(at(time)) }.encode()
    };
    scene.serve(alone(&scene.realm, 150));
    scene.host.sync().success();
    let said = scene.play(vec![
        ("that of a larger log", alone(&scene.updated(), 200)),
        ("that of an earlier time", alone(&scene.realm, 149)),
    ]);
    insta::assert_snapshot!(said, @r"
    that of a larger log: exit 7
        the evidence does not prove what it claims: it continues a log of 0 leaves, not the known one of 3
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
    that of an earlier time: exit 7
        the server is behind: it offers one from 2020-09-13T12:29:09Z, and a checkpoint from 2020-09-13T12:29:10Z was seen before
        hint: nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists
");
    scene.serve(alone(&scene.realm, 300));
    let host = Host::new(&scene.server);
    insta::assert_snapshot!(host.refuses("to a machine that has kept nothing", 5), @r"
    to a machine that has kept nothing: exit 5
        SERVER1 says that nothing changed, without having been told what is known
        hint: try another mirror with --server
");
}
