//! The fetch map: which ranges of which packs hold the chunks of the contents that were asked for.
//!
//! A server writes it from its catalogue. For the receiver it is a hint: every chunk that comes out of a range must
//! have the id that the map gives it, and every content made of them the id that the manifest gives it, so a false
//! map can waste a download and nothing else. Most contents are one chunk, whose id is the content's; those cost
//! one id, a length and two small numbers. A content that is stored taken apart is told by the plain stream that it is
//! rebuilt from, which is in the map like any content.

use std::collections::HashMap;

use smart_sync_store::codec::{DecodeError, Reader, put_number, unzigzag, zigzag};
use smart_sync_store::id::{ContentId, ObjectId, PackId};
use smart_sync_store::pack::{Codec, FRAME_RAW_MAX, PACK_LEN_MAX};
use smart_sync_store::recipe::Plain;

const MAGIC: &[u8] = b"ssfm\x02";

/// Where the contents lie that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchMap {
    /// The packs that hold something.
    pub packs: Vec<PackRef>,
    /// The frames to read, in the order of their packs and offsets.
    pub frames: Vec<FrameRef>,
    /// The contents that can be made of what the frames hold, and the plain streams.
    pub contents: Vec<ContentParts>,
    /// The contents that are rebuilt from plain streams.
    pub rebuilt: Vec<RebuiltContent>,
}

/// A pack, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRef {
    /// Its id.
    pub id: PackId,
    /// Its number of bytes.
    pub length: u64,
}

/// A frame of a pack, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRef {
    /// Index of the pack in [`FetchMap::packs`].
    pub pack: u32,
    /// First byte of the frame in the pack.
    pub offset: u64,
    /// Bytes of the frame in the pack.
    pub stored: u32,
    /// Bytes of the frame when decoded.
    pub raw: u32,
    /// How it is stored.
    pub codec: Codec,
    /// The chunks that are wanted, in the order in which they lie there.
    pub chunks: Vec<FrameChunk>,
}

/// A chunk in a decoded frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameChunk {
    /// Its id.
    pub id: ObjectId,
    /// First byte in the decoded frame.
    pub start: u32,
    /// Its number of bytes.
    pub length: u32,
}

/// A content, and the chunks it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentParts {
    /// Its id.
    pub id: ContentId,
    /// Its number of bytes.
    pub size: u64,
    /// Ordinals of its chunks, counted through all frames.
    pub chunks: Vec<u32>,
}

impl ContentParts {
    /// Whether its chunks come in the order in which it has them, where frames are fetched in theirs.
    pub fn is_in_order(&self) -> bool {
        self.chunks.is_sorted()
    }
}

/// A content that is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuiltContent {
    /// Its id.
    pub id: ContentId,
    /// Its number of bytes.
    pub size: u64,
    /// Index of its plain stream in [`FetchMap::contents`].
    pub source: u32,
    /// How the plain stream divides.
    pub plain: Plain,
}

/// The chunks of all frames, by ordinal.
#[derive(Debug)]
struct Ordinals<'a>(Vec<&'a FrameChunk>);

impl<'a> Ordinals<'a> {
    fn of(frames: &'a [FrameRef]) -> Self {
        Self(frames.iter().flat_map(|frame| &frame.chunks).collect())
    }

    fn get(&self, ordinal: i64) -> Option<(u32, &'a FrameChunk)> {
        let ordinal = u32::try_from(ordinal).ok()?;
        self.0.get(ordinal as usize).map(|chunk| (ordinal, *chunk))
    }
}

impl FetchMap {
    /// Writes the map.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_number(&mut out, self.packs.len() as u64);
        for pack in &self.packs {
            out.extend_from_slice(pack.id.as_bytes());
            put_number(&mut out, pack.length);
        }
        put_number(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            put_frame(&mut out, frame);
        }
        put_number(&mut out, self.contents.len() as u64);
        let mut next = 0;
        for content in &self.contents {
            put_content(&mut out, content, &mut next);
        }
        put_number(&mut out, self.rebuilt.len() as u64);
        for rebuilt in &self.rebuilt {
            out.extend_from_slice(rebuilt.id.as_bytes());
            put_number(&mut out, rebuilt.size);
            put_number(&mut out, u64::from(rebuilt.source));
            put_number(&mut out, rebuilt.plain.program);
            put_number(&mut out, rebuilt.plain.frames);
        }
        out
    }

    /// Leaves only those contents for which `keep` says so, and what they are rebuilt from.
    pub fn retain(&mut self, mut keep: impl FnMut(ContentId) -> bool) {
        self.rebuilt.retain(|rebuilt| keep(rebuilt.id));
        let mut places = HashMap::new();
        let sources: Vec<u32> = self.rebuilt.iter().map(|rebuilt| rebuilt.source).collect();
        let (mut number, mut left) = (0, 0);
        self.contents.retain(|content| {
            let stays = sources.contains(&number) || keep(content.id);
            if stays {
                places.insert(number, left);
                left += 1;
            }
            number += 1;
            stays
        });
        for rebuilt in &mut self.rebuilt {
            rebuilt.source = places.get(&rebuilt.source).copied().unwrap_or_default();
        }
    }

    /// Reads a map; what it returns is consistent in itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.magic("a fetch map", MAGIC)?;
        let packs = read_list(&mut reader, "the number of packs", 33, |reader| {
            Ok(PackRef {
                id: PackId::from_bytes(reader.array("a pack id")?),
                length: reader.number("the length of a pack", PACK_LEN_MAX as u64)?,
            })
        })?;
        let mut previous_end = None;
        let frames = read_list(&mut reader, "the number of frames", 7, |reader| {
            let frame = read_frame(reader, &packs)?;
            let start = (frame.pack, frame.offset);
            if previous_end.is_some_and(|end| start < end) {
                return Err(DecodeError::invalid("frames overlap or are not in the order of their packs"));
            }
            previous_end = Some((frame.pack, frame.offset + u64::from(frame.stored)));
            Ok(frame)
        })?;
        let ordinals = Ordinals::of(&frames);
        let mut next = 0;
        let contents = read_list(&mut reader, "the number of contents", 2, |reader| {
            read_content(reader, &ordinals, &mut next)
        })?;
        let rebuilt = read_list(&mut reader, "the number of rebuilt contents", 36, |reader| {
            read_rebuilt(reader, &contents)
        })?;
        reader.finish()?;
        Ok(Self { packs, frames, contents, rebuilt })
    }
}

fn read_rebuilt(reader: &mut Reader<'_>, contents: &[ContentParts]) -> Result<RebuiltContent, DecodeError> {
    let id = ContentId::from_bytes(reader.array("the id of a rebuilt content")?);
    let size = reader.number("the size of a rebuilt content", u64::MAX)?;
    let source = narrow(reader.number("the place of a plain stream", u64::from(u32::MAX))?);
    let stream = contents
        .get(source as usize)
        .ok_or_else(|| DecodeError::invalid("a content is rebuilt from a plain stream that is not listed"))?;
    let program = reader.number("the length of a program", stream.size)?;
    let frames = reader.number("the number of bytes of frames", stream.size - program)?;
    let members = stream.size - program - frames;
    Ok(RebuiltContent { id, size, source, plain: Plain { id: stream.id, program, frames, members } })
}

/// Reads a list whose items take at least `least` bytes each, so that a count cannot claim more than is there.
fn read_list<T>(
    reader: &mut Reader<'_>,
    field: &'static str,
    least: usize,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(field, reader.rest().len() / least)?;
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        list.push(item(reader)?);
    }
    Ok(list)
}

fn put_frame(out: &mut Vec<u8>, frame: &FrameRef) {
    put_number(out, u64::from(frame.pack));
    put_number(out, frame.offset);
    put_number(out, u64::from(frame.stored));
    put_number(out, u64::from(frame.raw));
    out.push(frame.codec.code());
    put_number(out, frame.chunks.len() as u64);
    let mut end = 0;
    for chunk in &frame.chunks {
        put_number(out, u64::from(chunk.start - end));
        out.extend_from_slice(chunk.id.as_bytes());
        put_number(out, u64::from(chunk.length));
        end = chunk.start + chunk.length;
    }
}

fn read_frame(reader: &mut Reader<'_>, packs: &[PackRef]) -> Result<FrameRef, DecodeError> {
    let pack = narrow(reader.number("the pack of a frame", u64::from(u32::MAX))?);
    let length = packs
        .get(pack as usize)
        .ok_or_else(|| DecodeError::invalid("a frame is in a pack that is not listed"))?
        .length;
    let offset = reader.number("the offset of a frame", length)?;
    let stored = narrow(reader.number("the length of a frame", length - offset)?);
    let raw_max = FRAME_RAW_MAX as u64;
    let raw = narrow(reader.number("the decoded length of a frame", raw_max)?);
    let codec = Codec::from_code(reader.byte("the codec of a frame")?)?;
    let mut end = 0;
    let chunks = read_list(reader, "the number of chunks", 34, |reader| {
        let start = end + reader.number("the start of a chunk", u64::from(raw) - end)?;
        let id = ObjectId::from_bytes(reader.array("a chunk id")?);
        let length = reader.number("the length of a chunk", u64::from(raw) - start)?;
        if length == 0 {
            return Err(DecodeError::invalid("a chunk is empty"));
        }
        end = start + length;
        Ok(FrameChunk { id, start: narrow(start), length: narrow(length) })
    })?;
    if chunks.is_empty() {
        return Err(DecodeError::invalid("nothing is wanted of a frame"));
    }
    Ok(FrameRef { pack, offset, stored, raw, codec, chunks })
}

/// Numbers here are below the limits that they were read with, all of which fit 32 bits.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("the limit of the field fits 32 bits")
}

/// A content of one chunk is told by the number 1 and its chunk alone: id and size are the chunk's.
fn put_content(out: &mut Vec<u8>, content: &ContentParts, next: &mut i64) {
    put_number(out, content.chunks.len() as u64);
    if content.chunks.len() > 1 {
        out.extend_from_slice(content.id.as_bytes());
    }
    for ordinal in &content.chunks {
        put_number(out, zigzag(i64::from(*ordinal) - *next));
        *next = i64::from(*ordinal) + 1;
    }
}

fn read_content(
    reader: &mut Reader<'_>,
    ordinals: &Ordinals<'_>,
    next: &mut i64,
) -> Result<ContentParts, DecodeError> {
    let count = reader.count("the number of chunks of a content", reader.rest().len())?;
    let id = match count {
        0 => return Err(DecodeError::invalid("a content has no chunks")),
        1 => None,
        _ => Some(ContentId::from_bytes(reader.array("a content id")?)),
    };
    let mut size = 0u64;
    let mut chunks = Vec::with_capacity(count);
    let mut last = None;
    for _ in 0..count {
        let step = unzigzag(reader.number("a chunk of a content", u64::MAX)?);
        let (ordinal, chunk) = next
            .checked_add(step)
            .and_then(|ordinal| ordinals.get(ordinal))
            .ok_or_else(|| DecodeError::invalid("a content names a chunk that is in no frame"))?;
        *next = i64::from(ordinal) + 1;
        // No overflow: at most 2^32 chunks of less than 2^32 bytes.
        size += u64::from(chunk.length);
        chunks.push(ordinal);
        last = Some(chunk.id);
    }
    let id = match (id, last) {
        (Some(id), _) => id,
        (None, Some(chunk)) => ContentId::from_bytes(*chunk.as_bytes()),
        (None, None) => return Err(DecodeError::invalid("a content has no chunks")),
    };
    Ok(ContentParts { id, size, chunks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(number: u8, start: u32, length: u32) -> FrameChunk {
        FrameChunk { id: ObjectId::from_bytes([number; 32]), start, length }
    }

    fn sample() -> FetchMap {
        FetchMap {
            packs: vec![PackRef { id: PackId::from_bytes([9; 32]), length: 5000 }],
            frames: vec![
                FrameRef {
                    pack: 0,
                    offset: 8,
                    stored: 900,
                    raw: 1000,
                    codec: Codec::Zstd,
                    chunks: vec![chunk(1, 0, 100), chunk(2, 300, 700)],
                },
                FrameRef {
                    pack: 0,
                    offset: 2000,
                    stored: 50,
                    raw: 50,
                    codec: Codec::Raw,
                    chunks: vec![chunk(3, 0, 50)],
                },
            ],
            contents: vec![
                ContentParts { id: ContentId::from_bytes([1; 32]), size: 100, chunks: vec![0] },
                ContentParts { id: ContentId::from_bytes([7; 32]), size: 850, chunks: vec![1, 2, 0] },
                ContentParts { id: ContentId::from_bytes([3; 32]), size: 50, chunks: vec![2] },
            ],
            rebuilt: vec![RebuiltContent {
                id: ContentId::from_bytes([8; 32]),
                size: 333,
                source: 1,
                plain: Plain { id: ContentId::from_bytes([7; 32]), program: 20, frames: 130, members: 700 },
            }],
        }
    }

    #[test]
    fn a_map_comes_back_as_it_was() {
        for map in [sample(), FetchMap::default()] {
            assert_eq!(FetchMap::decode(&map.encode()), Ok(map));
        }
    }

    #[test]
    fn a_map_that_contradicts_itself_is_refused() {
        type Change = fn(&mut FetchMap);
        let changes: [(&str, Change); 8] = [
            ("frame beyond the pack", |map| map.frames[1].offset = 4999),
            ("frames overlap", |map| map.frames[1].offset = 100),
            ("chunk beyond the frame", |map| map.frames[1].chunks[0].length = 51),
            ("empty chunk", |map| map.frames[1].chunks[0].length = 0),
            ("unknown chunk", |map| map.contents[1].chunks[2] = 3),
            ("unknown pack", |map| map.frames[1].pack = 1),
            ("unknown plain stream", |map| map.rebuilt[0].source = 3),
            ("frames beyond the plain stream", |map| map.rebuilt[0].plain.frames = 831),
        ];
        for (what, change) in changes {
            let mut map = sample();
            change(&mut map);
            assert!(FetchMap::decode(&map.encode()).is_err(), "accepted: {what}");
        }
    }

    #[test]
    fn what_is_left_of_a_map_says_the_same() {
        let mut map = sample();
        map.retain(|id| id == ContentId::from_bytes([8; 32]));
        assert_eq!(map.contents, sample().contents[1..2]);
        assert_eq!(map.rebuilt, [RebuiltContent { source: 0, ..sample().rebuilt[0].clone() }]);
        let mut map = sample();
        map.retain(|id| id == ContentId::from_bytes([3; 32]));
        assert_eq!((&map.contents[..], &map.rebuilt[..]), (&sample().contents[2..], &[][..]));
    }

    #[test]
    fn a_count_cannot_claim_more_than_is_there() {
        let mut bytes = MAGIC.to_vec();
        put_number(&mut bytes, 10_000_000);
        bytes.resize(1024, 0);
        assert!(matches!(FetchMap::decode(&bytes), Err(DecodeError::OverLimit { .. })));
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_one_spelling(change in any::<(u16, u8)>()) {
            let mut bytes = sample().encode();
            let at = usize::from(change.0) % bytes.len();
            bytes[at] = change.1;
            if let Ok(map) = FetchMap::decode(&bytes) {
                prop_assert_eq!(map.encode(), bytes);
            }
        }
    }
}
