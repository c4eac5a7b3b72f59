//! Why a signature does not count, and why a key cannot be used.

use std::io;
use std::path::PathBuf;

use super::name::KeyName;
use crate::time::UnixTime;

/// Why no signature counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature.
    #[error("it is not signed")]
    NotSigned,
    /// No key ring has a key that has signed it.
    #[error("it is signed by {}, which no key ring has", listed(.0))]
    UnknownKey(Vec<KeyName>),
    /// The key did not sign this.
    #[error("the signature of {key} is wrong: what it signs was changed, or is something else")]
    Bad {
        /// Whose it claims to be.
        key: KeyName,
    },
    /// The key or its signature has come to an end.
    #[error("the {what} {key} has expired at {at}")]
    Expired {
        /// Key or signature.
        what: &'static str,
        /// The key.
        key: KeyName,
        /// When.
        at: UnixTime,
    },
    /// The key or its signature begins later.
    #[error("the {what} {key} was made at {at}, which is yet to come")]
    Early {
        /// Key or signature.
        what: &'static str,
        /// The key.
        key: KeyName,
        /// When.
        at: UnixTime,
    },
    /// Whoever owns the key has revoked it.
    #[error("the key {key} was revoked at {at}")]
    Revoked {
        /// The key, which is the one that has signed or the primary key above it.
        key: KeyName,
        /// When.
        at: UnixTime,
    },
    /// The key has signed it, and was not made for that.
    #[error("the key {key} may not sign: {reason}")]
    NotForSigning {
        /// The key.
        key: KeyName,
        /// Why.
        reason: &'static str,
    },
    /// Others could have made this signature.
    #[error("the signature of {key} is not accepted: {what}")]
    Weak {
        /// The key.
        key: KeyName,
        /// What is too weak.
        what: String,
    },
    /// The signature cannot be read.
    #[error("the signature is malformed: {0}")]
    Malformed(String),
}

impl SignatureError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotSigned => "sign it, or say that what is not signed is accepted",
            Self::UnknownKey(_) => {
                "if this key is to be trusted, add it to a key ring: gpg --armor --export KEY > FILE"
            }
            Self::Bad { .. } | Self::Malformed(_) => {
                "get the file and its signature again from where they were made"
            }
            Self::Expired { .. } => {
                "ask for the key as it is now, with a later end, or have it signed again by a key that has not expired"
            }
            Self::Early { .. } => "compare the clock of this machine with that of the one that has signed",
            Self::Revoked { .. } | Self::NotForSigning { .. } => "have it signed again by another key",
            Self::Weak { .. } => {
                "have it signed again, with SHA-512 and a key such as Ed25519 or RSA of 3072 bits"
            }
        }
    }

    /// How much it says about why nothing counts; where several signatures stand, the most is shown.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::NotSigned => 0,
            Self::UnknownKey(_) => 1,
            Self::Malformed(_) => 2,
            Self::Bad { .. } => 3,
            Self::Weak { .. } | Self::NotForSigning { .. } => 4,
            Self::Early { .. } | Self::Expired { .. } => 5,
            Self::Revoked { .. } => 6,
        }
    }
}

/// Why a key ring or a secret key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It holds no keys that can be used.
    #[error("{} is no key ring: {reason}", path.display())]
    NoKeyRing {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It holds no key that can sign.
    #[error("{} holds no key to sign with: {reason}", path.display())]
    NoSigningKey {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The key is protected, and what was given does not open it.
    #[error("the key in {} is protected by a passphrase, and {reason}", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: &'static str,
    },
    /// The text would be understood differently by different programs.
    #[error("a text cannot be signed: {0}")]
    Text(&'static str),
    /// Making the signature failed.
    #[error("signing: {0}")]
    Sign(String),
}

impl KeyError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path and who may read it",
            Self::NoKeyRing { .. } => "write one with `gpg --armor --export KEY > FILE`",
            Self::NoSigningKey { .. } => "write it with `gpg --armor --export-secret-keys KEY > FILE`",
            Self::Locked { .. } => "give the file that holds the passphrase, in its first line",
            Self::Text(_) | Self::Sign(_) => "this is no fault of the key; please report it",
        }
    }
}

fn listed(keys: &[KeyName]) -> String {
    match keys {
        [] => "a key that it does not name".to_owned(),
        [key] => key.to_string(),
        keys => keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
    }
}
