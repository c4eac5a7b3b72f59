//! Recipes: which chunks make a content.
//!
//! A recipe is found by its content's id, is not signed, and is believed only because what it yields is hashed.
//! Long ones are trees of pages that are cut where the ids say so: two versions of a large file share
//! the pages of what they share. The chunks are the content, or they are what a compressed content is rebuilt from:
//! its plain stream, which has the program, the frames and the members of [`unpack`](crate::unpack) one after the other.

mod build;
mod walk;

pub use build::{BuiltRecipe, build, build_rebuilt};
pub use walk::{RecipeWalk, Step, WalkError, chunks};

use crate::codec::{DecodeError, Reader, put_number};
use crate::id::{BlobId, ContentId, ObjectId};
use crate::manifest::entry::Content;
use crate::object::ObjectKind;
use crate::unpack::PROGRAM_LEN_MAX;

const RECIPE_MAGIC: &[u8] = b"ssrc\x01";
const PAGE_MAGIC: &[u8] = b"ssrp\x01";

/// The highest level of pages.
pub const LEVEL_MAX: u8 = 7;
/// The most parts of a recipe or a recipe page.
pub const PARTS_MAX: usize = 1024;

/// How a content comes from its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The parts one after the other are the content.
    Raw,
    /// The parts one after the other are what the content is rebuilt from.
    Rebuilt(Plain),
}

/// What a content is rebuilt from: a program, frames and members, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plain {
    /// The digest of all of it.
    pub id: ContentId,
    /// The number of bytes of the program.
    pub program: u64,
    /// The number of bytes of frames.
    pub frames: u64,
    /// The number of bytes of members.
    pub members: u64,
}

impl Plain {
    /// The most bytes that a content of so many may be rebuilt from: whoever has it rebuilt writes them to a disk.
    pub const fn size_max(size: u64) -> u64 {
        const RATIO_MAX: u64 = 100;
        const FREE: u64 = 1 << 20;
        size.saturating_mul(RATIO_MAX).saturating_add(FREE)
    }

    /// The number of bytes of all of it.
    pub const fn size(&self) -> u64 {
        self.program.saturating_add(self.frames).saturating_add(self.members)
    }

    /// The plain stream as a content, as far as that is known: what git would call it was not found out.
    pub const fn content(&self) -> Content {
        Content { size: self.size(), blob: BlobId::from_bytes([0; 20]), id: self.id }
    }
}

/// A chunk, or a page of parts, and how much of the content it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Part {
    /// The chunk or recipe page.
    pub id: ObjectId,
    /// The number of bytes of content.
    pub len: u64,
}

/// The root of a content's layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// How the parts make the content.
    pub method: Method,
    /// The content.
    pub content: ContentId,
    /// Its number of bytes.
    pub size: u64,
    /// 0 where the parts are chunks, else one more than the level of the pages that they are.
    pub level: u8,
    /// The parts in order.
    pub parts: Vec<Part>,
}

/// A page of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipePage {
    /// 0 where the parts are chunks, else one more than the level of the pages that they are.
    pub level: u8,
    /// The parts in order.
    pub parts: Vec<Part>,
}

impl Recipe {
    /// Reads a recipe from bytes that nothing is known about.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = open(bytes, ObjectKind::Recipe)?;
        reader.magic("a recipe", RECIPE_MAGIC)?;
        let method = reader.byte("the method")?;
        let content = ContentId::from_bytes(reader.array("the content id")?);
        let size = reader.number("the size", u64::MAX)?;
        let method = match method {
            0 => Method::Raw,
            1 => Method::Rebuilt(get_plain(&mut reader)?),
            other => return Err(DecodeError::invalid(format!("{other} is not the method of a recipe"))),
        };
        let (level, parts) = get_parts(&mut reader)?;
        reader.finish()?;
        let recipe = Self { method, content, size, level, parts };
        if sum(&recipe.parts)? != recipe.stored_size() {
            return Err(DecodeError::invalid("the parts of a recipe do not add up to its size"));
        }
        Ok(recipe)
    }

    /// The number of bytes that the parts stand for.
    pub const fn stored_size(&self) -> u64 {
        match &self.method {
            Method::Raw => self.size,
            Method::Rebuilt(plain) => plain.size(),
        }
    }

    /// Writes the recipe.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = RECIPE_MAGIC.to_vec();
        out.push(match self.method {
            Method::Raw => 0,
            Method::Rebuilt(_) => 1,
        });
        out.extend_from_slice(self.content.as_bytes());
        put_number(&mut out, self.size);
        if let Method::Rebuilt(plain) = &self.method {
            out.extend_from_slice(plain.id.as_bytes());
            for length in [plain.program, plain.frames, plain.members] {
                put_number(&mut out, length);
            }
        }
        put_parts(&mut out, self.level, &self.parts);
        out
    }
}

impl RecipePage {
    /// Reads a page from bytes that nothing is known about.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = open(bytes, ObjectKind::RecipePage)?;
        reader.magic("a recipe page", PAGE_MAGIC)?;
        let (level, parts) = get_parts(&mut reader)?;
        reader.finish()?;
        sum(&parts)?;
        Ok(Self { level, parts })
    }

    /// Writes the page.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = PAGE_MAGIC.to_vec();
        put_parts(&mut out, self.level, &self.parts);
        out
    }

    /// The number of bytes of content that the page stands for.
    pub fn content_len(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum()
    }
}

fn open(bytes: &[u8], kind: ObjectKind) -> Result<Reader<'_>, DecodeError> {
    if bytes.len() > kind.len_max() {
        let (value, limit) = (bytes.len() as u64, kind.len_max() as u64);
        return Err(DecodeError::OverLimit { field: "the length of a recipe or page", value, limit });
    }
    Ok(Reader::new(bytes))
}

fn get_plain(reader: &mut Reader<'_>) -> Result<Plain, DecodeError> {
    let plain = Plain {
        id: ContentId::from_bytes(reader.array("the id of the plain stream")?),
        program: reader.number("the length of the program", PROGRAM_LEN_MAX as u64)?,
        frames: reader.number("the number of bytes of frames", u64::MAX)?,
        members: reader.number("the number of bytes of members", u64::MAX)?,
    };
    let sum = plain.program.checked_add(plain.frames).and_then(|sum| sum.checked_add(plain.members));
    sum.map(|_| plain).ok_or_else(|| DecodeError::invalid("a plain stream has more bytes than 64 bits hold"))
}

fn get_parts(reader: &mut Reader<'_>) -> Result<(u8, Vec<Part>), DecodeError> {
    let level = reader.byte("the level")?;
    if level > LEVEL_MAX {
        let (value, limit) = (u64::from(level), u64::from(LEVEL_MAX));
        return Err(DecodeError::OverLimit { field: "the level", value, limit });
    }
    let count = reader.count("the number of parts", PARTS_MAX)?;
    if count == 0 {
        return Err(DecodeError::invalid("a recipe or recipe page has no parts"));
    }
    let len_max = if level == 0 { ObjectKind::Chunk.len_max() as u64 } else { u64::MAX };
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ObjectId::from_bytes(reader.array("the id of a part")?);
        let len = reader.number("the length of a part", len_max)?;
        if len == 0 {
            return Err(DecodeError::invalid("a part of a recipe has no bytes"));
        }
        parts.push(Part { id, len });
    }
    Ok((level, parts))
}

fn put_parts(out: &mut Vec<u8>, level: u8, parts: &[Part]) {
    out.push(level);
    put_number(out, parts.len() as u64);
    for part in parts {
        out.extend_from_slice(part.id.as_bytes());
        put_number(out, part.len);
    }
}

fn sum(parts: &[Part]) -> Result<u64, DecodeError> {
    parts
        .iter()
        .try_fold(0u64, |sum, part| sum.checked_add(part.len))
        .ok_or_else(|| DecodeError::invalid("the lengths of the parts add up to more than 64 bits hold"))
}

#[cfg(test)]
mod tests;
