//! Taking an artifact apart in a confined process.
//!
//! Predicting a stream is bounded in memory, by the windows that it is taken in, but a stream that is made for it takes
//! minutes of a processor for each of its mebibytes; and where the library predicts what it then does not recreate, the
//! proof is as dangerous as a program from somebody else.
//!
//! What comes back is the lengths of the program, of the frames, and of each member, with their count before them, as
//! numbers of eight bytes, lowest first; then the three, one after the other. Nothing at all comes where it is not
//! worth it.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::process;

use rustix::fs::{Mode, OFlags};
use smart_sync_store::unpack::{
    Dissected, Dissector, InMemory, Limits, PROGRAM_LEN_MAX, Spools, Storage, take_apart,
};

use super::limits::Bounds;
use super::process::Process;
use super::{Confined, Task, usage};

/// What a small artifact takes of which every encoder was tried, on a slow machine.
const SECONDS: u64 = 60;
/// What each mebibyte of an artifact adds: its plain bytes are several times as many, and encoded more than once.
const SECONDS_PER_MEBIBYTE: u64 = 20;
/// More than that is given to nobody.
const SECONDS_MAX: u64 = 8 * 3600;
/// Each stream of an artifact may wait in a file of its own, for each depth.
const FILES: u64 = 32;
/// What an artifact decompresses to is kept in memory up to this size of the artifact.
const IN_MEMORY_SIZE_MAX: u64 = 1 << 20;
const BLOCK: usize = 1 << 18;

impl Dissector for Confined {
    fn dissect(&self, artifact: File, size: u64) -> io::Result<Option<Dissected>> {
        let processor_seconds =
            (SECONDS + (size >> 20).saturating_mul(SECONDS_PER_MEBIBYTE)).min(SECONDS_MAX);
        let limits = Limits::default();
        let bounds =
            Bounds { parent: process::id(), processor_seconds, file_bytes: limits.plain_max, files: FILES };
        let mut process = Process::start(self, Task::Dissect, bounds, &[size], artifact)?;
        let Some(program) = first_number(&mut process)? else {
            process.finish()?;
            return Ok(None);
        };
        let too_much = || io::Error::new(io::ErrorKind::InvalidData, "a confined process says too much");
        let length = usize::try_from(program).ok().filter(|length| *length <= PROGRAM_LEN_MAX);
        let mut program = vec![0; length.ok_or_else(too_much)?];
        let frames = number(&mut process)?;
        let count = number(&mut process)?;
        if count > 2 * (limits.members_max + limits.streams_max) {
            return Err(too_much());
        }
        let members = (0..count).map(|_| number(&mut process)).collect::<io::Result<Vec<_>>>()?;
        process.read_exact(&mut program)?;
        Ok(Some(Dissected { program, frames, members, streams: Box::new(process) }))
    }
}

/// A number, or nothing where nothing comes at all.
fn first_number(source: &mut impl Read) -> io::Result<Option<u64>> {
    let mut bytes = Vec::with_capacity(8);
    source.take(8).read_to_end(&mut bytes)?;
    match bytes.as_slice().try_into() {
        Ok(bytes) => Ok(Some(u64::from_le_bytes(bytes))),
        Err(_) if bytes.is_empty() => Ok(None),
        Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn number(source: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    source.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// The confined side.
pub(super) fn serve(numbers: &[u64], mut input: &File, output: File) -> io::Result<()> {
    let [size] = *numbers else { return Err(usage()) };
    let limits = Limits::default();
    let mut spools = SomeSpools { is_small: size <= IN_MEMORY_SIZE_MAX };
    let Some(mut taken) = take_apart(&mut input, size, &limits, &mut spools)? else { return Ok(()) };
    let mut output = BufWriter::with_capacity(BLOCK, output);
    let program = taken.program.encode();
    let mut say = |number: u64| output.write_all(&number.to_le_bytes());
    say(program.len() as u64)?;
    say(taken.views.frames_len)?;
    say(taken.views.members.len() as u64)?;
    taken.views.members.iter().try_for_each(|length| say(*length))?;
    output.write_all(&program)?;
    io::copy(&mut taken.frames, &mut output)?;
    io::copy(&mut taken.members, &mut output)?;
    output.flush()
}

/// Memory for small artifacts, and files without names for the others.
struct SomeSpools {
    is_small: bool,
}

impl Spools for SomeSpools {
    fn spool(&mut self) -> io::Result<Box<dyn Storage>> {
        if self.is_small {
            return InMemory.spool();
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        Ok(Box::new(File::from(rustix::fs::open(".", flags, Mode::RUSR | Mode::WUSR)?)))
    }
}
