//! What a large content has in common with its former version, as ranges.
//!
//! Both were cut into chunks when they were published, and chunks with the same id have the same bytes. Ranges that
//! lie on a chunk boundary are enough: what differs between them is compressed against what stood there before.

use std::collections::HashMap;
use std::ops::Range;

use smart_sync_store::chunk::ChunkRef;
use smart_sync_store::id::ObjectId;

use super::head::{BaseRange, Batch, Part};

/// The bytes of a section that is compressed against a range of the base.
pub(super) const SECTION_BYTES: u64 = 32 << 20;
/// The most bytes of the base on either side of where a section is expected that it is compared with.
const SLACK_BYTES: u64 = 8 << 20;
/// The most bytes of the base that a section is compressed against.
const BASE_BYTES: u64 = 48 << 20;

/// The parts of a new content: what is delivered, and what is copied from the old one.
pub(super) fn parts(old: &[ChunkRef], new: &[ChunkRef]) -> Vec<Part> {
    let mut places: HashMap<ObjectId, Vec<usize>> = HashMap::new();
    for (index, chunk) in old.iter().enumerate() {
        places.entry(chunk.id).or_default().push(index);
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut delivered = 0;
    // The old chunk that follows the one which was copied last.
    let mut next: Option<usize> = None;
    for chunk in new {
        let found = match next {
            Some(index) if old.get(index).is_some_and(|old| old.id == chunk.id) => Some(index),
            // Of several places the one that follows most closely is most likely right.
            _ => places.get(&chunk.id).map(|indices| {
                let after = indices.partition_point(|index| next.is_some_and(|next| *index < next));
                indices[after.min(indices.len() - 1)]
            }),
        };
        let length = u64::from(chunk.len);
        let Some(index) = found else {
            delivered += length;
            continue;
        };
        let goes_on = delivered == 0 && next == Some(index);
        match parts.last_mut() {
            Some(part) if goes_on => part.copied += length,
            _ => parts.push(Part {
                delivered: std::mem::take(&mut delivered),
                copied: length,
                offset: old[index].offset,
            }),
        }
        next = Some(index + 1);
    }
    if delivered > 0 {
        parts.push(Part { delivered, copied: 0, offset: 0 });
    }
    parts
}

/// How many bytes are copied.
pub(super) fn copied(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.copied).sum()
}

/// Where in the content those of its delivered bytes lie that a section brings, given where it begins among them.
pub(super) fn delivered(parts: &[Part], start: u64, length: u64) -> Vec<Range<u64>> {
    let (mut at, mut before) = (0, 0);
    let mut ranges = Vec::new();
    for part in parts {
        let from = start.max(before);
        let to = (start + length).min(before + part.delivered);
        if from < to {
            ranges.push(at + (from - before)..at + (to - before));
        }
        before += part.delivered;
        at += part.delivered + part.copied;
    }
    ranges
}

/// The sections in which what is delivered of a content is compressed, each against the bytes of the base that stood
/// where it stands.
pub(super) fn sections(slot: u64, parts: &[Part], size: u64, base_size: u64) -> Vec<Batch> {
    let mut sections = Vec::new();
    let mut open = Section::default();
    // Where bytes would come from if they had been copied: after those that were.
    let mut expected = 0;
    for (index, part) in parts.iter().enumerate() {
        let following = parts[index..].iter().find(|part| part.copied > 0).map(|part| part.offset);
        let mut left = part.delivered;
        while left > 0 {
            let taken = left.min(SECTION_BYTES - open.length);
            let end = match following {
                Some(end) if end >= expected && end - expected <= BASE_BYTES => end,
                _ => scaled(expected, taken, size, base_size),
            };
            if !open.reaches(expected, end) {
                sections.extend(open.finish(slot, base_size));
                open = Section::default();
            }
            open.take(expected, end, taken);
            left -= taken;
            if left > 0 {
                expected = expected.saturating_add(taken).min(base_size);
            }
            if open.length == SECTION_BYTES {
                sections.extend(open.finish(slot, base_size));
                open = Section::default();
            }
        }
        if part.copied > 0 {
            expected = part.offset + part.copied;
        }
    }
    sections.extend(open.finish(slot, base_size));
    sections
}

/// The end of the bytes of the base that as many bytes of the content would come from.
fn scaled(start: u64, length: u64, size: u64, base_size: u64) -> u64 {
    let scaled = u128::from(length) * u128::from(base_size) / u128::from(size.max(1));
    let scaled = u64::try_from(scaled).unwrap_or(u64::MAX).max(length);
    start.saturating_add(scaled).min(base_size)
}

/// A section that is being filled.
#[derive(Default)]
struct Section {
    length: u64,
    /// The range of the base that it covers so far.
    base: Option<(u64, u64)>,
}

impl Section {
    /// Whether another range of the base can be covered too.
    fn reaches(&self, start: u64, end: u64) -> bool {
        self.base.is_none_or(|(first, last)| last.max(end) - first.min(start) <= BASE_BYTES - 2 * SLACK_BYTES)
    }

    fn take(&mut self, start: u64, end: u64, length: u64) {
        self.length += length;
        let (first, last) = self.base.unwrap_or((start, end));
        self.base = Some((first.min(start), last.max(end)));
    }

    fn finish(self, slot: u64, base_size: u64) -> Option<Batch> {
        let (first, last) = self.base.filter(|_| self.length > 0)?;
        // What was inserted or removed nearby moves bytes; and no more is read than could help.
        let slack = SLACK_BYTES.min(self.length.saturating_mul(2).max(64 << 10));
        let start = first.saturating_sub(slack).min(base_size);
        let end = last.saturating_add(slack).min(base_size).min(start + BASE_BYTES);
        let base = if base_size == 0 {
            BaseRange { offset: 0, length: 0 }
        } else {
            BaseRange { offset: start, length: end - start }
        };
        Some(Batch::Section { slot, length: self.length, base })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunks(list: &[(u8, u32)]) -> Vec<ChunkRef> {
        let mut offset = 0;
        let mut chunks = Vec::new();
        for (name, len) in list {
            chunks.push(ChunkRef { offset, id: ObjectId::from_bytes([*name; 32]), len: *len });
            offset += u64::from(*len);
        }
        chunks
    }

    #[test]
    fn what_stayed_is_copied_and_the_rest_delivered() {
        let old = chunks(&[(1, 10), (2, 20), (3, 30)]);
        let part = |delivered, copied, offset| Part { delivered, copied, offset };
        let check = |new: &[(u8, u32)], expected: &[Part]| assert_eq!(parts(&old, &chunks(new)), expected);
        check(&[(1, 10), (2, 20), (3, 30)], &[part(0, 60, 0)]);
        check(&[(1, 10), (9, 5), (3, 30)], &[part(0, 10, 0), part(5, 30, 30)]);
        check(&[(3, 30), (1, 10), (8, 7)], &[part(0, 30, 30), part(0, 10, 0), part(7, 0, 0)]);
        check(&[(8, 7)], &[part(7, 0, 0)]);
        check(&[], &[]);
    }

    proptest! {
        #[test]
        fn sections_deliver_everything_within_their_bounds(
            old in proptest::collection::vec((0u8..20, 1u32..40_000_000), 0..12),
            new in proptest::collection::vec((0u8..20, 1u32..40_000_000), 0..12),
        ) {
            // The same name has the same length.
            let named = |list: &[(u8, u32)]| list.iter().map(|(name, _)| (*name, u32::from(*name) * 4_000_000 + 1)).collect::<Vec<_>>();
            let (old, new) = (chunks(&named(&old)), chunks(&named(&new)));
            let size = |chunks: &[ChunkRef]| chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>();
            let (base_size, new_size) = (size(&old), size(&new));
            let parts = parts(&old, &new);
            prop_assert_eq!(parts.iter().map(|part| part.delivered + part.copied).sum::<u64>(), new_size);
            prop_assert!(parts.iter().all(|part| part.offset + part.copied <= base_size));
            let mut delivered = 0;
            for section in sections(7, &parts, new_size, base_size) {
                let Batch::Section { slot: 7, length, base } = section else { panic!("{section:?}") };
                prop_assert!(length > 0 && length <= SECTION_BYTES && base.length <= BASE_BYTES);
                prop_assert!(base.offset + base.length <= base_size);
                delivered += length;
            }
            prop_assert_eq!(delivered, parts.iter().map(|part| part.delivered).sum::<u64>());
        }
    }
}
