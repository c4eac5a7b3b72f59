//! Kernels: a channel of versions, each with all that a host needs to boot it.
//!
//! The tree of a channel holds all of them by their states, `current/6.9.1-gentoo/vmlinuz`, for whoever mirrors it and
//! for stock clients. Each version is a tree of its own as well, under a tag, and the newest one that is current under
//! the branch [`NEWEST`], so that a host follows one kernel as it follows any tree. Modules lie there as files: the next
//! version of a kernel costs what changed in them.

mod archive;
mod inspect;
mod look;
mod members;
pub mod names;
pub mod shelf;
mod upstream;
pub mod version;

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::manifest::TreePath;

use super::follow::Following;
use super::{Absent, Alone, ArtifactKind, Before, Job, KindError, OtherNames, Prepared, Refusal, provenance};
use crate::name::RefName;
use crate::source::assembled::Part;
use crate::time::UnixTime;
use names::KernelNames;
use shelf::{Move, MoveError, Shelf, Shelved, State, split};
use upstream::KernelVersions;
use version::Version;

/// The branch that is the newest current kernel.
pub const NEWEST: &str = "current";

/// The kind.
#[derive(Debug)]
pub struct Kernels;

impl ArtifactKind for Kernels {
    fn name(&self) -> &'static str {
        "kernels"
    }

    fn following(&self) -> Following {
        Following::Versions(&KernelVersions)
    }

    fn prepare(&self, job: Job<'_>) -> Result<Prepared, KindError> {
        prepare(&job)
    }

    fn other_names(&self) -> Option<&dyn OtherNames> {
        Some(&KernelNames)
    }

    fn alone(&self, parts: &BTreeMap<TreePath, Part>) -> Vec<Alone> {
        let is_new = |part: &Part| !matches!(part, Part::Published(_));
        let new = parts.iter().filter(|(_, part)| is_new(part)).filter_map(|(path, _)| directory(path));
        let directories: BTreeSet<(TreePath, Version)> = new.collect();
        let alone = |(directory, version): (TreePath, Version)| {
            let reference = RefName::tag(version.as_str()).ok()?;
            Some(Alone { reference, directory, when_other: WHEN_OTHER })
        };
        directories.into_iter().filter_map(alone).collect()
    }

    fn branches(&self) -> &'static [&'static str] {
        &[NEWEST]
    }

    fn branch_holds(&self, branch: &str, paths: &mut dyn Iterator<Item = &TreePath>) -> Option<TreePath> {
        let current = paths.filter(|path| branch == NEWEST && path.as_bytes().starts_with(b"current/"));
        let newest = current.filter_map(directory).max_by(|(_, one), (_, other)| one.cmp(other));
        newest.map(|(directory, _)| directory)
    }
}

/// What is said to whoever builds a version anew.
const WHEN_OTHER: &str =
    "a version is built once: give this build a revision of its own, by CONFIG_LOCALVERSION or as -r1";

/// The directory of the version that a path belongs to.
fn directory(path: &TreePath) -> Option<(TreePath, Version)> {
    let (_, version, below) = split(path)?;
    let length = path.as_bytes().len() - below.len() - 1;
    Some((TreePath::new(&path.as_bytes()[..length]).ok()?, version))
}

fn prepare(job: &Job<'_>) -> Result<Prepared, KindError> {
    let Job { directory, before, absent, now, .. } = *job;
    let found = look::look(directory, now)?;
    let published = before.map(Shelf::read).transpose()?;
    let (before, files) = published.unwrap_or_default();
    let mut shelf = if absent == Absent::Stays { before.clone() } else { Shelf::default() };
    let (mut notes, mut new) = (found.notes, BTreeMap::new());
    for build in found.builds {
        let known = before.versions.get(&build.version);
        let shelved = Shelved {
            state: build.state.unwrap_or(State::Current),
            release: build.release,
            built: known.map_or(build.built, |known| known.built),
        };
        let state = shelved.state;
        // What is here already keeps its state when it is offered once more.
        let is_asked_for = build.state.is_some_and(|state| state != State::Offered);
        let moves = shelf.add(&build.version, shelved, is_asked_for);
        notes.extend(said_of(&build.version, state, known, is_asked_for));
        notes.extend(moves.iter().map(Move::to_string));
        new.insert(build.version, build.parts);
    }
    if before.newest().is_some() && shelf.newest().is_none() {
        let reason = MoveError::NoneCurrent.to_string();
        return Err(KindError::Refused(vec![Refusal::new(&TreePath::root(), &reason)]));
    }
    Ok(Prepared { parts: shelf.parts(&files, new)?, content_time: now, notes, signers: BTreeMap::new() })
}

fn said_of(version: &Version, state: State, known: Option<&Shelved>, is_asked_for: bool) -> Option<String> {
    match known {
        None => Some(format!("{version} is new, and {state}")),
        Some(known) if !is_asked_for && known.state != state => {
            let change = match state {
                State::Offered => String::new(),
                state => format!("; `smart-sync kernel {state}` changes that"),
            };
            Some(format!("{version} is published already, and stays {}{change}", known.state))
        }
        Some(_) => None,
    }
}

impl std::fmt::Display for Move {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, from, to } = self;
        write!(f, "{version} is {to}, and was {from}")
    }
}

/// Versions that get another state, and the tree with them there.
#[derive(Debug)]
pub struct Moved {
    /// The tree.
    pub prepared: Prepared,
    /// What changes in it.
    pub moves: Vec<Move>,
}

/// Gives versions of a channel a state.
pub fn put(
    before: &dyn Before,
    versions: &[Version],
    state: State,
    now: UnixTime,
) -> Result<Moved, PutError> {
    let (mut shelf, files) = Shelf::read(before)?;
    let moves = shelf.put(versions, state)?;
    let notes = moves.iter().map(Move::to_string).collect();
    let mut parts = shelf.parts(&files, BTreeMap::new())?;
    provenance::keep(before, &mut parts)?;
    Ok(Moved { prepared: Prepared { parts, content_time: now, notes, signers: BTreeMap::new() }, moves })
}

/// Why versions do not get a state.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// What is published cannot be gone on from.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// They cannot have it.
    #[error(transparent)]
    Move(#[from] MoveError),
}

#[cfg(test)]
mod tests;
