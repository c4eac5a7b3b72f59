//! Which contents lie in a pack as a row of chunks, one behind the other.
//!
//! A publisher that reads a tree writes the chunks of a content so, save for those that were stored before: a row may
//! borrow such chunks from elsewhere. Only contents in rows are hashed while the pack is decoded. Then one content is
//! open at a time, each chunk belongs to one row, and a row borrows no more than it has, so that what the hashing costs is
//! bounded by the pack, whatever the recipes in it claim. Every other content is hashed when it is asked for.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::FrameObject;
use super::verify::Layout;
use crate::chunk::ChunkRef;
use crate::id::{ContentId, ObjectId};
use crate::object::VerifiedObject;
use crate::recipe::{Method, Recipe, RecipeWalk, Step};

/// The most bytes of recipes and recipe pages of one pack that are kept for finding rows. A pack of chunks of the usual
/// length has a fifth of it.
const KEPT_LEN_MAX: usize = 8 << 20;
/// The most bytes of recipe pages that are gone through: many recipes may share their pages.
const WALKED_LEN_MAX: usize = 16 << 20;
/// The most bytes of chunks that are borrowed, each counted once: they are all in memory at the same time.
const BORROWED_LEN_MAX: u64 = 8 << 20;

/// A content whose chunks lie one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The content, as its recipe says.
    pub(super) content: ContentId,
    /// Its number of bytes.
    pub(super) size: u64,
    /// The recipe.
    pub(super) recipe: ObjectId,
    /// Its own chunks, by their place among the chunks that were looked at.
    pub(super) chunks: Range<usize>,
    /// Chunks from elsewhere, in order.
    pub(super) borrowed: Vec<Borrowed>,
}

/// A chunk that a row needs and that does not lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Borrowed {
    /// The place of the own chunk that it stands before.
    pub(super) before: usize,
    /// The chunk.
    pub(super) id: ObjectId,
    /// Its number of bytes, as the recipe says.
    pub(super) len: u32,
}

/// The recipes of a pack and their pages.
#[derive(Debug, Default)]
pub(super) struct Recipes {
    listed: Vec<(ObjectId, Recipe)>,
    pages: HashMap<ObjectId, VerifiedObject>,
    pieces: HashSet<ObjectId>,
    kept_len: usize,
}

impl Recipes {
    /// Keeps a recipe or a recipe page, if there is room for it.
    pub(super) fn add(&mut self, object: &VerifiedObject, layout: Layout) {
        self.kept_len = self.kept_len.saturating_add(object.bytes().len());
        if self.kept_len > KEPT_LEN_MAX {
            return;
        }
        let (level, parts) = match &layout {
            Layout::Recipe(recipe) => (recipe.level, &recipe.parts),
            Layout::Page(page) => (page.level, &page.parts),
        };
        if level == 0 {
            self.pieces.extend(parts.iter().map(|part| part.id));
        }
        match layout {
            // What a content is rebuilt from is not the content.
            Layout::Recipe(recipe) if recipe.method != Method::Raw => {}
            Layout::Recipe(recipe) => self.listed.push((object.id(), recipe)),
            Layout::Page(_) => {
                self.pages.insert(object.id(), object.detached());
            }
        }
    }

    /// Whether a recipe names this chunk, so that it is hardly a content of its own.
    pub(super) fn is_piece(&self, chunk: &ObjectId) -> bool {
        self.pieces.contains(chunk)
    }

    /// The rows among these chunks, from the first to the last. No two share a chunk.
    pub(super) fn rows(&self, chunks: &[FrameObject]) -> Vec<Row> {
        if self.listed.is_empty() {
            return Vec::new();
        }
        let mut search = Search {
            recipes: self,
            places: chunks
                .iter()
                .enumerate()
                .map(|(place, chunk)| (chunk.key.id, (place, chunk.len)))
                .collect(),
            is_taken: vec![false; chunks.len()],
            walk_left: WALKED_LEN_MAX,
            borrowed: HashSet::new(),
            borrow_left: BORROWED_LEN_MAX,
        };
        let mut rows: Vec<Row> =
            self.listed.iter().filter_map(|(id, recipe)| search.row_of(*id, recipe)).collect();
        rows.sort_unstable_by_key(|row| row.chunks.start);
        rows
    }
}

struct Search<'a> {
    recipes: &'a Recipes,
    /// Where each chunk of the pack is, and its number of bytes.
    places: HashMap<ObjectId, (usize, u32)>,
    is_taken: Vec<bool>,
    walk_left: usize,
    borrowed: HashSet<ObjectId>,
    borrow_left: u64,
}

impl Search<'_> {
    /// The row of a recipe, if its chunks lie so. What is wrong with a recipe is not judged here.
    fn row_of(&mut self, id: ObjectId, recipe: &Recipe) -> Option<Row> {
        let chunks = self.chunks_of(recipe)?;
        // Chunks that are stored twice keep their first place, so the last place is one of a chunk that came with
        // this content. From there the row goes backwards.
        let mut start =
            chunks.iter().filter_map(|chunk| self.places.get(&chunk.id)).map(|place| place.0 + 1).max()?;
        let end = start;
        let mut borrowed = Vec::new();
        let mut own_len = 0;
        for chunk in chunks.iter().rev() {
            let found = self.places.get(&chunk.id);
            if found.is_some_and(|(_, len)| *len != chunk.len) {
                return None;
            }
            match found {
                Some((place, _)) if place + 1 == start && !self.is_taken[*place] => {
                    start = *place;
                    own_len += u64::from(chunk.len);
                }
                _ => borrowed.push(Borrowed { before: start, id: chunk.id, len: chunk.len }),
            }
        }
        borrowed.reverse();
        if start == end || own_len < recipe.size - own_len || !self.may_borrow(&borrowed) {
            return None;
        }
        self.is_taken[start..end].fill(true);
        Some(Row { content: recipe.content, size: recipe.size, recipe: id, chunks: start..end, borrowed })
    }

    fn chunks_of(&mut self, recipe: &Recipe) -> Option<Vec<ChunkRef>> {
        let mut walk = RecipeWalk::new(recipe.clone(), 0..recipe.size);
        let mut chunks = Vec::new();
        loop {
            match walk.step().ok()? {
                Step::Chunk(chunk) => chunks.push(chunk),
                Step::Page(page) => {
                    let page = self.recipes.pages.get(&page)?;
                    self.walk_left = self.walk_left.checked_sub(page.bytes().len())?;
                    walk.hand_over(page).ok()?;
                }
                Step::Done => return Some(chunks),
            }
        }
    }

    fn may_borrow(&mut self, chunks: &[Borrowed]) -> bool {
        let new: HashMap<ObjectId, u64> = (chunks.iter())
            .filter(|chunk| !self.borrowed.contains(&chunk.id))
            .map(|chunk| (chunk.id, u64::from(chunk.len)))
            .collect();
        let Some(left) = self.borrow_left.checked_sub(new.values().sum()) else { return false };
        self.borrow_left = left;
        self.borrowed.extend(new.into_keys());
        true
    }
}
