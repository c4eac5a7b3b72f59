//! Ed25519 public keys and signatures, without the ones that only serve to deceive.

use std::fmt;

use ed25519_dalek::VerifyingKey;

/// An Ed25519 public key with one spelling, on which forged signatures do not verify.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

/// An Ed25519 signature about which nothing is known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; Signature::LEN]);

/// Why bytes are not taken as a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not a point of the curve.
    #[error("the public key is not a point of the curve")]
    NotAPoint,
    /// Another spelling of a point: one key could count as two.
    #[error("the public key is not in its canonical form")]
    NotCanonical,
    /// A point of small order, for which signatures of any message can be made without a secret.
    #[error("the public key is of small order, so that anybody could sign for it")]
    SmallOrder,
}

impl PublicKey {
    /// The number of bytes of a key.
    pub const LEN: usize = 32;

    /// Checks the bytes of a key.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, PublicKeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyError::NotAPoint)?;
        if key.is_weak() {
            return Err(PublicKeyError::SmallOrder);
        }
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(PublicKeyError::NotCanonical);
        }
        Ok(Self(key))
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        self.0.as_bytes()
    }

    /// Whether the signature is of this message by this key. One message has one signature per nonce: points of
    /// small order, S at or above the group order and other spellings of R are refused.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", smart_sync_store::id::to_hex(self.as_bytes()))
    }
}

impl Signature {
    /// The number of bytes of a signature.
    pub const LEN: usize = 64;

    /// Takes bytes as a signature.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Signer as _;
    use crate::testing::{secret, small_order_signature};
    use ed25519_dalek::{Signer, Verifier as _};
    use smart_sync_store::id::from_hex;

    #[track_caller]
    fn check(hex: &str, expected: PublicKeyError) {
        assert_eq!(PublicKey::from_bytes(&from_hex(hex).unwrap()), Err(expected), "{hex}");
    }

    #[test]
    fn weak_and_misspelt_keys_are_refused() {
        // All points of order 1, 2, 4 and 8, and their other spellings.
        for hex in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        ] {
            check(hex, PublicKeyError::SmallOrder);
        }
        // y = p + 3, which is a second spelling of the point with y = 3.
        check(
            "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            PublicKeyError::NotCanonical,
        );
        check("0200000000000000000000000000000000000000000000000000000000000000", PublicKeyError::NotAPoint);
    }

    #[test]
    fn a_signature_verifies_in_one_spelling_only() {
        let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let key = PublicKey::from_bytes(secret.verifying_key().as_bytes()).unwrap();
        let good = secret.sign(b"message").to_bytes();
        assert!(key.verifies(b"message", &Signature(good)));
        assert!(!key.verifies(b"other", &Signature(good)));

        // S + L is the same number modulo the group order L.
        let order: [u8; 32] =
            from_hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut malleated = good;
        let mut carry = 0u16;
        for (byte, add) in malleated[32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        assert!(!key.verifies(b"message", &Signature(malleated)), "S + L was taken");
    }

    /// Its equation holds: a verifier that checks nothing else takes it.
    #[test]
    fn a_signature_whose_r_is_of_small_order_is_refused() {
        let signature = small_order_signature("publisher", b"message");
        let key = secret("publisher");
        let lax = ed25519_dalek::VerifyingKey::from_bytes(key.public_key().as_bytes()).unwrap();
        let dalek = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
        assert!(lax.verify(b"message", &dalek).is_ok(), "it would be refused for another reason");
        assert!(!key.public_key().verifies(b"message", &signature));
    }
}
