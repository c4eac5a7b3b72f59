//! Reading from any place what can be had by ranges.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Bytes that are read at once.
const READ_BYTES: u64 = 1 << 20;

/// Something of a known size that is had by ranges, read like a file.
pub(super) struct RangeReader<F> {
    size: u64,
    read: F,
    at: u64,
    piece: Vec<u8>,
    /// Where the piece begins.
    start: u64,
}

impl<F: FnMut(Range<u64>) -> io::Result<Vec<u8>>> RangeReader<F> {
    /// Begins at the first byte. `read` gives exactly the range that it is asked for.
    pub(super) const fn new(size: u64, read: F) -> Self {
        Self { size, read, at: 0, piece: Vec::new(), start: 0 }
    }
}

impl<F: FnMut(Range<u64>) -> io::Result<Vec<u8>>> Read for RangeReader<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || bytes.is_empty() {
            return Ok(0);
        }
        if !(self.start..self.start + self.piece.len() as u64).contains(&self.at) {
            let end = self.size.min(self.at + READ_BYTES);
            self.piece = (self.read)(self.at..end)?;
            self.start = self.at;
            if self.piece.len() as u64 != end - self.at {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let from = usize::try_from(self.at - self.start).expect("a piece fits in memory");
        let taken = bytes.len().min(self.piece.len() - from);
        bytes[..taken].copy_from_slice(&self.piece[from..from + taken]);
        self.at += taken as u64;
        Ok(taken)
    }
}

impl<F> Seek for RangeReader<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(step) => self.size.checked_add_signed(step),
            SeekFrom::Current(step) => self.at.checked_add_signed(step),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
