//! Doing the steps of a flip.
//!
//! Whatever is overwritten or removed is looked at immediately before: if it is not, to the inode and the
//! nanosecond, what the plan allows to be lost, somebody has changed it since the scan, and it goes to the backup.

use std::collections::HashMap;
use std::io;

use rayon::prelude::*;
use rustix::io::Errno;
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::{DeviceKind, Node};

use super::backup::Backup;
use super::error::ApplyError;
use super::metadata::Metadata;
use super::op::{Op, OpKind, Staged};
use super::plan::{Action, ApplyPlan, Change};
use super::stage::{MADE, Stage, path_of};
use super::stat::{FileKind, Fingerprint, Stat};
use super::tree_dir::{Removed, TreeDir};
use super::tree_walk::join;

/// Files that are made by all processors before the steps for them are noted.
const BATCH: usize = 4096;

/// The files that are put in place, each as it was before it was moved there, in the order of their paths.
#[derive(Debug, Default)]
pub(super) struct Placed {
    fingerprints: Vec<(usize, Fingerprint)>,
}

impl Placed {
    /// The file that these steps put at a path.
    pub(super) fn get(&self, ops: &[Op], path: &[u8]) -> Option<Fingerprint> {
        let at = self.fingerprints.binary_search_by(|(op, _)| (*ops[*op].path).cmp(path)).ok()?;
        Some(self.fingerprints[at].1)
    }
}

/// Makes the files of all actions, beside the tree, and the steps that will put them in place.
pub(super) fn prepare(
    tree: &TreeDir,
    stage: &Stage<'_>,
    plan: ApplyPlan,
) -> Result<(Vec<Op>, Placed), ApplyError> {
    let ApplyPlan { actions, needs, .. } = plan;
    let mut last_use: HashMap<_, _> =
        needs.iter().filter(|need| need.uses > 1).map(|need| (need.content.id, 0)).collect();
    // The steps take as much room as the needs did.
    drop(needs);
    for (number, action) in actions.iter().enumerate() {
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
            make(tree, stage, node, number as u64, |content| is_last(content, number), metadata).map(Some)
        }
        _ => Ok(None),
    };
    let mut fingerprints = Vec::new();
    let mut ops = Vec::with_capacity(actions.len());
    let mut actions = actions.into_iter();
    while actions.len() > 0 {
        let first = ops.len();
        let batch: Vec<Action> = actions.by_ref().take(BATCH).collect();
        let put_at_once = batch
            .par_iter()
            .enumerate()
            .map(|(index, action)| if waits(action) { Ok(None) } else { put(first + index, action) })
            .collect::<Result<Vec<_>, _>>()?;
        for (action, put_at_once) in batch.into_iter().zip(put_at_once) {
            let number = ops.len();
            let staged = if waits(&action) { put(number, &action)? } else { put_at_once };
            let expected = action.displaced.expected();
            let kind = match action.change {
                Change::Put(..) => {
                    let (staged, stat) = staged.expect("what is put was made");
                    fingerprints.push((number, stat.fingerprint()));
                    OpKind::Place { staged }
                }
                Change::Link(target) => OpKind::Link { target: target.as_bytes().into() },
                Change::MakeDirectory(mode) => OpKind::MakeDirectory { mode },
                Change::SetMetadata(kind, metadata) => OpKind::SetMetadata(kind, metadata),
                Change::Delete => OpKind::Delete,
                Change::Clear => OpKind::Clear,
                Change::MakeRoom => OpKind::MakeRoom,
                Change::RemoveDirectory => OpKind::RemoveDirectory,
            };
            ops.push(Op { path: action.path, expected, kind });
        }
    }
    fingerprints.sort_unstable_by(|(a, _), (b, _)| ops[*a].path.cmp(&ops[*b].path));
    Ok((ops, Placed { fingerprints }))
}

fn make(
    tree: &TreeDir,
    stage: &Stage<'_>,
    node: &Node,
    number: u64,
    is_last: impl Fn(&ContentId) -> bool,
    metadata: &Metadata,
) -> Result<(Staged, Stat), ApplyError> {
    let made = Staged::Made(number);
    let (staged, kind) = match node {
        Node::File(content) => {
            let staged = stage.take_file(content, number, is_last(&content.id))?;
            let stat = metadata.give_made(tree, &path_of(staged))?;
            return Ok((staged, stat));
        }
        Node::Symlink(content) => {
            tree.make_symlink(&stage.read(content)?, &path_of(made))?;
            (made, FileKind::Symlink)
        }
        other => {
            let (kind, device) = match other {
                Node::Device { kind, major, minor } => (device_kind(*kind), (*major, *minor)),
                Node::Socket => (FileKind::Socket, (0, 0)),
                _ => (FileKind::Fifo, (0, 0)),
            };
            tree.make_node(&path_of(made), kind, device)?;
            (made, kind)
        }
    };
    let path = path_of(staged);
    let stat = made_stat(tree, &path)?;
    if metadata.is_met_by(&stat, &[]) {
        return Ok((staged, stat));
    }
    metadata.give(tree, &path, kind)?;
    Ok((staged, made_stat(tree, &path)?))
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
