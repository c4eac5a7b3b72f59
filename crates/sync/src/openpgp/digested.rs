//! Signatures with the digests of what they sign: all that has to be kept to judge them.

use pgp::packet::{PacketTrait as _, Signature};

use super::armor;
use super::error::SignatureError;
use super::signatures::{SIGNATURES_BYTES_MAX, SIGNATURES_MAX, Signed};

/// The longest digest.
const DIGEST_LEN_MAX: usize = 64;

/// Signatures, and for each of them what its content and itself hash to. Nothing is believed yet:
/// [`KeyRing::judge`](super::KeyRing::judge) says who has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digested {
    pub(super) signed: Signed,
    pub(super) signatures: Vec<DigestedSignature>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DigestedSignature {
    pub(super) packet: Signature,
    /// Empty where the signature cannot count, whoever has made it.
    pub(super) digest: Vec<u8>,
}

impl Digested {
    /// A form to keep.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.signed == Signed::Text)];
        for signature in &self.signatures {
            let mut packet = Vec::new();
            if signature.packet.to_writer_with_header(&mut packet).is_err() {
                // Such a packet was read, so that it can be written; one that cannot would not count in any case.
                continue;
            }
            let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
            bytes.extend(len.to_be_bytes());
            bytes.extend(packet);
            bytes.push(u8::try_from(signature.digest.len()).unwrap_or(u8::MAX));
            bytes.extend(&signature.digest);
        }
        bytes
    }

    /// Reads that form; none where it is not whole.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (signed, mut rest) = bytes.split_first()?;
        let signed = match signed {
            0 => Signed::Bytes,
            1 => Signed::Text,
            _ => return None,
        };
        let mut signatures = Vec::new();
        while !rest.is_empty() {
            if signatures.len() == SIGNATURES_MAX {
                return None;
            }
            let (len, behind) = rest.split_first_chunk::<4>()?;
            let len =
                usize::try_from(u32::from_be_bytes(*len)).ok().filter(|len| *len <= SIGNATURES_BYTES_MAX)?;
            let (packet, behind) = behind.split_at_checked(len)?;
            let (len, behind) = behind.split_first()?;
            let len = usize::from(*len);
            let (digest, behind) = behind.split_at_checked(len).filter(|_| len <= DIGEST_LEN_MAX)?;
            signatures.push(DigestedSignature { packet: signature(packet)?, digest: digest.to_vec() });
            rest = behind;
        }
        (!signatures.is_empty()).then_some(Self { signed, signatures })
    }

    /// Why nothing counts where there is no key ring to ask: what can be said without one.
    pub fn unusable(&self) -> Option<SignatureError> {
        let refused =
            self.signatures.iter().map(|one| super::signatures::acceptable(&one.packet, self.signed).err());
        refused.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().next())
    }
}

fn signature(packet: &[u8]) -> Option<Signature> {
    let mut packets = armor::packets(packet, 2).ok()?;
    match (packets.pop()?, packets.is_empty()) {
        (Ok(pgp::packet::Packet::Signature(signature)), true) => Some(signature),
        _ => None,
    }
}
