//! Recipes: which chunks make a content.
//!
//! A recipe is found by its content's id, is not signed, and is believed only because what it yields is hashed.
//! Long ones are trees of pages that are cut where the ids say so: two versions of a large file share
//! the pages of what they share.

mod build;
mod walk;

pub use build::{BuiltRecipe, build};
pub use walk::{RecipeWalk, Step, WalkError, chunks};

use crate::codec::{DecodeError, Reader, put_number};
use crate::id::{ContentId, ObjectId};
use crate::object::ObjectKind;

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
    /// Its number of bytes, which is the sum of those of the parts.
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
        let method = match reader.byte("the method")? {
            0 => Method::Raw,
            other => return Err(DecodeError::invalid(format!("{other} is not the method of a recipe"))),
        };
        let content = ContentId::from_bytes(reader.array("the content id")?);
        let size = reader.number("the size", u64::MAX)?;
        let (level, parts) = get_parts(&mut reader)?;
        reader.finish()?;
        if sum(&parts)? != size {
            return Err(DecodeError::invalid("the parts of a recipe do not add up to its size"));
        }
        Ok(Self { method, content, size, level, parts })
    }

    /// Writes the recipe.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = RECIPE_MAGIC.to_vec();
        out.push(match self.method {
            Method::Raw => 0,
        });
        out.extend_from_slice(self.content.as_bytes());
        put_number(&mut out, self.size);
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
