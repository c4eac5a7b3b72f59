//! Blocks of xz: a filter for machine code, if any, and LZMA2.
//!
//! What stands around the blocks is kept as it is; a block's header tells its filters and the size of the dictionary,
//! and only the preset has to be found.

use liblzma::stream::{Action, Filters, LzmaOptions, Status, Stream};

use crate::codec::{DecodeError, Reader};

use super::deflate::taken;
use super::{Codec, Refused, Step};

/// The number that names LZMA2 among filters.
pub(crate) const LZMA2: u64 = 0x21;
/// The filters for machine code: x86, PowerPC, IA-64, ARM, ARM Thumb, SPARC, ARM64, RISC-V.
const MACHINES: std::ops::RangeInclusive<u8> = 4..=11;
/// The code of the largest dictionary.
const DICTIONARY_CODE_MAX: u8 = 40;

/// What a block's header tells of its filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Chain {
    /// The filter for machine code, or 0.
    pub machine: u8,
    /// The size of the dictionary as LZMA2's property tells it.
    pub dictionary: u8,
}

/// What a block is encoded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Parameters {
    pub chain: Chain,
    /// The preset of `xz`.
    pub level: u8,
    /// Whether it is an extreme one.
    pub extreme: bool,
}

impl Chain {
    /// A chain, if it is one that can be decoded.
    pub(crate) fn new(machine: u8, dictionary: u8) -> Option<Self> {
        let known = machine == 0 || MACHINES.contains(&machine);
        (known && dictionary <= DICTIONARY_CODE_MAX).then_some(Self { machine, dictionary })
    }

    /// The size of the dictionary in bytes.
    pub(crate) fn dictionary_len(self) -> u32 {
        match self.dictionary {
            DICTIONARY_CODE_MAX => u32::MAX,
            code => (2 | u32::from(code & 1)) << (code / 2 + 11),
        }
    }

    fn filters(self, options: &LzmaOptions) -> Filters {
        let mut filters = Filters::new();
        match self.machine {
            4 => filters.x86(),
            5 => filters.powerpc(),
            6 => filters.ia64(),
            7 => filters.arm(),
            8 => filters.arm_thumb(),
            9 => filters.sparc(),
            10 => filters.arm64(),
            11 => filters.riscv(),
            _ => &mut filters,
        };
        filters.lzma2(options);
        filters
    }

    /// A decoder of blocks.
    pub(crate) fn decoder(self) -> Result<Block, Refused> {
        let mut options = LzmaOptions::new_preset(0).map_err(|_| Refused)?;
        options.dict_size(self.dictionary_len());
        Ok(Block(Stream::new_raw_decoder(&self.filters(&options)).map_err(|_| Refused)?))
    }
}

impl Parameters {
    pub(super) fn encode(self) -> Vec<u8> {
        vec![self.level, u8::from(self.extreme), self.chain.machine, self.chain.dictionary]
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [level, extreme, machine, dictionary] = reader.array("the parameters of xz")?;
        let chain = Chain::new(machine, dictionary).filter(|_| level <= 9 && extreme <= 1);
        let chain = chain.ok_or_else(|| DecodeError::invalid("the parameters of xz are out of range"))?;
        Ok(Self { chain, level, extreme: extreme == 1 })
    }

    /// An encoder of a block.
    pub(super) fn encoder(self) -> Result<Block, Refused> {
        let extreme = if self.extreme { 1 << 31 } else { 0 };
        let mut options = LzmaOptions::new_preset(u32::from(self.level) | extreme).map_err(|_| Refused)?;
        options.dict_size(self.chain.dictionary_len());
        Ok(Block(Stream::new_raw_encoder(&self.chain.filters(&options)).map_err(|_| Refused)?))
    }
}

/// A block at work, in either direction.
pub(crate) struct Block(Stream);

impl Codec for Block {
    fn step(&mut self, input: &[u8], output: &mut [u8], finish: bool) -> Result<Step, Refused> {
        let action = if finish { Action::Finish } else { Action::Run };
        let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
        let status = self.0.process(input, output, action).map_err(|_| Refused)?;
        Ok(Step {
            consumed: taken(before_in, self.0.total_in()),
            produced: taken(before_out, self.0.total_out()),
            ended: status == Status::StreamEnd,
        })
    }
}
