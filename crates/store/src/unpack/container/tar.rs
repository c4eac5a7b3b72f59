//! Headers of tar: ustar, GNU and pax.

use super::{Layout, Payload, padding};

pub(crate) const HEADER_LEN: usize = 512;
/// Where the name of an entry stands.
pub(super) const NAME: std::ops::Range<usize> = 0..100;
/// Where its type stands.
pub(super) const TYPE: usize = 156;

/// Whether a file begins with a header of tar.
pub(crate) fn begins(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|header| layout(header).is_some())
}

/// The layout of an entry.
pub(crate) fn layout(header: &[u8; HEADER_LEN]) -> Option<Layout> {
    // An entry has a name: of one without, it could not be told what it has in common with another.
    if header[0] == 0 || &header[257..262] != b"ustar" || octal(&header[148..156])? != sum(header) {
        return None;
    }
    let size = number(&header[124..136])?;
    let payload = match header[TYPE] {
        b'0' | 0 | b'7' => Payload::Member,
        kind if describes_another(kind) => Payload::Frames,
        // Archivers do not agree on whether links, devices and directories with a size have a payload.
        b'1'..=b'6' if size == 0 => Payload::Frames,
        _ => return None,
    };
    // A size that fits no file offset is not one.
    if size > i64::MAX.cast_unsigned() {
        return None;
    }
    Some(Layout { header: 512, payload, plain: size, stored: size, padding: padding(size, 512) })
}

/// Whether an entry of this type describes the one after it, or all of them.
pub(super) const fn describes_another(kind: u8) -> bool {
    matches!(kind, b'x' | b'g' | b'L' | b'K')
}

/// Where the digits of the sum stand.
const SUM_DIGITS: std::ops::Range<usize> = 148..154;

/// Leaves out the digits of the sum, if they are the ones that [`complete`] writes.
pub(crate) fn abridge(header: &mut [u8; HEADER_LEN]) {
    if header[SUM_DIGITS] == sum_digits(header) {
        header[SUM_DIGITS].fill(0);
    }
}

/// Fills in the digits of the sum where there are none.
pub(crate) fn complete(header: &mut [u8; HEADER_LEN]) {
    if header[SUM_DIGITS] == [0; 6] {
        let digits = sum_digits(header);
        header[SUM_DIGITS].copy_from_slice(&digits);
    }
}

/// The six octal digits of the sum. No header has so large a sum that it has more.
fn sum_digits(header: &[u8; HEADER_LEN]) -> [u8; 6] {
    let sum = sum(header);
    std::array::from_fn(|digit| {
        b'0' + u8::try_from((sum >> (15 - 3 * digit)) & 7).expect("a digit is below 8")
    })
}

/// The sum of a header's bytes, with spaces in place of the field that holds it.
fn sum(header: &[u8; HEADER_LEN]) -> u64 {
    let all: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let field: u64 = header[148..156].iter().map(|byte| u64::from(*byte)).sum();
    all - field + 8 * u64::from(b' ')
}

/// A number in octal digits, or in base 256 as GNU tar writes it where it is too long.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] != 0x80 {
        return octal(field);
    }
    let (high, low) = field[1..].split_last_chunk::<8>()?;
    high.iter().all(|byte| *byte == 0).then(|| u64::from_be_bytes(*low))
}

/// Octal digits with spaces before them and spaces or a NUL byte after them.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    digits[..end].iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => Some((value << 3) | u64::from(digit - b'0')),
        _ => None,
    })
}
