//! Filling the next version with what stays as it is in the current one.
//!
//! A file that stays takes no room of its own: it shares its blocks with the current version where the file system can
//! do that, and is another name of the same file where it cannot. In the latter case whoever writes to it would change
//! both versions: so such files are read-only, and what a manifest wants to be writable is copied.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsFd as _;

use rayon::prelude::*;
use rustix::fs::{AtFlags, SeekFrom};
use rustix::io::Errno;
use smart_sync_store::manifest::entry::Fidelity;

use crate::apply::error::ApplyError;
use crate::apply::metadata::Metadata;
use crate::apply::plan::{Action, Change};
use crate::apply::scan::Scan;
use crate::apply::stat::{FileKind, Fingerprint, Stat};
use crate::apply::stat_cache::{Expected, Seen};
use crate::apply::tree_dir::{TreeDir, stat_at};

/// The bits that let somebody write to a file.
pub(in crate::apply) const WRITABLE: u32 = 0o222;
/// Files that are one task.
const BATCH: usize = 512;

/// How files of two versions share their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Blocks are shared, until one of the files is written to.
    Blocks,
    /// It is one file.
    Names,
}

/// What a plan does to a path, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touched {
    /// Nothing of it stays.
    Replaced,
    /// The file stays and gets other metadata.
    Changed,
}

/// A directory, and the metadata that it gets when it is filled.
type Settled = (Box<[u8]>, Metadata);

struct Filling<'a> {
    current: &'a TreeDir,
    next: &'a TreeDir,
    sharing: Sharing,
    fidelity: Fidelity,
}

/// Puts all files of the current version that a plan leaves alone into the next one, and notes in the scan what they
/// look like there. What of the next version is there already goes, but for what is staged.
pub(super) fn fill(
    current: &TreeDir,
    next: &TreeDir,
    sharing: Sharing,
    fidelity: Fidelity,
    actions: &[Action],
    scan: &mut Scan,
) -> Result<(), ApplyError> {
    let touched = touched(actions);
    let filling = Filling { current, next, sharing, fidelity };
    let root_device = next.stat(b"")?.map_or((0, 0), |stat| stat.device);
    let (mut files, mut other_names, mut directories) = (Vec::new(), Vec::new(), Directories::default());
    for position in 0..scan.cache.len() {
        let record = scan.cache.record(position);
        let touch = touched.get(record.path).copied();
        let stays =
            record.verified.is_some() || scan.finding(record.path).is_some_and(|it| it.found.is_some());
        if touch == Some(Touched::Replaced) || !stays && record.expected.kind() != FileKind::Directory {
            continue;
        }
        match record.expected {
            Expected::Directory | Expected::Submodule => directories.add(record.path, true),
            Expected::Hardlink => other_names.push(position),
            _ => files.push((position, touch == Some(Touched::Changed))),
        }
        directories.add_parents(record.path);
    }
    let directories = filling.make_directories(directories, &touched)?;
    let notes = files
        .par_chunks(BATCH)
        .map(|files| {
            let noted = files.iter().map(|(position, is_private)| {
                let record = scan.cache.record(*position);
                let stat = filling.file(record.path, record.expected, record.verified, *is_private)?;
                Ok((*position, Seen::new(&stat, root_device)))
            });
            noted.collect::<Result<Vec<_>, ApplyError>>()
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut notes = notes.concat();
    notes.extend(filling.other_names(scan, &files, &other_names, root_device)?);
    filling.settle_directories(&directories)?;
    for (path, _) in &directories {
        if let (Some(position), Some(stat)) = (scan.cache.find(path), next.stat(path)?) {
            notes.push((position, Seen::new(&stat, root_device)));
        }
    }
    for (position, seen) in notes {
        scan.cache.note(position, Some(seen));
    }
    Ok(())
}

fn touched(actions: &[Action]) -> HashMap<&[u8], Touched> {
    let mut touched = HashMap::new();
    for action in actions {
        let touch = match &action.change {
            Change::SetMetadata(FileKind::Directory, _) | Change::MakeDirectory(_) => continue,
            Change::SetMetadata(..) => Touched::Changed,
            _ => Touched::Replaced,
        };
        touched.entry(&*action.path).and_modify(|known| *known = Touched::Replaced).or_insert(touch);
    }
    touched
}

/// Copies what a file has besides its holes.
fn copy_data(from: &mut File, to: &mut File, size: u64) -> io::Result<()> {
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(&*from, SeekFrom::Data(at)) {
            // There is nothing but a hole from here on.
            Err(Errno::NXIO) => break,
            start => start?,
        };
        let end = rustix::fs::seek(&*from, SeekFrom::Hole(start))?;
        from.seek(io::SeekFrom::Start(start))?;
        to.seek(io::SeekFrom::Start(start))?;
        io::copy(&mut (&*from).take(end - start), to)?;
        at = end;
    }
    to.set_len(size)
}

/// The directories of the next version, and whether each has an entry of its own.
#[derive(Default)]
struct Directories<'a> {
    paths: HashMap<&'a [u8], bool>,
}

impl<'a> Directories<'a> {
    fn add(&mut self, path: &'a [u8], is_entry: bool) {
        if !path.is_empty() {
            *self.paths.entry(path).or_default() |= is_entry;
        }
    }

    /// From the nearest up: where one is known, so are all above it.
    fn add_parents(&mut self, path: &'a [u8]) {
        for at in (0..path.len()).rev().filter(|at| path[*at] == b'/') {
            if self.paths.contains_key(&path[..at]) {
                return;
            }
            self.paths.insert(&path[..at], false);
        }
    }
}

impl Filling<'_> {
    /// Makes the directories, from the top. Returns those whose metadata are kept, with these.
    fn make_directories(
        &self,
        directories: Directories<'_>,
        touched: &HashMap<&[u8], Touched>,
    ) -> Result<Vec<Settled>, ApplyError> {
        let mut paths: Vec<_> = directories.paths.into_iter().collect();
        paths.sort_unstable();
        let mut settled = Vec::new();
        for (path, is_entry) in paths {
            // One that goes is left out, unless something of it stays.
            if is_entry && touched.get(path) == Some(&Touched::Replaced) {
                continue;
            }
            let Some(stat) = self.current.stat(path)?.filter(|stat| stat.kind == FileKind::Directory) else {
                continue; // The plan makes it.
            };
            self.next.make_directory(path, stat.mode | 0o700)?;
            if is_entry && self.fidelity == Fidelity::System {
                let xattrs = Some(self.current.xattrs(path)?);
                let owner = Some((stat.uid, stat.gid));
                let metadata = Metadata { mode: stat.mode, owner, modified: Some(stat.modified), xattrs };
                settled.push((path.into(), metadata));
            } else if stat.mode & 0o700 != 0o700 {
                let metadata = Metadata { mode: stat.mode, owner: None, modified: None, xattrs: None };
                settled.push((path.into(), metadata));
            }
        }
        Ok(settled)
    }

    /// Gives directories what filling them has changed, from below.
    fn settle_directories(&self, directories: &[Settled]) -> Result<(), ApplyError> {
        for (path, metadata) in directories.iter().rev() {
            metadata.give(self.next, path, FileKind::Directory)?;
        }
        Ok(())
    }

    /// Makes a file of the next version, and says what it looks like.
    fn file(
        &self,
        path: &[u8],
        expected: Expected,
        verified: Option<Fingerprint>,
        is_private: bool,
    ) -> Result<Stat, ApplyError> {
        if self.sharing == Sharing::Names && !is_private && self.next.link_from(self.current, path, path)? {
            let stat = self.look(path)?;
            if stat.kind != FileKind::File || stat.mode & WRITABLE == 0 {
                return self.checked(path, stat, verified);
            }
            self.next.remove_file(path)?;
        }
        match expected.kind() {
            FileKind::File => self.copy(path, verified),
            FileKind::Symlink => {
                self.next.make_symlink(&self.current.read_link(path)?, path)?;
                self.like_current(path)
            }
            kind => {
                let device = self.current.stat(path)?.map_or((0, 0), |stat| stat.device_file);
                self.next.make_node(path, kind, device)?;
                self.like_current(path)
            }
        }
    }

    fn copy(&self, path: &[u8], verified: Option<Fingerprint>) -> Result<Stat, ApplyError> {
        let mut from = self.current.open_file(path)?;
        let stat = self.checked(path, self.look_at(&from, path)?, verified)?;
        let mut copy = self.next.create_file(path)?;
        self.next.announce("copy", path)?;
        if rustix::fs::ioctl_ficlone(&copy, &from).is_err() {
            copy_data(&mut from, &mut copy, stat.size)
                .map_err(|source| self.next.failed("copying to", path, source))?;
        }
        let is_system = self.fidelity == Fidelity::System;
        let read_only = if self.sharing == Sharing::Names && !is_system { WRITABLE } else { 0 };
        let metadata = Metadata {
            mode: stat.mode & !read_only,
            owner: is_system.then_some((stat.uid, stat.gid)),
            modified: Some(stat.modified),
            xattrs: if is_system { Some(self.current.xattrs(path)?) } else { None },
        };
        metadata.give_made_to(self.next, path, &copy)
    }

    /// Gives what was made at a path the metadata of what stands there in the current version.
    fn like_current(&self, path: &[u8]) -> Result<Stat, ApplyError> {
        let current = self.current.stat(path)?;
        if let Some(stat) = current.filter(|_| self.fidelity == Fidelity::System) {
            let owner = Some((stat.uid, stat.gid));
            let metadata = Metadata { mode: stat.mode, owner, modified: Some(stat.modified), xattrs: None };
            metadata.give(self.next, path, stat.kind)?;
        }
        self.look(path)
    }

    /// Further names of files, which are linked as they are in the current version.
    fn other_names(
        &self,
        scan: &Scan,
        files: &[(usize, bool)],
        positions: &[usize],
        root_device: (u32, u32),
    ) -> Result<Vec<(usize, Seen)>, ApplyError> {
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let inode = |position: usize| scan.cache.record(position).verified.map(|verified| verified.inode);
        let firsts: HashMap<u64, usize> =
            files.iter().filter_map(|(position, _)| Some((inode(*position)?, *position))).collect();
        let mut notes = Vec::new();
        for position in positions {
            let path = scan.cache.record(*position).path;
            let first = inode(*position).and_then(|inode| firsts.get(&inode));
            let Some(first) = first.map(|first| scan.cache.record(*first).path) else { continue };
            self.next.link(first, path)?;
            notes.push((*position, Seen::new(&self.look(path)?, root_device)));
        }
        Ok(notes)
    }

    /// A file that is not the one that was scanned must not get into a version.
    fn checked(&self, path: &[u8], stat: Stat, verified: Option<Fingerprint>) -> Result<Stat, ApplyError> {
        if verified.is_some_and(|verified| !stat.fingerprint().has_content_of(&verified)) {
            return Err(ApplyError::ChangedMeanwhile(self.current.show(path)));
        }
        Ok(stat)
    }

    fn look(&self, path: &[u8]) -> Result<Stat, ApplyError> {
        self.next.stat(path)?.ok_or_else(|| self.next.error("looking at", path, Errno::NOENT))
    }

    fn look_at(&self, file: &File, path: &[u8]) -> Result<Stat, ApplyError> {
        stat_at(file.as_fd(), c"", AtFlags::EMPTY_PATH)
            .map_err(|errno| self.current.error("looking at", path, errno))
    }
}
