//! The index at the end of a pack: which frames there are, and which objects each holds.

use std::collections::HashSet;
use std::ops::Range;

use super::{FRAME_RAW_MAX, INDEX_LEN_MAX, MAGIC, PACK_LEN_MAX, PACK_RAW_MAX, PackError, TRAILER_MAGIC};
use crate::codec::{DecodeError, Reader, put_number};
use crate::id::ObjectId;
use crate::object::{ObjectKey, ObjectKind};

/// The fewest bytes that a frame and an object take in an index: what a count may claim is bounded by them.
const FRAME_ENTRY_LEN_MIN: usize = 4 + OBJECT_ENTRY_LEN_MIN;
const OBJECT_ENTRY_LEN_MIN: usize = 1 + ObjectId::LEN + 1;

/// How the bytes of a frame are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    Raw,
    /// As one zstd frame.
    Zstd,
}

impl Codec {
    /// The number that stands for this codec.
    pub const fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    /// The codec that this number stands for.
    pub fn from_code(code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            other => Err(DecodeError::invalid(format!("{other} is not the codec of a frame"))),
        }
    }
}

/// An object's place in its frame is after those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameObject {
    /// Its name.
    pub key: ObjectKey,
    /// Its number of bytes.
    pub len: u32,
}

/// Objects that are compressed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where in the pack it begins.
    pub offset: u32,
    /// How it is stored.
    pub codec: Codec,
    /// Its number of bytes in the pack.
    pub stored: u32,
    /// Its number of bytes when decoded.
    pub raw: u32,
    /// The objects one after the other.
    pub objects: Vec<FrameObject>,
}

impl Frame {
    /// The bytes of the pack that hold the frame.
    pub fn range(&self) -> Range<u64> {
        u64::from(self.offset)..u64::from(self.offset) + u64::from(self.stored)
    }
}

/// What a pack holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackIndex {
    frames: Vec<Frame>,
}

/// The last bytes of a pack, which say where its index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackTrailer {
    index_len: u32,
    index_digest: [u8; 32],
}

impl PackTrailer {
    /// The number of bytes of a trailer.
    pub const LEN: usize = 4 + 32 + TRAILER_MAGIC.len();

    /// Reads the trailer of a pack of `pack_len` bytes.
    pub fn decode(bytes: &[u8; Self::LEN], pack_len: u64) -> Result<Self, PackError> {
        let over_limit = |field, value, limit: usize| {
            Err(PackError::Malformed(DecodeError::OverLimit { field, value, limit: limit as u64 }))
        };
        if pack_len > PACK_LEN_MAX as u64 {
            return over_limit("the length of the pack", pack_len, PACK_LEN_MAX);
        }
        let mut reader = Reader::new(bytes);
        let index_len = u32::from_le_bytes(reader.array("the length of the index")?);
        let index_digest = reader.array("the digest of the index")?;
        reader.magic("the end of a pack", TRAILER_MAGIC)?;
        if index_len as usize > INDEX_LEN_MAX {
            return over_limit("the length of the index", u64::from(index_len), INDEX_LEN_MAX);
        }
        if u64::from(index_len) + (MAGIC.len() + Self::LEN) as u64 > pack_len {
            return Err(DecodeError::Truncated("the index of a pack").into());
        }
        Ok(Self { index_len, index_digest })
    }

    /// The bytes of the pack that hold the index.
    pub fn index_range(&self, pack_len: u64) -> Range<u64> {
        let end = pack_len - Self::LEN as u64;
        end - u64::from(self.index_len)..end
    }
}

impl PackIndex {
    pub(crate) const fn new(frames: Vec<Frame>) -> Self {
        Self { frames }
    }

    /// Reads the index of a pack that is at hand as a whole.
    pub fn of_pack(pack: &[u8]) -> Result<Self, PackError> {
        Reader::new(pack).magic("a pack", MAGIC)?;
        let trailer = pack.last_chunk().ok_or(DecodeError::Truncated("a pack"))?;
        let trailer = PackTrailer::decode(trailer, pack.len() as u64)?;
        let end = pack.len() - PackTrailer::LEN;
        Self::decode(&pack[end - trailer.index_len as usize..end], &trailer, pack.len() as u64)
    }

    /// Reads the index and the trailer of a pack of `pack_len` bytes, as [`PackIndex::encode`] writes them.
    pub fn of_tail(tail: &[u8], pack_len: u64) -> Result<Self, PackError> {
        let (index, trailer) = tail.split_last_chunk().ok_or(DecodeError::Truncated("the end of a pack"))?;
        Self::decode(index, &PackTrailer::decode(trailer, pack_len)?, pack_len)
    }

    /// Reads an index, the bytes at [`PackTrailer::index_range`] of a pack of `pack_len` bytes.
    pub fn decode(bytes: &[u8], trailer: &PackTrailer, pack_len: u64) -> Result<Self, PackError> {
        if *blake3::hash(bytes).as_bytes() != trailer.index_digest {
            return Err(PackError::IndexDigest);
        }
        let mut reader = Reader::new(bytes);
        let count = reader.count("the number of frames", bytes.len() / FRAME_ENTRY_LEN_MIN)?;
        let mut frames = Vec::with_capacity(count);
        let mut seen = HashSet::new();
        let mut offset = MAGIC.len() as u64;
        let mut raw = 0;
        for _ in 0..count {
            let at = u32::try_from(offset)
                .map_err(|_| DecodeError::invalid("a frame begins beyond the end of the pack"))?;
            let frame = get_frame(&mut reader, at, &mut seen)?;
            offset += u64::from(frame.stored);
            raw += u64::from(frame.raw);
            if raw > PACK_RAW_MAX {
                let (field, limit) = ("the decoded length of a pack", PACK_RAW_MAX);
                return Err(DecodeError::OverLimit { field, value: raw, limit }.into());
            }
            frames.push(frame);
        }
        reader.finish()?;
        if frames.is_empty() {
            return Err(DecodeError::invalid("the pack has no frames").into());
        }
        if offset != trailer.index_range(pack_len).start {
            return Err(DecodeError::invalid("the frames do not fill the pack up to its index").into());
        }
        Ok(Self { frames })
    }

    /// Writes the index and the trailer.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, self.frames.len() as u64);
        for frame in &self.frames {
            put_frame(&mut out, frame);
        }
        let len = u32::try_from(out.len()).expect("an index has at most 16 MiB");
        let digest = blake3::hash(&out);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(digest.as_bytes());
        out.extend_from_slice(TRAILER_MAGIC);
        out
    }

    /// The frames in the order in which they lie in the pack.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The objects in the order in which they lie in the pack.
    pub fn objects(&self) -> impl Iterator<Item = &FrameObject> {
        self.frames.iter().flat_map(|frame| &frame.objects)
    }
}

fn get_frame(
    reader: &mut Reader<'_>,
    offset: u32,
    seen: &mut HashSet<ObjectKey>,
) -> Result<Frame, DecodeError> {
    let codec = Codec::from_code(reader.byte("the codec of a frame")?)?;
    let stored = get_u32(reader, "the stored length of a frame", FRAME_RAW_MAX)?;
    let raw = get_u32(reader, "the decoded length of a frame", FRAME_RAW_MAX)?;
    if codec == Codec::Raw && stored != raw {
        return Err(DecodeError::invalid("a frame that is stored as it is has two lengths"));
    }
    let count_max = reader.rest().len() / OBJECT_ENTRY_LEN_MIN;
    let count = reader.count("the number of objects of a frame", count_max)?;
    let mut objects = Vec::with_capacity(count);
    let mut sum = 0u64;
    for _ in 0..count {
        let object = get_object(reader)?;
        if !seen.insert(object.key) {
            return Err(DecodeError::invalid(format!("{} is in the pack twice", object.key)));
        }
        sum += u64::from(object.len);
        objects.push(object);
    }
    if objects.is_empty() || sum != u64::from(raw) {
        return Err(DecodeError::invalid("the objects of a frame do not add up to its length"));
    }
    Ok(Frame { offset, codec, stored, raw, objects })
}

fn get_object(reader: &mut Reader<'_>) -> Result<FrameObject, DecodeError> {
    let kind = ObjectKind::from_code(reader.byte("the type of an object")?)?;
    let id = ObjectId::from_bytes(reader.array("the id of an object")?);
    let len = get_u32(reader, "the length of an object", kind.len_max())?;
    if len == 0 {
        return Err(DecodeError::invalid(format!("{kind} {id} has no bytes")));
    }
    Ok(FrameObject { key: ObjectKey { kind, id }, len })
}

fn get_u32(reader: &mut Reader<'_>, field: &'static str, limit: usize) -> Result<u32, DecodeError> {
    let value = reader.number(field, limit as u64)?;
    u32::try_from(value).map_err(|_| DecodeError::BadNumber(field))
}

fn put_frame(out: &mut Vec<u8>, frame: &Frame) {
    out.push(frame.codec.code());
    put_number(out, u64::from(frame.stored));
    put_number(out, u64::from(frame.raw));
    put_number(out, frame.objects.len() as u64);
    for object in &frame.objects {
        out.push(object.key.kind.code());
        out.extend_from_slice(object.key.id.as_bytes());
        put_number(out, u64::from(object.len));
    }
}
