//! Against GnuPG, whose clock stands where a test puts it: what it signs is judged here, what is signed here there.

mod clear_text;
mod digested;
mod gnupg;
mod signing;
mod subkeys;

use smart_sync_tests::Gpg;

use super::{KeyRing, SignatureError, Signer};
use crate::time::UnixTime;

/// What is signed.
const CONTENT: &[u8] = b"what is signed\n";

/// A time of the year 2026, such as `2026-02-01`.
fn day(text: &str) -> UnixTime {
    UnixTime::parse_typed(text).unwrap()
}

/// A ring of the public halves of some keys.
fn ring_of(gpg: &Gpg, keys: &[&str]) -> KeyRing {
    let bytes: Vec<u8> = keys.iter().flat_map(|key| gpg.export(key)).collect();
    KeyRing::from_bytes(&bytes).unwrap()
}

fn verify(ring: &KeyRing, signatures: &[u8], content: &[u8], now: &str) -> Result<Signer, SignatureError> {
    ring.verify_detached(signatures, content, day(now)).unwrap()
}
