//! bzip2, by the Rust rewrite of libbz2, which encodes to the same bytes as the original.

use bzip2::{Action, Compress, Compression, Decompress, Status};

use super::deflate::taken;
use super::{Codec, Refused, Step};

/// The length of a stream's header and of the first block's magic number.
pub(crate) const HEADER_LEN: usize = 10;

/// The level that the header of a stream tells, which its encoder used.
pub(crate) fn level(head: &[u8]) -> Option<u8> {
    match head {
        [b'B', b'Z', b'h', level @ b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Some(level - b'0'),
        _ => None,
    }
}

/// Decodes.
pub(crate) struct Decompressor(Decompress);

impl Decompressor {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(false))
    }
}

impl Codec for Decompressor {
    fn step(&mut self, input: &[u8], output: &mut [u8], _finish: bool) -> Result<Step, Refused> {
        let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
        let status = self.0.decompress(input, output).map_err(|_| Refused)?;
        Ok(Step {
            consumed: taken(before_in, self.0.total_in()),
            produced: taken(before_out, self.0.total_out()),
            ended: status == Status::StreamEnd,
        })
    }
}

/// Encodes.
pub(crate) struct Compressor(Compress);

impl Compressor {
    pub(crate) fn new(level: u8) -> Self {
        Self(Compress::new(Compression::new(u32::from(level)), 0))
    }
}

impl Codec for Compressor {
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> Result<Step, Refused> {
        if input.is_empty() && !finish {
            return Ok(Step { consumed: 0, produced: 0, ended: false });
        }
        let action = if finish { Action::Finish } else { Action::Run };
        let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
        let status = self.0.compress(input, output, action).map_err(|_| Refused)?;
        Ok(Step {
            consumed: taken(before_in, self.0.total_in()),
            produced: taken(before_out, self.0.total_out()),
            ended: status == Status::StreamEnd,
        })
    }
}
