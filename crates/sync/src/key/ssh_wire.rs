//! The few encodings of SSH (RFC 4251, section 5, and RFC 8709) that agents and signatures need.

use smart_sync_store::codec::{DecodeError, Reader};

use super::public::{PublicKey, Signature};

const ALGORITHM: &[u8] = b"ssh-ed25519";

/// Appends a 32-bit number.
pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a length and that many bytes.
pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, u32::try_from(bytes.len()).expect("what is sent here is far below 4 GiB"));
    out.extend_from_slice(bytes);
}

/// Takes a 32-bit number.
pub(super) fn read_u32(reader: &mut Reader<'_>, field: &'static str) -> Result<u32, DecodeError> {
    reader.array(field).map(u32::from_be_bytes)
}

/// Takes a length and that many bytes, all of which have to be there.
pub(super) fn read_string<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], DecodeError> {
    let len = read_u32(reader, field)? as usize;
    reader.bytes(field, len)
}

/// A public key as SSH writes it.
pub(super) fn key_blob(key: &PublicKey) -> Vec<u8> {
    let mut blob = Vec::new();
    put_string(&mut blob, ALGORITHM);
    put_string(&mut blob, key.as_bytes());
    blob
}

/// Reads a public key; none where it is of another algorithm or unsound.
pub(super) fn read_key_blob(blob: &[u8]) -> Option<PublicKey> {
    PublicKey::from_bytes(&read_pair(blob)?).ok()
}

/// A signature as SSH writes it.
pub(super) fn signature_blob(signature: &Signature) -> Vec<u8> {
    let mut blob = Vec::new();
    put_string(&mut blob, ALGORITHM);
    put_string(&mut blob, signature.as_bytes());
    blob
}

/// Reads a signature; none where it is of another algorithm.
pub(super) fn read_signature_blob(blob: &[u8]) -> Option<Signature> {
    read_pair(blob).map(Signature::from_bytes)
}

fn read_pair<const N: usize>(blob: &[u8]) -> Option<[u8; N]> {
    let mut reader = Reader::new(blob);
    let algorithm = read_string(&mut reader, "algorithm").ok()?;
    let bytes = read_string(&mut reader, "bytes").ok()?.try_into().ok()?;
    (algorithm == ALGORITHM && reader.is_empty()).then_some(bytes)
}
