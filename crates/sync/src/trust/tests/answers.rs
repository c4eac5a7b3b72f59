//! Publications: whose they are, absence, the past, private channels.

use super::*;

#[test]
fn publications_are_by_their_publishers_and_of_what_was_asked() {
    let published = |signers: &[&str], change: fn(&mut crate::record::Publication)| {
        grown(|realm| {
            realm.publish_with(&main_branch(), signers, change);
            realm.heads(after(100));
        })
    };
    let evidence = |realm: &TestRealm| realm.evidence(&question(), 3, after(100));
    for signer in ["log", "clock", "stranger", "publish-kernels", "root-a"] {
        let (realm, state) = published(&[signer], |_| {});
        check(signer, &state, &evidence(&realm), 100, "of the publish keys: 0 of");
    }
    let (realm, state) = published(&["publish-repos"], |publication| {
        publication.origin = "other.example.org".parse().unwrap();
    });
    check("another origin", &state, &evidence(&realm), 100, "is of other.example.org");
    let (realm, state) =
        published(&["publish-repos"], |publication| publication.kind = "kernel".parse().unwrap());
    check("another kind", &state, &evidence(&realm), 100, "the kind repo was asked for");
    // The table says main, and the leaf says something else.
    let relabelled = |change: fn(&mut crate::record::Publication)| {
        grown(|realm| {
            let index = realm.publish_with(&main_branch(), &["publish-repos"], change);
            let leaf = LogHash::of_leaf(&realm.leaves()[3]);
            realm.set_head(&main_branch(), |head| (head.seq, head.index, head.leaf) = (2, index, leaf));
            realm.heads(after(100));
        })
    };
    let (realm, state) = relabelled(|publication| publication.channel = "repos/other".parse().unwrap());
    check("another channel", &state, &evidence(&realm), 100, "for the channel repos/other");
    let (realm, state) = relabelled(|publication| publication.reference = RefName::branch("next").unwrap());
    check("another ref", &state, &evidence(&realm), 100, "is of branch:next");
    let (realm, state) = grown(|realm| withdraw(realm, &main_branch()));
    let mut realm = realm;
    realm.heads(after(100));
    check("a withdrawn branch", &state, &evidence(&realm), 100, "was withdrawn");
}

#[test]
fn what_is_not_there_is_proven_not_to_be() {
    let (realm, state) = seen();
    for name in ["a", "zzz"] {
        let asked = TestRealm::question(&RefName::branch(name).unwrap());
        let evidence = realm.evidence(&asked, 3, after(90));
        let refusal = check_for(name, &asked, &state, &evidence, 90, "has no branch:");
        assert!(matches!(refusal, Refusal::NotFound { is_proven: true, .. }));
        assert_eq!(refusal.exit_code(), 1);
        // The same proof says nothing of the ref that is there.
        check("a proof about another ref", &state, &evidence, 90, "the table another");
    }
    let mut empty = TestRealm::new();
    empty.heads(after(10));
    let refusal =
        check("nothing yet", &empty.pinned(), &empty.evidence(&question(), 0, after(60)), 60, "has no");
    assert!(!refusal.is_worth_another_mirror());
}

#[test]
fn the_past_is_what_the_last_heads_before_the_date_say() {
    let mut realm = TestRealm::with_main();
    realm.publish(&main_branch(), 2);
    realm.heads(after(100));
    realm.publish(&main_branch(), 3);
    realm.heads(after(200));
    let state = accept(&realm.pinned(), &realm.evidence(&question(), 0, after(200)), 200).state;
    let at = |time: u64| Question { at: Some(after(time)), ..question() };
    for (time, seq) in [(60, 1), (99, 1), (100, 2), (199, 2), (200, 3), (9999, 3)] {
        for state in [&state, &realm.pinned()] {
            let evidence = realm.evidence(&at(time), state.size(), after(200));
            let verified = accept_for(&at(time), state, &evidence, 200);
            assert_eq!(verified.head.seq, seq, "at {time}");
            let known = verified.state.reference(&question().channel, &main_branch());
            assert_eq!(
                known.map(|known| known.seq),
                state.size().checked_sub(1).map(|_| 3),
                "the past was taken for news"
            );
        }
    }
    let before_all = realm.evidence(&at(59), 7, after(200));
    check_for("before the log", &at(59), &state, &before_all, 200, "has no branch:main at");

    // Evidence for one date does not serve for another.
    for (what, made_for, asked, expected) in [
        ("earlier heads", 60, 100, "are passed over"),
        ("later heads", 100, 99, "from after the date"),
        ("the first heads for a date before", 60, 59, "from after the date"),
        ("the present for the past", 200, 150, "from after the date"),
        ("the past for the present", 100, 250, "are passed over"),
        ("nothing for a date with something", 59, 60, "not the last ones before the date"),
    ] {
        check_for(what, &at(asked), &state, &realm.evidence(&at(made_for), 7, after(200)), 200, expected);
    }
    let mut skipping = realm.evidence(&at(60), 7, after(200));
    let last = skipping.heads.clone();
    skipping.dated.as_mut().unwrap().next = Some(crate::evidence::IndexedLeaf { index: 6, leaf: last });
    skipping.nodes = realm.log_nodes(&skipping);
    check_for(
        "heads that are not neighbours",
        &at(150),
        &state,
        &skipping,
        200,
        "not the last ones before the date",
    );
    let mut hiding = realm.evidence(&at(60), 7, after(200));
    hiding.dated.as_mut().unwrap().next = None;
    hiding.nodes = realm.log_nodes(&hiding);
    check_for(
        "heads that are not the last",
        &at(150),
        &state,
        &hiding,
        200,
        "not the last ones before the date",
    );
    let mut late = realm.evidence(&at(59), 7, after(200));
    let second = crate::evidence::IndexedLeaf { index: 4, leaf: realm.leaves()[4].clone() };
    late.dated.as_mut().unwrap().next = Some(second);
    late.nodes = realm.log_nodes(&late);
    check_for("second heads as the first", &at(70), &state, &late, 200, "not the last ones before the date");
    check(
        "a date that was not asked",
        &state,
        &realm.evidence(&at(100), 7, after(200)),
        200,
        "no date was asked",
    );
    let undated = realm.evidence(&question(), 7, after(200));
    check_for("a date that was not answered", &at(100), &state, &undated, 200, "the answer is for today");
}

#[test]
fn private_channels_open_for_their_readers_only() {
    let asked = |name: &str| Question {
        channel: PRIVATE_CHANNEL.parse().unwrap(),
        ..TestRealm::question(&RefName::branch(name).unwrap())
    };
    let main = asked("main");
    let mut realm = TestRealm::with_main();
    realm.publish_sealed(&main_branch(), 5);
    realm.heads(after(100));
    let ask = |realm: &TestRealm, question: &Question, base| realm.evidence(question, base, after(100));
    let verified = accept_for(&main, &realm.pinned(), &ask(&realm, &main, 0), 100);
    assert_eq!(verified.publication.record().channel, main.channel);
    let state = verified.state;
    let public: Vec<u8> = realm.leaves()[3..].concat();
    for word in ["repos/private", "main", &"05".repeat(32)] {
        assert!(!String::from_utf8(public.clone()).unwrap().contains(word), "{word} is in the log");
    }
    realm.publish_sealed(&main_branch(), 6);
    realm.heads(after(110));
    let news = accept_for(&main, &state, &realm.evidence(&main, 5, after(110)), 110);
    assert_eq!(news.head.seq, 2);

    let good = realm.evidence(&main, 5, after(110));
    let Answer::Sealed { leaf, secret, opening } = good.answer.clone() else { panic!("not sealed") };
    let mut other = opening.clone();
    other.random[0] ^= 1;
    let answer = Answer::Sealed { leaf: leaf.clone(), secret: secret.clone(), opening: other };
    let forged = FullEvidence { answer, ..good.clone() };
    check_for("another opening", &main, &state, &forged, 110, "not what was sealed");
    let answer = Answer::Sealed { leaf, secret: crate::record::SlotSecret([1; 32]), opening };
    let forged = FullEvidence { answer, ..good.clone() };
    check_for("another slot", &main, &state, &forged, 110, "of another slot");
    check_for("another slot, to a new machine", &main, &realm.pinned(), &forged, 110, "the table another");

    let absent = asked("next");
    let evidence = realm.evidence(&absent, 5, after(110));
    let refusal = check_for("absent", &absent, &state, &evidence, 110, "has no branch:next");
    assert!(matches!(refusal, Refusal::NotFound { is_proven: true, .. }));
    let refusal = check_for("absent, to a new machine", &absent, &realm.pinned(), &evidence, 110, "has no");
    assert!(matches!(refusal, Refusal::NotFound { is_proven: false, .. }), "nobody knows that slot yet");
    assert_eq!(refusal.exit_code(), 7);
    let open = FullEvidence { answer: Answer::Absent, ..evidence };
    check_for("hidden behind a name that nobody uses", &absent, &state, &open, 110, "of another slot");
}

#[test]
fn a_seal_is_of_the_slot_and_the_number_that_its_entry_names() {
    let main = Question { channel: PRIVATE_CHANNEL.parse().unwrap(), ..question() };
    let mut realm = TestRealm::with_main();
    realm.publish_sealed_with(&main_branch(), 5, |sealed| {
        sealed.seq = 2;
        sealed.prev = Some(LogHash::empty_root());
    });
    realm.heads(after(100));
    let evidence = realm.evidence(&main, 0, after(100));
    check_for("another number", &main, &realm.pinned(), &evidence, 100, "of another slot or number");
    let mut realm = TestRealm::with_main();
    realm.publish_sealed_with(&main_branch(), 5, |sealed| sealed.slot = LogHash::empty_root());
    realm.heads(after(100));
    let evidence = realm.evidence(&main, 0, after(100));
    check_for("another slot", &main, &realm.pinned(), &evidence, 100, "of another slot or number");
}
