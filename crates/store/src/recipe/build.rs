//! From a list of chunks to the objects of a recipe.

use super::{LEVEL_MAX, Method, PARTS_MAX, Part, Plain, Recipe, RecipePage};
use crate::chunk::ChunkRef;
use crate::id::{ContentId, ObjectId};
use crate::object::ObjectKind;

/// The fewest parts of a page, the last one of a level excepted.
const PAGE_PARTS_MIN: usize = 16;

/// A recipe with its pages, ready to be put into a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltRecipe {
    /// The recipe's own id.
    pub id: ObjectId,
    /// The pages and, last, the recipe: a reader who finds the recipe finds what it refers to.
    pub objects: Vec<(ObjectKind, ObjectId, Vec<u8>)>,
}

/// Makes the recipe of a content, or nothing where none is needed: the empty content is not stored, and a content
/// of one chunk is found by the chunk's name.
pub fn build(content: ContentId, chunks: &[ChunkRef]) -> Option<BuiltRecipe> {
    if chunks.len() < 2 {
        return None;
    }
    let size = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
    Some(built(Method::Raw, content, size, chunks))
}

/// Makes the recipe of a content of `size` bytes that is rebuilt from what these chunks make.
pub fn build_rebuilt(content: ContentId, size: u64, plain: Plain, chunks: &[ChunkRef]) -> BuiltRecipe {
    built(Method::Rebuilt(plain), content, size, chunks)
}

fn built(method: Method, content: ContentId, size: u64, chunks: &[ChunkRef]) -> BuiltRecipe {
    let mut objects = Vec::new();
    let mut level = 0;
    let mut parts: Vec<Part> =
        chunks.iter().map(|chunk| Part { id: chunk.id, len: u64::from(chunk.len) }).collect();
    while let Some(above) = page(level, &parts, &mut objects) {
        parts = above;
        level += 1;
    }
    let recipe = Recipe { method, content, size, level, parts };
    let bytes = recipe.encode();
    let id = ObjectId::of(&bytes);
    objects.push((ObjectKind::Recipe, id, bytes));
    BuiltRecipe { id, objects }
}

/// Cuts the parts of one level into pages, and returns the parts of the level above; nothing where one page holds
/// them all.
fn page(
    level: u8,
    mut parts: &[Part],
    objects: &mut Vec<(ObjectKind, ObjectId, Vec<u8>)>,
) -> Option<Vec<Part>> {
    if page_len(level, parts) == parts.len() {
        return None;
    }
    let mut above = Vec::new();
    while !parts.is_empty() {
        let (of_page, rest) = parts.split_at(page_len(level, parts));
        let page = RecipePage { level, parts: of_page.to_vec() };
        let bytes = page.encode();
        let id = ObjectId::of(&bytes);
        above.push(Part { id, len: page.content_len() });
        objects.push((ObjectKind::RecipePage, id, bytes));
        parts = rest;
    }
    Some(above)
}

/// The number of parts of the first page.
///
/// A page that has to hold [`PAGE_PARTS_MIN`] parts before it may end keeps the tree low whatever the ids are: seven
/// levels are enough for two pebibytes even if every id asks for an end.
fn page_len(level: u8, parts: &[Part]) -> usize {
    let is_end = |part: &Part| level < LEVEL_MAX && part.id.as_bytes()[usize::from(level)] == 0;
    let page = &parts[..parts.len().min(PARTS_MAX)];
    let end = page.iter().enumerate().skip(PAGE_PARTS_MIN - 1).find(|(_, part)| is_end(part));
    end.map_or(page.len(), |(index, _)| index + 1)
}
