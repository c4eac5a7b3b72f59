//! Verifier keys in the text form of [C2SP signed-note](https://c2sp.org/signed-note): `name+hash+base64`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::public::{PublicKey, PublicKeyError};

/// The name of a key: no white space, no `+`, no control characters, 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Box<str>);

/// Four bytes by which a signature line says which key made it. They find the key and prove nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 4]);

/// What a key's signatures are made over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// The text of the note (type byte 1).
    Ed25519,
    /// The text of a checkpoint and a time: [tlog-cosignature](https://c2sp.org/tlog-cosignature) v1 (type byte 4).
    Cosignature,
}

/// A public key with its name and the type of its signatures.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: KeyName,
    key_type: KeyType,
    key: PublicKey,
    hash: KeyHash,
}

/// Why a text is not a verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseVerifierKeyError {
    /// Not of the form `name+hash+base64`.
    #[error("not a verifier key of the form name+hash+base64: {0:?}")]
    Form(String),
    /// The name breaks the rules of key names.
    #[error(
        "{0:?} is no key name: white space, `+` and control characters are not allowed, 1 to 255 bytes are"
    )]
    Name(String),
    /// Neither an Ed25519 key nor one for cosignatures.
    #[error("the verifier key of {0} is of a type that is not known")]
    UnknownType(KeyName),
    /// The key hash is not the one of this name and key.
    #[error("the hash in the verifier key of {0} is not the hash of its name and key")]
    Hash(KeyName),
    /// The key itself is not acceptable.
    #[error("the verifier key of {name}: {source}")]
    Key {
        /// The key's name.
        name: KeyName,
        /// What is wrong with it.
        source: PublicKeyError,
    },
}

impl KeyName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl KeyType {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }
}

impl VerifierKey {
    /// Puts a verifier key together.
    pub fn new(name: KeyName, key_type: KeyType, key: PublicKey) -> Self {
        let digest = Sha256::new()
            .chain_update(name.as_str())
            .chain_update([b'\n', key_type.byte()])
            .chain_update(key.as_bytes())
            .finalize();
        Self { name, key_type, key, hash: KeyHash([digest[0], digest[1], digest[2], digest[3]]) }
    }

    /// The key's name.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// The type of its signatures.
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The public key. Two verifier keys with the same one belong to the same holder, whatever their names.
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The hash that signature lines carry.
    pub const fn hash(&self) -> KeyHash {
        self.hash
    }
}

impl FromStr for KeyName {
    type Err = ParseVerifierKeyError;

    fn from_str(text: &str) -> Result<Self, ParseVerifierKeyError> {
        let is_wrong =
            |character: char| character.is_whitespace() || character.is_control() || character == '+';
        if text.is_empty() || text.len() > 255 || text.contains(is_wrong) {
            return Err(ParseVerifierKeyError::Name(text.chars().take(80).collect()));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for VerifierKey {
    type Err = ParseVerifierKeyError;

    fn from_str(text: &str) -> Result<Self, ParseVerifierKeyError> {
        let form = || ParseVerifierKeyError::Form(text.chars().take(80).collect());
        let (name, rest) = text.split_once('+').ok_or_else(form)?;
        let (hash, key) = rest.split_once('+').ok_or_else(form)?;
        let hash = smart_sync_store::id::from_hex(hash).map(KeyHash).ok_or_else(form)?;
        // 33 bytes are 44 characters; anything longer is not worth decoding.
        let bytes = Some(key).filter(|key| key.len() == 44).and_then(|key| BASE64_STANDARD.decode(key).ok());
        let bytes: [u8; 33] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(form)?;
        let name: KeyName = name.parse()?;
        let key_type = match bytes[0] {
            1 => KeyType::Ed25519,
            4 => KeyType::Cosignature,
            _ => return Err(ParseVerifierKeyError::UnknownType(name)),
        };
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[1..]);
        let key = PublicKey::from_bytes(&key)
            .map_err(|source| ParseVerifierKeyError::Key { name: name.clone(), source })?;
        let vkey = Self::new(name, key_type, key);
        if vkey.hash != hash {
            return Err(ParseVerifierKeyError::Hash(vkey.name));
        }
        Ok(vkey)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.key_type.byte()];
        bytes.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, self.hash, BASE64_STANDARD.encode(bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyName({})", self.0)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&smart_sync_store::id::to_hex(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example key of the signed-note documentation.
    const EXAMPLE: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn keys_come_back_as_they_were_written() {
        let key: VerifierKey = EXAMPLE.parse().unwrap();
        assert_eq!(key.to_string(), EXAMPLE);
        assert_eq!(key.key_type(), KeyType::Ed25519);
        let cosigning = VerifierKey::new(key.name().clone(), KeyType::Cosignature, key.public_key().clone());
        assert_ne!(cosigning.hash(), key.hash());
        assert_eq!(cosigning.to_string().parse(), Ok(cosigning));
    }

    #[test]
    fn other_spellings_and_unsound_keys_are_refused() {
        let weak = |byte| {
            let mut bytes = [0u8; 33];
            bytes[0] = byte;
            bytes[1] = 1;
            let digest = Sha256::new().chain_update("a\n").chain_update(bytes).finalize();
            let hash = smart_sync_store::id::to_hex(&digest[..4]);
            format!("a+{hash}+{}", BASE64_STANDARD.encode(bytes))
        };
        for (text, expected) in [
            (weak(1), "small order"),
            (weak(2), "not known"),
            (EXAMPLE.replace("c74f20a3", "C74F20A3"), "not a verifier key"),
            (EXAMPLE.replace("c74f20a3", "c74f20a4"), "hash"),
            (EXAMPLE.replace("Peter", "Petra"), "hash"),
            (EXAMPLE.replace("Peter", "Peter "), "key name"),
            (EXAMPLE.replace("PeterNeumann", ""), "key name"),
            (format!("{EXAMPLE}="), "not a verifier key"),
            (format!("{EXAMPLE}\n"), "not a verifier key"),
            (EXAMPLE[..EXAMPLE.len() - 1].to_owned(), "not a verifier key"),
            ("x".repeat(100_000), "not a verifier key"),
        ] {
            let error = text.parse::<VerifierKey>().expect_err(&text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.len() < 300, "the message repeats what was sent");
        }
    }
}
