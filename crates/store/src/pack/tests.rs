use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::codec::put_number;
use crate::content::cut_content;
use crate::id::{ObjectId, PackId};
use crate::object::{ObjectKey, ObjectKind};
use crate::recipe;
use crate::test_data::{noise, text};

fn pack_of(objects: &[(ObjectKind, Vec<u8>)]) -> (PackId, Vec<u8>) {
    let mut writer = PackWriter::new(3);
    for (kind, bytes) in objects {
        writer.add(ObjectKey::new(*kind, ObjectId::of(bytes)), bytes).unwrap();
    }
    writer.finish().unwrap()
}

/// A small tree: texts that compress, noise that does not, a page, and a content with a recipe.
fn small_objects() -> Vec<(ObjectKind, Vec<u8>)> {
    let mut objects = vec![
        (ObjectKind::Chunk, text(1, 700)),
        (ObjectKind::Page, b"a page, which this module does not look into".to_vec()),
        (ObjectKind::Chunk, noise(2, 300)),
    ];
    let large = noise(3, 20_000);
    let mut cut = cut_content(&large, |_, _| ());
    cut.chunks = vec![cut.chunks[0]; 2];
    let built = recipe::build(cut.content.id, &cut.chunks).unwrap();
    objects.extend(built.objects.into_iter().map(|(kind, _, bytes)| (kind, bytes)));
    objects
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn objects_come_back(lens in proptest::collection::vec((1usize..200_000, 0u8..2, any::<bool>()), 1..40)) {
        let objects: Vec<_> = lens
            .iter()
            .enumerate()
            .map(|(seed, &(len, kind, is_text))| {
                let seed = seed as u64;
                let bytes = if is_text { text(seed, len) } else { noise(seed, len) };
                (ObjectKind::from_code(kind).unwrap(), bytes)
            })
            .collect();
        let (id, bytes) = pack_of(&objects);
        prop_assert_eq!(id, PackId::from_bytes(*blake3::hash(&bytes).as_bytes()));
        let bytes = Bytes::from(bytes);
        let pack = VerifiedPack::verify(bytes.clone()).unwrap();
        prop_assert_eq!(pack.id(), id);
        for kind in [ObjectKind::Chunk, ObjectKind::Page] {
            let mut expected: Vec<&[u8]> = Vec::new();
            for (_, bytes) in objects.iter().filter(|object| object.0 == kind) {
                if !expected.contains(&&bytes[..]) {
                    expected.push(bytes);
                }
            }
            let mut found = Vec::new();
            for frame in pack.index().frames() {
                let range = frame.range();
                let stored = bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
                found.extend(decode_frame(frame, &stored).unwrap().into_iter().filter(|object| object.kind() == kind));
            }
            let found: Vec<&[u8]> = found.iter().map(|object| &object.bytes()[..]).collect();
            prop_assert_eq!(found, expected, "in the order in which they were added");
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(PackIndex::of_pack(&bytes).is_err());
        // With a trailer that fits, only the index itself is left to be wrong.
        let mut pack = MAGIC.to_vec();
        pack.extend_from_slice(&bytes);
        pack.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        pack.extend_from_slice(blake3::hash(&bytes).as_bytes());
        pack.extend_from_slice(TRAILER_MAGIC);
        if let Ok(index) = PackIndex::of_pack(&pack) {
            prop_assert_eq!(index.encode(), &pack[MAGIC.len()..]);
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let (_, good) = pack_of(&small_objects());
    assert!(VerifiedPack::verify(good.clone().into()).is_ok());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            // A zstd frame may have bits that change nothing; the pack's name does not forgive them.
            let bad = Bytes::from(bad);
            let verified = VerifiedPack::verify(bad.clone());
            let opened = OpenedPack::open(bad).and_then(|opened| opened.verify(Vec::new()));
            assert_eq!(opened.is_ok(), verified.is_ok(), "bit {bit} of byte {at}");
            if let Ok(pack) = verified {
                assert_ne!(
                    pack.id(),
                    PackId::from_bytes(*blake3::hash(&good).as_bytes()),
                    "bit {bit} of byte {at}"
                );
            }
        }
    }
    for len in 0..good.len() {
        assert!(VerifiedPack::verify(Bytes::copy_from_slice(&good[..len])).is_err(), "cut to {len}");
    }
}

#[test]
fn recipes_are_listed_by_their_contents() {
    let objects = small_objects();
    let pack = VerifiedPack::verify(pack_of(&objects).1.into()).unwrap();
    let (_, bytes) = objects.iter().find(|object| object.0 == ObjectKind::Recipe).unwrap();
    let content = recipe::Recipe::decode(bytes).unwrap().content;
    let (recipe, is_proven, is_rebuilt) = (ObjectId::of(bytes), false, false);
    assert_eq!(pack.recipes(), [RecipeOf { content, recipe, is_proven, is_rebuilt }]);
    let bad = pack_of(&[(ObjectKind::Recipe, b"no recipe".to_vec())]).1;
    assert!(matches!(VerifiedPack::verify(bad.into()), Err(PackError::Recipe { .. })));
}

#[test]
fn pages_and_contents_do_not_share_frames() {
    let (_, pack) = pack_of(&small_objects());
    for frame in PackIndex::of_pack(&pack).unwrap().frames() {
        let chunks = frame.objects.iter().filter(|object| object.key.kind == ObjectKind::Chunk).count();
        assert!(chunks == 0 || chunks == frame.objects.len());
    }
}

#[test]
fn a_writer_is_full_before_the_pack_is_too_long() {
    let mut writer = PackWriter::new(1);
    let mut seed = 0;
    while !writer.is_full() {
        let bytes = noise(seed, 1 << 20);
        writer.add(ObjectKey::chunk(ObjectId::of(&bytes)), &bytes).unwrap();
        seed += 1;
    }
    assert_eq!(writer.add(ObjectKey::chunk(ObjectId::of(b"more")), b"more"), Err(PackFull));
    let (_, pack) = writer.finish().unwrap();
    assert!(pack.len() <= PACK_LEN_MAX && pack.len() > PACK_LEN_MAX - (4 << 20), "{}", pack.len());
    assert!(PackIndex::of_pack(&pack).is_ok());
    assert_eq!(PackWriter::new(3).finish(), None);
}

/// A frame with one chunk.
fn frame_with(codec: Codec, stored: &[u8], raw: &[u8]) -> Frame {
    let len = u32::try_from(raw.len()).unwrap();
    let object = FrameObject { key: ObjectKey::chunk(ObjectId::of(raw)), len };
    let stored = u32::try_from(stored.len()).unwrap();
    Frame { offset: 8, codec, stored, raw: len, objects: vec![object] }
}

#[test]
fn hostile_frames_are_refused() {
    let raw = text(5, 60_000);
    let good = zstd::bulk::compress(&raw, 3).unwrap();
    let check = |stored: Vec<u8>, raw: &[u8], reason: &str| {
        let frame = frame_with(Codec::Zstd, &stored, raw);
        let error = decode_frame(&frame, &stored.into()).unwrap_err();
        let PackError::Frame { reason: found, .. } = &error else { panic!("{error:?}") };
        assert!(found.contains(reason), "{found}");
    };
    assert!(decode_frame(&frame_with(Codec::Zstd, &good, &raw), &good.clone().into()).is_ok());
    check(good.clone(), &raw[1..], "declares 60000 bytes instead of 59999");
    check([&good[..], &good[..]].concat(), &raw, "follow it");
    check([&good[..], b"x"].concat(), &raw, "follow it");
    check(good[..good.len() - 1].to_vec(), &raw, "");
    check(b"no frame at all".to_vec(), &raw, "does not begin as a zstd frame");
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip", &good].concat();
    check(skippable, &raw, "does not begin as a zstd frame");

    // A stream without its length, and one whose window is 2 GiB.
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    std::io::Write::write_all(&mut encoder, &raw).unwrap();
    check(encoder.finish().unwrap(), &raw, "does not declare its length");
    // Magic, a descriptor with a content size of four bytes, a window descriptor of 2^31, the size.
    let mut huge = vec![0x28, 0xb5, 0x2f, 0xfd, 0x80, 21 << 3];
    huge.extend_from_slice(&60_000u32.to_le_bytes());
    check(huge, &raw, "needs a window of 2147483648 bytes");

    let bomb = zstd::bulk::compress(&vec![0; 1 << 28], 3).unwrap();
    check(bomb, &raw, "");
}

#[test]
fn hostile_indexes_are_refused() {
    let raw = noise(1, 100);
    let object = |kind: u8, len: u64| {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(ObjectId::of(&raw).as_bytes());
        put_number(&mut bytes, len);
        bytes
    };
    let frame = |codec: u8, numbers: [u64; 3], objects: &[Vec<u8>]| {
        let mut bytes = vec![codec];
        for number in numbers {
            put_number(&mut bytes, number);
        }
        [bytes, objects.concat()].concat()
    };
    let check = |frames: u64, index: &[Vec<u8>], is_good: bool| {
        let mut bytes = Vec::new();
        put_number(&mut bytes, frames);
        bytes.extend(index.concat());
        let mut pack = [&MAGIC[..], &raw, &bytes].concat();
        pack.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
        pack.extend_from_slice(blake3::hash(&bytes).as_bytes());
        pack.extend_from_slice(TRAILER_MAGIC);
        assert_eq!(PackIndex::of_pack(&pack).is_ok(), is_good, "{:?}", PackIndex::of_pack(&pack));
    };
    check(1, &[frame(0, [100, 100, 1], &[object(0, 100)])], true);
    check(0, &[], false);
    check(10_000_000, &[frame(0, [100, 100, 1], &[object(0, 100)])], false);
    check(1, &[frame(0, [100, 100, 10_000_000], &[object(0, 100)])], false);
    check(1, &[frame(2, [100, 100, 1], &[object(0, 100)])], false);
    check(1, &[frame(0, [100, 99, 1], &[object(0, 99)])], false);
    check(1, &[frame(0, [99, 99, 1], &[object(0, 99)])], false);
    check(1, &[frame(0, [100, 100, 1], &[object(4, 100)])], false);
    check(1, &[frame(0, [100, 100, 1], &[object(0, 101)])], false);
    check(1, &[frame(0, [100, 100, 2], &[object(0, 50), object(0, 50)])], false);
    check(1, &[frame(0, [100, 100, 2], &[object(0, 100), object(1, 0)])], false);
    check(1, &[frame(0, [100, 100, 2], &[object(0, 50), object(1, 50)])], true);
    check(1, &[frame(1, [100, 5 << 20, 1], &[object(0, 5 << 20)])], false);
    check(1, &[frame(0, [100, 100, 2], &[object(0, u64::MAX), object(1, 101)])], false);
}

/// The golden pack was written once; a reader of any later version has to read it. Its first frame is compressed,
/// so a newer zstd may write other bytes for it, but what is stored as it is has to come out the same.
#[test]
fn the_format_is_that_of_the_golden_file() {
    let golden = include_bytes!("../../tests/golden/pack.bin");
    let pack = VerifiedPack::verify(Bytes::from_static(golden)).unwrap();
    let keys: Vec<ObjectKey> = pack.index().objects().map(|object| object.key).collect();
    let mut expected: Vec<ObjectKey> =
        small_objects().iter().map(|(kind, bytes)| ObjectKey::new(*kind, ObjectId::of(bytes))).collect();
    expected.sort_by_key(|key| key.kind != ObjectKind::Chunk);
    assert_eq!(keys, expected);
    assert_eq!(pack.id().to_string(), "8855e3f3db9ff274fbd97201a6f0290fd62b4b85799e58d6e8e5206dadc07e8b");
    let noise = [(ObjectKind::Chunk, noise(4, 200)), (ObjectKind::Page, noise(5, 100))];
    assert_eq!(pack_of(&noise).1, include_bytes!("../../tests/golden/pack-raw.bin"));
}
