//! Fitting a plan to a directory that belongs to others.
//!
//! A plan is made as for a directory of our own. What is ours here is only what the ledger says, so that everything else
//! of the plan is left out or is a reason against it: directories that were there stay as they are, what goes leaves what
//! stood there before, and nothing of the host is moved out of the way.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use smart_sync_store::manifest::entry::Node;

use crate::apply::error::ApplyError;
use crate::apply::ledger::{self, Entries, HostPath, Owner, Thing, way_blocked};
use crate::apply::metadata::Metadata;
use crate::apply::plan::{Action, ApplyPlan, Change, Displaced, Problem};
use crate::apply::stat::FileKind;
use crate::apply::tree_dir::TreeDir;
use crate::apply::tree_walk::join;

/// Where an overlay lies, and what is known of the host.
pub(super) struct Fit<'a> {
    pub(super) tree: &'a TreeDir,
    /// The target; empty for the root of all file systems.
    pub(super) prefix: &'a [u8],
    pub(super) owner: &'a Owner,
    pub(super) entries: &'a Entries,
    /// Directories of others that nothing is placed in.
    pub(super) forbidden: &'a [PathBuf],
}

/// What is done to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A file or symbolic link is placed, whose content is staged under the size and id that the entry names.
    Put(Node, Metadata),
    /// The file that stands there gets other metadata.
    SetMetadata(Metadata),
    MakeDirectory(Metadata),
    GiveBack,
}

/// What is done, by path below the target.
pub(super) type Steps = BTreeMap<Box<[u8]>, Step>;

impl Fit<'_> {
    /// Leaves out of a plan what an overlay does not do, and adds what speaks against it.
    pub(super) fn fit(&self, plan: &mut ApplyPlan) -> Result<(), ApplyError> {
        let mut actions = Vec::new();
        let mut given_back = Vec::new();
        let becoming: Vec<Box<[u8]>> = plan
            .actions
            .iter()
            .filter(|action| matches!(action.change, Change::MakeDirectory(_)) && self.is_ours(&action.path))
            .map(|action| action.path.clone())
            .collect();
        for action in std::mem::take(&mut plan.actions) {
            if action.path.is_empty() {
                continue;
            }
            if let Some(problem) = self.problem(&action, &becoming)? {
                if !plan.problems.contains(&problem) {
                    plan.problems.push(problem);
                }
                continue;
            }
            if self.stays(&action)? {
                let action = self.with_former(action)?;
                if matches!(action.change, Change::Delete) && self.has_former(&action.path) {
                    given_back.push(action.path.clone());
                }
                actions.push(action);
            }
        }
        plan.actions = actions;
        plan.given_back = given_back;
        Ok(())
    }

    /// What speaks against an action, if anything does.
    fn problem(&self, action: &Action, becoming: &[Box<[u8]>]) -> Result<Option<Problem>, ApplyError> {
        let path = &action.path;
        let against = |reason| Ok(Some(Problem::NotForOverlay(path.clone(), reason)));
        let is_made = matches!(
            action.change,
            Change::Put(..) | Change::Link(_) | Change::MakeDirectory(_) | Change::SetMetadata(..)
        );
        let Some(host) = self.host_path(path) else { return against("the whole path is too long") };
        let stands = self.tree.stat(path)?.map(|stat| stat.kind);
        let is_about_directory =
            matches!(action.change, Change::MakeDirectory(_) | Change::SetMetadata(FileKind::Directory, _));
        if is_about_directory && stands == Some(FileKind::Directory) {
            // It stays as it is, whoever made it.
            return Ok(None);
        }
        match &action.change {
            Change::Put(Node::Device { .. }, _) => return against("an overlay holds no devices"),
            Change::Put(Node::Fifo | Node::Socket, _) => {
                return against("an overlay holds no pipes and sockets");
            }
            Change::Link(_) => return against("an overlay holds no hard links"),
            _ => {}
        }
        if is_made && let Some(entry) = self.entries.get(&host).filter(|entry| entry.owner != *self.owner) {
            return Ok(Some(Problem::PlacedByAnother(path.clone(), entry.owner.as_str().into())));
        }
        if let Some((at, kind)) = way_blocked(self.tree, path)?
            && !becoming.contains(&at)
        {
            let is_needed = is_made || self.has_former(path);
            return Ok(is_needed.then(|| in_the_way(at, kind)));
        }
        if is_made && let Some(other) = self.forbidden.iter().find(|other| is_in(&host, other)) {
            return Ok(Some(Problem::InAnother(path.clone(), other.clone())));
        }
        match (&action.change, stands) {
            (Change::MakeDirectory(_), Some(kind)) if kind != FileKind::Directory && !self.is_ours(path) => {
                Ok(Some(in_the_way(path.clone(), kind)))
            }
            (Change::Put(..), Some(FileKind::Directory)) if !self.is_ours(path) => {
                against("a directory of the host stands there")
            }
            (Change::Put(..), Some(FileKind::Directory)) if self.holds_others(path)? => {
                against("a directory stands there that holds what is the host's")
            }
            (
                Change::Put(..),
                Some(FileKind::CharacterDevice | FileKind::BlockDevice | FileKind::Fifo | FileKind::Socket),
            ) => against("what stands there is neither a file nor a symbolic link"),
            _ => Ok(None),
        }
    }

    /// Whether a directory of ours holds what is not.
    fn holds_others(&self, path: &[u8]) -> Result<bool, ApplyError> {
        let mut directories = vec![path.to_vec()];
        while let Some(directory) = directories.pop() {
            for (name, kind) in self.tree.list(&directory)?.names() {
                let child = join(&directory, name.to_bytes());
                if !self.is_ours(&child) {
                    return Ok(true);
                }
                if kind == FileKind::Directory {
                    directories.push(child);
                }
            }
        }
        Ok(false)
    }

    /// Whether an overlay does such a thing.
    fn stays(&self, action: &Action) -> Result<bool, ApplyError> {
        let path = &action.path;
        Ok(match &action.change {
            Change::Put(..)
            | Change::Link(_)
            | Change::SetMetadata(FileKind::File | FileKind::Symlink, _) => true,
            // Those that are there are as they are, whoever made them.
            Change::MakeDirectory(_) => {
                self.tree.stat(path)?.is_none_or(|stat| stat.kind != FileKind::Directory)
            }
            Change::SetMetadata(..) => self.is_our_directory(path) || self.tree.stat(path)?.is_none(),
            Change::Delete | Change::Clear => self.is_ours(path),
            Change::MakeRoom | Change::RemoveDirectory => self.is_our_directory(path),
        })
    }

    /// What stands where something is placed for the first time is kept, and no local change of anything of ours.
    fn with_former(&self, action: Action) -> Result<Action, ApplyError> {
        let is_first = matches!(action.change, Change::Put(..)) && !self.is_ours(&action.path);
        if is_first && self.tree.stat(&action.path)?.is_some() {
            return Ok(Action { displaced: Displaced::Former, ..action });
        }
        Ok(action)
    }

    /// The path of the host that a path of the tree is.
    pub(super) fn host_path(&self, path: &[u8]) -> Option<HostPath> {
        HostPath::new(&[self.prefix, b"/", path].concat())
    }

    fn entry(&self, path: &[u8]) -> Option<&ledger::Entry> {
        self.entries.get(&self.host_path(path)?).filter(|entry| entry.owner == *self.owner)
    }

    fn is_ours(&self, path: &[u8]) -> bool {
        self.entry(path).is_some()
    }

    fn is_our_directory(&self, path: &[u8]) -> bool {
        self.entry(path).is_some_and(|entry| entry.placed.as_ref().is_some_and(Thing::is_directory))
    }

    fn has_former(&self, path: &[u8]) -> bool {
        self.entry(path).is_some_and(|entry| entry.former.is_some())
    }
}

/// What the actions of a plan that fits come down to.
pub(super) fn steps(actions: &[Action]) -> Steps {
    let mut steps = Steps::new();
    let plain = |mode| Metadata { mode, owner: None, modified: None, xattrs: None };
    for action in actions {
        let path = action.path.clone();
        match &action.change {
            Change::Put(node, metadata) => {
                steps.insert(path, Step::Put(node.clone(), metadata.clone()));
            }
            Change::MakeDirectory(mode) => _ = steps.insert(path, Step::MakeDirectory(plain(*mode))),
            Change::SetMetadata(FileKind::Directory, metadata) => {
                let metadata = Metadata { owner: metadata.owner, ..plain(metadata.mode) };
                steps.insert(path, Step::MakeDirectory(metadata));
            }
            Change::SetMetadata(_, metadata) => {
                _ = steps.insert(path, Step::SetMetadata(metadata.clone()));
            }
            // Unless something else is placed there.
            Change::Delete | Change::Clear | Change::MakeRoom | Change::RemoveDirectory => {
                steps.entry(path).or_insert(Step::GiveBack);
            }
            Change::Link(_) => {}
        }
    }
    steps
}

/// What stands where the tree has a directory.
fn in_the_way(path: Box<[u8]>, kind: FileKind) -> Problem {
    match kind {
        FileKind::Symlink => Problem::ThroughLink(path),
        _ => Problem::NotForOverlay(path, "what stands there is not a directory, and is the host's"),
    }
}

fn is_in(path: &HostPath, directory: &Path) -> bool {
    Path::new(OsStr::from_bytes(path.as_bytes())).starts_with(directory)
}

/// The path of the tree that a path of the host is.
pub(super) fn relative(path: &HostPath, prefix: &[u8]) -> Option<Box<[u8]>> {
    path.as_bytes().strip_prefix(prefix)?.strip_prefix(b"/").map(Into::into)
}

/// The nearest directory that holds a path and is there.
pub(super) fn nearest_directory<'p>(tree: &TreeDir, path: &'p [u8]) -> Result<&'p [u8], ApplyError> {
    let is_directory =
        |path: &[u8]| tree.stat(path).map(|found| found.is_some_and(|stat| stat.kind == FileKind::Directory));
    let mut ends = (0..path.len()).filter(|at| path[*at] == b'/');
    // Most are in one that is there; the others are looked for from above, because most of a way may be missing.
    if let Some(parent) = ends.clone().next_back()
        && is_directory(&path[..parent])?
    {
        return Ok(&path[..parent]);
    }
    let mut nearest = 0;
    while let Some(end) = ends.next()
        && is_directory(&path[..end])?
    {
        nearest = end;
    }
    Ok(&path[..nearest])
}
