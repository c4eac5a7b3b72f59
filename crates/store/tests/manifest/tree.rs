//! Trees to build manifests of.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use proptest::prelude::*;
use smart_sync_store::content::name_content;
use smart_sync_store::id::{BlobId, CommitId, ContentId, ObjectId};
use smart_sync_store::manifest::{
    Attributes, BuildError, Content, Entry, Fidelity, FileTime, GitMode, Manifest, ManifestBuilder,
    ManifestSummary, Node, PageError, PageSource, SystemMetadata, TreePath,
};

/// Pages in memory that count how often they are read.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pages {
    pub(crate) pages: HashMap<ObjectId, Bytes>,
    pub(crate) reads: Cell<usize>,
}

impl PageSource for Pages {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        self.reads.set(self.reads.get() + 1);
        self.pages.page(id)
    }
}

pub(crate) fn path(text: &str) -> TreePath {
    if text.is_empty() { TreePath::root() } else { TreePath::new(text.as_bytes()).unwrap() }
}

pub(crate) fn content(seed: u64) -> Content {
    let bytes = seed.to_le_bytes();
    let mut blob = [0; 20];
    blob[..8].copy_from_slice(&bytes);
    if seed.is_multiple_of(10_000) {
        return name_content(b"");
    }
    Content { size: seed % 10_000, blob: BlobId::from_bytes(blob), id: ContentId::of(&bytes) }
}

pub(crate) fn git_entry(text: &str, mode: u32, seed: u64) -> Entry {
    let mode = GitMode::new(mode).unwrap();
    let node = if mode.is_file() {
        Node::File(content(seed))
    } else if mode.is_symlink() {
        Node::Symlink(content(seed))
    } else if mode.is_directory() {
        Node::Directory
    } else {
        Node::Submodule(CommitId::from_bytes([7; 20]))
    };
    Entry { path: path(text), node, attributes: Attributes::Git(mode) }
}

pub(crate) fn file(text: &str, seed: u64) -> Entry {
    git_entry(text, 0o100_644, seed)
}

pub(crate) fn metadata(mode: u32) -> SystemMetadata {
    SystemMetadata {
        mode,
        uid: 1000,
        gid: 100,
        user: (*b"alice").into(),
        group: (*b"users").into(),
        modified: FileTime { seconds: 1_700_000_000, nanoseconds: 123_456_789 },
        xattrs: Vec::new(),
        is_sparse: false,
    }
}

pub(crate) fn system_entry(text: &str, node: Node) -> Entry {
    let has_metadata = !matches!(node, Node::Hardlink(_));
    let mode = if node == Node::Directory { 0o755 } else { 0o644 };
    let attributes = Attributes::System(has_metadata.then(|| Box::new(metadata(mode))));
    Entry { path: path(text), node, attributes }
}

pub(crate) fn try_build(
    fidelity: Fidelity,
    entries: &[Entry],
    pages: &mut Pages,
) -> Result<ManifestSummary, BuildError> {
    let mut builder = ManifestBuilder::new(fidelity, |id, bytes| {
        pages.pages.insert(id, bytes.into());
        Ok::<_, BuildError>(())
    });
    for entry in entries {
        builder.push(entry)?;
    }
    builder.finish()
}

pub(crate) fn build(fidelity: Fidelity, entries: &[Entry]) -> (Pages, ManifestSummary) {
    let mut pages = Pages::default();
    let summary = try_build(fidelity, entries, &mut pages).unwrap();
    (pages, summary)
}

pub(crate) fn manifest(fidelity: Fidelity, entries: &[Entry]) -> Manifest<Pages> {
    let (pages, summary) = build(fidelity, entries);
    let manifest = Manifest::open(pages, summary.id, Some(summary.root_length)).unwrap();
    assert_eq!((manifest.entries(), manifest.bytes()), (summary.entries, summary.bytes));
    manifest
}

/// A tree like a source repository: `count` files in directories of 25.
pub(crate) fn many_files(count: u64) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        (0..count).map(|n| file(&format!("src/m{}/p{}/file_{n}.rs", n / 500, n / 25), n)).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries
}

/// Sorted entries of a `git` tree whose names are prefixes of each other as often as possible.
pub(crate) fn git_entries(max: usize) -> impl Strategy<Value = Vec<Entry>> {
    let component = "[ab!0\\-\\xc3\\xbf]{1,3}";
    let path = proptest::collection::vec(component, 1..4).prop_map(|parts| parts.join("/"));
    let mode = prop_oneof![
        6 => Just(0o100_644u32),
        1 => Just(0o100_755u32),
        1 => Just(0o100_664u32),
        1 => Just(0o120_000u32),
        1 => Just(0o160_000u32),
        2 => Just(0o040_000u32),
        1 => Just(0o040_755u32),
    ];
    proptest::collection::btree_map(path, (mode, 0..50u64), 0..max).prop_map(|tree| {
        let mut kept: BTreeMap<String, Entry> = BTreeMap::new();
        for (name, (mode, seed)) in tree {
            let allows_below =
                |above: &Entry| above.attributes == Attributes::Git(GitMode::new(0o040_755).unwrap());
            let mut above = (1..name.len())
                .filter(|at| name.as_bytes()[*at] == b'/')
                .filter_map(|at| kept.get(&name[..at]));
            if above.all(allows_below) {
                kept.insert(name.clone(), git_entry(&name, mode, seed));
            }
        }
        kept.into_values().collect()
    })
}

/// The same shapes with `system` fidelity, every directory with its entry.
pub(crate) fn system_entries(max: usize) -> impl Strategy<Value = Vec<Entry>> {
    git_entries(max).prop_map(|entries| {
        let mut tree: BTreeMap<TreePath, Entry> = BTreeMap::new();
        tree.insert(TreePath::root(), system_entry("", Node::Directory));
        for entry in entries {
            let text = String::from_utf8(entry.path.as_bytes().to_vec()).unwrap();
            for (slash, _) in text.match_indices('/') {
                let parent = system_entry(&text[..slash], Node::Directory);
                tree.insert(parent.path.clone(), parent);
            }
            let node = match entry.node {
                Node::Submodule(_) => Node::Fifo,
                node => node,
            };
            let entry = system_entry(&text, node);
            tree.entry(entry.path.clone()).or_insert(entry);
        }
        tree.into_values().collect()
    })
}
