//! Signing, as `gpg --detach-sign --armor` and `gpg --clear-sign` do.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use pgp::armor::BlockType;
use pgp::composed::{
    ArmorOptions, DetachedSignature, SignedPublicKey, SignedSecretKey, SignedSecretKeyParser,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    SecretKey, SecretSubkey, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData,
};
use pgp::types::{KeyDetails, KeyVersion, Password, SecretParams, SigningKey as Signs, Timestamp};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::armor;
use super::certificate::{Which, check};
use super::clear_text::{ClearText, hashed};
use super::error::{KeyError, SignatureError};
use super::facts::Facts;
use super::hashing::suffix;
use super::name::Fingerprint;
use crate::time::UnixTime;

/// The most bytes of a file with a secret key.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most packets of it.
const PACKETS_MAX: usize = 2_000;
/// The most bytes of a passphrase.
const PASSPHRASE_BYTES_MAX: u64 = 4 << 10;
/// The number of bytes of a content that are read at once.
const READ_LEN: usize = 64 << 10;

/// A key that signs.
pub struct SigningKey {
    secret: Secret,
    /// The key itself.
    key: Fingerprint,
    /// The primary key that it belongs to.
    primary: Fingerprint,
}

/// The key, without its passphrase. It is wiped from memory when it is dropped.
enum Secret {
    Primary(Box<SecretKey>),
    Subkey(Box<SecretSubkey>),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("key", &self.key).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads a secret key as `gpg --export-secret-keys` writes it, and opens it with the passphrase in the first line of
    /// another file. Of its keys the newest one that may sign now does.
    pub fn open(path: &Path, passphrase: Option<&Path>, now: UnixTime) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(read(path, FILE_BYTES_MAX)?);
        let passphrase = passphrase.map(first_line).transpose()?;
        let key = parse(&bytes).map_err(|reason| KeyError::NoSigningKey { path: path.to_owned(), reason })?;
        Self::choose(&key, passphrase.as_ref(), path, now)
    }

    fn choose(
        key: &SignedSecretKey,
        passphrase: Option<&Password>,
        path: &Path,
        now: UnixTime,
    ) -> Result<Self, KeyError> {
        let none = |reason: String| KeyError::NoSigningKey { path: path.to_owned(), reason };
        let public = SignedPublicKey::from(key.clone());
        let facts = Facts::prove(&public).map_err(|reason| none(reason.to_owned()))?;
        let mut refused: Option<SignatureError> = None;
        let mut locked = None;
        let mut subkeys: Vec<_> = key.secret_subkeys.iter().collect();
        subkeys.sort_by_key(|subkey| std::cmp::Reverse(subkey.key.created_at()));
        let candidates = subkeys.into_iter().map(|subkey| {
            let is_it = |known: &super::facts::KeyFacts<_>| known.fingerprint == Fingerprint::of(&subkey.key);
            (
                facts.subkeys.iter().position(is_it).map(Which::Subkey),
                Secret::Subkey(Box::new(subkey.key.clone())),
            )
        });
        let primary = (Some(Which::Primary), Secret::Primary(Box::new(key.primary_key.clone())));
        for (which, secret) in candidates.chain([primary]) {
            let Some(which) = which else { continue };
            if let Err(error) = check(&facts, which, now, now) {
                refused = refused.or(Some(error));
                continue;
            }
            if secret.version() != KeyVersion::V4 {
                return Err(none("its keys are of a version that stock clients do not know".to_owned()));
            }
            match secret.open(passphrase) {
                Ok(secret) => {
                    let name = match which {
                        Which::Primary => &facts.primary.fingerprint,
                        Which::Subkey(at) => &facts.subkeys[at].fingerprint,
                    };
                    return Ok(Self {
                        secret,
                        key: name.clone(),
                        primary: facts.primary.fingerprint.clone(),
                    });
                }
                Err(reason) => locked = locked.or(Some(reason)),
            }
        }
        match (locked, refused) {
            (Some(reason), _) => Err(KeyError::Locked { path: path.to_owned(), reason }),
            (None, Some(refused)) => Err(none(refused.to_string())),
            (None, None) => Err(none("there is none in it".to_owned())),
        }
    }

    /// The key that signs.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.key
    }

    /// The primary key that it belongs to, by which others know it.
    pub fn primary(&self) -> &Fingerprint {
        &self.primary
    }

    /// Signs a content that goes by once; the signature is armored.
    pub fn sign_detached(&self, mut content: impl Read, now: UnixTime) -> Result<String, KeyError> {
        let mut hasher = Sha512::new();
        let mut buffer = vec![0; READ_LEN];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return self.sign_hashed(&hasher, now),
                Ok(len) => hasher.update(&buffer[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(KeyError::Sign(format!("reading what is to be signed: {error}"))),
            }
        }
    }

    /// Signs a content that was hashed already.
    pub fn sign_hashed(&self, content: &Sha512, now: UnixTime) -> Result<String, KeyError> {
        self.sign(content.clone(), SignatureType::Binary, now)
    }

    /// Signs a text, whose lines end with a newline, and puts the signature behind it.
    pub fn sign_clear_text(&self, text: &str, now: UnixTime) -> Result<String, KeyError> {
        if !text.ends_with('\n') || text.starts_with('\n') && text.len() == 1 {
            return Err(KeyError::Text("it does not end with a newline"));
        }
        if text.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\t')) {
            return Err(KeyError::Text("there are control characters in it"));
        }
        if text.lines().any(|line| line.ends_with([' ', '\t'])) {
            return Err(KeyError::Text("a line ends with white space, which no signature covers"));
        }
        let hasher = Sha512::new_with_prefix(hashed(text));
        Ok(ClearText::write(text, &self.sign(hasher, SignatureType::Text, now)?))
    }

    fn sign(&self, content: Sha512, kind: SignatureType, now: UnixTime) -> Result<String, KeyError> {
        let failed = |error: pgp::errors::Error| KeyError::Sign(error.to_string());
        let now =
            u32::try_from(now.seconds()).map_err(|_| KeyError::Sign("the time is too late".to_owned()))?;
        let mut config = SignatureConfig::v4(kind, self.secret.algorithm(), HashAlgorithm::Sha512);
        config.hashed_subpackets = vec![
            Subpacket::regular(SubpacketData::IssuerFingerprint(self.secret.fingerprint()))
                .map_err(failed)?,
            Subpacket::regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(now)))
                .map_err(failed)?,
        ];
        config.unhashed_subpackets = vec![
            Subpacket::regular(SubpacketData::IssuerKeyId(self.secret.legacy_key_id())).map_err(failed)?,
        ];
        let digest = content.chain_update(suffix(&config).map_err(KeyError::Sign)?).finalize();
        let bytes = match &self.secret {
            Secret::Primary(key) => {
                Signs::sign(key.as_ref(), &Password::empty(), HashAlgorithm::Sha512, &digest)
            }
            Secret::Subkey(key) => {
                Signs::sign(key.as_ref(), &Password::empty(), HashAlgorithm::Sha512, &digest)
            }
        };
        let signature =
            Signature::from_config(config, [digest[0], digest[1]], bytes.map_err(failed)?).map_err(failed)?;
        DetachedSignature::new(signature).to_armored_string(ArmorOptions::default()).map_err(failed)
    }
}

impl Secret {
    fn details(&self) -> &dyn KeyDetails {
        match self {
            Self::Primary(key) => key.as_ref(),
            Self::Subkey(key) => key.as_ref(),
        }
    }

    fn version(&self) -> KeyVersion {
        self.details().version()
    }

    fn algorithm(&self) -> pgp::crypto::public_key::PublicKeyAlgorithm {
        self.details().algorithm()
    }

    fn fingerprint(&self) -> pgp::types::Fingerprint {
        self.details().fingerprint()
    }

    fn legacy_key_id(&self) -> pgp::types::KeyId {
        self.details().legacy_key_id()
    }

    fn params(&self) -> &SecretParams {
        match self {
            Self::Primary(key) => key.secret_params(),
            Self::Subkey(key) => key.secret_params(),
        }
    }

    /// Takes the passphrase away, so that deriving a key from it takes its time once and not for every signature.
    fn open(mut self, passphrase: Option<&Password>) -> Result<Self, &'static str> {
        if !self.params().is_encrypted() {
            return Ok(self);
        }
        let passphrase = passphrase.ok_or("none is given")?;
        let opened = match &mut self {
            Self::Primary(key) => key.remove_password(passphrase),
            Self::Subkey(key) => key.remove_password(passphrase),
        };
        match opened {
            Ok(()) => Ok(self),
            Err(_) => Err("the one that is given does not open it"),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<SignedSecretKey, String> {
    let binary = Zeroizing::new(armor::binary(bytes, BlockType::PrivateKey)?);
    let packets = armor::packets(&binary, PACKETS_MAX)?;
    let mut keys = SignedSecretKeyParser::from_packets(packets.into_iter().peekable());
    let key = match keys.next() {
        Some(Ok(key)) => key,
        Some(Err(error)) => return Err(error.to_string()),
        None => return Err("there is none in it".to_owned()),
    };
    if keys.next().is_some() { Err("there are several".to_owned()) } else { Ok(key) }
}

fn first_line(path: &Path) -> Result<Password, KeyError> {
    let bytes = Zeroizing::new(read(path, PASSPHRASE_BYTES_MAX)?);
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Password::from(line.strip_suffix(b"\r").unwrap_or(line)))
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, KeyError> {
    let unreadable = |error| KeyError::Read { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(unreadable(std::io::Error::other(format!("it is longer than {most} bytes"))));
    }
    Ok(bytes)
}
