//! Whether contents can be read, and what they are called: what hashing finds out about them, once.
//!
//! A recipe is believed only after what it makes has been hashed and is the content; the catalogue notes that. One that
//! turns out wrong is forgotten: the content is then missing, and a publisher is asked for it again, rather than that
//! anybody could poison somebody else's content. Whoever hashes a content finds both of its names, so that it is not
//! read a second time for the other one.

use std::collections::HashSet;

use super::Store;
use super::contents::{ChunkReading, ContentWalk, Reading};
use crate::catalogue::{Judgement, StoredRecipe, Timestamp, Verdict};
use crate::content::BlobHasher;
use crate::domain::Domain;
use crate::error::{Fault, StoreError};
use crate::id::{BlobId, ContentId};
use crate::manifest::entry::Content;
use crate::object::ObjectKey;
use crate::recipe::{Method, Recipe};

impl Store {
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
        let mut judgements = Vec::new();
        for ((content, key), location) in stored.into_iter().zip(keys).zip(locations) {
            let is_one_chunk = !absent.contains(&key)
                && location.is_some_and(|location| u64::from(location.len) == content.size);
            if !is_one_chunk && !self.has_in_pieces(domain, content, now, &mut judgements).await? {
                missing.push(*content);
            }
        }
        self.catalogue.judge(domain, &judgements)?;
        Ok(missing)
    }

    /// What git calls each of these contents, which the domain has with these sizes.
    pub async fn blob_ids(&self, domain: &Domain, contents: &[Content]) -> Result<Vec<BlobId>, StoreError> {
        let known = self.catalogue.blobs_of(domain, contents.iter().map(|content| content.id))?;
        let mut ids = Vec::with_capacity(contents.len());
        let mut found = Vec::new();
        for (content, known) in contents.iter().zip(known) {
            ids.push(match known {
                Some(blob) => blob,
                // The bytes of an empty content are not looked for by its id, so nothing is noted under that.
                None if content.size == 0 => BlobHasher::new(0).finish().expect("no bytes are no bytes"),
                None => {
                    let reading = self.reading(domain, content, 0..content.size).await?;
                    let (_, blob) = self.hash(reading, content.size).await?;
                    found.push((content.id, blob));
                    blob
                }
            });
        }
        self.catalogue.note_blobs(domain, found)?;
        Ok(ids)
    }

    /// Whether a recipe makes the content, found out by hashing where nobody has done that yet.
    pub(super) async fn is_right(
        &self,
        domain: &Domain,
        content: &Content,
        stored: StoredRecipe,
        judgements: &mut Vec<Judgement>,
    ) -> Result<bool, StoreError> {
        let judge = |verdict| Judgement { content: content.id, recipe: stored.id, verdict };
        let recipe = match self.recipe(domain, content.id, stored).await {
            Ok(recipe) => recipe,
            Err(StoreError::Recipe { .. }) => {
                judgements.push(judge(Verdict::Wrong));
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        // The size is what the asker says, and nothing against the recipe.
        if recipe.size != content.size {
            return Ok(false);
        }
        if stored.is_proven {
            return Ok(true);
        }
        let verdict = self.verdict(domain, content.id, stored, recipe).await?;
        judgements.push(judge(verdict));
        Ok(verdict != Verdict::Wrong)
    }

    async fn verdict(
        &self,
        domain: &Domain,
        content: ContentId,
        stored: StoredRecipe,
        recipe: Recipe,
    ) -> Result<Verdict, StoreError> {
        let size = recipe.size;
        let reading = match recipe.method {
            Method::Raw => {
                let walk = ContentWalk::new(domain, content, stored, recipe, 0..size);
                Ok(Reading::Chunks(ChunkReading::new(walk)))
            }
            Method::Rebuilt(plain) => {
                self.rebuilt(domain, stored, recipe, plain).await.map(|file| Reading::Rebuilt(file, 0..size))
            }
        };
        let hashed = match reading {
            Ok(reading) => self.hash(reading, size).await,
            Err(error) => Err(error),
        };
        match hashed {
            Ok((found, blob)) if found == content => Ok(Verdict::Right(blob)),
            Ok(_) | Err(StoreError::Recipe { .. }) => Ok(Verdict::Wrong),
            Err(error) => Err(error),
        }
    }

    /// Whether a proven recipe of the content is there with all that it leads to.
    async fn has_in_pieces(
        &self,
        domain: &Domain,
        content: &Content,
        now: Timestamp,
        judgements: &mut Vec<Judgement>,
    ) -> Result<bool, StoreError> {
        for recipe in self.catalogue.recipes_of(domain, content.id)? {
            let keys = match self.keys_of_recipe(domain, content.id, recipe).await {
                Ok(keys) => keys,
                Err(error) if matches!(error.fault(), Fault::Absent | Fault::Corrupt) => continue,
                Err(error) => return Err(error),
            };
            if self.missing(domain, &keys, now)?.is_empty()
                && self.is_right(domain, content, recipe, judgements).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Both names of the `size` bytes that are read.
    async fn hash(&self, mut reading: Reading, size: u64) -> Result<(ContentId, BlobId), StoreError> {
        let mut blob = BlobHasher::new(size);
        let mut whole = blake3::Hasher::new();
        while let Some(bytes) = reading.next(self).await? {
            whole.update(&bytes);
            blob.update(&bytes);
        }
        let blob = blob.finish().expect("the lengths along a walk add up, and those of chunks are compared");
        Ok((ContentId::from_bytes(*whole.finalize().as_bytes()), blob))
    }
}

#[cfg(test)]
mod tests;
