//! Reading what must not be longer than a limit.

use std::io::{self, Read};

/// A reader that fails with [`io::ErrorKind::FileTooLarge`] when more comes out than there may be.
pub(super) struct Bounded<R> {
    pub(super) input: R,
    pub(super) left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buffer)?;
        self.left = self.left.checked_sub(len as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(len)
    }
}
