//! Deflate, decoded by zlib-rs and encoded by three libraries.

use flate2::{Compress, Compression, FlushCompress, Status};
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::{MZError, MZFlush, MZStatus};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

// Named for its features alone: zlib is built from the source that comes with it, so that its version is known.
use libz_sys as _;

use super::{Codec, Refused, Step};

/// The window of raw deflate.
const WINDOW_BITS: u8 = 15;

/// Decodes.
pub(crate) struct Inflater(Inflate);

impl Inflater {
    pub(crate) fn new() -> Self {
        Self(Inflate::new(false, WINDOW_BITS))
    }
}

impl Codec for Inflater {
    fn step(&mut self, input: &[u8], output: &mut [u8], _finish: bool) -> Result<Step, Refused> {
        let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
        let status = self.0.decompress(input, output, InflateFlush::NoFlush).map_err(|_| Refused)?;
        Ok(Step {
            consumed: taken(before_in, self.0.total_in()),
            produced: taken(before_out, self.0.total_out()),
            ended: status == zlib_rs::Status::StreamEnd,
        })
    }
}

/// Encodes as stock zlib.
pub(crate) struct Zlib(Compress);

impl Zlib {
    pub(crate) fn new(level: u8) -> Self {
        Self(Compress::new(Compression::new(u32::from(level)), false))
    }
}

impl Codec for Zlib {
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> Result<Step, Refused> {
        let flush = if finish { FlushCompress::Finish } else { FlushCompress::None };
        let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
        let status = self.0.compress(input, output, flush).map_err(|_| Refused)?;
        Ok(Step {
            consumed: taken(before_in, self.0.total_in()),
            produced: taken(before_out, self.0.total_out()),
            ended: status == Status::StreamEnd,
        })
    }
}

/// Encodes as zlib-rs.
pub(crate) struct ZlibRs(Deflate);

impl ZlibRs {
    pub(crate) fn new(level: u8) -> Self {
        Self(Deflate::new(i32::from(level), false, WINDOW_BITS))
    }
}

impl Codec for ZlibRs {
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> Result<Step, Refused> {
        let flush = if finish { DeflateFlush::Finish } else { DeflateFlush::NoFlush };
        let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
        let status = self.0.compress(input, output, flush).map_err(|_| Refused)?;
        Ok(Step {
            consumed: taken(before_in, self.0.total_in()),
            produced: taken(before_out, self.0.total_out()),
            ended: status == zlib_rs::Status::StreamEnd,
        })
    }
}

/// Encodes as miniz_oxide.
pub(crate) struct Miniz(Box<CompressorOxide>);

impl Miniz {
    pub(crate) fn new(level: u8) -> Self {
        let flags = create_comp_flags_from_zip_params(i32::from(level), -i32::from(WINDOW_BITS), 0);
        Self(Box::new(CompressorOxide::new(flags)))
    }
}

impl Codec for Miniz {
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> Result<Step, Refused> {
        let flush = if finish { MZFlush::Finish } else { MZFlush::None };
        let result = miniz_oxide::deflate::stream::deflate(&mut self.0, input, output, flush);
        let ended = match result.status {
            Ok(status) => status == MZStatus::StreamEnd,
            Err(MZError::Buf) => false,
            Err(_) => return Err(Refused),
        };
        Ok(Step { consumed: result.bytes_consumed, produced: result.bytes_written, ended })
    }
}

/// How far a counter has come in one step, whose buffers are in memory.
pub(super) fn taken(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("a step takes no more than its buffers hold")
}
