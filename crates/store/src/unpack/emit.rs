//! What a walk gives: frames, members, and the steps that put them together again.

use std::io::{self, Write};

use super::coding::Coding;
use super::container::Archive;
use super::container::columns::Header;
use super::framing::Framing;
use super::program::{ENCODERS_MAX, Encoder, Op};
use super::search::Found;
use super::spool::{Input, Section, copy};

/// Where frames and members go.
pub(super) struct Emit<'a> {
    pub(super) frames: Framing<'a>,
    members: &'a mut dyn Write,
    /// The lengths of the members in order.
    pub(super) member_lens: Vec<u64>,
    /// The encoders that the steps name.
    pub(super) encoders: Vec<Encoder>,
    /// The steps.
    pub(super) ops: Vec<Op>,
}

impl<'a> Emit<'a> {
    pub(super) fn new(frames: &'a mut dyn Write, members: &'a mut dyn Write) -> Self {
        Self {
            frames: Framing::new(frames),
            members,
            member_lens: Vec::new(),
            encoders: Vec::new(),
            ops: Vec::new(),
        }
    }

    /// Frames as a step of their own.
    pub(super) fn frames(&mut self, input: &mut dyn Input, at: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match self.ops.last_mut() {
            Some(Op::Frames(sum)) => *sum += len,
            _ => self.ops.push(Op::Frames(len)),
        }
        self.copy_frames(input, at, len)
    }

    /// The header of an entry of a tar, which a step has accounted for.
    pub(super) fn put_header(&mut self, header: &Header) -> io::Result<()> {
        self.frames.header(header)
    }

    /// The header of an entry of a tar as a step of its own.
    pub(super) fn tar_header(&mut self, header: &Header) -> io::Result<()> {
        self.ops.push(Op::TarHeader);
        self.put_header(header)
    }

    /// Zeros that are in neither frames nor members.
    pub(super) fn zeros(&mut self, count: u64) {
        if count > 0 {
            self.ops.push(Op::Zeros(count));
        }
    }

    /// A member as a step of its own.
    pub(super) fn member(&mut self, input: &mut dyn Input, at: u64, len: u64) -> io::Result<()> {
        if len > 0 {
            self.ops.push(Op::Member(len));
        }
        self.copy_member(input, at, len)
    }

    /// Counts an entry of an archive, whose parts are then copied.
    pub(super) fn entry(&mut self, archive: Archive) {
        match (archive, self.ops.last_mut()) {
            (Archive::Tar, Some(Op::Tar(count))) | (Archive::Cpio, Some(Op::Cpio(count))) => *count += 1,
            (Archive::Tar, _) => self.ops.push(Op::Tar(1)),
            (Archive::Cpio, _) => self.ops.push(Op::Cpio(1)),
            (Archive::Zip, _) => unreachable!("an entry of a zip is counted with its encoder"),
        }
    }

    /// Counts an entry of a zip that is stored, if it follows on others.
    pub(super) fn stored_entry(&mut self) -> bool {
        if let Some(Op::Zip { count, .. }) = self.ops.last_mut() {
            *count += 1;
            return true;
        }
        false
    }

    /// Counts an entry of a zip that is deflated, whose parts are then copied.
    pub(super) fn deflated_entry(&mut self, coding: Coding, len: u64) {
        let encoder = self.encoder(coding);
        match self.ops.last_mut() {
            Some(Op::Zip { count, encoder: same, plain }) if *same == encoder => {
                *count += 1;
                *plain += len;
            }
            _ => self.ops.push(Op::Zip { count: 1, encoder, plain: len }),
        }
    }

    /// Begins what an encoder is given.
    pub(super) fn begin(&mut self, found: Found, plain: u64) {
        let encoder = self.encoder(found.coding);
        self.ops.push(Op::Encode { encoder, plain, pieces: found.pieces });
    }

    /// Ends what an encoder is given.
    pub(super) fn end(&mut self) {
        self.ops.push(Op::End);
    }

    /// Whether one more encoder can be named.
    pub(super) fn has_room(&self) -> bool {
        self.encoders.len() < ENCODERS_MAX
    }

    fn encoder(&mut self, coding: Coding) -> usize {
        let encoder = coding.encoder();
        self.encoders.iter().position(|known| *known == encoder).unwrap_or_else(|| {
            self.encoders.push(encoder);
            self.encoders.len() - 1
        })
    }

    /// Frames that a step has accounted for.
    pub(super) fn copy_frames(&mut self, input: &mut dyn Input, at: u64, len: u64) -> io::Result<()> {
        copy(&mut Section::new(input, at, at + len), len, &mut self.frames)?;
        Ok(())
    }

    /// A member that a step has accounted for.
    pub(super) fn copy_member(&mut self, input: &mut dyn Input, at: u64, len: u64) -> io::Result<()> {
        if len > 0 {
            copy(&mut Section::new(input, at, at + len), len, self.members)?;
            self.member_lens.push(len);
        }
        Ok(())
    }
}
