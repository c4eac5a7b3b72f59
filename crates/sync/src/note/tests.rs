use super::*;
use crate::key::SecretKey;
use proptest::prelude::*;

fn secret(name: &str, seed: u8) -> SecretKey {
    SecretKey::from_seed(name.parse().unwrap(), &[seed; 32])
}

fn signed(text: &str, signers: &[&SecretKey]) -> Note {
    let mut note = Note::new(text.to_owned()).unwrap();
    for signer in signers {
        note.sign(*signer).unwrap();
    }
    note
}

/// A good note, and what was done to it.
fn changed(change: impl Fn(String) -> String) -> Vec<u8> {
    let note = signed("first\nsecond\n", &[&secret("alice", 1)]);
    change(String::from_utf8(note.to_bytes()).unwrap()).into_bytes()
}

#[track_caller]
fn check(what: &str, bytes: &[u8], expected: &str) {
    let alice = secret("alice", 1).verifier_key(KeyType::Ed25519);
    let error = match Note::parse(bytes) {
        Err(error) => error.to_string(),
        Ok(note) => match note.verified_by([&alice]) {
            Err(error) => error.to_string(),
            Ok(by) if by.is_empty() => "no key that counts".to_owned(),
            Ok(_) => "accepted".to_owned(),
        },
    };
    assert!(error.contains(expected), "{what}: {error}");
}

#[test]
fn malformed_and_forged_notes_are_refused() {
    check("as it was signed", &changed(|note| note), "accepted");
    check("no signature", b"first\nsecond\n", "not signed");
    check("no signature after the blank line", b"first\n\n", "newline");
    check("only unknown keys", &signed("first\n", &[&secret("bob", 2)]).to_bytes(), "no key that counts");
    check(
        "one bit of the text",
        &changed(|note| note.replace("first", "girst")),
        "signature of alice is wrong",
    );
    check("carriage returns", &changed(|note| note.replace('\n', "\r\n")), "control character");
    check("a NUL", &changed(|note| note.replace("first", "fi\0st")), "control character");
    check("an escape", &changed(|note| note.replace("first", "\u{1b}[31m")), "control character");
    check("DEL", &changed(|note| note.replace("first", "\u{7f}")), "control character");
    check("no newline at the end", &changed(|note| note.trim_end().to_owned()), "newline");
    check("an empty line at the end", &changed(|note| note + "\n"), "newline");
    check("a line after the signatures", &changed(|note| note + "x\n"), "signature line 2");
    check("a hyphen for the dash", &changed(|note| note.replace('\u{2014}', "-")), "signature line 1");
    check("two spaces", &changed(|note| note.replace("alice ", "alice  ")), "signature line 1");
    check("base64 without padding", &changed(|note| note.replace("=\n", "\n")), "signature line 1");
    check("nothing", b"", "not signed");
    check("a newline", b"\n", "not signed");

    let mut bytes = changed(|note| note);
    bytes[2] = 0xff;
    check("bytes that are not UTF-8", &bytes, "not UTF-8");

    // The last character before the padding holds two bits that do not count; another character spells the same.
    let stray = changed(|note| {
        let at = note.find('=').expect("68 bytes end in padding") - 1;
        let last = note.as_bytes()[at];
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let value = alphabet.iter().position(|byte| *byte == last).expect("base64");
        let mut note = note.into_bytes();
        note[at] = alphabet[value + 1];
        String::from_utf8(note).expect("ASCII")
    });
    check("stray bits in base64", &stray, "signature line 1");

    // The right name and hash, but another key.
    let forged = changed(|note| {
        let mut forged = Note::parse(note.as_bytes()).unwrap();
        let signature = secret("mallory", 3).sign(forged.text.as_bytes()).unwrap();
        forged.signatures[0].bytes = signature.as_bytes().to_vec();
        String::from_utf8(forged.to_bytes()).unwrap()
    });
    check("the right key hash, but another key", &forged, "signature of alice is wrong");

    let line = |note: &str| note.lines().last().unwrap().to_owned() + "\n";
    check("one signature twice", &changed(|note| note.clone() + &line(&note)), "two signatures");
    check("ten thousand lines", &changed(|note| note.clone() + &line(&note).repeat(500)), "over 64");
    check(
        "ten thousand lines",
        &changed(|note| note.clone() + &line(&note).repeat(10_000)),
        "over the limit",
    );
    let long = |bytes: usize| {
        let empty = signed("\n", &[&secret("alice", 1)]).to_bytes().len();
        signed(&("x".repeat(bytes - empty) + "\n"), &[&secret("alice", 1)]).to_bytes()
    };
    assert_eq!(long(NOTE_BYTES_MAX).len(), NOTE_BYTES_MAX);
    check("the longest note", &long(NOTE_BYTES_MAX), "accepted");
    check("one byte more", &long(NOTE_BYTES_MAX + 1), "over the limit");
    check("64 KiB and a byte", &long(65_537), "over the limit");
}

#[test]
fn blank_lines_and_what_looks_like_a_signature_belong_to_the_text() {
    let text = "first\n\n\n\u{2014} alice AAAAAAAA\n\nlast\n";
    let note = signed(text, &[&secret("alice", 1)]);
    let parsed = Note::parse(&note.to_bytes()).unwrap();
    assert_eq!(parsed.text(), text);
    assert_eq!(parsed, note);
}

#[test]
fn a_key_counts_once_whatever_it_is_called() {
    let (alice, alias) = (secret("alice", 1), secret("alias", 1));
    let note = signed("text\n", &[&alice, &alias]);
    let keys = [alice.verifier_key(KeyType::Ed25519), alias.verifier_key(KeyType::Ed25519)];
    assert_eq!(note.signatures().len(), 2);
    assert_eq!(note.verified_by(&keys).unwrap().len(), 1);
    assert_eq!(note.verified_by([&keys[0], &keys[0]]).unwrap().len(), 1);
}

#[test]
fn a_signature_of_one_type_is_none_of_the_other() {
    let clock = secret("clock", 1);
    let time = UnixTime::new(1_798_761_600).unwrap();
    let mut note = Note::new("text\n".to_owned()).unwrap();
    note.cosign(&clock, time).unwrap();
    let keys = [clock.verifier_key(KeyType::Cosignature), clock.verifier_key(KeyType::Ed25519)];
    let by = note.verified_by(&keys).unwrap();
    assert_eq!(by, [VerifiedBy { key: &keys[0], time: Some(time) }]);

    // A log's signature under the hash of the clock, and the other way round.
    let mut swapped = signed("text\n", &[&clock]);
    swapped.signatures[0].hash = keys[0].hash();
    assert!(swapped.verified_by(&keys[..1]).is_err());
    let mut stamped = note.clone();
    stamped.signatures[0].bytes[7] ^= 1;
    assert!(stamped.verified_by(&keys[..1]).is_err(), "the time is signed");
    let mut swapped = note;
    swapped.signatures[0].hash = keys[1].hash();
    assert!(swapped.verified_by(&keys[1..]).is_err());
}

proptest! {
    #[test]
    fn what_we_sign_the_oracle_verifies(text in "([ -~é€]{0,20}\n){1,5}", seeds in proptest::collection::btree_set(1u8..6, 1..4)) {
        let secrets: Vec<_> = seeds.iter().map(|seed| secret(&format!("key-{seed}"), *seed)).collect();
        let bytes = signed(&text, &secrets.iter().collect::<Vec<_>>()).to_bytes();
        let oracle = signed_note::Note::from_bytes(&bytes).unwrap();
        prop_assert_eq!(oracle.text(), text.as_bytes());
        let verifiers = secrets.iter().map(|secret| -> Box<dyn signed_note::Verifier> {
            let key = secret.verifier_key(KeyType::Ed25519).to_string();
            Box::new(signed_note::StandardVerifier::new(&key).unwrap())
        });
        let (verified, unknown) = oracle.verify(&signed_note::VerifierList::new(verifiers.collect())).unwrap();
        prop_assert_eq!((verified.len(), unknown.len()), (seeds.len(), 0));
        prop_assert_eq!(Note::parse(&bytes).unwrap().to_bytes(), bytes);
    }

    #[test]
    fn what_we_accept_the_oracle_accepts(at in 0usize..200, with: u8, insert: bool) {
        let mut bytes = changed(|note| note);
        let at = at % bytes.len();
        if insert { bytes.insert(at, with) } else { bytes[at] = with }
        if let Ok(note) = Note::parse(&bytes) {
            prop_assert_eq!(note.to_bytes(), &bytes[..], "one note has one spelling");
            let oracle = signed_note::Note::from_bytes(&bytes).expect("the oracle refuses what we accept");
            prop_assert_eq!(oracle.text(), note.text().as_bytes());
            let key = secret("alice", 1).verifier_key(KeyType::Ed25519);
            let list = signed_note::VerifierList::new(vec![Box::new(
                signed_note::StandardVerifier::new(&key.to_string()).unwrap(),
            )]);
            let ours = note.verified_by([&key]).is_ok_and(|by| by.len() == 1);
            prop_assert_eq!(ours, oracle.verify(&list).is_ok());
        }
    }
}
