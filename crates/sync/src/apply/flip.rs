//! Doing the steps of a flip.
//!
//! Whatever is overwritten or removed is looked at immediately before: if it is not, to the inode and the
//! nanosecond, what the plan allows to be lost, somebody has changed it since the scan, and it goes to the backup.

use std::collections::HashMap;
use std::io;

use rayon::prelude::*;
use rustix::io::Errno;
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::{Content, DeviceKind, Node};

use super::backup::Backup;
use super::error::ApplyError;
use super::metadata::Metadata;
use super::op::{Op, OpKind, Staged};
use super::plan::{Action, Change, Need};
use super::stage::{MADE, Made, NEW, Stage, path_of};
use super::stat::{FileKind, Fingerprint, Stat};
use super::tree_dir::{Removed, TreeDir};
use super::tree_walk::join;

/// Files that are made by all processors before the steps for them are noted.
const BATCH: usize = 4096;

/// The files that are put in place, each as it was before it was moved there, in the order of their paths.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// Those that have a step of their own, by its number.
    alone: Vec<(usize, Fingerprint)>,
    /// Those that come with a new directory.
    together: Vec<(Box<[u8]>, Fingerprint)>,
}

impl Placed {
    /// Files that were placed one by one, at these paths.
    pub(super) fn of(mut files: Vec<(Box<[u8]>, Fingerprint)>) -> Self {
        files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Self { alone: Vec::new(), together: files }
    }

    /// The file that these steps put at a path.
    pub(super) fn get(&self, ops: &[Op], path: &[u8]) -> Option<Fingerprint> {
        let alone = self.alone.binary_search_by(|(op, _)| (*ops[*op].path).cmp(path));
        let together = || self.together.binary_search_by(|(placed, _)| (**placed).cmp(path)).ok();
        match alone {
            Ok(at) => Some(self.alone[at].1),
            Err(_) => together().map(|at| self.together[at].1),
        }
    }
}

/// Makes the files of all actions, beside the tree, and the steps that will put them in place.
pub(super) fn prepare(
    tree: &TreeDir,
    stage: &Stage<'_>,
    needs: Vec<Need>,
) -> Result<(Vec<Op>, Placed), ApplyError> {
    let fresh = stage.fresh();
    let mut last_use: HashMap<_, _> =
        needs.iter().filter(|need| need.uses > 1).map(|need| (need.content.id, 0)).collect();
    // The steps take as much room as the needs did.
    drop(needs);
    for (number, action) in fresh.actions().iter().enumerate() {
        if let Change::Put(Node::File(content), _) = &action.change
            && let Some(last) = last_use.get_mut(&content.id)
        {
            *last = number;
        }
    }
    // The file of a content that several paths have goes to the last of them, when the others have their copies.
    let is_last = |content: &ContentId, number| last_use.get(content).is_none_or(|last| *last == number);
    let waits = |action: &Action| matches!(&action.change, Change::Put(Node::File(content), _) if last_use.contains_key(&content.id));
    let put = |number: usize, action: &Action| match &action.change {
        Change::Put(node, metadata) => {
            let is_new = fresh.covers(action);
            let made = if is_new { Made::InNewDirectory(&action.path) } else { Made::Loose(number as u64) };
            make(tree, stage, node, &made, |content| is_last(content, number), metadata).map(Some)
        }
        _ => Ok(None),
    };
    let mut placed = Placed::default();
    let mut ops = Vec::new();
    for (batch, first) in fresh.actions().chunks(BATCH).zip((0..).step_by(BATCH)) {
        let put_at_once = batch
            .par_iter()
            .enumerate()
            .map(|(index, action)| if waits(action) { Ok(None) } else { put(first + index, action) })
            .collect::<Result<Vec<_>, _>>()?;
        for (number, (action, put_at_once)) in (first..).zip(batch.iter().zip(put_at_once)) {
            let stat = if waits(action) { put(number, action)? } else { put_at_once };
            let fingerprint = stat.map(|stat| stat.fingerprint());
            let is_new_directory = fresh.is_one(action);
            if fresh.covers(action) && !is_new_directory {
                placed.together.extend(fingerprint.map(|fingerprint| (action.path.clone(), fingerprint)));
                continue;
            }
            placed.alone.extend(fingerprint.map(|fingerprint| (ops.len(), fingerprint)));
            let kind = match &action.change {
                Change::Put(node, _) => {
                    let is_content = |content: &Content| content.size > 0 && is_last(&content.id, number);
                    let staged = match node {
                        Node::File(content) if is_content(content) => Staged::Content(content.id),
                        _ => Staged::Made(number as u64),
                    };
                    OpKind::Place { staged }
                }
                Change::Link(target) => OpKind::Link { target: target.as_bytes().into() },
                Change::MakeDirectory(_) if is_new_directory => OpKind::PlaceDirectory,
                Change::MakeDirectory(mode) => OpKind::MakeDirectory { mode: *mode },
                Change::SetMetadata(kind, metadata) => OpKind::SetMetadata(*kind, metadata.clone()),
                Change::Delete => OpKind::Delete,
                Change::Clear => OpKind::Clear,
                Change::MakeRoom => OpKind::MakeRoom,
                Change::RemoveDirectory => OpKind::RemoveDirectory,
            };
            ops.push(Op { path: action.path.clone(), expected: action.displaced.expected(), kind });
        }
    }
    placed.alone.sort_unstable_by(|(a, _), (b, _)| ops[*a].path.cmp(&ops[*b].path));
    placed.together.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok((ops, placed))
}

fn make(
    tree: &TreeDir,
    stage: &Stage<'_>,
    node: &Node,
    made: &Made<'_>,
    is_last: impl Fn(&ContentId) -> bool,
    metadata: &Metadata,
) -> Result<Stat, ApplyError> {
    let path = made.path();
    let kind = match node {
        Node::File(content) => {
            let path = stage.take_file(content, made, is_last(&content.id))?;
            return metadata.give_made(tree, &path);
        }
        Node::Symlink(content) => {
            tree.make_symlink(&stage.read(content)?, &path)?;
            FileKind::Symlink
        }
        other => {
            let (kind, device) = match other {
                Node::Device { kind, major, minor } => (device_kind(*kind), (*major, *minor)),
                Node::Socket => (FileKind::Socket, (0, 0)),
                _ => (FileKind::Fifo, (0, 0)),
            };
            tree.make_node(&path, kind, device)?;
            kind
        }
    };
    let stat = made_stat(tree, &path)?;
    if metadata.is_met_by(&stat, &[]) {
        return Ok(stat);
    }
    metadata.give(tree, &path, kind)?;
    made_stat(tree, &path)
}

fn made_stat(tree: &TreeDir, path: &[u8]) -> Result<Stat, ApplyError> {
    tree.stat(path)?.ok_or_else(|| tree.error("looking at", path, Errno::NOENT))
}

const fn device_kind(kind: DeviceKind) -> FileKind {
    match kind {
        DeviceKind::Character => FileKind::CharacterDevice,
        DeviceKind::Block => FileKind::BlockDevice,
    }
}

/// Does all steps from the first, whether or not they were done before.
pub(super) fn flip(tree: &TreeDir, backup: &mut Backup<'_>, ops: &[Op]) -> Result<(), ApplyError> {
    ops.iter().try_for_each(|op| step(tree, backup, op))
}

fn step(tree: &TreeDir, backup: &mut Backup<'_>, op: &Op) -> Result<(), ApplyError> {
    let path = &*op.path;
    match &op.kind {
        OpKind::Clear | OpKind::Delete => remove(tree, backup, path, op.expected),
        OpKind::MakeRoom => make_room(tree, backup, path),
        OpKind::MakeDirectory { mode } => {
            // A directory that is there keeps its mode; anything else appeared since the plan was made.
            match tree.stat(path)? {
                Some(stat) if stat.kind == FileKind::Directory => return Ok(()),
                Some(_) => backup.take(tree, path)?,
                None => {}
            }
            make_parents(tree, backup, path)?;
            tree.make_directory(path, *mode)
        }
        OpKind::PlaceDirectory => place_directory(tree, backup, &join(NEW, path), path),
        OpKind::Place { staged } => place(tree, backup, &path_of(*staged), path, op.expected),
        OpKind::Link { target } => {
            let inode = |path| Ok::<_, ApplyError>(tree.stat(path)?.map(|stat| stat.inode));
            if inode(path)?.is_some_and(|found| inode(target).is_ok_and(|wanted| wanted == Some(found))) {
                return Ok(());
            }
            let linked = join(MADE, b"link");
            tree.remove_file(&linked)?;
            tree.link(target, &linked)?;
            place(tree, backup, &linked, path, op.expected)
        }
        OpKind::SetMetadata(kind, metadata) => {
            // What else appeared there is not ours to change; the next scan tells of it.
            let is_directory = *kind == FileKind::Directory;
            match tree.stat(path)? {
                Some(stat) if (stat.kind == FileKind::Directory) == is_directory => {
                    metadata.give(tree, path, stat.kind)
                }
                _ => Ok(()),
            }
        }
        OpKind::RemoveDirectory => tree.remove_directory(path).map(|_| ()),
    }
}

/// Moves a new directory to its place. What has appeared there since the plan was made stays if it is a directory too.
fn place_directory(
    tree: &TreeDir,
    backup: &mut Backup<'_>,
    staged: &[u8],
    path: &[u8],
) -> Result<(), ApplyError> {
    match tree.stat(path)? {
        // Nothing to move: it is in its place.
        _ if tree.stat(staged)?.is_none() => return Ok(()),
        None => return tree.rename_directory(staged, path),
        Some(stat) if stat.kind == FileKind::Directory => {}
        Some(_) => {
            backup.take(tree, path)?;
            return tree.rename_directory(staged, path);
        }
    }
    for (name, kind) in tree.list(staged)?.names() {
        let (staged, path) = (join(staged, name.to_bytes()), join(path, name.to_bytes()));
        match kind {
            FileKind::Directory => place_directory(tree, backup, &staged, &path)?,
            _ => place(tree, backup, &staged, &path, None)?,
        }
    }
    tree.remove_directory(staged).map(|_| ())
}

fn place(
    tree: &TreeDir,
    backup: &mut Backup<'_>,
    staged: &[u8],
    path: &[u8],
    expected: Option<Fingerprint>,
) -> Result<(), ApplyError> {
    if expected.is_none() && tree.rename_to_free(staged, path)? {
        return Ok(());
    }
    if tree.stat(staged)?.is_none() {
        return Ok(()); // It is in its place.
    }
    match tree.stat(path)? {
        None => make_parents(tree, backup, path)?,
        Some(stat) if stat.kind == FileKind::Directory => make_room(tree, backup, path)?,
        Some(stat) if may_be_lost(&stat, expected) => {}
        Some(_) => backup.take(tree, path)?,
    }
    tree.rename(staged, path).map(|_| ())
}

/// Makes the directories that lead to a path. What has taken the place of one since the scan, such as a link to
/// elsewhere, is the host's: it goes to the backup, else no run could ever be completed here.
fn make_parents(tree: &TreeDir, backup: &mut Backup<'_>, path: &[u8]) -> Result<(), ApplyError> {
    let made = tree.make_parents(path, 0o755);
    if made.as_ref().err().and_then(ApplyError::io_kind) != Some(io::ErrorKind::AlreadyExists) {
        return made;
    }
    for at in (0..path.len()).filter(|at| path[*at] == b'/') {
        if tree.stat(&path[..at])?.is_some_and(|stat| stat.kind != FileKind::Directory) {
            backup.take(tree, &path[..at])?;
            return tree.make_parents(path, 0o755);
        }
    }
    made
}

/// Removes what is not a directory, or keeps it if it is not what may be lost.
fn remove(
    tree: &TreeDir,
    backup: &mut Backup<'_>,
    path: &[u8],
    expected: Option<Fingerprint>,
) -> Result<(), ApplyError> {
    match tree.stat(path)? {
        None => Ok(()),
        Some(stat) if stat.kind == FileKind::Directory => Ok(()),
        Some(stat) if may_be_lost(&stat, expected) => tree.remove_file(path).map(|_| ()),
        Some(_) => backup.take(tree, path),
    }
}

/// Whether this is the file that the plan gave up. Its last change of status may be newer: a file that has several
/// names sees each of them go.
fn may_be_lost(stat: &Stat, expected: Option<Fingerprint>) -> bool {
    expected.is_some_and(|expected| stat.fingerprint().has_content_of(&expected))
}

/// Removes a directory, or keeps what it holds.
fn make_room(tree: &TreeDir, backup: &mut Backup<'_>, path: &[u8]) -> Result<(), ApplyError> {
    if tree.stat(path)?.is_none_or(|stat| stat.kind != FileKind::Directory) {
        return Ok(());
    }
    match tree.remove_directory(path)? {
        Removed::Yes | Removed::Absent => Ok(()),
        Removed::NotEmpty => backup.take(tree, path),
    }
}
