//! Seeing through compression: an artifact as frames, members, and a program that puts them together again.
//!
//! Members are the contents of the innermost files, so that they share chunks with the same files elsewhere; frames are
//! all that lies around them; the program says which encoder compressed what. [`decode_views`] gives frames and members
//! by decoding alone and is a function of the bytes, so that whoever has an old artifact can compute what a delta is
//! against. [`take_apart`] finds the encoders too, and what it gives has been rebuilt and compared before it is handed
//! out. Whatever is odd about an artifact makes some of its bytes a member as they are, and is never an error.

mod coding;
mod container;
mod dissect;
mod emit;
mod framing;
mod limits;
mod plain;
mod program;
mod rebuild;
mod search;
mod spool;
mod stream;
mod walk;

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

pub use dissect::{Dissected, Dissector, InThisProcess};
pub use limits::Limits;
pub use plain::{CutPlain, Named, Stretch, program_of, rebuild_from, write_plain};
pub use program::{Encoder, Op, PROGRAM_LEN_MAX, Piece, Program, Summary};
pub use rebuild::{RebuildError, rebuild};
pub use spool::{InMemory, Spools, Storage};

use emit::Emit;
use limits::Budget;
use search::{Extent, Search};
use spool::{Input, Positioned, Section, copy};
use walk::{Found, Walk};

/// The version of the division into frames and members, the limits of [`Limits::default`] included.
pub const VIEW_VERSION: u8 = 3;

/// How much of the beginning of a file [`is_promising`] looks at.
pub const PROBE_LEN: usize = 1024;

/// What is shorter gains nothing.
const SIZE_MIN: u64 = 256;

/// Whether a file of `size` bytes that begins with `head` may have something in it that can be seen.
///
/// At most the first [`PROBE_LEN`] bytes are looked at; with fewer, an image of a kernel goes unnoticed.
pub fn is_promising(head: &[u8], size: u64) -> bool {
    size >= SIZE_MIN && Found::at(&head[..head.len().min(PROBE_LEN)]).is_some()
}

/// How long it takes at least to rebuild an artifact that begins with `head`, roughly.
///
/// Only what is encoded very slowly is told by its beginning: the plain bytes of a stream of xz are at least as many as
/// it has itself.
pub fn least_rebuild_time(head: &[u8], size: u64) -> Duration {
    if head.starts_with(stream::XZ_MAGIC) {
        Duration::from_millis(size / coding::XZ_BYTES_PER_MILLISECOND)
    } else {
        Duration::ZERO
    }
}

/// How an artifact divides into frames and members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Views {
    /// The number of bytes of frames.
    pub frames_len: u64,
    /// The lengths of the members in order; none is empty.
    pub members: Vec<u64>,
}

impl Views {
    /// The number of bytes of all members.
    pub fn members_len(&self) -> u64 {
        self.members.iter().sum()
    }
}

/// An artifact that was taken apart and has been rebuilt from its parts.
pub struct TakenApart {
    /// What puts it together.
    pub program: Program,
    /// How it divides.
    pub views: Views,
    /// The frames, from the beginning.
    pub frames: Box<dyn Storage>,
    /// The members one after the other, from the beginning.
    pub members: Box<dyn Storage>,
}

/// Writes the frames and the members of an artifact of `size` bytes, whether or not it can be rebuilt from them.
///
/// An artifact in which nothing is recognised is a single member. An error is one of the source, the spools or the
/// sinks.
pub fn decode_views<R: Read + Seek>(
    source: &mut R,
    size: u64,
    limits: &Limits,
    spools: &mut dyn Spools,
    frames: &mut dyn Write,
    members: &mut dyn Write,
) -> io::Result<Views> {
    let mut walk =
        Walk { limits, budget: Budget::new(limits), spools, emit: Emit::new(frames, members), search: None };
    let mut input = Positioned::new(source);
    if !walk.region(&mut input, 0, size, 0)? {
        walk.emit.member(&mut input, 0, size)?;
    }
    let Emit { frames, member_lens: members, .. } = walk.emit;
    Ok(Views { frames_len: frames.finish()?, members })
}

/// Takes an artifact of `size` bytes apart, such that [`rebuild`] gives it again: that is tried before this returns.
///
/// Nothing where too little of it is seen through for that to be worth anything.
pub fn take_apart<R: Read + Seek>(
    source: &mut R,
    size: u64,
    limits: &Limits,
    spools: &mut dyn Spools,
) -> io::Result<Option<TakenApart>> {
    let mut input = Positioned::new(source);
    for extent in [Extent::Beginning, Extent::Whole] {
        match take_apart_once(&mut input, size, limits, spools, extent)? {
            Attempt::Taken(taken) => return Ok(Some(*taken)),
            Attempt::NotWorthIt => break,
            Attempt::Wrong => {}
        }
    }
    Ok(None)
}

/// What has come of taking an artifact apart.
enum Attempt {
    Taken(Box<TakenApart>),
    NotWorthIt,
    /// The proof has failed.
    Wrong,
}

fn take_apart_once(
    input: &mut dyn Input,
    size: u64,
    limits: &Limits,
    spools: &mut dyn Spools,
    extent: Extent,
) -> io::Result<Attempt> {
    let (mut frames, mut members) = (spools.spool()?, spools.spool()?);
    let mut walk = Walk {
        limits,
        budget: Budget::new(limits),
        spools,
        emit: Emit::new(&mut frames, &mut members),
        search: Some(Search::new(extent)),
    };
    if !walk.region(input, 0, size, 0)? {
        return Ok(Attempt::NotWorthIt);
    }
    let Emit { frames: framing, member_lens, encoders, ops, .. } = walk.emit;
    let frames_len = framing.finish()?;
    let views = Views { frames_len, members: member_lens };
    let (view, members_len) = (VIEW_VERSION, views.members_len());
    let program = Program { view, size, frames: frames_len, members: members_len, encoders, ops };
    if !is_worth_it(&program) {
        return Ok(Attempt::NotWorthIt);
    }
    frames.seek(SeekFrom::Start(0))?;
    members.seek(SeekFrom::Start(0))?;
    if !is_proven(&program, input, &mut frames, &mut members, limits)? {
        return Ok(Attempt::Wrong);
    }
    frames.seek(SeekFrom::Start(0))?;
    members.seek(SeekFrom::Start(0))?;
    Ok(Attempt::Taken(Box::new(TakenApart { program, views, frames, members })))
}

/// The part of an artifact that its program may come to.
const PROGRAM_SHARE: u64 = 10;

/// Whether something is decompressed or divided into files, and the program does not eat up what that gains.
fn is_worth_it(program: &Program) -> bool {
    let seen_through = program.ops.iter().any(|op| !matches!(op, Op::Frames(_) | Op::Member(_)));
    let bytes = program.encode();
    let is_short = bytes.len() as u64 <= program.size / PROGRAM_SHARE + SIZE_MIN;
    // A program that has grown over a limit of its own format is none.
    seen_through && is_short && Program::decode(&bytes).is_ok()
}

/// Whether the program gives the artifact again; an error is one of the source or the spools.
fn is_proven(
    program: &Program,
    input: &mut dyn Input,
    frames: &mut dyn Read,
    members: &mut dyn Read,
    limits: &Limits,
) -> io::Result<bool> {
    let mut rebuilt = blake3::Hasher::new();
    match rebuild(program, frames, members, program.size, limits, &mut rebuilt) {
        Ok(()) => {}
        Err(RebuildError::Frames(error) | RebuildError::Members(error)) => return Err(error),
        Err(_) => return Ok(false),
    }
    let mut original = blake3::Hasher::new();
    copy(&mut Section::new(input, 0, program.size), program.size, &mut original)?;
    Ok(rebuilt.finalize() == original.finalize())
}

#[cfg(test)]
pub(crate) mod tests;
