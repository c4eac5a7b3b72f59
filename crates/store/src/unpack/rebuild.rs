//! Rebuilding an artifact from its program, its frames and its members.
//!
//! Frames and members are each read once from the beginning to the end, and what is rebuilt is written as it comes.
//! Nothing here is believed: a program may ask for nonsense, and whoever calls compares the digest of what came out.

use std::io::{self, Read, Write};

use crate::codec::DecodeError;

use super::VIEW_VERSION;
use super::coding::{Coding, EncodeWriter};
use super::container::columns::{self, HEADERS_MAX, Header};
use super::container::{Archive, Layout, Payload, tar};
use super::limits::Limits;
use super::program::{Encoder, Op, Program};
use super::spool::{CopyError, copy, fill};

/// Why an artifact could not be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// An encoder is not built in, or is of another version: the artifact has to be had as it is.
    #[error("method {} of version {} is not built in", .0.method, .0.version.escape_ascii())]
    OtherEncoder(Encoder),
    /// The program is of another version of the views.
    #[error("the program is of version {0} of the views")]
    OtherView(u8),
    /// What stands in the place of the program is none.
    #[error("reading the program")]
    Program(#[source] DecodeError),
    /// The parameters of an encoder are not such.
    #[error("reading the parameters of an encoder")]
    Parameters(#[from] DecodeError),
    /// The program, the frames and the members do not go together.
    #[error("the program does not fit: {0}")]
    Unfit(&'static str),
    /// The program asks for more than is allowed.
    #[error("the program asks for more {0} than is allowed")]
    OverLimit(&'static str),
    /// Frames could not be read.
    #[error("reading frames")]
    Frames(#[source] io::Error),
    /// Members could not be read.
    #[error("reading members")]
    Members(#[source] io::Error),
    /// What was rebuilt could not be written or encoded.
    #[error("writing what was rebuilt")]
    Output(#[source] io::Error),
}

/// Writes the artifact of `size` bytes that `program` makes from `frames` and `members`.
pub fn rebuild(
    program: &Program,
    frames: &mut dyn Read,
    members: &mut dyn Read,
    size: u64,
    limits: &Limits,
    out: &mut dyn Write,
) -> Result<(), RebuildError> {
    if program.size != size {
        return Err(RebuildError::Unfit("it is for an artifact of another size"));
    }
    if program.view != VIEW_VERSION {
        return Err(RebuildError::OtherView(program.view));
    }
    let codings =
        program.encoders.iter().map(|encoder| coding(encoder, limits)).collect::<Result<Vec<_>, _>>()?;
    let mut machine = Machine {
        frames: Source { inner: frames, left: program.frames, failed: RebuildError::Frames },
        members: Source { inner: members, left: program.members, failed: RebuildError::Members },
        headers: Vec::new().into_iter(),
        codings: &codings,
        ops: program.ops.iter(),
        entries: limits.members_max,
        depth_max: limits.depth_max,
    };
    let mut out = Gauge { left: size, out };
    machine.run(&mut out, 0)?;
    let is_left = machine.frames.left != 0 || machine.members.left != 0 || machine.headers.len() > 0;
    if out.left != 0 || is_left {
        return Err(RebuildError::Unfit("something is left over at its end"));
    }
    Ok(())
}

fn coding(encoder: &Encoder, limits: &Limits) -> Result<Coding, RebuildError> {
    match Coding::of(encoder)? {
        None => Err(RebuildError::OtherEncoder(encoder.clone())),
        Some(Coding::Xz(xz)) if xz.chain.dictionary_len() > limits.dictionary_encode_max => {
            Err(RebuildError::OverLimit("dictionary"))
        }
        Some(Coding::Zstd(zstd)) if zstd.level > limits.zstd_level_max => {
            Err(RebuildError::OverLimit("effort of zstd"))
        }
        Some(Coding::Corrected) if !limits.allows_corrections => Err(RebuildError::OverLimit("corrections")),
        Some(coding) => Ok(coding),
    }
}

struct Machine<'a> {
    frames: Source<'a>,
    members: Source<'a>,
    /// Headers of tar that were read and not yet written.
    headers: std::vec::IntoIter<Header>,
    codings: &'a [Coding],
    ops: std::slice::Iter<'a, Op>,
    /// The entries of archives that may still come.
    entries: u64,
    depth_max: u8,
}

impl Machine<'_> {
    /// Runs the steps up to the end that belongs to this depth.
    fn run(&mut self, out: &mut dyn Write, depth: u8) -> Result<(), RebuildError> {
        while let Some(op) = self.ops.next() {
            match op {
                Op::End => return Ok(()),
                Op::Frames(len) => self.frames.copy(*len, out)?,
                Op::Member(len) => self.members.copy(*len, out)?,
                Op::Tar(count) => self.entries(Archive::Tar, *count, None, out)?,
                Op::Cpio(count) => self.entries(Archive::Cpio, *count, None, out)?,
                Op::TarHeader => drop(self.header(Archive::Tar, &mut [0; tar::HEADER_LEN], out)?),
                Op::Zeros(count) => zeros(*count, out)?,
                Op::Zip { count, encoder, .. } => self.entries(Archive::Zip, *count, Some(*encoder), out)?,
                Op::Encode { encoder, plain, pieces } => {
                    if depth >= self.depth_max {
                        return Err(RebuildError::OverLimit("nesting"));
                    }
                    let coding = self.coding(*encoder)?;
                    let mut writer =
                        EncodeWriter::new(coding, *plain, pieces, out).map_err(RebuildError::Output)?;
                    self.run(&mut writer, depth + 1)?;
                    writer.finish().map_err(RebuildError::Output)?;
                }
            }
        }
        Ok(())
    }

    fn coding(&self, encoder: usize) -> Result<Coding, RebuildError> {
        self.codings
            .get(encoder)
            .copied()
            .ok_or(RebuildError::Unfit("it names an encoder that it does not list"))
    }

    /// Puts entries of an archive together, as their headers tell.
    fn entries(
        &mut self,
        archive: Archive,
        count: u64,
        encoder: Option<usize>,
        out: &mut dyn Write,
    ) -> Result<(), RebuildError> {
        self.entries = self.entries.checked_sub(count).ok_or(RebuildError::OverLimit("entries"))?;
        let mut header = vec![0; archive.header_len()];
        for _ in 0..count {
            let layout = self.header(archive, &mut header, out)?;
            self.frames.copy(layout.header - header.len() as u64, out)?;
            match (layout.payload, encoder) {
                (Payload::Frames, _) => self.frames.copy(layout.plain, out)?,
                (Payload::Deflated, Some(encoder)) => {
                    let coding = self.coding(encoder)?;
                    let writer = EncodeWriter::new(coding, layout.plain, &[], out);
                    let mut writer = writer.map_err(RebuildError::Output)?;
                    self.members.copy(layout.plain, &mut writer)?;
                    writer.finish().map_err(RebuildError::Output)?;
                }
                (Payload::Member | Payload::Deflated, _) => self.members.copy(layout.plain, out)?,
            }
            match archive {
                Archive::Tar => zeros(layout.padding, out)?,
                Archive::Cpio | Archive::Zip => self.frames.copy(layout.padding, out)?,
            }
        }
        Ok(())
    }

    /// Writes the fixed part of the header of an entry, and says how the entry lies.
    fn header(
        &mut self,
        archive: Archive,
        header: &mut [u8],
        out: &mut dyn Write,
    ) -> Result<Layout, RebuildError> {
        match archive {
            Archive::Tar => header.copy_from_slice(&self.tar_header()?),
            Archive::Cpio | Archive::Zip => self.frames.read(header)?,
        }
        out.write_all(header).map_err(RebuildError::Output)?;
        archive.layout(header).ok_or(RebuildError::Unfit("frames hold no header of an entry"))
    }

    /// The next header of a tar, whole.
    fn tar_header(&mut self) -> Result<Header, RebuildError> {
        if self.headers.len() == 0 {
            let mut count = [0; 2];
            self.frames.read(&mut count)?;
            let count = usize::from(u16::from_le_bytes(count));
            if !(1..=HEADERS_MAX).contains(&count) {
                return Err(RebuildError::Unfit("frames hold no headers of a tar"));
            }
            let mut columns = vec![0; count * tar::HEADER_LEN];
            self.frames.read(&mut columns)?;
            self.headers = columns::decode(&columns).into_iter();
        }
        let mut header =
            self.headers.next().ok_or(RebuildError::Unfit("frames hold no header of an entry"))?;
        tar::complete(&mut header);
        Ok(header)
    }
}

/// Writes what fills a block of a tar.
fn zeros(count: u64, out: &mut dyn Write) -> Result<(), RebuildError> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    out.write_all([0; tar::HEADER_LEN].get(..count).unwrap_or_default()).map_err(RebuildError::Output)
}

/// Frames or members that are still to be read.
struct Source<'a> {
    inner: &'a mut dyn Read,
    left: u64,
    failed: fn(io::Error) -> RebuildError,
}

impl Source<'_> {
    /// Takes `len` bytes off what is left.
    fn take(&mut self, len: u64) -> Result<(), RebuildError> {
        let left = self.left.checked_sub(len);
        self.left = left.ok_or(RebuildError::Unfit("it wants more frames or members than it declares"))?;
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), RebuildError> {
        self.take(buffer.len() as u64)?;
        let filled = fill(self.inner, buffer).map_err(self.failed)?;
        if filled < buffer.len() {
            return Err((self.failed)(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn copy(&mut self, len: u64, out: &mut dyn Write) -> Result<(), RebuildError> {
        self.take(len)?;
        match copy(self.inner, len, out) {
            Ok(copied) if copied == len => Ok(()),
            Ok(_) => Err((self.failed)(io::ErrorKind::UnexpectedEof.into())),
            Err(CopyError::Read(error)) => Err((self.failed)(error)),
            Err(CopyError::Write(error)) => Err(RebuildError::Output(error)),
        }
    }
}

/// Refuses what goes over the size of the artifact.
struct Gauge<'a> {
    left: u64,
    out: &'a mut dyn Write,
}

impl Write for Gauge<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "more comes out than the artifact's size",
            ));
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
