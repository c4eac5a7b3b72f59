//! What keys are called.

use std::fmt;

/// The fingerprint of a key, in capital digits as GnuPG writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    pub(super) fn of(key: &impl pgp::types::KeyDetails) -> Self {
        Self(key.fingerprint().to_string().to_uppercase())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a signature calls the key that has made it: a fingerprint, or the sixteen digits of a key id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    pub(super) fn new(digits: &impl fmt::Display) -> Self {
        Self(digits.to_string().to_uppercase())
    }
}

impl From<&Fingerprint> for KeyName {
    fn from(fingerprint: &Fingerprint) -> Self {
        Self(fingerprint.0.clone())
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
