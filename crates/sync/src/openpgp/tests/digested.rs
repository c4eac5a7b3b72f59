//! What is kept of signatures.

use sha2::{Digest as _, Sha512};

use super::super::{ClearText, Digested, KeyRing, Signatures};
use super::{CONTENT, day};

const RING: &[u8] = include_bytes!("../../../tests/golden/openpgp/ring.asc");
const TEXT: &[u8] = include_bytes!("../../../tests/golden/openpgp/text.asc");
const DETACHED: &[u8] = include_bytes!("../../../tests/golden/openpgp/content.sig");

#[test]
fn what_was_kept_is_judged_as_what_was_read() {
    let ring = KeyRing::from_bytes(RING).unwrap();
    let detached = Signatures::detached(DETACHED).unwrap().digest(CONTENT).unwrap();
    let text = ClearText::parse(TEXT).unwrap().digested;
    for digested in [detached, text] {
        let kept = Digested::decode(&digested.encode()).unwrap();
        assert_eq!(kept, digested);
        let signer = ring.judge(&kept, day("2026-02-01")).unwrap();
        assert_eq!(signer.user.as_deref(), Some("Golden <golden@example.org>"));
        let encoded = digested.encode();
        for len in 0..encoded.len() {
            assert_eq!(Digested::decode(&encoded[..len]), None, "{len}");
        }
        assert_eq!(Digested::decode(&[&encoded[..], b"x"].concat()), None);
    }
}

#[test]
fn a_content_that_was_hashed_is_not_read_again() {
    let signatures = Signatures::detached(DETACHED).unwrap();
    let hashed = signatures.digest_hashed(&Sha512::new_with_prefix(CONTENT)).unwrap();
    assert_eq!(hashed, signatures.digest(CONTENT).unwrap());
}
