//! Checkpoints: who stands for them, and when.

use super::*;

#[test]
fn checkpoints_need_their_quorum() {
    let (realm, state) = seen();
    let with = |signers: &[&str], cosigners: &[(&str, u64)]| {
        let cosigners: Vec<_> = cosigners.iter().map(|(name, time)| (*name, after(*time))).collect();
        let checkpoint = TestRealm::sign_checkpoint(&realm.tree(), signers, &cosigners);
        FullEvidence { checkpoint, ..realm.evidence(&question(), 3, after(90)) }
    };
    accept(&state, &with(&["log"], &[("clock", 90)]), 90);
    check("no log", &state, &with(&["stranger"], &[("clock", 90)]), 90, "of the log keys");
    check("no clock", &state, &with(&["log"], &[("stranger", 90)]), 90, "of the clock keys");
    check("the clock as log", &state, &with(&["clock"], &[("clock", 90)]), 90, "of the log keys");
    check("the log as clock", &state, &with(&["log"], &[("log", 90)]), 90, "of the clock keys");

    // The log's signature, labelled as the clock's.
    let mut note = crate::note::Note::new(realm.tree().to_text()).unwrap();
    note.sign(&secret("log")).unwrap();
    note.sign(&secret("clock")).unwrap();
    let clock = secret("clock");
    let (signing, cosigning) =
        (clock.verifier_key(KeyType::Ed25519), clock.verifier_key(KeyType::Cosignature));
    let relabel = |text: &str| {
        use base64::Engine;
        let encode =
            |hash: [u8; 4], rest: &[u8]| base64::prelude::BASE64_STANDARD.encode([&hash, rest].concat());
        let signature = clock.sign(realm.tree().to_text().as_bytes()).unwrap();
        let stamped = [after(90).seconds().to_be_bytes().as_slice(), signature.as_bytes()].concat();
        text.replace(&encode(signing.hash().0, signature.as_bytes()), &encode(cosigning.hash().0, &stamped))
    };
    let checkpoint = relabel(str::from_utf8(&note.to_bytes()).unwrap()).into_bytes();
    let forged = FullEvidence { checkpoint, ..realm.evidence(&question(), 3, after(90)) };
    check("a log signature as a cosignature", &state, &forged, 90, "the signature of clock is wrong");
    let mut garbled = realm.evidence(&question(), 3, after(90));
    garbled.checkpoint[0] ^= 1;
    check("a changed checkpoint", &state, &garbled, 90, "the signature of");
}

#[test]
fn witnesses_and_several_clocks_count_by_key() {
    let mut realm = TestRealm::with_main();
    realm.rotate(&["root-a", "root-b"], |root| {
        root.clock = role(2, ["clock", "clock-b", "clock-c"].map(cosigner));
        root.witness = Some(role(2, ["witness-a", "witness-b"].map(cosigner)));
    });
    realm.heads(after(100));
    let with = |cosigners: &[(&str, u64)]| {
        let cosigners: Vec<_> = cosigners.iter().map(|(name, time)| (*name, after(*time))).collect();
        let checkpoint = TestRealm::sign_checkpoint(&realm.tree(), &["log"], &cosigners);
        FullEvidence { checkpoint, ..realm.evidence(&question(), 0, after(90)) }
    };
    let state = realm.pinned();
    let all = [("clock", 100), ("clock-b", 5000), ("witness-a", 100), ("witness-b", 100)];
    let verified = accept(&state, &with(&all), 200);
    assert_eq!(
        verified.checkpoint_time,
        after(100),
        "one clock that runs ahead does not make a checkpoint younger"
    );
    check("one clock short", &state, &with(&all[1..]), 200, "of the clock keys: 1 of");
    check("one witness short", &state, &with(&all[..3]), 200, "of the witness keys: 1 of");
    // The same witness again, under another name: a second line, but not a second key.
    let twice = [all[0], all[1], all[2], ("witness-alias", 100)];
    check("one witness twice", &state, &with(&twice), 200, "of the witness keys: 1 of");
    let three = [("clock", 100), ("clock-b", 100 + 2 * DAY), ("clock-c", 100 + 2 * DAY), all[2], all[3]];
    check("a quorum from the future", &state, &with(&three), 200, "this machine's time is");
}

#[test]
fn time_has_a_floor_and_a_ceiling() {
    let (mut realm, state) = seen();
    realm.publish(&main_branch(), 2);
    realm.heads(after(100));
    let at = |time| realm.evidence(&question(), 3, after(time));
    accept(&state, &at(700), 100);
    check("eleven minutes ahead", &state, &at(761), 100, "this machine's time is");
    let refusal = check("older than what was seen", &state, &at(59), 100, "is behind");
    assert!(refusal.is_worth_another_mirror());
    accept(&state, &at(100), 100 + 7 * DAY);
    let refusal = check("a week and a second old", &state, &at(100), 101 + 7 * DAY, "updates may be hidden");
    assert!(matches!(refusal, Refusal::Stale { age_seconds: 604_801, max_age_seconds: 604_800 }));

    // A clock at 1970: what was verified last is the time; a new machine has nothing to go by.
    let epoch = UnixTime::EPOCH;
    let verified = verify(Some(&state), &at(100), &question(), epoch, &Policy::default());
    assert!(verified.is_ok(), "forty seconds after the newest time that was verified");
    let refusal =
        verify(Some(&realm.pinned()), &at(100), &question(), epoch, &Policy::default()).unwrap_err();
    assert!(matches!(refusal, Refusal::FromTheFuture { .. }), "{refusal}");
    assert!(refusal.hint().contains("time"));
    let policy = Policy { max_age_seconds: Some(30 * DAY), ..Policy::default() };
    assert!(verify(Some(&state), &at(100), &question(), after(20 * DAY), &policy).is_ok());
}

#[test]
fn stale_with_nothing_newer_is_a_warning_for_a_while() {
    let (mut realm, state) = seen();
    let policy = Policy { stale_grace_seconds: DAY, ..Policy::default() };
    let ask = |realm: &TestRealm, question: &Question, now: u64| {
        verify(Some(&state), &realm.evidence(question, 3, after(60)), question, after(now), &policy)
    };
    let verified = ask(&realm, &question(), 61 + 7 * DAY).unwrap();
    assert_eq!(verified.freshness, Freshness::Stale { age_seconds: 604_801, max_age_seconds: 604_800 });
    assert_eq!(verified.state, state, "a stale checkpoint moves nothing");
    assert!(matches!(ask(&realm, &question(), 61 + 8 * DAY), Err(Refusal::Stale { .. })));
    realm.publish(&main_branch(), 2);
    realm.heads(after(60));
    assert!(
        matches!(ask(&realm, &question(), 61 + 7 * DAY), Err(Refusal::Stale { .. })),
        "something new is stale"
    );

    // A ref that was never asked for is news, even in the tree that is known.
    let (mut realm, _) = grown(|_| {});
    realm.publish(&tag(), 1);
    realm.heads(after(60));
    let state = accept(&realm.pinned(), &realm.evidence(&question(), 0, after(60)), 60).state;
    let tagged = TestRealm::question(&tag());
    let evidence = realm.evidence(&tagged, 5, after(60));
    assert!(matches!(
        verify(Some(&state), &evidence, &tagged, after(61 + 7 * DAY), &policy),
        Err(Refusal::Stale { .. })
    ));
}
