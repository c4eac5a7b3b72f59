//! Frames as they are written: headers of tar in blocks of columns, and everything else where it comes.
//!
//! A block stands where its first header does: what follows that waits until the block is complete.

use std::io::{self, Write};

use super::container::columns::{self, HEADERS_MAX, Header};

/// The most bytes of other frames that wait for a block.
const WAITING_MAX: usize = 1 << 20;

/// Where frames go.
pub(super) struct Framing<'a> {
    out: &'a mut dyn Write,
    /// The headers of the block that is not complete.
    headers: Vec<Header>,
    /// The frames since its first header.
    waiting: Vec<u8>,
    len: u64,
}

impl<'a> Framing<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, headers: Vec::new(), waiting: Vec::new(), len: 0 }
    }

    /// Adds a header of tar.
    pub(super) fn header(&mut self, header: &Header) -> io::Result<()> {
        if self.headers.len() == HEADERS_MAX {
            self.complete()?;
        }
        self.headers.push(*header);
        Ok(())
    }

    /// Completes the frames, and says how many bytes they have.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.complete()?;
        Ok(self.len)
    }

    fn complete(&mut self) -> io::Result<()> {
        if self.headers.is_empty() {
            return Ok(());
        }
        let count = u16::try_from(self.headers.len()).expect("a block has few headers");
        let columns = columns::encode(&self.headers);
        for bytes in [&count.to_le_bytes()[..], &columns, &self.waiting] {
            self.out.write_all(bytes)?;
            self.len += bytes.len() as u64;
        }
        self.headers.clear();
        self.waiting.clear();
        Ok(())
    }
}

impl Write for Framing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.headers.is_empty() {
            let written = self.out.write(bytes)?;
            self.len += written as u64;
            return Ok(written);
        }
        let taken = bytes.len().min(WAITING_MAX - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        if self.waiting.len() == WAITING_MAX {
            self.complete()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
