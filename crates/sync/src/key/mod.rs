//! Keys: what verifies, what signs, and where secrets are kept.
//!
//! Everything is Ed25519. Whatever signs does so through [`Signer`], so that a key in a file and a key in an agent
//! make the same signatures. A public key is checked once, when it is parsed, and is sound from then on.

mod agent;
pub mod minisig;
mod public;
mod secret;
mod sidecar;
mod ssh_wire;
pub mod sshsig;
mod vkey;

pub use agent::{Agent, AgentError, AgentKey};
pub use public::{PublicKey, PublicKeyError, Signature};
pub use secret::{KeyFileError, SecretKey};
pub use sidecar::{SidecarDigests, SidecarError, SidecarHasher};
pub use vkey::{KeyHash, KeyName, KeyType, ParseVerifierKeyError, VerifierKey};

/// Something that makes signatures with one key.
///
/// A signer signs exactly the bytes that it is given. It may ask its user first, so a call can take long, and it
/// may fail; it never returns a signature that its own public key does not verify.
pub trait Signer {
    /// The name under which the key signs notes.
    fn name(&self) -> &KeyName;

    /// The key that verifies what this signs.
    fn public_key(&self) -> &PublicKey;

    /// Signs a message.
    fn sign(&self, message: &[u8]) -> Result<Signature, SignError>;

    /// The verifier key of this signer for one type of signature.
    fn verifier_key(&self, key_type: KeyType) -> VerifierKey {
        VerifierKey::new(self.name().clone(), key_type, self.public_key().clone())
    }
}

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
#[error("signing with the key {name}")]
pub struct SignError {
    /// The key.
    pub name: KeyName,
    /// Why.
    pub source: AgentError,
}
