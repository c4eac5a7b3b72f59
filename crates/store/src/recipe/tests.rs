use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::chunk::ChunkRef;
use crate::content::cut_content;
use crate::object::{ObjectKey, VerifiedObject};
use crate::test_data::noise;

fn made_up_chunks(seed: u64, count: usize) -> Vec<ChunkRef> {
    let mut offset = 0;
    noise(seed, 33 * count)
        .chunks_exact(33)
        .map(|bytes| {
            let len = 8192 + 256 * u32::from(bytes[32]);
            let id = ObjectId::from_bytes(*bytes.first_chunk().unwrap());
            let chunk = ChunkRef { offset, id, len };
            offset += u64::from(len);
            chunk
        })
        .collect()
}

type Pages = HashMap<ObjectId, VerifiedObject>;

fn recipe_and_pages(built: &BuiltRecipe) -> (Recipe, Pages) {
    let (last, pages) = built.objects.split_last().unwrap();
    assert_eq!((last.0, last.1), (ObjectKind::Recipe, built.id));
    let pages = pages
        .iter()
        .map(|(kind, id, bytes)| {
            let key = ObjectKey::new(*kind, *id);
            (*id, VerifiedObject::verify(key, bytes.clone().into()).unwrap())
        })
        .collect();
    (Recipe::decode(&last.2).unwrap(), pages)
}

fn content() -> ContentId {
    ContentId::from_bytes([9; 32])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn chunks_come_back(seed: u64, count in 2usize..6000, from in 0.0..1.0, to in 0.0..1.0) {
        let made_up = made_up_chunks(seed, count);
        let built = build(content(), &made_up).unwrap();
        let (recipe, pages) = recipe_and_pages(&built);
        let all = chunks(recipe.clone(), |id| Ok::<_, WalkError>(pages[&id].clone())).unwrap();
        prop_assert_eq!(&all, &made_up);

        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let range = (recipe.size as f64 * from) as u64..(recipe.size as f64 * to) as u64;
        let mut walk = RecipeWalk::new(recipe, range.clone());
        let mut found = Vec::new();
        loop {
            match walk.step().unwrap() {
                Step::Chunk(chunk) => found.push(chunk),
                Step::Page(id) => walk.hand_over(&pages[&id]).unwrap(),
                Step::Done => break,
            }
        }
        let overlaps = |chunk: &&ChunkRef| {
            chunk.offset < range.end && chunk.offset + u64::from(chunk.len) > range.start
        };
        let expected: Vec<ChunkRef> = made_up.iter().filter(overlaps).copied().collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_bytes_are_refused_or_have_one_spelling(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for magic in [RECIPE_MAGIC, PAGE_MAGIC] {
            let bytes = [magic, &bytes].concat();
            if let Ok(recipe) = Recipe::decode(&bytes) {
                prop_assert_eq!(recipe.encode(), &bytes[..]);
            }
            if let Ok(page) = RecipePage::decode(&bytes) {
                prop_assert_eq!(page.encode(), &bytes[..]);
            }
        }
    }
}

#[test]
fn a_changed_chunk_changes_one_page_of_each_level() {
    let old = made_up_chunks(1, 20_000);
    let mut new = old.clone();
    new[10_000].id = ObjectId::from_bytes([1; 32]);
    let ids = |chunks: &[ChunkRef]| -> std::collections::HashSet<ObjectId> {
        build(content(), chunks).unwrap().objects.iter().map(|object| object.1).collect()
    };
    let (old, new) = (ids(&old), ids(&new));
    assert!(old.len() > 40, "{}", old.len());
    assert!(new.difference(&old).count() <= 5, "{}", new.difference(&old).count());
}

#[test]
fn ids_that_ask_for_an_end_each_time_do_not_make_the_tree_high() {
    let mut all = made_up_chunks(2, 40_000);
    for chunk in &mut all {
        let mut id = *chunk.id.as_bytes();
        id[..8].fill(0);
        chunk.id = ObjectId::from_bytes(id);
    }
    let (recipe, _) = recipe_and_pages(&build(content(), &all).unwrap());
    assert!(recipe.level <= 4, "level {}", recipe.level);
}

#[test]
fn contents_of_no_or_one_chunk_need_no_recipe() {
    assert_eq!(build(content(), &[]), None);
    let cut = cut_content(b"small", |_, _| ());
    assert_eq!(build(cut.content.id, &cut.chunks), None);
}

fn page_of(level: u8, parts: Vec<Part>) -> VerifiedObject {
    let bytes = Bytes::from(RecipePage { level, parts }.encode());
    VerifiedObject::verify(ObjectKey::recipe_page(ObjectId::of(&bytes)), bytes).unwrap()
}

fn recipe_of(level: u8, parts: Vec<Part>) -> Recipe {
    let size = parts.iter().map(|part| part.len).sum();
    Recipe { method: Method::Raw, content: content(), size, level, parts }
}

#[test]
fn pages_that_contradict_their_place_are_refused() {
    let chunk = Part { id: ObjectId::from_bytes([5; 32]), len: 8192 };
    let page = page_of(0, vec![chunk; 2]);
    let check = |level, len, expected: fn(&WalkError) -> bool| {
        let recipe = recipe_of(level, vec![Part { id: page.id(), len }]);
        let error = chunks(recipe, |_| Ok::<_, WalkError>(page.clone())).unwrap_err();
        assert!(expected(&error), "{error:?}");
    };
    check(1, 8192, |error| matches!(error, WalkError::Sum { expected: 8192, found: 16384, .. }));
    check(2, 16384, |error| matches!(error, WalkError::Level { expected: 1, found: 0, .. }));
    let recipe = recipe_of(1, vec![Part { id: chunk.id, len: 16384 }]);
    let error = chunks(recipe, |_| Ok::<_, WalkError>(page.clone())).unwrap_err();
    assert!(matches!(error, WalkError::NotAsked { .. }), "{error:?}");
}

#[test]
fn a_page_named_again_and_again_does_not_become_a_list_without_end() {
    let mut pages = Pages::new();
    let mut part = Part { id: ObjectId::from_bytes([5; 32]), len: 1 };
    for level in 0..2 {
        let page = page_of(level, vec![part; PARTS_MAX]);
        part = Part { id: page.id(), len: part.len * PARTS_MAX as u64 };
        pages.insert(page.id(), page);
    }
    let recipe = recipe_of(2, vec![part]);
    let mut walk = RecipeWalk::new(recipe.clone(), 0..recipe.size);
    let limit = recipe.size.div_ceil(4096);
    let mut steps = 0;
    let error = loop {
        match walk.step() {
            Ok(Step::Page(id)) => walk.hand_over(&pages[&id]).unwrap(),
            Ok(Step::Chunk(_)) => steps += 1,
            Ok(Step::Done) => panic!("the walk ended"),
            Err(error) => break error,
        }
    };
    assert_eq!((steps, error), (limit, WalkError::TooManyChunks { limit }));
}

#[test]
fn malformed_recipes_are_refused() {
    let part = Part { id: ObjectId::from_bytes([5; 32]), len: 8192 };
    let good = recipe_of(0, vec![part; 2]);
    assert_eq!(Recipe::decode(&good.encode()), Ok(good.clone()));
    let check = |change: fn(&mut Recipe)| {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(Recipe::decode(&bad.encode()).is_err(), "{bad:?}");
    };
    check(|recipe| recipe.size += 1);
    check(|recipe| recipe.level = LEVEL_MAX + 1);
    check(|recipe| recipe.parts[0].len = 0);
    check(|recipe| recipe.parts.clear());
    check(|recipe| recipe.parts[0].len = (1 << 20) + 1);
    check(|recipe| {
        recipe.level = 1;
        recipe.parts[0].len = u64::MAX;
        recipe.size = 8191;
    });
    let mut long = good.encode();
    long.push(0);
    assert!(Recipe::decode(&long).is_err(), "a byte follows");
    // Ten million parts in a page of a few bytes: refused before anything is allocated for them.
    let mut claim = PAGE_MAGIC.to_vec();
    claim.push(0);
    put_number(&mut claim, 10_000_000);
    assert!(matches!(RecipePage::decode(&claim), Err(DecodeError::OverLimit { .. })));
}

#[test]
fn the_format_is_that_of_the_golden_files() {
    let parts = vec![
        Part { id: ObjectId::from_bytes([0x11; 32]), len: 32_768 },
        Part { id: ObjectId::from_bytes([0x22; 32]), len: 1_000 },
    ];
    let recipe = recipe_of(0, parts.clone()).encode();
    let plain = Plain { id: ContentId::from_bytes([7; 32]), program: 100, frames: 900, members: 32_768 };
    let rebuilt = Recipe { method: Method::Rebuilt(plain), size: 1234, ..recipe_of(0, parts.clone()) };
    assert_eq!(rebuilt.encode(), include_bytes!("../../tests/golden/recipe-rebuilt.bin"));
    assert_eq!(Recipe::decode(&rebuilt.encode()), Ok(rebuilt.clone()));
    let longer = Plain { members: 32_769, ..plain };
    assert!(Recipe::decode(&Recipe { method: Method::Rebuilt(longer), ..rebuilt }.encode()).is_err());
    let page = RecipePage { level: 1, parts }.encode();
    assert_eq!(recipe, include_bytes!("../../tests/golden/recipe.bin"));
    assert_eq!(page, include_bytes!("../../tests/golden/recipe-page.bin"));
}
