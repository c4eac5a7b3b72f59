//! From two trees to a bundle and back.

mod archives;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::ops::Range;

use proptest::prelude::*;
use smart_sync_store::chunk::ChunkRef;
use smart_sync_store::content::{cut_content, name_content};
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::{
    Attributes, BuildError, Content, Entry, Fidelity, FileTime, GitMode, ManifestBuilder, ManifestSummary,
    Node, SystemMetadata, TreePath, edited,
};

use super::apply::{Bundle, BundleError, ContentTaker, Limits, NewContents, OldFiles, Rebuilder};
use super::encode::{ContentSource, Effort, arrange};
use super::plan::{Draft, draft};
use super::resolve::{Delivery, OldFile};
use archives::Corrects;
use smart_sync_store::unpack::Dissector;

const LIMITS: Limits = Limits { head_bytes: 1 << 24, content_bytes: 1 << 32 };

/// A tree in memory: what stands at each path.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    files: BTreeMap<String, File>,
    is_system: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum File {
    Plain(Vec<u8>, bool, i64),
    Link(String),
    Directory,
}

impl Tree {
    fn git() -> Self {
        Self::default()
    }

    fn put(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), File::Plain(bytes.into(), false, 0));
        self
    }

    fn fidelity(&self) -> Fidelity {
        if self.is_system { Fidelity::System } else { Fidelity::Git }
    }

    fn entries(&self) -> Vec<Entry> {
        let system = |seconds| {
            Attributes::System(Some(Box::new(SystemMetadata {
                mode: 0o644,
                uid: 0,
                gid: 0,
                user: (*b"root").into(),
                group: (*b"root").into(),
                modified: FileTime { seconds, nanoseconds: 5 },
                xattrs: Vec::new(),
                is_sparse: false,
            })))
        };
        let mut entries = Vec::new();
        if self.is_system {
            entries.push(Entry { path: TreePath::root(), node: Node::Directory, attributes: system(0) });
        }
        for (path, file) in &self.files {
            let (node, mode, seconds) = match file {
                File::Plain(bytes, is_executable, seconds) => {
                    let mode = if *is_executable { GitMode::EXECUTABLE } else { GitMode::FILE };
                    (Node::File(name_content(bytes)), mode, *seconds)
                }
                File::Link(target) => (Node::Symlink(name_content(target.as_bytes())), GitMode::SYMLINK, 0),
                File::Directory => (Node::Directory, GitMode::DIRECTORY, 0),
            };
            let attributes = if self.is_system { system(seconds) } else { Attributes::Git(mode) };
            entries.push(Entry { path: TreePath::new(path.as_bytes()).unwrap(), node, attributes });
        }
        entries
    }

    fn contents(&self) -> HashMap<ContentId, Vec<u8>> {
        let bytes = self.files.values().filter_map(|file| match file {
            File::Plain(bytes, ..) => Some(bytes.clone()),
            File::Link(target) => Some(target.clone().into_bytes()),
            File::Directory => None,
        });
        bytes.map(|bytes| (ContentId::of(&bytes), bytes)).collect()
    }
}

fn summary(fidelity: Fidelity, entries: impl Iterator<Item = Entry>) -> Result<ManifestSummary, BuildError> {
    let mut builder = ManifestBuilder::new(fidelity, |_, _| Ok::<_, BuildError>(()));
    for entry in entries {
        builder.push(&entry)?;
    }
    builder.finish()
}

struct Contents(HashMap<ContentId, Vec<u8>>);

impl ContentSource for Contents {
    fn read(&self, content: &Content, range: Range<u64>) -> io::Result<Vec<u8>> {
        let bytes = &self.0[&content.id];
        Ok(bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec())
    }

    fn chunks(&self, content: &Content) -> io::Result<Vec<ChunkRef>> {
        Ok(cut_content(&self.0[&content.id], |_, _| ()).chunks)
    }

    fn scratch(&self) -> io::Result<std::fs::File> {
        tempfile::tempfile()
    }

    fn dissector(&self) -> Option<&dyn Dissector> {
        Some(&Corrects)
    }
}

impl OldFiles for Contents {
    fn read(&self, file: &OldFile, range: Range<u64>) -> io::Result<Vec<u8>> {
        ContentSource::read(self, &file.content, range)
    }
}

struct Sink;

impl NewContents for Sink {
    type Error = Infallible;
    type Writer = Vec<u8>;

    fn put(&self, _: &Delivery, bytes: &[u8]) -> Result<Content, Infallible> {
        Ok(name_content(bytes))
    }

    fn begin(&self, _: &Delivery) -> Result<Vec<u8>, Infallible> {
        Ok(Vec::new())
    }

    fn scratch(&self) -> io::Result<std::fs::File> {
        tempfile::tempfile()
    }
}

impl ContentTaker for Vec<u8> {
    type Error = Infallible;

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self) -> Result<Content, Infallible> {
        Ok(name_content(&self))
    }
}

fn infallible(entries: Vec<Entry>) -> impl Iterator<Item = Result<Entry, Infallible>> {
    entries.into_iter().map(Ok)
}

/// What a tree of this fidelity can be built on.
fn base(old: &Tree, fidelity: Fidelity) -> Vec<Entry> {
    if old.fidelity() == fidelity { old.entries() } else { Vec::new() }
}

fn drafted(old: &Tree, new: &Tree) -> Draft {
    let Ok(draft) = draft(new.fidelity(), infallible(base(old, new.fidelity())), infallible(new.entries()));
    draft
}

fn bundle(old: &Tree, new: &Tree, effort: Effort) -> Vec<u8> {
    let mut contents = old.contents();
    contents.extend(new.contents());
    let source = Contents(contents);
    let mut out = Vec::new();
    let written =
        arrange(drafted(old, new), &source, effort).unwrap().write(&source, effort, &mut out).unwrap();
    assert_eq!(written, out.len() as u64);
    out
}

fn carry_out(old: &Tree, bytes: &[u8]) -> Result<ManifestSummary, BundleError<Infallible>> {
    carry_out_with(old, bytes, &Corrects)
}

fn carry_out_with(
    old: &Tree,
    bytes: &[u8],
    rebuilder: &dyn Rebuilder,
) -> Result<ManifestSummary, BundleError<Infallible>> {
    let bundle = Bundle::open(bytes, infallible(old.entries()), LIMITS)?;
    let files = Contents(old.contents());
    let (resolved, contents) = bundle.carry_out(&files, &Sink, rebuilder, |_| ())?;
    let fidelity = resolved.fidelity;
    let edits = resolved.into_edits(&contents);
    let entries = edited(infallible(base(old, fidelity)), edits).map(|entry| match entry {
        Ok(entry) => entry,
        Err(never) => match never {},
    });
    summary(fidelity, entries)
        .map_err(|error| smart_sync_store::codec::DecodeError::invalid(error.to_string()).into())
}

#[track_caller]
fn check(old: &Tree, new: &Tree) -> [usize; 2] {
    let expected = summary(new.fidelity(), new.entries().into_iter()).unwrap();
    [Effort::Quick, Effort::Best].map(|effort| {
        let bytes = bundle(old, new, effort);
        assert_eq!(carry_out(old, &bytes).unwrap(), expected, "{effort:?}");
        bytes.len()
    })
}

pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn a_first_bundle_brings_a_whole_tree() {
    let mut tree = Tree::git().put("a", *b"first").put("b/c", *b"").put("b/d", noise(1, 5000));
    tree.files.insert("link".into(), File::Link("b/c".into()));
    tree.files.insert("empty".into(), File::Directory);
    check(&Tree::git(), &tree);
    check(&tree, &Tree::git());
    check(&tree, &tree);
    let mut tree = Tree { is_system: true, ..Tree::git().put("a", *b"first").put("b", noise(3, 5000)) };
    tree.files.insert("link".into(), File::Link("b".into()));
    check(&Tree { is_system: true, ..Tree::git() }, &tree);
    // Nothing can be built on a tree that keeps other things of a file.
    check(&Tree::git(), &tree);
}

#[test]
fn what_moved_is_named_and_not_sent() {
    let bytes = noise(1, 100_000);
    let old = Tree::git().put("old/place", bytes.clone()).put("other", noise(2, 100));
    let new = Tree::git().put("new/place", bytes.clone()).put("other", bytes);
    let [quick, best] = check(&old, &new);
    assert!(quick < 100 && best < 100, "{quick} {best}");
}

#[test]
fn a_change_costs_what_it_is_worth() {
    let bytes = noise(1, 300_000);
    let mut changed = bytes.clone();
    changed.splice(150_000..150_010, *b"something else");
    let old =
        (0..300).fold(Tree::git(), |tree, number| tree.put(&format!("d/{number:03}"), noise(number, 50)));
    let new = old.clone().put("d/150", changed.clone());
    let old = old.put("d/150", bytes.clone());
    let [quick, best] = check(&old, &new);
    assert!(quick < 200 && best < 120, "{quick} {best}");
    // The same under a path that carries a version.
    let versioned = |version: &str, bytes: &[u8]| {
        (0..200).fold(Tree::git(), |tree, number| {
            let name = format!("lib/modules/{version}/kernel/drivers/{number}/module.ko");
            tree.put(&name, [&noise(number, 300)[..], bytes].concat())
        })
    };
    let [quick, best] = check(&versioned("6.1.0-44", b"one"), &versioned("6.1.0-45", b"two"));
    assert!(quick < 4000 && best < 4000, "{quick} {best}");
}

#[test]
fn a_large_file_is_delivered_in_parts() {
    let bytes = noise(9, 9 << 20);
    let mut changed = bytes.clone();
    changed[3 << 20] ^= 1;
    changed.splice(5 << 20..5 << 20, noise(77, 1000));
    let old = Tree::git().put("image", bytes.clone()).put("cut", bytes.clone());
    let new = Tree::git().put("image", changed).put("cut", bytes[..4 << 20].to_vec());
    let draft = drafted(&old, &new);
    assert_eq!(draft.items.len(), 2);
    let [quick, best] = check(&old, &new);
    assert!(quick < 3000 && best < 3000, "{quick} {best}");
}

#[test]
fn times_alone_cost_little() {
    let system = |seconds: i64, byte: u8| {
        let mut tree = Tree { is_system: true, ..Tree::git() };
        for number in 0..100 {
            let bytes = vec![byte; 10];
            tree.files.insert(format!("f{number}"), File::Plain(bytes, false, seconds));
        }
        tree
    };
    let [quick, _] = check(&system(1000, 1), &system(5000, 2));
    assert!(quick < 120, "{quick}");
    check(&system(1000, 1), &system(7000, 1));
}

#[test]
fn a_bundle_for_another_tree_is_refused_or_leads_elsewhere() {
    let old = Tree::git().put("a", noise(1, 1000)).put("b", noise(2, 1000)).put("z", *b"x");
    let new = Tree::git().put("a", noise(1, 1001)).put("c", noise(2, 1000)).put("z", *b"y");
    let expected = summary(Fidelity::Git, new.entries().into_iter()).unwrap();
    let bytes = bundle(&old, &new, Effort::Best);
    let others = [Tree::git(), old.clone().put("0", *b"first"), old.clone().put("a", noise(3, 1000)), new];
    for other in others {
        assert!(
            carry_out(&other, &bytes).is_ok_and(|found| found != expected)
                || carry_out(&other, &bytes).is_err()
        );
    }
}

#[test]
fn every_shortened_bundle_is_refused() {
    let old = Tree::git().put("a", noise(1, 1000));
    let new = Tree::git().put("a", noise(1, 900)).put("b", noise(5, 2000));
    let bytes = bundle(&old, &new, Effort::Quick);
    for len in 0..bytes.len() {
        assert!(carry_out(&old, &bytes[..len]).is_err(), "{len}");
    }
    assert!(carry_out(&old, &[&bytes[..], &bytes[5..]].concat()).is_err());
}

fn arbitrary_tree() -> impl Strategy<Value = BTreeMap<String, (u64, usize, bool)>> {
    let path = "[a-c]{1,2}(/[a-c]{1,2}){0,2}(-[0-9]{1,2})?";
    proptest::collection::btree_map(path, (0u64..6, 0usize..400, any::<bool>()), 0..12)
}

/// Makes a tree of it, leaving out what would stand below a file.
fn tree_of(files: &BTreeMap<String, (u64, usize, bool)>, is_system: bool) -> Tree {
    let mut tree = Tree { is_system, ..Tree::default() };
    for (path, (seed, len, flag)) in files {
        let is_below = tree.files.keys().any(|other| path.starts_with(&format!("{other}/")));
        if is_below || is_system && path.contains('/') {
            continue;
        }
        let file = match (seed, flag) {
            (0, true) => File::Link(format!("target{len}")),
            _ => File::Plain(noise(*seed, *len), *flag && !is_system, (*len).cast_signed() as i64),
        };
        tree.files.insert(path.clone(), file);
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_step_comes_out(old in arbitrary_tree(), new in arbitrary_tree(), is_system: bool) {
        check(&tree_of(&old, is_system), &tree_of(&new, is_system));
    }

    #[test]
    fn a_head_has_one_spelling(old in arbitrary_tree(), new in arbitrary_tree(), at: prop::sample::Index, byte: u8) {
        let (old, new) = (tree_of(&old, false), tree_of(&new, false));
        let mut contents = old.contents();
        contents.extend(new.contents());
        let source = Contents(contents);
        let arranged = arrange(drafted(&old, &new), &source, Effort::Quick).unwrap();
        let mut bytes = arranged.head().encode();
        prop_assert_eq!(&super::head::Head::decode(&bytes).unwrap(), arranged.head());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(head) = super::head::Head::decode(&bytes) {
            prop_assert_eq!(head.encode(), bytes);
        }
    }
}
