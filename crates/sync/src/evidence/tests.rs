use super::*;
use crate::name::RefName;
use crate::testing::{PRIVATE_CHANNEL, TestRealm, after, main_branch};
use crate::trust::{Policy, Question, verify};
use proptest::prelude::*;
use std::path::Path;

fn question() -> Question {
    TestRealm::question(&main_branch())
}

/// Evidence of every form.
fn samples() -> Vec<(&'static str, Evidence)> {
    let mut realm = TestRealm::with_main();
    realm.publish(&main_branch(), 2);
    realm.publish_sealed(&main_branch(), 3);
    realm.heads(after(100));
    let full =
        |question: &Question, base| Evidence::Full(Box::new(realm.evidence(question, base, after(100))));
    let absent = TestRealm::question(&RefName::branch("next").unwrap());
    let dated = |time| Question { at: Some(after(time)), ..question() };
    let private =
        |question: &Question| Question { channel: PRIVATE_CHANNEL.parse().unwrap(), ..question.clone() };
    vec![
        ("unchanged", Evidence::Unchanged { checkpoint: realm.checkpoint(after(200)) }),
        ("update", full(&question(), 3)),
        ("absent", full(&absent, 3)),
        ("dated", full(&dated(70), 0)),
        ("before", full(&dated(5), 0)),
        ("sealed", full(&private(&question()), 3)),
        ("sealed-absent", full(&private(&absent), 3)),
    ]
}

#[test]
fn the_bytes_of_evidence_never_change() {
    for (name, evidence) in samples() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/evidence-{name}.bin"));
        let bytes = evidence.encode();
        assert_eq!(bytes, std::fs::read(&path).unwrap_or_default(), "{}", path.display());
        assert_eq!(Evidence::decode(&bytes), Ok(evidence), "{name}");
    }
}

#[test]
fn truncated_and_padded_evidence_is_refused() {
    for (name, evidence) in samples() {
        let bytes = evidence.encode();
        for end in 0..bytes.len() {
            assert!(Evidence::decode(&bytes[..end]).is_err(), "{name}, cut off after {end} bytes");
        }
        assert!(Evidence::decode(&[&bytes[..], b"\0"].concat()).is_err(), "{name}, padded");
    }
    assert!(Evidence::decode(&vec![0; EVIDENCE_BYTES_MAX + 1]).is_err());
    let many_roots = [b"ssev\x01\x01\x00".as_slice(), &[65]].concat();
    assert!(Evidence::decode(&many_roots).unwrap_err().to_string().contains("over the limit of 64"));
}

/// A log of 20,000 leaves with a few refs, one of which moved most of the time.
#[test]
fn an_update_in_a_log_of_20_000_leaves_costs_less_than_3_kib() {
    let mut realm = TestRealm::new();
    for name in ["next", "stable", "release/25.11"] {
        realm.publish(&RefName::branch(name).unwrap(), 1);
    }
    realm.publish(&main_branch(), 1);
    realm.heads(after(10));
    // What lies between does not matter for the size, only how much of it there is.
    while realm.size() < 19_500 {
        realm.push(realm.size().to_be_bytes().to_vec());
    }
    realm.heads(after(20));
    let known = realm.size();
    let state = verify(
        Some(&realm.pinned()),
        &realm.evidence(&question(), 0, after(20)),
        &question(),
        after(20),
        &Policy::default(),
    )
    .unwrap()
    .state;
    while realm.size() < 19_998 {
        realm.push(realm.size().to_be_bytes().to_vec());
    }
    realm.publish(&main_branch(), 2);
    realm.heads(after(30));
    assert_eq!(realm.size(), 20_000);
    let mut evidence = realm.evidence(&question(), known, after(30));
    // The machine knows the root already, and the server knows from the size that it does.
    evidence.roots.clear();
    assert!(verify(Some(&state), &evidence, &question(), after(30), &Policy::default()).is_ok());
    let bytes = Evidence::Full(Box::new(evidence)).encode().len();
    assert!(bytes < 3 * 1024, "{bytes} bytes");
    let short = Evidence::Unchanged { checkpoint: realm.checkpoint(after(40)) }.encode().len();
    assert!(short < 512, "{short} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn evidence_has_one_spelling(which in 0usize..7, at: prop::sample::Index, with: u8) {
        let mut bytes = samples()[which].1.encode();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(evidence) = Evidence::decode(&bytes) {
            prop_assert_eq!(evidence.encode(), bytes);
        }
    }

    /// Whatever is done to a message on its way, it is refused or says the same.
    #[test]
    fn changed_evidence_never_says_anything_else(at: prop::sample::Index, with: u8) {
        let mut realm = TestRealm::with_main();
        realm.publish(&main_branch(), 2);
        realm.heads(after(100));
        let honest = realm.evidence(&question(), 0, after(100));
        let mut bytes = Evidence::Full(Box::new(honest.clone())).encode();
        let at = at.index(bytes.len());
        bytes[at] = with;
        let Ok(Evidence::Full(changed)) = Evidence::decode(&bytes) else { return Ok(()) };
        let decide = |evidence: &FullEvidence| {
            verify(Some(&realm.pinned()), evidence, &question(), after(100), &Policy::default())
        };
        if let Ok(verified) = decide(&changed) {
            let expected = decide(&honest).unwrap();
            prop_assert_eq!(verified.publication, expected.publication);
            prop_assert_eq!(verified.head, expected.head);
            prop_assert_eq!(verified.checkpoint_time, expected.checkpoint_time);
        }
    }
}
