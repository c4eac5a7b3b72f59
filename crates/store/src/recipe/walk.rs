//! From a recipe to the chunks of a content, or of a part of it.
//!
//! The walk asks for the pages that it needs and does no reading itself. It keeps one page of each level, so that
//! its memory does not grow with the content, and it bounds the number of chunks by the size of the content: a small
//! page that is named a thousand times on each level must not become a list without end.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Method, Part, Recipe, RecipePage};
use crate::chunk::ChunkRef;
use crate::codec::DecodeError;
use crate::id::ObjectId;
use crate::object::{ObjectKey, VerifiedObject};

/// The fewest bytes that the chunks of a content have on average.
const CHUNK_LEN_MEAN_MIN: u64 = 4096;
/// The same for what a content is rebuilt from: there each file that is not tiny has a chunk of its own.
const PLAIN_CHUNK_LEN_MEAN_MIN: u64 = 1024;

/// Why a recipe does not lead to chunks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// A page is not well formed.
    #[error("recipe page {page} is corrupt")]
    Page {
        /// The page.
        page: ObjectId,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A page was handed over that was not asked for.
    #[error("{found} was handed over where another object was asked for")]
    NotAsked {
        /// What was handed over.
        found: ObjectKey,
    },
    /// A page stands where its level does not belong.
    #[error("recipe page {page} has level {found} where level {expected} belongs")]
    Level {
        /// The page.
        page: ObjectId,
        /// The level that follows from its place.
        expected: u8,
        /// The level that it has.
        found: u8,
    },
    /// The parts of a page do not add up to what its parent says.
    #[error("recipe page {page} stands for {found} bytes where {expected} were announced")]
    Sum {
        /// The page.
        page: ObjectId,
        /// What its parent says.
        expected: u64,
        /// The sum of its parts.
        found: u64,
    },
    /// There are more chunks than a content of this size may have.
    #[error("the recipe cuts its content into more than {limit} chunks")]
    TooManyChunks {
        /// The largest number allowed.
        limit: u64,
    },
}

/// What the walk comes to next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A chunk of the range.
    Chunk(ChunkRef),
    /// A recipe page that has to be handed over before the walk goes on.
    Page(ObjectId),
    /// The range has been covered.
    Done,
}

/// Goes through the chunks that overlap a range of a content, or of what it is rebuilt from.
#[derive(Debug)]
pub struct RecipeWalk {
    range: Range<u64>,
    /// The lists that are being gone through, the lowest level last.
    lists: Vec<List>,
    offset: u64,
    asked: Option<Part>,
    chunks_left: u64,
    chunks_max: u64,
}

#[derive(Debug)]
struct List {
    level: u8,
    parts: VecDeque<Part>,
}

impl RecipeWalk {
    /// Begins at the first chunk that overlaps `range`.
    pub fn new(recipe: Recipe, range: Range<u64>) -> Self {
        let least = match recipe.method {
            Method::Raw => CHUNK_LEN_MEAN_MIN,
            Method::Rebuilt(_) => PLAIN_CHUNK_LEN_MEAN_MIN,
        };
        let chunks_max = recipe.stored_size().div_ceil(least);
        let lists = vec![List { level: recipe.level, parts: recipe.parts.into() }];
        Self { range, lists, offset: 0, asked: None, chunks_left: chunks_max, chunks_max }
    }

    /// What comes next.
    pub fn step(&mut self) -> Result<Step, WalkError> {
        if let Some(part) = self.asked {
            return Ok(Step::Page(part.id));
        }
        while let Some(list) = self.lists.last_mut() {
            let level = list.level;
            let Some(part) = list.parts.pop_front() else {
                self.lists.pop();
                continue;
            };
            if self.offset >= self.range.end {
                break;
            }
            let end = self.offset.saturating_add(part.len);
            if end <= self.range.start {
                self.offset = end;
            } else if level == 0 {
                return self.chunk(part).map(Step::Chunk);
            } else {
                self.asked = Some(part);
                return Ok(Step::Page(part.id));
            }
        }
        self.lists.clear();
        Ok(Step::Done)
    }

    /// Takes the page that was asked for.
    pub fn hand_over(&mut self, object: &VerifiedObject) -> Result<(), WalkError> {
        let part = match self.asked {
            Some(part) if object.key() == ObjectKey::recipe_page(part.id) => part,
            _ => return Err(WalkError::NotAsked { found: object.key() }),
        };
        let page = part.id;
        let decoded =
            RecipePage::decode(object.bytes()).map_err(|source| WalkError::Page { page, source })?;
        let expected = self.lists.last().map_or(0, |list| list.level - 1);
        if decoded.level != expected {
            return Err(WalkError::Level { page, expected, found: decoded.level });
        }
        if decoded.content_len() != part.len {
            return Err(WalkError::Sum { page, expected: part.len, found: decoded.content_len() });
        }
        self.asked = None;
        self.lists.push(List { level: decoded.level, parts: decoded.parts.into() });
        Ok(())
    }

    fn chunk(&mut self, part: Part) -> Result<ChunkRef, WalkError> {
        self.chunks_left =
            self.chunks_left.checked_sub(1).ok_or(WalkError::TooManyChunks { limit: self.chunks_max })?;
        let len = u32::try_from(part.len).expect("a recipe's chunks have at most 1 MiB");
        let chunk = ChunkRef { offset: self.offset, id: part.id, len };
        self.offset += part.len;
        Ok(chunk)
    }
}

/// The chunks of a content, where all pages are at hand.
pub fn chunks<E: From<WalkError>>(
    recipe: Recipe,
    mut page: impl FnMut(ObjectId) -> Result<VerifiedObject, E>,
) -> Result<Vec<ChunkRef>, E> {
    let range = 0..recipe.stored_size();
    let mut walk = RecipeWalk::new(recipe, range);
    let mut found = Vec::new();
    loop {
        match walk.step()? {
            Step::Chunk(chunk) => found.push(chunk),
            Step::Page(id) => walk.hand_over(&page(id)?)?,
            Step::Done => return Ok(found),
        }
    }
}
