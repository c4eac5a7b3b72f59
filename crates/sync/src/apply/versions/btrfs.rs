//! Versions as snapshots of a subvolume of btrfs.
//!
//! ```text
//! NAME                                  the subvolume that readers see, and may write to
//! .NAME.smart-sync/smart-sync-…         the versions, each a read-only snapshot
//! .NAME.smart-sync/work/next            the next one, which only its owner can reach
//! .NAME.smart-sync/local/               what belongs to the host, linked into every version
//! ```
//!
//! The next version begins as a snapshot of what readers see, so it costs what is changed in it. It is kept as a
//! read-only snapshot, and then exchanged with what readers see, in one step. What they saw until then stays for one
//! run more, so that whoever has it open is not disturbed; it is kept as long as a version if it was written to after
//! the next one was begun, because nothing else has what was written.
//!
//! Snapshots are made by the program `btrfs`, which knows the interfaces of its kernel.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

use smart_sync_store::manifest::entry::FileTime;

use super::local::{Link, Local};
use super::name::VersionName;
use super::program;
use crate::apply::backup::Stamp;
use crate::apply::error::ApplyError;
use crate::apply::stage::STAGE_CONTENTS;
use crate::apply::stat::FileKind;
use crate::apply::step::Steps;
use crate::apply::tree_dir::{RootLink, TreeDir};
use crate::apply::tree_walk::join;

pub(super) const PROGRAM: &str = "btrfs";
/// The type of the file system, as `statfs` says it.
const MAGIC: u64 = 0x9123_683e;
/// The number that the root of every subvolume has.
const ROOT_INODE: u64 = 256;
const WORK: &[u8] = b"work";
const NEXT: &[u8] = b"work/next";
const NEXT_NEW: &[u8] = b"work/next-new";
const LEFT: &[u8] = b"work/left";
/// What the names begin with under which subvolumes wait to be deleted.
const GONE: &[u8] = b"gone-";
/// Says which change of what readers see was the last one when they were switched to it.
const SWITCHED: &[u8] = b"work/switched";
/// When the next version was begun, by the clock of the file system.
const BEGUN: &[u8] = b"work/begun";

/// A subvolume and its store.
#[derive(Debug)]
pub(super) struct Btrfs {
    /// What holds both.
    parent: TreeDir,
    name: Box<[u8]>,
    store: TreeDir,
}

/// Whether a path is the root of a subvolume.
pub fn is_subvolume(path: &Path) -> bool {
    let is_root = || {
        let stat =
            rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        stat.is_ok_and(|stat| stat.stx_ino == ROOT_INODE)
    };
    is_btrfs(path) && is_root()
}

/// Whether a path is on btrfs.
pub fn is_btrfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == MAGIC))
}

/// Makes a subvolume.
pub fn make_subvolume(path: &Path) -> Result<(), ApplyError> {
    run("making the subvolume", path, &[b"subvolume", b"create", b"--", path.as_os_str().as_bytes()])
        .map(|_| ())
}

impl Btrfs {
    /// Opens a subvolume, which is also its current version.
    pub(super) fn open(root: &Path, steps: &Steps) -> Result<(Self, TreeDir), ApplyError> {
        let refused = |reason: &str| ApplyError::NotForVersions {
            path: root.display().to_string(),
            reason: reason.to_owned(),
        };
        if !is_subvolume(root) {
            return Err(refused("it is not a subvolume of btrfs"));
        }
        let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else {
            return Err(refused("the root of all file systems cannot be exchanged"));
        };
        let parent = TreeDir::open(parent, RootLink::Refuse, steps.clone())?;
        let name = name.as_bytes();
        let store = [b".", name, b".smart-sync"].concat();
        parent.make_directory(&store, 0o755)?;
        let store = parent.below(&store)?;
        store.make_directory(WORK, 0o700)?;
        let btrfs = Self { parent, name: name.into(), store };
        let current = btrfs.current_tree()?;
        Ok((btrfs, current))
    }

    /// What readers see.
    pub(super) fn current_tree(&self) -> Result<TreeDir, ApplyError> {
        self.parent.below(&self.name)
    }

    pub(super) const fn local(&self) -> Local<'_> {
        Local { home: &self.store, link: Link::Absolute }
    }

    /// Whether what readers see is mounted where it is: then it cannot be exchanged.
    pub(super) fn is_mounted(&self) -> Result<bool, ApplyError> {
        let found = self.parent.at(&self.name, |directory, name| {
            rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        });
        found
            .map(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
            .map_err(|errno| self.parent.error("looking at", &self.name, errno))
    }

    /// Begins the next version as a snapshot of what readers see. What an interrupted run received is in it.
    pub(super) fn begin_next(&self) -> Result<TreeDir, ApplyError> {
        self.give_up(LEFT)?;
        self.note_begin()?;
        if self.store.stat(NEXT)?.is_none() {
            self.snapshot(&self.parent, &self.name, NEXT, false)?;
            return self.store.below(NEXT);
        }
        self.give_up(NEXT_NEW)?;
        self.snapshot(&self.parent, &self.name, NEXT_NEW, false)?;
        let (before, next) = (self.store.below(NEXT)?, self.store.below(NEXT_NEW)?);
        if before.stat(STAGE_CONTENTS)?.is_some() {
            next.remove_all(STAGE_CONTENTS)?;
            next.make_parents(STAGE_CONTENTS, 0o700)?;
            before.share_all(STAGE_CONTENTS, &next, STAGE_CONTENTS)?;
        }
        drop((before, next));
        self.give_up(NEXT)?;
        self.store.rename_directory(NEXT_NEW, NEXT)?;
        self.store.below(NEXT)
    }

    /// Begins the next version as a snapshot of one that is kept, after a look at whether readers have written.
    pub(super) fn begin_next_from(&self, name: &VersionName) -> Result<TreeDir, ApplyError> {
        self.give_up(LEFT)?;
        self.give_up(NEXT)?;
        self.snapshot(&self.store, name.as_bytes(), NEXT, false)?;
        self.store.below(NEXT)
    }

    /// The next version as it is, for what was interrupted.
    pub(super) fn next(&self) -> Result<Option<TreeDir>, ApplyError> {
        if self.store.stat(NEXT)?.is_some() { self.store.below(NEXT).map(Some) } else { Ok(None) }
    }

    /// By what the next version is known again after it was exchanged, its number in the file system; and with it the
    /// last change of what readers see that the next version or somebody else's copy has.
    pub(super) fn token(&self, seen: &str) -> Result<Vec<u8>, ApplyError> {
        Ok(format!("{} {seen}", id(&self.store, NEXT)?).into_bytes())
    }

    /// The last change of what readers see.
    pub(super) fn seen(&self) -> Result<String, ApplyError> {
        last_change(&self.parent, &self.name)
    }

    /// The last change of what readers see when they were switched to it; empty where that is not known.
    fn seen_at_switch(&self) -> String {
        std::fs::read_to_string(path_in(&self.store, SWITCHED)).unwrap_or_default()
    }

    fn note_begin(&self) -> Result<(), ApplyError> {
        self.store.remove_file(BEGUN)?;
        self.store.create_file(BEGUN).map(|_| ())
    }

    /// Whether what readers saw until now was written to after the next version was begun. That it was changed may
    /// only mean that somebody read it.
    fn was_written_to(&self, seen: &str) -> Result<bool, ApplyError> {
        if last_change(&self.store, NEXT)? == seen {
            return Ok(false);
        }
        let Some(begun) = self.store.stat(BEGUN)? else { return Ok(true) };
        was_changed_since(&self.store.below(NEXT)?, begun.changed)
    }

    /// Whether what readers see was written to since they were switched to it. What is written from here on is found
    /// when they are switched to another version.
    pub(super) fn was_written_to_since_switch(&self) -> Result<bool, ApplyError> {
        self.note_begin()?;
        if self.seen()? == self.seen_at_switch() {
            return Ok(false);
        }
        let Some(switched) = self.store.stat(SWITCHED)? else { return Ok(true) };
        was_changed_since(&self.current_tree()?, switched.changed)
    }

    fn note_switch(&self) -> Result<(), ApplyError> {
        let seen = self.seen()?;
        self.store.remove_file(SWITCHED)?;
        let file = self.store.create_file(SWITCHED)?;
        rustix::io::write(&file, seen.as_bytes())
            .map(|_| ())
            .map_err(|errno| self.store.error("writing", SWITCHED, errno))
    }

    /// Keeps the next version under its name, and exchanges it with what readers see. Returns under which name what
    /// they saw is kept, if somebody wrote to it meanwhile.
    pub(super) fn switch(
        &self,
        name: &VersionName,
        token: &[u8],
        stamp: &Stamp,
    ) -> Result<Option<VersionName>, ApplyError> {
        let token = String::from_utf8_lossy(token);
        let (wanted, seen) = token.split_once(' ').unwrap_or((&token, ""));
        let is_switched = id(&self.parent, &self.name)? == wanted;
        if self.store.stat(name.as_bytes())?.is_none() {
            if is_switched {
                self.snapshot(&self.parent, &self.name, name.as_bytes(), true)?;
            } else {
                self.snapshot(&self.store, NEXT, name.as_bytes(), true)?;
            }
        }
        if !is_switched {
            self.store.sync_file_system()?;
            self.parent.exchange(&self.name, &self.store, NEXT)?;
        }
        self.store.sync_file_system()?;
        self.note_switch()?;
        if self.store.stat(NEXT)?.is_none() {
            return Ok(None);
        }
        self.give_up(LEFT)?;
        if !self.was_written_to(seen)? {
            self.store.rename_directory(NEXT, LEFT)?;
            return Ok(None);
        }
        let is_taken =
            |name: &VersionName| self.store.stat(name.as_bytes()).is_ok_and(|found| found.is_some());
        let left = VersionName::left(stamp, is_taken);
        let path = left.as_ref().map_or(LEFT, VersionName::as_bytes);
        self.store.rename_directory(NEXT, path)?;
        Ok(left)
    }

    pub(super) fn open_version(&self, name: &VersionName) -> Result<Option<TreeDir>, ApplyError> {
        match self.store.stat(name.as_bytes())? {
            Some(stat) if stat.kind == FileKind::Directory => self.store.below(name.as_bytes()).map(Some),
            _ => Ok(None),
        }
    }

    /// Removes a version.
    pub(super) fn remove(&self, name: &VersionName) -> Result<(), ApplyError> {
        self.delete(name.as_bytes())
    }

    /// Removes what interrupted runs left.
    pub(super) fn clean(&self) -> Result<(), ApplyError> {
        self.give_up(NEXT)?;
        self.give_up(NEXT_NEW)?;
        self.delete_given_up()
    }

    /// Deletes what was given up. That takes its time where much of a subvolume is in memory, and nobody waits for it.
    pub(super) fn delete_given_up(&self) -> Result<(), ApplyError> {
        for (name, _) in self.store.list(WORK)?.names().filter(|(name, _)| name.to_bytes().starts_with(GONE))
        {
            self.delete(&join(WORK, name.to_bytes()))?;
        }
        Ok(())
    }

    /// Frees the name of a subvolume that is to be deleted.
    fn give_up(&self, path: &[u8]) -> Result<(), ApplyError> {
        if self.store.stat(path)?.is_none() {
            return Ok(());
        }
        for number in 0u32.. {
            let gone = join(WORK, &[GONE, number.to_string().as_bytes()].concat());
            if self.store.stat(&gone)?.is_none() {
                return self.store.rename_directory(path, &gone);
            }
        }
        Ok(())
    }

    /// Removes all but the newest of what readers saw and wrote to until a switch, and what was given up.
    pub(super) fn prune_left(&self, newest: usize) -> Result<(), ApplyError> {
        self.delete_given_up()?;
        let names = self.store.list(b"")?;
        let names = names.names().filter_map(|(name, _)| VersionName::parse(name.to_bytes()));
        let mut left: Vec<_> = names.filter(VersionName::is_left).collect();
        left.sort_unstable();
        left.iter().rev().skip(newest).try_for_each(|name| self.remove(name))
    }

    pub(super) fn store(&self) -> PathBuf {
        self.store.path().to_owned()
    }

    pub(super) fn path_shown(&self) -> String {
        self.parent.show(&self.name)
    }

    fn snapshot(&self, from: &TreeDir, path: &[u8], to: &[u8], is_read_only: bool) -> Result<(), ApplyError> {
        self.store.announce("snapshot", to)?;
        let (from, to) = (path_in(from, path), path_in(&self.store, to));
        let mut words: Vec<&[u8]> = vec![b"subvolume", b"snapshot"];
        if is_read_only {
            words.push(b"-r");
        }
        words.extend([b"--", from.as_os_str().as_bytes(), to.as_os_str().as_bytes()]);
        run("making a snapshot of", &from, &words).map(|_| ())
    }

    fn delete(&self, path: &[u8]) -> Result<(), ApplyError> {
        if self.store.stat(path)?.is_none() {
            return Ok(());
        }
        self.store.announce("delete subvolume", path)?;
        let path = path_in(&self.store, path);
        run("deleting the subvolume", &path, &[b"subvolume", b"delete", b"--", path.as_os_str().as_bytes()])
            .map(|_| ())
    }
}

/// Whether anything in a tree changed since. That it is read leaves no trace that counts.
fn was_changed_since(tree: &TreeDir, since: FileTime) -> Result<bool, ApplyError> {
    // A directory that is renamed gets another time of its last change of status.
    let is_new = AtomicBool::new(tree.stat(b"")?.is_none_or(|root| root.modified >= since));
    rayon::scope(|scope| find_changed(scope, tree, b"", since, &is_new));
    Ok(is_new.into_inner())
}

/// Looks below a directory for what changed since. What cannot be looked at counts as changed.
fn find_changed<'scope>(
    scope: &rayon::Scope<'scope>,
    tree: &'scope TreeDir,
    directory: &[u8],
    since: FileTime,
    is_found: &'scope AtomicBool,
) {
    let Ok(names) = tree.list(directory) else { return is_found.store(true, Ordering::Relaxed) };
    for (name, kind) in names.names() {
        if is_found.load(Ordering::Relaxed) {
            return;
        }
        let path = join(directory, name.to_bytes());
        match tree.stat(&path) {
            Ok(Some(stat)) if stat.changed < since => {}
            _ => return is_found.store(true, Ordering::Relaxed),
        }
        if kind == FileKind::Directory {
            scope.spawn(move |scope| find_changed(scope, tree, &path, since, is_found));
        }
    }
}

/// The number of a subvolume.
fn id(directory: &TreeDir, path: &[u8]) -> Result<String, ApplyError> {
    let path = path_in(directory, path);
    let words: [&[u8]; 3] = [b"inspect-internal", b"rootid", path.as_os_str().as_bytes()];
    let said = run("asking for the number of the subvolume", &path, &words)?;
    Ok(said.trim().to_owned())
}

/// The number of the transaction that changed a subvolume last.
fn last_change(directory: &TreeDir, path: &[u8]) -> Result<String, ApplyError> {
    let path = path_in(directory, path);
    let words: [&[u8]; 3] = [b"subvolume", b"show", path.as_os_str().as_bytes()];
    let said = run("asking for the state of the subvolume", &path, &words)?;
    let line = said.lines().find_map(|line| line.trim().strip_prefix("Generation:"));
    Ok(line.unwrap_or_default().trim().to_owned())
}

fn path_in(directory: &TreeDir, path: &[u8]) -> PathBuf {
    directory.path().join(std::ffi::OsStr::from_bytes(path))
}

/// Runs the program, and returns what it says.
pub(super) fn run(operation: &'static str, path: &Path, words: &[&[u8]]) -> Result<String, ApplyError> {
    program::run(Path::new(PROGRAM), PROGRAM, operation, path, words)
}
