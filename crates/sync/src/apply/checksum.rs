//! The checksum that ends small files of the state directory, so that a torn or rotten one is told from a whole one.

use smart_sync_store::codec::DecodeError;

/// Adds the BLAKE3 of all that is there.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

/// What the checksum is of, if it is right.
pub(super) fn unseal(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let (body, checksum) = bytes.split_last_chunk::<32>().ok_or(DecodeError::Truncated("the checksum"))?;
    if blake3::hash(body).as_bytes() != checksum {
        return Err(DecodeError::invalid("its checksum is wrong"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_the_length_count() {
        for body in [&b""[..], b"one", &[7; 100]] {
            let sealed = seal(body.to_vec());
            assert_eq!(unseal(&sealed).unwrap(), body);
            for at in 0..sealed.len() {
                let mut flipped = sealed.clone();
                flipped[at] ^= 1;
                assert!(unseal(&flipped).is_err(), "byte {at}");
                assert!(unseal(&sealed[..at]).is_err(), "{at} bytes");
            }
        }
    }
}
