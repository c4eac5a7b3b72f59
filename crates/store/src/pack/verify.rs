//! Accepting a pack that came from outside: every byte of it is accounted for by a digest that has been computed.

use bytes::Bytes;
use rayon::prelude::*;

use super::{Frame, PackError, PackIndex, decode_frame};
use crate::id::{ContentId, ObjectId, PackId};
use crate::object::{ObjectKind, VerifiedObject};
use crate::recipe::{Recipe, RecipePage};

/// Says that a recipe is one of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecipeOf {
    /// The content.
    pub content: ContentId,
    /// The recipe.
    pub recipe: ObjectId,
    /// Whether the recipe was made here, from the content that it makes.
    pub is_proven: bool,
}

/// A pack whose every object has been compared with its name.
#[derive(Debug, Clone)]
pub struct VerifiedPack {
    id: PackId,
    bytes: Bytes,
    index: PackIndex,
    recipes: Vec<RecipeOf>,
}

impl VerifiedPack {
    /// Decodes every frame, hashes every object, and reads every recipe.
    pub fn verify(bytes: Bytes) -> Result<Self, PackError> {
        let index = PackIndex::of_pack(&bytes)?;
        let recipes: Vec<Vec<RecipeOf>> = index
            .frames()
            .par_iter()
            .map(|frame| recipes_of(&decode_frame(frame, &stored(frame, &bytes))?))
            .collect::<Result<_, PackError>>()?;
        let id = PackId::from_bytes(*blake3::hash(&bytes).as_bytes());
        Ok(Self { id, bytes, index, recipes: recipes.concat() })
    }

    /// A pack that was made here.
    pub(super) fn own(id: PackId, bytes: Bytes, index: PackIndex, recipes: Vec<RecipeOf>) -> Self {
        Self { id, bytes, index, recipes }
    }

    /// The pack's name.
    pub const fn id(&self) -> PackId {
        self.id
    }

    /// The whole file.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What it holds.
    pub const fn index(&self) -> &PackIndex {
        &self.index
    }

    /// The recipes in it, by the contents that they say they make. Whether they do is found out by hashing, unless
    /// they were made here.
    pub fn recipes(&self) -> &[RecipeOf] {
        &self.recipes
    }
}

fn stored(frame: &Frame, pack: &Bytes) -> Bytes {
    // A strictly read index names frames that fill the pack from its start to the index.
    pack.slice(frame.offset as usize..frame.offset as usize + frame.stored as usize)
}

fn recipes_of(objects: &[VerifiedObject]) -> Result<Vec<RecipeOf>, PackError> {
    let mut recipes = Vec::new();
    for object in objects {
        let malformed = |source| PackError::Recipe { key: object.key(), source };
        match object.kind() {
            ObjectKind::Recipe => {
                let recipe = Recipe::decode(object.bytes()).map_err(malformed)?;
                recipes.push(RecipeOf { content: recipe.content, recipe: object.id(), is_proven: false });
            }
            ObjectKind::RecipePage => {
                RecipePage::decode(object.bytes()).map_err(malformed)?;
            }
            ObjectKind::Chunk | ObjectKind::Page => {}
        }
    }
    Ok(recipes)
}
