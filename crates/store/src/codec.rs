//! Strict reading and writing of the binary formats.
//!
//! Every format is read so that only one sequence of bytes stands for a value: integers are minimal LEB128,
//! lengths are checked against a stated limit before anything is allocated, and what follows the last field is
//! an error. The formats themselves are in `docs/formats.md`.

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end in the middle of a field.
    #[error("the bytes end inside {0}")]
    Truncated(&'static str),
    /// Bytes follow the last field.
    #[error("{0} bytes follow the end")]
    TrailingBytes(usize),
    /// A number is written in more bytes than it needs, or does not fit 64 bits.
    #[error("{0} is not a minimal LEB128 number of at most 64 bits")]
    BadNumber(&'static str),
    /// A number is over the limit of its field.
    #[error("{field} is {value}, over the limit of {limit}")]
    OverLimit {
        /// The field.
        field: &'static str,
        /// What was found.
        value: u64,
        /// The largest number that is allowed there.
        limit: u64,
    },
    /// The first bytes are not those of the format, or of a version that is not known.
    #[error("not {0} of a known version")]
    BadMagic(&'static str),
    /// The bytes break a rule of their format.
    #[error("{0}")]
    Invalid(String),
}

impl DecodeError {
    /// The bytes break the rule that `message` states.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

/// Reads fields one after the other from bytes that nothing is known about.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes the next `len` bytes.
    pub fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes the next `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes one byte.
    pub fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Takes an unsigned LEB128 number of at most `limit`, written in as few bytes as it can be.
    pub fn number(&mut self, field: &'static str, limit: u64) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || byte == 0 && shift > 0 {
                return Err(DecodeError::BadNumber(field));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if value > limit {
                    Err(DecodeError::OverLimit { field, value, limit })
                } else {
                    Ok(value)
                };
            }
        }
        Err(DecodeError::BadNumber(field))
    }

    /// Takes a number that counts things in memory.
    pub fn count(&mut self, field: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let value = self.number(field, limit as u64)?;
        usize::try_from(value).map_err(|_| DecodeError::BadNumber(field))
    }

    /// Takes a length of at most `limit` and that many bytes.
    pub fn prefixed(&mut self, field: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.count(field, limit)?;
        self.bytes(field, len)
    }

    /// Checks that the next bytes are `magic`.
    pub fn magic(&mut self, format: &'static str, magic: &[u8]) -> Result<(), DecodeError> {
        match self.rest.strip_prefix(magic) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(DecodeError::BadMagic(format)),
        }
    }

    /// Checks that nothing is left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(self.rest.len())) }
    }
}

/// Appends an unsigned LEB128 number.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends the length of `bytes` and the bytes.
pub fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Maps a signed number to an unsigned one that is small when the number is near zero.
pub const fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.number("value", u64::MAX), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn a_number_has_one_spelling(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.number("value", u64::MAX) {
                let mut again = Vec::new();
                put_number(&mut again, value);
                prop_assert_eq!(again, &bytes[..bytes.len() - reader.rest().len()]);
            }
        }
    }

    #[test]
    fn lengths_are_checked_before_bytes_are_taken() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(matches!(reader.prefixed("name", 255), Err(DecodeError::OverLimit { limit: 255, .. })));
        assert_eq!(Reader::new(&[5, 1]).prefixed("name", 255), Err(DecodeError::Truncated("name")));
    }
}
