use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::chunk::ChunkRef;
use crate::content::{cut_content, name_content};
use crate::id::ContentId;
use crate::manifest::entry::Content;
use crate::pack::PackWriter;
use crate::recipe::{self, Method, Part, Recipe};
use crate::store::tests::pack_of;
use crate::test_data::{noise, text};

fn names(contents: &[Content]) -> BTreeSet<String> {
    contents.iter().map(|content| format!("{content:?}")).collect()
}

fn open(pack: &Bytes) -> OpenedPack {
    OpenedPack::open(pack.clone()).unwrap()
}

/// Some chunks of one content.
struct Cut {
    content: Content,
    chunks: Vec<(ChunkRef, Vec<u8>)>,
}

impl Cut {
    fn new(bytes: &[u8]) -> Self {
        let mut chunks = Vec::new();
        let cut = cut_content(bytes, |chunk, bytes| chunks.push((*chunk, bytes.to_vec())));
        Self { content: cut.content, chunks }
    }

    fn parts(&self) -> Vec<Part> {
        self.chunks.iter().map(|(chunk, _)| Part { id: chunk.id, len: u64::from(chunk.len) }).collect()
    }

    fn recipe(&self) -> Recipe {
        recipe_for(self.content.id, self.parts())
    }

    fn object(&self, number: usize) -> VerifiedObject {
        let (chunk, bytes) = &self.chunks[number];
        VerifiedObject::verify(ObjectKey::chunk(chunk.id), bytes.clone().into()).unwrap()
    }
}

/// A recipe that says of these parts that they are that content.
fn recipe_for(content: ContentId, parts: Vec<Part>) -> Recipe {
    let size = parts.iter().map(|part| part.len).sum();
    Recipe { method: Method::Raw, content, size, level: 0, parts }
}

/// A pack with these chunks and recipes.
fn pack(chunks: &[(ChunkRef, Vec<u8>)], recipes: &[Recipe]) -> Bytes {
    let mut writer = PackWriter::new(1);
    for (chunk, bytes) in chunks {
        writer.add(ObjectKey::chunk(chunk.id), bytes).unwrap();
    }
    for recipe in recipes {
        let bytes = recipe.encode();
        writer.add(ObjectKey::recipe(ObjectId::of(&bytes)), &bytes).unwrap();
    }
    writer.finish().unwrap().1.into()
}

fn proven(pack: &VerifiedPack) -> Vec<bool> {
    pack.recipes().iter().map(|recipe| recipe.is_proven).collect()
}

#[test]
fn every_content_of_a_tree_is_named() {
    let shared = noise(7, 400_000);
    let contents = [
        text(1, 500),
        noise(2, 3_000),
        noise(3, 700_000),
        // Repeats in one content, and what two contents have in common, at the end and at the beginning.
        vec![0; 900_000],
        [noise(4, 900_000), vec![0; 500_000], noise(5, 300_000)].concat(),
        shared.clone(),
        [noise(6, 600_000), shared.clone()].concat(),
        [shared, noise(8, 600_000)].concat(),
        // More than a window.
        text(9, 9_000_000),
        noise(10, 20_000),
    ];
    let (bytes, expected) = pack_of(&contents);
    let pack = open(&bytes).verify(Vec::new()).unwrap();
    assert!(names(pack.contents()).is_superset(&names(&expected[..3])));
    // One chunk many times is no row: most of it would be borrowed.
    let expected: Vec<Content> = expected.into_iter().filter(|content| content.size != 900_000).collect();
    assert_eq!(names(pack.contents()), names(&expected));
    let unproven = pack.recipes().iter().filter(|recipe| !recipe.is_proven).count();
    assert_eq!(unproven, 1);
    let verified = VerifiedPack::verify(bytes).unwrap();
    assert_eq!((verified.id(), verified.index()), (pack.id(), pack.index()));
    assert_eq!(verified.contents(), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn names_are_right_however_chunks_repeat(
        layout in proptest::collection::vec(proptest::collection::vec((0u64..6, 1usize..60_000), 1..8), 1..8),
    ) {
        let contents: Vec<Vec<u8>> =
            layout.iter().map(|blocks| blocks.iter().flat_map(|(seed, len)| noise(*seed, *len)).collect()).collect();
        let mut all: Vec<Vec<u8>> = contents.clone();
        for bytes in &contents {
            cut_content(bytes, |_, chunk| all.push(chunk.to_vec()));
        }
        let truth: Vec<Content> = all.iter().map(|bytes| name_content(bytes)).collect();
        let pack = open(&pack_of(&contents).0).verify(Vec::new()).unwrap();
        prop_assert!(names(&truth).is_superset(&names(pack.contents())));
        for recipe in pack.recipes().iter().filter(|recipe| recipe.is_proven) {
            prop_assert!(pack.contents().iter().any(|content| content.id == recipe.content));
        }
    }
}

#[test]
fn a_content_may_borrow_what_another_pack_has() {
    let cut = Cut::new(&noise(1, 1_000_000));
    let bytes = pack(&cut.chunks[3..], &[cut.recipe()]);
    let mut wanted = open(&bytes).wanted();
    let mut expected: Vec<ObjectKey> = (0..3).map(|number| cut.object(number).key()).collect();
    wanted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(wanted, expected);
    let found = open(&bytes).verify((0..3).map(|number| cut.object(number)).collect()).unwrap();
    assert_eq!((found.contents(), proven(&found)), (&[cut.content][..], vec![true]));
    // With a part of that, the content is left alone.
    let found = open(&bytes).verify(vec![cut.object(1)]).unwrap();
    assert_eq!((found.contents(), proven(&found)), (&[][..], vec![false]));
}

#[test]
fn a_content_that_is_mostly_elsewhere_is_left_alone() {
    let cut = Cut::new(&noise(1, 1_000_000));
    let opened = open(&pack(&cut.chunks[cut.chunks.len() - 3..], &[cut.recipe()]));
    assert_eq!(opened.wanted(), []);
    let found = opened.verify(Vec::new()).unwrap();
    assert_eq!((found.contents(), proven(&found)), (&[][..], vec![false]));
}

#[test]
fn a_recipe_of_right_chunks_for_a_wrong_content_is_refused() {
    let cut = Cut::new(&noise(1, 500_000));
    let mut swapped = cut.parts();
    swapped.swap(2, 3);
    let mut repeated = cut.parts();
    repeated.push(repeated[0]);
    let lies = [
        recipe_for(ContentId::from_bytes([7; 32]), cut.parts()),
        // The end is left out, and the beginning comes again.
        recipe_for(cut.content.id, cut.parts()[..5].to_vec()),
        recipe_for(cut.content.id, repeated),
        recipe_for(cut.content.id, swapped),
    ];
    for lie in lies {
        let refused = open(&pack(&cut.chunks, std::slice::from_ref(&lie))).verify(Vec::new()).unwrap_err();
        let is_named = matches!(refused, PackError::WrongRecipe { content, .. } if content == lie.content);
        assert!(is_named, "{refused:?}");
    }
}

#[test]
fn a_recipe_that_says_a_wrong_length_is_not_believed() {
    let cut = Cut::new(&noise(1, 500_000));
    for number in [0, 3] {
        let mut parts = cut.parts();
        parts[number].len -= 1;
        let lie = recipe_for(cut.content.id, parts);
        let inside = open(&pack(&cut.chunks, std::slice::from_ref(&lie))).verify(Vec::new()).unwrap();
        assert_eq!(proven(&inside), [false]);
        // Where the chunk is elsewhere, its length is known only when it comes.
        let mut others = cut.chunks.clone();
        others.remove(number);
        let found = open(&pack(&others, &[lie])).verify(vec![cut.object(number)]).unwrap();
        assert_eq!((proven(&found), found.contents()), (vec![false], &[][..]));
    }
}

#[test]
fn each_chunk_is_hashed_for_one_content() {
    let cut = Cut::new(&noise(1, 500_000));
    let half = Cut::new(&noise(1, 500_000)[..cut.chunks[..8].iter().map(|(_, bytes)| bytes.len()).sum()]);
    assert_eq!(half.chunks.len(), 8);
    let found = open(&pack(&cut.chunks, &[cut.recipe(), half.recipe()])).verify(Vec::new()).unwrap();
    assert_eq!((proven(&found), found.contents()), (vec![true, false], &[cut.content][..]));
}

#[test]
fn a_recipe_whose_pages_are_elsewhere_is_left_alone() {
    let bytes = noise(1, 16_000_000);
    let cut = cut_content(&bytes, |_, _| ());
    let built = recipe::build(cut.content.id, &cut.chunks).unwrap();
    assert!(built.objects.len() > 1, "its recipe has pages");
    let mut writer = PackWriter::new(1);
    cut_content(&bytes, |chunk, bytes| writer.add(ObjectKey::chunk(chunk.id), bytes).unwrap());
    let (kind, id, recipe) = built.objects.last().unwrap();
    writer.add(ObjectKey::new(*kind, *id), recipe).unwrap();
    let found = open(&writer.finish().unwrap().1.into()).verify(Vec::new()).unwrap();
    assert_eq!(proven(&found), [false]);
    assert!(found.contents().iter().all(|content| content.id != cut.content.id));
}
