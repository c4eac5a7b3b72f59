//! Trees as a hostile publisher writes them: entries are bytes, and keep no rule but those that a test keeps.

use std::collections::BTreeMap;

use smart_sync_store::codec::{put_number, put_prefixed};
use smart_sync_store::content::name_content;
use smart_sync_store::id::{ContentId, ManifestId, ObjectId, PackId};
use smart_sync_store::manifest::{
    Attributes, BuildError, Content, Entry, Fidelity, GitMode, ManifestBuilder, Node, TreePath,
};
use smart_sync_store::pack::Codec;
use smart_sync_sync::wire::fetch_map::{ContentParts, FetchMap, FrameChunk, FrameRef, PackRef};

use super::{Reply, Request};

/// The number of bytes that a content is cut into.
const CHUNK_BYTES: usize = 100_000;
/// The kinds of entries, as `docs/formats.md` numbers them.
const FILE: u8 = 0;
const SYMLINK: u8 = 2;
const DIRECTORY: u8 = 4;

/// An entry that need not be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEntry {
    /// Its path.
    pub path: Vec<u8>,
    /// Its kind.
    pub kind: u8,
    /// Its fields.
    pub fields: Vec<u8>,
    /// The size that the fields claim.
    pub size: u64,
}

impl RawEntry {
    /// A file, whose content is as it is said to be.
    pub fn file(path: impl Into<Vec<u8>>, content: &Content) -> Self {
        Self { path: path.into(), kind: FILE, fields: content_fields(content), size: content.size }
    }

    /// A symbolic link.
    pub fn symlink(path: impl Into<Vec<u8>>, content: &Content) -> Self {
        Self { kind: SYMLINK, ..Self::file(path, content) }
    }

    /// A file with holes, of fidelity `system`.
    pub fn sparse(path: impl Into<Vec<u8>>, content: &Content) -> Self {
        let mut fields = metadata(0o644);
        fields.push(1);
        fields.extend(content_fields(content));
        Self { path: path.into(), kind: FILE, fields, size: content.size }
    }

    /// The tree itself, which is the first entry of fidelity `system`.
    pub fn root() -> Self {
        Self { path: Vec::new(), kind: DIRECTORY, fields: metadata(0o755), size: 0 }
    }

    /// An empty directory.
    pub fn directory(path: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), kind: DIRECTORY, fields: Vec::new(), size: 0 }
    }
}

/// The metadata of what belongs to user 0, was changed in 1970 and has no attributes.
fn metadata(mode: u64) -> Vec<u8> {
    let mut fields = Vec::new();
    put_number(&mut fields, mode);
    fields.extend_from_slice(&[0; 7]);
    fields
}

fn content_fields(content: &Content) -> Vec<u8> {
    let mut fields = Vec::new();
    put_number(&mut fields, content.size);
    fields.extend_from_slice(content.blob.as_bytes());
    fields.extend_from_slice(content.id.as_bytes());
    fields
}

/// A tree that is being put together, with where its contents lie.
#[derive(Debug, Clone)]
pub struct TreeBuilder {
    /// The entries, in the order in which they are written.
    pub entries: Vec<RawEntry>,
    /// Where contents are said to lie: in pack 0.
    pub map: FetchMap,
    /// The bytes of the pack.
    pub pack: Vec<u8>,
    /// How much of a file's metadata the entries have. Those of fidelity `system` are forged, not built.
    pub fidelity: Fidelity,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        // What stands before the first frame of a pack is not read by those who ask for ranges.
        let map = FetchMap {
            packs: vec![PackRef { id: PackId::from_bytes([0; 32]), length: 0 }],
            ..FetchMap::default()
        };
        Self { entries: Vec::new(), map, pack: vec![0; 8], fidelity: Fidelity::Git }
    }
}

impl TreeBuilder {
    /// A tree of files, in the order of their paths.
    pub fn of<P: AsRef<[u8]>, C: AsRef<[u8]>>(files: &[(P, C)]) -> Self {
        let mut builder = Self::default();
        for (path, bytes) in files {
            builder.file(path.as_ref(), bytes.as_ref());
        }
        builder
    }

    /// Adds a file and its content.
    pub fn file(&mut self, path: &[u8], bytes: &[u8]) -> Content {
        let content = self.content(bytes);
        self.entries.push(RawEntry::file(path, &content));
        content
    }

    /// Adds a content, each chunk in a frame of its own.
    pub fn content(&mut self, bytes: &[u8]) -> Content {
        let content = name_content(bytes);
        let ordinals = bytes.chunks(CHUNK_BYTES).map(|chunk| self.chunk(chunk)).collect();
        self.parts(content.id, content.size, ordinals);
        content
    }

    /// Adds a chunk as it is, and returns its number.
    pub fn chunk(&mut self, chunk: &[u8]) -> u32 {
        self.frame(chunk, chunk.len(), Codec::Raw, ObjectId::of(chunk))
    }

    /// Adds a frame that is said to decode to `raw` bytes, all of which are one chunk.
    pub fn frame(&mut self, stored: &[u8], raw: usize, codec: Codec, id: ObjectId) -> u32 {
        let length = u32::try_from(raw).expect("frames of tests are small");
        self.map.frames.push(FrameRef {
            pack: 0,
            offset: self.pack.len() as u64,
            stored: u32::try_from(stored.len()).expect("frames of tests are small"),
            raw: length,
            codec,
            chunks: vec![FrameChunk { id, start: 0, length }],
        });
        self.pack.extend_from_slice(stored);
        u32::try_from(self.map.frames.len() - 1).expect("tests have few frames")
    }

    /// Says of which chunks a content is made.
    pub fn parts(&mut self, id: ContentId, size: u64, chunks: Vec<u32>) {
        // The empty content is not stored at all.
        if size > 0 {
            self.map.contents.push(ContentParts { id, size, chunks });
        }
    }

    /// The tree, as an honest publisher cuts it into pages.
    pub fn build(self) -> Tree {
        let mut pages = BTreeMap::new();
        let mut builder = ManifestBuilder::new(Fidelity::Git, |id: ObjectId, page: Vec<u8>| {
            pages.insert(id, page);
            Ok::<_, BuildError>(())
        });
        for entry in &self.entries {
            builder.push(&entry.parse()).expect("the entries are sound");
        }
        let summary = builder.finish().expect("a root page");
        let (id, root_length) = (summary.id, summary.root_length);
        self.finish(id, root_length, pages)
    }

    /// The tree, with whatever its entries are in a single page.
    pub fn forge(self) -> Tree {
        let page = page(self.fidelity, &self.entries);
        let (id, length) = (ObjectId::of(&page), page.len() as u64);
        self.finish(ManifestId::from_root_page(id), length, BTreeMap::from([(id, page)]))
    }

    fn finish(mut self, id: ManifestId, root_length: u64, pages: BTreeMap<ObjectId, Vec<u8>>) -> Tree {
        let pack_id = PackId::from_bytes(*blake3::hash(&self.pack).as_bytes());
        self.map.packs[0] = PackRef { id: pack_id, length: self.pack.len() as u64 };
        let delta = self.delta();
        Tree {
            id,
            root_length,
            entries: self.entries.len() as u64,
            bytes: self.entries.iter().fold(0, |sum, entry| entry.size.wrapping_add(sum)),
            delta: zstd::encode_all(&delta[..], 3).expect("bytes in memory are compressed"),
            map: self.map.encode(),
            pages: pages.into_iter().map(|(id, page)| (id.to_string(), page)).collect(),
            pack: (pack_id.to_string(), self.pack),
        }
    }

    /// The delta from nothing, not compressed.
    fn delta(&self) -> Vec<u8> {
        let mut delta = b"ssdl\x01".to_vec();
        delta.push(code(self.fidelity));
        put_number(&mut delta, self.entries.len() as u64);
        put_entries(&mut delta, &self.entries, &[1]);
        delta.extend_from_slice(&self.map.encode());
        delta
    }
}

impl RawEntry {
    fn parse(&self) -> Entry {
        let content = || {
            let mut reader = smart_sync_store::codec::Reader::new(&self.fields);
            Content {
                size: reader.number("size", u64::MAX).expect("a size"),
                blob: reader.array("blob").map(smart_sync_store::id::BlobId::from_bytes).expect("a blob"),
                id: reader.array("content").map(ContentId::from_bytes).expect("a content"),
            }
        };
        let (node, mode) = match self.kind {
            SYMLINK => (Node::Symlink(content()), GitMode::SYMLINK),
            DIRECTORY => (Node::Directory, GitMode::DIRECTORY),
            _ => (Node::File(content()), GitMode::FILE),
        };
        let path = TreePath::new(self.path.clone()).expect("the path is sound");
        Entry { path, node, attributes: Attributes::Git(mode) }
    }
}

/// A page of entries, whatever they are.
pub fn page(fidelity: Fidelity, entries: &[RawEntry]) -> Vec<u8> {
    let mut page = b"ssmp\x01\x00".to_vec();
    page.push(code(fidelity));
    put_number(&mut page, entries.len() as u64);
    put_entries(&mut page, entries, &[]);
    page
}

const fn code(fidelity: Fidelity) -> u8 {
    match fidelity {
        Fidelity::Git => 0,
        Fidelity::System => 1,
    }
}

/// Entries shortened against each other, with something between path and kind.
fn put_entries(out: &mut Vec<u8>, entries: &[RawEntry], between: &[u8]) {
    let mut previous: &[u8] = &[];
    for entry in entries {
        let shared = previous.iter().zip(&entry.path).take_while(|(one, other)| one == other).count();
        put_number(out, shared as u64);
        put_prefixed(out, &entry.path[shared..]);
        out.extend_from_slice(between);
        out.push(entry.kind);
        out.extend_from_slice(&entry.fields);
        previous = &entry.path;
    }
}

/// A tree that was published, and everything that is sent of it.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The id of its manifest.
    pub id: ManifestId,
    /// The length of the root page.
    pub root_length: u64,
    /// The number of entries that is signed.
    pub entries: u64,
    /// The sum of their sizes that is signed.
    pub bytes: u64,
    /// The delta from nothing.
    pub delta: Vec<u8>,
    /// Where its contents lie.
    pub map: Vec<u8>,
    /// Its pages by their names.
    pub pages: BTreeMap<String, Vec<u8>>,
    /// The name of its pack, and the bytes.
    pub pack: (String, Vec<u8>),
}

/// What a server has: where `main` stands, and trees.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// What it answers about the branch.
    pub evidence: Vec<u8>,
    /// The trees.
    pub trees: Vec<Tree>,
}

impl World {
    /// A world.
    pub fn new(evidence: Vec<u8>, trees: &[&Tree]) -> Self {
        Self { evidence, trees: trees.iter().map(|tree| (*tree).clone()).collect() }
    }

    /// The answer of an honest server that knows no deltas but those from nothing.
    pub fn answer(&self, request: &Request) -> Reply {
        let absent = || Reply::Status(404, "not here");
        let found = |bytes: Option<&Vec<u8>>| bytes.map_or_else(absent, |bytes| Reply::Ok(bytes.clone()));
        let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        match path[..] {
            ["v1", "update", _, "branch~3amain"] => Reply::Ok(self.evidence.clone()),
            ["v1", "delta", "none", to] => {
                let tree = self.trees.iter().find(|tree| tree.id.to_string() == to);
                found(tree.map(|tree| &tree.delta))
            }
            ["pack", pack] => {
                let tree = self.trees.iter().find(|tree| tree.pack.0 == pack);
                found(tree.map(|tree| &tree.pack.1))
            }
            ["v1", "locate"] => found(self.trees.last().map(|tree| &tree.map)),
            ["page", page] => found(self.trees.iter().find_map(|tree| tree.pages.get(page))),
            _ => absent(),
        }
    }
}
