//! Asking where contents lie: for files that changed on the host, and for bases that the server does not know.

use smart_sync_store::codec::{DecodeError, Reader, put_number};
use smart_sync_store::id::{BlobId, ContentId};
use smart_sync_store::manifest::Content;

const MAGIC: &[u8] = b"sslq\x01";

/// The most contents in one question.
pub const CONTENTS_MAX: usize = 65_536;
/// The most bytes of a question.
pub const LOCATE_BYTES_MAX: usize = 16 + CONTENTS_MAX * 42;

/// A content that is looked for. Its size tells a chunk from a content of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its id.
    pub id: ContentId,
    /// Its number of bytes.
    pub size: u64,
}

impl Wanted {
    /// The content as the store is asked for it, where only id and size matter: its blob id is not known.
    pub fn content(self) -> Content {
        Content { size: self.size, blob: BlobId::from_bytes([0; 20]), id: self.id }
    }
}

/// Writes a question.
pub fn encode(wanted: &[Wanted]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_number(&mut out, wanted.len() as u64);
    for content in wanted {
        out.extend_from_slice(content.id.as_bytes());
        put_number(&mut out, content.size);
    }
    out
}

/// Reads a question.
pub fn decode(bytes: &[u8]) -> Result<Vec<Wanted>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.magic("a question for contents", MAGIC)?;
    let count = reader.count("the number of contents", CONTENTS_MAX.min(reader.rest().len() / 33))?;
    let mut wanted = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ContentId::from_bytes(reader.array("a content id")?);
        wanted.push(Wanted { id, size: reader.number("the size of a content", u64::MAX)? });
    }
    reader.finish()?;
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_comes_back_as_it_was() {
        let wanted: Vec<_> = (0..5u8)
            .map(|n| Wanted { id: ContentId::from_bytes([n; 32]), size: u64::from(n) << 40 })
            .collect();
        assert_eq!(decode(&encode(&wanted)), Ok(wanted));
        let mut bytes = MAGIC.to_vec();
        put_number(&mut bytes, 60_000);
        assert!(matches!(decode(&bytes), Err(DecodeError::OverLimit { .. })));
    }
}
