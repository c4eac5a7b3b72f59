//! Programs: what turns frames and members back into an artifact.
//!
//! A program is a list of steps that read frames and members from their beginnings to their ends. It names each encoder
//! with the exact version of the library that it was proven with, and carries what that encoder would get wrong. How
//! entries of archives lie is read from the frames themselves, so that a tar of any number of files is one step.

use std::time::Duration;

use super::coding::Coding;
use crate::codec::{DecodeError, Reader, put_number, put_prefixed};

/// What is copied and hashed in a millisecond.
const COPIED_PER_MILLISECOND: u64 = 500_000;

/// The most zeros of a step.
const ZEROS_MAX: u64 = 511;

const MAGIC: &[u8] = b"ssup\x01";

/// The longest program.
pub const PROGRAM_LEN_MAX: usize = 64 << 20;
/// The most encoders that a program names.
pub(super) const ENCODERS_MAX: usize = 256;
/// The most steps of a program, and the most pieces in all of its steps.
pub(super) const STEPS_MAX: usize = 1 << 20;
/// The longest bytes between two pieces, or the longest corrections of one.
pub(super) const EXTRA_LEN_MAX: usize = 4 << 20;

/// An encoder, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Encoder {
    /// The number of its method.
    pub method: u8,
    /// The version of the library.
    pub version: Vec<u8>,
    /// What the method is told, in its own form.
    pub parameters: Vec<u8>,
}

/// A part of a stream that is encoded on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its number of plain bytes.
    pub plain: u64,
    /// What follows its encoded bytes as it is; with the method of corrections, the corrections of the piece.
    pub extra: Vec<u8>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Copies frames.
    Frames(u64),
    /// Copies a member.
    Member(u64),
    /// Entries of a tar.
    Tar(u64),
    /// Entries of a cpio.
    Cpio(u64),
    /// Entries of a zip.
    Zip {
        /// The number of entries.
        count: u64,
        /// The encoder of those that are deflated.
        encoder: usize,
        /// The plain bytes of those that are deflated.
        plain: u64,
    },
    /// Encodes what the steps up to the matching end yield.
    Encode {
        /// The encoder.
        encoder: usize,
        /// The number of plain bytes.
        plain: u64,
        /// The pieces before the last one; with the method of corrections, all of them.
        pieces: Vec<Piece>,
    },
    /// Ends what the last open `Encode` began.
    End,
    /// The header of an entry of a tar.
    TarHeader,
    /// So many zeros, of which there are too few to fill a block of a tar.
    Zeros(u64),
}

/// A program that was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The version of the views that it was made with.
    pub view: u8,
    /// The size of the artifact.
    pub size: u64,
    /// The number of bytes of frames.
    pub frames: u64,
    /// The number of bytes of members.
    pub members: u64,
    /// The encoders.
    pub encoders: Vec<Encoder>,
    /// The steps.
    pub ops: Vec<Op>,
}

/// What a rebuild does, known without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The size of the artifact.
    pub size: u64,
    /// The number of bytes of frames and of members.
    pub plain: u64,
    /// Each encoder with the number of bytes that it encodes.
    pub encoders: Vec<(Encoder, u64)>,
}

impl Program {
    /// Reads a program from bytes that nothing is known about.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > PROGRAM_LEN_MAX {
            let (value, limit) = (bytes.len() as u64, PROGRAM_LEN_MAX as u64);
            return Err(DecodeError::OverLimit { field: "the length of a program", value, limit });
        }
        let mut reader = Reader::new(bytes);
        reader.magic("a program", MAGIC)?;
        let view = reader.byte("the version of the views")?;
        let size = reader.number("the size", u64::MAX)?;
        let frames = reader.number("the number of bytes of frames", u64::MAX)?;
        let members = reader.number("the number of bytes of members", u64::MAX)?;
        let count = reader.count("the number of encoders", ENCODERS_MAX)?;
        let encoders = (0..count).map(|_| get_encoder(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let count = reader.count("the number of steps", STEPS_MAX)?;
        let mut ops = Vec::new();
        let mut open = 0u8;
        let mut pieces_left = STEPS_MAX;
        for _ in 0..count {
            let op = get_op(&mut reader, encoders.len(), &mut pieces_left)?;
            open = match op {
                Op::Encode { .. } => open.checked_add(1),
                Op::End => open.checked_sub(1),
                _ => Some(open),
            }
            .ok_or_else(|| DecodeError::invalid("the steps of a program are not nested well"))?;
            ops.push(op);
        }
        reader.finish()?;
        if open != 0 {
            return Err(DecodeError::Truncated("the steps of a program"));
        }
        Ok(Self { view, size, frames, members, encoders, ops })
    }

    /// Writes the program.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(self.view);
        put_number(&mut out, self.size);
        put_number(&mut out, self.frames);
        put_number(&mut out, self.members);
        put_number(&mut out, self.encoders.len() as u64);
        for encoder in &self.encoders {
            out.push(encoder.method);
            put_prefixed(&mut out, &encoder.version);
            put_prefixed(&mut out, &encoder.parameters);
        }
        put_number(&mut out, self.ops.len() as u64);
        for op in &self.ops {
            put_op(&mut out, op);
        }
        out
    }

    /// Whether streams are encoded by correcting a prediction, which [`Limits`](super::Limits) can rule out.
    pub fn has_corrections(&self) -> bool {
        self.encoders.iter().any(|encoder| matches!(Coding::of(encoder), Ok(Some(Coding::Corrected))))
    }

    /// What a rebuild costs: time goes with the plain bytes of each encoder, those of nested streams counted for each.
    pub fn summary(&self) -> Summary {
        let mut encoders: Vec<_> = self.encoders.iter().map(|encoder| (encoder.clone(), 0u64)).collect();
        for op in &self.ops {
            if let Op::Encode { encoder, plain, .. } | Op::Zip { encoder, plain, .. } = op {
                let sum = &mut encoders[*encoder].1;
                *sum = sum.saturating_add(*plain);
            }
        }
        Summary { size: self.size, plain: self.frames.saturating_add(self.members), encoders }
    }
}

impl Summary {
    /// How long a rebuild takes on one processor, roughly; nothing where an encoder is not built in.
    ///
    /// The rates are those of a slow machine, and say which of two ways is cheaper rather than when one is done.
    pub fn rebuild_time(&self) -> Option<Duration> {
        let copied = self.plain / COPIED_PER_MILLISECOND;
        let millis = self.encoders.iter().try_fold(copied, |sum, (encoder, plain)| {
            let coding = Coding::of(encoder).ok()??;
            Some(sum.saturating_add(plain / coding.bytes_per_millisecond()))
        });
        millis.map(Duration::from_millis)
    }
}

fn get_encoder(reader: &mut Reader<'_>) -> Result<Encoder, DecodeError> {
    Ok(Encoder {
        method: reader.byte("the method of an encoder")?,
        version: reader.prefixed("the version of an encoder", 64)?.to_vec(),
        parameters: reader.prefixed("the parameters of an encoder", 64)?.to_vec(),
    })
}

fn get_op(reader: &mut Reader<'_>, encoders: usize, pieces_left: &mut usize) -> Result<Op, DecodeError> {
    let positive = |reader: &mut Reader<'_>, field| match reader.number(field, u64::MAX)? {
        0 => Err(DecodeError::invalid(format!("{field} is 0"))),
        value => Ok(value),
    };
    let encoder_index = |reader: &mut Reader<'_>| {
        let last =
            encoders.checked_sub(1).ok_or_else(|| DecodeError::invalid("a program names no encoder"))?;
        reader.count("the index of an encoder", last)
    };
    Ok(match reader.byte("a step")? {
        0 => Op::End,
        1 => Op::Frames(positive(reader, "the number of frames")?),
        2 => Op::Member(positive(reader, "the length of a member")?),
        3 => Op::Tar(positive(reader, "the number of entries")?),
        4 => Op::Cpio(positive(reader, "the number of entries")?),
        5 => Op::Zip {
            count: positive(reader, "the number of entries")?,
            encoder: encoder_index(reader)?,
            plain: reader.number("the plain bytes of entries", u64::MAX)?,
        },
        6 => {
            let encoder = encoder_index(reader)?;
            let plain = reader.number("the plain bytes of a stream", u64::MAX)?;
            let count = reader.count("the number of pieces", *pieces_left)?;
            *pieces_left -= count;
            let mut pieces = Vec::new();
            let mut left = plain;
            for _ in 0..count {
                let plain = reader.number("the plain bytes of a piece", left)?;
                left -= plain;
                let extra = reader.prefixed("what follows a piece", EXTRA_LEN_MAX)?.to_vec();
                pieces.push(Piece { plain, extra });
            }
            Op::Encode { encoder, plain, pieces }
        }
        7 => Op::TarHeader,
        8 => match reader.number("the number of zeros", ZEROS_MAX)? {
            0 => return Err(DecodeError::invalid("the number of zeros is 0")),
            count => Op::Zeros(count),
        },
        other => return Err(DecodeError::invalid(format!("{other} is not a step of a program"))),
    })
}

fn put_op(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::End => out.push(0),
        Op::Frames(len) => put_counted(out, 1, *len),
        Op::Member(len) => put_counted(out, 2, *len),
        Op::Tar(count) => put_counted(out, 3, *count),
        Op::Cpio(count) => put_counted(out, 4, *count),
        Op::Zip { count, encoder, plain } => {
            put_counted(out, 5, *count);
            put_number(out, *encoder as u64);
            put_number(out, *plain);
        }
        Op::TarHeader => out.push(7),
        Op::Zeros(count) => put_counted(out, 8, *count),
        Op::Encode { encoder, plain, pieces } => {
            put_counted(out, 6, *encoder as u64);
            put_number(out, *plain);
            put_number(out, pieces.len() as u64);
            for piece in pieces {
                put_number(out, piece.plain);
                put_prefixed(out, &piece.extra);
            }
        }
    }
}

fn put_counted(out: &mut Vec<u8>, code: u8, value: u64) {
    out.push(code);
    put_number(out, value);
}
