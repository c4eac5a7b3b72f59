//! Pages, edits, recipes, packs and the trees of git.

use std::collections::HashMap;

use bytes::Bytes;
use smart_sync_store::codec::{Reader, put_number, put_prefixed};
use smart_sync_store::id::{ContentId, ManifestId, ObjectId};
use smart_sync_store::manifest::page::Items;
use smart_sync_store::manifest::{
    Edit, Entry, Fidelity, GitTreeHasher, Manifest, Page, TreePath, put_edits, read_edits, references,
};
use smart_sync_store::object::{ObjectKey, VerifiedObject};
use smart_sync_store::pack::{
    Codec, FRAME_RAW_MAX, Frame, FrameObject, OpenedPack, PackError, PackIndex, VerifiedPack, decode_frame,
    decode_raw,
};
use smart_sync_store::recipe::{Method, Part, Recipe, RecipePage, WalkError, chunks};
use smart_sync_sync::source::git::{TreeItem, parse_tree};

use crate::{Verdict, check_bytes};

/// A page of a manifest; taken for a root, it is read as a manifest as well.
pub fn manifest_page(bytes: &[u8]) -> Verdict {
    let verdict = check_bytes(bytes, Page::decode, encode_page);
    assert_eq!(references(bytes).is_ok(), verdict == Verdict::Accepted);
    let root = ObjectId::of(bytes);
    let pages = HashMap::from([(root, Bytes::copy_from_slice(bytes))]);
    let Ok(manifest) = Manifest::open(pages, ManifestId::from_root_page(root), None) else { return verdict };
    let mut tree = GitTreeHasher::new();
    for entry in manifest.iter().map_while(Result::ok) {
        let found = manifest.get(&entry.path).expect("the page has been read before");
        assert_eq!(found.as_ref(), Some(&entry));
        let pushed = tree.push(&entry);
        assert!(pushed.is_ok() || manifest.fidelity() == Fidelity::System);
    }
    tree.finish();
    verdict
}

/// A page as the format says, written here a second time.
fn encode_page(page: &Page) -> Vec<u8> {
    let mut out = b"ssmp\x01".to_vec();
    out.push(page.level());
    out.push(match page.fidelity() {
        Fidelity::Git => 0,
        Fidelity::System => 1,
    });
    let mut previous: &[u8] = &[];
    match page.items() {
        Items::Entries(entries) => {
            put_number(&mut out, entries.len() as u64);
            for entry in entries {
                put_path(&mut out, &mut previous, entry.path.as_bytes());
                out.extend_from_slice(&fields(page.fidelity(), entry));
            }
        }
        Items::Pages(pages) => {
            put_number(&mut out, pages.len() as u64);
            for item in pages {
                put_path(&mut out, &mut previous, item.last_path.as_bytes());
                out.extend_from_slice(item.page.as_bytes());
                put_number(&mut out, item.length);
                put_number(&mut out, item.entries);
                put_number(&mut out, item.bytes);
            }
        }
    }
    out
}

/// A path, shortened against the one before it.
fn put_path<'a>(out: &mut Vec<u8>, previous: &mut &'a [u8], path: &'a [u8]) {
    let shared = previous.iter().zip(path).take_while(|(one, other)| one == other).count();
    put_number(out, shared as u64);
    put_prefixed(out, &path[shared..]);
    *previous = path;
}

/// The kind and the fields of an entry: an edit has them behind its path and a byte.
fn fields(fidelity: Fidelity, entry: &Entry) -> Vec<u8> {
    let mut edit = Vec::new();
    put_edits(&mut edit, fidelity, &[Edit::Put(entry.clone())]);
    let mut before = Vec::new();
    put_number(&mut before, 1);
    put_number(&mut before, 0);
    put_prefixed(&mut before, entry.path.as_bytes());
    edit.split_off(before.len() + 1)
}

/// The most bytes that the paths of a list of edits may have here.
const PATH_BYTES_MAX: u64 = 4 << 20;

/// A list of edits; the first byte of the input says of which fidelity.
pub fn edits(bytes: &[u8]) -> Verdict {
    let Some((first, bytes)) = bytes.split_first() else { return Verdict::Refused };
    let fidelity = if first & 1 == 0 { Fidelity::Git } else { Fidelity::System };
    let read = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes);
        let edits = read_edits(&mut reader, fidelity, PATH_BYTES_MAX)?;
        reader.finish().map(|()| edits)
    };
    check_bytes(bytes, read, |edits| {
        assert!(edits.is_sorted_by(|one, other| one.path() < other.path()));
        let mut out = Vec::new();
        put_edits(&mut out, fidelity, edits);
        out
    })
}

/// A tree object of git.
pub fn git_tree(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, parse_tree, |items| {
        items
            .iter()
            .flat_map(|TreeItem { mode, name, id }| {
                [format!("{:o} ", mode.bits()).as_bytes(), name, b"\0", id].concat()
            })
            .collect()
    })
}

/// A recipe.
pub fn recipe(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, Recipe::decode, Recipe::encode)
}

/// A page of a recipe.
pub fn recipe_page(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, RecipePage::decode, RecipePage::encode)
}

/// A recipe of pages that the input describes from the bottom up: each page is a level, the number of its parts, and
/// two bytes for each of them, which name a page that came before or are the length of a chunk.
pub fn recipe_walk(bytes: &[u8]) -> Verdict {
    let mut rest = bytes.iter().copied();
    let mut pages: Vec<(ObjectId, u64)> = Vec::new();
    let mut objects: HashMap<ObjectId, Bytes> = HashMap::new();
    let mut last = None;
    while let (Some(level), Some(count)) = (rest.next(), rest.next()) {
        let level = level % 9;
        let mut parts = Vec::new();
        while let (true, Some(low), Some(high)) = (parts.len() < usize::from(count), rest.next(), rest.next())
        {
            let number = u16::from_le_bytes([low, high]);
            parts.push(match pages.get(usize::from(number)).filter(|_| level > 0) {
                Some((id, len)) => Part { id: *id, len: *len },
                None => Part { id: ObjectId::of(&number.to_le_bytes()), len: u64::from(number) },
            });
        }
        let page = RecipePage { level, parts };
        let Ok(decoded) = RecipePage::decode(&page.encode()) else { continue };
        let id = ObjectId::of(&page.encode());
        pages.push((id, decoded.content_len()));
        objects.insert(id, page.encode().into());
        last = Some(decoded);
    }
    let Some(last) = last else { return Verdict::Refused };
    let size = last.content_len();
    // More chunks than this cost time and show nothing.
    if size > 1 << 32 {
        return Verdict::Refused;
    }
    let content = ContentId::of(b"the chunks do not matter here");
    let recipe = Recipe { method: Method::Raw, content, size, level: last.level, parts: last.parts };
    let found = chunks(recipe, |id| {
        let page = objects.get(&id).cloned().unwrap_or_default();
        VerifiedObject::verify(ObjectKey::recipe_page(id), page).map_err(|_| Missing)
    });
    let Ok(found) = found else { return Verdict::Refused };
    assert!(found.len() as u64 <= size.div_ceil(4096));
    let end = found.iter().fold(0, |end, chunk| {
        assert_eq!(chunk.offset, end);
        end + u64::from(chunk.len)
    });
    assert_eq!(end, size);
    Verdict::Accepted
}

/// A page that is not there, or that the walk refuses.
struct Missing;

impl From<WalkError> for Missing {
    fn from(_: WalkError) -> Self {
        Self
    }
}

/// The end of a pack: what the trailer says of an index, with the digest that is right.
fn trailer(index: &[u8]) -> Vec<u8> {
    let len = u32::try_from(index.len()).expect("inputs are small");
    [&len.to_le_bytes()[..], blake3::hash(index).as_bytes(), b"ssindx\x00\x01"].concat()
}

/// The index of a pack. The input is the number of bytes of the frames, and the index without its trailer.
pub fn pack_index(bytes: &[u8]) -> Verdict {
    let Some((frames, index)) = bytes.split_first_chunk::<4>() else { return Verdict::Refused };
    let tail = [index, &trailer(index)].concat();
    let pack_len = 8 + u64::from(u32::from_le_bytes(*frames)) + tail.len() as u64;
    check_bytes(&tail, |tail| PackIndex::of_tail(tail, pack_len), PackIndex::encode)
}

/// A whole pack. The input is its frames and its index, and the length of the index.
pub fn pack(bytes: &[u8]) -> Verdict {
    let Some((bytes, index_len)) = bytes.split_last_chunk::<2>() else { return Verdict::Refused };
    let index_len = usize::from(u16::from_le_bytes(*index_len)).min(bytes.len());
    let (frames, index) = bytes.split_at(bytes.len() - index_len);
    let whole = Bytes::from([b"sspack\x00\x01", frames, index, &trailer(index)].concat());
    let opened = OpenedPack::open(whole.clone()).and_then(|opened| opened.verify(Vec::new()));
    // A pack that misnames a content is all that is refused only here.
    if !matches!(opened, Err(PackError::WrongRecipe { .. })) {
        assert_eq!(opened.is_ok(), VerifiedPack::verify(whole.clone()).is_ok());
    }
    check_bytes(
        &whole,
        |_| VerifiedPack::verify(whole.clone()),
        |pack| {
            let index = pack.index().encode();
            [b"sspack\x00\x01", frames, &index].concat()
        },
    )
}

/// A frame: its codec, its decoded length, and its bytes. Taken for a single object, it is that object.
pub fn frame(bytes: &[u8]) -> Verdict {
    let Some(([codec, len @ ..], stored)) = bytes.split_first_chunk::<5>() else { return Verdict::Refused };
    let Ok(codec) = Codec::from_code(*codec) else { return Verdict::Refused };
    let raw = u32::from_le_bytes(*len);
    let stored = Bytes::copy_from_slice(stored);
    let Ok(decoded) = decode_raw(codec, &stored, raw) else { return Verdict::Refused };
    assert!(decoded.len() == raw as usize && decoded.len() <= FRAME_RAW_MAX);
    let key = ObjectKey::chunk(ObjectId::of(&decoded));
    let frame = Frame {
        offset: 8,
        codec,
        stored: u32::try_from(stored.len()).expect("inputs are small"),
        raw,
        objects: vec![FrameObject { key, len: raw }],
    };
    if let Ok(objects) = decode_frame(&frame, &stored) {
        assert_eq!(objects[0].bytes(), &decoded);
    }
    Verdict::Accepted
}

/// A path, for those who need one.
pub(crate) fn path(bytes: &[u8]) -> Option<TreePath> {
    TreePath::new(bytes).ok()
}
