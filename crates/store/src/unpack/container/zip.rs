//! Local headers of zip, read from the first on.
//!
//! The directory at the end is never followed: entries that overlap, or a zip that contains itself, exist only there.

use super::{Layout, Payload};

pub(crate) const HEADER_LEN: usize = 30;
const LOCAL: &[u8; 4] = b"PK\x03\x04";
const DIRECTORY: &[u8; 4] = b"PK\x01\x02";
const DESCRIPTOR: &[u8; 4] = b"PK\x07\x08";

/// The longest descriptor.
pub(crate) const DESCRIPTOR_LEN_MAX: usize = 24;

/// A local header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local {
    pub(crate) flags: u16,
    pub(crate) method: u16,
    compressed: u32,
    size: u32,
    /// The length of the whole header.
    pub(crate) header: u64,
}

impl Local {
    /// Whether the sizes are told after the data.
    pub(crate) const fn has_descriptor(&self) -> bool {
        self.flags & 8 != 0
    }
}

/// Whether a file begins with a local header.
pub(crate) fn begins(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|header| local(header).is_some_and(|local| local.header <= 1 << 16))
}

/// Whether the directory begins here.
pub(crate) fn is_directory(head: &[u8]) -> bool {
    head.starts_with(DIRECTORY)
}

/// Reads a local header.
pub(crate) fn local(header: &[u8; HEADER_LEN]) -> Option<Local> {
    let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    header.starts_with(LOCAL).then(|| Local {
        flags: short(6),
        method: short(8),
        compressed: long(18),
        size: long(22),
        header: HEADER_LEN as u64 + u64::from(short(26)) + u64::from(short(28)),
    })
}

/// The layout of an entry whose header tells its sizes.
pub(crate) fn layout(header: &[u8; HEADER_LEN]) -> Option<Layout> {
    let local = local(header)?;
    let encrypted = local.flags & 1 != 0;
    let elsewhere = local.compressed == u32::MAX || local.size == u32::MAX;
    if encrypted || local.has_descriptor() || elsewhere {
        return None;
    }
    let payload = match local.method {
        8 => Payload::Deflated,
        0 if local.compressed == local.size => Payload::Member,
        _ => return None,
    };
    let (plain, stored) = (u64::from(local.size), u64::from(local.compressed));
    Some(Layout { header: local.header, payload, plain, stored, padding: 0 })
}

/// The length of the descriptor after an entry, which says what the entry was found to be.
pub(crate) fn descriptor_len(bytes: &[u8], compressed: u64, size: u64) -> Option<u64> {
    let signed = if bytes.starts_with(DESCRIPTOR) { 4 } else { 0 };
    [signed, 0].into_iter().find_map(|signature| {
        let sizes = bytes.get(signature + 4..)?;
        let long = |at: usize| sizes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let short =
            |at: usize| sizes.get(at..)?.first_chunk().map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
        let len = match () {
            () if short(0) == Some(compressed) && short(4) == Some(size) => 12,
            () if long(0) == Some(compressed) && long(8) == Some(size) => 20,
            () => return None,
        };
        Some((signature + len) as u64)
    })
}
