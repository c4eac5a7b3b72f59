//! Signatures as they stand in files, before anything is known of keys.

use std::io::{self, Read};

use pgp::armor::BlockType;
use pgp::packet::SubpacketData;
use pgp::packet::{
    Packet, Signature, SignatureConfig, SignatureType, SignatureVersion, SignatureVersionSpecific,
};
use sha2::Sha512;

use super::armor;
use super::digested::{Digested, DigestedSignature};
use super::error::SignatureError;
use super::hashing::{Hasher, suffix};
use super::name::KeyName;

/// The most bytes of a file of detached signatures.
pub const SIGNATURES_BYTES_MAX: usize = 64 << 10;
/// The most signatures of one content.
pub(super) const SIGNATURES_MAX: usize = 16;
/// The most packets that are looked at to find them.
const PACKETS_MAX: usize = 64;
/// The number of bytes of a content that are read at once.
const READ_LEN: usize = 64 << 10;

/// What the signatures sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    /// The bytes as they are.
    Bytes,
    /// A text, whose lines end with a carriage return and a newline when they are hashed.
    Text,
}

impl Signed {
    fn signature_type(self) -> SignatureType {
        match self {
            Self::Bytes => SignatureType::Binary,
            Self::Text => SignatureType::Text,
        }
    }
}

/// Signatures that were read and that nothing was compared with yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    pub(super) signed: Signed,
    pub(super) packets: Vec<Signature>,
}

impl Signatures {
    /// Reads a file of detached signatures, armored or not.
    pub fn detached(bytes: &[u8]) -> Result<Self, SignatureError> {
        Self::read(bytes, Signed::Bytes)
    }

    pub(super) fn read(bytes: &[u8], signed: Signed) -> Result<Self, SignatureError> {
        if bytes.len() > SIGNATURES_BYTES_MAX {
            return Err(SignatureError::Malformed(format!("it is longer than {SIGNATURES_BYTES_MAX} bytes")));
        }
        let malformed = |reason: String| SignatureError::Malformed(reason);
        let binary = armor::binary(bytes, BlockType::Signature).map_err(malformed)?;
        let mut packets = Vec::new();
        for packet in armor::packets(&binary, PACKETS_MAX).map_err(malformed)? {
            match packet {
                Ok(Packet::Signature(signature)) => packets.push(signature),
                Ok(_) => return Err(malformed("it holds something else than signatures".to_owned())),
                Err(error) => return Err(malformed(error.to_string())),
            }
        }
        match packets.len() {
            0 => Err(SignatureError::NotSigned),
            1..=SIGNATURES_MAX => Ok(Self { signed, packets }),
            _ => Err(malformed(format!("there are more than {SIGNATURES_MAX} signatures"))),
        }
    }

    /// Hashes the content, which goes by once.
    pub fn digest(self, mut content: impl Read) -> io::Result<Digested> {
        let mut digester = Digester::new(self);
        let mut buffer = vec![0; READ_LEN];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return Ok(digester.finish()),
                Ok(len) => digester.update(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Does the same for a content that was hashed with SHA-512 already, if that is all that the signatures ask for.
    pub fn digest_hashed(&self, content: &Sha512) -> Option<Digested> {
        let digest = |packet: &Signature| {
            let Ok(config) = acceptable(packet, self.signed) else {
                return Some(DigestedSignature { packet: packet.clone(), digest: Vec::new() });
            };
            match (prefix(config), Hasher::new(config.hash_alg)?) {
                (&[], Hasher::Sha512(_)) => {
                    let digest = Hasher::Sha512(content.clone()).finish(&suffix(config).ok()?);
                    Some(DigestedSignature { packet: packet.clone(), digest })
                }
                _ => None,
            }
        };
        let signatures = self.packets.iter().map(digest).collect::<Option<Vec<_>>>()?;
        Some(Digested { signed: self.signed, signatures })
    }
}

/// Hashes a content for all of its signatures at once.
struct Digester {
    signatures: Signatures,
    /// One for each way in which it has to be hashed, of which there is one as a rule.
    ways: Vec<(pgp::crypto::hash::HashAlgorithm, Vec<u8>, Hasher)>,
}

impl Digester {
    fn new(signatures: Signatures) -> Self {
        let mut ways: Vec<(_, Vec<u8>, Hasher)> = Vec::new();
        for packet in &signatures.packets {
            let Ok(config) = acceptable(packet, signatures.signed) else { continue };
            let (algorithm, prefix) = (config.hash_alg, prefix(config));
            if ways.iter().any(|(known, before, _)| (*known, before.as_slice()) == (algorithm, prefix)) {
                continue;
            }
            if let Some(mut hasher) = Hasher::new(algorithm) {
                hasher.update(prefix);
                ways.push((algorithm, prefix.to_vec(), hasher));
            }
        }
        Self { signatures, ways }
    }

    fn update(&mut self, bytes: &[u8]) {
        for (_, _, hasher) in &mut self.ways {
            hasher.update(bytes);
        }
    }

    fn finish(self) -> Digested {
        let digest = |packet: &Signature| {
            let config = acceptable(packet, self.signatures.signed).ok()?;
            let is_it = |(known, before, _): &&(_, Vec<u8>, _)| {
                (*known, before.as_slice()) == (config.hash_alg, prefix(config))
            };
            let (_, _, hasher) = self.ways.iter().find(is_it)?;
            Some(hasher.clone().finish(&suffix(config).ok()?))
        };
        let digests: Vec<Vec<u8>> =
            self.signatures.packets.iter().map(|packet| digest(packet).unwrap_or_default()).collect();
        let signatures = self.signatures.packets.into_iter().zip(digests);
        let signatures = signatures.map(|(packet, digest)| DigestedSignature { packet, digest }).collect();
        Digested { signed: self.signatures.signed, signatures }
    }
}

/// What is hashed before the content.
fn prefix(config: &SignatureConfig) -> &[u8] {
    match &config.version_specific {
        SignatureVersionSpecific::V6 { salt } => salt,
        _ => &[],
    }
}

/// A signature that can count, whoever has made it.
pub(super) fn acceptable(packet: &Signature, signed: Signed) -> Result<&SignatureConfig, SignatureError> {
    let weak = |what: String| {
        let key = names(packet).into_iter().next().unwrap_or_else(|| KeyName::new(&"an unnamed key"));
        SignatureError::Weak { key, what }
    };
    let malformed = |reason: &str| SignatureError::Malformed(reason.to_owned());
    let version = packet.version();
    if !matches!(version, SignatureVersion::V4 | SignatureVersion::V6) {
        return Err(weak(format!("signatures of version {} are not", u8::from(version))));
    }
    let config = packet.config().ok_or_else(|| malformed("it cannot be read"))?;
    if config.typ != signed.signature_type() {
        return Err(malformed("it is of another kind than a signature of what it stands beside"));
    }
    if Hasher::new(config.hash_alg).is_none() {
        return Err(weak(format!("{} is no hash function that is", config.hash_alg)));
    }
    let salt_len = if version == SignatureVersion::V6 { config.hash_alg.salt_len() } else { Some(0) };
    if salt_len != Some(prefix(config).len()) {
        return Err(malformed("its salt has another length than its hash function asks for"));
    }
    demands_known(config).map_err(malformed)?;
    if config.created().is_none() {
        return Err(malformed("it does not say when it was made"));
    }
    Ok(config)
}

/// A signature that asks for what nobody here understands must not count (RFC 9580, section 5.2.3.7).
pub(super) fn demands_known(config: &SignatureConfig) -> Result<(), &'static str> {
    let is_unknown = |data: &SubpacketData| {
        matches!(
            data,
            SubpacketData::Other(..) | SubpacketData::Experimental(..) | SubpacketData::Notation(_)
        )
    };
    if config.hashed_subpackets.iter().any(|packet| packet.is_critical && is_unknown(&packet.data)) {
        return Err("it demands what is not known here");
    }
    Ok(())
}

/// What a signature calls its key: fingerprints, and ids where they are no part of those.
pub(super) fn names(packet: &Signature) -> Vec<KeyName> {
    let fingerprints: Vec<_> = packet.issuer_fingerprint().into_iter().map(KeyName::new).collect();
    if fingerprints.is_empty() {
        packet.issuer_key_id().into_iter().map(KeyName::new).collect()
    } else {
        fingerprints
    }
}
