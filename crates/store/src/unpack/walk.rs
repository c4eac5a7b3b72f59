//! Walking through an artifact: what is recognised, and how it divides into frames and members.
//!
//! One walk serves both directions of a delta. Where encoders are searched for, a stream that none of them gives again
//! is a member as it is; where they are not, every stream is seen through. Nothing is given out for a stream before all
//! of this is decided, so that the walk never takes anything back.

mod zip_entries;

use std::io;

use super::container::columns::Header;
use super::container::{Archive, Layout, Payload, cpio, kernel, tar, zip};
use super::emit::Emit;
use super::limits::{Budget, Limits};
use super::search::Search;
use super::spool::{Input, Plain, Section, Spools, fill, peek};
use super::stream::{Decoding, Kind};
use super::{PROBE_LEN, is_promising};

/// What follows the last thing that was recognised is a member if it is longer.
const TAIL_FRAMES_MAX: u64 = 4096;
/// The longest stream that is a member as it is besides what it decompresses to.
const UNDECODED_MAX: u64 = 8 << 20;
const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER: u64 = 60;

/// What stands at the beginning of a stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Stream(Kind),
    Tar,
    Cpio,
    Zip,
    Ar,
    Kernel,
}

impl Found {
    /// What a stretch begins with.
    pub(super) fn at(head: &[u8]) -> Option<Self> {
        if let Some(kind) = Kind::of(head) {
            return Some(Self::Stream(kind));
        }
        if zip::begins(head) {
            Some(Self::Zip)
        } else if cpio::begins(head) {
            Some(Self::Cpio)
        } else if head.starts_with(AR_MAGIC) {
            Some(Self::Ar)
        } else if tar::begins(head) {
            Some(Self::Tar)
        } else {
            kernel::payload(head, u64::MAX).map(|_| Self::Kernel)
        }
    }
}

/// A walk through one artifact.
pub(super) struct Walk<'a> {
    pub(super) limits: &'a Limits,
    pub(super) budget: Budget,
    pub(super) spools: &'a mut dyn Spools,
    pub(super) emit: Emit<'a>,
    /// What is known of encoders, if they are searched for.
    pub(super) search: Option<Search>,
}

impl Walk<'_> {
    /// Walks through a stretch and gives out all of it, or nothing where nothing is recognised at its beginning.
    pub(super) fn region(
        &mut self,
        input: &mut dyn Input,
        start: u64,
        end: u64,
        depth: u8,
    ) -> io::Result<bool> {
        if depth >= self.limits.depth_max {
            return Ok(false);
        }
        let mut at = start;
        while at < end {
            if let Some(next) = self.item(input, at, end, depth)? {
                at = next;
                continue;
            }
            if at == start {
                return Ok(false);
            }
            // Archives and streams end in zeros, and others may follow.
            let zeros = zeros(input, at, end)?;
            self.emit.frames(input, at, zeros)?;
            at += zeros;
            if zeros == 0 {
                self.tail(input, at, end)?;
                at = end;
            }
        }
        Ok(start < end)
    }

    fn tail(&mut self, input: &mut dyn Input, at: u64, end: u64) -> io::Result<()> {
        let directory = zip::is_directory(&peek(input, at, end, 4)?);
        if directory || end - at <= TAIL_FRAMES_MAX {
            self.emit.frames(input, at, end - at)
        } else {
            self.emit.member(input, at, end - at)
        }
    }

    /// Gives out the stream or archive at `at`, and says where it ends.
    fn item(&mut self, input: &mut dyn Input, at: u64, end: u64, depth: u8) -> io::Result<Option<u64>> {
        let head = peek(input, at, end, PROBE_LEN)?;
        match Found::at(&head) {
            None => Ok(None),
            Some(Found::Stream(kind)) => self.stream(kind, input, at, end, depth),
            Some(Found::Tar) => self.archive(Archive::Tar, input, at, end, depth),
            Some(Found::Cpio) => self.archive(Archive::Cpio, input, at, end, depth),
            Some(Found::Zip) => self.zip(input, at, end, depth),
            Some(Found::Ar) => self.ar(input, at, end, depth),
            Some(Found::Kernel) => self.kernel(&head, input, at, end, depth),
        }
    }

    /// Gives out a file: what is in it where that is recognised, or the file.
    fn file(&mut self, input: &mut dyn Input, at: u64, len: u64, depth: u8) -> io::Result<()> {
        let worth_it = self.is_worth_it(input, at, len, depth)?;
        let seen_through = worth_it && self.region(input, at, at + len, depth)?;
        if seen_through { Ok(()) } else { self.emit.member(input, at, len) }
    }

    /// Whether a file of that length may have something in it.
    fn is_worth_it(&self, input: &mut dyn Input, at: u64, len: u64, depth: u8) -> io::Result<bool> {
        Ok(depth < self.limits.depth_max && is_promising(&peek(input, at, at + len, PROBE_LEN)?, len))
    }

    fn stream(
        &mut self,
        kind: Kind,
        input: &mut dyn Input,
        at: u64,
        end: u64,
        depth: u8,
    ) -> io::Result<Option<u64>> {
        let mut plain = Plain::new();
        let mut decoding = Decoding { limits: self.limits, budget: &mut self.budget, spools: self.spools };
        let Some(stream) = decoding.stream(kind, input, at, end, &mut plain)? else { return Ok(None) };
        let (first, last) = (stream.spans[0], stream.spans[stream.spans.len() - 1]);
        let found = match &mut self.search {
            Some(search) if self.emit.has_room() => {
                let found = search.find(stream.family, &stream.spans, input, &mut plain, self.limits)?;
                if found.is_none() {
                    return Ok(None);
                }
                found
            }
            Some(_) => return Ok(None),
            None => None,
        };
        self.emit.frames(input, at, first.start - at)?;
        let is_encoded = found.is_some();
        if let Some(found) = found {
            self.emit.begin(found, plain.len());
        }
        let len = plain.len();
        self.file(&mut plain, 0, len, depth + 1)?;
        if is_encoded {
            self.emit.end();
        }
        if depth > 0 {
            self.undecoded(input, first.start, last.end)?;
        }
        self.emit.frames(input, last.end, stream.end - last.end)?;
        Ok(Some(stream.end))
    }

    /// Gives out a stream in an archive also as it is, for whom nothing is rebuilt from what is given out: in the next
    /// version it may be a member as it is.
    fn undecoded(&mut self, input: &mut dyn Input, start: u64, end: u64) -> io::Result<()> {
        if self.search.is_none() && end - start <= UNDECODED_MAX {
            self.emit.member(input, start, end - start)?;
        }
        Ok(())
    }

    /// Gives out the entries of a tar or cpio from `at` on, as far as they are right.
    fn archive(
        &mut self,
        archive: Archive,
        input: &mut dyn Input,
        start: u64,
        end: u64,
        depth: u8,
    ) -> io::Result<Option<u64>> {
        let mut at = start;
        loop {
            let header = peek(input, at, end, archive.header_len())?;
            let Some(layout) = archive.layout(&header) else { break };
            let Some(len) = layout.len().filter(|len| *len <= end - at) else { break };
            if !self.budget.member() {
                break;
            }
            match archive {
                Archive::Tar => {
                    let Ok(header) = header.try_into() else { break };
                    self.tar_entry(input, at, header, layout, depth)?;
                }
                Archive::Cpio | Archive::Zip => self.entry(archive, input, at, layout, depth)?,
            }
            let is_last = archive == Archive::Cpio
                && peek(input, at + cpio::HEADER_LEN as u64, end, cpio::TRAILER.len())? == cpio::TRAILER;
            at += len;
            if is_last {
                break;
            }
        }
        Ok((at > start).then_some(at))
    }

    fn entry(
        &mut self,
        archive: Archive,
        input: &mut dyn Input,
        at: u64,
        layout: Layout,
        depth: u8,
    ) -> io::Result<()> {
        let payload = at + layout.header;
        let after = payload + layout.stored;
        let is_file = layout.payload == Payload::Member;
        if is_file && self.is_worth_it(input, payload, layout.plain, depth + 1)? {
            self.emit.frames(input, at, layout.header)?;
            self.file(input, payload, layout.plain, depth + 1)?;
            return self.emit.frames(input, after, layout.padding);
        }
        self.emit.entry(archive);
        self.emit.copy_frames(input, at, layout.header)?;
        if is_file {
            self.emit.copy_member(input, payload, layout.plain)?;
        } else {
            self.emit.copy_frames(input, payload, layout.plain)?;
        }
        self.emit.copy_frames(input, after, layout.padding)
    }

    /// Gives out an entry of a tar: its sum follows from its header, and its padding from its size.
    fn tar_entry(
        &mut self,
        input: &mut dyn Input,
        at: u64,
        mut header: Header,
        layout: Layout,
        depth: u8,
    ) -> io::Result<()> {
        tar::abridge(&mut header);
        let payload = at + layout.header;
        let after = payload + layout.stored;
        let is_file = layout.payload == Payload::Member;
        let worth_it = is_file && self.is_worth_it(input, payload, layout.plain, depth + 1)?;
        let padding = peek(input, after, after + layout.padding, tar::HEADER_LEN)?;
        let is_padded_with_zeros = padding.iter().all(|byte| *byte == 0);
        if is_padded_with_zeros && !worth_it {
            self.emit.entry(Archive::Tar);
            self.emit.put_header(&header)?;
            return if is_file {
                self.emit.copy_member(input, payload, layout.plain)
            } else {
                self.emit.copy_frames(input, payload, layout.plain)
            };
        }
        self.emit.tar_header(&header)?;
        if is_file {
            self.file(input, payload, layout.plain, depth + 1)?;
        } else {
            self.emit.frames(input, payload, layout.plain)?;
        }
        if is_padded_with_zeros {
            self.emit.zeros(layout.padding);
            return Ok(());
        }
        self.emit.frames(input, after, layout.padding)
    }

    /// Gives out an archive of `ar`, as far as it is right.
    fn ar(&mut self, input: &mut dyn Input, start: u64, end: u64, depth: u8) -> io::Result<Option<u64>> {
        let mut at = start + AR_MAGIC.len() as u64;
        if ar_member_len(&peek(input, at, end, 60)?).is_none() {
            return Ok(None);
        }
        self.emit.frames(input, start, at - start)?;
        while self.budget.member() {
            let header = peek(input, at, end, 60)?;
            let Some(len) = ar_member_len(&header).filter(|len| *len <= end - at - AR_HEADER) else { break };
            self.emit.frames(input, at, AR_HEADER)?;
            at += AR_HEADER;
            self.file(input, at, len, depth + 1)?;
            at += len;
            let padding = (len % 2).min(end - at);
            self.emit.frames(input, at, padding)?;
            at += padding;
        }
        Ok(Some(at))
    }

    /// Gives out an image of a kernel whose payload is recognised.
    fn kernel(
        &mut self,
        head: &[u8],
        input: &mut dyn Input,
        at: u64,
        end: u64,
        depth: u8,
    ) -> io::Result<Option<u64>> {
        let Some(payload) = kernel::payload(head, end - at) else { return Ok(None) };
        let (from, to) = (at + payload.start, at + payload.end);
        if !self.is_worth_it(input, from, to - from, depth + 1)? {
            return Ok(None);
        }
        self.emit.member(input, at, payload.start)?;
        self.file(input, from, to - from, depth + 1)?;
        self.emit.member(input, to, end - to)?;
        Ok(Some(end))
    }
}

/// The length of the member that a header of `ar` tells.
fn ar_member_len(header: &[u8]) -> Option<u64> {
    if header.get(58..60)? != b"`\n" {
        return None;
    }
    let digits = header[48..58].trim_ascii_end();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// The number of zeros from `at` on.
fn zeros(input: &mut dyn Input, at: u64, end: u64) -> io::Result<u64> {
    let mut section = Section::new(input, at, end);
    let mut buffer = [0; 4096];
    let mut count = 0;
    loop {
        let filled = fill(&mut section, &mut buffer)?;
        let zeros = buffer[..filled].iter().take_while(|byte| **byte == 0).count();
        count += zeros as u64;
        if zeros < buffer.len() {
            return Ok(count);
        }
    }
}
