//! Frames of zstd: always decoded, encoded again only where this very version of the library made them.

use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

use crate::codec::{DecodeError, Reader};

use super::{Codec, Refused, Step};

/// The first bytes of a frame.
pub(crate) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The levels that are tried; those above need more memory than a rebuild may take.
pub(crate) const LEVELS: [u8; 9] = [3, 19, 1, 9, 6, 10, 12, 15, 18];
const LEVEL_MAX: u8 = 19;

/// What a frame is encoded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Parameters {
    pub level: u8,
    /// Whether the frame ends with a checksum.
    pub checksum: bool,
    /// Whether the encoder knew the size before, and wrote it into the header.
    pub sized: bool,
}

impl Parameters {
    /// What the header of a frame tells, with a level yet to be found.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        let descriptor = *head.strip_prefix(&MAGIC)?.first()?;
        let (dictionary, reserved) = (descriptor & 3, descriptor & 8);
        let single_segment = descriptor & 0x20 != 0;
        let sized = single_segment || descriptor >> 6 != 0;
        (dictionary == 0 && reserved == 0).then_some(Self { level: 0, checksum: descriptor & 4 != 0, sized })
    }

    pub(super) fn encode(self) -> Vec<u8> {
        vec![self.level, u8::from(self.checksum) | u8::from(self.sized) << 1]
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [level, flags] = reader.array("the parameters of zstd")?;
        if !(1..=LEVEL_MAX).contains(&level) || flags > 3 {
            return Err(DecodeError::invalid("the parameters of zstd are out of range"));
        }
        Ok(Self { level, checksum: flags & 1 != 0, sized: flags & 2 != 0 })
    }

    /// An encoder of a frame of that many bytes.
    pub(super) fn encoder(self, plain: u64) -> Result<Compressor, Refused> {
        let mut encoder = Encoder::new(i32::from(self.level)).map_err(|_| Refused)?;
        encoder.set_parameter(CParameter::ChecksumFlag(self.checksum)).map_err(|_| Refused)?;
        if self.sized {
            encoder.set_pledged_src_size(Some(plain)).map_err(|_| Refused)?;
        }
        Ok(Compressor(encoder))
    }
}

/// Encodes.
pub(crate) struct Compressor(Encoder<'static>);

impl Codec for Compressor {
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> Result<Step, Refused> {
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(output);
        if !input.is_empty() {
            self.0.run(&mut from, &mut to).map_err(|_| Refused)?;
        }
        let all = from.pos() == input.len();
        let ended = finish && all && self.0.finish(&mut to, true).map_err(|_| Refused)? == 0;
        Ok(Step { consumed: from.pos(), produced: to.pos(), ended })
    }
}

/// Decodes.
pub(crate) struct Decompressor(Decoder<'static>);

impl Decompressor {
    pub(crate) fn new(window_log_max: u32) -> Result<Self, Refused> {
        let mut decoder = Decoder::new().map_err(|_| Refused)?;
        decoder.set_parameter(DParameter::WindowLogMax(window_log_max)).map_err(|_| Refused)?;
        Ok(Self(decoder))
    }
}

impl Codec for Decompressor {
    fn step(&mut self, input: &[u8], output: &mut [u8], _finish: bool) -> Result<Step, Refused> {
        let status = self.0.run_on_buffers(input, output).map_err(|_| Refused)?;
        Ok(Step { consumed: status.bytes_read, produced: status.bytes_written, ended: status.remaining == 0 })
    }
}
