//! Which ranges to ask for, given where the wanted contents lie.
//!
//! Pure. The one trade-off: a request costs a round trip and some hundred bytes of headers, so two frames that lie
//! close together are asked for as one range and the bytes between them are thrown away; but a range stays short
//! enough that several can be under way at once and that a broken one costs little.

use std::collections::HashSet;
use std::ops::Range;

use crate::wire::fetch_map::{ContentParts, FetchMap, FrameChunk, FrameRef};

/// The largest gap between two frames that is fetched rather than skipped.
pub const GAP_BYTES_MAX: u64 = 16 * 1024;

/// The length at which a range is not made longer.
pub const RANGE_BYTES_TARGET: u64 = 1024 * 1024;

/// What to fetch, and where each chunk of it goes.
#[derive(Debug)]
pub struct FetchPlan {
    map: FetchMap,
    wanted: Vec<Option<u64>>,
    ranges: Vec<PackRange>,
    destinations: Destinations,
}

/// One request: consecutive bytes of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRange {
    /// Index into the packs of the map.
    pub pack: u32,
    /// The bytes of the pack.
    pub bytes: Range<u64>,
    /// The frames in these bytes that are wanted, as indices into the frames of the map.
    pub frames: Vec<usize>,
}

impl PackRange {
    /// The number of bytes to ask for.
    pub const fn length(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}

/// A place that a chunk's bytes are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Index into the contents of the map.
    pub content: u32,
    /// First byte in the content.
    pub offset: u64,
}

/// For each chunk by ordinal, the places its bytes go to: one flat list, and where each chunk's part of it begins.
#[derive(Debug)]
struct Destinations {
    starts: Vec<u32>,
    places: Vec<Destination>,
    /// The ordinal of the first chunk of each frame.
    first_of_frame: Vec<usize>,
}

impl FetchPlan {
    /// Plans to fetch contents of the map. `wanted_from` says from which byte on a content is wanted, if it is: 0
    /// for all of it, more where an earlier run received its beginning. What is wanted begins with a whole chunk.
    pub fn new(map: FetchMap, wanted_from: impl FnMut(&ContentParts) -> Option<u64>) -> Self {
        Self::with_local(map, wanted_from, |_, _| false)
    }

    /// Plans the same where some chunks of a content, named by its index, are at hand and need not be fetched for it.
    pub fn with_local(
        map: FetchMap,
        mut wanted_from: impl FnMut(&ContentParts) -> Option<u64>,
        is_local: impl Fn(usize, &FrameChunk) -> bool,
    ) -> Self {
        let mut seen = HashSet::new();
        let wanted: Vec<Option<u64>> = map
            .contents
            .iter()
            .map(|content| wanted_from(content).filter(|_| seen.insert(content.id)))
            .collect();
        let destinations = Destinations::of(&map, &wanted, is_local);
        let ranges = merge(&map, &destinations);
        Self { map, wanted, ranges, destinations }
    }

    /// The map this was made from.
    pub const fn map(&self) -> &FetchMap {
        &self.map
    }

    /// The requests, in the order of packs and offsets.
    pub fn ranges(&self) -> &[PackRange] {
        &self.ranges
    }

    /// Whether this content of the map is fetched.
    pub fn is_wanted(&self, content: usize) -> bool {
        self.wanted[content].is_some()
    }

    /// A chunk by its number, counted through all frames.
    pub fn chunk(&self, ordinal: u32) -> &FrameChunk {
        let ordinal = ordinal as usize;
        let firsts = &self.destinations.first_of_frame;
        // The last frame that begins at or before it; frames without chunks begin where the next one does.
        let frame = firsts.partition_point(|first| *first <= ordinal) - 1;
        &self.map.frames[frame].chunks[ordinal - firsts[frame]]
    }

    /// The number of bytes that all requests ask for.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(PackRange::length).sum()
    }

    /// The chunks of a frame that are wanted, and where each goes.
    pub fn chunks_of(&self, frame: usize) -> impl Iterator<Item = (&FrameChunk, &[Destination])> {
        let first = self.destinations.first_of_frame[frame];
        self.map.frames[frame]
            .chunks
            .iter()
            .enumerate()
            .map(move |(index, chunk)| (chunk, self.destinations.of_chunk(first + index)))
            .filter(|(_, places)| !places.is_empty())
    }
}

impl Destinations {
    fn of(map: &FetchMap, wanted: &[Option<u64>], is_local: impl Fn(usize, &FrameChunk) -> bool) -> Self {
        let mut first_of_frame = Vec::with_capacity(map.frames.len());
        let mut chunks = Vec::new();
        for frame in &map.frames {
            first_of_frame.push(chunks.len());
            chunks.extend(&frame.chunks);
        }
        let mut starts = vec![0u32; chunks.len() + 1];
        for_each_place(map, wanted, &chunks, &is_local, |ordinal, _| starts[ordinal + 1] += 1);
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        let nowhere = Destination { content: 0, offset: 0 };
        let mut places = vec![nowhere; starts.last().map_or(0, |total| *total as usize)];
        let mut filled = starts.clone();
        for_each_place(map, wanted, &chunks, &is_local, |ordinal, place| {
            places[filled[ordinal] as usize] = place;
            filled[ordinal] += 1;
        });
        Self { starts, places, first_of_frame }
    }

    fn of_chunk(&self, ordinal: usize) -> &[Destination] {
        &self.places[self.starts[ordinal] as usize..self.starts[ordinal + 1] as usize]
    }

    fn is_frame_wanted(&self, frame: usize, chunks: usize) -> bool {
        let first = self.first_of_frame[frame];
        self.starts[first] != self.starts[first + chunks]
    }
}

/// Goes through the chunks of all wanted contents that are not at hand, in the order of the contents and of the
/// chunks in each.
fn for_each_place(
    map: &FetchMap,
    wanted: &[Option<u64>],
    chunks: &[&FrameChunk],
    is_local: impl Fn(usize, &FrameChunk) -> bool,
    mut visit: impl FnMut(usize, Destination),
) {
    for (index, content) in map.contents.iter().enumerate() {
        let Some(from) = wanted[index] else { continue };
        let content_index = u32::try_from(index).expect("a map of 2^32 contents does not fit in memory");
        let mut offset = 0;
        for ordinal in &content.chunks {
            let ordinal = *ordinal as usize;
            if offset >= from && !is_local(index, chunks[ordinal]) {
                visit(ordinal, Destination { content: content_index, offset });
            }
            offset += u64::from(chunks[ordinal].length);
        }
    }
}

fn merge(map: &FetchMap, destinations: &Destinations) -> Vec<PackRange> {
    let mut ranges: Vec<PackRange> = Vec::new();
    for (index, frame) in map.frames.iter().enumerate() {
        if !destinations.is_frame_wanted(index, frame.chunks.len()) {
            continue;
        }
        let bytes = frame.offset..frame.offset + u64::from(frame.stored);
        match ranges.last_mut() {
            Some(range) if belongs_to(range, frame) => {
                range.bytes.end = bytes.end;
                range.frames.push(index);
            }
            _ => ranges.push(PackRange { pack: frame.pack, bytes, frames: vec![index] }),
        }
    }
    ranges
}

fn belongs_to(range: &PackRange, frame: &FrameRef) -> bool {
    range.pack == frame.pack
        && frame.offset - range.bytes.end <= GAP_BYTES_MAX
        && range.length() < RANGE_BYTES_TARGET
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fetch_map::PackRef;
    use smart_sync_store::id::{ContentId, ObjectId, PackId};
    use smart_sync_store::pack::Codec;

    /// Frames of `(pack, offset, stored)` with one chunk of 10 bytes each; every content is one chunk.
    fn map(frames: &[(u32, u64, u32)]) -> FetchMap {
        let id = |number: usize| [u8::try_from(number).unwrap(); 32];
        FetchMap {
            packs: (0..3).map(|pack| PackRef { id: PackId::from_bytes(id(pack)), length: 1 << 26 }).collect(),
            frames: frames
                .iter()
                .enumerate()
                .map(|(index, (pack, offset, stored))| FrameRef {
                    pack: *pack,
                    offset: *offset,
                    stored: *stored,
                    raw: 10,
                    codec: Codec::Zstd,
                    chunks: vec![FrameChunk { id: ObjectId::from_bytes(id(index)), start: 0, length: 10 }],
                })
                .collect(),
            contents: (0..frames.len())
                .map(|index| ContentParts {
                    id: ContentId::from_bytes(id(index)),
                    size: 10,
                    chunks: vec![u32::try_from(index).unwrap()],
                })
                .collect(),
            rebuilt: Vec::new(),
        }
    }

    #[track_caller]
    fn check(frames: &[(u32, u64, u32)], wanted: &[u8], expected: &[(u32, Range<u64>)]) {
        let plan =
            FetchPlan::new(map(frames), |content| wanted.contains(&content.id.as_bytes()[0]).then_some(0));
        let ranges: Vec<_> = plan.ranges().iter().map(|range| (range.pack, range.bytes.clone())).collect();
        assert_eq!(ranges, expected, "wanted {wanted:?} of {frames:?}");
    }

    #[test]
    fn neighbours_are_one_range_and_distant_frames_are_not() {
        let far = 100 + GAP_BYTES_MAX + 1;
        check(&[(0, 8, 92), (0, 100, 50)], &[0, 1], &[(0, 8..150)]);
        check(&[(0, 8, 92), (0, far, 50)], &[0, 1], &[(0, 8..100), (0, far..far + 50)]);
        check(&[(0, 8, 92), (0, far - 1, 50)], &[0, 1], &[(0, 8..far + 49)]);
        check(&[(0, 8, 92), (1, 100, 50)], &[0, 1], &[(0, 8..100), (1, 100..150)]);
        check(&[(0, 8, 92), (0, 100, 50), (0, 150, 50)], &[0, 2], &[(0, 8..200)]);
        check(&[(0, 8, 92), (0, 100, 50)], &[], &[]);
    }

    #[test]
    fn a_range_stops_growing_at_its_target() {
        let mebibyte = 1 << 20;
        let frames: Vec<_> = (0..20u32).map(|index| (0, 8 + u64::from(index) * mebibyte, 1 << 20)).collect();
        let plan = FetchPlan::new(map(&frames), |_| Some(0));
        assert_eq!(plan.ranges().len(), 20);
        assert_eq!(plan.bytes(), 20 * mebibyte);
        assert!(plan.ranges().iter().all(|range| range.length() <= RANGE_BYTES_TARGET));
    }

    #[test]
    fn what_is_at_hand_for_a_content_is_fetched_for_others_only() {
        let mut map = map(&[(0, 8, 92), (0, 100, 50), (0, 150, 50)]);
        map.contents = vec![
            ContentParts { id: ContentId::from_bytes([77; 32]), size: 30, chunks: vec![0, 1, 2] },
            ContentParts { id: ContentId::from_bytes([78; 32]), size: 10, chunks: vec![1] },
        ];
        let is_first_or_second = |chunk: &FrameChunk| chunk.id.as_bytes()[0] < 2;
        let plan = FetchPlan::with_local(
            map,
            |_| Some(0),
            |content, chunk| content == 0 && is_first_or_second(chunk),
        );
        let places: Vec<_> = (0..3)
            .flat_map(|frame| {
                plan.chunks_of(frame).flat_map(|(_, places)| places).copied().collect::<Vec<_>>()
            })
            .map(|place| (place.content, place.offset))
            .collect();
        assert_eq!(places, [(1, 0), (0, 20)]);
        assert_eq!(plan.chunk(2).id.as_bytes()[0], 2);
    }

    #[test]
    fn a_chunk_goes_to_every_place_that_needs_it() {
        let mut map = map(&[(0, 8, 92), (0, 100, 50)]);
        map.contents.push(ContentParts {
            id: ContentId::from_bytes([77; 32]),
            size: 30,
            chunks: vec![1, 0, 1],
        });
        let plan = FetchPlan::new(map, |content| [1, 77].contains(&content.id.as_bytes()[0]).then_some(0));
        let places = |frame| -> Vec<_> {
            plan.chunks_of(frame)
                .flat_map(|(_, places)| places)
                .map(|place| (place.content, place.offset))
                .collect()
        };
        assert_eq!(places(0), [(2, 10)]);
        assert_eq!(places(1), [(1, 0), (2, 0), (2, 20)]);
        assert_eq!([plan.is_wanted(0), plan.is_wanted(1), plan.is_wanted(2)], [false, true, true]);
    }

    #[test]
    fn what_an_earlier_run_received_is_not_fetched_again() {
        let mut map = map(&[(0, 8, 92), (0, 1 << 20, 50)]);
        let id = ContentId::from_bytes([77; 32]);
        map.contents = vec![ContentParts { id, size: 20, chunks: vec![0, 1] }];
        let plan = FetchPlan::new(map, |_| Some(10));
        assert_eq!(plan.ranges().len(), 1);
        assert_eq!(plan.bytes(), 50);
    }
}
