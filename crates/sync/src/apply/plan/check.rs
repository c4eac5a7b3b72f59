//! What a manifest must not ask for.

use smart_sync_store::manifest::entry::{Attributes, Entry, Node};

use super::{ApplyPlan, Policy, Problem};
use crate::apply::error::ApplyError;
use crate::apply::stage::STAGE;

const SET_ID: u32 = 0o6000;
/// The longest target of a symbolic link that Linux accepts.
const LINK_TARGET_BYTES_MAX: u64 = 4095;
/// The longest name that any file system of Linux holds.
pub(in crate::apply) const NAME_BYTES_MAX: usize = 255;

/// Checks that paths only grow, and that nothing lies below what is not a directory.
#[derive(Debug, Default)]
pub(super) struct Order {
    last: Option<Box<[u8]>>,
    /// Files whose path the current path begins with: `a` stays while `a-b` passes, until `a/b` could come.
    files: Vec<Box<[u8]>>,
}

impl Order {
    pub(super) fn next(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        let path = entry.path.as_bytes();
        if self.last.as_deref().is_some_and(|last| last >= path) {
            return Err(ApplyError::Manifest(format!("{} is out of order", entry.path)));
        }
        self.files.retain(|file| path.starts_with(file));
        if self.files.iter().any(|file| path[file.len()..].starts_with(b"/")) {
            return Err(ApplyError::Manifest(format!("{} lies below what is not a directory", entry.path)));
        }
        if !matches!(entry.node, Node::Directory) {
            self.files.push(path.into());
        }
        self.last = Some(path.into());
        Ok(())
    }
}

/// Checks one entry against what the host allows.
pub(super) fn entry(entry: &Entry, policy: &Policy, problems: &mut Vec<Problem>) {
    let path = || entry.path.clone();
    if entry.path.components().any(|name| name.len() > NAME_BYTES_MAX) {
        problems.push(Problem::NameTooLong(path(), NAME_BYTES_MAX as u64));
    }
    if entry.path.components().next() == Some(STAGE) {
        problems.push(Problem::Reserved(path()));
    }
    match &entry.node {
        Node::Device { .. } if !policy.allows_devices => problems.push(Problem::Device(path())),
        Node::Fifo | Node::Socket if !policy.allows_pipes_and_sockets => {
            problems.push(Problem::PipeOrSocket(path()));
        }
        Node::Symlink(content) if !(1..=LINK_TARGET_BYTES_MAX).contains(&content.size) => {
            problems.push(Problem::LinkTarget(path()));
        }
        _ => {}
    }
    let Attributes::System(Some(system)) = &entry.attributes else { return };
    if system.mode & SET_ID != 0 && !matches!(entry.node, Node::Directory) && !policy.allows_set_id {
        problems.push(Problem::SetId(path()));
    }
    for xattr in &system.xattrs {
        let can_be_set = matches!(entry.node, Node::File(_) | Node::Directory);
        if !can_be_set || !xattr.name.starts_with(b"user.") && !policy.allows_system_xattrs {
            problems.push(Problem::SystemXattr { path: path(), name: xattr.name.clone() });
        }
    }
}

/// Whether the file of an entry had holes.
pub(super) fn is_sparse(entry: &Entry) -> bool {
    matches!(&entry.attributes, Attributes::System(Some(system)) if system.is_sparse)
}

/// Refuses to act below what another file system is mounted on: nothing can be renamed into it.
pub(super) fn mounts(plan: &mut ApplyPlan, mounts: &[Box<[u8]>]) {
    for mount in mounts {
        let is_below = |path: &[u8]| path.starts_with(mount) && path.get(mount.len()) == Some(&b'/');
        if plan.actions.iter().any(|action| is_below(&action.path) || action.path == *mount) {
            plan.problems.push(Problem::OtherFileSystem(mount.clone()));
        }
    }
}
