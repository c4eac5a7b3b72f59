//! Contents: from a content's names to its bytes.
//!
//! A recipe is believed only after its chunks have been hashed and are the content; the catalogue notes
//! that, so that it happens once. One that turns out wrong is forgotten: the content is then missing, and a
//! publisher is asked for it again, rather than that anybody could poison somebody else's content.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};

use super::Store;
use crate::catalogue::{Location, StoredRecipe, Timestamp};
use crate::chunk::ChunkRef;
use crate::domain::Domain;
use crate::error::{Fault, RecipeError, StoreError};
use crate::id::ContentId;
use crate::manifest::entry::Content;
use crate::object::ObjectKey;
use crate::recipe::{Recipe, RecipeWalk, Step};

/// The number of chunks whose places are looked up at once.
const LOOK_AHEAD: usize = 128;

/// How a content is stored.
#[derive(Debug)]
enum Layout {
    Empty,
    Chunk,
    Recipe(Recipe),
}

impl Store {
    /// The chunks of a content in order.
    pub async fn chunks_of(&self, domain: &Domain, content: &Content) -> Result<Vec<ChunkRef>, StoreError> {
        let mut walk = self.walk(domain, content, 0..content.size).await?;
        let mut chunks = Vec::new();
        while let Some(chunk) = walk.next(self).await? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// Reads a part of a content, chunk by chunk. Every chunk is verified, and the way from the content to its chunks
    /// has been.
    pub fn read_content(
        self: &Arc<Self>,
        domain: &Domain,
        content: Content,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + use<> {
        let start = (Arc::clone(self), domain.clone(), content, range);
        stream::try_unfold(ReadState::Start(start), |state| async move {
            let (store, mut reading) = match state {
                ReadState::Start((store, domain, content, range)) => {
                    let walk = store.walk(&domain, &content, range).await?;
                    (store, Reading::new(walk))
                }
                ReadState::Reading(store, reading) => (store, reading),
            };
            let next = reading.next(&store).await?;
            Ok(next.map(|bytes| (bytes, ReadState::Reading(store, reading))))
        })
    }

    /// Which of these contents cannot be read from the domain. Whoever is told that a content is there may rely on it
    /// as [`Catalogue::missing`](crate::catalogue::Catalogue::missing) says.
    pub async fn missing_contents(
        &self,
        domain: &Domain,
        contents: &[Content],
        now: Timestamp,
    ) -> Result<Vec<Content>, StoreError> {
        let stored: Vec<&Content> = contents.iter().filter(|content| content.size > 0).collect();
        let keys: Vec<ObjectKey> =
            stored.iter().map(|content| ObjectKey::chunk(content.id.as_chunk())).collect();
        let absent: HashSet<ObjectKey> = self.missing(domain, &keys, now)?.into_iter().collect();
        let locations = self.locate(domain, &keys)?;
        let mut missing = Vec::new();
        for ((content, key), location) in stored.into_iter().zip(keys).zip(locations) {
            let is_one_chunk = !absent.contains(&key)
                && location.is_some_and(|location| u64::from(location.len) == content.size);
            if !is_one_chunk && !self.has_in_pieces(domain, content, now).await? {
                missing.push(*content);
            }
        }
        Ok(missing)
    }

    /// Whether a proven recipe of the content is there with all that it leads to.
    async fn has_in_pieces(
        &self,
        domain: &Domain,
        content: &Content,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        for recipe in self.catalogue.recipes_of(domain, content.id)? {
            let keys = match self.keys_of_recipe(domain, content.id, recipe).await {
                Ok(keys) => keys,
                Err(error) if matches!(error.fault(), Fault::Absent | Fault::Corrupt) => continue,
                Err(error) => return Err(error),
            };
            if self.missing(domain, &keys, now)?.is_empty() && self.is_right(domain, content, recipe).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Everything that a recipe leads to, and the recipe itself.
    pub(crate) async fn keys_of_recipe(
        &self,
        domain: &Domain,
        content: ContentId,
        recipe: StoredRecipe,
    ) -> Result<Vec<ObjectKey>, StoreError> {
        let decoded = self.recipe(domain, content, recipe).await?;
        let mut keys = vec![ObjectKey::recipe(recipe.id)];
        let range = 0..decoded.size;
        let mut walk = RecipeWalk::new(decoded, range);
        loop {
            match walk.step().map_err(|error| wrong(content, recipe, error.into()))? {
                Step::Chunk(chunk) => keys.push(ObjectKey::chunk(chunk.id)),
                Step::Page(page) => {
                    let key = ObjectKey::recipe_page(page);
                    keys.push(key);
                    let page = self.object(domain, key).await?;
                    walk.hand_over(&page).map_err(|error| wrong(content, recipe, error.into()))?;
                }
                Step::Done => return Ok(keys),
            }
        }
    }

    /// Hashes what a recipe makes, once.
    async fn is_right(
        &self,
        domain: &Domain,
        content: &Content,
        stored: StoredRecipe,
    ) -> Result<bool, StoreError> {
        if stored.is_proven {
            return Ok(true);
        }
        let verdict = self.hash_recipe(domain, content, stored).await;
        let is_right = match verdict {
            Ok(()) => true,
            Err(StoreError::Recipe { .. }) => false,
            Err(error) => return Err(error),
        };
        self.catalogue.judge_recipe(domain, content.id, stored.id, is_right)?;
        Ok(is_right)
    }

    async fn hash_recipe(
        &self,
        domain: &Domain,
        content: &Content,
        stored: StoredRecipe,
    ) -> Result<(), StoreError> {
        let recipe = self.recipe(domain, content.id, stored).await?;
        if recipe.size != content.size {
            let source = RecipeError::Size { expected: content.size, found: recipe.size };
            return Err(wrong(content.id, stored, source));
        }
        let walk = ContentWalk::new(domain, content.id, stored, recipe, 0..content.size);
        let mut reading = Reading::new(walk);
        let mut hasher = blake3::Hasher::new();
        while let Some(bytes) = reading.next(self).await? {
            hasher.update(&bytes);
        }
        let found = ContentId::from_bytes(*hasher.finalize().as_bytes());
        if found == content.id { Ok(()) } else { Err(wrong(content.id, stored, RecipeError::Digest(found))) }
    }

    async fn recipe(
        &self,
        domain: &Domain,
        content: ContentId,
        stored: StoredRecipe,
    ) -> Result<Recipe, StoreError> {
        let object = self.object(domain, ObjectKey::recipe(stored.id)).await?;
        let recipe = Recipe::decode(object.bytes()).map_err(|error| wrong(content, stored, error.into()))?;
        if recipe.content == content {
            Ok(recipe)
        } else {
            Err(wrong(content, stored, RecipeError::OtherContent(recipe.content)))
        }
    }

    /// Begins to go through the chunks of a part of a content, by a recipe that has been proven.
    async fn walk(
        &self,
        domain: &Domain,
        content: &Content,
        range: Range<u64>,
    ) -> Result<ContentWalk, StoreError> {
        if range.start > range.end || range.end > content.size {
            return Err(StoreError::Range { start: range.start, end: range.end, len: content.size });
        }
        let (stored, layout) = self.layout(domain, content).await?;
        let mut walk = match (stored, layout) {
            (Some(stored), Layout::Recipe(recipe)) => {
                ContentWalk::new(domain, content.id, stored, recipe, range.clone())
            }
            (_, Layout::Chunk) if !range.is_empty() => ContentWalk::of_chunk(domain, content),
            _ => ContentWalk::of_nothing(domain, content.id),
        };
        walk.range = range;
        Ok(walk)
    }

    async fn layout(
        &self,
        domain: &Domain,
        content: &Content,
    ) -> Result<(Option<StoredRecipe>, Layout), StoreError> {
        if content.size == 0 {
            return Ok((None, Layout::Empty));
        }
        let key = ObjectKey::chunk(content.id.as_chunk());
        if let Some(location) = self.catalogue.locate(domain, &[key])?.pop().flatten()
            && u64::from(location.len) == content.size
        {
            return Ok((None, Layout::Chunk));
        }
        let mut failure = StoreError::AbsentContent { content: content.id, domain: domain.clone() };
        for stored in self.catalogue.recipes_of(domain, content.id)? {
            match self.is_right(domain, content, stored).await {
                Ok(true) => {
                    let recipe = self.recipe(domain, content.id, stored).await?;
                    return Ok((Some(stored), Layout::Recipe(recipe)));
                }
                Ok(false) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// The chunks of a part of a content, one after the other.
#[derive(Debug)]
struct ContentWalk {
    domain: Domain,
    content: ContentId,
    range: Range<u64>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Chunk(Option<ChunkRef>),
    Recipe(StoredRecipe, Box<RecipeWalk>),
}

impl ContentWalk {
    fn new(
        domain: &Domain,
        content: ContentId,
        stored: StoredRecipe,
        recipe: Recipe,
        range: Range<u64>,
    ) -> Self {
        let way = Way::Recipe(stored, Box::new(RecipeWalk::new(recipe, range.clone())));
        Self { domain: domain.clone(), content, range, way }
    }

    fn of_chunk(domain: &Domain, content: &Content) -> Self {
        let len = u32::try_from(content.size).expect("a content of one chunk has at most 1 MiB");
        let chunk = ChunkRef { offset: 0, id: content.id.as_chunk(), len };
        Self {
            domain: domain.clone(),
            content: content.id,
            range: 0..content.size,
            way: Way::Chunk(Some(chunk)),
        }
    }

    fn of_nothing(domain: &Domain, content: ContentId) -> Self {
        Self { domain: domain.clone(), content, range: 0..0, way: Way::Chunk(None) }
    }

    async fn next(&mut self, store: &Store) -> Result<Option<ChunkRef>, StoreError> {
        let (stored, walk) = match &mut self.way {
            Way::Chunk(chunk) => return Ok(chunk.take()),
            Way::Recipe(stored, walk) => (*stored, walk),
        };
        loop {
            match walk.step().map_err(|error| wrong(self.content, stored, error.into()))? {
                Step::Chunk(chunk) => return Ok(Some(chunk)),
                Step::Page(page) => {
                    let page = store.object(&self.domain, ObjectKey::recipe_page(page)).await?;
                    walk.hand_over(&page).map_err(|error| wrong(self.content, stored, error.into()))?;
                }
                Step::Done => return Ok(None),
            }
        }
    }

    fn check_length(&self, chunk: &ChunkRef, bytes: &Bytes) -> Result<(), StoreError> {
        match &self.way {
            Way::Chunk(_) => Ok(()),
            Way::Recipe(stored, _) => check_length(self.content, *stored, chunk, bytes),
        }
    }
}

enum ReadState {
    Start((Arc<Store>, Domain, Content, Range<u64>)),
    Reading(Arc<Store>, Reading),
}

struct Reading {
    walk: ContentWalk,
    /// Chunks whose places have been looked up.
    located: VecDeque<(ChunkRef, Location)>,
}

impl Reading {
    fn new(walk: ContentWalk) -> Self {
        Self { walk, located: VecDeque::new() }
    }

    async fn next(&mut self, store: &Store) -> Result<Option<Bytes>, StoreError> {
        if self.located.is_empty() {
            self.look_ahead(store).await?;
        }
        let Some((chunk, location)) = self.located.pop_front() else { return Ok(None) };
        let object = store.object_at(ObjectKey::chunk(chunk.id), &location).await?;
        self.walk.check_length(&chunk, object.bytes())?;
        let (start, end) = (chunk.offset, chunk.offset + u64::from(chunk.len));
        let range = &self.walk.range;
        let within = |at: u64| usize::try_from(at - start).expect("a place in a chunk is below 1 MiB");
        Ok(Some(object.bytes().slice(within(range.start.max(start))..within(range.end.min(end)))))
    }

    async fn look_ahead(&mut self, store: &Store) -> Result<(), StoreError> {
        let mut chunks = Vec::new();
        while chunks.len() < LOOK_AHEAD {
            let Some(chunk) = self.walk.next(store).await? else { break };
            chunks.push(chunk);
        }
        let keys: Vec<ObjectKey> = chunks.iter().map(|chunk| ObjectKey::chunk(chunk.id)).collect();
        let locations = store.locate(&self.walk.domain, &keys)?;
        for ((chunk, key), location) in chunks.into_iter().zip(keys).zip(locations) {
            let domain = &self.walk.domain;
            let location = location.ok_or_else(|| StoreError::Absent { key, domain: domain.clone() })?;
            self.located.push_back((chunk, location));
        }
        Ok(())
    }
}

fn check_length(
    content: ContentId,
    stored: StoredRecipe,
    chunk: &ChunkRef,
    bytes: &Bytes,
) -> Result<(), StoreError> {
    if bytes.len() == chunk.len as usize {
        return Ok(());
    }
    let (expected, found) = (u64::from(chunk.len), bytes.len() as u64);
    let source = RecipeError::ChunkLength { chunk: ObjectKey::chunk(chunk.id), expected, found };
    Err(wrong(content, stored, source))
}

fn wrong(content: ContentId, stored: StoredRecipe, source: RecipeError) -> StoreError {
    StoreError::Recipe { content, recipe: stored.id, source: Box::new(source) }
}
