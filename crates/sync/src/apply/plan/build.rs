//! Making a plan: one merge of the two manifests, then what follows for the directories.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::{Attributes, Entry, Node};
use smart_sync_store::manifest::path::TreePath;

use super::{Action, ApplyPlan, BLOCK_BYTES, Change, Displaced, Need, PlanInput, Problem, check};
use crate::apply::error::ApplyError;
use crate::apply::metadata::{Metadata, is_executable, metadata_of};
use crate::apply::scan::{Drift, Found, is_excluded};
use crate::apply::stat::{FileKind, Fingerprint};
use crate::apply::stat_cache::Expected;
use crate::apply::versions::WRITABLE;

type Paths = HashSet<Box<[u8]>>;

/// What a path is recognised by where there are very many.
type PathDigest = [u8; 16];

/// What becomes of a file that other names may be given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Linkable {
    Stays,
    Put,
}

struct Planner<'a> {
    input: &'a PlanInput<'a>,
    plan: ApplyPlan,
    /// Directories of the applied and of the wanted tree, whether they have entries or not.
    applied_directories: Paths,
    wanted_directories: Paths,
    /// Files of the wanted tree that may be linked to (`system` only).
    linkable: HashMap<PathDigest, Linkable>,
    needs: HashMap<ContentId, usize>,
    /// The metadata of directories (`system` only).
    directories: HashMap<Box<[u8]>, Metadata>,
}

pub(super) fn build<A: Borrow<Entry>, W: Borrow<Entry>>(
    applied: impl Iterator<Item = A>,
    wanted: impl Iterator<Item = W>,
    input: &PlanInput<'_>,
) -> Result<ApplyPlan, ApplyError> {
    let mut planner = Planner {
        input,
        plan: ApplyPlan::default(),
        applied_directories: Paths::new(),
        wanted_directories: Paths::new(),
        linkable: HashMap::new(),
        needs: HashMap::new(),
        directories: HashMap::new(),
    };
    planner.merge(applied, wanted)?;
    planner.directories();
    planner.directory_metadata();
    planner.find_local_sources();
    super::renamed::find(&mut planner.plan);
    planner.order();
    Ok(planner.plan)
}

impl<'a> Planner<'a> {
    fn merge<A: Borrow<Entry>, W: Borrow<Entry>>(
        &mut self,
        applied: impl Iterator<Item = A>,
        wanted: impl Iterator<Item = W>,
    ) -> Result<(), ApplyError> {
        let (mut applied_order, mut wanted_order) = (check::Order::default(), check::Order::default());
        let (mut applied, mut wanted) = (applied.peekable(), wanted.peekable());
        loop {
            let (before, after) = match (applied.peek(), wanted.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => (applied.next(), None),
                (None, Some(_)) => (None, wanted.next()),
                (Some(before), Some(after)) => match before.borrow().path.cmp(&after.borrow().path) {
                    std::cmp::Ordering::Less => (applied.next(), None),
                    std::cmp::Ordering::Greater => (None, wanted.next()),
                    std::cmp::Ordering::Equal => (applied.next(), wanted.next()),
                },
            };
            let (mut before, mut after) =
                (before.as_ref().map(Borrow::borrow), after.as_ref().map(Borrow::borrow));
            if let Some(entry) = before {
                applied_order.next(entry)?;
            }
            if let Some(entry) = after {
                wanted_order.next(entry)?;
            }
            let allows_excluded = self.input.policy.allows_excluded;
            if let Some(entry) = after.filter(|entry| !allows_excluded && self.is_excluded(entry)) {
                self.plan.left_out.push(entry.path.clone());
                after = None;
            }
            before = before.filter(|entry| allows_excluded && after.is_some() || !self.is_excluded(entry));
            self.pair(before, after);
        }
    }

    fn is_excluded(&self, entry: &Entry) -> bool {
        let is_directory = Expected::of(entry).kind() == FileKind::Directory;
        !entry.path.is_root() && is_excluded(self.input.excluded, entry.path.as_bytes(), is_directory)
    }

    fn pair(&mut self, before: Option<&Entry>, after: Option<&Entry>) {
        if let Some(entry) = before {
            add_directories(&mut self.applied_directories, entry);
        }
        let Some(wanted) = after else {
            if let Some(entry) = before {
                self.unwanted(entry);
            }
            return;
        };
        add_directories(&mut self.wanted_directories, wanted);
        check::entry(wanted, self.input.policy, &mut self.plan.problems);
        match &wanted.node {
            Node::File(_) | Node::Symlink(_) => self.content(before, wanted),
            Node::Directory | Node::Submodule(_) => self.directory(before, wanted),
            Node::Hardlink(target) => self.hardlink(before, wanted, target),
            Node::Device { .. } | Node::Fifo | Node::Socket => self.special(before, wanted),
        }
    }

    /// An applied entry that is not wanted any more.
    fn unwanted(&mut self, entry: &Entry) {
        if matches!(entry.node, Node::Directory | Node::Submodule(_)) {
            return; // With the other directories, once all wanted ones are known.
        }
        let displaced = self.displaced(Some(entry), entry.path.as_bytes());
        let is_local_directory = self
            .found(Some(entry), entry.path.as_bytes())
            .is_some_and(|found| found.stat.kind == FileKind::Directory);
        if displaced != Displaced::Nothing && !is_local_directory {
            self.act(entry.path.as_bytes(), Change::Delete, displaced);
        }
    }

    fn content(&mut self, before: Option<&Entry>, wanted: &Entry) {
        let path = wanted.path.as_bytes();
        let kind = Expected::of(wanted).kind();
        let found = self.found(before, path);
        let wanted_id = wanted.content().map(|content| content.id);
        let is_there = match (self.drift(before, path), before) {
            (Some(_), _) | (None, None) => {
                found.is_some_and(|found| found.stat.kind == kind && found.content == wanted_id)
            }
            (None, Some(before)) => {
                Expected::of(before).kind() == kind && before.content().map(|content| content.id) == wanted_id
            }
        };
        if matches!(wanted.node, Node::File(_)) && metadata_is_system(wanted) {
            let linkable = if is_there { Linkable::Stays } else { Linkable::Put };
            self.linkable.insert(digest(&wanted.path), linkable);
        }
        let metadata = self.metadata(wanted);
        if !is_there {
            let displaced = self.displaced(before, path);
            self.put(before, wanted, metadata, displaced);
            return;
        }
        let is_met = match (found, before) {
            (Some(found), _) if metadata_is_system(wanted) => metadata.is_met_by(&found.stat, &found.xattrs),
            (Some(found), _) => kind != FileKind::File || found.stat.is_executable() == is_executable(wanted),
            (None, Some(before)) if metadata_is_system(wanted) => before.attributes == wanted.attributes,
            (None, Some(before)) => kind != FileKind::File || is_executable(before) == is_executable(wanted),
            (None, None) => true,
        };
        if is_met {
            self.plan.unchanged += 1;
        } else {
            // The content stays, and with `git` fidelity so does its time.
            let modified = metadata.modified.filter(|_| metadata_is_system(wanted));
            self.act(path, Change::SetMetadata(kind, Metadata { modified, ..metadata }), Displaced::Nothing);
        }
    }

    fn directory(&mut self, before: Option<&Entry>, wanted: &Entry) {
        let path = wanted.path.as_bytes();
        let found = self.found(before, path);
        let was_directory = before.is_some_and(|before| Expected::of(before).kind() == FileKind::Directory);
        let is_there = wanted.path.is_root()
            || match (self.drift(before, path), before) {
                (Some(_), _) | (None, None) => {
                    found.is_some_and(|found| found.stat.kind == FileKind::Directory)
                }
                (None, Some(_)) => was_directory,
            };
        if !is_there && before.is_some() && !was_directory {
            let displaced = self.displaced(before, path);
            if displaced != Displaced::Nothing {
                self.act(path, Change::Clear, displaced);
            }
        }
        let metadata = self.metadata(wanted);
        if metadata_is_system(wanted) {
            self.directories.insert(path.into(), metadata.clone());
        }
        let is_met = match (found, before) {
            _ if !metadata_is_system(wanted) => true,
            (Some(found), _) => metadata.is_met_by(&found.stat, &found.xattrs),
            (None, Some(before)) => was_directory && before.attributes == wanted.attributes,
            (None, None) => false,
        };
        if !is_there {
            self.act(path, Change::MakeDirectory(metadata.mode), Displaced::Nothing);
        }
        if !is_met || !is_there && metadata_is_system(wanted) {
            self.act(path, Change::SetMetadata(FileKind::Directory, metadata), Displaced::Nothing);
        } else if is_there {
            self.plan.unchanged += 1;
        }
    }

    fn hardlink(&mut self, before: Option<&Entry>, wanted: &Entry, target: &TreePath) {
        let Some(linkable) = self.linkable.get(&digest(target)).copied() else {
            self.plan.problems.push(Problem::HardlinkTarget(wanted.path.clone()));
            return;
        };
        let is_put = linkable == Linkable::Put;
        let path = wanted.path.as_bytes();
        let is_same = before.is_some_and(|before| before.node == wanted.node) && !is_put;
        let is_linked = match self.found(before, path) {
            Some(found) => self.inode(target.as_bytes()).is_some_and(|inode| inode == found.stat.inode),
            None => is_same && self.drift(before, path).is_none(),
        };
        if is_linked && !is_put {
            self.plan.unchanged += 1;
            return;
        }
        let displaced = self.displaced(before, path);
        self.act(path, Change::Link(target.clone()), displaced);
    }

    fn special(&mut self, before: Option<&Entry>, wanted: &Entry) {
        let path = wanted.path.as_bytes();
        let metadata = self.metadata(wanted);
        let is_there = match self.found(before, path) {
            Some(found) => {
                let device = match wanted.node {
                    Node::Device { major, minor, .. } => (major, minor),
                    _ => found.stat.device_file,
                };
                found.stat.kind == Expected::of(wanted).kind()
                    && found.stat.device_file == device
                    && metadata.is_met_by(&found.stat, &found.xattrs)
            }
            None => self.drift(before, path).is_none() && before.is_some_and(|before| before == wanted),
        };
        if is_there {
            self.plan.unchanged += 1;
        } else {
            let displaced = self.displaced(before, path);
            self.put(before, wanted, metadata, displaced);
        }
    }

    fn put(&mut self, before: Option<&Entry>, wanted: &Entry, metadata: Metadata, displaced: Displaced) {
        let path = wanted.path.as_bytes();
        if let Some(content) = wanted.content() {
            self.plan.bytes = self.plan.bytes.saturating_add(content.size.next_multiple_of(BLOCK_BYTES));
            if content.size > 0 {
                let needs = &mut self.plan.needs;
                let at = *self.needs.entry(content.id).or_insert_with(|| {
                    let is_sparse = check::is_sparse(wanted);
                    needs.push(Need {
                        content: *content,
                        uses: 0,
                        is_sparse,
                        mode: metadata.mode_of_new(),
                        modified: metadata.modified,
                        local: None,
                        former: None,
                    });
                    needs.len() - 1
                });
                let need = &mut self.plan.needs[at];
                need.uses += 1;
                if need.former.is_none() && before.is_some_and(|before| matches!(before.node, Node::File(_)))
                {
                    need.former = Some(path.into());
                }
            }
        }
        self.plan.inodes += 1;
        self.act(path, Change::Put(wanted.node.clone(), metadata), displaced);
    }

    /// What follows from the two sets of directories.
    fn directories(&mut self) {
        let blocking: Vec<_> = self
            .plan
            .actions
            .iter()
            .filter(|action| matches!(action.change, Change::Put(..) | Change::Link(_)))
            .filter(|action| {
                self.applied_directories.contains(&action.path)
                    || self.on_disk(&action.path).is_some_and(|found| found.stat.kind == FileKind::Directory)
            })
            .map(|action| action.path.clone())
            .collect();
        for path in &blocking {
            for excluded in self.input.scan.excluded_below(path) {
                let problem = Problem::ExcludedInTheWay(excluded.path.clone(), path.clone());
                self.plan.problems.push(problem);
            }
        }
        let blocking: Paths = blocking.into_iter().collect();
        for action in &mut self.plan.actions {
            let makes_way = self.wanted_directories.contains(&action.path)
                || parents(&action.path).any(|parent| blocking.contains(parent));
            if action.change == Change::Delete && makes_way {
                action.change = Change::Clear;
            }
        }
        self.missing_directories();
        let unwanted = self.applied_directories.difference(&self.wanted_directories);
        for path in blocking.iter().chain(unwanted.filter(|path| !blocking.contains(*path))) {
            let is_in_the_way =
                blocking.contains(path) || parents(path).any(|parent| blocking.contains(parent));
            let change = if is_in_the_way { Change::MakeRoom } else { Change::RemoveDirectory };
            self.plan.actions.push(Action { path: path.clone(), change, displaced: Displaced::Nothing });
        }
    }

    /// Directories that are new, or that are needed where a scan found something missing or in the way.
    fn missing_directories(&mut self) {
        let scan = self.input.scan;
        let mut wanted: Paths =
            self.wanted_directories.difference(&self.applied_directories).cloned().collect();
        if !scan.findings.is_empty() {
            let made = self.plan.actions.iter().filter(|action| {
                matches!(action.change, Change::Put(..) | Change::Link(_) | Change::MakeDirectory(_))
            });
            wanted.extend(made.flat_map(|action| parents(&action.path)).map(Box::from));
        }
        let mut cleared = Paths::new();
        for action in &self.plan.actions {
            match action.change {
                Change::MakeDirectory(_) => _ = wanted.remove(&action.path),
                Change::Clear => _ = cleared.insert(action.path.clone()),
                _ => {}
            }
        }
        // Those with an entry of their own have been decided upon, but not what an untracked file in their place
        // means.
        for path in &self.wanted_directories {
            let in_the_way = scan.untracked_above(path).filter(|found| found.path == *path);
            let in_the_way = in_the_way
                .map(|found| found.kind)
                .or_else(|| scan.finding(path)?.found.as_ref().map(|found| found.stat.kind));
            if in_the_way.is_some_and(|kind| kind != FileKind::Directory) && !cleared.contains(path) {
                let action =
                    Action { path: path.clone(), change: Change::Clear, displaced: Displaced::Local };
                self.plan.actions.push(action);
            }
            if let Some(excluded) =
                scan.excluded_above(path).filter(|found| found.kind != FileKind::Directory)
            {
                let problem = Problem::ExcludedInTheWay(excluded.path.clone(), path.clone());
                self.plan.problems.push(problem);
            }
        }
        for path in wanted {
            self.plan.inodes += 1;
            self.plan.actions.push(Action {
                path,
                change: Change::MakeDirectory(0o755),
                displaced: Displaced::Nothing,
            });
        }
    }

    /// A directory gets another time when something in it is made or goes, and the root when there is staging:
    /// where times are kept, they are set again at the end.
    fn directory_metadata(&mut self) {
        if self.plan.actions.is_empty() {
            return;
        }
        let mut changed = Paths::from([Box::default()]);
        let mut settled = Paths::new();
        for action in &self.plan.actions {
            if let Change::SetMetadata(FileKind::Directory, _) = action.change {
                settled.insert(action.path.clone());
            } else {
                let parent = action.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                changed.insert(action.path[..parent].into());
            }
        }
        for path in changed.difference(&settled) {
            if let Some(metadata) = self.directories.get(path) {
                let change = Change::SetMetadata(FileKind::Directory, metadata.clone());
                let action = Action { path: path.clone(), change, displaced: Displaced::Nothing };
                self.plan.actions.push(action);
            }
        }
    }

    /// Finds needed contents in files that stay, or that go only after they were copied.
    fn find_local_sources(&mut self) {
        let scan = self.input.scan;
        for position in 0..if self.needs.is_empty() { 0 } else { scan.cache.len() } {
            let record = scan.cache.record(position);
            let is_file = matches!(record.expected, Expected::File | Expected::Executable);
            if is_file
                && record.verified.is_some()
                && let Some(at) = self.needs.get(&record.content.id)
            {
                self.plan.needs[*at].local.get_or_insert_with(|| record.path.into());
            }
        }
        let found = scan.findings.iter().filter_map(|finding| Some((&finding.path, finding.found.as_ref()?)));
        for (path, found) in found.chain(&scan.examined) {
            if found.stat.kind == FileKind::File
                && let Some(at) = found.content.and_then(|content| self.needs.get(&content))
            {
                self.plan.needs[*at].local.get_or_insert_with(|| path.clone());
            }
        }
    }

    /// Room first; then directories from the top, files, and what they are linked and set to; then what goes;
    /// symbolic links after everything that is written; and the metadata of directories at the very end.
    fn order(&mut self) {
        self.plan.actions.sort_unstable_by(|a, b| {
            let phase = |action: &Action| match &action.change {
                Change::Clear => 0,
                Change::MakeRoom => 1,
                Change::MakeDirectory(_) => 2,
                Change::Put(node, _) if !matches!(node, Node::Symlink(_)) => 3,
                Change::Link(_) => 4,
                Change::SetMetadata(kind, _) if *kind != FileKind::Directory => 5,
                Change::Delete => 6,
                Change::RemoveDirectory => 7,
                Change::Put(..) => 8,
                Change::SetMetadata(..) => 9,
            };
            let is_upwards = |action: &Action| matches!(phase(action), 0 | 1 | 7 | 9);
            phase(a).cmp(&phase(b)).then_with(|| {
                let order = a.path.cmp(&b.path);
                if is_upwards(a) { order.reverse() } else { order }
            })
        });
        check::mounts(&mut self.plan, &self.input.scan.mounts);
    }

    fn act(&mut self, path: &[u8], change: Change, displaced: Displaced) {
        self.plan.actions.push(Action { path: path.into(), change, displaced });
    }

    fn metadata(&self, entry: &Entry) -> Metadata {
        let metadata = metadata_of(entry, self.input.policy.owners.as_ref(), self.input.now);
        let is_open = matches!(entry.attributes, Attributes::Git(_)) && matches!(entry.node, Node::File(_));
        let takes = if is_open && self.input.policy.makes_read_only { WRITABLE } else { 0 };
        Metadata { mode: metadata.mode & !takes, ..metadata }
    }

    /// How a tracked path differs from what was applied, if it does.
    fn drift(&self, before: Option<&Entry>, path: &[u8]) -> Option<Drift> {
        before.and_then(|_| self.input.scan.finding(path)).map(|finding| finding.drift)
    }

    /// What stands at a path, unless it is what was applied.
    fn found(&self, before: Option<&Entry>, path: &[u8]) -> Option<&'a Found> {
        match before {
            Some(_) => self.input.scan.finding(path)?.found.as_ref(),
            None => self.on_disk(path),
        }
    }

    fn on_disk(&self, path: &[u8]) -> Option<&'a Found> {
        let scan = self.input.scan;
        scan.examined(path).or_else(|| scan.finding(path)?.found.as_ref())
    }

    fn inode(&self, path: &[u8]) -> Option<u64> {
        match self.on_disk(path) {
            Some(found) => Some(found.stat.inode),
            None => self.verified(path).map(|verified| verified.inode),
        }
    }

    fn verified(&self, path: &[u8]) -> Option<Fingerprint> {
        let cache = &self.input.scan.cache;
        cache.find(path).and_then(|position| cache.record(position).verified)
    }

    /// What becomes of what stands at a path where something else has to be, or nothing.
    fn displaced(&self, before: Option<&Entry>, path: &[u8]) -> Displaced {
        let found = self.found(before, path);
        match (before, self.drift(before, path)) {
            (None, _) => found.map_or(Displaced::Nothing, |_| Displaced::Local),
            (Some(_), None) => {
                self.verified(path).map_or(Displaced::Local, |found| Displaced::Ours(found.into()))
            }
            (Some(before), Some(drift)) => match (drift, found) {
                (_, None) => Displaced::Nothing,
                // Its metadata were changed here, its content is ours, and the metadata are about to change anyway.
                (Drift::ExecutableBit | Drift::Metadata, Some(found))
                    if found.content.is_some()
                        && found.content == before.content().map(|content| content.id) =>
                {
                    Displaced::Ours(found.stat.fingerprint().into())
                }
                _ => Displaced::Local,
            },
        }
    }
}

fn digest(path: &TreePath) -> PathDigest {
    *blake3::hash(path.as_bytes()).as_bytes().first_chunk().expect("a hash is longer")
}

fn metadata_is_system(entry: &Entry) -> bool {
    matches!(entry.attributes, Attributes::System(_))
}

fn add_directories(directories: &mut Paths, entry: &Entry) {
    let path = entry.path.as_bytes();
    if matches!(entry.node, Node::Directory | Node::Submodule(_)) && !entry.path.is_root() {
        directories.insert(path.into());
    }
    // From the nearest up: where one is known, so are all above it.
    for at in (0..path.len()).rev().filter(|at| path[*at] == b'/') {
        if !directories.insert(path[..at].into()) {
            break;
        }
    }
}

fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}
