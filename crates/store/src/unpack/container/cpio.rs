//! Headers of cpio in its new form, as an initramfs has it.

use super::{Layout, Payload, padding};

pub(crate) const HEADER_LEN: usize = 110;
/// The longest name, its NUL byte included.
const NAME_LEN_MAX: u64 = 4096;

/// The name of the last entry, with its NUL byte.
pub(crate) const TRAILER: &[u8] = b"TRAILER!!!\0";

/// Whether a file begins with a header of cpio.
pub(crate) fn begins(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|header| layout(header).is_some())
}

/// The layout of an entry.
pub(crate) fn layout(header: &[u8; HEADER_LEN]) -> Option<Layout> {
    if !matches!(&header[..6], b"070701" | b"070702") {
        return None;
    }
    let size = hexadecimal(&header[54..62])?;
    let name = hexadecimal(&header[94..102])?;
    if name == 0 || name > NAME_LEN_MAX {
        return None;
    }
    let header = HEADER_LEN as u64 + name;
    let header = header + padding(header, 4);
    Some(Layout { header, payload: Payload::Member, plain: size, stored: size, padding: padding(size, 4) })
}

fn hexadecimal(field: &[u8]) -> Option<u64> {
    field.iter().try_fold(0u64, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some((value << 4) | u64::from(digit))
    })
}
