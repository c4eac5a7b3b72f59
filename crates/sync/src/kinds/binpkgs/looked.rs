//! What was found in a package, and what is remembered of it.
//!
//! Whether its signatures count is not: that depends on keys, which expire and are revoked. What was hashed for them is,
//! so that they are judged again each time without reading the package.

use smart_sync_store::codec::{DecodeError, Reader, put_number, put_prefixed};

use super::index::{Block, INDEX_BYTES_MAX, Index};
use super::package::Container;
use super::signature::{DigestedParts, PARTS};
use crate::openpgp::{Digested, SIGNATURES_BYTES_MAX};

/// Begins what is remembered, and changes with what is made of a package.
const VERSION: &[u8] = b"3\n";
/// Signatures and the digests that belong to them.
const DIGESTED_BYTES_MAX: usize = 2 * SIGNATURES_BYTES_MAX;

/// What was found in a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Looked {
    /// What the index says of it.
    pub(super) block: Block,
    /// Whether its files are not compressed.
    pub(super) is_plain: bool,
    /// The form of the file.
    pub(super) container: Container,
    /// Its signatures, with what they sign.
    pub(super) signatures: Option<DigestedParts>,
}

impl Looked {
    /// What is remembered: signatures, and an index of this package alone.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_vec();
        put_number(&mut out, u64::from(self.is_plain));
        put_number(&mut out, u64::from(self.container == Container::Xpak));
        let signatures = self.signatures.as_ref().map_or(&[][..], |parts| &parts.0);
        put_number(&mut out, signatures.len() as u64);
        for digested in signatures {
            put_prefixed(&mut out, &digested.encode());
        }
        let text = Index::new(0, Block::default(), vec![self.block.clone()]).render();
        put_prefixed(&mut out, text.as_bytes());
        out
    }

    /// Reads that; nothing where it is of another version or damaged, so that the package is looked into again.
    pub(super) fn decode(finding: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(finding.strip_prefix(VERSION)?);
        let looked = Self::read(&mut reader).ok()??;
        reader.finish().ok().map(|()| looked)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let is_plain = reader.count("whether it is compressed", 1)? == 1;
        let is_old = reader.count("its form", 1)? == 1;
        let mut digested = Vec::new();
        for _ in 0..reader.count("number of signatures", PARTS.len())? {
            let Some(read) = Digested::decode(reader.prefixed("signature", DIGESTED_BYTES_MAX)?) else {
                return Ok(None);
            };
            digested.push(read);
        }
        let signatures = match digested.len() {
            0 => None,
            _ => match digested.try_into() {
                Ok(parts) => Some(DigestedParts(parts)),
                Err(_) => return Ok(None),
            },
        };
        let text = str::from_utf8(reader.prefixed("what an index says", INDEX_BYTES_MAX)?).ok();
        let block = text.and_then(|text| Index::parse(text).ok()?.packages.pop());
        let container = if is_old { Container::Xpak } else { Container::Gpkg };
        Ok(block.map(|block| Self { block, is_plain, container, signatures }))
    }
}
