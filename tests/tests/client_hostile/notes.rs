//! Publications and root documents whose notes, signatures or keys are malformed, in a log that holds them.

use smart_sync_sync::key::{KeyType, Signer as _};
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::record::NoteRecord as _;
use smart_sync_sync::testing::{
    TestRealm, alias, main_branch, secret, sign, sign_text, small_order_signature, vkey,
};
use smart_sync_sync::trust::pin_of;
use smart_sync_tests::hostile::{Host, HostileServer, Reply, Servers, at, lasting};

use crate::scene::{Scene, TWO, publish_as};

/// The next publication of the branch as an honest publisher writes it.
fn honest(scene: &Scene) -> String {
    let mut realm = scene.realm.clone();
    publish_as(&mut realm, &scene.new, &["publish-repos"], |_| {});
    String::from_utf8(realm.leaves()[3].clone()).expect("a note is text")
}

/// Evidence of a log in which these bytes stand where the publication should.
fn standing(scene: &Scene, leaf: &[u8]) -> Vec<u8> {
    scene.grow(|realm| {
        let index = realm.size();
        realm.push(leaf.to_vec());
        let leaf = LogHash::of_leaf(leaf);
        realm.set_head(&main_branch(), |head| (head.seq, head.index, head.leaf) = (2, index, leaf));
        realm.heads(at(150));
    })
}

/// A note with another text, signed by the publisher.
fn signed(text: &str) -> Vec<u8> {
    sign_text(text, &["publish-repos"])
}

#[test]
fn notes_that_are_no_signed_notes_are_refused() {
    let scene = Scene::new();
    let note = honest(&scene);
    let (text, signature) = note.split_once("\n\n").expect("a text and its signatures");
    let (head, base64) = signature.trim_end().rsplit_once(' ').expect("a signature line");
    let bytes = |note: &str| standing(&scene, note.as_bytes());
    let other = String::from_utf8(signed("smart-sync/pub/v1\n")).expect("a note is text");
    let other = other.split_once("\n\n").expect("a text and its signatures").1;
    let stranger = String::from_utf8(sign_text(&format!("{text}\n"), &["stranger"])).expect("a note is text");
    // The last character before the padding carries bits that no byte has.
    let mut loose = base64.to_owned();
    let last = loose.len() - 2;
    loose.replace_range(last..=last, if &loose[last..=last] == "B" { "C" } else { "B" });
    let mut bad_utf8 = note.clone().into_bytes();
    bad_utf8[30] = 0xff;
    let said = scene.play(vec![
        ("no signature", bytes(&format!("{text}\n"))),
        ("a signature of an unknown key", bytes(&stranger)),
        ("a signature of another text", bytes(&format!("{text}\n\n{other}"))),
        ("one bit of the text changed", bytes(&note.replacen("content-time 1", "content-time 3", 1))),
        ("line ends of another system", bytes(&note.replace('\n', "\r\n"))),
        ("a NUL byte", bytes(&note.replacen("kind repo", "kind re\0o", 1))),
        ("no UTF-8", standing(&scene, &bad_utf8)),
        ("no line end at the end", bytes(note.trim_end())),
        ("a signature in the text", bytes(&format!("{text}\n\n{signature}\n{signature}"))),
        ("65 signatures", bytes(&format!("{text}\n\n{}", signature.repeat(65)))),
        ("a signature in another spelling", bytes(&format!("{text}\n\n{head} {loose}\n"))),
        (
            "a signature with S over the order",
            bytes(&format!("{text}\n\n{}", malleated(&format!("{text}\n")))),
        ),
        (
            "a signature with R of small order",
            bytes(&format!("{text}\n\n{}", of_small_order(&format!("{text}\n")))),
        ),
        ("the same signature twice", bytes(&format!("{text}\n\n{signature}{signature}"))),
    ]);
    insta::assert_snapshot!(short(&said), @r"
    no signature: exit 7
        the publication is not valid: the note is not signed
    a signature of an unknown key: exit 7
        the publication is not valid: too few signatures of the publish keys: 0 of 1
    a signature of another text: exit 7
        the publication is not valid: the signature of publish-repos is wrong: the note was changed, or another key signed it
    one bit of the text changed: exit 7
        the publication is not valid: the signature of publish-repos is wrong: the note was changed, or another key signed it
    line ends of another system: exit 7
        the publication is not valid: the note holds the control character '\r'
    a NUL byte: exit 7
        the publication is not valid: the note holds the control character '\0'
    no UTF-8: exit 7
        the publication is not valid: the note is not UTF-8
    no line end at the end: exit 7
        the publication is not valid: the note does not end in a newline
    a signature in the text: exit 7
        the publication is not valid: the signature of publish-repos is wrong: the note was changed, or another key signed it
    65 signatures: exit 7
        the publication is not valid: the note has over 64 signatures
    a signature in another spelling: exit 7
        the publication is not valid: signature line 1 of the note is malformed
    a signature with S over the order: exit 7
        the publication is not valid: the signature of publish-repos is wrong: the note was changed, or another key signed it
    a signature with R of small order: exit 7
        the publication is not valid: the signature of publish-repos is wrong: the note was changed, or another key signed it
    the same signature twice: exit 7
        the publication is not valid: the note has two signatures of the key publish-repos
");
    let mut longest = format!("{text}\n").into_bytes();
    longest.resize(64 * 1024 + 1, b'x');
    let mut said = String::new();
    for (what, leaf) in [
        ("ten thousand signatures", format!("{text}\n\n{}", signature.repeat(10_000)).into_bytes()),
        ("a byte over 64 KiB", longest),
    ] {
        scene.serve(standing(&scene, &leaf));
        said.push_str(&scene.host.refuses(what, 5));
    }
    insta::assert_snapshot!(short(&said), @r"
    ten thousand signatures: exit 5
        SERVER1 does not answer as a smart-sync server does
        because: publication is 1110328, over the limit of 65535
    a byte over 64 KiB: exit 5
        SERVER1 does not answer as a smart-sync server does
        because: publication is 65537, over the limit of 65535
");
}

#[test]
fn records_in_another_spelling_are_refused() {
    let scene = Scene::new();
    let note = honest(&scene);
    let text = format!("{}\n", note.split_once("\n\n").expect("a text and its signatures").0);
    let spelled = |from: &str, to: &str| {
        assert!(text.contains(from), "{from:?} in {text}");
        standing(&scene, &signed(&text.replacen(from, to, 1)))
    };
    let said = scene.play(vec![
        ("a leading zero", spelled("\nseq 2\n", "\nseq 02\n")),
        ("a number of 65 bits", spelled("\nseq 2\n", "\nseq 18446744073709551618\n")),
        ("a line twice", spelled("\nseq 2\n", "\nseq 2\nseq 2\n")),
        ("an unknown line", spelled("\nseq 2\n", "\nseq 2\nforce yes\n")),
        ("a line left out", spelled("\nkind repo\n", "\n")),
        ("two spaces", spelled("\nseq 2\n", "\nseq  2\n")),
        ("the next version of the format", spelled("smart-sync/pub/v1", "smart-sync/pub/v2")),
        ("a root document", standing(&scene, &scene.realm.leaves()[0])),
        ("lines in another order", {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.swap(3, 4);
            standing(&scene, &signed(&format!("{}\n", lines.join("\n"))))
        }),
    ]);
    insta::assert_snapshot!(short(&said), @r#"
    a leading zero: exit 7
        the publication is not valid: line 4 of smart-sync/pub/v1: "02" is not a decimal number without leading zeros below 2^64
    a number of 65 bits: exit 7
        the publication is not valid: line 4 of smart-sync/pub/v1: "18446744073709551618" is not a decimal number without leading zeros below 2^64
    a line twice: exit 7
        the publication is not valid: line 5 of smart-sync/pub/v1: expected `prev …`, found "seq 2"
    an unknown line: exit 7
        the publication is not valid: line 5 of smart-sync/pub/v1: expected `prev …`, found "force yes"
    a line left out: exit 7
        the publication is not valid: line 7 of smart-sync/pub/v1: expected `kind …`, found "ref branch main"
    two spaces: exit 7
        the publication is not valid: line 4 of smart-sync/pub/v1: " 2" is not a decimal number without leading zeros below 2^64
    the next version of the format: exit 7
        the publication is not valid: this is "smart-sync/pub/v2", and only smart-sync/pub/v1 is known here: a newer smart-sync is needed
    a root document: exit 7
        the publication is not valid: a record of the kind smart-sync/pub/v1 was expected, and this is "smart-sync/root/v1"
    lines in another order: exit 7
        the publication is not valid: line 4 of smart-sync/pub/v1: expected `seq …`, found "prev sha256:fe58b8f84217ef8039fd0a19ed85"
"#);
}

/// Whoever runs the realm may be fooled into signing a bad root document: hosts are not.
#[test]
fn root_documents_with_bad_keys_or_thresholds_are_refused() {
    let scene = Scene::new();
    let mut next = scene.realm.root().record().clone();
    (next.version, next.prev) = (2, Some(scene.realm.root().leaf()));
    let text = next.to_text();
    let offered = |text: &str| {
        scene.change(|_, full| full.roots = vec![scene.realm.leaves()[0].clone(), sign_text(text, TWO)])
    };
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from:?} in {text}");
        offered(&text.replacen(from, to, 1))
    };
    let key = |bytes: [u8; 32]| {
        // The hash of a key is checked after the key is: any will do.
        let line = vkey("publish-repos").to_string();
        let encoded = base64(&[&[1], &bytes[..]].concat());
        line.splitn(3, '+').take(2).chain([&encoded[..]]).collect::<Vec<_>>().join("+")
    };
    let mut one = [0; 32];
    one[0] = 1;
    let publisher = vkey("publish-repos").to_string();
    let alias = alias("publish-alias", "publish-repos").verifier_key(KeyType::Ed25519);
    let (root_a, root_b) = (vkey("root-a").to_string(), vkey("root-b").to_string());
    let said = scene.play(vec![
        ("a key of small order", changed(&publisher, &key(one))),
        ("a key that is no point in its one spelling", changed(&publisher, &key([0xff; 32]))),
        ("a threshold of none", changed("role root 2", "role root 0")),
        ("a threshold over the keys", changed("role root 2", "role root 4")),
        ("a key twice", changed(&root_b, &root_a)),
        ("a key under two names", changed(&format!("1 {publisher}"), &format!("2 {publisher} {alias}"))),
        ("the log's key as a publisher's", changed(&publisher, &vkey("log").to_string())),
    ]);
    insta::assert_snapshot!(short(&said), @r"
    a key of small order: exit 7
        the root document after version 1 is not acceptable: line 11 of smart-sync/root/v1: the verifier key of publish-repos: the public key is of small order, so that anybody could sign for it
    a key that is no point in its one spelling: exit 7
        the root document after version 1 is not acceptable: line 11 of smart-sync/root/v1: the verifier key of publish-repos: the public key is not in its canonical form
    a threshold of none: exit 7
        the root document after version 1 is not acceptable: line 7 of smart-sync/root/v1: a threshold of 0 with 3 keys
    a threshold over the keys: exit 7
        the root document after version 1 is not acceptable: line 7 of smart-sync/root/v1: a threshold of 4 with 3 keys
    a key twice: exit 7
        the root document after version 1 is not acceptable: line 7 of smart-sync/root/v1: the key root-a is there twice
    a key under two names: exit 7
        the root document after version 1 is not acceptable: line 11 of smart-sync/root/v1: the key publish-alias is there twice
    the log's key as a publisher's: exit 7
        the root document after version 1 is not acceptable: line 11 of smart-sync/root/v1: the key log is in two roles, and log, clock and witness keys may be in one only
");
}

/// A server shows root documents to a host that does not trust it yet.
#[test]
fn a_first_root_document_is_judged_before_it_is_trusted() {
    let realm = TestRealm::with_root(lasting);
    let good = realm.leaves()[0].clone();
    let unsigned = sign(realm.root().record(), &["root-a"]);
    let publication = Scene::new().realm.leaves()[1].clone();
    let pin = pin_of(&good).to_string();
    let mut said = String::new();
    for (what, code, note, pin) in [
        ("another document than the pinned one", 7, &unsigned, &pin),
        ("one of two signatures", 7, &unsigned, &pin_of(&unsigned).to_string()),
        ("a publication", 5, &publication, &pin),
        ("a page for people", 5, &b"<!DOCTYPE html>".to_vec(), &pin),
    ] {
        let note = note.clone();
        let server = HostileServer::start(move |request| {
            if request.path.starts_with("/v1/root/") { Reply::Ok(note.clone()) } else { Reply::Close }
        });
        let host = Host::stranger(Servers::from(&server));
        let finished = host.run(&["trust", "add", &server.url(), "--root", pin]).expect_code(code);
        assert!(host.kept().is_empty(), "{what} left something behind");
        let shown = host.said(what, &finished);
        assert!(shown.contains("    hint: "), "it says what to do: {shown}");
        said.push_str(&short(&shown).replace(pin.as_str(), "PIN"));
    }
    insta::assert_snapshot!(said, @r#"
    another document than the pinned one: exit 7
        none of the root documents that the server shows is PIN
    one of two signatures: exit 7
        verifying the root documents
        because: too few signatures of the root keys: 1 of 2
    a publication: exit 5
        SERVER1 does not answer as a smart-sync server does
        because: a record of the kind smart-sync/root/v1 was expected, and this is "smart-sync/pub/v1"
    a page for people: exit 5
        SERVER1 does not answer as a smart-sync server does
        because: the note is not signed
"#);
}

/// What was said, without the advice that is always the same.
fn short(said: &str) -> String {
    said.lines().filter(|line| !line.contains("hint: ")).fold(String::new(), |said, line| said + line + "\n")
}

/// The publisher's signature line, with the order of the group added to S: the same point, and another signature.
fn malleated(text: &str) -> String {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut signature =
        secret("publish-repos").sign(text.as_bytes()).expect("a key in memory signs").as_bytes().to_vec();
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    signature_line(&signature)
}

/// A signature line whose equation holds, for a nonce that everybody knows.
fn of_small_order(text: &str) -> String {
    signature_line(small_order_signature("publish-repos", text.as_bytes()).as_bytes())
}

fn signature_line(signature: &[u8]) -> String {
    let hash = vkey("publish-repos").hash().0;
    format!("\u{2014} publish-repos {}\n", base64(&[&hash, signature].concat()))
}

/// The usual alphabet, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= group.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}
