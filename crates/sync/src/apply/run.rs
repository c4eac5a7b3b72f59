//! A run: from the lock to the commit, one type for each state.
//!
//! What may be done next is what the type at hand allows: nothing before an unfinished run is settled, no flip
//! before everything is staged, no record of the new version before the flip.

use std::borrow::Borrow;
use std::path::Path;

use rayon::prelude::*;
use smart_sync_store::manifest::entry::{Attributes, Entry, Node};

use super::backup::{Backup, Stamp};
use super::error::ApplyError;
use super::flip::{self, Placed};
use super::journal::{Journal, State};
use super::lock::{Holder, Lock};
use super::op::{Op, OpKind};
use super::plan::{ApplyPlan, Need};
use super::record::{self, Version};
use super::scan::{Scan, ScanOptions, is_excluded};
use super::stage::{self, Stage};
use super::stat::FileKind;
use super::stat_cache::{Builder, Expected, Record, Seen, StatCache};
use super::step::Steps;
use super::tree_dir::{RootLink, TreeDir};

/// Files that are looked at by all processors before what is known of them is noted.
const BATCH: usize = 4096;

/// A directory that follows a channel, and the directory that holds what is known of it.
#[derive(Debug)]
pub struct Target {
    tree: TreeDir,
    state: TreeDir,
}

impl Target {
    /// Opens a target. Both directories exist; the state directory belongs to this target alone.
    pub fn open(tree: &Path, link: RootLink, state: &Path, steps: &Steps) -> Result<Self, ApplyError> {
        Ok(Self {
            tree: TreeDir::open(tree, link, steps.clone())?,
            state: TreeDir::open(state, RootLink::Follow, steps.clone())?,
        })
    }

    /// The tree.
    pub const fn tree(&self) -> &TreeDir {
        &self.tree
    }

    /// The state directory.
    pub const fn state(&self) -> &TreeDir {
        &self.state
    }

    /// What the target holds, if anything was applied.
    pub fn applied(&self) -> Result<Option<Version>, ApplyError> {
        record::read(&self.state)
    }

    /// Takes the target for this run, or says who has it.
    pub fn lock(self, holder: &Holder) -> Result<LockedTarget, ApplyError> {
        let lock = Lock::take(&self.state, holder)?;
        Ok(LockedTarget { target: self, lock })
    }
}

/// A target that belongs to this run, in a state that is not known yet.
#[derive(Debug)]
pub struct LockedTarget {
    target: Target,
    lock: Lock,
}

/// What became of a run that did not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// There was none.
    Nothing,
    /// It had not changed the tree, and is forgotten; what it received is still staged.
    RolledBack(Version),
    /// It was completed.
    Completed {
        /// What the target holds now.
        version: Version,
        /// Paths of the host's own changes that were moved to the backup.
        backed_up: Vec<Box<[u8]>>,
    },
}

impl LockedTarget {
    /// Settles a run that did not end.
    pub fn recover(self) -> Result<(ReadyTarget, Recovery), ApplyError> {
        let Target { tree, state } = &self.target;
        let recovery = match Journal::reopen(state)? {
            None => Recovery::Nothing,
            Some((journal, run)) if run.state < State::Flipping => {
                journal.end()?;
                Recovery::RolledBack(run.version)
            }
            Some((mut journal, run)) => {
                let mut backup = Backup::new(state, &run.stamp);
                if run.state == State::Flipping {
                    flip::flip(tree, &mut backup, &run.ops)?;
                    tree.sync_file_system()?;
                    journal.reached(State::Flipped)?;
                }
                if run.state < State::Committed {
                    record::write(state, &run.version)?;
                    journal.reached(State::Committed)?;
                }
                stage::discard(tree)?;
                settle_root(tree, &run.ops)?;
                journal.end()?;
                Recovery::Completed { version: run.version, backed_up: backup.into_saved() }
            }
        };
        Ok((ReadyTarget { target: self.target, _lock: self.lock }, recovery))
    }
}

/// A target that belongs to this run, with no other run unfinished.
#[derive(Debug)]
pub struct ReadyTarget {
    target: Target,
    _lock: Lock,
}

impl ReadyTarget {
    /// The target.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Opens the stage before it is known what is wanted, for contents that tell it.
    pub fn stage(&self) -> Result<Stage<'_>, ApplyError> {
        Stage::open(&self.target.tree)
    }

    /// Begins to carry out a plan. One with problems is refused.
    pub fn begin(&self, plan: ApplyPlan, version: Version, stamp: Stamp) -> Result<Staging<'_>, ApplyError> {
        self.begin_with(plan, version, stamp, None)
    }

    /// Begins to carry out a plan with what was [staged](Self::stage) before.
    pub fn begin_with<'a>(
        &'a self,
        plan: ApplyPlan,
        version: Version,
        stamp: Stamp,
        staged: Option<Stage<'a>>,
    ) -> Result<Staging<'a>, ApplyError> {
        if !plan.problems.is_empty() {
            return Err(ApplyError::Refused(plan.problems));
        }
        let Target { tree, state } = &self.target;
        let journal = Journal::begin(state, &version, &stamp)?;
        let mut stage = match staged {
            Some(stage) => stage,
            None => Stage::open(tree)?,
        };
        stage.begin(plan.actions)?;
        Ok(Staging { target: &self.target, needs: plan.needs, version, stamp, journal, stage })
    }

    /// Notes that the target already holds a version: its plan is empty.
    pub fn adopt<E: Borrow<Entry> + Sync>(
        &self,
        version: &Version,
        wanted: impl IntoIterator<Item = E>,
        scan: &Scan,
        options: &ScanOptions<'_>,
    ) -> Result<(), ApplyError> {
        let Target { tree, state } = &self.target;
        let known = Known { tree, scan, placed: &Placed::default(), ops: &[] };
        known.cache(version, wanted, options)?.save(state)?;
        record::write(state, version)
    }

    /// Removes what earlier runs received and did not use.
    pub fn discard_staged(&self) -> Result<(), ApplyError> {
        stage::discard(&self.target.tree)
    }
}

/// A run that receives contents.
#[derive(Debug)]
pub struct Staging<'a> {
    target: &'a Target,
    needs: Vec<Need>,
    version: Version,
    stamp: Stamp,
    journal: Journal<'a>,
    stage: Stage<'a>,
}

impl<'a> Staging<'a> {
    /// Where contents go.
    pub const fn stage(&self) -> &Stage<'a> {
        &self.stage
    }

    /// What has to be staged.
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// Makes all files beside the tree, durably, and notes the steps that will put them in place.
    pub fn prepare(mut self) -> Result<Prepared<'a>, ApplyError> {
        let Target { tree, .. } = self.target;
        let (ops, placed) = flip::prepare(tree, &self.stage, self.needs)?;
        tree.sync_file_system()?;
        self.journal.staged(&ops)?;
        let Self { target, version, stamp, journal, .. } = self;
        Ok(Prepared { target, version, stamp, journal, ops, placed })
    }
}

/// A run that has everything beside the tree and has not touched the tree.
#[derive(Debug)]
pub struct Prepared<'a> {
    target: &'a Target,
    version: Version,
    stamp: Stamp,
    journal: Journal<'a>,
    ops: Vec<Op>,
    placed: Placed,
}

impl<'a> Prepared<'a> {
    /// Changes the tree. From here on an error leaves a run that the next one completes.
    pub fn flip(mut self) -> Result<Flipped<'a>, ApplyError> {
        let Target { tree, state } = self.target;
        self.journal.reached(State::Flipping)?;
        let mut backup = Backup::new(state, &self.stamp);
        flip::flip(tree, &mut backup, &self.ops)?;
        tree.sync_file_system()?;
        self.journal.reached(State::Flipped)?;
        let Self { target, version, journal, ops, placed, .. } = self;
        Ok(Flipped { target, version, journal, ops, placed, backed_up: backup.into_saved() })
    }

    /// Leaves the tree as it is; what was received stays staged.
    pub fn abandon(self) -> Result<(), ApplyError> {
        self.journal.end()
    }
}

/// A run whose tree is the new one.
#[derive(Debug)]
pub struct Flipped<'a> {
    target: &'a Target,
    version: Version,
    journal: Journal<'a>,
    ops: Vec<Op>,
    placed: Placed,
    backed_up: Vec<Box<[u8]>>,
}

impl Flipped<'_> {
    /// Records the new version; returns the paths of the host's own changes that are in the backup now.
    ///
    /// `options.started` is a time after the flip.
    pub fn commit<E: Borrow<Entry> + Sync>(
        mut self,
        wanted: impl IntoIterator<Item = E>,
        scan: &Scan,
        options: &ScanOptions<'_>,
    ) -> Result<Vec<Box<[u8]>>, ApplyError> {
        let Target { tree, state } = self.target;
        let known = Known { tree, scan, placed: &self.placed, ops: &self.ops };
        record::write(state, &self.version)?;
        self.journal.reached(State::Committed)?;
        stage::discard(tree)?;
        settle_root(tree, &self.ops)?;
        known.cache(&self.version, wanted, options)?.save(state)?;
        self.journal.end()?;
        Ok(self.backed_up)
    }
}

/// Gives the root its metadata once more, where it has any: the staging directory that was in it is gone.
fn settle_root(tree: &TreeDir, ops: &[Op]) -> Result<(), ApplyError> {
    match ops.iter().find(|op| op.path.is_empty()).map(|op| &op.kind) {
        Some(OpKind::SetMetadata(kind, metadata)) => metadata.give(tree, b"", *kind),
        _ => Ok(()),
    }
}

/// What is known of the files of a target after a run.
struct Known<'a> {
    tree: &'a TreeDir,
    scan: &'a Scan,
    placed: &'a Placed,
    ops: &'a [Op],
}

impl Known<'_> {
    /// The stat cache of the new version. A file is only noted as verified if nothing shows that it changed since
    /// its content was; what is missing here is hashed by the next scan.
    fn cache<E: Borrow<Entry> + Sync>(
        &self,
        version: &Version,
        wanted: impl IntoIterator<Item = E>,
        options: &ScanOptions<'_>,
    ) -> Result<StatCache, ApplyError> {
        let root_device = self.tree.stat(b"")?.map_or((0, 0), |stat| stat.device);
        let touched = self
            .ops
            .iter()
            .filter(|op| matches!(op.kind, OpKind::SetMetadata(..)))
            .map(|op| &*op.path)
            .collect();
        let mut builder = Builder::default();
        let mut wanted = wanted.into_iter();
        loop {
            let batch: Vec<E> = wanted.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(builder.finish(version.manifest(), options.started));
            }
            let seen = batch
                .par_iter()
                .map(|entry| self.seen(entry.borrow(), &touched, options, root_device))
                .collect::<Result<Vec<_>, _>>()?;
            for (entry, seen) in batch.iter().zip(seen) {
                builder.push(entry.borrow(), seen)?;
            }
        }
    }

    fn seen(
        &self,
        entry: &Entry,
        touched: &std::collections::HashSet<&[u8]>,
        options: &ScanOptions<'_>,
        root_device: (u32, u32),
    ) -> Result<Option<Seen>, ApplyError> {
        let path = entry.path.as_bytes();
        let expected = Expected::of(entry);
        let is_git_directory =
            expected.kind() == FileKind::Directory && matches!(entry.attributes, Attributes::Git(_));
        let is_directory = expected.kind() == FileKind::Directory;
        if is_git_directory || is_excluded(options.excluded, path, is_directory) {
            return Ok(None);
        }
        let content = entry.content().map(|content| content.id);
        let record = self.scan.cache.find(path).map(|position| self.scan.cache.record(position));
        let recorded = record
            .filter(|record| content == Some(record.content.id) && record.expected.kind() == expected.kind());
        let found = self.scan.finding(path).and_then(|finding| finding.found.as_ref());
        let found = found.or_else(|| self.scan.examined(path));
        let found = found.filter(|found| content.is_some() && found.content == content);
        let verified = recorded.and_then(|record| record.verified);
        let known = match (self.placed.get(self.ops, path), found, recorded.zip(verified)) {
            (Some(placed), ..) => Some(placed),
            (None, Some(found), _) => Some(found.stat.fingerprint()),
            (None, None, Some((record, fingerprint))) if !touched.contains(path) => {
                // The scan saw it in time to rule out that it changed since; what it cannot rule out is hashed
                // again.
                let Record { mode, is_on_root_device, .. } = record;
                let is_settled = fingerprint.is_settled_before(self.scan.taken);
                return Ok(is_settled.then_some(Seen { fingerprint, mode, is_on_root_device }));
            }
            (None, None, recorded) => recorded.map(|(_, fingerprint)| fingerprint),
        };
        let Some(stat) = self.tree.stat(path)?.filter(|stat| stat.kind == expected.kind()) else {
            return Ok(None);
        };
        let is_verified = match entry.node {
            Node::File(_) | Node::Symlink(_) => {
                known.is_some_and(|known| stat.fingerprint().has_content_of(&known))
            }
            _ => true,
        };
        Ok(is_verified.then(|| Seen::new(&stat, root_device)))
    }
}
