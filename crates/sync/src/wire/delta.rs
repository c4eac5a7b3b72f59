//! The delta: what turns the manifest that a client has into the one it wants, and where the new contents lie.
//!
//! One answer carries both, so that an update is two requests and the ranges. It is sent as one zstd frame: names,
//! sizes and owners compress, the ids do not. Nothing in it is trusted; the manifest that results must have the id
//! that was signed.

use std::io::Read as _;

use smart_sync_store::codec::{DecodeError, Reader};
use smart_sync_store::manifest::{Edit, Fidelity, put_edits, read_edits};

use super::fetch_map::FetchMap;

const MAGIC: &[u8] = b"ssdl\x01";

/// The base-2 logarithm of the largest window that a receiver makes room for.
const WINDOW_LOG_MAX: u32 = 23;

/// What turns one manifest into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The fidelity of the new manifest. When the old one has another, the delta is one from nothing.
    pub fidelity: Fidelity,
    /// The edits in the order of their paths.
    pub edits: Vec<Edit>,
    /// Where those contents lie that the old manifest does not have.
    pub map: FetchMap,
}

/// Why a delta was refused.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The bytes do not decompress, or to more than could be right.
    #[error("the delta does not decompress to at most {limit} bytes")]
    Compression {
        /// The most bytes that it could have.
        limit: u64,
        /// What is wrong.
        #[source]
        source: std::io::Error,
    },
    /// The bytes break the format.
    #[error("the delta is malformed")]
    Malformed(#[from] DecodeError),
}

/// The most bytes of a delta to a manifest with so many entries and bytes of content, so that a signed publication
/// bounds what an answer can make its reader hold. It allows for the longest paths, for the smallest chunks that any
/// chunker of ours makes on average, and for contents that are rebuilt from more chunks than they would have.
pub const fn decoded_len_max(old_entries: u64, new_entries: u64, new_bytes: u64) -> u64 {
    const ENTRY: u64 = 1024;
    const CHUNK: u64 = 64;
    const CHUNK_LEN_LEAST: u64 = 1024;
    (1 << 20)
        + old_entries.saturating_add(new_entries).saturating_mul(ENTRY)
        + (new_bytes / CHUNK_LEN_LEAST).saturating_add(new_entries).saturating_mul(CHUNK)
}

impl Delta {
    /// Writes the delta, compressed.
    pub fn encode(&self, level: i32) -> std::io::Result<Vec<u8>> {
        zstd::encode_all(&self.encode_plain()[..], level)
    }

    /// Reads a delta that decompresses to at most `limit` bytes, and whose paths have no more than that together.
    pub fn decode(bytes: &[u8], limit: u64) -> Result<Self, DeltaError> {
        let plain = decompress(bytes, limit).map_err(|source| DeltaError::Compression { limit, source })?;
        Ok(Self::decode_plain(&plain, limit)?)
    }

    fn encode_plain(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(match self.fidelity {
            Fidelity::Git => 0,
            Fidelity::System => 1,
        });
        put_edits(&mut out, self.fidelity, &self.edits);
        out.extend_from_slice(&self.map.encode());
        out
    }

    /// Reads a delta that is not compressed, and whose paths have at most `path_bytes_max` bytes together.
    pub fn decode_plain(bytes: &[u8], path_bytes_max: u64) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic("a delta", MAGIC)?;
        let fidelity = match reader.byte("fidelity")? {
            0 => Fidelity::Git,
            1 => Fidelity::System,
            other => return Err(DecodeError::invalid(format!("unknown fidelity {other}"))),
        };
        let edits = read_edits(&mut reader, fidelity, path_bytes_max)?;
        let map = FetchMap::decode(reader.rest())?;
        Ok(Self { fidelity, edits, map })
    }
}

fn decompress(bytes: &[u8], limit: u64) -> std::io::Result<Vec<u8>> {
    let mut decoder = zstd::Decoder::with_buffer(bytes)?.single_frame();
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut plain = Vec::new();
    decoder.by_ref().take(limit + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > limit {
        return Err(std::io::Error::other("it is longer than that"));
    }
    if !decoder.finish().is_empty() {
        return Err(std::io::Error::other("bytes follow the compressed frame"));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_sync_store::content::name_content;
    use smart_sync_store::manifest::{Attributes, Entry, GitMode, Node, TreePath};

    fn sample() -> Delta {
        let path = |name: &[u8]| TreePath::new(name).unwrap();
        let entry = Entry {
            path: path(b"b"),
            node: Node::File(name_content(b"text")),
            attributes: Attributes::Git(GitMode::FILE),
        };
        let edits = vec![Edit::Remove(path(b"a")), Edit::Put(entry)];
        Delta { fidelity: Fidelity::Git, edits, map: FetchMap::default() }
    }

    #[test]
    fn a_delta_comes_back_as_it_was() {
        let bytes = sample().encode(3).unwrap();
        assert_eq!(Delta::decode(&bytes, 4096).unwrap(), sample());
    }

    #[test]
    fn more_than_could_be_right_is_not_held() {
        let bomb = zstd::encode_all(&vec![0; 1 << 20][..], 19).unwrap();
        assert!(bomb.len() < 1000);
        assert!(matches!(Delta::decode(&bomb, 4096), Err(DeltaError::Compression { limit: 4096, .. })));
    }

    #[test]
    fn nothing_follows_the_frame() {
        let mut bytes = sample().encode(3).unwrap();
        bytes.extend_from_slice(&sample().encode(3).unwrap());
        assert!(matches!(Delta::decode(&bytes, 4096), Err(DeltaError::Compression { .. })));
        assert!(Delta::decode(&bytes[..bytes.len() / 4], 4096).is_err());
    }
}
