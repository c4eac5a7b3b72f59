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

/// What a plan does, its new directories, and which contents are received in them.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    actions: Vec<Action>,
    /// The names of the directories.
    names: BTreeSet<Box<[u8]>>,
    /// The actions for which a content is received, in the order of the contents.
    seats: Vec<u32>,
}

impl Fresh {
    /// Finds the new directories of a plan.
    pub(super) fn of(tree: &TreeDir, actions: Vec<Action>) -> Result<Self, ApplyError> {
        let mut fresh = Self { actions, ..Self::default() };
        for action in &fresh.actions {
            let is_in_root = !action.path.contains(&b'/');
            if is_in_root
                && matches!(action.change, Change::MakeDirectory(_))
                && tree.stat(&action.path)?.is_none()
            {
                fresh.names.insert(action.path.clone());
            }
        }
        // Something was there when the target was looked at: it may come back.
        let is_doubtful =
            |action: &&Action| action.displaced != Displaced::Nothing || action.path.len() > PATH_BYTES_MAX;
        let doubtful =
            fresh.actions.iter().filter(is_doubtful).filter_map(|action| fresh.directory_of(action));
        let doubtful: BTreeSet<Box<[u8]>> = doubtful.map(Box::from).collect();
        fresh.names.retain(|name| !doubtful.contains(name));
        fresh.find_seats();
        Ok(fresh)
    }

    /// A plan whose directories are all made where they will stand.
    pub(super) fn none(actions: Vec<Action>) -> Self {
        Self { actions, ..Self::default() }
    }

    /// What the plan does, in its order.
    pub(super) fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// The file of a content that several paths have goes to the last of them; see
    /// [`prepare`](super::flip::prepare).
    fn find_seats(&mut self) {
        if self.names.is_empty() {
            return;
        }
        let numbers = 0..u32::try_from(self.actions.len()).unwrap_or(u32::MAX);
        let mut seats: Vec<u32> = numbers.filter(|number| self.content_of(*number).is_some()).collect();
        // Of those of one content the last comes first, and stays.
        seats.sort_unstable_by_key(|number| (self.content_of(*number), std::cmp::Reverse(*number)));
        seats.dedup_by_key(|number| self.content_of(*number));
        seats.retain(|number| self.covers(&self.actions[*number as usize]));
        self.seats = seats;
    }

    /// The content of the file that an action makes.
    fn content_of(&self, number: u32) -> Option<ContentId> {
        match &self.actions[number as usize].change {
            Change::Put(Node::File(content), _) if content.size > 0 => Some(content.id),
            _ => None,
        }
    }

    /// Makes the directories, empty, in the order of the plan: from the top.
    pub(super) fn make_directories(&self, tree: &TreeDir) -> Result<(), ApplyError> {
        if self.names.is_empty() {
            return Ok(());
        }
        tree.make_directory(NEW, 0o700)?;
        for action in self.actions.iter().filter(|action| self.covers(action)) {
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
        let at = self.seats.binary_search_by_key(&Some(content), |number| self.content_of(*number)).ok()?;
        Some(join(NEW, &self.actions[self.seats[at] as usize].path))
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
