//! How the bytes of a batch are written, given what they are compressed against.
//!
//! Two ways besides storing them: zstd with the base as a prefix, which is quick and good for everything, and a binary
//! difference, which is better where code moved and its addresses with it. A difference is three streams, as bsdiff
//! has them: what is added to which bytes of the base, what follows that is in no base, and where to go on.

use std::convert::Infallible;
use std::io::{self, Read};

use bidiff::{DiffParams, Match};
use smart_sync_store::codec::{DecodeError, Reader, put_number, unzigzag, zigzag};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, compress_bound, get_error_name};

use super::{BATCH_BYTES_MAX, WINDOW_LOG_MAX};

/// How much work is put into making bytes few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// Somebody waits.
    Quick,
    /// Nobody does.
    Best,
}

/// How the bytes of a batch are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Method {
    /// As they are.
    Raw,
    /// As one zstd frame, with the base in front of its window.
    Zstd,
    /// As a difference from the base.
    Difference,
}

impl Method {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::Difference => 2,
        }
    }

    pub(super) fn from_code(code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            2 => Ok(Self::Difference),
            other => Err(DecodeError::invalid(format!("{other} is not the method of a batch"))),
        }
    }
}

/// What kind of bytes a batch has, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Programs and libraries, whose addresses all change when something is inserted.
    Code,
    /// Anything else.
    Other,
}

/// The window of the streams of a difference: three of them are decoded side by side.
const STREAM_WINDOW_LOG: u32 = 23;
/// The length from which on the first match in a stream of a difference is taken.
const STREAM_TARGET_LENGTH: u32 = 256;
/// The largest tables that a compressor searches in, as base-2 logarithms of their numbers of entries.
struct Tables {
    chain_log: u32,
    hash_log: u32,
}

impl Tables {
    const QUICK: Self = Self { chain_log: 22, hash_log: 22 };
    const BEST: Self = Self { chain_log: 26, hash_log: 24 };
    /// Those of the best way for what is compressed against nothing. Larger ones would make a first install 2 % smaller,
    /// in twice the time and with four times the memory.
    const FIRST: Self = Self { chain_log: 23, hash_log: 21 };

    /// Those for a window. A tree of matches has two entries for each position.
    fn of(effort: Effort, is_first: bool, window: u32) -> Self {
        let (max, chain_log) = match (effort, is_first) {
            (Effort::Quick, _) => (Self::QUICK, window),
            (Effort::Best, true) => (Self::FIRST, window + 1),
            (Effort::Best, false) => (Self::BEST, window + 1),
        };
        Self { chain_log: chain_log.min(max.chain_log), hash_log: window.min(max.hash_log) }
    }

    const fn bytes(&self) -> u64 {
        (4 << self.chain_log) + (4 << self.hash_log)
    }
}

/// What compressing one batch takes at most: its bytes, what they are compressed against, what comes out, and tables to
/// search in.
pub(super) fn memory(new: u64, base: u64, effort: Effort) -> u64 {
    /// For long matches.
    const LONG: u64 = 16 << 20;
    let (new, base) = (new.min(BATCH_BYTES_MAX), base.min(BATCH_BYTES_MAX));
    let window = u64::max(new + base, 1).next_power_of_two().trailing_zeros();
    let tables = Tables::of(effort, base == 0, window).bytes() + LONG;
    // A difference sorts all suffixes of what it is made against.
    let difference = if effort == Effort::Best && base > 0 { 5 * base + 2 * new } else { 0 };
    2 * new + base + tables.max(difference)
}

/// The window from which on long matches are looked for in a table of their own.
const LONG_WINDOW_LOG: u32 = 24;
/// The level at which nobody waits, and that at which somebody does.
const BEST_LEVEL: i32 = 19;
const QUICK_LEVEL: i32 = 3;

/// The bytes from which on a difference is not compared with the other way where nearly everything was found in the base.
const BOTH_WAYS_MAX: usize = 4 << 20;
/// The share of a difference up to which what is in no base is little of it.
const LITERAL_SHARE: usize = 3;

/// Compresses bytes against a base by the way that makes them fewest.
pub(super) fn compress(base: &[u8], new: &[u8], kind: Kind, effort: Effort) -> io::Result<(Method, Vec<u8>)> {
    let mut best = (Method::Raw, None);
    let mut least = new.len();
    let mut offer = |method, bytes: Vec<u8>| {
        if bytes.len() < least {
            least = bytes.len();
            best = (method, Some(bytes));
        }
    };
    let mut is_clear = false;
    if effort == Effort::Best && kind == Kind::Code && !base.is_empty() {
        let difference = difference(base, new)?;
        is_clear = new.len() >= BOTH_WAYS_MAX && difference.literal <= difference.bytes.len() / LITERAL_SHARE;
        offer(Method::Difference, difference.bytes);
    }
    if !is_clear {
        offer(Method::Zstd, zstd(base, new, effort, WINDOW_LOG_MAX)?);
    }
    let (method, bytes) = best;
    Ok((method, bytes.unwrap_or_else(|| new.to_vec())))
}

/// The base-2 logarithm of a window that reaches from the last byte to the first.
fn window_log(length: usize) -> u32 {
    length.next_power_of_two().trailing_zeros().max(10)
}

/// Compresses bytes with a prefix in front of them.
pub(super) fn zstd(prefix: &[u8], new: &[u8], effort: Effort, window_log_max: u32) -> io::Result<Vec<u8>> {
    // A match of thousands of bytes is taken without looking for what else could be there.
    zstd_up_to(prefix, new, effort, window_log_max, 4096)
}

/// Compresses bytes; of matches of so many bytes the first is taken.
fn zstd_up_to(
    prefix: &[u8],
    new: &[u8],
    effort: Effort,
    window_log_max: u32,
    target_length: u32,
) -> io::Result<Vec<u8>> {
    let mut ctx = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    let window = window_log(prefix.len() + new.len()).min(window_log_max);
    let tables = Tables::of(effort, prefix.is_empty(), window);
    let level = match effort {
        Effort::Quick => QUICK_LEVEL,
        Effort::Best => BEST_LEVEL,
    };
    let mut set = |parameter| ctx.set_parameter(parameter).map_err(zstd_error);
    set(CParameter::CompressionLevel(level))?;
    set(CParameter::WindowLog(window))?;
    set(CParameter::HashLog(tables.hash_log))?;
    set(CParameter::ChainLog(tables.chain_log))?;
    set(CParameter::EnableLongDistanceMatching(
        window >= LONG_WINDOW_LOG || effort == Effort::Quick && window >= 20,
    ))?;
    set(CParameter::ChecksumFlag(false))?;
    set(CParameter::DictIdFlag(false))?;
    if effort == Effort::Best {
        set(CParameter::TargetLength(target_length))?;
    }
    ctx.ref_prefix(prefix).map_err(zstd_error)?;
    let mut out = Vec::with_capacity(compress_bound(new.len()));
    ctx.compress2(&mut out, new).map_err(zstd_error)?;
    out.shrink_to_fit();
    Ok(out)
}

/// Decodes what [`zstd`] wrote: exactly so many bytes.
pub(super) fn unzstd(prefix: &[u8], stored: &[u8], length: usize) -> io::Result<Vec<u8>> {
    unzstd_into(Vec::new(), prefix, stored, length)
}

fn unzstd_into(mut out: Vec<u8>, prefix: &[u8], stored: &[u8], length: usize) -> io::Result<Vec<u8>> {
    let mut ctx = DCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    ctx.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(zstd_error)?;
    ctx.ref_prefix(prefix).map_err(zstd_error)?;
    out.clear();
    out.reserve_exact(length);
    // More bytes than there is room for are an error, and so is a second frame.
    let decoded = ctx.decompress(&mut out, stored).map_err(zstd_error)?;
    if decoded == length { Ok(out) } else { Err(wrong("a batch has another length than was announced")) }
}

/// Decodes a batch: exactly so many bytes.
pub(super) fn decompress(method: Method, base: &[u8], stored: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    decompress_into(Vec::new(), method, base, stored, length)
}

/// The same, in memory that was used before where that helps.
pub(super) fn decompress_into(
    spare: Vec<u8>,
    method: Method,
    base: &[u8],
    stored: Vec<u8>,
    length: usize,
) -> io::Result<Vec<u8>> {
    match method {
        Method::Raw if stored.len() == length => Ok(stored),
        Method::Raw => Err(wrong("a batch has another length than was announced")),
        Method::Zstd => unzstd_into(spare, base, &stored, length),
        Method::Difference => apply_difference(base, &stored, length),
    }
}

/// A difference that is written.
struct Difference {
    bytes: Vec<u8>,
    /// How many of them are for what is in no base.
    literal: usize,
}

/// Finds what of the new bytes lies where in the base, nearly.
fn difference(base: &[u8], new: &[u8]) -> io::Result<Difference> {
    let (mut controls, mut added, mut literal) = (Vec::new(), Vec::with_capacity(new.len()), Vec::new());
    let mut position = 0;
    let mut take = |found: Match| {
        let is_nothing = found.add_length == 0 && found.copy_end == found.add_new_start;
        if is_nothing {
            return Ok::<_, Infallible>(());
        }
        let old = &base[found.add_old_start..found.add_old_start + found.add_length];
        let at = found.add_new_start + found.add_length;
        added.extend(new[found.add_new_start..at].iter().zip(old).map(|(new, old)| new.wrapping_sub(*old)));
        literal.extend_from_slice(&new[at..found.copy_end]);
        put_number(&mut controls, zigzag(found.add_old_start.cast_signed() as i64 - position));
        put_number(&mut controls, found.add_length as u64);
        put_number(&mut controls, (found.copy_end - at) as u64);
        position = (found.add_old_start + found.add_length).cast_signed() as i64;
        Ok(())
    };
    let parameters = DiffParams::new(1, None).map_err(|error| io::Error::other(error.to_string()))?;
    let Ok(()) = bidiff::diff(base, new, &parameters, &mut take);
    let (mut bytes, mut last) = (Vec::new(), 0);
    for stream in [controls, added, literal] {
        put_number(&mut bytes, stream.len() as u64);
        // Nearly all of what is added is zeros, and every length of a long run of them would be weighed.
        let packed = zstd_up_to(&[], &stream, Effort::Best, STREAM_WINDOW_LOG, STREAM_TARGET_LENGTH)?;
        put_number(&mut bytes, packed.len() as u64);
        last = packed.len();
        bytes.extend_from_slice(&packed);
    }
    Ok(Difference { bytes, literal: last })
}

/// A stream of a difference: its length when decoded, and its bytes.
fn stream<'a>(reader: &mut Reader<'a>) -> Result<(u64, impl Read + use<'a>), io::Error> {
    let length = reader.number("the length of a stream", BATCH_BYTES_MAX).map_err(invalid)?;
    let rest = reader.rest().len();
    let packed = reader.prefixed("a stream", rest).map_err(invalid)?;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?.single_frame();
    decoder.window_log_max(STREAM_WINDOW_LOG)?;
    Ok((length, decoder))
}

fn apply_difference(base: &[u8], stored: &[u8], length: usize) -> io::Result<Vec<u8>> {
    let mut reader = Reader::new(stored);
    let (controls_length, mut controls_source) = stream(&mut reader)?;
    let (_, mut added) = stream(&mut reader)?;
    let (_, mut literal) = stream(&mut reader)?;
    reader.finish().map_err(invalid)?;
    let mut controls = Vec::new();
    controls_source.by_ref().take(controls_length).read_to_end(&mut controls)?;
    drop(controls_source);
    let mut controls = Reader::new(&controls);
    let mut out = vec![0; length];
    let (mut filled, mut position) = (0, 0usize);
    while filled < length {
        let seek = unzigzag(controls.number("a step in the base", u64::MAX).map_err(invalid)?);
        let count = controls.count("added bytes", length - filled).map_err(invalid)?;
        let literals = controls.count("literal bytes", length - filled - count).map_err(invalid)?;
        let start = isize::try_from(seek).ok().and_then(|seek| position.checked_add_signed(seek));
        let old = start.and_then(|start| base.get(start..start.checked_add(count)?));
        let (Some(start), Some(old)) = (start, old) else {
            return Err(wrong("a difference reaches beyond its base"));
        };
        if count + literals == 0 {
            return Err(wrong("a step of a difference makes nothing"));
        }
        added.read_exact(&mut out[filled..filled + count])?;
        for (byte, old) in out[filled..filled + count].iter_mut().zip(old) {
            *byte = byte.wrapping_add(*old);
        }
        filled += count;
        literal.read_exact(&mut out[filled..filled + literals])?;
        filled += literals;
        position = start + count;
    }
    controls.finish().map_err(invalid)?;
    Ok(out)
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, get_error_name(code))
}

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn wrong(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::OnceLock;

    fn round_trip(base: &[u8], new: &[u8], kind: Kind, effort: Effort) -> (Method, usize) {
        let (method, stored) = compress(base, new, kind, effort).unwrap();
        let len = stored.len();
        assert_eq!(decompress(method, base, stored.clone(), new.len()).unwrap(), new, "{method:?}");
        for other in [new.len() + 1, new.len().saturating_sub(1)] {
            if other != new.len() {
                assert!(decompress(method, base, stored.clone(), other).is_err(), "{method:?} {other}");
            }
        }
        (method, len)
    }

    /// Bytes like those of a program: words, many of which are addresses.
    fn program(moved: u32) -> Vec<u8> {
        let mut state = 1u32;
        let word = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 30 == 0 { (state >> 12).wrapping_add(moved) } else { state }
        };
        (0..20_000).map(word).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn code_that_moved_is_written_as_a_difference() {
        let (old, new) = (program(0), program(4096));
        let (method, len) = round_trip(&old, &new, Kind::Code, Effort::Best);
        let (zstd, zstd_len) = round_trip(&old, &new, Kind::Other, Effort::Best);
        assert_eq!((method, zstd), (Method::Difference, Method::Zstd));
        assert!(len * 2 < zstd_len, "{len} of {zstd_len}");
    }

    #[test]
    fn a_difference_that_leaves_its_bounds_is_refused() {
        let (old, new) = (program(0), program(4096));
        let stored = difference(&old, &new).unwrap().bytes;
        assert!(apply_difference(&old[..old.len() / 2], &stored, new.len()).is_err());
        assert!(apply_difference(&old, &stored[..stored.len() - 1], new.len()).is_err());
        assert!(apply_difference(&old, &[&stored[..], &[0]].concat(), new.len()).is_err());
    }

    #[test]
    fn memory_grows_with_a_batch_and_not_without_end() {
        for effort in [Effort::Quick, Effort::Best] {
            assert!(memory(1000, 1000, effort) < 18 << 20);
            assert_eq!(memory(u64::MAX, u64::MAX, effort), memory(BATCH_BYTES_MAX, BATCH_BYTES_MAX, effort));
            assert!(memory(50 << 20, 0, effort) < 170 << 20);
        }
        assert!(memory(u64::MAX, u64::MAX, Effort::Quick) <= 256 << 20);
        assert!(memory(u64::MAX, u64::MAX, Effort::Best) <= 656 << 20);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn bytes_come_back(
            base in proptest::collection::vec(any::<u8>(), 0..5000),
            middle in proptest::collection::vec(any::<u8>(), 0..500),
            cut: prop::sample::Index,
        ) {
            let cut = if base.is_empty() { 0 } else { cut.index(base.len()) };
            let new = [&base[cut..], &middle[..], &base[..cut]].concat();
            for kind in [Kind::Code, Kind::Other] {
                for effort in [Effort::Quick, Effort::Best] {
                    round_trip(&base, &new, kind, effort);
                }
            }
        }

        #[test]
        fn damage_makes_other_bytes_or_an_error_and_no_more(
            at: prop::sample::Index,
            byte: u8,
        ) {
            static SCENE: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
            let [old, new, stored] = SCENE.get_or_init(|| {
                let (old, new) = (program(0), program(4096));
                let stored = difference(&old, &new).unwrap().bytes;
                [old, new, stored]
            });
            let mut stored = stored.clone();
            let at = at.index(stored.len());
            stored[at] = byte;
            if let Ok(bytes) = apply_difference(old, &stored, new.len()) {
                prop_assert_eq!(bytes.len(), new.len());
            }
        }
    }
}
