//! Contents: from a content's names to its bytes.
//!
//! The way from a content to its chunks is a recipe that has been proven, or is proven before it is gone. Where the
//! chunks are what a content is rebuilt from, its bytes come from a file that was rebuilt.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};

use super::Store;
use super::rebuilt::RebuiltFile;
use crate::catalogue::{Location, StoredRecipe};
use crate::chunk::ChunkRef;
use crate::domain::Domain;
use crate::error::{Fault, RecipeError, StoreError};
use crate::id::ContentId;
use crate::manifest::entry::Content;
use crate::object::ObjectKey;
use crate::recipe::{Method, Plain, Recipe, RecipeWalk, Step};

/// The number of chunks whose places are looked up at once.
const LOOK_AHEAD: usize = 128;

/// Which chunks a content is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaidOut {
    /// The chunks one after the other are the content.
    Chunks(Vec<ChunkRef>),
    /// The chunks one after the other are what it is rebuilt from.
    Rebuilt(Plain, Vec<ChunkRef>),
}

/// How a content is stored.
#[derive(Debug)]
enum Layout {
    Empty,
    Chunk(Location),
    Recipe(StoredRecipe, Recipe),
}

impl Store {
    /// How a content is laid out.
    pub async fn laid_out(&self, domain: &Domain, content: &Content) -> Result<LaidOut, StoreError> {
        let layout = self.layout(domain, content).await?;
        let plain = match &layout {
            Layout::Recipe(_, Recipe { method: Method::Rebuilt(plain), .. }) => Some(*plain),
            _ => None,
        };
        let range = 0..plain.map_or(content.size, |plain| plain.size());
        let mut walk = ContentWalk::of(domain, content, layout, range);
        let mut chunks = Vec::new();
        while let Some(chunk) = walk.next(self).await? {
            chunks.push(chunk);
        }
        Ok(match plain {
            Some(plain) => LaidOut::Rebuilt(plain, chunks),
            None => LaidOut::Chunks(chunks),
        })
    }

    /// Reads a part of a content, piece by piece. Every piece is verified, and the way from the content to its chunks
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
                    let reading = store.reading(&domain, &content, range).await?;
                    (store, reading)
                }
                ReadState::Reading(store, reading) => (store, reading),
            };
            let next = reading.next(&store).await?;
            Ok(next.map(|bytes| (bytes, ReadState::Reading(store, reading))))
        })
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
        let range = 0..decoded.stored_size();
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

    pub(super) async fn recipe(
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

    /// Begins to read a part of a content, by a recipe that has been proven.
    pub(super) async fn reading(
        &self,
        domain: &Domain,
        content: &Content,
        range: Range<u64>,
    ) -> Result<Reading, StoreError> {
        if range.start > range.end || range.end > content.size {
            return Err(StoreError::Range { start: range.start, end: range.end, len: content.size });
        }
        match self.layout(domain, content).await? {
            Layout::Recipe(stored, recipe) if let Method::Rebuilt(plain) = recipe.method => {
                let file = self.rebuilt(domain, stored, recipe, plain).await?;
                Ok(Reading::Rebuilt(file, range))
            }
            // Where it is has just been looked up.
            Layout::Chunk(location) if !range.is_empty() => {
                let mut walk = ContentWalk { range, ..ContentWalk::of_chunk(domain, content) };
                let located = walk.take_chunk().map(|chunk| (chunk, location));
                Ok(Reading::Chunks(ChunkReading { walk, located: located.into_iter().collect() }))
            }
            layout => Ok(Reading::Chunks(ChunkReading::new(ContentWalk::of(domain, content, layout, range)))),
        }
    }

    /// How a content is stored: by the way that takes the least to read, of those that are whole.
    async fn layout(&self, domain: &Domain, content: &Content) -> Result<Layout, StoreError> {
        if content.size == 0 {
            return Ok(Layout::Empty);
        }
        let key = ObjectKey::chunk(content.id.as_chunk());
        if let Some(location) = self.catalogue.locate(domain, &[key])?.pop().flatten()
            && u64::from(location.len) == content.size
        {
            return Ok(Layout::Chunk(location));
        }
        let mut failure = StoreError::AbsentContent { content: content.id, domain: domain.clone() };
        let (mut whole, mut to_rebuild) = (Vec::new(), Vec::new());
        let recipes = self.catalogue.recipes_of(domain, content.id)?;
        let is_one_of_many = recipes.len() > 1;
        for stored in recipes {
            match self.recipe(domain, content.id, stored).await {
                Ok(Recipe { method: Method::Rebuilt(_), .. }) => to_rebuild.push(stored),
                _ => whole.push(stored),
            }
        }
        for stored in whole.into_iter().chain(to_rebuild) {
            // Of what is no longer kept, a part may be left.
            if is_one_of_many && !self.has_all_of(domain, content.id, stored).await? {
                continue;
            }
            let mut judgements = Vec::new();
            let is_right = self.is_right(domain, content, stored, &mut judgements).await;
            self.catalogue.judge(domain, &judgements)?;
            match is_right {
                Ok(true) => {
                    return Ok(Layout::Recipe(stored, self.recipe(domain, content.id, stored).await?));
                }
                Ok(false) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Whether everything is there that a recipe leads to.
    async fn has_all_of(
        &self,
        domain: &Domain,
        content: ContentId,
        stored: StoredRecipe,
    ) -> Result<bool, StoreError> {
        match self.keys_of_recipe(domain, content, stored).await {
            Ok(keys) => Ok(self.locate(domain, &keys)?.iter().all(Option::is_some)),
            Err(error) if matches!(error.fault(), Fault::Absent | Fault::Corrupt) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The chunks of a part of a content, or of what it is rebuilt from, one after the other.
#[derive(Debug)]
pub(super) struct ContentWalk {
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
    pub(super) fn new(
        domain: &Domain,
        content: ContentId,
        stored: StoredRecipe,
        recipe: Recipe,
        range: Range<u64>,
    ) -> Self {
        let way = Way::Recipe(stored, Box::new(RecipeWalk::new(recipe, range.clone())));
        Self { domain: domain.clone(), content, range, way }
    }

    /// Goes through what a layout names.
    fn of(domain: &Domain, content: &Content, layout: Layout, range: Range<u64>) -> Self {
        match layout {
            Layout::Recipe(stored, recipe) => Self::new(domain, content.id, stored, recipe, range),
            Layout::Chunk(_) if !range.is_empty() => Self { range, ..Self::of_chunk(domain, content) },
            Layout::Chunk(_) | Layout::Empty => Self { range, ..Self::of_nothing(domain, content.id) },
        }
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

    /// The chunk of a content that is one.
    fn take_chunk(&mut self) -> Option<ChunkRef> {
        match &mut self.way {
            Way::Chunk(chunk) => chunk.take(),
            Way::Recipe(..) => None,
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

/// A part of a content that is being read.
pub(super) enum Reading {
    Chunks(ChunkReading),
    /// What is left of the part lies in a file.
    Rebuilt(Arc<RebuiltFile>, Range<u64>),
}

impl Reading {
    /// The next bytes; nothing when all came.
    pub(super) async fn next(&mut self, store: &Store) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Chunks(reading) => reading.next(store).await,
            Self::Rebuilt(_, range) if range.is_empty() => Ok(None),
            Self::Rebuilt(file, range) => {
                let bytes = file.read(range.clone())?;
                range.start += bytes.len() as u64;
                Ok(Some(bytes))
            }
        }
    }
}

/// Chunks that are read one after the other.
pub(super) struct ChunkReading {
    walk: ContentWalk,
    /// Chunks whose places have been looked up.
    located: VecDeque<(ChunkRef, Location)>,
}

impl ChunkReading {
    pub(super) fn new(walk: ContentWalk) -> Self {
        Self { walk, located: VecDeque::new() }
    }

    pub(super) async fn next(&mut self, store: &Store) -> Result<Option<Bytes>, StoreError> {
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
