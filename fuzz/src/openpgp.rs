//! Keys, signatures and signed texts of OpenPGP.

use smart_sync_sync::openpgp::{ClearText, Digested, KeyRing, Signatures};
use smart_sync_sync::time::UnixTime;

use crate::{Verdict, any};

/// What the golden signatures sign.
const CONTENT: &[u8] = b"what is signed\n";
/// The keys that have made them.
const RING: &[u8] = include_bytes!("../../crates/sync/tests/golden/openpgp/ring.asc");
/// A month after they were made.
const NOW: u64 = 1_769_904_000;

/// Bytes as each of what can be read: a key ring, detached signatures, a text with its signature, and what is kept of
/// signatures.
pub fn openpgp(bytes: &[u8]) -> Verdict {
    any(&[key_ring(bytes), detached(bytes), clear_text(bytes), kept(bytes)])
}

fn now() -> UnixTime {
    UnixTime::new(NOW).expect("it is before the end of 9999")
}

/// A ring of any bytes is asked about a signature that its keys may have made.
fn key_ring(bytes: &[u8]) -> Verdict {
    let Ok(ring) = KeyRing::from_bytes(bytes) else { return Verdict::Refused };
    let signature = include_bytes!("../../crates/sync/tests/golden/openpgp/content.sig");
    let _ = ring.verify_detached(signature, CONTENT, now()).expect("reading from memory does not fail");
    Verdict::Accepted
}

fn detached(bytes: &[u8]) -> Verdict {
    let Ok(signatures) = Signatures::detached(bytes) else { return Verdict::Refused };
    check(&signatures.digest(CONTENT).expect("reading from memory does not fail"));
    Verdict::Accepted
}

fn clear_text(bytes: &[u8]) -> Verdict {
    let Ok(parsed) = ClearText::parse(bytes) else { return Verdict::Refused };
    assert!(parsed.text.lines().all(|line| !line.ends_with([' ', '\t', '\r'])));
    check(&parsed.digested);
    Verdict::Accepted
}

fn kept(bytes: &[u8]) -> Verdict {
    let Some(digested) = Digested::decode(bytes) else { return Verdict::Refused };
    check(&digested);
    Verdict::Accepted
}

/// What is kept of signatures is judged as they are.
fn check(digested: &Digested) {
    let ring = KeyRing::from_bytes(RING).expect("a golden ring");
    let verdict = ring.judge(digested, now());
    let again = Digested::decode(&digested.encode()).expect("what was written can be read");
    assert_eq!(ring.judge(&again, now()), verdict);
}
