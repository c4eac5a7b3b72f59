//! Properly signed trees whose contents, or the lists of where they lie, are not what they are said to be.

use smart_sync_store::codec::put_number;
use smart_sync_store::content::name_content;
use smart_sync_store::id::ObjectId;
use smart_sync_store::manifest::{Content, Fidelity};
use smart_sync_store::pack::Codec;
use smart_sync_tests::hostile::{RawEntry, Reply, Tree, TreeBuilder};

use crate::scene::Publisher;

/// The number of bytes of the content that the attacks are about.
const LENGTH: usize = 200;

fn old() -> Tree {
    TreeBuilder::of(&[("a", "old\n")]).build()
}

fn bytes() -> Vec<u8> {
    (0..LENGTH).map(|index| u8::try_from(index % 7).expect("a small number")).collect()
}

/// A tree of one file, whose one frame is made by the attack.
fn framed(frame: impl FnOnce(&mut TreeBuilder, &Content)) -> Tree {
    let content = name_content(&bytes());
    let mut builder = TreeBuilder::default();
    builder.entries.push(RawEntry::file("a", &content));
    frame(&mut builder, &content);
    builder.build()
}

/// A tree of one file, in one zstd frame of these bytes.
fn compressed(stored: &[u8]) -> Tree {
    framed(|builder, content| {
        let ordinal = builder.frame(stored, LENGTH, Codec::Zstd, ObjectId::of(&bytes()));
        builder.parts(content.id, content.size, vec![ordinal]);
    })
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).expect("bytes in memory are compressed")
}

/// A zstd frame that asks for a window of 2 GiB, and holds these bytes as they are.
fn with_huge_window(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3];
    let header = u32::try_from(bytes.len()).expect("a small block") << 3 | 1;
    frame.extend_from_slice(&header.to_le_bytes()[..3]);
    frame.extend_from_slice(bytes);
    frame
}

#[test]
fn frames_that_do_not_decode_as_announced_are_refused() {
    let mut publisher = Publisher::of(&old());
    let good = zstd(&bytes());
    let mut lying = good.clone();
    // After magic and descriptor comes the length that the frame declares.
    assert_eq!(lying[5], 200);
    lying[5] = 10;
    let said = [
        publisher.attack("more than was announced", 7, &compressed(&zstd(&vec![0; 1 << 20]))),
        publisher.attack("more than it declares itself", 7, &compressed(&lying)),
        publisher.attack("a window of 2 GiB", 7, &compressed(&with_huge_window(&bytes()))),
        publisher.attack("a frame after the frame", 7, &compressed(&[good.clone(), good.clone()].concat())),
        publisher.attack("no frame", 7, &compressed(&bytes())),
        publisher.attack("half a frame", 7, &compressed(&good[..good.len() / 2])),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    more than was announced: exit 7
        a frame of pack PACK is not what was announced: it declares 1048576 bytes instead of 200
    more than it declares itself: exit 7
        a frame of pack PACK is not what was announced: it declares 10 bytes instead of 200
    a window of 2 GiB: exit 7
        a frame of pack PACK is not what was announced: it needs a window of 2147483648 bytes; 8388608 are allowed
    a frame after the frame: exit 7
        a frame of pack PACK is not what was announced: 23 bytes follow it
    no frame: exit 7
        a frame of pack PACK is not what was announced: it does not begin as a zstd frame without a dictionary does
    half a frame: exit 7
        a frame of pack PACK is not what was announced: Src size is incorrect
");
    publisher.recovers(&compressed(&good));
}

#[test]
fn lists_of_changes_that_do_not_decompress_as_they_should_are_refused() {
    let mut publisher = Publisher::of(&old());
    let honest = TreeBuilder::of(&[("a", "new\n")]).build();
    let plain = zstd::decode_all(&honest.delta[..]).expect("an honest delta");
    let with = |delta: Vec<u8>| Tree { delta, ..honest.clone() };
    let twice = [honest.delta.clone(), honest.delta.clone()].concat();
    let mut many = b"ssdl\x01\x00".to_vec();
    put_number(&mut many, 10_000_000);
    many.resize(1024, 0);
    let said = [
        publisher.attack("a bomb", 7, &with(zstd(&vec![0; 256 << 20]))),
        publisher.attack("a window of 2 GiB", 7, &with(with_huge_window(&plain))),
        publisher.attack("a frame after the frame", 7, &with(twice)),
        publisher.attack("ten million entries in a KiB", 7, &with(zstd(&many))),
        publisher.attack("the changes to another tree", 7, &with(old().delta)),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    a bomb: exit 7
        the list of changes from SERVER1 is refused
        because: the delta does not decompress to at most 1050688 bytes
        because: it is longer than that
    a window of 2 GiB: exit 7
        the list of changes from SERVER1 is refused
        because: the delta does not decompress to at most 1050688 bytes
        because: Frame requires too much memory for decoding
    a frame after the frame: exit 7
        the list of changes from SERVER1 is refused
        because: the delta does not decompress to at most 1050688 bytes
        because: bytes follow the compressed frame
    ten million entries in a KiB: exit 7
        the list of changes from SERVER1 is refused
        because: the delta is malformed
        because: number of edits is 10000000, over the limit of 254
    the changes to another tree: exit 7
        the list of changes from SERVER1 is refused
        because: it leads to manifest ae0a6c3ef9989ff34a3dc2c8d6da4cb68e944d3b13af84461c9300ab72b4ffe7, and MANIFEST was signed
");
    publisher.recovers(&honest);
}

#[test]
fn contents_that_are_not_the_named_ones_are_refused() {
    let mut publisher = Publisher::of(&old());
    let (one, two) = (vec![1; 50_000], vec![2; 60_000]);
    let whole = [one.clone(), two.clone()].concat();
    let in_order = |ordinals: &[u32]| {
        let content = name_content(&whole);
        let mut builder = TreeBuilder::default();
        builder.entries.push(RawEntry::file("a", &content));
        builder.chunk(&one);
        builder.chunk(&two);
        builder.parts(content.id, content.size, ordinals.to_vec());
        builder.build()
    };
    let swapped = framed(|builder, content| {
        let ordinal = builder.frame(&[7; LENGTH], LENGTH, Codec::Raw, ObjectId::of(&bytes()));
        builder.parts(content.id, content.size, vec![ordinal]);
    });
    let sized = |size: u64| {
        let mut builder = TreeBuilder::default();
        let content = builder.content(&bytes());
        builder.entries.push(RawEntry::file("a", &Content { size, ..content }));
        builder.build()
    };
    let mut absent = TreeBuilder::default();
    absent.entries.push(RawEntry::file("a", &name_content(&bytes())));
    let said = [
        publisher.attack("chunks in the wrong order", 7, &in_order(&[1, 0])),
        publisher.attack("a chunk twice", 7, &in_order(&[0, 1, 1])),
        publisher.attack("a chunk too few", 7, &in_order(&[0, 0])),
        publisher.attack("a chunk exchanged for another", 7, &swapped),
        publisher.attack("the right hash and a length too large", 7, &sized(LENGTH as u64 + 1)),
        publisher.attack("the right hash and a length too small", 7, &sized(LENGTH as u64 - 1)),
        publisher.attack("a content that nobody has", 5, &absent.build()),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    chunks in the wrong order: exit 7
        [smart-sync] fetching: 107.42 KiB of 107.42 KiB
        the bytes received are not content c3846da0545ea0ddac9b81239fba92b75106fa4fe6d22b5acfcb8fbeea499ade: they are 506eac58c80d1ef2165730fbeab3637f803fe960b5bb5576e7507be813bdfd3b
    a chunk twice: exit 7
        a server names 170000 bytes for content c3846da0545ea0ddac9b81239fba92b75106fa4fe6d22b5acfcb8fbeea499ade, which has 110000
    a chunk too few: exit 7
        a server names 100000 bytes for content c3846da0545ea0ddac9b81239fba92b75106fa4fe6d22b5acfcb8fbeea499ade, which has 110000
    a chunk exchanged for another: exit 7
        in pack PACK
        because: chunk 6a736af5679e532af286bcd5aa828f6d365895f95793983bac40d5b4ee5964f7 is corrupt: its bytes have the digest bfcb667c73417b918159ee6e6089ca8097b1e3a37dfbfd4e3bbf21d5943da520
    the right hash and a length too large: exit 7
        a server names 200 bytes for content 6a736af5679e532af286bcd5aa828f6d365895f95793983bac40d5b4ee5964f7, which has 201
    the right hash and a length too small: exit 7
        a server names 200 bytes for content 6a736af5679e532af286bcd5aa828f6d365895f95793983bac40d5b4ee5964f7, which has 199
    a content that nobody has: exit 5
        no server has content 6a736af5679e532af286bcd5aa828f6d365895f95793983bac40d5b4ee5964f7; the version may have been collected
");
    publisher.recovers(&in_order(&[0, 1]));
}

#[test]
fn maps_that_contradict_themselves_are_refused() {
    let mut publisher = Publisher::of(&old());
    let mapped = |change: fn(&mut TreeBuilder)| {
        framed(|builder, content| {
            let ordinal = builder.chunk(&bytes());
            builder.parts(content.id, content.size, vec![ordinal]);
            change(builder);
        })
    };
    let said = [
        publisher.attack("an empty chunk", 7, &mapped(|builder| builder.map.frames[0].chunks[0].length = 0)),
        publisher.attack(
            "a content without a chunk",
            7,
            &mapped(|builder| builder.map.contents[0].chunks.clear()),
        ),
        publisher.attack(
            "a frame outside of its pack",
            7,
            &mapped(|builder| builder.map.frames[0].offset = 4096),
        ),
        publisher.attack("a frame of 4 GiB", 7, &mapped(|builder| builder.map.frames[0].raw = u32::MAX)),
        publisher.attack(
            "a chunk that is in no frame",
            7,
            &mapped(|builder| builder.map.contents[0].chunks[0] = 9),
        ),
        publisher.attack(
            "frames that overlap",
            7,
            &mapped(|builder| builder.map.frames.push(builder.map.frames[0].clone())),
        ),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    an empty chunk: exit 7
        the list of changes from SERVER1 is refused
        because: the delta is malformed
        because: a chunk is empty
    a content without a chunk: exit 7
        the list of changes from SERVER1 is refused
        because: the delta is malformed
        because: a content has no chunks
    a frame outside of its pack: exit 7
        the list of changes from SERVER1 is refused
        because: the delta is malformed
        because: the offset of a frame is 4096, over the limit of 208
    a frame of 4 GiB: exit 7
        the list of changes from SERVER1 is refused
        because: the delta is malformed
        because: the decoded length of a frame is 4294967295, over the limit of 4194304
    a chunk that is in no frame: exit 7
        the list of changes from SERVER1 is refused
        because: the delta is malformed
        because: a content names a chunk that is in no frame
    frames that overlap: exit 7
        the list of changes from SERVER1 is refused
        because: the delta is malformed
        because: frames overlap or are not in the order of their packs
");
    publisher.recovers(&mapped(|_| {}));
}

#[test]
fn signed_numbers_that_are_false_are_refused() {
    let mut publisher = Publisher::of(&old());
    let honest = TreeBuilder::of(&[("a", "new\n")]).build();
    let mut huge = TreeBuilder::default();
    for path in ["a", "b"] {
        huge.entries.push(RawEntry::file(path, &Content { size: u64::MAX, ..name_content(b"x") }));
    }
    let said = [
        publisher.attack("an entry more", 7, &Tree { entries: 2, ..honest.clone() }),
        publisher.attack("a byte more", 7, &Tree { bytes: 5, ..honest.clone() }),
        publisher.attack("another length of the root page", 7, &Tree { root_length: 9, ..honest.clone() }),
        publisher.attack("sizes whose sum overflows", 7, &huge.forge()),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    an entry more: exit 7
        the publication counts its tree wrongly
    a byte more: exit 7
        the publication counts its tree wrongly
    another length of the root page: exit 7
        the publication counts its tree wrongly
    sizes whose sum overflows: exit 7
        the list of changes from SERVER1 is refused
        because: the sizes of the contents add up to more than 64 bits can hold
");
    publisher.recovers(&honest);
}

#[test]
fn ranges_that_were_not_asked_for_are_not_used() {
    let mut publisher = Publisher::of(&old());
    let tree = |number: u8| TreeBuilder::of(&[("a", [number; 4])]).build();
    let mut said = String::new();
    for (number, (what, bounds, body)) in (1..).zip([
        ("the next range", "bytes 9-12/13", &b"xxxx"[..]),
        ("another unit", "lines 8-11/12", b"xxxx"),
        ("no bounds", "", b"xxxx"),
        ("a range that is too short", "bytes 8-11/12", b"xxx"),
        ("a range that is too long", "bytes 8-11/12", b"xxxxx"),
    ]) {
        let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Range: {bounds}");
        said.push_str(&publisher.attack_with(what, 5, &tree(number), move |request| {
            request.path.starts_with("/pack/").then(|| Reply::Raw(head.clone(), body.to_vec()))
        }));
    }
    said.push_str(&publisher.attack_with("another range under the right name", 7, &tree(9), |request| {
        let head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 8-11/12";
        request.path.starts_with("/pack/").then(|| Reply::raw(head, *b"xxxx"))
    }));
    insta::assert_snapshot!(said, @r#"
    the next range: exit 5
        the answer of SERVER1/pack/PACK is not what was asked for: it says "bytes 9-12/13" where "bytes 8-11/" was asked for
    another unit: exit 5
        the answer of SERVER1/pack/PACK is not what was asked for: it says "lines 8-11/12" where "bytes 8-11/" was asked for
    no bounds: exit 5
        the answer of SERVER1/pack/PACK is not what was asked for: it says "" where "bytes 8-11/" was asked for
    a range that is too short: exit 5
        the answer of SERVER1/pack/PACK is not what was asked for: 3 of 4 bytes came
    a range that is too long: exit 5
        the answer of SERVER1/pack/PACK is longer than the 4 bytes that it could have
    another range under the right name: exit 7
        in pack PACK
        because: chunk 05dd7df4ec16705182d9d0f41db8749a5cfe7bd7abf078ddcb8f23a23d0a56cf is corrupt: its bytes have the digest 6818011fd5aa7926ec7c91ad2bdd3bfca8b98ebe86db035860bbc636e4a5d43e
"#);
    publisher.recovers(&tree(9));
}

/// Whoever counts in 31 or 32 bits gets such a file wrong. It is all holes, so that it costs no disk.
#[test]
fn a_file_of_over_4_gib_is_taken() {
    const CHUNKS: u32 = 4097;
    let chunk = vec![0; 1 << 20];
    let size = u64::from(CHUNKS) << 20;
    // What git and BLAKE3 call so many zeros; the host computes both again.
    let content = Content {
        size,
        blob: "df6f032f301d1ce40477eefa505f2fac1de5e243".parse().expect("an id"),
        id: "72f0d67b8d998795377c564d56d7179c99a5e6acc2ed017e4d25329c37924df4".parse().expect("an id"),
    };
    let mut builder = TreeBuilder { fidelity: Fidelity::System, ..TreeBuilder::default() };
    builder.entries = vec![RawEntry::root(), RawEntry::sparse("huge", &content)];
    let ordinal = builder.frame(&zstd(&chunk), chunk.len(), Codec::Zstd, ObjectId::of(&chunk));
    builder.parts(content.id, size, vec![ordinal; CHUNKS as usize]);
    let mut publisher = Publisher::of(&old());
    publisher.recovers(&builder.forge());
    let found = std::fs::metadata(publisher.host.target().join("huge")).expect("the file is there");
    assert_eq!(found.len(), size);
}
