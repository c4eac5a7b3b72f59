//! Compressed contents that are delivered decompressed.
//!
//! A content and its former version are taken apart, and what the new one is rebuilt from is compressed against what
//! the old one divides into. All of it is done before the head is written, and only where it comes to fewer bytes than
//! the content itself does the bundle have it this way. What lies in between waits in one file.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};

use smart_sync_store::chunk::{CHUNK_LEN_MAX, ChunkRef, cut};
use smart_sync_store::id::ObjectId;
use smart_sync_store::manifest::Content;
use smart_sync_store::unpack::{
    Dissected, Dissector, InMemory, PROBE_LEN, Program, Spools, Storage, decode_views, is_promising,
    take_apart,
};

use super::codec::{Effort, Kind, Method, compress};
use super::encode::ContentSource;
use super::head::{BaseRange, Batch, Part};
use super::range_reader::RangeReader;
use super::{parts, plain_max, unpack_limits};

/// A content of fewer bytes gains nothing.
const SIZE_MIN: u64 = 2048;
/// Bytes of contents that are read at once.
const READ_BYTES: u64 = 1 << 20;
/// What a content may decompress to, to be kept in memory meanwhile.
const IN_MEMORY_SIZE_MAX: u64 = 1 << 20;
/// One part in so many has to be saved, or the content is delivered as it is.
const SAVING_DIVISOR: u64 = 20;

/// A content as what it is rebuilt from.
pub(super) struct Apart {
    /// How long a rebuild takes, roughly, in milliseconds.
    pub(super) work: u64,
    pub(super) program: u64,
    pub(super) frames: Vec<Part>,
    pub(super) members: Vec<Part>,
    /// The batches of the three, in order, with the slot told from the first of them.
    pub(super) batches: Vec<(Batch, Ready)>,
}

/// A batch that is compressed already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) method: Method,
    pub(super) region: Region,
}

/// Bytes in a scratch file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    start: u64,
    length: u64,
}

/// A file for what lies between two steps, written from its beginning to its end.
pub(super) struct Scratch {
    file: File,
    end: AtomicU64,
}

impl Scratch {
    pub(super) const fn new(file: File) -> Self {
        Self { file, end: AtomicU64::new(0) }
    }

    fn keep(&self, bytes: &[u8]) -> io::Result<Region> {
        let length = bytes.len() as u64;
        let start = self.end.fetch_add(length, Ordering::Relaxed);
        self.file.write_all_at(bytes, start)?;
        Ok(Region { start, length })
    }

    fn keep_all(&self, source: &mut dyn Read, length: u64) -> io::Result<Region> {
        let start = self.end.fetch_add(length, Ordering::Relaxed);
        let mut buffer = vec![0; usize::try_from(READ_BYTES.min(length)).expect("it is a mebibyte")];
        let mut at = 0;
        while at < length {
            let piece = usize::try_from((length - at).min(READ_BYTES)).expect("it is a mebibyte");
            source.read_exact(&mut buffer[..piece])?;
            self.file.write_all_at(&buffer[..piece], start + at)?;
            at += piece as u64;
        }
        Ok(Region { start, length })
    }

    pub(super) fn read(&self, region: Region) -> io::Result<Vec<u8>> {
        self.read_range(region, 0..region.length)
    }

    fn read_range(&self, region: Region, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, region.start + range.start)?;
        Ok(bytes)
    }
}

/// A stream that is kept, and the chunks that it is cut into.
struct Kept {
    region: Region,
    chunks: Vec<ChunkRef>,
    kind: Kind,
}

/// Takes a content and its former version apart, and compresses the one against the other; nothing where that does not
/// pay.
pub(super) fn apart(
    content: &Content,
    base: &Content,
    source: &dyn ContentSource,
    scratch: &Scratch,
) -> io::Result<Option<Apart>> {
    if content.size < SIZE_MIN || base.size < SIZE_MIN {
        return Ok(None);
    }
    let probe = |content: &Content| {
        let head = source.read(content, 0..content.size.min(PROBE_LEN as u64))?;
        Ok::<_, io::Error>(is_promising(&head, content.size))
    };
    if !probe(content)? || !probe(base)? {
        return Ok(None);
    }
    let mut spools = SomeSpools { source, is_small: content.size.max(base.size) <= IN_MEMORY_SIZE_MAX };
    let limits = unpack_limits();
    let Some(Taken { program, frames, members }) = take(content, source, scratch, &mut spools)? else {
        return Ok(None);
    };
    let (mut old_frames, mut old_members) = (spools.spool()?, spools.spool()?);
    let mut reader = RangeReader::new(base.size, |range| source.read(base, range));
    let views =
        decode_views(&mut reader, base.size, &limits, &mut spools, &mut old_frames, &mut old_members)?;
    old_frames.seek(SeekFrom::Start(0))?;
    old_members.seek(SeekFrom::Start(0))?;
    let old_frames = keep(&mut *old_frames, &[views.frames_len], scratch)?;
    let old_members = keep(&mut *old_members, &views.members, scratch)?;

    let mut batches = Vec::new();
    let (method, packed) = compress(&[], &program, Kind::Other, Effort::Best)?;
    batches.push((Batch::Whole(vec![0]), Ready { method, region: scratch.keep(&packed)? }));
    let frame_parts = compress_stream(1, &old_frames, &frames, scratch, &mut batches)?;
    let member_parts = compress_stream(2, &old_members, &members, scratch, &mut batches)?;
    let total: u64 = batches.iter().map(|(_, ready)| ready.region.length).sum();
    if total > content.size - content.size / SAVING_DIVISOR {
        return Ok(None);
    }
    let work = Program::decode(&program).ok().and_then(|program| program.summary().rebuild_time());
    let work = work.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let program = program.len() as u64;
    Ok(Some(Apart { work, program, frames: frame_parts, members: member_parts, batches }))
}

/// What a content is rebuilt from.
struct Taken {
    program: Vec<u8>,
    frames: Kept,
    members: Kept,
}

/// Takes a content apart: with corrections where there is a process for that, which may fail, and otherwise without.
fn take(
    content: &Content,
    source: &dyn ContentSource,
    scratch: &Scratch,
    spools: &mut SomeSpools<'_>,
) -> io::Result<Option<Taken>> {
    if let Some(dissector) = source.dissector() {
        match dissect(content, source, scratch, dissector) {
            Ok(taken) => return Ok(taken),
            Err(DissectError::Source(error)) => return Err(error),
            Err(DissectError::Process(error)) => {
                tracing::debug!(%error, content = %content.id, "a content is taken apart without corrections");
            }
        }
    }
    let mut reader = RangeReader::new(content.size, |range| source.read(content, range));
    let Some(mut taken) = take_apart(&mut reader, content.size, &unpack_limits(), spools)? else {
        return Ok(None);
    };
    let views = &taken.views;
    if !is_allowed(content, views.frames_len, &views.members) {
        return Ok(None);
    }
    let frames = keep(&mut *taken.frames, &[views.frames_len], scratch)?;
    let members = keep(&mut *taken.members, &views.members, scratch)?;
    Ok(Some(Taken { program: taken.program.encode(), frames, members }))
}

/// Why a content was not taken apart in a process of its own.
enum DissectError {
    /// It could not be read or kept.
    Source(io::Error),
    /// The process has failed.
    Process(io::Error),
}

fn dissect(
    content: &Content,
    source: &dyn ContentSource,
    scratch: &Scratch,
    dissector: &dyn Dissector,
) -> Result<Option<Taken>, DissectError> {
    let artifact = copy_out(content, source).map_err(DissectError::Source)?;
    let dissected = dissector.dissect(artifact, content.size).map_err(DissectError::Process)?;
    let Some(Dissected { program, frames, members, mut streams }) = dissected else { return Ok(None) };
    if !is_allowed(content, frames, &members) {
        return Ok(None);
    }
    let frames = keep(&mut *streams, &[frames], scratch).map_err(DissectError::Process)?;
    let members = keep(&mut *streams, &members, scratch).map_err(DissectError::Process)?;
    Ok(Some(Taken { program, frames, members }))
}

/// A content as a file that is nowhere else, from its beginning.
fn copy_out(content: &Content, source: &dyn ContentSource) -> io::Result<File> {
    let mut file = source.scratch()?;
    let mut at = 0;
    while at < content.size {
        let next = content.size.min(at + READ_BYTES);
        file.write_all(&source.read(content, at..next)?)?;
        at = next;
    }
    file.rewind()?;
    Ok(file)
}

/// Whether a reader takes so much for a content.
fn is_allowed(content: &Content, frames: u64, members: &[u64]) -> bool {
    members.iter().fold(frames, |sum, length| sum.saturating_add(*length)) <= plain_max(content.size)
}

/// Compresses a stream against its former version.
fn compress_stream(
    slot: u64,
    old: &Kept,
    new: &Kept,
    scratch: &Scratch,
    batches: &mut Vec<(Batch, Ready)>,
) -> io::Result<Vec<Part>> {
    let (old_size, size) = (old.region.length, new.region.length);
    if size == 0 {
        return Ok(Vec::new());
    }
    let mut parts = parts::parts(&old.chunks, &new.chunks);
    if parts::copied(&parts) < size / 2 && size <= parts::SECTION_BYTES {
        parts = vec![Part { delivered: size, copied: 0, offset: 0 }];
    }
    let mut start = 0;
    for batch in parts::sections(slot, &parts, size, old_size) {
        let Batch::Section { length, base: BaseRange { offset, length: base_length }, .. } = batch else {
            continue;
        };
        let mut bytes = Vec::new();
        for range in parts::delivered(&parts, start, length) {
            bytes.append(&mut scratch.read_range(new.region, range)?);
        }
        start += length;
        let base = scratch.read_range(old.region, offset..offset + base_length)?;
        let (method, packed) = compress(&base, &bytes, new.kind, Effort::Best)?;
        batches.push((batch, Ready { method, region: scratch.keep(&packed)? }));
    }
    Ok(parts)
}

/// Keeps a stream of contents of these lengths, and cuts each of them.
fn keep(source: &mut dyn Read, lengths: &[u64], scratch: &Scratch) -> io::Result<Kept> {
    let region = scratch.keep_all(source, lengths.iter().sum())?;
    let mut chunks = Vec::new();
    let mut kind = Kind::Other;
    let mut offset = 0;
    for length in lengths {
        let end = offset + length;
        let mut buffer = Vec::new();
        // The place in the stream of the first byte of the buffer, and how much of it is cut.
        let (mut at, mut start) = (offset, 0);
        while at < end {
            if buffer.len() - start < CHUNK_LEN_MAX && at + (buffer.len() as u64) < end {
                buffer.drain(..start);
                at += start as u64;
                start = 0;
                let from = at + buffer.len() as u64;
                buffer.append(&mut scratch.read_range(region, from..end.min(from + READ_BYTES))?);
            }
            if at == offset
                && start == 0
                && super::encode::kind_of(&buffer[..buffer.len().min(4)]) == Kind::Code
            {
                kind = Kind::Code;
            }
            if start == buffer.len() {
                break;
            }
            let length = cut(&buffer[start..]);
            let id = ObjectId::of(&buffer[start..start + length]);
            let len = u32::try_from(length).expect("a chunk has at most 128 KiB");
            chunks.push(ChunkRef { offset: at + start as u64, id, len });
            start += length;
        }
        offset = end;
    }
    Ok(Kept { region, chunks, kind })
}

/// Memory for small artifacts, and files for the others.
struct SomeSpools<'a> {
    source: &'a dyn ContentSource,
    is_small: bool,
}

impl Spools for SomeSpools<'_> {
    fn spool(&mut self) -> io::Result<Box<dyn Storage>> {
        if self.is_small { InMemory.spool() } else { Ok(Box::new(self.source.scratch()?)) }
    }
}
