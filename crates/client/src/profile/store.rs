//! What is remembered of a profile on this host: its sets, and the journal of one that is not committed.
//!
//! A directory for each profile below `profiles` of the state directory, with a lock of its own: one pull of a profile
//! at a time. Each target has its own lock besides.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use smart_sync_store::id::{ManifestId, ObjectId, to_hex};
use smart_sync_sync::apply::lock::{Holder, Lock};
use smart_sync_sync::apply::run::{LockedTarget, ReadyTarget, Recovery};
use smart_sync_sync::apply::step::Steps;
use smart_sync_sync::apply::tree_dir::{RootLink, TreeDir};
use smart_sync_sync::apply::versions::{Kept, Kind, VersionName};
use smart_sync_sync::name::{Channel, RefQuery};

use super::journal::{FORMAT, Journal, Way};
use super::set::Sets;
use crate::failure::{Exit, Failure};
use crate::realm::trust_store::write;
use crate::settings::ChannelSettings;
use crate::state_dir::make_private;
use crate::sync::place::Place;
use crate::sync::session::seconds_now;

/// Where all of it is, below the state directory.
pub const PROFILES: &str = "profiles";
const JOURNAL: &str = "journal";
const SETS: &str = "sets";

/// What is remembered of a profile, which belongs to this run.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: Lock,
}

impl Store {
    /// Takes what is remembered of a profile, or says who has it.
    pub fn open(profile: &Channel, state_dir: &Path) -> Result<Self, Failure> {
        let directory = directory_of(profile, state_dir);
        make_private(&directory)
            .map_err(|error| Failure::from(error).context(format!("making {}", directory.display())))?;
        Self::at(directory, &format!("the profile {profile}"))
    }

    /// The same for a directory that is there.
    pub fn at(directory: PathBuf, name: &str) -> Result<Self, Failure> {
        let opened = TreeDir::open(&directory, RootLink::Refuse, Steps::default())?;
        let lock = Lock::take(&opened, &Holder::this_process("smart-sync pull", seconds_now()))
            .map_err(|error| Failure::from(error).context(format!("working on {name}")))?;
        Ok(Self { directory, _lock: lock })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The journal of a set that was not committed.
    pub fn journal(&self) -> Result<Option<Journal>, Failure> {
        read_journal(&self.directory)
    }

    /// Replaces the journal.
    pub fn write_journal(&self, journal: &Journal) -> Result<(), Failure> {
        write_json(&self.directory.join(JOURNAL), journal)
    }

    /// Forgets the set of the journal.
    pub fn remove_journal(&self) -> Result<(), Failure> {
        match fs::remove_file(self.directory.join(JOURNAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(fs::File::open(&self.directory)?.sync_all()?),
        }
    }

    /// The sets that are kept.
    pub fn sets(&self) -> Result<Sets, Failure> {
        read_sets(&self.directory)
    }

    /// Replaces the list of sets.
    pub fn write_sets(&self, sets: &Sets) -> Result<(), Failure> {
        write_json(&self.directory.join(SETS), sets)
    }
}

/// The sets of a profile, without taking anything.
pub fn sets_of(profile: &Channel, state_dir: &Path) -> Result<Sets, Failure> {
    read_sets(&directory_of(profile, state_dir))
}

/// The refs that a profile depends on, itself included, as far as the last pull knows. Those of a date do not change.
pub(crate) fn followed(
    profile: &ChannelSettings,
    state_dir: &Path,
) -> Result<Vec<(Channel, RefQuery)>, Failure> {
    let sets = sets_of(&profile.channel, state_dir)?;
    let mut all = vec![(profile.channel.clone(), profile.reference.clone())];
    if let Some(set) = sets.current() {
        let members = set.members.iter().map(|member| (&member.channel, &member.r#ref));
        let named = set.builds_on.iter().map(|(channel, reference)| (channel, reference)).chain(members);
        // What is noted was parsed before.
        all.extend(
            named.filter_map(|(channel, reference)| Some((channel.parse().ok()?, reference.parse().ok()?))),
        );
    }
    all.retain(|(_, reference)| reference.at.is_none());
    Ok(all)
}

/// Where a profile is remembered.
pub fn directory_of(profile: &Channel, state_dir: &Path) -> PathBuf {
    let id = ObjectId::of(profile.as_str().as_bytes());
    let name = profile.as_str().rsplit('/').next().unwrap_or_default();
    let name: String = name.chars().take(40).collect();
    state_dir.join(PROFILES).join(format!("{name}-{}", to_hex(&id.as_bytes()[..8])))
}

/// The directories of all profiles that were pulled on this host.
pub fn all(profiles: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(profiles) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| unreadable(profiles, error))?,
    };
    let mut found = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| unreadable(profiles, error))?;
    found.sort_unstable();
    Ok(found)
}

/// Whether any profile was pulled on this host.
pub fn is_any(state_dir: &Path) -> Result<bool, Failure> {
    Ok(!all(&state_dir.join(PROFILES))?.is_empty())
}

/// The profile that is remembered in a directory, where anything was pulled of it.
pub(super) fn profile_in(directory: &Path) -> Result<Option<String>, Failure> {
    let journal = read_journal(directory)?.map(|journal| journal.set.profile);
    Ok(match journal {
        None => read_sets(directory)?.current().map(|set| set.profile.clone()),
        journal => journal,
    })
}

/// Settles a run on a target that did not end. One that is part of a set which is being switched is completed.
pub(crate) fn recover(place: &Place, locked: LockedTarget) -> Result<(ReadyTarget, Recovery), Failure> {
    let mut decided = None;
    for directory in all(&place.profiles)? {
        decided = decided.or(read_journal(&directory)?.and_then(|journal| journal.decided(&place.target)));
    }
    Ok(locked.recover_to(decided)?)
}

/// Targets of profiles, other than this one, that are not overlays: an overlay places nothing in them.
pub(crate) fn beside(place: &Place) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for directory in all(&place.profiles)? {
        let (journal, sets) = (read_journal(&directory)?, read_sets(&directory)?);
        let of_sets = journal.iter().map(|journal| &journal.set).chain(sets.current());
        let others = of_sets.flat_map(|set| &set.members).map(|member| &member.target);
        found.extend(others.filter(|target| **target != place.target).cloned());
    }
    found.retain(|target| !is_overlay(target, place.state_dir()));
    Ok(found)
}

/// Whether a target is one that lies over directories of others, as far as it was applied.
pub(super) fn is_overlay(target: &Path, state_dir: &Path) -> bool {
    Place::known(target, state_dir).is_some_and(|place| place.kind == Kind::Overlay)
}

/// The targets of other profiles: the profile, where it is remembered, and the directory.
pub(crate) fn of_others(
    profile: &Channel,
    state_dir: &Path,
) -> Result<Vec<(String, PathBuf, PathBuf)>, Failure> {
    let own = directory_of(profile, state_dir);
    let mut found = Vec::new();
    for directory in all(&state_dir.join(PROFILES))?.into_iter().filter(|directory| *directory != own) {
        let sets = read_sets(&directory)?;
        let Some(current) = sets.current() else { continue };
        let theirs = current.members.iter().map(|member| member.target.clone());
        found.extend(theirs.map(|target| (current.profile.clone(), directory.clone(), target)));
    }
    Ok(found)
}

/// The versions of a target that sets need: those that are kept, and those of one that is not committed.
pub(crate) fn needed(place: &Place, kept: &[Kept]) -> Result<Vec<VersionName>, Failure> {
    let mut needed = Vec::new();
    for directory in all(&place.profiles)? {
        let journal = read_journal(&directory)?;
        let sets = read_sets(&directory)?;
        let of_sets = journal.iter().map(|journal| &journal.set).chain(&sets.all);
        let members = of_sets.flat_map(|set| &set.members).filter(|member| member.target == place.target);
        for member in members {
            needed.extend(
                find(kept, member.version.as_deref(), Some(&member.manifest)).map(|kept| kept.name().clone()),
            );
        }
        let ways = journal.iter().flat_map(|journal| &journal.back).filter(|way| way.target == place.target);
        for Way { version, manifest, .. } in ways {
            needed
                .extend(find(kept, version.as_deref(), manifest.as_deref()).map(|kept| kept.name().clone()));
        }
    }
    Ok(needed)
}

/// The version of a name. One that was made again has another, and the same manifest.
pub(crate) fn find<'k>(kept: &'k [Kept], name: Option<&str>, manifest: Option<&str>) -> Option<&'k Kept> {
    let by_name = kept.iter().find(|kept| Some(kept.name().as_str()) == name);
    let manifest: Option<ManifestId> = manifest.and_then(|manifest| manifest.parse().ok());
    by_name.or_else(|| kept.iter().rev().find(|kept| Some(kept.version.manifest()) == manifest))
}

pub(super) fn read_journal(directory: &Path) -> Result<Option<Journal>, Failure> {
    let path = directory.join(JOURNAL);
    match read::<Journal>(&path)? {
        Some(journal) if journal.format != FORMAT => Err(newer(&path)),
        journal => Ok(journal),
    }
}

fn read_sets(directory: &Path) -> Result<Sets, Failure> {
    let path = directory.join(SETS);
    match read::<Sets>(&path)? {
        Some(sets) if !sets.is_known() => Err(newer(&path)),
        sets => Ok(sets.unwrap_or_default()),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, error)),
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::new(Exit::General, error).context(format!("reading {}", path.display())).hint(
                "it is damaged, or of a newer smart-sync; remove it when you know what the targets hold",
            )
        }),
    }
}

fn newer(path: &Path) -> Failure {
    Failure::message(Exit::General, format!("{} was written by a newer smart-sync", path.display()))
        .hint("use the newer one")
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    Failure::from(error).context(format!("reading {}", path.display()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    write(path, &serde_json::to_vec(value).expect("texts, numbers and paths that are text"))
}
