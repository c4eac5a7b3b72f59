//! What of notes and records is refused, and that the bytes that are signed never change.

use super::*;
use crate::key::{KeyType, SecretKey, Signer};
use crate::log::checkpoint::SignedCheckpoint;
use crate::log::heads::Head;
use crate::name::RefName;
use crate::testing::{
    self, TestRealm, after, cosigner, publication, role, root, secret, sign, sign_text, signed_root, vkey,
};
use crate::time::UnixTime;
use smart_sync_store::id::ContentId;
use std::path::Path;

fn main_branch() -> RefName {
    RefName::branch("main").unwrap()
}

/// Compares bytes with the file that holds them. `GOLDEN_WRITE=1` writes a file that is not there.
#[track_caller]
fn golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("GOLDEN_WRITE").is_some() && !path.exists() {
        std::fs::write(&path, bytes).unwrap();
    }
    let expected = std::fs::read(&path).unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(&expected), "{}", path.display());
}

fn full_root() -> Root {
    Root {
        version: 2,
        prev: Some(signed_root().leaf()),
        witness: Some(role(1, [cosigner("witness-a"), cosigner("witness-b")])),
        revoked: vec![Revocation { key: vkey("publish-repos"), after: 1041 }],
        ..root()
    }
}

#[test]
fn the_bytes_of_records_never_change() {
    let root_bytes = sign(&full_root(), &["root-a", "root-b"]);
    golden("root.note", &root_bytes);
    assert_eq!(Root::parse(&full_root().to_text()), Ok(full_root()));

    let first = publication(&main_branch(), 1, None, 1);
    let first_bytes = sign(&first, &["publish-repos"]);
    golden("publication.note", &first_bytes);
    let signed = Unverified::parse(&first_bytes)
        .and_then(|note| note.verify(&signed_root(), &testing::CHANNEL.parse().unwrap(), 1))
        .unwrap();
    let withdrawn = Publication {
        manifest: None,
        content: ContentSummary::default(),
        git: None,
        meta: Some(ContentId::of(b"why")),
        ..publication(&RefName::tag("v25.11").unwrap(), 2, Some(&signed), 0)
    };
    golden("withdrawal.note", &sign(&withdrawn, &["publish-repos"]));
    assert_eq!(Publication::parse(&withdrawn.to_text()), Ok(withdrawn));

    let heads = Heads {
        time: after(60),
        prev: Some(LogHash::of_leaf(b"previous")),
        root: RootRef { version: 1, leaf: signed_root().leaf() },
        table: LogHash::empty_root(),
        count: 0,
    };
    golden("heads.txt", heads.to_text().as_bytes());
    assert_eq!(Heads::parse(heads.to_text().as_bytes()), Ok(heads));

    let secret = SlotSecret([7; 32]);
    let opening = Opening { random: [9; 32], note: first_bytes };
    let sealed = Sealed {
        slot: secret.slot(&testing::CHANNEL.parse().unwrap(), &main_branch()),
        seq: 1,
        prev: None,
        commitment: opening.commitment(),
    };
    golden("sealed.txt", sealed.to_text().as_bytes());
    assert_eq!(Sealed::parse(sealed.to_text().as_bytes()), Ok(sealed));
}

#[test]
fn the_bytes_of_checkpoints_and_of_the_table_of_heads_never_change() {
    let mut realm = TestRealm::with_main();
    realm.publish(&RefName::tag("v25.11").unwrap(), 2);
    realm.publish_sealed(&main_branch(), 3);
    realm.heads(after(120));
    let cosigners = [("clock", after(120)), ("witness-a", after(130))];
    let checkpoint = TestRealm::sign_checkpoint(&realm.tree(), &["log"], &cosigners);
    golden("checkpoint.note", &checkpoint);
    let root = Root { witness: Some(role(1, [cosigner("witness-a")])), ..root() };
    let verified = SignedCheckpoint::verify(&checkpoint, &root).unwrap();
    assert_eq!((verified.checkpoint(), verified.time()), (&realm.tree(), after(120)));

    let table = realm.table();
    let lines: String = table.heads().iter().map(Head::to_line).collect();
    golden("heads-table.txt", format!("{lines}{} {}\n", table.root(), table.count()).as_bytes());
}

/// A good text, changed, must be refused for the reason that `expected` is part of.
#[track_caller]
fn check<T: NoteRecord + std::fmt::Debug>(
    what: &str,
    good: &str,
    change: impl Fn(&str) -> String,
    expected: &str,
) {
    T::parse(good).unwrap();
    let changed = change(good);
    assert_ne!(changed, good, "{what}: nothing was changed");
    let error = T::parse(&changed).expect_err(what).to_string();
    assert!(error.contains(expected), "{what}: {error}");
    assert!(error.len() < 400, "{what}: the message repeats what was sent");
}

/// Replaces the first line that begins with `key`.
fn line(key: &str, with: &str) -> impl Fn(&str) -> String {
    move |text| {
        let at = text.find(&format!("\n{key}")).unwrap() + 1;
        let end = at + text[at..].find('\n').unwrap() + 1;
        format!("{}{with}{}", &text[..at], &text[end..])
    }
}

#[test]
fn malformed_publications_are_refused() {
    let good = publication(&main_branch(), 1, None, 1).to_text();
    let check = |what: &str, change: &dyn Fn(&str) -> String, expected: &str| {
        check::<Publication>(what, &good, change, expected);
    };
    check("leading zero", &line("seq", "seq 01\n"), "leading zeros");
    check("sign", &line("seq", "seq +1\n"), "leading zeros");
    check("2^64", &line("content ", "content 18446744073709551616 0\n"), "below 2^64");
    check("no number", &line("seq", "seq \n"), "leading zeros");
    check("year 10000", &line("time", "time 253402300800\n"), "year 9999");
    check("duplicate line", &line("seq", "seq 1\nseq 1\n"), "expected `prev");
    check("unknown line", &line("kind", "kind repo\ncolour blue\n"), "expected `ref");
    check("unknown last line", &|text| format!("{text}colour blue\n"), "unexpected line");
    check("empty last line", &|text| format!("{text}\n"), "unexpected line");
    check("missing line", &line("meta", ""), "expected `meta");
    check("missing last line", &line("git", ""), "expected `git");
    check(
        "reordered lines",
        &|text| {
            line("kind", "")(text)
                .replace("ref branch", "kind repo\nref branch")
                .replace("\ntime", "\nkind repo\ntime")
                .replacen("kind repo\nref", "ref", 1)
        },
        "expected `time",
    );
    check("two spaces", &line("kind", "kind  repo\n"), "not a kind");
    check("trailing space", &line("kind", "kind repo \n"), "not a kind");
    check("second version", &|text| text.replace("pub/v1", "pub/v2"), "a newer smart-sync is needed");
    check(
        "another kind of record",
        &|text| text.replace("pub/v1", "root/v1"),
        "smart-sync/pub/v1 was expected",
    );
    check("no final newline", &|text| text.trim_end().to_owned(), "expected `git");
    check("seq 0", &line("seq", "seq 0\n"), "seq 1 has no previous");
    check("seq 2 without prev", &line("seq", "seq 2\n"), "seq 1 has no previous");
    check("upper-case hash", &|text| text.replace("0101", "0A0A"), "hexadecimal");
    check("manifest without a length", &|text| text.replace(" 2841", ""), "expected 2 values");
    check("manifest with three values", &|text| text.replace(" 2841", " 2841 1"), "expected 2 values");
    check("root page over 1 MiB", &|text| text.replace(" 2841", " 1048577"), "1 MiB");
    check("withdrawn at once", &line("manifest", "manifest none\n"), "never published");
    check("a ref of no kind", &line("ref", "ref main\n"), "not a ref");
    check("a channel that climbs", &line("channel", "channel ../x\n"), "not a channel");
    let tag = |seq| publication(&RefName::tag("v1").unwrap(), seq, (seq > 1).then(signed_first).as_ref(), 1);
    assert!(Publication::parse(&tag(1).to_text()).is_ok());
    assert!(Publication::parse(&tag(2).to_text()).unwrap_err().to_string().contains("written once"));
    let commit = RefName::Commit("0123456789abcdef0123456789abcdef01234567".parse().unwrap());
    let of_commit = publication(&commit, 1, None, 1);
    assert!(Publication::parse(&of_commit.to_text()).is_ok());
    assert!(Publication::parse(&Publication { git: None, ..of_commit }.to_text()).is_err());
}

fn signed_first() -> Signed<Publication> {
    Unverified::parse(&sign(&publication(&main_branch(), 1, None, 1), &["publish-repos"]))
        .and_then(|note| note.verify(&signed_root(), &testing::CHANNEL.parse().unwrap(), 1))
        .unwrap()
}

#[test]
fn malformed_roots_are_refused() {
    let good = full_root().to_text();
    let check = |what: &str, change: &dyn Fn(&str) -> String, expected: &str| {
        check::<Root>(what, &good, change, expected);
    };
    let threshold = |threshold: &'static str| {
        move |text: &str| text.replace("role root 2", &format!("role root {threshold}"))
    };
    check("threshold 0", &threshold("0"), "a threshold of 0");
    check("threshold over the keys", &threshold("4"), "a threshold of 4");
    check("huge threshold", &threshold("18446744073709551615"), "a threshold of");
    let twice = format!("{} {}", vkey("root-a"), vkey("root-a"));
    check("a key twice", &|text| text.replacen(&vkey("root-a").to_string(), &twice, 1), "there twice");
    let alias =
        SecretKey::from_seed("alias".parse().unwrap(), &seed_of("root-a")).verifier_key(KeyType::Ed25519);
    let aliased = format!("{} {alias}", vkey("root-a"));
    check(
        "a key under two names",
        &|text| text.replacen(&vkey("root-a").to_string(), &aliased, 1),
        "there twice",
    );
    let swap = |from: String, to: String| move |text: &str| text.replacen(&from, &to, 1);
    check(
        "the log key publishes",
        &swap(vkey("publish-repos").to_string(), vkey("log").to_string()),
        "in two roles",
    );
    check(
        "the log key is a root key",
        &swap(vkey("root-a").to_string(), vkey("log").to_string()),
        "in two roles",
    );
    let log_as_clock = swap(cosigner("clock").to_string(), cosigner("log").to_string());
    check("the log is its own clock", &log_as_clock, "in two roles");
    let clock_as_witness = swap(cosigner("witness-a").to_string(), cosigner("clock").to_string());
    check("the clock is a witness", &clock_as_witness, "in two roles");
    check(
        "a clock that signs notes",
        &swap(cosigner("clock").to_string(), vkey("clock").to_string()),
        "cosignature keys",
    );
    check(
        "a publisher that cosigns",
        &swap(vkey("publish-kernels").to_string(), cosigner("publish-kernels").to_string()),
        "cosignature keys",
    );
    check("max-age 0", &line("max-age", "max-age 0\n"), "max-age");
    check("max-age for ever", &line("max-age", "max-age 315360001\n"), "max-age");
    check("version 0", &line("version", "version 0\n"), "version 1");
    check("version 2 without prev", &line("prev", "prev none\n"), "version 1");
    check("no keys", &|text| text.replace(&format!(" {}", vkey("log")), ""), "without keys");
    check("unsorted patterns", &|text| text.replace("kernels/amd64", "tools/amd64"), "not sorted");
    check("one pattern twice", &|text| text.replace("kernels/amd64", "repos/*"), "not sorted");
    check("a pattern for all", &|text| text.replace("repos/*", "*"), "not a channel");
    check(
        "a revoked key that never published",
        &|text| text.replace("revoke publish-repos", "revoke x"),
        "hash",
    );
    let stranger = swap(format!("revoke {}", vkey("publish-repos")), format!("revoke {}", vkey("stranger")));
    check("a revoked stranger", &stranger, "stays listed");
    check("revoked before", &|text| text.replace(" after ", " before "), "revoke KEY after INDEX");
    check("revoked after 2^40", &|text| text.replace("after 1041", "after 1099511627776"), "no log reaches");
    check(
        "a witness role after publish roles",
        &|text| {
            let witness = text.lines().find(|line| line.starts_with("role witness")).unwrap();
            text.replace(&format!("{witness}\n"), "") + witness + "\n"
        },
        "unexpected line",
    );
    let many: Vec<String> = (0..65).map(|index| vkey(&format!("root-{index}")).to_string()).collect();
    check("65 keys", &line("role root", &format!("role root 1 {}\n", many.join(" "))), "at most 64");
}

fn seed_of(name: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(name).into()
}

#[test]
fn other_leaves_are_read_strictly() {
    let heads = "smart-sync/heads/v1\ntime 5\nprev-heads none\nroot 1 HASH\nheads HASH 0\n"
        .replace("HASH", &LogHash::empty_root().to_string());
    assert!(Heads::parse(heads.as_bytes()).is_ok());
    for (from, to) in [
        ("time 5", "time 05"),
        ("heads/v1", "heads/v2"),
        ("root 1", "root 0"),
        ("root 1", "root"),
        (" 0\n", " 0"),
        (" 0\n", " 0 \n"),
        (" 0\n", " 0\n\n"),
        (" 0\n", " 1099511627777\n"),
        ("prev-heads none\n", ""),
        ("sha256", "SHA256"),
    ] {
        assert!(Heads::parse(heads.replacen(from, to, 1).as_bytes()).is_err(), "{to:?}");
    }
    assert!(Heads::parse(&vec![b'x'; 100_000]).is_err());
    assert!(Heads::parse(b"smart-sync/heads/v1\xff\n").is_err());
    let sealed = "smart-sync/sealed/v1\nslot HASH\nseq 1\nprev none\ncommitment HASH\n"
        .replace("HASH", &LogHash::empty_root().to_string());
    assert!(Sealed::parse(sealed.as_bytes()).is_ok());
    for (from, to) in [("seq 1", "seq 0"), ("seq 1", "seq 2"), ("none", "NONE"), ("commitment", "slot")] {
        assert!(Sealed::parse(sealed.replacen(from, to, 1).as_bytes()).is_err(), "{to:?}");
    }
}

#[track_caller]
fn check_publisher(what: &str, channel: &str, signers: &[&str], index: u64, expected: Option<&str>) {
    let mut root = full_root();
    root.publish[1].role = role(1, ["publish-repos", "publish-new"].map(vkey));
    let bytes = sign(&root, &["root-a", "root-c"]);
    let root = Unverified::<Root>::parse(&bytes).unwrap().verify_next(&signed_root()).unwrap();
    let channel = channel.parse().unwrap();
    let publication = Publication { channel, ..publication(&main_branch(), 1, None, 1) };
    let result = Unverified::<Publication>::parse(&sign(&publication, signers))
        .and_then(|note| note.verify(&root, &publication.channel, index));
    match (result, expected) {
        (Ok(_), None) => {}
        (Ok(_), Some(_)) => panic!("{what} was accepted"),
        (Err(error), expected) => {
            assert!(error.to_string().contains(expected.unwrap_or("nothing")), "{what}: {error}");
        }
    }
}

#[test]
fn only_the_publishers_of_a_channel_publish_to_it() {
    check_publisher("its publisher", "repos/nixos", &["publish-new"], 2000, None);
    check_publisher("its publisher and a stranger", "repos/nixos", &["publish-new", "stranger"], 2000, None);
    check_publisher("no publisher", "repos/nixos", &["stranger"], 2000, Some("keys: 0 of"));
    check_publisher("the log key", "repos/nixos", &["log"], 2000, Some("keys: 0 of"));
    check_publisher("a root key", "repos/nixos", &["root-a"], 2000, Some("keys: 0 of"));
    check_publisher(
        "the publisher of another channel",
        "kernels/amd64",
        &["publish-new"],
        1,
        Some("keys: 0 of"),
    );
    check_publisher(
        "a name that only begins alike",
        "repos-evil/x",
        &["publish-new"],
        1,
        Some("no key may publish"),
    );
    check_publisher("the name above the pattern", "repos", &["publish-new"], 1, Some("no key may publish"));
    check_publisher("a revoked key before the cutoff", "repos/nixos", &["publish-repos"], 1041, None);
    check_publisher(
        "a revoked key after the cutoff",
        "repos/nixos",
        &["publish-repos"],
        1042,
        Some("was revoked after leaf 1041"),
    );
    check_publisher(
        "a revoked key beside a good one",
        "repos/nixos",
        &["publish-new", "publish-repos"],
        1042,
        None,
    );
}

#[test]
fn a_record_of_one_kind_does_not_stand_in_for_another() {
    let bytes = sign(&publication(&main_branch(), 1, None, 1), &["root-a", "root-b"]);
    let error = Unverified::<Root>::parse(&bytes).unwrap_err();
    assert!(matches!(error, RecordError::OtherKind { .. }), "{error}");
    let bytes = sign_text("smart-sync/root/v2\n", &["root-a", "root-b"]);
    let error = Unverified::<Root>::parse(&bytes).unwrap_err();
    assert!(matches!(error, RecordError::OtherVersion { .. }), "{error}");
}

#[test]
fn signatures_out_of_order_would_be_another_leaf() {
    let mut note = crate::note::Note::new(root().to_text()).unwrap();
    note.sign(&secret("root-b")).unwrap();
    note.sign(&secret("root-a")).unwrap();
    assert_eq!(Unverified::<Root>::parse(&note.to_bytes()).unwrap_err(), RecordError::SignatureOrder);
}

#[track_caller]
fn check_next(what: &str, change: impl Fn(&mut Root), signers: &[&str], expected: Option<&str>) {
    let mut next = full_root();
    change(&mut next);
    let result =
        Unverified::<Root>::parse(&sign(&next, signers)).and_then(|note| note.verify_next(&signed_root()));
    match (result, expected) {
        (Ok(_), None) => {}
        (Ok(_), Some(_)) => panic!("{what} was accepted"),
        (Err(error), expected) => {
            assert!(error.to_string().contains(expected.unwrap_or("nothing")), "{what}: {error}");
        }
    }
}

#[test]
fn a_root_follows_only_when_the_old_and_the_new_keys_say_so() {
    let new_keys = |root: &mut Root| root.root = role(2, ["new-a", "new-b"].map(vkey));
    let nothing = |_: &mut Root| {};
    check_next("the same keys", nothing, &["root-a", "root-c"], None);
    check_next("old and new keys", new_keys, &["new-a", "new-b", "root-a", "root-b"], None);
    check_next("the old keys only", new_keys, &["root-a", "root-b"], Some("of the root keys"));
    check_next("the new keys only", new_keys, &["new-a", "new-b"], Some("of the previous root keys"));
    check_next("one old key too few", nothing, &["root-a"], Some("keys: 1 of"));
    check_next("a skipped version", |root| root.version = 3, &["root-a", "root-b"], Some("does not follow"));
    let other_prev = |root: &mut Root| root.prev = Some(LogHash::empty_root());
    check_next("another prev", other_prev, &["root-a", "root-b"], Some("made for another version"));
    let other_origin = |root: &mut Root| root.origin = "evil.example.org".parse().unwrap();
    check_next("another origin", other_origin, &["root-a", "root-b"], Some("not of lab.example.org"));

    // One key that signs under two names is one key.
    let alias = SecretKey::from_seed("alias".parse().unwrap(), &seed_of("root-a"));
    let mut note = crate::note::Note::new(full_root().to_text()).unwrap();
    note.sign(&secret("root-a")).unwrap();
    note.sign(&alias).unwrap();
    note.sort_signatures();
    let result =
        Unverified::<Root>::parse(&note.to_bytes()).and_then(|note| note.verify_next(&signed_root()));
    assert!(matches!(result, Err(RecordError::Threshold { found: 1, .. })), "{result:?}");

    let pinned = Unverified::<Root>::parse(&sign(&root(), &["root-a", "root-b"])).unwrap();
    assert!(pinned.clone().verify_pinned(&LogHash::empty_root()).is_err());
    assert!(pinned.clone().verify_pinned(&signed_root().leaf()).is_ok());
    assert!(UnixTime::EPOCH < root().expires);
}
