//! Distfiles: what packages are built from, each by a name that says what is in it.
//!
//! The tree holds the files by their plain names, and a Manifest of all of them. A name never changes what it holds:
//! whoever has a file by that name relies on it. Mirrors are asked by other names as well, see [`layout`].

pub mod layout;
mod look;
pub mod manifest;
mod named;
mod signed_tree;
mod upstream;

use std::collections::BTreeMap;

use smart_sync_store::count::counted;
use smart_sync_store::manifest::Content;

use super::published::{PublishedFiles, tree_path};
use super::pull::PullThrough;
use super::retired::{self, Retired, is_over};
use super::{
    Absent, ArtifactKind, Before, Job, KindError, Located, Names, Needed, OtherNames, Prepared, Refusal,
};
use crate::source::assembled::Part;
use crate::time::UnixTime;
use layout::LayoutNames;
use look::Found;
use manifest::Dist;

/// The Manifest of a tree of distfiles.
pub const MANIFEST: &str = "Manifest";
/// The largest one that is read.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// The kind.
#[derive(Debug)]
pub struct Distfiles;

impl ArtifactKind for Distfiles {
    fn name(&self) -> &'static str {
        "distfiles"
    }

    fn prepare(&self, job: Job<'_>) -> Result<Prepared, KindError> {
        prepare(job)
    }

    fn verifies(&self) -> bool {
        true
    }

    fn judges_signatures(&self) -> bool {
        true
    }

    fn other_names(&self) -> Option<&dyn OtherNames> {
        Some(self)
    }

    fn pull_through(&self) -> Option<&dyn PullThrough> {
        Some(self)
    }
}

impl OtherNames for Distfiles {
    fn locate(&self, path: &[u8]) -> Option<Located> {
        layout::locate(path)
    }

    fn is_learnt(&self, path: &[u8]) -> bool {
        layout::digest_of(path).is_some()
    }

    fn learnt_from(&self) -> (&'static str, u64) {
        (MANIFEST, MANIFEST_BYTES_MAX)
    }

    fn read(&self, bytes: &[u8]) -> Option<Box<dyn Names>> {
        let files = manifest::parse(bytes).ok()?;
        Some(Box::new(LayoutNames::new(files.iter().map(|(name, dist)| (&**name, dist)))))
    }
}

/// The files of a tree, by their names: what each is, and where it is.
type Files = BTreeMap<String, (Dist, Part)>;

fn prepare(job: Job<'_>) -> Result<Prepared, KindError> {
    let Job { directory, before, absent, findings, now, verify_against, signatures, needed, .. } = job;
    let mut notes = Vec::new();
    let expected = match (verify_against, signatures.key_ring) {
        (Some(tree), Some(ring)) => {
            let (named, signer) = signed_tree::of_signed_tree(tree, ring, now)?;
            let user = signer.user.unwrap_or_else(|| "a key without a name".to_owned());
            notes.push(format!("the tree {} is signed by {user}, {}", tree.display(), signer.primary));
            Some(named)
        }
        (Some(tree), None) => Some(named::of_ebuild_tree(tree)?),
        (None, Some(_)) => {
            let text = "distfiles are not signed: --keyring is for the tree that --verify-against names";
            return Err(KindError::Reference(text.to_owned()));
        }
        (None, None) => None,
    };
    let is_named = |name: &str| expected.as_ref().is_none_or(|expected| expected.contains_key(name));
    let found = look::look(directory, findings, now, is_named)?;
    let current = Current::read(before, absent)?;
    let mut files = checked(found, expected.as_ref(), &current)?;
    let Staying { retired, needed, overdue } = keep(&mut files, current, absent, needed, now)?;
    if needed > 0 {
        let count = counted(needed, "file", "files");
        notes.push(format!("{count} that would go stay: kept ebuild trees name them"));
    }
    if overdue > 0 {
        let count = counted(overdue, "file", "files");
        notes.push(format!(
            "{count} would go by now, and stay until it is asked which of them ebuild trees name"
        ));
    }
    let unnamed =
        directory.files().filter_map(|(path, _)| look::name_of(path)).filter(|name| !is_named(name));
    match unnamed.count() as u64 {
        0 => {}
        1 => notes.push("1 file that no Manifest names is left out".to_owned()),
        many => notes.push(format!("{many} files that no Manifest names are left out")),
    }
    let count = counted(files.len() as u64, "distfile", "distfiles");
    notes.push(format!("the tree has {count}; their digests are in its {MANIFEST}"));
    let text = manifest::render(files.iter().map(|(name, (dist, _))| (&**name, dist)));
    let mut parts = BTreeMap::from([(tree_path(MANIFEST)?, Part::Made(text.into()))]);
    if !retired.is_empty() {
        parts.insert(tree_path(retired::FILE)?, Part::Made(retired::render(&retired).into()));
    }
    for (name, (_, part)) in files {
        parts.insert(tree_path(&name)?, part);
    }
    Ok(Prepared { parts, content_time: now, notes, signers: BTreeMap::new() })
}

/// The files of the directory, if each is what its name promises.
fn checked(
    found: Vec<Found>,
    expected: Option<&BTreeMap<String, Dist>>,
    current: &Current,
) -> Result<Files, KindError> {
    let (mut files, mut refused) = (Files::new(), Vec::new());
    for Found { path, name, dist } in found {
        let is_other = |known: Option<&Dist>| known.is_some_and(|known| *known != dist);
        let reason = if is_other(expected.and_then(|expected| expected.get(&name))) {
            "it is not what the Manifest of a package says"
        } else if is_other(current.files.get(&name).map(|(dist, _)| dist)) {
            "a file of this name is published, and is another one; give this one a name of its own"
        } else if is_other(files.get(&name).map(|(dist, _)| dist)) {
            "the directory has two files of this name, which differ"
        } else {
            files.insert(name, (dist, Part::File(path)));
            continue;
        };
        refused.push(Refusal::new(&path, reason));
    }
    if refused.is_empty() { Ok(files) } else { Err(KindError::Refused(refused)) }
}

/// What stays although it is not to.
#[derive(Default)]
struct Staying {
    /// For a while, and since when.
    retired: Retired,
    /// How many because something that is kept refers to them.
    needed: u64,
    /// How many because nobody has asked whether something does.
    overdue: u64,
}

/// Adds what is published and stays. What is not to stay does so for a while, and for as long as it is needed or nobody
/// has asked whether it is.
fn keep(
    files: &mut Files,
    current: Current,
    absent: Absent,
    needed: Option<Needed<'_>>,
    now: UnixTime,
) -> Result<Staying, KindError> {
    let (mut staying, mut names) = (Staying::default(), None);
    for (name, (dist, content)) in current.files {
        if files.contains_key(&name) {
            continue;
        }
        let path = tree_path(&name)?;
        let since = match (current.retired.get(&path), absent) {
            (Some(since), _) => Some(*since),
            (None, Absent::Goes) => Some(now.seconds()),
            (None, Absent::Stays) => None,
        };
        if let Some(since) = since {
            if let (None, Some(ask)) = (&names, needed) {
                names = Some(ask()?);
            }
            match (names.as_ref().map(|names| names.contains(&name)), is_over(since, now)) {
                (Some(true), _) => staying.needed += 1,
                (Some(false), true) => continue,
                (None, true) => {
                    staying.overdue += 1;
                    staying.retired.insert(path, since);
                }
                (_, false) => {
                    staying.retired.insert(path, since);
                }
            }
        }
        files.insert(name, (dist, Part::Published(content)));
    }
    Ok(staying)
}

/// What is published now.
#[derive(Default)]
struct Current {
    files: BTreeMap<String, (Dist, Content)>,
    retired: Retired,
}

impl Current {
    fn read(before: Option<&dyn Before>, absent: Absent) -> Result<Self, KindError> {
        let Some(before) = before else { return Ok(Self::default()) };
        let published = PublishedFiles::open(before)?;
        let text = match published.made(MANIFEST, MANIFEST_BYTES_MAX)? {
            Some(text) => text,
            // What replaces it need not know what it was.
            None if absent == Absent::Goes => return Ok(Self::default()),
            None => {
                let text = format!("it has no {MANIFEST}; --replace publishes the directory in its place");
                return Err(KindError::Before(text));
            }
        };
        let dists = manifest::parse(&text).map_err(|error| KindError::Before(error.to_string()))?;
        let with_content = |(name, dist): (String, Dist)| {
            let content = published.content(&tree_path(&name)?)?;
            Ok((name, (dist, content)))
        };
        let files = dists.into_iter().map(with_content).collect::<Result<_, KindError>>()?;
        Ok(Self { files, retired: published.retired()? })
    }
}

#[cfg(test)]
mod tests;
