//! A realm whose keys everybody can derive, for tests of this crate and of those above it.
//!
//! Everything in it is deterministic, so that what it signs can stand in golden files, and nothing in it is secret:
//! it exists only in tests and with the feature `testing`.

mod realm;
mod small_order;

use sha2::{Digest, Sha256};
use smart_sync_store::id::{CommitId, ManifestId, TreeId};

use crate::key::{KeyType, SecretKey, Signer, VerifierKey};
use crate::name::RefName;
use crate::note::Note;
use crate::record::{
    ContentSummary, GitIds, ManifestRef, NoteRecord, Publication, PublishRole, Role, Root, Signed, Unverified,
};
use crate::time::UnixTime;

pub use realm::{PRIVATE_CHANNEL, TestLog, TestRealm};
pub use small_order::small_order_signature;

/// The origin of the realm.
pub const ORIGIN: &str = "lab.example.org";
/// The channel that the realm publishes to.
pub const CHANNEL: &str = "repos/nixos";
/// When everything in the realm begins: a day in 2026.
pub const BEGINNING: u64 = 1_790_000_000;

/// The time so many seconds after [`BEGINNING`].
pub fn after(seconds: u64) -> UnixTime {
    UnixTime::new(BEGINNING + seconds).expect("tests do not last eight thousand years")
}

/// The key of this name.
pub fn secret(name: &str) -> SecretKey {
    alias(name, name)
}

/// The key of one name under another.
pub fn alias(name: &str, of: &str) -> SecretKey {
    let name = name.parse().expect("tests name keys as keys may be named");
    SecretKey::from_seed(name, &seed(of))
}

fn seed(name: &str) -> [u8; 32] {
    Sha256::digest(name).into()
}

/// The verifier key of the key of this name.
pub fn vkey(name: &str) -> VerifierKey {
    secret(name).verifier_key(KeyType::Ed25519)
}

/// The cosignature key of the key of this name.
pub fn cosigner(name: &str) -> VerifierKey {
    secret(name).verifier_key(KeyType::Cosignature)
}

/// A role of these keys.
pub fn role(threshold: usize, keys: impl IntoIterator<Item = VerifierKey>) -> Role {
    Role { threshold, keys: keys.into_iter().collect() }
}

/// The first root document: two of three root keys, one publisher of `repos/*`, another one of `kernels/amd64`.
pub fn root() -> Root {
    let publish = |pattern: &str, key| PublishRole {
        pattern: pattern.parse().expect("the pattern is sound"),
        role: role(1, [vkey(key)]),
    };
    Root {
        origin: ORIGIN.parse().expect("the origin is sound"),
        version: 1,
        prev: None,
        expires: after(365 * 86_400),
        max_age_seconds: 7 * 86_400,
        root: role(2, ["root-a", "root-b", "root-c"].map(vkey)),
        log: role(1, [vkey("log")]),
        clock: role(1, [cosigner("clock")]),
        witness: None,
        publish: vec![publish("kernels/amd64", "publish-kernels"), publish("repos/*", "publish-repos")],
        revoked: Vec::new(),
    }
}

/// A publication of a branch or any other ref, whose manifest is named after `seed`.
pub fn publication(
    reference: &RefName,
    seq: u64,
    previous: Option<&Signed<Publication>>,
    seed: u8,
) -> Publication {
    let commit = match reference {
        RefName::Commit(commit) => *commit,
        _ => CommitId::from_bytes([seed; 20]),
    };
    Publication {
        origin: ORIGIN.parse().expect("the origin is sound"),
        channel: CHANNEL.parse().expect("the channel is sound"),
        seq,
        prev: previous.map(Signed::leaf),
        time: after(seq),
        kind: "repo".parse().expect("the kind is sound"),
        reference: reference.clone(),
        manifest: Some(ManifestRef { id: ManifestId::from_bytes([seed; 32]), bytes: 2841 }),
        content: ContentSummary { entries: 951, bytes: 11_534_336 },
        content_time: after(0),
        meta: None,
        git: Some(GitIds { commit, tree: TreeId::from_bytes([seed; 20]) }),
    }
}

/// The note of a record, signed by the keys of these names.
pub fn sign<T: NoteRecord>(record: &T, signers: &[&str]) -> Vec<u8> {
    sign_text(&record.to_text(), signers)
}

/// A note of any text, signed by the keys of these names.
pub fn sign_text(text: &str, signers: &[&str]) -> Vec<u8> {
    let mut note = Note::new(text.to_owned()).expect("tests sign plain text");
    for name in signers {
        note.sign(&secret(name)).expect("a key in memory always signs");
    }
    note.sort_signatures();
    note.to_bytes()
}

/// The first root document, signed.
pub fn signed_root() -> Signed<Root> {
    let bytes = sign(&root(), &["root-a", "root-b"]);
    Unverified::<Root>::parse(&bytes).and_then(Unverified::verify_own).expect("two of three root keys signed")
}

/// The branch that most tests publish.
pub fn main_branch() -> RefName {
    RefName::branch("main").expect("the name is sound")
}
