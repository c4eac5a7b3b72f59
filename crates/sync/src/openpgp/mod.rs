//! OpenPGP (RFC 9580): whether what others have published was signed by somebody who is trusted, and signing.
//!
//! Judging a signature is apart from hashing what it signs. [`Signatures`] are read, the content goes by once, and what
//! comes of it, [`Digested`], is judged by a [`KeyRing`] then, or years later, with another ring and at another time:
//! whoever keeps it never has to read a package of many gigabytes once more because a key has expired.
//!
//! Only key rings that the operator names are believed, and no web of trust: a key in a ring may sign, and no other one
//! may. The library verifies numbers; which signatures, keys and algorithms count is decided here (`certificate`), as the
//! text of the standard asks for and as GnuPG does where that is stricter. Everything read here may come from an
//! attacker, so that sizes, packets, signatures and certificates are bounded.
//!
//! Nothing here asks for the time.

mod armor;
mod certificate;
mod clear_text;
mod digested;
mod error;
mod facts;
mod hashing;
mod key_ring;
mod name;
mod signatures;
mod signing_key;

#[cfg(test)]
mod tests;

pub use clear_text::{CLEAR_TEXT_BYTES_MAX, ClearText};
pub use digested::Digested;
pub use error::{KeyError, SignatureError};
pub use key_ring::{KeyRing, Signer};
pub use name::{Fingerprint, KeyName};
pub use signatures::{SIGNATURES_BYTES_MAX, Signatures};
pub use signing_key::SigningKey;
