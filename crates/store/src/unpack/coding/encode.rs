//! Encoding what is written, piece after piece.
//!
//! Encoders are fed in blocks of one size, whatever the sizes of the writes, because some give other bytes when they
//! are fed otherwise.

use std::io::{self, Write};

use super::super::program::Piece;
use super::super::spool::BLOCK;
use super::corrections::{self, Recreator};
use super::{Codec, Coding, Refused};

impl From<Refused> for io::Error {
    fn from(Refused: Refused) -> Self {
        Self::new(io::ErrorKind::InvalidData, "the encoder refuses its input or parameters")
    }
}

/// Takes plain bytes and writes encoded ones.
pub(crate) struct EncodeWriter<'a> {
    coding: Coding,
    pieces: std::slice::Iter<'a, Piece>,
    piece: Option<&'a Piece>,
    /// The bytes that the piece still takes, those in `block` included.
    piece_left: u64,
    /// The bytes that all pieces still take, the current one not included.
    rest: u64,
    stage: Stage,
    block: Vec<u8>,
    output: Vec<u8>,
    out: &'a mut dyn Write,
}

enum Stage {
    Codec(Box<dyn Codec>),
    Recreator(Box<Recreator>),
}

impl<'a> EncodeWriter<'a> {
    /// Starts a stream of `plain` bytes.
    pub(crate) fn new(
        coding: Coding,
        plain: u64,
        pieces: &'a [Piece],
        out: &'a mut dyn Write,
    ) -> io::Result<Self> {
        let mut pieces = pieces.iter();
        let piece = pieces.next();
        let piece_left = piece.map_or(plain, |piece| piece.plain);
        let rest = plain.checked_sub(piece_left).ok_or(Refused)?;
        let stage = if coding == Coding::Corrected {
            // Such a piece is held in memory.
            if pieces.clone().chain(piece).any(|piece| piece.plain > corrections::PIECE_MAX) {
                return Err(Refused.into());
            }
            Stage::Recreator(Box::new(Recreator::new()))
        } else {
            Stage::Codec(coding.codec(piece_left)?)
        };
        let (block, output) = (Vec::with_capacity(BLOCK), vec![0; BLOCK]);
        Ok(Self { coding, pieces, piece, piece_left, rest, stage, block, output, out })
    }

    /// Ends the stream, which must have been given all its bytes.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        while self.piece.is_some() && self.piece_left == self.block.len() as u64 {
            self.end_piece()?;
        }
        let corrected = matches!(self.stage, Stage::Recreator(_));
        if self.rest != 0 || self.piece_left != self.block.len() as u64 || corrected && self.piece_left != 0 {
            return Err(Refused.into());
        }
        if corrected { Ok(()) } else { self.end_codec() }
    }

    /// Encodes what has gathered, writes what follows the piece, and turns to the next one.
    fn end_piece(&mut self) -> io::Result<()> {
        let Some(piece) = self.piece else { return Ok(()) };
        match &mut self.stage {
            Stage::Recreator(recreator) => {
                self.out.write_all(&recreator.recreate(&self.block, &piece.extra)?)?;
                self.block.clear();
            }
            Stage::Codec(_) => {
                self.end_codec()?;
                self.out.write_all(&piece.extra)?;
            }
        }
        self.piece = self.pieces.next();
        self.piece_left = self.piece.map_or(self.rest, |piece| piece.plain);
        self.rest = self.rest.checked_sub(self.piece_left).ok_or(Refused)?;
        if matches!(self.stage, Stage::Codec(_)) {
            self.stage = Stage::Codec(self.coding.codec(self.piece_left)?);
        }
        Ok(())
    }

    fn end_codec(&mut self) -> io::Result<()> {
        self.push(true)?;
        self.piece_left = 0;
        Ok(())
    }

    /// Hands the block to the encoder.
    fn push(&mut self, finish: bool) -> io::Result<()> {
        let Stage::Codec(codec) = &mut self.stage else { return Err(Refused.into()) };
        let mut input = self.block.as_slice();
        loop {
            let step = codec.step(input, &mut self.output, finish)?;
            self.out.write_all(&self.output[..step.produced])?;
            input = &input[step.consumed..];
            if step.ended || !finish && input.is_empty() && step.produced < self.output.len() {
                break;
            }
            if step.consumed == 0 && step.produced == 0 {
                return Err(Refused.into());
            }
        }
        self.piece_left -= self.block.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// How much is gathered before it is encoded.
    fn block_len(&self) -> usize {
        match self.stage {
            Stage::Codec(_) => BLOCK,
            Stage::Recreator(_) => usize::try_from(self.piece_left).unwrap_or(usize::MAX),
        }
    }
}

impl Write for EncodeWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.piece.is_some() && self.piece_left == self.block.len() as u64 {
            self.end_piece()?;
        }
        if self.block.len() >= self.block_len() && matches!(self.stage, Stage::Codec(_)) {
            self.push(false)?;
        }
        let left = self.piece_left - self.block.len() as u64;
        let room = (self.block_len() - self.block.len()) as u64;
        let len = usize::try_from(left.min(room)).unwrap_or(usize::MAX).min(bytes.len());
        if len == 0 && !bytes.is_empty() {
            // More is written than the stream was said to hold.
            return Err(Refused.into());
        }
        self.block.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
