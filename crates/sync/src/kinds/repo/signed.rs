//! Comparing an ebuild tree with what has been signed of it (GLEP 74, section "Directory tree coverage").
//!
//! Every file has to be named by a Manifest that the signature at the top leads to, and everything that is named has to
//! be there. What is left out of that is what the Manifests leave to itself, and names that begin with a dot.

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::manifest::TreePath;

use crate::kinds::distfiles::manifest::Dist;
use crate::kinds::manifests::{Fault, Followed, Line, MANIFEST, beside, follow, lines};
use crate::kinds::published::tree_path;
use crate::kinds::pull::Judge;
use crate::kinds::{Before, KindError, Refusal, Unsigned, Whole};
use crate::openpgp::{CLEAR_TEXT_BYTES_MAX, ClearText, Signer};
use crate::source::listed::Listing;
use crate::source::{SourceEntry, SourceError, SourceNode};
use crate::time::UnixTime;

/// The most files of a tree.
const FILES_MAX: usize = 10_000_000;
/// What to do about a tree that nobody has signed.
const UNSIGNED_HINT: &str = "a tree is signed where its Manifest is: Gentoo's is by rsync and as a snapshot, and not in its git repository";
/// What to do about a tree that is older than what is published.
const OLDER_HINT: &str = "a mirror that is behind has such a tree: take it from another one; where going back is meant, \
                          publish it without --keyring";

/// A tree that is what has been signed.
pub(super) struct SignedTree {
    pub(super) signer: Signer,
    /// When it was made, if that is signed.
    pub(super) made: Option<UnixTime>,
    /// What the publisher should hear of.
    pub(super) notes: Vec<String>,
}

/// Compares a tree with what has been signed of it, where there are keys given.
pub(super) fn check(tree: &Whole<'_>) -> Result<Option<SignedTree>, KindError> {
    let Some(ring) = tree.signatures.key_ring else { return Ok(None) };
    let top = tree.listing.read_small(MANIFEST.as_bytes(), CLEAR_TEXT_BYTES_MAX as u64)?;
    if !top.is_some_and(|top| ClearText::is_meant(&top)) {
        if tree.signatures.unsigned == Unsigned::Accepted {
            return Ok(None);
        }
        let reason = "there is none at the top of the tree that is signed";
        return Err(KindError::Refused(vec![Refusal {
            hint: Some(UNSIGNED_HINT),
            ..Refusal::new(&tree_path(MANIFEST)?, reason)
        }]));
    }
    let mut covered = Covered::default();
    let open = |path: &str, most| match tree.listing.read_small(path.as_bytes(), most) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) if tree.listing.find(path.as_bytes()).is_some() => {
            Err(format!("it is no file of at most {most} bytes"))
        }
        Ok(None) => Err("it is not there".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let followed = follow(&open, ring, tree.now, &mut |path, text| covered.take(path, text));
    let Followed { signer, .. } = followed.map_err(refused)?;
    check_made(covered.made, tree.before)?;
    let left = covered.compare(tree.listing)?;
    let mut notes = Vec::new();
    if left > 0 {
        let files = smart_sync_store::count::counted(left, "file", "files");
        notes.push(format!("{files} that its Manifests leave to themselves are published as they are"));
    }
    Ok(Some(SignedTree { signer, made: covered.made, notes }))
}

fn refused(Fault { path, reason }: Fault) -> KindError {
    match tree_path(&path) {
        Ok(path) => KindError::Refused(vec![Refusal::new(&path, &reason)]),
        Err(error) => error,
    }
}

/// What Manifests say.
#[derive(Default)]
struct Covered {
    files: BTreeMap<String, Dist>,
    ignored: BTreeSet<String>,
    made: Option<UnixTime>,
}

impl Covered {
    /// Takes in what one of them says.
    fn take(&mut self, manifest: &str, text: &[u8]) -> Result<(), String> {
        for line in lines(text) {
            let (name, dist) = match line? {
                Line::File(name, dist) | Line::Manifest(name, dist) => (name.to_owned(), dist),
                Line::Auxiliary(name, dist) => (format!("files/{name}"), dist),
                Line::Ignored(name) => {
                    self.ignored.insert(beside(manifest, name));
                    continue;
                }
                // A time that is further down speaks for a part of the tree, and nobody asks for that.
                Line::Timestamp(time) if manifest == MANIFEST => {
                    self.made = Some(time);
                    continue;
                }
                Line::Timestamp(_) | Line::Other => continue,
            };
            let path = beside(manifest, &name);
            if self.files.get(&path).is_some_and(|other| *other != dist) {
                return Err(format!("another line says something else of {path}"));
            }
            self.files.insert(path, dist);
            if self.files.len() > FILES_MAX {
                return Err(format!("the tree has more than {FILES_MAX} files"));
            }
        }
        Ok(())
    }

    /// Compares a tree with that. How many of its files are left to themselves.
    fn compare(&self, tree: &Listing) -> Result<u64, KindError> {
        let (mut refused, mut left, mut named) = (Vec::new(), 0, Vec::new());
        let mut seen = BTreeSet::new();
        for entry in tree.entries() {
            let path = &entry.path;
            if matches!(entry.node, SourceNode::Plain(smart_sync_store::manifest::Node::Directory))
                || path.as_bytes() == MANIFEST.as_bytes()
            {
                continue;
            }
            if self.is_left(path.as_bytes()) {
                left += 1;
                continue;
            }
            let text = str::from_utf8(path.as_bytes()).ok();
            match (text.and_then(|text| self.files.get_key_value(text)), entry.file_size()) {
                (_, None) => refused.push(Refusal::new(path, "it is no file, and nothing of it is signed")),
                (None, _) => refused.push(Refusal::new(path, "no Manifest names it")),
                (Some((name, dist)), Some(size)) => {
                    seen.insert(name.as_str());
                    if size == dist.size {
                        named.push((entry, *dist));
                    } else {
                        refused.push(other_than_said(path));
                    }
                }
            }
        }
        for name in self.files.keys().filter(|name| !seen.contains(name.as_str())) {
            let is_left = self.is_left(name.as_bytes());
            let reason =
                if is_left { "a Manifest names it, and leaves it to itself" } else { "it is not there" };
            refused.push(Refusal::new(&tree_path(name)?, reason));
        }
        refused.extend(others(tree, &named)?);
        if refused.is_empty() { Ok(left) } else { Err(KindError::Refused(refused)) }
    }

    /// Whether Manifests leave a path to itself.
    fn is_left(&self, path: &[u8]) -> bool {
        let is_ignored = |path: &[u8]| str::from_utf8(path).is_ok_and(|path| self.ignored.contains(path));
        let mut slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        path.split(|byte| *byte == b'/').any(|name| name.starts_with(b"."))
            || is_ignored(path)
            || slashes.any(|slash| is_ignored(&path[..slash]))
    }
}

/// The files that are others than is said.
fn others(tree: &Listing, named: &[(&SourceEntry, Dist)]) -> Result<Vec<Refusal>, SourceError> {
    let expected: BTreeMap<&TreePath, Dist> =
        named.iter().map(|(entry, dist)| (&entry.path, *dist)).collect();
    let entries: Vec<&SourceEntry> = named.iter().map(|(entry, _)| *entry).collect();
    let found = tree.look_at(&entries, |entry, read| {
        let Some(expected) = expected.get(&entry.path) else { return Ok(None) };
        let mut judge = Judge::new(*expected);
        read(&mut |bytes| {
            judge.take(bytes);
            Ok(())
        })?;
        Ok((!judge.is_as_expected()).then(|| other_than_said(&entry.path)))
    })?;
    Ok(found.into_iter().flatten().collect())
}

fn other_than_said(path: &TreePath) -> Refusal {
    Refusal::new(path, "it is not what a Manifest says")
}

/// Refuses a tree that is older than the one that is published: who can withhold updates could bring an old one.
fn check_made(made: Option<UnixTime>, before: Option<&dyn Before>) -> Result<(), KindError> {
    let manifest = tree_path(MANIFEST)?;
    let Some(before) = before else { return Ok(()) };
    let Some(content) = before.file(&manifest)? else { return Ok(()) };
    if content.size > CLEAR_TEXT_BYTES_MAX as u64 {
        return Ok(());
    }
    let text = before.read(&[content], CLEAR_TEXT_BYTES_MAX as u64)?.pop().unwrap_or_default();
    let published = lines(&text).find_map(|line| match line {
        Ok(Line::Timestamp(time)) => Some(time),
        _ => None,
    });
    let Some(published) = published else { return Ok(()) };
    let reason = match made {
        Some(made) if made >= published => return Ok(()),
        Some(made) => format!("the tree is of {made}, and the one that is published of {published}"),
        None => format!("it does not say when the tree was made, and what is published is of {published}"),
    };
    Err(KindError::Refused(vec![Refusal { hint: Some(OLDER_HINT), ..Refusal::new(&manifest, &reason) }]))
}
