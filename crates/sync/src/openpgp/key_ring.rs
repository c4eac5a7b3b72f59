//! The keys that an operator trusts.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pgp::armor::BlockType;
use pgp::composed::{SignedPublicKey, SignedPublicKeyParser};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, Signature};
use pgp::types::{KeyDetails, SignatureBytes, VerifyingKey};

use super::armor;
use super::certificate::{self, Which, check, check_begun};
use super::clear_text::ClearText;
use super::digested::{Digested, DigestedSignature};
use super::error::{KeyError, SignatureError};
use super::facts::Facts;
use super::name::{Fingerprint, KeyName};
use super::signatures::{Signatures, acceptable, names};
use crate::time::UnixTime;

/// The most bytes of a file of keys. The developers of a large distribution are a tenth of that.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// The most packets of a file.
const PACKETS_MAX: usize = 500_000;
/// The most certificates of a ring.
const CERTIFICATES_MAX: usize = 20_000;
/// The most files of a directory.
const FILES_MAX: usize = 10_000;

/// Who has signed something, as far as a key ring proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The primary key, by which the owner is known.
    pub primary: Fingerprint,
    /// The key that has signed: the primary key or one of its subkeys.
    pub key: Fingerprint,
    /// Who that is, as their key says.
    pub user: Option<String>,
    /// When the signature was made, as the signer says.
    pub signed_at: UnixTime,
}

/// Keys that may sign.
#[derive(Debug, Default)]
pub struct KeyRing {
    certificates: Vec<Certificate>,
    /// Which certificates have a key of this id.
    by_id: BTreeMap<[u8; 8], Vec<usize>>,
}

#[derive(Debug)]
struct Certificate {
    key: SignedPublicKey,
    /// What is proven of it. Most keys of a large ring are never asked for.
    facts: OnceLock<Result<Facts, &'static str>>,
}

impl KeyRing {
    /// Reads key rings: files, armored or not, each with any number of certificates, and directories of such files.
    /// What several of them say of one key is taken together.
    pub fn open(paths: &[PathBuf]) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for path in paths {
            keys.extend(read_path(path)?);
            if keys.len() > CERTIFICATES_MAX {
                let reason = format!("there are more than {CERTIFICATES_MAX} keys");
                return Err(KeyError::NoKeyRing { path: path.clone(), reason });
            }
        }
        Ok(Self::of(keys))
    }

    /// A key ring of the bytes of one file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        Ok(Self::of(certificates(bytes)?))
    }

    fn of(keys: Vec<SignedPublicKey>) -> Self {
        let mut merged: BTreeMap<Vec<u8>, SignedPublicKey> = BTreeMap::new();
        for key in keys {
            match merged.entry(key.fingerprint().as_bytes().to_vec()) {
                Entry::Vacant(entry) => {
                    entry.insert(key);
                }
                Entry::Occupied(entry) => merge(entry.into_mut(), key),
            }
        }
        let mut ring = Self::default();
        for key in merged.into_values() {
            let at = ring.certificates.len();
            let ids: BTreeSet<[u8; 8]> = (std::iter::once(key.primary_key.legacy_key_id()))
                .chain(key.public_subkeys.iter().map(KeyDetails::legacy_key_id))
                .filter_map(|id| id.as_ref().try_into().ok())
                .collect();
            for id in ids {
                ring.by_id.entry(id).or_default().push(at);
            }
            ring.certificates.push(Certificate { key, facts: OnceLock::new() });
        }
        ring
    }

    /// How many certificates there are.
    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    /// Whether there are none, so that nothing counts.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// Who has signed a content, by a file of detached signatures. The content goes by once.
    ///
    /// An error that comes from the content is one that reading it has made.
    pub fn verify_detached(
        &self,
        signatures: &[u8],
        content: impl Read,
        now: UnixTime,
    ) -> std::io::Result<Result<Signer, SignatureError>> {
        let signatures = match Signatures::detached(signatures) {
            Ok(signatures) => signatures,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.judge(&signatures.digest(content)?, now))
    }

    /// The text that was signed, and who has signed it, of a text with its signature behind it.
    pub fn verify_clear_text(&self, whole: &[u8], now: UnixTime) -> Result<(String, Signer), SignatureError> {
        let parsed = ClearText::parse(whole)?;
        let signer = self.judge(&parsed.digested, now)?;
        Ok((parsed.text, signer))
    }

    /// Who has signed something: one good signature of a key of this ring is enough, whatever others there are.
    pub fn judge(&self, digested: &Digested, now: UnixTime) -> Result<Signer, SignatureError> {
        let (mut unknown, mut refused) = (Vec::new(), SignatureError::NotSigned);
        for signature in &digested.signatures {
            match self.judge_one(signature, digested, now) {
                Ok(signer) => return Ok(signer),
                Err(SignatureError::UnknownKey(keys)) => unknown.extend(keys),
                Err(error) if error.weight() > refused.weight() => refused = error,
                Err(_) => {}
            }
        }
        if refused.weight() <= 1 && !digested.signatures.is_empty() {
            return Err(SignatureError::UnknownKey(unknown));
        }
        Err(refused)
    }

    fn judge_one(
        &self,
        signature: &DigestedSignature,
        digested: &Digested,
        now: UnixTime,
    ) -> Result<Signer, SignatureError> {
        let named = names(&signature.packet);
        let candidates = self.candidates(&signature.packet);
        if candidates.is_empty() {
            return Err(SignatureError::UnknownKey(named));
        }
        let config = acceptable(&signature.packet, digested.signed)?;
        let signed_at = config.created().map_or(0, |time| u64::from(time.as_secs()));
        let signed_at = UnixTime::EPOCH.plus(signed_at);
        let mut refused = None;
        for (certificate, which) in candidates {
            let facts = certificate.facts()?;
            let name = KeyName::from(fingerprint(facts, which));
            let is_good = match which {
                Which::Primary => is_good(&facts.primary.key, signature, config.hash_alg),
                Which::Subkey(at) => is_good(&facts.subkeys[at].key, signature, config.hash_alg),
            };
            let verdict = if is_good {
                check_signature(&signature.packet, &name, signed_at, now)
                    .and_then(|()| check(facts, which, signed_at, now))
            } else {
                Err(SignatureError::Bad { key: name })
            };
            match verdict {
                Ok(()) => {
                    return Ok(Signer {
                        primary: facts.primary.fingerprint.clone(),
                        key: fingerprint(facts, which).clone(),
                        user: certificate::user(facts, now),
                        signed_at,
                    });
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or(SignatureError::UnknownKey(named)))
    }

    /// The keys that a signature may be of. A fingerprint says more than an id, of which there may be two.
    fn candidates(&self, packet: &Signature) -> Vec<(&Certificate, Which)> {
        let fingerprints = packet.issuer_fingerprint();
        let is_meant = |key: &dyn KeyDetails| {
            if fingerprints.is_empty() {
                packet.issuer_key_id().into_iter().any(|id| *id == key.legacy_key_id())
            } else {
                fingerprints.iter().any(|name| **name == key.fingerprint())
            }
        };
        let ids = packet.issuer_key_id().into_iter().filter_map(|id| id.as_ref().try_into().ok());
        let ids: BTreeSet<[u8; 8]> = ids.chain(fingerprints.iter().filter_map(|name| id_of(name))).collect();
        let certificates: BTreeSet<usize> =
            ids.iter().filter_map(|id| self.by_id.get(id)).flatten().copied().collect();
        let keys_of = |at: usize| {
            let certificate = &self.certificates[at];
            let primary = is_meant(&certificate.key.primary_key).then_some(Which::Primary);
            let subkeys = certificate.key.public_subkeys.iter().enumerate();
            let subkeys =
                subkeys.filter(|(_, subkey)| is_meant(&subkey.key)).map(|(at, _)| Which::Subkey(at));
            primary.into_iter().chain(subkeys).map(move |which| (certificate, which)).collect::<Vec<_>>()
        };
        certificates.into_iter().flat_map(keys_of).collect()
    }
}

impl Certificate {
    fn facts(&self) -> Result<&Facts, SignatureError> {
        let facts = self.facts.get_or_init(|| Facts::prove(&self.key));
        facts.as_ref().map_err(|reason| SignatureError::NotForSigning {
            key: KeyName::from(&Fingerprint::of(&self.key)),
            reason,
        })
    }
}

fn fingerprint(facts: &Facts, which: Which) -> &Fingerprint {
    match which {
        Which::Primary => &facts.primary.fingerprint,
        Which::Subkey(at) => &facts.subkeys[at].fingerprint,
    }
}

/// Whether a signature of this digest was made by this key.
fn is_good(key: &impl VerifyingKey, signature: &DigestedSignature, algorithm: HashAlgorithm) -> bool {
    let is_meant = signature.packet.config().is_some_and(|config| config.pub_alg == key.algorithm());
    let begins = signature.packet.signed_hash_value().map(|begin| begin.to_vec());
    let fits = begins.as_deref() == signature.digest.get(..2);
    let bytes: Option<&SignatureBytes> = signature.packet.signature();
    is_meant && fits && bytes.is_some_and(|bytes| key.verify(algorithm, &signature.digest, bytes).is_ok())
}

/// Whether a signature holds at this time.
fn check_signature(
    packet: &Signature,
    key: &KeyName,
    signed_at: UnixTime,
    now: UnixTime,
) -> Result<(), SignatureError> {
    check_begun("signature of", key, signed_at, now)?;
    let seconds = packet.signature_expiration_time().map_or(0, |duration| u64::from(duration.as_secs()));
    let end = signed_at.plus(seconds);
    if seconds > 0 && end <= now {
        return Err(SignatureError::Expired { what: "signature of", key: key.clone(), at: end });
    }
    Ok(())
}

/// The id that a fingerprint has in it (RFC 9580, section 5.5.4).
fn id_of(fingerprint: &pgp::types::Fingerprint) -> Option<[u8; 8]> {
    let bytes = fingerprint.as_bytes();
    match fingerprint {
        pgp::types::Fingerprint::V4(_) => bytes.last_chunk().copied(),
        pgp::types::Fingerprint::V6(_) => bytes.first_chunk().copied(),
        _ => None,
    }
}

fn read_path(path: &Path) -> Result<Vec<SignedPublicKey>, KeyError> {
    let unreadable = |error| KeyError::Read { path: path.to_owned(), error };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return read_file(path);
    }
    let no_ring = |reason: String| KeyError::NoKeyRing { path: path.to_owned(), reason };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && fs::metadata(entry.path()).map_err(unreadable)?.is_file() {
            files.push(entry.path());
        }
        if files.len() > FILES_MAX {
            return Err(no_ring(format!("there are more than {FILES_MAX} files in it")));
        }
    }
    files.sort();
    let mut keys = Vec::new();
    for file in &files {
        keys.extend(read_file(file)?);
        if keys.len() > CERTIFICATES_MAX {
            return Err(no_ring(format!("there are more than {CERTIFICATES_MAX} keys in it")));
        }
    }
    if keys.is_empty() { Err(no_ring("there is no file in it".to_owned())) } else { Ok(keys) }
}

fn read_file(path: &Path) -> Result<Vec<SignedPublicKey>, KeyError> {
    let unreadable = |error| KeyError::Read { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    certificates(&bytes).map_err(|reason| KeyError::NoKeyRing { path: path.to_owned(), reason })
}

/// The certificates in a file. One that cannot be read, such as a key from the nineties, is passed over: it counts for
/// nothing.
fn certificates(bytes: &[u8]) -> Result<Vec<SignedPublicKey>, String> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    let binary = armor::binary(bytes, BlockType::PublicKey)?;
    let packets = armor::packets(&binary, PACKETS_MAX)?;
    if packets.iter().any(|packet| matches!(packet, Ok(Packet::SecretKey(_) | Packet::SecretSubkey(_)))) {
        return Err("it holds secret keys".to_owned());
    }
    let keys = SignedPublicKeyParser::from_packets(packets.into_iter().peekable());
    let keys: Vec<SignedPublicKey> = keys.take(CERTIFICATES_MAX + 1).filter_map(Result::ok).collect();
    if keys.is_empty() { Err("there is no key in it that can be read".to_owned()) } else { Ok(keys) }
}

/// Adds what another copy of a certificate says. A revocation that one of them has holds for all.
fn merge(into: &mut SignedPublicKey, other: SignedPublicKey) {
    into.details.revocation_signatures.extend(other.details.revocation_signatures);
    into.details.direct_signatures.extend(other.details.direct_signatures);
    for user in other.details.users {
        match into.details.users.iter_mut().find(|known| known.id.id() == user.id.id()) {
            Some(known) => known.signatures.extend(user.signatures),
            None => into.details.users.push(user),
        }
    }
    for subkey in other.public_subkeys {
        let known =
            into.public_subkeys.iter_mut().find(|known| known.key.fingerprint() == subkey.key.fingerprint());
        match known {
            Some(known) => known.signatures.extend(subkey.signatures),
            None => into.public_subkeys.push(subkey),
        }
    }
}
