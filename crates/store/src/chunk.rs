//! Where contents are cut: FastCDC, as a pure function of the bytes ahead.
//!
//! The cut points decide how well versions share chunks, so the parameters are part of the formats: two
//! publishers who cut differently would share nothing. Readers accept any cut.

use fastcdc::v2020::{self, MASKS};

use crate::id::ObjectId;

/// The fewest bytes of a chunk, the last one of a content excepted.
pub const CHUNK_LEN_MIN: usize = 8 << 10;
/// The number of bytes that chunks have on average.
pub const CHUNK_LEN_AVERAGE: usize = 32 << 10;
/// The most bytes that the chunker puts into a chunk.
pub const CHUNK_LEN_MAX: usize = 128 << 10;

/// Normalisation level 1: one bit more than the average asks for below it, one bit less above it.
const MASK_BELOW_AVERAGE: u64 = MASKS[CHUNK_LEN_AVERAGE.ilog2() as usize + 1];
const MASK_ABOVE_AVERAGE: u64 = MASKS[CHUNK_LEN_AVERAGE.ilog2() as usize - 1];

/// A chunk of a content, by name and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// Where in the content it begins.
    pub offset: u64,
    /// Its digest.
    pub id: ObjectId,
    /// Its number of bytes.
    pub len: u32,
}

/// The length of the first chunk of `ahead`.
///
/// `ahead` is the rest of the content, or at least its next [`CHUNK_LEN_MAX`] bytes: with fewer, the cut would
/// depend on how the bytes happened to arrive.
pub fn cut(ahead: &[u8]) -> usize {
    let (_, len) = v2020::cut(
        ahead,
        CHUNK_LEN_MIN,
        CHUNK_LEN_AVERAGE,
        CHUNK_LEN_MAX,
        MASK_BELOW_AVERAGE,
        MASK_ABOVE_AVERAGE,
        MASK_BELOW_AVERAGE << 1,
        MASK_ABOVE_AVERAGE << 1,
    );
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::noise;

    #[test]
    fn cuts_are_those_of_the_crate_with_the_documented_parameters() {
        let bytes = noise(7, 1_000_000);
        let mut rest = &bytes[..];
        let mut ours = Vec::new();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(cut(rest));
            ours.push(chunk.len());
            rest = after;
        }
        let theirs: Vec<usize> = v2020::FastCDC::with_level(
            &bytes,
            CHUNK_LEN_MIN,
            CHUNK_LEN_AVERAGE,
            CHUNK_LEN_MAX,
            v2020::Normalization::Level1,
        )
        .map(|chunk| chunk.length)
        .collect();
        assert_eq!(ours, theirs);
        assert!(ours.len() > 10, "{ours:?}");
    }

    /// A golden list: another version of the chunker must not move the cuts unnoticed.
    #[test]
    fn cuts_do_not_move() {
        let bytes = noise(1, 300_000);
        let mut rest = &bytes[..];
        let mut cuts = Vec::new();
        while !rest.is_empty() {
            let len = cut(rest);
            cuts.push(len);
            rest = &rest[len..];
        }
        assert_eq!(cuts, [34833, 32989, 42302, 45633, 33534, 40780, 67387, 2542]);
    }
}
