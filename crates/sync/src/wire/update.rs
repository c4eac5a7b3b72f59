//! The answer to the question where a ref stands: evidence, and behind it a bundle that leads there.
//!
//! A small change then costs one question. The bundle is only there when the client has said from where it is to lead,
//! and it is believed as little as one that is asked for by its name: the tree that it leads to has to be the one that
//! the evidence proves.

use smart_sync_store::codec::DecodeError;

use crate::evidence::{EVIDENCE_BYTES_MAX, Evidence};

/// The longest bundle that is sent along: with the evidence it is within what a connection sends at once when it is new.
pub const BUNDLE_BYTES_MAX: usize = 8 << 10;
/// The most bytes of an answer.
pub const UPDATE_BYTES_MAX: usize = EVIDENCE_BYTES_MAX + BUNDLE_BYTES_MAX;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// What the ref is, and why to believe it.
    pub evidence: Evidence,
    /// What leads there from the manifest that the client has named; nothing where that is not at hand, or long.
    pub bundle: Vec<u8>,
}

impl Update {
    /// The bytes of the answer.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.evidence.encode();
        out.extend_from_slice(&self.bundle);
        out
    }

    /// Reads an answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (evidence, bundle) = Evidence::decode_first(bytes)?;
        if bundle.len() > BUNDLE_BYTES_MAX {
            let (value, limit) = (bundle.len() as u64, BUNDLE_BYTES_MAX as u64);
            return Err(DecodeError::OverLimit { field: "the length of a bundle sent along", value, limit });
        }
        Ok(Self { evidence, bundle: bundle.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_evidence_is_the_bundle() {
        let evidence = Evidence::Unchanged { checkpoint: b"a note".to_vec() };
        for length in [0, 1, BUNDLE_BYTES_MAX] {
            let update = Update { evidence: evidence.clone(), bundle: vec![7; length] };
            assert_eq!(Update::decode(&update.encode()), Ok(update));
        }
        let long = Update { evidence: evidence.clone(), bundle: vec![7; BUNDLE_BYTES_MAX + 1] };
        assert!(matches!(Update::decode(&long.encode()), Err(DecodeError::OverLimit { .. })));
        let cut = evidence.encode();
        assert!(Update::decode(&cut[..cut.len() - 1]).is_err());
    }
}
