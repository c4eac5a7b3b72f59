//! From lost objects to the contents that need them.

use std::collections::BTreeSet;

use crate::Store;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::manifest::entry::Content;
use crate::object::ObjectKey;
use crate::recipe::{Recipe, RecipeWalk, Step};

/// A content that cannot be read as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffectedContent {
    /// The content.
    pub content: Content,
    /// What it lacks. Where a recipe or recipe page is lost, what lies below that is not known.
    pub lacks: Vec<ObjectKey>,
}

/// Which of these contents need objects that are lost.
///
/// The caller goes through the manifests and knows the paths; this says which of their contents are meant.
pub async fn affected_contents(
    store: &Store,
    domain: &Domain,
    lost: &BTreeSet<ObjectKey>,
    contents: &[Content],
) -> Result<Vec<AffectedContent>, StoreError> {
    let mut affected = Vec::new();
    for content in contents.iter().filter(|content| content.size > 0) {
        let lacks = lacks(store, domain, lost, content).await?;
        if !lacks.is_empty() {
            affected.push(AffectedContent { content: *content, lacks });
        }
    }
    Ok(affected)
}

/// What the content lacks by the way that lacks least: one that lacks nothing is enough.
async fn lacks(
    store: &Store,
    domain: &Domain,
    lost: &BTreeSet<ObjectKey>,
    content: &Content,
) -> Result<Vec<ObjectKey>, StoreError> {
    let chunk = ObjectKey::chunk(content.id.as_chunk());
    let is_one_chunk = store.locate(domain, &[chunk])?.pop().flatten().is_some();
    let mut ways = Vec::new();
    if is_one_chunk || lost.contains(&chunk) {
        ways.push(if lost.contains(&chunk) { vec![chunk] } else { Vec::new() });
    }
    for recipe in store.catalogue().recipes_of(domain, content.id)? {
        ways.push(lacks_of_recipe(store, domain, lost, ObjectKey::recipe(recipe.id)).await?);
    }
    // A content that nothing is known of is not there at all; its one-chunk name stands for it.
    Ok(ways.into_iter().min_by_key(Vec::len).unwrap_or_else(|| vec![chunk]))
}

async fn lacks_of_recipe(
    store: &Store,
    domain: &Domain,
    lost: &BTreeSet<ObjectKey>,
    recipe: ObjectKey,
) -> Result<Vec<ObjectKey>, StoreError> {
    if lost.contains(&recipe) {
        return Ok(vec![recipe]);
    }
    let object = store.object(domain, recipe).await?;
    let Ok(decoded) = Recipe::decode(object.bytes()) else { return Ok(vec![recipe]) };
    let range = 0..decoded.stored_size();
    let mut walk = RecipeWalk::new(decoded, range);
    let mut lacks = Vec::new();
    loop {
        match walk.step() {
            Ok(Step::Chunk(chunk)) => {
                let key = ObjectKey::chunk(chunk.id);
                if lost.contains(&key) {
                    lacks.push(key);
                }
            }
            Ok(Step::Page(page)) => {
                let key = ObjectKey::recipe_page(page);
                if lost.contains(&key) {
                    lacks.push(key);
                    return Ok(lacks);
                }
                let page = store.object(domain, key).await?;
                if walk.hand_over(&page).is_err() {
                    lacks.push(key);
                    return Ok(lacks);
                }
            }
            Ok(Step::Done) => return Ok(lacks),
            Err(_) => {
                lacks.push(recipe);
                return Ok(lacks);
            }
        }
    }
}
