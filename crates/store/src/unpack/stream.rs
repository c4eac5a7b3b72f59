//! Compressed streams: where their pieces lie, and what they decompress to.
//!
//! What follows directly on a stream and is of the same kind belongs to it, as the tools of each format have it. A
//! stream that cannot be decoded to its end is none.

use std::io::{self, Read as _};

use super::coding::{Codec, bzip2, deflate, xz, zstd};
use super::limits::{Budget, Limits};
use super::spool::{BLOCK, Input, Plain, Section, Spools, fill, peek};

/// The kinds of compressed streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gzip,
    Xz,
    Bzip2,
    Zstd,
}

/// What a stream tells of its encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Deflate,
    Xz(xz::Chain),
    Bzip2(u8),
    Zstd(zstd::Parameters),
}

/// A piece that was encoded on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) plain: u64,
}

/// A stream that was decoded.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) family: Family,
    /// Its pieces, at least one.
    pub(super) spans: Vec<Span>,
    /// Where it ends, with what follows the last piece.
    pub(super) end: u64,
}

/// The most pieces of a stream, and the longest bytes between two of them.
const SPANS_MAX: usize = 1 << 16;
const BETWEEN_MAX: u64 = 1 << 16;
/// The longest header of gzip.
const GZIP_HEADER_MAX: usize = 4096;
const GZIP_TRAILER: u64 = 8;
pub(super) const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";

impl Kind {
    /// The kind of stream that a file begins with.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(&[0x1f, 0x8b, 8]) {
            Some(Self::Gzip)
        } else if head.starts_with(XZ_MAGIC) {
            Some(Self::Xz)
        } else if bzip2::level(head).is_some() {
            Some(Self::Bzip2)
        } else if head.starts_with(&zstd::MAGIC) {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

/// What decoding needs besides its input.
pub(super) struct Decoding<'a> {
    pub(super) limits: &'a Limits,
    pub(super) budget: &'a mut Budget,
    pub(super) spools: &'a mut dyn Spools,
}

impl Decoding<'_> {
    /// Decodes the stream that begins at `at`, as far as it is right.
    pub(super) fn stream(
        &mut self,
        kind: Kind,
        input: &mut dyn Input,
        at: u64,
        end: u64,
        plain: &mut Plain,
    ) -> io::Result<Option<Stream>> {
        let mut stream: Option<Stream> = None;
        let mut next = at;
        loop {
            let before = stream.as_ref().map_or(0, |stream| stream.spans.len());
            let one = match kind {
                Kind::Gzip => self.gzip(input, next, end, plain)?,
                Kind::Xz => self.xz(input, next, end, plain)?,
                Kind::Bzip2 => self.bzip2(input, next, end, plain)?,
                Kind::Zstd => self.zstd(input, next, end, plain)?,
            };
            let fits = one.as_ref().is_some_and(|one| match &stream {
                Some(all) => {
                    let between = one.spans[0].start - all.spans[before - 1].end;
                    one.family == all.family
                        && before + one.spans.len() <= SPANS_MAX
                        && between <= BETWEEN_MAX
                }
                None => true,
            });
            let Some(one) = one.filter(|_| fits) else {
                let whole = stream.iter().flat_map(|stream| &stream.spans).map(|span| span.plain).sum();
                plain.truncate(whole);
                return Ok(stream);
            };
            next = one.end;
            match &mut stream {
                Some(all) => {
                    all.spans.extend(one.spans);
                    all.end = one.end;
                }
                None => stream = Some(one),
            }
        }
    }

    /// Decodes one piece, and says where it ended.
    pub(super) fn span(
        &mut self,
        codec: &mut dyn Codec,
        input: &mut dyn Input,
        start: u64,
        end: u64,
        plain: &mut Plain,
    ) -> io::Result<Option<Span>> {
        if !self.budget.stream() {
            return Ok(None);
        }
        let mut section = Section::new(input, start, end);
        let block = usize::try_from(section.rest()).unwrap_or(BLOCK).clamp(1, BLOCK);
        let (mut buffer, mut output) = (vec![0; block], vec![0; BLOCK]);
        let (mut from, mut to) = (0, 0);
        let mut span = Span { start, end: start, plain: 0 };
        loop {
            if from == to {
                (from, to) = (0, fill(&mut section, &mut buffer)?);
            }
            let Ok(step) = codec.step(&buffer[from..to], &mut output, false) else { return Ok(None) };
            from += step.consumed;
            span.end += step.consumed as u64;
            span.plain += step.produced as u64;
            // A stream may begin with much of nothing: until it has ended, all that is there may belong to it.
            let compressed = if step.ended { span.end } else { end } - start;
            if !self.budget.plain(step.produced as u64) || !self.budget.allows_ratio(span.plain, compressed) {
                return Ok(None);
            }
            plain.append(&output[..step.produced], self.spools)?;
            if step.ended {
                return Ok(Some(span));
            }
            let starved = from == to && section.rest() == 0;
            if step.produced == 0 && (starved || step.consumed == 0) {
                return Ok(None);
            }
        }
    }

    fn gzip(
        &mut self,
        input: &mut dyn Input,
        at: u64,
        end: u64,
        plain: &mut Plain,
    ) -> io::Result<Option<Stream>> {
        let head = peek(input, at, end, GZIP_HEADER_MAX)?;
        let Some(header) = gzip_header(&head) else { return Ok(None) };
        let span = self.span(&mut deflate::Inflater::new(), input, at + header, end, plain)?;
        Ok(span.filter(|span| end - span.end >= GZIP_TRAILER).map(|span| Stream {
            family: Family::Deflate,
            spans: vec![span],
            end: span.end + GZIP_TRAILER,
        }))
    }

    fn bzip2(
        &mut self,
        input: &mut dyn Input,
        at: u64,
        end: u64,
        plain: &mut Plain,
    ) -> io::Result<Option<Stream>> {
        let head = peek(input, at, end, bzip2::HEADER_LEN)?;
        let Some(level) = bzip2::level(&head) else { return Ok(None) };
        let span = self.span(&mut bzip2::Decompressor::new(), input, at, end, plain)?;
        Ok(span.map(|span| Stream { family: Family::Bzip2(level), spans: vec![span], end: span.end }))
    }

    fn zstd(
        &mut self,
        input: &mut dyn Input,
        at: u64,
        end: u64,
        plain: &mut Plain,
    ) -> io::Result<Option<Stream>> {
        let head = peek(input, at, end, 18)?;
        let Some(parameters) = zstd::Parameters::of(&head) else { return Ok(None) };
        let Ok(mut decoder) = zstd::Decompressor::new(self.limits.window_log_max) else { return Ok(None) };
        let span = self.span(&mut decoder, input, at, end, plain)?;
        Ok(span.map(|span| Stream { family: Family::Zstd(parameters), spans: vec![span], end: span.end }))
    }

    fn xz(
        &mut self,
        input: &mut dyn Input,
        at: u64,
        end: u64,
        plain: &mut Plain,
    ) -> io::Result<Option<Stream>> {
        let Some((check, mut at)) = xz_header(input, at, end)? else { return Ok(None) };
        let (mut spans, mut found) = (Vec::new(), None);
        loop {
            let head = peek(input, at, end, 1024)?;
            let Some(size) = head.first().copied() else { return Ok(None) };
            if size == 0 {
                break;
            }
            let header = (usize::from(size) + 1) * 4;
            let Some(chain) = head.get(1..header).and_then(block_chain) else { return Ok(None) };
            if *found.get_or_insert(chain) != chain
                || chain.dictionary_len() > self.limits.dictionary_decode_max
            {
                return Ok(None);
            }
            let Ok(mut decoder) = chain.decoder() else { return Ok(None) };
            let Some(span) = self.span(&mut decoder, input, at + header as u64, end, plain)? else {
                return Ok(None);
            };
            spans.push(span);
            at = span.end + (span.end - span.start).wrapping_neg() % 4 + check;
            if at > end || spans.len() > SPANS_MAX {
                return Ok(None);
            }
        }
        let Some(index) = xz_index_len(input, at, end, spans.len())? else { return Ok(None) };
        let stream_end = at + index + 12;
        let Some(chain) = found.filter(|_| stream_end <= end) else { return Ok(None) };
        Ok(Some(Stream { family: Family::Xz(chain), spans, end: stream_end }))
    }
}

/// The length of a header of gzip.
fn gzip_header(head: &[u8]) -> Option<u64> {
    let fixed: &[u8; 10] = head.first_chunk()?;
    let flags = fixed[3];
    if !fixed.starts_with(&[0x1f, 0x8b, 8]) || flags & 0xe0 != 0 {
        return None;
    }
    let mut len = fixed.len();
    if flags & 4 != 0 {
        let extra = head.get(len..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))?;
        len += 2 + usize::from(extra);
    }
    // The name and the comment each end with a NUL byte.
    for flag in [8, 16] {
        if flags & flag != 0 {
            len += head.get(len..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        len += 2;
    }
    (len <= head.len()).then_some(len as u64)
}

/// The length of the checks of a stream of xz, and where its first block begins; zeros before a stream are skipped.
fn xz_header(input: &mut dyn Input, mut at: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
    const CHECKS: [u64; 16] = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
    let mut head = peek(input, at, end, 12)?;
    let limit = at.saturating_add(BETWEEN_MAX / 2);
    while head.starts_with(&[0; 4]) && at < limit {
        at += 4;
        head = peek(input, at, end, 12)?;
    }
    let valid = head.len() == 12 && head.starts_with(XZ_MAGIC) && head[6] == 0 && head[7] < 16;
    Ok(valid.then(|| (CHECKS[usize::from(head[7])], at + 12)))
}

/// The filters that the header of a block tells, without its first byte.
fn block_chain(header: &[u8]) -> Option<xz::Chain> {
    let (flags, mut rest) = header.split_first()?;
    for present in [0x40, 0x80] {
        if flags & present != 0 {
            rest = multibyte(rest)?.1;
        }
    }
    let mut machine = 0;
    let filters = (flags & 3) + 1;
    for last in (0..filters).map(|index| index + 1 == filters) {
        let (id, after) = multibyte(rest)?;
        let (len, after) = multibyte(after)?;
        let (properties, after) = after.split_at_checked(usize::try_from(len).ok()?)?;
        rest = after;
        match (id, properties) {
            (xz::LZMA2, [dictionary]) if last => return xz::Chain::new(machine, *dictionary),
            (id, []) if machine == 0 && !last && id != 0 => machine = u8::try_from(id).ok()?,
            _ => return None,
        }
    }
    None
}

/// A number as xz writes it, and what follows it.
fn multibyte(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = bytes.iter().take(9).position(|byte| byte & 0x80 == 0)? + 1;
    let value = bytes[..len].iter().rev().fold(0, |value, byte| (value << 7) | u64::from(byte & 0x7f));
    Some((value, &bytes[len..]))
}

/// The length of the index of a stream of that many blocks.
fn xz_index_len(input: &mut dyn Input, at: u64, end: u64, blocks: usize) -> io::Result<Option<u64>> {
    let mut bytes = io::BufReader::new(Section::new(input, at, end)).bytes();
    let mut len = 0;
    let mut number = || -> io::Result<Option<u64>> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let Some(byte) = bytes.next().transpose()? else { return Ok(None) };
            len += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(Some(value));
            }
        }
        Ok(None)
    };
    // The indicator of the index is a number as well: 0.
    if number()? != Some(0) || number()? != Some(blocks as u64) {
        return Ok(None);
    }
    for _ in 0..2 * blocks {
        if number()?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(u64::next_multiple_of(len, 4) + 4))
}
