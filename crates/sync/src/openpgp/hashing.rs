//! What a signature hashes: what it signs, and then a part of itself.

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{SignatureConfig, SignatureVersion};
use pgp::ser::Serialize as _;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};

/// One of the hash functions that a signature of something that is verified may use.
///
/// MD5, SHA-1 and RIPEMD-160 are not among them: others could make two contents of one signature. SHA-3 is not either,
/// as no program signs with it that stock clients could verify.
#[derive(Clone)]
pub(super) enum Hasher {
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    pub(super) fn new(algorithm: HashAlgorithm) -> Option<Self> {
        match algorithm {
            HashAlgorithm::Sha224 => Some(Self::Sha224(Sha224::new())),
            HashAlgorithm::Sha256 => Some(Self::Sha256(Sha256::new())),
            HashAlgorithm::Sha384 => Some(Self::Sha384(Sha384::new())),
            HashAlgorithm::Sha512 => Some(Self::Sha512(Sha512::new())),
            _ => None,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha224(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of what was hashed and of the part of the signature that is signed with it.
    pub(super) fn finish(mut self, suffix: &[u8]) -> Vec<u8> {
        self.update(suffix);
        match self {
            Self::Sha224(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha384(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
        }
    }
}

/// The part of a signature that is hashed behind the content (RFC 9580, section 5.2.4).
pub(super) fn suffix(config: &SignatureConfig) -> Result<Vec<u8>, String> {
    let mut area = Vec::new();
    for packet in &config.hashed_subpackets {
        packet.to_writer(&mut area).map_err(|error| error.to_string())?;
    }
    let version = config.version();
    let mut bytes = vec![version.into(), config.typ.into(), config.pub_alg.into(), config.hash_alg.into()];
    let too_long = |_| "what is signed of the signature itself is too long".to_owned();
    match version {
        SignatureVersion::V4 => bytes.extend(u16::try_from(area.len()).map_err(too_long)?.to_be_bytes()),
        SignatureVersion::V6 => bytes.extend(u32::try_from(area.len()).map_err(too_long)?.to_be_bytes()),
        _ => return Err("its version is neither 4 nor 6".to_owned()),
    }
    bytes.extend(area);
    let len = u32::try_from(bytes.len()).map_err(too_long)?;
    bytes.extend([version.into(), 0xff]);
    bytes.extend(len.to_be_bytes());
    Ok(bytes)
}
