//! Taking an artifact apart, wherever that is done.
//!
//! Artifacts come from somebody else. What finds out how their streams were encoded may take very long over one that was
//! made for that, so whoever has a process to spare does it there.

use std::fs::File;
use std::io::{self, Read};

use super::{InMemory, Limits, Spools, Storage, TakenApart, take_apart};

/// Takes artifacts apart.
pub trait Dissector: Sync {
    /// What an artifact of `size` bytes is rebuilt from; nothing where that is not worth it. It is not known to be right.
    fn dissect(&self, artifact: File, size: u64) -> io::Result<Option<Dissected>>;
}

/// What an artifact is rebuilt from.
pub struct Dissected {
    /// The program, as it is stored.
    pub program: Vec<u8>,
    /// The number of bytes of frames.
    pub frames: u64,
    /// The length of each member.
    pub members: Vec<u64>,
    /// The frames, and then the members.
    pub streams: Box<dyn Read>,
}

impl Dissected {
    /// The number of bytes of all members.
    pub fn members_len(&self) -> u64 {
        self.members.iter().fold(0, |sum, length| sum.saturating_add(*length))
    }
}

impl From<TakenApart> for Dissected {
    fn from(taken: TakenApart) -> Self {
        Self {
            program: taken.program.encode(),
            frames: taken.views.frames_len,
            members: taken.views.members,
            streams: Box::new(taken.frames.chain(taken.members)),
        }
    }
}

/// Does it in this process and in memory, without corrections.
#[derive(Debug, Clone, Copy)]
pub struct InThisProcess;

impl Dissector for InThisProcess {
    fn dissect(&self, mut artifact: File, size: u64) -> io::Result<Option<Dissected>> {
        let limits = Limits { allows_corrections: false, ..Limits::default() };
        let mut spools = || -> io::Result<Box<dyn Storage>> { InMemory.spool() };
        Ok(take_apart(&mut artifact, size, &limits, &mut spools)?.map(Dissected::from))
    }
}
