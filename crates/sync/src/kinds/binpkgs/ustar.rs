//! A tar archive of plain files, read strictly.
//!
//! The containers of packages and their metadata are archives of a few plain files, written by one program. So what
//! other archives may hold is refused here (links, extended headers, bytes in the padding, anything behind the end):
//! an archive has one reading, and no two programs see different files in it.

use std::io::{self, Read};

use super::digest::PIECE_LEN;

const BLOCK: usize = 512;
/// The most bytes of a name that a member of its own says.
const NAME_BYTES_MAX: u64 = 1024;
/// The most bytes of zeros at the end: two blocks, and what fills up a record.
const END_BYTES_MAX: u64 = 2 * BLOCK as u64 + 10_240;

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum UstarError {
    #[error("reading the archive")]
    Read(#[source] io::Error),
    #[error("byte {offset}: {reason}")]
    Malformed { offset: u64, reason: String },
}

/// A plain file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlainFile {
    /// Its name as it stands in the archive.
    pub(super) name: Vec<u8>,
    /// The number of its bytes.
    pub(super) size: u64,
    /// Where its first byte is in the archive.
    pub(super) offset: u64,
}

/// Reads the files of an archive one after the other.
pub(super) struct PlainFiles<R> {
    input: R,
    offset: u64,
    header_at: u64,
    body_left: u64,
    padding: usize,
}

impl<R: Read> PlainFiles<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, offset: 0, header_at: 0, body_left: 0, padding: 0 }
    }

    /// What the archive is read from.
    pub(super) fn into_input(self) -> R {
        self.input
    }

    /// The next file, or nothing once the archive has ended as it should. The file before has to be read to its end.
    pub(super) fn next_file(&mut self) -> Result<Option<PlainFile>, UstarError> {
        let mut long_name = None;
        loop {
            self.end_body()?;
            self.header_at = self.offset;
            let mut header = [0; BLOCK];
            self.read_exact(&mut header, "the archive ends without the blocks of zeros at its end")?;
            if header == [0; BLOCK] {
                return if long_name.is_some() {
                    Err(self.malformed("the archive ends after a long name"))
                } else {
                    self.end().map(|()| None)
                };
            }
            let is_gnu = self.check(&header)?;
            let size = number(&header[124..136], is_gnu)
                .ok_or_else(|| self.malformed("the size of a member is no number"))?;
            self.body_left = size;
            // The remainder is smaller than a block.
            self.padding = usize::try_from((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64).unwrap_or(0);
            match header[156] {
                b'0' | 0 => {
                    let name = match long_name {
                        Some(name) => name,
                        None => self.name(&header, is_gnu)?,
                    };
                    return Ok(Some(PlainFile { name, size, offset: self.offset }));
                }
                b'L' if is_gnu && long_name.is_none() => long_name = Some(self.long_name()?),
                other => return Err(self.malformed(format!("a member is {}", kind(other)))),
            }
        }
    }

    /// Reads the next bytes of the current file; none at its end.
    pub(super) fn read_body(&mut self, buffer: &mut [u8]) -> Result<usize, UstarError> {
        let len = buffer.len().min(usize::try_from(self.body_left).unwrap_or(usize::MAX));
        self.read_exact(&mut buffer[..len], "the archive ends in the middle of a member")?;
        self.body_left -= len as u64;
        Ok(len)
    }

    /// The whole of the current file, which the caller has found to be small enough.
    pub(super) fn read_whole(&mut self) -> Result<Vec<u8>, UstarError> {
        let mut bytes = Vec::new();
        let mut piece = vec![0; PIECE_LEN];
        loop {
            // Memory is taken as bytes arrive: a size is only a claim.
            let len = self.read_body(&mut piece)?;
            if len == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&piece[..len]);
        }
    }

    /// Checks that a block is a header, and says whether it is one of GNU's.
    fn check(&self, header: &[u8; BLOCK]) -> Result<bool, UstarError> {
        let is_gnu = match &header[257..265] {
            b"ustar\x0000" => false,
            b"ustar  \0" => true,
            _ => return Err(self.malformed("there is no header of a ustar archive")),
        };
        let bytes = header.iter().enumerate();
        let sum: u64 =
            bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
        if number(&header[148..156], false) == Some(sum) {
            Ok(is_gnu)
        } else {
            Err(self.malformed("the checksum of a header is wrong"))
        }
    }

    fn name(&self, header: &[u8; BLOCK], is_gnu: bool) -> Result<Vec<u8>, UstarError> {
        let field = |range: std::ops::Range<usize>| {
            let field = &header[range];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            if field[end..].iter().all(|byte| *byte == 0) {
                Ok(&field[..end])
            } else {
                Err(self.malformed("there are bytes behind the name of a member"))
            }
        };
        let (name, prefix) = (field(0..100)?, if is_gnu { &[][..] } else { field(345..500)? });
        Ok(if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() })
    }

    fn long_name(&mut self) -> Result<Vec<u8>, UstarError> {
        if self.body_left > NAME_BYTES_MAX {
            return Err(self.malformed(format!("the name of a member has more than {NAME_BYTES_MAX} bytes")));
        }
        let mut name = self.read_whole()?;
        if name.pop() == Some(0) && !name.contains(&0) {
            Ok(name)
        } else {
            Err(self.malformed("a long name does not end with its only NUL byte"))
        }
    }

    /// The padding behind the current file.
    fn end_body(&mut self) -> Result<(), UstarError> {
        debug_assert_eq!(self.body_left, 0, "a file is read before the next one");
        let mut padding = [0; BLOCK];
        let len = std::mem::take(&mut self.padding);
        self.read_exact(&mut padding[..len], "the archive ends in the middle of a member")?;
        if padding[..len].iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(self.malformed("there are bytes in the padding behind a member"))
        }
    }

    /// Everything behind the first block of zeros: another one, zeros that fill up the record, and nothing else.
    fn end(&mut self) -> Result<(), UstarError> {
        let end_at = self.offset - BLOCK as u64;
        let mut block = [0; BLOCK];
        self.read_exact(&mut block, "the archive ends without the blocks of zeros at its end")?;
        loop {
            if block.iter().any(|byte| *byte != 0) {
                return Err(self.malformed("there are bytes behind the end of the archive"));
            }
            if self.offset - end_at > END_BYTES_MAX {
                return Err(self.malformed("there are more zeros behind the end than fill up a record"));
            }
            let len = self.read_some(&mut block)?;
            if len == 0 {
                return Ok(());
            }
            block[len..].fill(0);
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, UstarError> {
        loop {
            match self.input.read(buffer) {
                Ok(len) => {
                    self.offset += len as u64;
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UstarError::Read(error)),
            }
        }
    }

    fn read_exact(&mut self, buffer: &mut [u8], short: &str) -> Result<(), UstarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => return Err(UstarError::Malformed { offset: self.offset, reason: short.to_owned() }),
                len => filled += len,
            }
        }
        Ok(())
    }

    fn malformed(&self, reason: impl Into<String>) -> UstarError {
        UstarError::Malformed { offset: self.header_at, reason: reason.into() }
    }
}

/// A number of a header: octal digits with nothing behind them but NUL and space, or GNU's binary form.
fn number(field: &[u8], is_gnu: bool) -> Option<u64> {
    if is_gnu && field[0] == 0x80 {
        let (high, low) = field[1..].split_at(field.len() - 9);
        return high
            .iter()
            .all(|byte| *byte == 0)
            .then(|| low.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    }
    let digits = field.iter().take_while(|byte| (b'0'..=b'7').contains(*byte)).count();
    let (digits, rest) = field.split_at(digits);
    if digits.is_empty() || rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    // A field has at most twelve digits of three bits each.
    Some(digits.iter().fold(0, |number, digit| number << 3 | u64::from(digit - b'0')))
}

/// What a type of member is, for people.
fn kind(type_flag: u8) -> String {
    match type_flag {
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' | b'4' => "a device",
        b'5' => "a directory",
        b'6' => "a named pipe",
        b'g' | b'x' => "an extended header of pax, which the format does not allow",
        b'K' | b'L' => "a long name where none belongs",
        b'S' => "a sparse file",
        other => return format!("of the unknown type {:?}", char::from(other)),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_of_gnu() {
        assert_eq!(number(b"00000000017\0", false), Some(15));
        assert_eq!(number(b"17 \0", false), Some(15));
        assert_eq!(number(b"777777777777", false), Some((1 << 36) - 1));
        for refused in [&b"\0\0\0\0"[..], b" 17\0", b"18\0\0", b"-1\0\0", b"1\x007\0"] {
            assert_eq!(number(refused, true), None, "{refused:?}");
        }
        let mut large = [0; 12];
        (large[0], large[7]) = (0x80, 2);
        assert_eq!(number(&large, true), Some(2 << 32));
        assert_eq!(number(&large, false), None);
        large[1] = 1;
        assert_eq!(number(&large, true), None);
    }
}
