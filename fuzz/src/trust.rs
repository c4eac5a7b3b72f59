//! Evidence, what is believed of it, what is remembered of that, and the proofs below it.
//!
//! The realm here has keys that nobody outside of the project's tests holds, and a fuzzer cannot make signatures: so
//! whatever input is believed, the realm has said it.

use std::sync::LazyLock;

use smart_sync_sync::evidence::{Evidence, FullEvidence};
use smart_sync_sync::log::heads::{HeadKey, HeadProof};
use smart_sync_sync::log::merkle::{LogHash, SIZE_MAX};
use smart_sync_sync::log::proof::{Claim, Proof, needed};
use smart_sync_sync::name::RefName;
use smart_sync_sync::testing::{PRIVATE_CHANNEL, TestRealm, after, main_branch};
use smart_sync_sync::trust::{Policy, Question, Refusal, TrustState, verify};
use smart_sync_sync::wire::update::Update;

use crate::{Verdict, check_bytes, check_text};

/// When the realm is asked.
const NOW: u64 = 300;

/// A realm, and machines that know it from before or not at all.
pub struct World {
    /// The realm after it has grown.
    pub realm: TestRealm,
    /// What is asked.
    pub questions: Vec<Question>,
    /// What is known: the pin alone, and what was verified before the realm grew.
    pub states: [TrustState; 2],
    /// The evidence that was kept, for answers that say "nothing new".
    pub kept: FullEvidence,
}

/// The world that `trust_verify` judges inputs in.
pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut realm = TestRealm::with_main();
    let main = TestRealm::question(&main_branch());
    let kept = realm.evidence(&main, 0, after(60));
    let seen = verify(Some(&realm.pinned()), &kept, &main, after(60), &Policy::default());
    let states = [realm.pinned(), seen.expect("the realm is honest").state];
    realm.publish(&main_branch(), 2);
    let tag = RefName::tag("v1").expect("the name is sound");
    realm.publish(&tag, 3);
    realm.publish_sealed(&main_branch(), 4);
    realm.heads(after(100));
    realm.rotate(&["root-a", "root-b"], |_| {});
    realm.publish(&main_branch(), 5);
    realm.heads(after(200));
    let private =
        Question { channel: PRIVATE_CHANNEL.parse().expect("the channel is sound"), ..main.clone() };
    let absent = TestRealm::question(&RefName::branch("absent").expect("the name is sound"));
    let dated = |seconds| Question { at: Some(after(seconds)), ..main.clone() };
    let questions = vec![
        main.clone(),
        TestRealm::question(&tag),
        private.clone(),
        absent.clone(),
        dated(70),
        dated(10),
        Question { reference: absent.reference, ..private },
    ];
    World { realm, questions, states, kept }
});

/// Evidence as a message, alone and with a bundle behind it.
pub fn evidence(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, Update::decode, Update::encode);
    check_bytes(bytes, Evidence::decode, Evidence::encode)
}

/// Evidence as it is judged. The first byte of the input chooses what is asked, the second what is known.
pub fn trust_verify(bytes: &[u8]) -> Verdict {
    let Some(([question, state], message)) = bytes.split_first_chunk::<2>() else { return Verdict::Refused };
    let world = &*WORLD;
    let question = &world.questions[usize::from(*question) % world.questions.len()];
    let state = &world.states[usize::from(*state) % world.states.len()];
    let Ok(message) = Evidence::decode(message) else { return Verdict::Refused };
    let Some(evidence) = message.complete(Some(&world.kept)) else { return Verdict::Refused };
    let verified = match verify(Some(state), &evidence, question, after(NOW), &Policy::default()) {
        Ok(verified) => verified,
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty() && !refusal.hint().is_empty());
            assert!(!matches!(refusal, Refusal::Fork { .. }), "the realm never signed two trees of one size");
            return Verdict::Refused;
        }
    };
    let publication = verified.publication.record();
    let (seed, leaf) = (verified.manifest.id.as_bytes()[0], verified.publication.to_bytes());
    let is_private = question.channel.as_str() == PRIVATE_CHANNEL;
    assert!(is_private || world.realm.leaves().contains(&leaf), "a publication that the realm never made");
    assert!((1..=5).contains(&seed), "a manifest that the realm never published");
    assert_eq!((&publication.channel, &publication.reference), (&question.channel, &question.reference));
    assert!(verified.state.size() >= state.size() && verified.state.time_floor() >= state.time_floor());
    assert_eq!(verified.state.to_text().parse().as_ref(), Ok(&verified.state));
    Verdict::Accepted
}

/// The file that trust is remembered in.
pub fn trust_state(bytes: &[u8]) -> Verdict {
    check_text(bytes, str::parse::<TrustState>, TrustState::to_text)
}

/// Proofs about trees of any size: the input is a size, claims of nine bytes each, and then hashes.
pub fn log_proof(bytes: &[u8]) -> Verdict {
    let Some(([claim_count, size @ ..], mut rest)) = bytes.split_first_chunk::<9>() else {
        return Verdict::Refused;
    };
    let size = u64::from_le_bytes(*size);
    let mut claims = Vec::new();
    while let (true, Some(([kind, number @ ..], after))) =
        (claims.len() < usize::from(*claim_count), rest.split_first_chunk::<9>())
    {
        let number = u64::from_le_bytes(*number);
        claims.push(if kind & 1 == 0 { Claim::Leaf(number) } else { Claim::Prefix(number) });
        rest = after;
    }
    let Ok(nodes) = needed(size, &claims) else { return Verdict::Refused };
    assert!(size <= SIZE_MAX && nodes.len() <= claims.len() * 80);
    let leaf = LogHash::of_leaf(b"a leaf that is in no tree");
    let root = LogHash::of_leaf(b"a root that nothing leads to");
    let hashes: Vec<LogHash> = (0..nodes.len())
        .map(|at| {
            rest.chunks_exact(32)
                .nth(at)
                .map_or(leaf, |hash| LogHash::from_bytes(hash.try_into().expect("32 bytes")))
        })
        .collect();
    let proof = Proof::new(size, &claims, &hashes).expect("there are as many hashes as are needed");
    for claim in claims {
        match claim {
            Claim::Leaf(index) => assert!(proof.check_leaf(&root, index, &leaf).is_err()),
            Claim::Prefix(old) => assert!(proof.check_prefix(&root, old, &leaf).is_err()),
        }
    }
    // The same hashes as a proof of where a ref stands.
    let key = HeadKey::open(&WORLD.questions[0].channel, &WORLD.questions[0].reference);
    let line = String::from_utf8_lossy(rest).into_owned();
    let entries = vec![(size.saturating_sub(1), line)];
    assert!(HeadProof { entries, hashes }.check(&root, size, &key).is_err());
    Verdict::Accepted
}
