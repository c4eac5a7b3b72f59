//! Doing what is pending: placing things on the host, and giving back what stood there before.
//!
//! Everything is made beside its place, made durable, and then moved there, so that a path has the one or the other.
//! What is overwritten or removed is looked at immediately before: if it is neither what was placed nor what is kept as
//! having stood there, somebody has changed it, and it goes to the backup. So each step can be done again.

use std::collections::{BTreeMap, HashSet};

use smart_sync_store::id::to_hex;
use smart_sync_store::manifest::path::Shown;

use super::contents::{Contents, copy_file};
use super::entry::{Entry, HostPath, Pending, Thing};
use crate::apply::backup::Backup;
use crate::apply::error::ApplyError;
use crate::apply::hash::{hash_at, hash_reader};
use crate::apply::metadata::Metadata;
use crate::apply::stat::{FileKind, Fingerprint, Stat};
use crate::apply::tree_dir::{Removed, TreeDir};
use crate::apply::tree_walk::join;

/// What the names of things begin with that are made beside their places.
const UNPLACED: &str = ".smart-sync-";

/// The host, and where contents come from.
pub(super) struct Hand<'a> {
    pub(super) root: &'a TreeDir,
    pub(super) contents: &'a Contents,
}

/// A path that is done, and what stands there now; of a directory, or where nothing does, nothing is known.
pub type Done = (HostPath, Option<Fingerprint>);

impl Hand<'_> {
    /// Says what stands at a path, and keeps its content; none where nothing does.
    pub(super) fn describe(&self, path: &HostPath) -> Result<Option<Thing>, ApplyError> {
        let below = path.below_root();
        let Some(stat) = self.root.stat(below)? else { return Ok(None) };
        let metadata = Metadata {
            mode: stat.mode,
            // Only root can give files away, and set what is not an attribute of users.
            owner: is_root().then_some((stat.uid, stat.gid)),
            modified: Some(stat.modified),
            xattrs: None,
        };
        match stat.kind {
            FileKind::File => {
                let (size, content) = self.contents.keep(self.root, below)?;
                let mut xattrs = self.root.xattrs(below)?;
                xattrs.retain(|xattr| is_root() || xattr.name.starts_with(b"user."));
                let metadata = Metadata { xattrs: Some(xattrs), ..metadata };
                Ok(Some(Thing::File { size, content, metadata }))
            }
            FileKind::Symlink => {
                let target = self.root.read_link(below)?.into();
                Ok(Some(Thing::Symlink { target, metadata }))
            }
            FileKind::Directory => Ok(Some(Thing::Directory { metadata })),
            kind => Err(ApplyError::InTheWay { path: shown(path), kind: kind.name() }),
        }
    }

    /// Whether what stands at a path is this, whatever its metadata are.
    pub(super) fn is(&self, path: &HostPath, stat: &Stat, thing: &Thing) -> Result<bool, ApplyError> {
        let below = path.below_root();
        Ok(match thing {
            Thing::Directory { .. } => stat.kind == FileKind::Directory,
            Thing::Symlink { target, .. } => {
                stat.kind == FileKind::Symlink && *self.root.read_link(below)? == **target
            }
            Thing::File { size, content, .. } => {
                let is_alike = stat.kind == FileKind::File && stat.size == *size;
                is_alike && self.hash(below, stat.kind)?.is_some_and(|found| found == *content)
            }
        })
    }

    fn hash(
        &self,
        below: &[u8],
        kind: FileKind,
    ) -> Result<Option<smart_sync_store::id::ContentId>, ApplyError> {
        self.root
            .at(below, |directory, name| Ok(hash_at(directory, name, kind)))
            .map_err(std::io::Error::from)
            .flatten()
            .map(|found| found.map(|(_, id)| id))
            .map_err(|source| self.root.failed("reading", below, source))
    }

    /// Whether what stands at a path has all that it was given.
    pub(super) fn is_met(&self, path: &HostPath, stat: &Stat, thing: &Thing) -> Result<bool, ApplyError> {
        let metadata = metadata_of(thing);
        let xattrs = match metadata.xattrs {
            Some(_) => self.root.xattrs(path.below_root())?,
            None => Vec::new(),
        };
        Ok(metadata.is_met_by(stat, &xattrs))
    }

    /// Does everything that is pending. Directories come first from the top, and go last from below.
    pub(super) fn act(
        &self,
        pending: &BTreeMap<&HostPath, &Entry>,
        backup: &mut Backup<'_>,
    ) -> Result<Vec<Done>, ApplyError> {
        let is_made =
            |entry: &Entry| matches!(&entry.pending, Some(Pending::Place(thing)) if thing.is_directory());
        let is_unmade = |entry: &Entry| {
            entry.pending == Some(Pending::GiveBack) && entry.placed.as_ref().is_some_and(Thing::is_directory)
        };
        let mut done = Vec::new();
        let others = || pending.iter().filter(|(_, entry)| !is_made(entry) && !is_unmade(entry));
        // What goes makes way for what comes: a directory may stand where a file did, and the other way round.
        for (path, entry) in others().filter(|(_, entry)| entry.pending == Some(Pending::GiveBack)) {
            self.give_back(path, entry, backup)?;
            done.push(((*path).clone(), None));
        }
        for (path, entry) in pending.iter().rev().filter(|(_, entry)| is_unmade(entry)) {
            self.root.remove_directory(path.below_root())?;
            if entry.former.is_some() {
                self.give_back(path, entry, backup)?;
            }
            done.push(((*path).clone(), None));
        }
        for (path, entry) in pending.iter().filter(|(_, entry)| is_made(entry)) {
            self.make_directory(path, entry, backup)?;
            done.push(((*path).clone(), None));
        }
        let placed = others().filter_map(|(path, entry)| match &entry.pending {
            Some(Pending::Place(thing)) => Some((*path, *entry, thing)),
            _ => None,
        });
        let placed: Vec<_> = placed.collect();
        for (path, _, thing) in &placed {
            self.make_beside(path, thing)?;
        }
        self.make_durable(placed.iter().map(|(path, ..)| *path))?;
        for (path, entry, thing) in placed {
            done.push((path.clone(), self.place(path, entry, thing, backup)?));
        }
        self.make_durable(pending.keys().copied())?;
        Ok(done)
    }

    /// Makes a thing beside its place, unless it stands there.
    fn make_beside(&self, path: &HostPath, thing: &Thing) -> Result<(), ApplyError> {
        self.check_way(path)?;
        if let Some(stat) = self.root.stat(path.below_root())?
            && self.is(path, &stat, thing)?
        {
            return Ok(());
        }
        let beside = beside(path);
        self.root.make_parents(path.below_root(), 0o755)?;
        self.root.remove_all(&beside)?;
        match thing {
            Thing::File { content, metadata, .. } => {
                let lost = || ApplyError::LostContent { path: shown(path), content: *content };
                let mut from = self.contents.get(*content)?.ok_or_else(lost)?;
                let copy = self.root.create_file(&beside)?;
                self.root.announce("copy", &beside)?;
                copy_file(&mut from, &copy)
                    .map_err(|source| self.root.failed("copying to", &beside, source))?;
                let copied = hash_reader(self.root.open_file(&beside)?)
                    .map_err(|source| self.root.failed("reading", &beside, source))?;
                if copied != *content {
                    return Err(lost());
                }
                metadata.give_made(self.root, &beside).map(|_| ())
            }
            Thing::Symlink { target, metadata } => {
                self.root.make_symlink(target, &beside)?;
                metadata.give(self.root, &beside, FileKind::Symlink)
            }
            Thing::Directory { .. } => Ok(()),
        }
    }

    /// Moves what was made beside a path to it.
    fn place(
        &self,
        path: &HostPath,
        entry: &Entry,
        thing: &Thing,
        backup: &mut Backup<'_>,
    ) -> Result<Option<Fingerprint>, ApplyError> {
        let (below, beside) = (path.below_root(), beside(path));
        let stands = self.root.stat(below)?;
        let is_there = match &stands {
            Some(stat) => self.is(path, stat, thing)?,
            None => false,
        };
        if let (true, Some(stat)) = (is_there, &stands) {
            self.root.remove_all(&beside)?;
            if !self.is_met(path, stat, thing)? {
                metadata_of(thing).give(self.root, below, stat.kind)?;
            }
        } else {
            self.make_way(path, entry, stands.as_ref(), backup)?;
            self.root.rename(&beside, below)?;
        }
        Ok(self.root.stat(below)?.map(|stat| stat.fingerprint()))
    }

    /// Frees a path, or leaves there what may be overwritten.
    fn make_way(
        &self,
        path: &HostPath,
        entry: &Entry,
        stands: Option<&Stat>,
        backup: &mut Backup<'_>,
    ) -> Result<(), ApplyError> {
        let below = path.below_root();
        match stands {
            None => Ok(()),
            Some(stat) if stat.kind == FileKind::Directory => match self.root.remove_directory(below)? {
                Removed::Yes | Removed::Absent => Ok(()),
                Removed::NotEmpty => backup.take(self.root, below),
            },
            Some(stat) if self.may_be_lost(path, stat, entry)? => Ok(()),
            Some(_) => backup.copy_aside(self.root, below),
        }
    }

    /// Whether this is what was placed, what is being placed, or what is kept as having stood there before.
    fn may_be_lost(&self, path: &HostPath, stat: &Stat, entry: &Entry) -> Result<bool, ApplyError> {
        let pending = match &entry.pending {
            Some(Pending::Place(thing)) => Some(thing),
            _ => None,
        };
        for thing in [&entry.placed, &entry.former].into_iter().flatten().chain(pending) {
            if self.is(path, stat, thing)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn make_directory(
        &self,
        path: &HostPath,
        entry: &Entry,
        backup: &mut Backup<'_>,
    ) -> Result<(), ApplyError> {
        self.check_way(path)?;
        let Some(Pending::Place(thing)) = &entry.pending else { return Ok(()) };
        let (below, metadata) = (path.below_root(), metadata_of(thing));
        match self.root.stat(below)? {
            Some(stat) if stat.kind == FileKind::Directory => {}
            stands => {
                self.make_way(path, entry, stands.as_ref(), backup)?;
                self.root.remove_all(below)?;
                self.root.make_parents(below, 0o755)?;
                self.root.make_directory(below, metadata.mode)?;
            }
        }
        match self.root.stat(below)? {
            Some(stat) if !metadata.is_met_by(&stat, &[]) => metadata.give(self.root, below, stat.kind),
            _ => Ok(()),
        }
    }

    /// Puts back what stood at a path before.
    fn give_back(&self, path: &HostPath, entry: &Entry, backup: &mut Backup<'_>) -> Result<(), ApplyError> {
        let below = path.below_root();
        let Some(former) = &entry.former else {
            // What is behind a link was not placed by us.
            let Some(stat) = self.root.stat(below)? else { return Ok(()) };
            if stat.kind == FileKind::Directory {
                return Ok(());
            }
            self.make_way(path, entry, Some(&stat), backup)?;
            return self.root.remove_file(below).map(|_| ());
        };
        self.make_beside(path, former)?;
        self.make_durable(std::iter::once(path))?;
        self.place(path, entry, former, backup).map(|_| ())
    }

    /// No directory on the way to a path may be a link: what is behind one is somewhere else.
    pub(super) fn check_way(&self, path: &HostPath) -> Result<(), ApplyError> {
        match way_blocked(self.root, path.below_root())? {
            None => Ok(()),
            Some((at, kind)) => Err(ApplyError::BehindLink {
                path: shown(path),
                link: format!("/{}", Shown(&at)),
                kind: kind.name(),
            }),
        }
    }

    /// The same for a way on which directories will have taken the place of what stands there.
    pub(super) fn check_way_to_be(
        &self,
        path: &HostPath,
        made: &HashSet<HostPath>,
    ) -> Result<(), ApplyError> {
        match way_blocked(self.root, path.below_root())? {
            Some((at, _)) if HostPath::new(&[b"/", &*at].concat()).is_some_and(|at| made.contains(&at)) => {
                Ok(())
            }
            _ => self.check_way(path),
        }
    }

    /// Makes the file systems of these paths durable.
    fn make_durable<'p>(&self, paths: impl Iterator<Item = &'p HostPath>) -> Result<(), ApplyError> {
        let mut file_systems = BTreeMap::new();
        for path in paths {
            let parent = parent_of(path.below_root());
            if let Some(stat) = self.root.stat(parent)?.filter(|stat| stat.kind == FileKind::Directory) {
                file_systems.entry(stat.device).or_insert_with(|| parent.to_vec());
            }
        }
        file_systems.values().try_for_each(|directory| self.root.below(directory)?.sync_file_system())
    }
}

/// What stands on the way to a path, and what it is.
pub(in crate::apply) type Block = (Box<[u8]>, FileKind);

/// What on the way to a path is there and no directory.
pub(in crate::apply) fn way_blocked(root: &TreeDir, path: &[u8]) -> Result<Option<Block>, ApplyError> {
    // No link is followed on the way to it: where it is a directory, all above it are. A tree of many levels would take
    // the square of them otherwise.
    if root.stat(parent_of(path))?.is_some_and(|stat| stat.kind == FileKind::Directory) {
        return Ok(None);
    }
    for at in (0..path.len()).filter(|at| path[*at] == b'/') {
        match root.stat(&path[..at])? {
            None => return Ok(None),
            Some(stat) if stat.kind == FileKind::Directory => {}
            Some(stat) => return Ok(Some((path[..at].into(), stat.kind))),
        }
    }
    Ok(None)
}

/// Where a thing is made before it is moved to its path.
fn beside(path: &HostPath) -> Vec<u8> {
    let mark = to_hex(&blake3::hash(path.as_bytes()).as_bytes()[..8]);
    join(parent_of(path.below_root()), format!("{UNPLACED}{mark}").as_bytes())
}

fn parent_of(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
}

const fn metadata_of(thing: &Thing) -> &Metadata {
    match thing {
        Thing::File { metadata, .. } | Thing::Symlink { metadata, .. } | Thing::Directory { metadata } => {
            metadata
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(super) fn shown(path: &HostPath) -> String {
    Shown(path.as_bytes()).to_string()
}
