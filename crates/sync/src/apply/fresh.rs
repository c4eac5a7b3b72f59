//! Directories that are new in the root of a target.
//!
//! Where nothing stands, nothing can be in the way. So a directory of which the target has nothing is made beside the
//! tree with all that is in it, and put in place by one step instead of one for each file: a first install is a few
//! renames, and whoever looks sees such a directory complete or not at all. A content that belongs there is received
//! where it will stay.
//!
//! Only directories of the root are made so. Those further below have parents that are there already, and what a
//! directory gets from its parent (a group, a default access control list) it gets from the root in both places.

use std::collections::BTreeSet;

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::Node;

use super::error::ApplyError;
use super::plan::{Action, Change, Displaced};
use super::stage::NEW;
use super::tree_dir::TreeDir;
use super::tree_walk::join;

/// What the kernel takes as one path, less what stands before it in the staging directory.
const PATH_BYTES_MAX: usize = 4096 - 128;
/// What an owner needs of a directory to fill it, whatever it gets in the end.
const OWNER: u32 = 0o700;

/// The new directories of a plan, and which contents are received in them.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    /// Their names, in order.
    names: BTreeSet<Box<[u8]>>,
    /// The file that a content becomes, in the order of the contents.
    seats: Vec<Seat>,
    /// The paths of these files, one after the other.
    paths: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Seat {
    content: ContentId,
    start: u32,
    length: u16,
}

impl Fresh {
    /// Finds the new directories of a plan.
    pub(super) fn of(tree: &TreeDir, actions: &[Action]) -> Result<Self, ApplyError> {
        let mut fresh = Self::default();
        for action in actions {
            let is_in_root = !action.path.contains(&b'/');
            if is_in_root
                && matches!(action.change, Change::MakeDirectory(_))
                && tree.stat(&action.path)?.is_none()
            {
                fresh.names.insert(action.path.clone());
            }
        }
        // Something was there when the target was looked at: it may come back.
        for action in actions {
            let was_empty = action.displaced == Displaced::Nothing;
            if let Some(name) = fresh.directory_of(action)
                && (!was_empty || action.path.len() > PATH_BYTES_MAX)
            {
                let name = Box::from(name);
                fresh.names.remove(&name);
            }
        }
        if !fresh.names.is_empty() {
            fresh.find_seats(actions);
        }
        Ok(fresh)
    }

    /// The file of a content that several paths have goes to the last of them; see
    /// [`prepare`](super::flip::prepare).
    fn find_seats(&mut self, actions: &[Action]) {
        let mut last_uses: Vec<(ContentId, usize)> = Vec::new();
        for (number, action) in actions.iter().enumerate() {
            if let Change::Put(Node::File(content), _) = &action.change
                && content.size > 0
            {
                last_uses.push((content.id, number));
            }
        }
        last_uses.sort_unstable();
        let mut last_uses = last_uses.into_iter().peekable();
        while let Some((content, number)) = last_uses.next() {
            let is_last = last_uses.peek().is_none_or(|(next, _)| *next != content);
            let action = &actions[number];
            let Ok(start) = u32::try_from(self.paths.len()) else { return };
            let Ok(length) = u16::try_from(action.path.len()) else { continue };
            if is_last && self.directory_of(action).is_some() {
                self.seats.push(Seat { content, start, length });
                self.paths.extend_from_slice(&action.path);
            }
        }
    }

    /// Makes the directories, empty, in the order of the plan: from the top.
    pub(super) fn make_directories(&self, tree: &TreeDir, actions: &[Action]) -> Result<(), ApplyError> {
        if self.names.is_empty() {
            return Ok(());
        }
        tree.make_directory(NEW, 0o700)?;
        for action in actions.iter().filter(|action| self.covers(action)) {
            if let Change::MakeDirectory(mode) = action.change {
                tree.make_directory(&join(NEW, &action.path), mode | OWNER)?;
            }
        }
        Ok(())
    }

    /// Whether an action is done by making something in a new directory, beside the tree.
    pub(super) fn covers(&self, action: &Action) -> bool {
        self.directory_of(action).is_some()
    }

    /// Whether an action stands for a new directory and all that is in it.
    pub(super) fn is_one(&self, action: &Action) -> bool {
        matches!(action.change, Change::MakeDirectory(_)) && self.names.contains(&action.path)
    }

    /// Where a content is received, if that is in a new directory.
    pub(super) fn seat(&self, content: ContentId) -> Option<Vec<u8>> {
        let at = self.seats.binary_search_by(|seat| seat.content.cmp(&content)).ok()?;
        let Seat { start, length, .. } = self.seats[at];
        Some(join(NEW, &self.paths[start as usize..][..usize::from(length)]))
    }

    fn directory_of<'a>(&self, action: &'a Action) -> Option<&'a [u8]> {
        if !matches!(action.change, Change::MakeDirectory(_) | Change::Put(..)) {
            return None;
        }
        let end = action.path.iter().position(|byte| *byte == b'/').unwrap_or(action.path.len());
        let name = &action.path[..end];
        self.names.contains(name).then_some(name)
    }
}
