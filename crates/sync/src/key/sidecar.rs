//! What the two kinds of detached signature share: the digests of a file, read once for both.

use blake2::Blake2b512;
use sha2::{Digest, Sha512};

/// Hashes a file for its sidecars, in pieces of any size.
#[derive(Debug, Clone, Default)]
pub struct SidecarHasher {
    blake2b: Blake2b512,
    sha512: Sha512,
}

/// What sidecars are made over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecarDigests {
    /// What minisign signs.
    pub(super) blake2b: [u8; 64],
    /// What `ssh-keygen -Y` signs.
    pub(super) sha512: [u8; 64],
}

/// Why a sidecar was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SidecarError {
    /// It is not of its format.
    #[error("not a {format} signature: {reason}")]
    Malformed {
        /// `minisign` or `ssh`.
        format: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another key made it.
    #[error("the signature was made by another key")]
    OtherKey,
    /// It was made for another purpose.
    #[error("the signature is for the namespace {0:?}, and only {expected:?} counts here", expected = super::sshsig::NAMESPACE)]
    OtherNamespace(String),
    /// It does not belong to this file.
    #[error("the signature is not of this file")]
    WrongSignature,
}

impl SidecarHasher {
    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        self.blake2b.update(bytes);
        self.sha512.update(bytes);
    }

    /// The digests of everything that was taken.
    pub fn finish(self) -> SidecarDigests {
        SidecarDigests { blake2b: self.blake2b.finalize().into(), sha512: self.sha512.finalize().into() }
    }
}

impl SidecarDigests {
    /// The digests of a file that is at hand as a whole.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = SidecarHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }
}
