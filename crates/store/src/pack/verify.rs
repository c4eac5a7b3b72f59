//! Accepting a pack that came from outside: every byte of it is accounted for by a digest that has been computed.

use std::ops::Range;

use bytes::Bytes;
use rayon::prelude::*;

use super::{Frame, PackError, PackIndex, decode_frame};
use crate::id::{ContentId, ObjectId, PackId};
use crate::manifest::entry::Content;
use crate::object::{ObjectKind, VerifiedObject};
use crate::recipe::{Method, Recipe, RecipePage};

/// Says that a recipe is one of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecipeOf {
    /// The content.
    pub content: ContentId,
    /// The recipe.
    pub recipe: ObjectId,
    /// Whether what it makes has been hashed and is the content.
    pub is_proven: bool,
    /// Whether the content is rebuilt from a plain stream, which takes work that its size does not tell.
    pub is_rebuilt: bool,
}

impl RecipeOf {
    /// A recipe by its name.
    pub fn new(recipe: &Recipe, id: ObjectId, is_proven: bool) -> Self {
        let is_rebuilt = recipe.method != Method::Raw;
        Self { content: recipe.content, recipe: id, is_proven, is_rebuilt }
    }
}

/// A pack whose every object has been compared with its name.
#[derive(Debug, Clone)]
pub struct VerifiedPack {
    pub(super) id: PackId,
    pub(super) bytes: Bytes,
    pub(super) index: PackIndex,
    pub(super) recipes: Vec<RecipeOf>,
    pub(super) contents: Vec<Content>,
}

impl VerifiedPack {
    /// Decodes every frame, hashes every object, and reads every recipe.
    pub fn verify(bytes: Bytes) -> Result<Self, PackError> {
        let index = PackIndex::of_pack(&bytes)?;
        let recipes: Vec<Vec<RecipeOf>> = index
            .frames()
            .par_iter()
            .map(|frame| recipes_of(&decode_frame(frame, &bytes.slice(range_of(frame)))?, |_, _| ()))
            .collect::<Result<_, PackError>>()?;
        let id = PackId::from_bytes(*blake3::hash(&bytes).as_bytes());
        Ok(Self { id, bytes, index, recipes: recipes.concat(), contents: Vec::new() })
    }

    /// A pack that was made here.
    pub(super) fn own(id: PackId, bytes: Bytes, index: PackIndex, recipes: Vec<RecipeOf>) -> Self {
        Self { id, bytes, index, recipes, contents: Vec::new() }
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

    /// The recipes in it, by the contents that they say they make. Whether those that are not proven do is found out
    /// by hashing.
    pub fn recipes(&self) -> &[RecipeOf] {
        &self.recipes
    }

    /// Contents that lie in it as a whole, as far as they were named: all their names are right.
    pub fn contents(&self) -> &[Content] {
        &self.contents
    }
}

/// What says how a content is stored.
pub(super) enum Layout {
    Recipe(Recipe),
    Page(RecipePage),
}

/// The bytes of a pack that hold a frame: a strictly read index names frames that fill the pack up to the index.
pub(super) fn range_of(frame: &Frame) -> Range<usize> {
    frame.offset as usize..frame.offset as usize + frame.stored as usize
}

/// Reads the recipes and recipe pages among these objects, shows each of them, and lists the recipes.
pub(super) fn recipes_of(
    objects: &[VerifiedObject],
    mut show: impl FnMut(&VerifiedObject, Layout),
) -> Result<Vec<RecipeOf>, PackError> {
    let mut recipes = Vec::new();
    for object in objects {
        let malformed = |source| PackError::Recipe { key: object.key(), source };
        match object.kind() {
            ObjectKind::Recipe => {
                let recipe = Recipe::decode(object.bytes()).map_err(malformed)?;
                recipes.push(RecipeOf::new(&recipe, object.id(), false));
                show(object, Layout::Recipe(recipe));
            }
            ObjectKind::RecipePage => {
                show(object, Layout::Page(RecipePage::decode(object.bytes()).map_err(malformed)?));
            }
            ObjectKind::Chunk | ObjectKind::Page => {}
        }
    }
    Ok(recipes)
}
