//! The ledger: every path of the host that something was placed at outside of targets that are all ours, and what stood
//! there before.
//!
//! Each entry can be undone. The one decision is the order: what stands at a path is kept, and what is about to be done
//! there is noted, durably and for all paths of a run at once, before the first path is touched. From then on the ledger
//! alone knows how to end the run, whoever comes next, because it has the contents too.
//!
//! ```text
//! ledger         the entries, as the module `entry` describes them
//! contents/…     what stood at paths before, and what is about to be placed
//! lock           who changes it now
//! ```
//!
//! An entry belongs to its owner, a text, and nobody else places anything at its path.

mod act;
mod contents;
mod entry;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::path::Path;

use smart_sync_store::id::ContentId;

use super::backup::Backup;
use super::error::ApplyError;
use super::lock::{Holder, Lock};
use super::step::Steps;
use super::tree_dir::{RootLink, TreeDir};
use super::tree_walk::sync_file;
use act::{Hand, shown};
use entry::LEDGER_BYTES_MAX;

pub use act::Done;
pub(super) use act::way_blocked;
pub(super) use contents::Contents;
pub use entry::{Entries, Entry, HostPath, Owner, Pending, Thing, decode, encode};
pub use verify::{Condition, Verified};

const LEDGER: &[u8] = b"ledger";
const LEDGER_NEW: &[u8] = b"ledger.new";
const CONTENTS: &[u8] = b"contents";

/// The ledger of a host, which belongs to this run.
#[derive(Debug)]
pub struct Ledger {
    home: TreeDir,
    contents: Contents,
    root: TreeDir,
    entries: Entries,
    _lock: Lock,
}

/// Reads what the ledger in a directory says, without taking it.
pub fn read(home: &Path) -> Result<Entries, ApplyError> {
    match TreeDir::open(home, RootLink::Follow, Steps::default()) {
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(Entries::new()),
        home => load(&home?),
    }
}

impl Ledger {
    /// Takes the ledger in a directory, which is there.
    pub fn lock(home: &Path, holder: &Holder, steps: &Steps) -> Result<Self, ApplyError> {
        let home = TreeDir::open(home, RootLink::Follow, steps.clone())?;
        let lock = Lock::take(&home, holder)?;
        let contents = Contents::open(&home, CONTENTS)?;
        let root = TreeDir::open(Path::new("/"), RootLink::Refuse, steps.clone())?;
        let entries = load(&home)?;
        Ok(Self { home, contents, root, entries, _lock: lock })
    }

    /// All that is known, by path.
    pub const fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The entries of an owner.
    pub fn entries_of<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = (&'a HostPath, &'a Entry)> {
        self.entries.iter().filter(move |(_, entry)| entry.owner == *owner)
    }

    /// Where contents go that are about to be placed.
    pub(super) const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Places things, all of them or, after an interruption, once [`complete`](Self::complete) is called.
    pub fn place(
        &mut self,
        owner: &Owner,
        things: Vec<(HostPath, Thing)>,
        backup: &mut Backup<'_>,
    ) -> Result<Vec<Done>, ApplyError> {
        let changes = things.into_iter().map(|(path, thing)| (path, Pending::Place(thing))).collect();
        self.begin(owner, changes)?;
        self.complete(owner, backup)
    }

    /// Gives back what stood at paths that an owner placed something at.
    pub fn give_back(
        &mut self,
        owner: &Owner,
        paths: Vec<HostPath>,
        backup: &mut Backup<'_>,
    ) -> Result<Vec<Done>, ApplyError> {
        self.begin(owner, paths.into_iter().map(|path| (path, Pending::GiveBack)).collect())?;
        self.complete(owner, backup)
    }

    /// Notes what is about to be done, durably, and keeps what stands where it will be. Nothing of the host changes.
    /// The contents of what will be placed are kept already.
    pub(super) fn begin(
        &mut self,
        owner: &Owner,
        changes: Vec<(HostPath, Pending)>,
    ) -> Result<(), ApplyError> {
        let hand = Hand { root: &self.root, contents: &self.contents };
        let mut entries = self.entries.clone();
        let is_directory = |change: &Pending| matches!(change, Pending::Place(thing) if thing.is_directory());
        let made: HashSet<HostPath> =
            changes.iter().filter(|(_, change)| is_directory(change)).map(|(path, _)| path.clone()).collect();
        for (path, change) in changes {
            let gives_nothing = || entries.get(&path).is_none_or(|entry| entry.former.is_none());
            if change != Pending::GiveBack || !gives_nothing() {
                hand.check_way_to_be(&path, &made)?;
            }
            match (entries.get_mut(&path), change) {
                (Some(entry), _) if entry.owner != *owner => {
                    let owner = entry.owner.as_str().to_owned();
                    return Err(ApplyError::PlacedByAnother { path: shown(&path), owner });
                }
                (Some(entry), change) => entry.pending = Some(change),
                (None, Pending::GiveBack) => {}
                (None, change @ Pending::Place(_)) => {
                    let former = hand.describe(&path)?;
                    if former.as_ref().is_some_and(Thing::is_directory) {
                        return Err(ApplyError::InTheWay { path: shown(&path), kind: "a directory" });
                    }
                    let entry = Entry { owner: owner.clone(), former, placed: None, pending: Some(change) };
                    entries.insert(path, entry);
                }
            }
        }
        self.save(entries)
    }

    /// Whether something that an owner began is still pending.
    pub fn is_pending(&self, owner: &Owner) -> bool {
        self.entries_of(owner).any(|(_, entry)| entry.pending.is_some())
    }

    /// Forgets what an owner was about to do, of which nothing was done.
    pub(super) fn abandon(&mut self, owner: &Owner) -> Result<(), ApplyError> {
        if !self.is_pending(owner) {
            return Ok(());
        }
        let mut entries = self.entries.clone();
        entries.retain(|_, entry| entry.owner != *owner || entry.placed.is_some());
        for entry in entries.values_mut().filter(|entry| entry.owner == *owner) {
            entry.pending = None;
        }
        self.save(entries)?;
        self.prune()
    }

    /// Does what an owner began, from the first step, whether or not it was done before.
    pub fn complete(&mut self, owner: &Owner, backup: &mut Backup<'_>) -> Result<Vec<Done>, ApplyError> {
        let pending: BTreeMap<&HostPath, &Entry> =
            self.entries_of(owner).filter(|(_, entry)| entry.pending.is_some()).collect();
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let hand = Hand { root: &self.root, contents: &self.contents };
        let done = hand.act(&pending, backup)?;
        let mut entries = self.entries.clone();
        entries.retain(|_, entry| entry.owner != *owner || entry.pending != Some(Pending::GiveBack));
        for entry in entries.values_mut().filter(|entry| entry.owner == *owner) {
            if let Some(Pending::Place(thing)) = entry.pending.take() {
                entry.placed = Some(thing);
            }
        }
        self.save(entries)?;
        self.prune()?;
        Ok(done)
    }

    /// Writes the entries, whole and durably, after the contents that they name.
    fn save(&mut self, entries: Entries) -> Result<(), ApplyError> {
        let bytes = encode(&entries);
        // What could not be read again must never be written: it holds what the host gets back.
        if bytes.len() as u64 > LEDGER_BYTES_MAX || decode(&bytes).as_ref() != Ok(&entries) {
            let reason = std::io::Error::other("there is more to note than a ledger holds");
            return Err(self.home.failed("writing", LEDGER, reason));
        }
        self.home.sync_file_system()?;
        self.home.remove_file(LEDGER_NEW)?;
        let mut file = self.home.create_file(LEDGER_NEW)?;
        self.home.announce("write ledger", LEDGER_NEW)?;
        file.write_all(&bytes).map_err(|source| self.home.failed("writing", LEDGER_NEW, source))?;
        sync_file(&self.home, LEDGER_NEW, &file)?;
        self.home.rename(LEDGER_NEW, LEDGER)?;
        self.home.sync_directory(b"")?;
        self.entries = entries;
        Ok(())
    }

    /// Removes contents that no entry needs.
    fn prune(&self) -> Result<(), ApplyError> {
        let kept: HashSet<ContentId> = self.entries.values().flat_map(Entry::contents).collect();
        self.contents.retain(&kept)
    }
}

fn load(home: &TreeDir) -> Result<Entries, ApplyError> {
    if home.stat(LEDGER)?.is_none() {
        return Ok(Entries::new());
    }
    let mut bytes = Vec::new();
    home.open_file(LEDGER)?
        .take(LEDGER_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| home.failed("reading", LEDGER, source))?;
    decode(&bytes)
        .map_err(|error| ApplyError::DamagedRecord { path: home.show(LEDGER), reason: error.to_string() })
}
