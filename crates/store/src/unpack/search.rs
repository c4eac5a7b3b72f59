//! Finding the encoder of a stream: the likely ones in turn, each given up at its first wrong byte.
//!
//! Streams of one artifact mostly come from one encoder, so that what has been right is tried first, and a kind of
//! stream that keeps failing is not searched through again and again.

use std::io::{self, Write};

use super::coding::{Coding, EncodeWriter, corrections, xz, zstd};
use super::limits::Limits;
use super::program::Piece;
use super::spool::{BLOCK, CopyError, Input, Plain, Section, copy, fill, peek};
use super::stream::{Family, Span};

/// How many encoders that were right are remembered.
const REMEMBERED_MAX: usize = 4;
/// How many streams of a kind may fail before only what was right is tried.
const FAILURES_MAX: u32 = 8;
/// The part of the compressed bytes that corrections may come to.
const CORRECTIONS_SHARE: u64 = 16;
/// What corrections may come to in any case.
const CORRECTIONS_FREE: u64 = 64;

/// How much of a stream tells encoders apart where the proof sees to the rest; an encoder of xz holds back 2 MiB.
const PREFIX: u64 = 3 << 20;

/// How far a stream is compared while its encoder is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Its beginning, so that slow encoders run once less: whether the whole is right is left to the proof.
    Beginning,
    /// All of it.
    Whole,
}

/// What has been learnt from the streams of one artifact.
#[derive(Debug)]
pub(super) struct Search {
    extent: Extent,
    /// From the last one that was right to the first.
    right: Vec<Coding>,
    xz_failures: u32,
    zstd_failures: u32,
}

/// An encoder and the pieces that it works on.
pub(super) struct Found {
    pub(super) coding: Coding,
    pub(super) pieces: Vec<Piece>,
}

impl Search {
    pub(super) const fn new(extent: Extent) -> Self {
        Self { extent, right: Vec::new(), xz_failures: 0, zstd_failures: 0 }
    }

    /// Finds what encodes `plain` to the bytes of `spans` and what lies between them.
    pub(super) fn find(
        &mut self,
        family: Family,
        spans: &[Span],
        compressed: &mut dyn Input,
        plain: &mut Plain,
        limits: &Limits,
    ) -> io::Result<Option<Found>> {
        let pieces = pieces(spans, compressed)?;
        for coding in self.candidates(family, limits) {
            if self.is_right(coding, &pieces, spans, compressed, plain)? {
                self.remember(coding);
                return Ok(Some(Found { coding, pieces }));
            }
        }
        match family {
            Family::Deflate if limits.allows_corrections => return self.corrected(spans, compressed, plain),
            Family::Deflate | Family::Bzip2(_) => {}
            Family::Xz(_) => self.xz_failures += 1,
            Family::Zstd(_) => self.zstd_failures += 1,
        }
        Ok(None)
    }

    fn remember(&mut self, coding: Coding) {
        self.right.retain(|known| *known != coding);
        self.right.insert(0, coding);
        self.right.truncate(REMEMBERED_MAX);
        match coding {
            Coding::Xz(_) => self.xz_failures = 0,
            Coding::Zstd(_) => self.zstd_failures = 0,
            _ => {}
        }
    }

    /// What may have encoded a stream of `family`, the likeliest first.
    fn candidates(&self, family: Family, limits: &Limits) -> Vec<Coding> {
        let all = match family {
            Family::Deflate => deflate_candidates(),
            Family::Xz(chain) if chain.dictionary_len() > limits.dictionary_encode_max => Vec::new(),
            Family::Xz(chain) => xz_candidates(chain),
            Family::Bzip2(level) => vec![Coding::Bzip2 { level }],
            Family::Zstd(parameters) => zstd::LEVELS
                .into_iter()
                .filter(|level| *level <= limits.zstd_level_max)
                .map(|level| Coding::Zstd(zstd::Parameters { level, ..parameters }))
                .collect(),
        };
        let failures = match family {
            Family::Xz(_) => self.xz_failures,
            Family::Zstd(_) => self.zstd_failures,
            Family::Deflate | Family::Bzip2(_) => 0,
        };
        let known: Vec<_> = self.right.iter().copied().filter(|coding| all.contains(coding)).collect();
        let rest = all.into_iter().filter(|coding| failures < FAILURES_MAX && !known.contains(coding));
        known.iter().copied().chain(rest).collect()
    }

    /// Predicts a stream of deflate and corrects the prediction.
    fn corrected(
        &self,
        spans: &[Span],
        compressed: &mut dyn Input,
        plain: &mut Plain,
    ) -> io::Result<Option<Found>> {
        let [span] = spans else { return Ok(None) };
        let corrections_max = (span.end - span.start) / CORRECTIONS_SHARE + CORRECTIONS_FREE;
        let coding = Coding::Corrected;
        for window in corrections::WINDOWS {
            let mut section = Section::new(compressed, span.start, span.end);
            let Some(pieces) = corrections::predict(&mut section, window, corrections_max)? else { continue };
            // The library reports what it cannot predict, so that the proof nearly always agrees.
            if self.extent == Extent::Beginning || self.is_right(coding, &pieces, spans, compressed, plain)? {
                return Ok(Some(Found { coding, pieces }));
            }
        }
        Ok(None)
    }

    /// Whether an encoder gives the bytes of `spans`; an error is one of the inputs alone.
    fn is_right(
        &self,
        coding: Coding,
        pieces: &[Piece],
        spans: &[Span],
        compressed: &mut dyn Input,
        plain: &mut Plain,
    ) -> io::Result<bool> {
        let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return Ok(false) };
        let mut compare = Compare { section: Section::new(compressed, first.start, last.end), error: None };
        let len = plain.len();
        let compared = if self.extent == Extent::Beginning { len.min(PREFIX) } else { len };
        let encoded = EncodeWriter::new(coding, len, pieces, &mut compare).map(|mut writer| {
            copy(&mut Section::new(plain, 0, compared), compared, &mut writer)?;
            if compared == len { writer.finish().map_err(CopyError::Write) } else { Ok(()) }
        });
        if let Some(error) = compare.error {
            return Err(error);
        }
        match encoded {
            Ok(Ok(())) => Ok(compared < len || compare.section.rest() == 0),
            Ok(Err(CopyError::Read(error))) => Err(error),
            Ok(Err(CopyError::Write(_))) | Err(_) => Ok(false),
        }
    }
}

fn deflate_candidates() -> Vec<Coding> {
    let zlib = [6, 9, 8, 7, 5, 4, 3, 2, 1].map(|level| Coding::Zlib { level });
    let miniz = [6, 9, 1, 2, 3, 4, 5, 7, 8].map(|level| Coding::Miniz { level });
    let zlib_rs = [9, 6, 1, 2, 3, 4, 5, 7, 8].map(|level| Coding::ZlibRs { level });
    zlib.into_iter().chain(miniz).chain(zlib_rs).collect()
}

/// The presets that differ once the dictionary is given.
fn xz_candidates(chain: xz::Chain) -> Vec<Coding> {
    let presets = [
        (6, false),
        (6, true),
        (5, false),
        (4, false),
        (3, false),
        (2, false),
        (1, false),
        (0, false),
        (5, true),
    ];
    presets.into_iter().map(|(level, extreme)| Coding::Xz(xz::Parameters { chain, level, extreme })).collect()
}

/// The pieces of a stream, each but the last with what follows it.
fn pieces(spans: &[Span], compressed: &mut dyn Input) -> io::Result<Vec<Piece>> {
    spans
        .windows(2)
        .map(|pair| {
            let len = usize::try_from(pair[1].start - pair[0].end).unwrap_or(usize::MAX);
            let extra = peek(compressed, pair[0].end, pair[1].start, len)?;
            Ok(Piece { plain: pair[0].plain, extra })
        })
        .collect()
}

/// Fails at the first byte that differs from the section.
struct Compare<'a> {
    section: Section<'a>,
    /// Why the section could not be read.
    error: Option<io::Error>,
}

impl Write for Compare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut expected = vec![0; bytes.len().min(BLOCK)];
        let len = match fill(&mut self.section, &mut expected) {
            Ok(len) => len,
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                return Err(kind.into());
            }
        };
        if len < expected.len() || expected != bytes[..len] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
