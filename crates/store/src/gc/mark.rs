//! Which objects the roots need.

use std::collections::{BTreeMap, HashSet};

use crate::Store;
use crate::catalogue::StoredRecipe;
use crate::codec::DecodeError;
use crate::domain::Domain;
use crate::error::{Fault, StoreError};
use crate::id::{ContentId, ObjectId};
use crate::manifest::entry::Content;
use crate::object::ObjectKey;

/// What a manifest page refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reference {
    /// Another page.
    Page(ObjectId),
    /// A content.
    Content(Content),
    /// A content of which the name is all that is known. It is kept if it is there, and not missed if it is not: nobody
    /// could have looked whether it is when the name was accepted.
    Named(ContentId),
}

/// Something that is to be kept with all that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Where it is.
    pub domain: Domain,
    /// The root page of a manifest, or a content that stands alone.
    pub reference: Reference,
}

/// The objects that are needed, by domain.
///
/// Eight bytes of each name are kept: two objects that share them make garbage look needed, never the other way round.
#[derive(Debug, Default)]
pub(super) struct Live {
    objects: BTreeMap<Domain, HashSet<u64>>,
}

impl Live {
    pub(super) fn contains(&self, domain: &Domain, key: &ObjectKey) -> bool {
        self.objects.get(domain).is_some_and(|objects| objects.contains(&short(key)))
    }
}

fn short(key: &ObjectKey) -> u64 {
    let bytes = key.id.as_bytes();
    let first = bytes.first_chunk().expect("a digest has 32 bytes");
    u64::from_le_bytes(*first) ^ u64::from(key.kind.code())
}

/// Goes from the roots to everything that they need. Something needed that is not there is an error: what lies
/// below it is not known, so nothing may be collected before the store is repaired.
pub(super) async fn mark(
    store: &Store,
    roots: &[Root],
    children: impl Fn(&[u8]) -> Result<Vec<Reference>, DecodeError>,
) -> Result<Live, StoreError> {
    let mut by_domain: BTreeMap<&Domain, Vec<Reference>> = BTreeMap::new();
    for root in roots {
        by_domain.entry(&root.domain).or_default().push(root.reference);
    }
    let mut live = Live::default();
    for (domain, mut references) in by_domain {
        let mut walk =
            Walk { store, domain, pages: HashSet::new(), contents: HashSet::new(), live: HashSet::new() };
        while let Some(reference) = references.pop() {
            match reference {
                Reference::Content(content) => walk.content(&content).await?,
                Reference::Named(content) => walk.named(content).await?,
                Reference::Page(page) => {
                    if walk.pages.insert(page) {
                        walk.live.insert(short(&ObjectKey::page(page)));
                        let object = store.object(domain, ObjectKey::page(page)).await?;
                        let found =
                            children(object.bytes()).map_err(|source| StoreError::Page { page, source })?;
                        references.extend(found);
                    }
                }
            }
        }
        live.objects.insert(domain.clone(), walk.live);
    }
    Ok(live)
}

struct Walk<'a> {
    store: &'a Store,
    domain: &'a Domain,
    pages: HashSet<ObjectId>,
    contents: HashSet<ContentId>,
    live: HashSet<u64>,
}

impl Walk<'_> {
    async fn content(&mut self, content: &Content) -> Result<(), StoreError> {
        if content.size == 0 || !self.contents.insert(content.id) {
            return Ok(());
        }
        if self.preferred(content.id).await? {
            return Ok(());
        }
        let key = ObjectKey::chunk(content.id.as_chunk());
        if let Some(location) = self.store.locate(self.domain, &[key])?.pop().flatten()
            && u64::from(location.len) == content.size
        {
            self.live.insert(short(&key));
            return Ok(());
        }
        if self.recipes(content.id).await? {
            Ok(())
        } else {
            Err(StoreError::AbsentContent { content: content.id, domain: self.domain.clone() })
        }
    }

    /// Of a content whose size is not known, both ways in which it may be stored are kept.
    async fn named(&mut self, content: ContentId) -> Result<(), StoreError> {
        if self.preferred(content).await? {
            return Ok(());
        }
        let key = ObjectKey::chunk(content.as_chunk());
        if self.store.locate(self.domain, &[key])?.pop().flatten().is_some() {
            self.live.insert(short(&key));
        }
        self.recipes(content).await?;
        Ok(())
    }

    /// Keeps the preferred recipe of a content and all that it leads to, and nothing else of the content; false if
    /// there is none, or it is not whole.
    async fn preferred(&mut self, content: ContentId) -> Result<bool, StoreError> {
        let recipes = self.store.catalogue().recipes_of(self.domain, content)?;
        match recipes.first().filter(|recipe| recipe.is_preferred) {
            Some(recipe) => self.recipe(content, *recipe).await,
            None => Ok(false),
        }
    }

    /// Keeps the recipes of a content and all that they lead to; false if none of them is whole.
    ///
    /// Until a recipe has been proven, any of them may be the one that is right. Those that are proven may be of
    /// different worth to who reads, which is not judged here.
    async fn recipes(&mut self, content: ContentId) -> Result<bool, StoreError> {
        let mut is_found = false;
        for recipe in self.store.catalogue().recipes_of(self.domain, content)? {
            is_found |= self.recipe(content, recipe).await?;
        }
        Ok(is_found)
    }

    /// Keeps a recipe and all that it leads to; false if it is not whole.
    async fn recipe(&mut self, content: ContentId, recipe: StoredRecipe) -> Result<bool, StoreError> {
        let keys = match self.store.keys_of_recipe(self.domain, content, recipe).await {
            Ok(keys) => keys,
            Err(error) if matches!(error.fault(), Fault::Absent | Fault::Corrupt) => return Ok(false),
            Err(error) => return Err(error),
        };
        let is_whole = self.store.locate(self.domain, &keys)?.iter().all(Option::is_some);
        if is_whole {
            self.live.extend(keys.iter().map(short));
        }
        Ok(is_whole)
    }
}
