//! What `verify` accepts and what it refuses, one attack at a time.
//!
//! Each case is a realm that misbehaves in one way, shown to a machine that knew the same realm when it behaved. A
//! refused attack leaves nothing to be kept, and the honest evidence is accepted right after it.

mod answers;
mod freshness;
mod log;
mod roots;

use super::*;
use crate::evidence::{Answer, FullEvidence};
use crate::key::{KeyType, Signer};
use crate::log::merkle::SIZE_MAX;
use crate::record::{NoteRecord, Revocation};
use crate::testing::{
    PRIVATE_CHANNEL, TestRealm, after, cosigner, main_branch, role, secret, sign, sign_text, vkey,
};

const DAY: u64 = 86_400;

fn question() -> Question {
    TestRealm::question(&main_branch())
}

fn tag() -> RefName {
    RefName::tag("v1").unwrap()
}

fn accept(state: &TrustState, evidence: &FullEvidence, now: u64) -> Verified {
    accept_for(&question(), state, evidence, now)
}

#[track_caller]
fn accept_for(question: &Question, state: &TrustState, evidence: &FullEvidence, now: u64) -> Verified {
    let verified = verify(Some(state), evidence, question, after(now), &Policy::default()).unwrap();
    assert_eq!(
        verified.state.to_text().parse(),
        Ok(verified.state.clone()),
        "the state comes back from its text"
    );
    verified
}

/// A realm at its beginning, and what a machine knows that has seen it.
fn seen() -> (TestRealm, TrustState) {
    let realm = TestRealm::with_main();
    let state = accept(&realm.pinned(), &realm.evidence(&question(), 0, after(60)), 60).state;
    (realm, state)
}

/// A realm that grows by two publications after it was seen; `change` does the growing.
fn grown(change: impl FnOnce(&mut TestRealm)) -> (TestRealm, TrustState) {
    let (mut realm, state) = seen();
    change(&mut realm);
    (realm, state)
}

/// The evidence is refused for a reason that `expected` is part of, and the state accepts what is honest.
#[track_caller]
fn check(what: &str, state: &TrustState, evidence: &FullEvidence, now: u64, expected: &str) -> Refusal {
    check_for(what, &question(), state, evidence, now, expected)
}

#[track_caller]
fn check_for(
    what: &str,
    question: &Question,
    state: &TrustState,
    evidence: &FullEvidence,
    now: u64,
    expected: &str,
) -> Refusal {
    let before = state.to_text();
    let Err(refusal) = verify(Some(state), evidence, question, after(now), &Policy::default()) else {
        panic!("{what} was accepted")
    };
    assert!(refusal.to_string().contains(expected), "{what}: {refusal}");
    assert!(!refusal.hint().is_empty());
    assert_eq!(state.to_text(), before, "{what} moved the trust state");
    refusal
}

#[test]
fn an_honest_realm_is_followed() {
    let (mut realm, state) = seen();
    assert_eq!(state.size(), 3);
    assert_eq!(state.reference(&question().channel, &main_branch()).unwrap().seq, 1);

    let again = accept(&state, &realm.evidence(&question(), state.size(), after(90)), 90);
    assert!(!again.is_news());
    assert_eq!(again.state.time_floor(), Some(after(90)));

    realm.publish(&main_branch(), 2);
    realm.publish(&tag(), 3);
    realm.heads(after(100));
    let news = accept(&again.state, &realm.evidence(&question(), 3, after(100)), 100);
    assert!(news.is_news());
    assert_eq!((news.head.seq, news.head.index, news.size), (2, 3, 6));
    let tagged = TestRealm::question(&tag());
    let tagged = accept_for(&tagged, &news.state, &realm.evidence(&tagged, 6, after(100)), 100);
    assert_eq!(tagged.head.seq, 1);
    assert_eq!(tagged.state.references().count(), 2);
}

#[test]
fn without_a_pin_nothing_is_believed() {
    let realm = TestRealm::with_main();
    let evidence = realm.evidence(&question(), 0, after(60));
    let refusal = verify(None, &evidence, &question(), after(60), &Policy::default()).unwrap_err();
    assert_eq!(refusal, Refusal::NoPin);
    assert!(refusal.hint().contains("smart-sync trust add"));
    let other = TrustState::pinned(realm.pinned().origin().clone(), LogHash::empty_root());
    check("another pin", &other, &evidence, 60, "that is pinned was not sent");
    let origin = "other.example.org".parse().unwrap();
    let other = TrustState::pinned(origin, realm.pinned().pin().unwrap());
    check("another origin", &other, &evidence, 60, "not of other.example.org");
}

fn withdraw(realm: &mut TestRealm, reference: &RefName) {
    realm.publish_with(reference, &["publish-repos"], |publication| {
        publication.manifest = None;
        publication.git = None;
        publication.content = crate::record::ContentSummary::default();
    });
}

#[test]
fn a_state_that_was_kept_can_be_read_for_ever() {
    let golden = include_str!("../../../tests/golden/trust-state.txt");
    let (_, state) = seen();
    assert_eq!(state.to_text(), golden);
    assert_eq!(golden.parse(), Ok(state));
}

#[test]
fn a_torn_or_edited_state_is_never_taken_for_an_empty_one() {
    let (realm, state) = seen();
    let text = state.to_text();
    assert_eq!(text.parse(), Ok(state));
    assert_eq!(realm.pinned().to_text().parse(), Ok(realm.pinned()));
    for end in 0..text.len() {
        assert!(text[..end].parse::<TrustState>().is_err(), "cut off after {end} bytes");
    }
    for (from, to) in [
        ("trust/v1", "trust/v2"),
        ("\nref ", "\nRef "),
        (" 1 1 sha256", " 01 1 sha256"),
        ("end\n", "end\nend\n"),
        ("origin ", "origin  "),
        ("branch", "twig"),
        ("blake3:", ""),
        ("root ", "root A"),
    ] {
        assert!(text.replacen(from, to, 1).parse::<TrustState>().is_err(), "{from:?} to {to:?}");
    }
}

#[test]
fn an_unchanged_log_needs_only_its_new_checkpoint() {
    let (realm, state) = seen();
    let kept = realm.evidence(&question(), 0, after(60));
    let short = crate::evidence::Evidence::Unchanged { checkpoint: realm.checkpoint(after(500)) };
    assert!(short.clone().complete(None).is_none());
    let verified = accept(&state, &short.complete(Some(&kept)).unwrap(), 500);
    assert_eq!(verified.state.time_floor(), Some(after(500)));
    assert!(!verified.is_news());
    assert!(Root::parse(&realm.root().record().to_text()).is_ok());
}
