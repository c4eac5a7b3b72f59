//! What the file systems below an overlay refuse, found before anything changes.

use std::collections::{BTreeMap, HashSet};

use smart_sync_store::manifest::entry::{Entry, Node};

use super::fit::nearest_directory;
use crate::apply::error::ApplyError;
use crate::apply::plan::{Action, ApplyPlan, Change};
use crate::apply::preflight::{directory_problem, is_immutable_there, names_and_room, room};
use crate::apply::tree_dir::TreeDir;

/// What is to be done on one file system.
struct Part {
    /// A directory of it.
    directory: Vec<u8>,
    plan: ApplyPlan,
}

/// Asks each file system that something is placed on for room, and whether it holds the names; each directory, whether
/// it may be written to; and the one where contents are received for room.
pub(super) fn check(
    tree: &TreeDir,
    work: &TreeDir,
    plan: &mut ApplyPlan,
    wanted: impl IntoIterator<Item = Entry>,
) -> Result<(), ApplyError> {
    if plan.is_empty() || !plan.problems.is_empty() {
        return Ok(());
    }
    room(work, plan)?;
    let mut parts: BTreeMap<(u32, u32), Part> = BTreeMap::new();
    let mut directories: BTreeMap<&[u8], Option<(u32, u32)>> = BTreeMap::new();
    let mut problems = Vec::new();
    for action in &plan.actions {
        let directory = nearest_directory(tree, &action.path)?;
        if !directories.contains_key(directory) {
            problems.extend(directory_problem(tree, directory)?);
            let device = tree.stat(directory)?.map(|stat| stat.device);
            directories.insert(directory, device);
        }
        problems.extend(is_immutable_there(tree, action)?);
        if let Some(device) = directories[directory] {
            let part = || Part { directory: directory.to_vec(), plan: ApplyPlan::default() };
            let part = parts.entry(device).or_insert_with(part);
            part.plan.bytes = part.plan.bytes.saturating_add(bytes_of(action));
            part.plan.inodes += 1;
            part.plan.actions.push(action.clone());
        }
    }
    let wanted: Vec<Entry> = wanted.into_iter().collect();
    if problems.is_empty() {
        for mut part in parts.into_values() {
            let below = tree.below(&part.directory)?;
            let paths: HashSet<&[u8]> = part.plan.actions.iter().map(|action| &*action.path).collect();
            let here = wanted.iter().filter(|entry| paths.contains(entry.path.as_bytes()));
            let here: Vec<Entry> = here.cloned().collect();
            names_and_room(&below, &mut part.plan, &here)?;
            problems.append(&mut part.plan.problems);
        }
    }
    for problem in problems {
        if !plan.problems.contains(&problem) {
            plan.problems.push(problem);
        }
    }
    Ok(())
}

fn bytes_of(action: &Action) -> u64 {
    match &action.change {
        Change::Put(Node::File(content) | Node::Symlink(content), _) => content.size,
        _ => 0,
    }
}
