//! Rebuilding a content in a confined process.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::process;

use smart_sync_store::unpack::{Limits, PROGRAM_LEN_MAX, Program, Stretch, rebuild};

use super::limits::Bounds;
use super::process::Process;
use super::{Confined, Task, usage};
use crate::bundle::apply::{Parts, Rebuilder};

/// What starting and reading a program takes, on a very slow machine.
const SECONDS: u64 = 4;
/// Plain bytes that are encoded in a second: a fraction of what a slow machine does.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// More than that is given to nobody.
const SECONDS_MAX: u64 = 4 * 3600;
/// The three that it is given, copies of two, and one that takes what is printed.
const FILES: u64 = 8;
/// Bytes that are read and written at once.
const BLOCK: usize = 1 << 18;

impl Rebuilder for Confined {
    fn rebuild(&self, parts: Parts, out: &mut dyn Write) -> io::Result<()> {
        let Parts { file, program, frames, members, size } = parts;
        let length = |range: &Range<u64>| range.end.saturating_sub(range.start);
        let plain = length(&members).saturating_add(length(&frames)).saturating_add(size);
        let processor_seconds = (SECONDS + plain / BYTES_PER_SECOND).min(SECONDS_MAX);
        let bounds = Bounds { parent: process::id(), processor_seconds, file_bytes: 0, files: FILES };
        let [program, frames, members] = [program, frames, members].map(|range| [range.start, range.end]);
        let numbers = [&program[..], &frames, &members, &[size]].concat();
        let mut process = Process::start(self, Task::Rebuild, bounds, &numbers, file)?;
        let mut buffer = vec![0; BLOCK];
        let mut left = size;
        loop {
            let filled = process.read(&mut buffer)?;
            if filled == 0 {
                break;
            }
            left = left.checked_sub(filled as u64).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a confined process wrote more than the content has",
                )
            })?;
            out.write_all(&buffer[..filled])?;
        }
        process.finish()?;
        if left == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The confined side.
pub(super) fn serve(numbers: &[u64], input: &File, output: File) -> io::Result<()> {
    let [program, program_end, frames, frames_end, members, members_end, size] = *numbers else {
        return Err(usage());
    };
    let length = usize::try_from(program_end.saturating_sub(program)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(PROGRAM_LEN_MAX)];
    input.read_exact_at(&mut bytes, program)?;
    let program = Program::decode(&bytes).map_err(io::Error::other)?;
    drop(bytes);
    let stretch = |at, end| BufReader::with_capacity(BLOCK, Stretch { file: input, at, end });
    let (mut members, mut frames) = (stretch(members, members_end), stretch(frames, frames_end));
    let mut output = BufWriter::with_capacity(BLOCK, output);
    rebuild(&program, &mut frames, &mut members, size, &Limits::default(), &mut output)
        .map_err(io::Error::other)?;
    output.flush()
}
