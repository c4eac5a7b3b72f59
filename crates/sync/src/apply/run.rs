//! A run: from the lock to the commit, one type for each state.
//!
//! What may be done next is what the type at hand allows: nothing before an unfinished run is settled, no flip
//! before everything is staged, no record of the new version before the flip.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::entry::{Attributes, Entry, Fidelity, FileTime, Node};

use super::backup::{Backup, Stamp};
use super::error::ApplyError;
use super::flip::{self, Placed};
use super::journal::{Journal, State};
use super::lock::{Holder, Lock};
use super::op::{Op, OpKind};
use super::overlay::{self, Overlay};
use super::plan::{ApplyPlan, Need};
use super::record::{self, Version};
use super::scan::{Scan, ScanOptions, is_excluded};
use super::stage::{self, Stage};
use super::stat::FileKind;
use super::stat_cache::{Builder, Expected, Record, Seen, StatCache};
use super::step::Steps;
use super::tree_dir::{RootLink, TreeDir};
use super::versions::{Kept, Kind, Sharing, Snapshots, VersionName, Versions, ZFS_PROGRAM, catalogue};

/// Files that are looked at by all processors before what is known of them is noted.
const BATCH: usize = 4096;

/// A directory that follows a channel, and the directory that holds what is known of it.
#[derive(Debug)]
pub struct Target {
    /// What readers see.
    tree: TreeDir,
    state: TreeDir,
    /// The versions, where they are made beside what readers see.
    versions: Option<Versions>,
    /// The versions, where what readers see is changed in place.
    snapshots: Option<Snapshots>,
    /// What places files, where the directory belongs to others.
    overlay: Option<Overlay>,
}

impl Target {
    /// Opens a target. Both directories exist; the state directory belongs to this target alone.
    pub fn open(tree: &Path, link: RootLink, state: &Path, steps: &Steps) -> Result<Self, ApplyError> {
        Ok(Self {
            tree: TreeDir::open(tree, link, steps.clone())?,
            state: TreeDir::open(state, RootLink::Follow, steps.clone())?,
            versions: None,
            snapshots: None,
            overlay: None,
        })
    }

    /// Opens a target of any kind. The path leads to it without a link.
    pub fn open_as(kind: Kind, root: &Path, state: &Path, steps: &Steps) -> Result<Self, ApplyError> {
        if kind == Kind::Zfs {
            return Self::open_dataset(root, state, steps, Path::new(ZFS_PROGRAM));
        }
        match Versions::open(kind, root, steps)? {
            None => Self::open(root, RootLink::Refuse, state, steps),
            Some((versions, tree)) => Ok(Self {
                tree,
                state: TreeDir::open(state, RootLink::Follow, steps.clone())?,
                versions: Some(versions),
                snapshots: None,
                overlay: None,
            }),
        }
    }

    /// Opens a dataset of ZFS, which this program works on.
    pub(super) fn open_dataset(
        root: &Path,
        state: &Path,
        steps: &Steps,
        program: &Path,
    ) -> Result<Self, ApplyError> {
        let (snapshots, tree) = Snapshots::open(root, steps, program)?;
        let state = TreeDir::open(state, RootLink::Follow, steps.clone())?;
        Ok(Self { tree, state, versions: None, snapshots: Some(snapshots), overlay: None })
    }

    /// Opens a directory of others that a tree is laid over, and the directory of the ledger.
    pub fn open_overlay(root: &Path, state: &Path, ledger: &Path, steps: &Steps) -> Result<Self, ApplyError> {
        let tree = overlay::open_tree(root, steps)?;
        let state = TreeDir::open(state, RootLink::Follow, steps.clone())?;
        let overlay = Some(Overlay::open(root, &state, ledger, steps)?);
        Ok(Self { tree, state, versions: None, snapshots: None, overlay })
    }

    /// Where changes are made: the next version, or the tree itself.
    fn work(&self) -> Result<&TreeDir, ApplyError> {
        match (&self.versions, &self.overlay) {
            (Some(versions), _) => versions.next(),
            (None, Some(overlay)) => Ok(overlay.work()),
            (None, None) => Ok(&self.tree),
        }
    }

    /// Where contents are staged, where the next version is not made beside what readers see.
    fn stage_tree(&self) -> &TreeDir {
        self.overlay.as_ref().map_or(&self.tree, Overlay::work)
    }

    /// Whether something is staged already.
    pub fn has_stage(&self) -> Result<bool, ApplyError> {
        let next = self.versions.as_ref().map(Versions::reopen_next).transpose()?;
        match next {
            None => Ok(self.stage_tree().stat(stage::STAGE)?.is_some()),
            Some(next) => next.map_or(Ok(false), |next| Ok(next.stat(stage::STAGE)?.is_some())),
        }
    }

    /// Whether versions are kept.
    pub const fn keeps_versions(&self) -> bool {
        self.versions.is_some() || self.snapshots.is_some() || self.overlay.is_some()
    }

    /// Whether what readers see is changed where it is, and not exchanged for what was made beside it.
    pub const fn is_changed_in_place(&self) -> bool {
        self.versions.is_none()
    }

    /// Whether files of this target are those of other versions too.
    pub fn have_many_names(&self) -> bool {
        self.versions.as_ref().is_some_and(|versions| versions.sharing() == Sharing::Names)
    }

    /// The versions that are kept, by their numbers.
    pub fn kept(&self) -> Result<Vec<Kept>, ApplyError> {
        catalogue::list(&self.state)
    }

    /// What is known of the files of a version that is kept, if that is kept too.
    pub fn cache_of(&self, kept: &Kept) -> Option<StatCache> {
        catalogue::cache(&self.state, kept)
    }

    /// The tree of a version that is kept, if it is still there.
    pub fn version_tree(&self, name: &VersionName) -> Result<Option<TreeDir>, ApplyError> {
        match (&self.versions, &self.snapshots) {
            (Some(versions), _) => versions.open_version(name),
            (None, Some(snapshots)) => snapshots.open_version(name),
            (None, None) => Ok(None),
        }
    }

    /// Whether the directory belongs to others, and only what was placed there is looked at.
    pub const fn is_overlay(&self) -> bool {
        self.overlay.is_some()
    }

    /// Opens a content of a version that is kept as contents.
    pub fn kept_content(&self, id: ContentId) -> Result<Option<File>, ApplyError> {
        self.overlay.as_ref().map_or(Ok(None), |overlay| overlay.open_kept(id))
    }

    /// What readers see.
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

    /// Keeps what readers see as a version, where that is changed in place and versions are kept. Nothing of the run
    /// that changed it is in it then.
    fn keep_snapshot(&self, version: &Version, ops: &[Op]) -> Result<(), ApplyError> {
        let (Some(snapshots), Some(name)) = (&self.snapshots, version.name()) else { return Ok(()) };
        stage::discard(&self.tree)?;
        settle_root(&self.tree, ops)?;
        snapshots.keep(name)
    }

    /// Ends what was begun without a run: giving back what stood there before.
    fn settle_overlay(&self) -> Result<(), ApplyError> {
        let Some(overlay) = &self.overlay else { return Ok(()) };
        let stamp = Stamp::new(b"ledger").expect("it is a name");
        overlay.complete(&mut Backup::new(&self.state, &stamp)).map(drop)
    }

    /// Notes that readers see a version, where versions are kept.
    fn note_version(&self, version: &Version) -> Result<(), ApplyError> {
        let Some(name) = version.name() else { return Ok(()) };
        let left = record::read(&self.state)?;
        catalogue::note(&self.state, version)?;
        if self.is_changed_in_place() {
            // The files of the version that is left are those of the next one, or gone.
            return Ok(());
        }
        catalogue::exchange_caches(&self.state, left.as_ref().and_then(Version::name), name)
    }

    /// Opens again what readers see, after they were switched.
    fn reopen(&mut self) -> Result<(), ApplyError> {
        if let Some(versions) = self.versions.take() {
            let (versions, tree) = versions.reopen()?;
            (self.versions, self.tree) = (Some(versions), tree);
        }
        Ok(())
    }

    /// Takes the target for this run, or says who has it.
    pub fn lock(mut self, holder: &Holder) -> Result<LockedTarget, ApplyError> {
        if let Some(overlay) = &mut self.overlay {
            overlay.held_by(holder);
        }
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

/// What became of what the host had changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// Paths that are in the backup now.
    pub backed_up: Vec<Box<[u8]>>,
    /// Where what readers saw until now is kept, if it was written to while the next version was made.
    pub left: Option<PathBuf>,
}

impl LockedTarget {
    /// Settles a run that did not end.
    pub fn recover(self) -> Result<(ReadyTarget, Recovery), ApplyError> {
        self.recover_to(None)
    }

    /// The same, but a run that has everything beside the tree is completed if it is to this manifest. It is for
    /// targets that are switched together: others may have been switched already.
    pub fn recover_to(self, decided: Option<ManifestId>) -> Result<(ReadyTarget, Recovery), ApplyError> {
        let Target { tree, state, versions, overlay, .. } = &self.target;
        let mut is_switched = false;
        let recovery = match Journal::reopen(state)? {
            None => {
                self.target.settle_overlay()?;
                Recovery::Nothing
            }
            Some((journal, run)) if !run.is_decided(decided) => {
                overlay.as_ref().map_or(Ok(()), Overlay::abandon)?;
                journal.end()?;
                Recovery::RolledBack(run.version)
            }
            Some((mut journal, run)) => {
                let mut backup = Backup::new(state, &run.stamp);
                let mut token = run.token;
                if run.state < State::Flipping {
                    journal.reached(State::Flipping)?;
                }
                if run.state <= State::Flipping {
                    let reopened = versions.as_ref().map(Versions::reopen_next).transpose()?.flatten();
                    let work = reopened.as_ref().unwrap_or(tree);
                    overlay.as_ref().map_or(Ok(()), |overlay| overlay.complete(&mut backup).map(drop))?;
                    flip::flip(work, &mut backup, &run.ops)?;
                    token = settle(work, versions.as_ref(), &run.ops)?.into();
                    journal.flipped(&token)?;
                }
                if run.state < State::Committed {
                    if let (Some(versions), Some(name)) = (versions, run.version.name()) {
                        versions.switch(name, &token, &run.stamp)?;
                        is_switched = true;
                    }
                    self.target.keep_snapshot(&run.version, &run.ops)?;
                    self.target.note_version(&run.version)?;
                    record::write(state, &run.version)?;
                    journal.reached(State::Committed)?;
                }
                if versions.is_none() {
                    stage::discard(self.target.stage_tree())?;
                    settle_root(tree, &run.ops)?;
                }
                journal.end()?;
                Recovery::Completed { version: run.version, backed_up: backup.into_saved() }
            }
        };
        let mut target = self.target;
        if is_switched {
            target.reopen()?;
        }
        Ok((ReadyTarget { target, _lock: self.lock }, recovery))
    }
}

/// Ends the work on a tree that is not seen yet, and makes it durable. Returns by what it is known whether it is seen.
fn settle(work: &TreeDir, versions: Option<&Versions>, ops: &[Op]) -> Result<Vec<u8>, ApplyError> {
    let Some(versions) = versions else {
        work.sync_file_system()?;
        return Ok(Vec::new());
    };
    stage::discard(work)?;
    settle_root(work, ops)?;
    work.sync_file_system()?;
    versions.token()
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

    /// The same after readers were switched.
    pub fn reopened(mut self) -> Result<Self, ApplyError> {
        self.target.reopen()?;
        Ok(self)
    }

    /// Where changes are made: the next version, which is begun when this is first called, or the tree itself.
    pub fn work(&self) -> Result<&TreeDir, ApplyError> {
        self.target.work()
    }

    /// Opens the stage before it is known what is wanted, for contents that tell it.
    pub fn stage(&self) -> Result<Stage<'_>, ApplyError> {
        Stage::open(self.work()?, &self.target.tree)
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
        let version = self.named(version, &stamp)?;
        let journal = Journal::begin(&self.target.state, &version, &stamp)?;
        let mut stage = match staged {
            Some(stage) => stage,
            None => self.stage()?,
        };
        if self.target.is_overlay() {
            stage.begin_loose(plan.actions);
        } else {
            stage.begin(plan.actions)?;
        }
        Ok(Staging {
            target: &self.target,
            needs: plan.needs,
            version,
            stamp,
            journal,
            stage,
            backed_up: Vec::new(),
        })
    }

    /// Gives a version the name that it will be kept under, where versions are kept. One that was kept before has it.
    fn named(&self, version: Version, stamp: &Stamp) -> Result<Version, ApplyError> {
        if version.name().is_some() || !self.target.keeps_versions() {
            return Ok(version);
        }
        let Target { versions, snapshots, .. } = &self.target;
        let mut taken = snapshots.as_ref().map_or(Ok(Vec::new()), Snapshots::names)?;
        taken.extend(self.target.kept()?.iter().map(|kept| kept.name().clone()));
        let is_taken = |name: &VersionName| {
            let open = |versions: &Versions| versions.open_version(name).is_ok_and(|found| found.is_some());
            taken.contains(name) || versions.as_ref().is_some_and(open)
        };
        let name = VersionName::free(stamp, version.manifest(), is_taken)
            .ok_or_else(|| ApplyError::NoVersion("another version of this second".to_owned()))?;
        Ok(version.named(name))
    }

    /// Whether what readers see may have been changed since they were switched to it.
    pub fn may_have_changed(&self) -> Result<bool, ApplyError> {
        self.target.versions.as_ref().map_or(Ok(true), Versions::may_have_changed)
    }

    /// Switches readers back, or on again, to a version that is kept. `own` are paths at which they have something of
    /// the host's, which stays, and `changed` those at which the host changed what is ours, which is backed up.
    pub fn switch_to(
        &self,
        kept: &Kept,
        own: &[Box<[u8]>],
        changed: &[Box<[u8]>],
        stamp: &Stamp,
    ) -> Result<Saved, ApplyError> {
        let Target { tree, state, versions, .. } = &self.target;
        let name = kept.name();
        let versions = versions.as_ref().ok_or_else(|| ApplyError::NoVersion(name.to_string()))?;
        if versions.open_version(name)?.is_none() {
            return Err(ApplyError::NoVersion(name.to_string()));
        }
        let mut journal = Journal::begin(state, &kept.version, stamp)?;
        versions.begin_next_from(name)?;
        let mut backup = Backup::new(state, stamp);
        changed.iter().try_for_each(|path| backup.copy_aside(tree, path))?;
        versions.link_into(name, tree, own, &mut backup)?;
        journal.staged(&[])?;
        journal.reached(State::Flipping)?;
        let token = versions.token()?;
        journal.flipped(&token)?;
        let left = versions.switch(name, &token, stamp)?;
        self.target.note_version(&kept.version)?;
        record::write(state, &kept.version)?;
        journal.reached(State::Committed)?;
        journal.end()?;
        Ok(Saved { backed_up: backup.into_saved(), left })
    }

    /// Pins a version, so that it is kept until this is taken back.
    pub fn pin(&self, kept: &Kept, is_pinned: bool) -> Result<(), ApplyError> {
        catalogue::write(&self.target.state, &Kept { is_pinned, ..kept.clone() })
    }

    /// Removes a version that readers are not at.
    pub fn remove_version(&self, kept: &Kept) -> Result<(), ApplyError> {
        let Target { state, versions, snapshots, .. } = &self.target;
        if let Some(versions) = versions {
            versions.remove(kept.name())?;
        }
        if let Some(snapshots) = snapshots {
            snapshots.remove(kept.name())?;
        }
        catalogue::forget(state, kept.name())
    }

    /// Removes all but the newest of what readers saw and wrote to until they were switched away from it.
    pub fn prune_left(&self, newest: usize) -> Result<(), ApplyError> {
        self.target.versions.as_ref().map_or(Ok(()), |versions| versions.prune_left(newest))
    }

    /// Notes that the target already holds a version: its plan is empty.
    pub fn adopt<E: Borrow<Entry> + Sync>(
        &self,
        version: &Version,
        wanted: impl IntoIterator<Item = E>,
        scan: &Scan,
        options: &ScanOptions<'_>,
    ) -> Result<(), ApplyError> {
        let Target { tree, state, .. } = &self.target;
        let known = Known { tree, scan, placed: &Placed::default(), ops: &[] };
        known.cache(version, wanted, options)?.save(state)?;
        if let Some(name) = version.name() {
            self.target.snapshots.as_ref().map_or(Ok(()), |snapshots| snapshots.keep(name))?;
            return record::write(state, version);
        }
        let applied = record::read(state)?;
        let name = applied.as_ref().and_then(Version::name).filter(|_| self.target.keeps_versions());
        match name {
            // It is the tree of that version, and now goes by another label.
            Some(name) => {
                let version = version.clone().named(name.clone());
                let mut kept = catalogue::list(state)?.into_iter();
                if let Some(kept) = kept.find(|kept| kept.name() == name) {
                    catalogue::write(state, &Kept { version: version.clone(), ..kept })?;
                }
                record::write(state, &version)
            }
            None => record::write(state, version),
        }
    }

    /// Removes what earlier runs received and did not use.
    pub fn discard_staged(&self) -> Result<(), ApplyError> {
        match &self.target.versions {
            Some(versions) => versions.discard_staged(),
            None => stage::discard(self.target.stage_tree()),
        }
    }

    /// Leaves out of the plan of an overlay what that does not do, and adds what speaks against it; nothing is placed in
    /// the forbidden directories.
    pub fn fit(
        &self,
        plan: &mut ApplyPlan,
        forbidden: &[PathBuf],
        wanted: impl IntoIterator<Item = Entry>,
    ) -> Result<(), ApplyError> {
        let Target { tree, overlay, .. } = &self.target;
        overlay.as_ref().map_or(Ok(()), |overlay| overlay.fit(tree, plan, forbidden, wanted))
    }

    /// Removes the contents of versions that are not kept any more; these are the ones that are needed.
    pub fn retain_contents(&self, needed: &HashSet<ContentId>) -> Result<(), ApplyError> {
        self.target.overlay.as_ref().map_or(Ok(()), |overlay| overlay.retain(needed))
    }

    /// Gives back what stood everywhere before an overlay placed something there. Nothing is applied after that.
    pub fn take_away(&self, stamp: &Stamp) -> Result<(usize, Saved), ApplyError> {
        let Target { state, overlay, .. } = &self.target;
        let mut backup = Backup::new(state, stamp);
        let count = overlay.as_ref().map_or(Ok(0), |overlay| overlay.take_away(&mut backup))?;
        Ok((count, Saved { backed_up: backup.into_saved(), left: None }))
    }

    /// Removes a next version that was begun and is not needed. Nothing can be staged any more after that.
    pub fn discard_next(&self) -> Result<(), ApplyError> {
        self.target.versions.as_ref().map_or(Ok(()), Versions::clean)
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
    backed_up: Vec<Box<[u8]>>,
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

    /// Stages a content from what is kept of earlier versions; false if it is not kept.
    pub fn copy_kept(&self, need: &Need) -> Result<bool, ApplyError> {
        let overlay = self.target.overlay.as_ref();
        overlay.map_or(Ok(false), |overlay| overlay.copy_kept(&self.stage, need))
    }

    /// Puts what stays as it is into the next version, where that does not begin with it. What is known of the files
    /// there is noted in the scan, as of the time when that is done, which `clock` says.
    pub fn fill(
        &mut self,
        scan: &mut Scan,
        fidelity: Fidelity,
        clock: impl FnOnce() -> FileTime,
    ) -> Result<(), ApplyError> {
        let Some(versions) = &self.target.versions else { return Ok(()) };
        let mut backup = Backup::new(&self.target.state, &self.stamp);
        let actions = self.stage.fresh().actions();
        if versions.fill(&self.target.tree, fidelity, actions, scan, &mut backup)? {
            scan.taken = clock();
        }
        self.backed_up = backup.into_saved();
        Ok(())
    }

    /// Makes all files beside the tree, durably, and notes the steps that will put them in place.
    pub fn prepare(mut self) -> Result<Prepared<'a>, ApplyError> {
        let work = self.target.work()?;
        let (ops, placed) = if let Some(overlay) = &self.target.overlay {
            overlay.prepare(&self.target.tree, &self.stage)?;
            (Vec::new(), Placed::default())
        } else {
            flip::prepare(work, &self.stage, self.needs)?
        };
        work.sync_file_system()?;
        self.journal.staged(&ops)?;
        let Self { target, version, stamp, journal, backed_up, .. } = self;
        Ok(Prepared { target, version, stamp, journal, ops, placed, backed_up })
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
    backed_up: Vec<Box<[u8]>>,
}

impl<'a> Prepared<'a> {
    /// What the target will hold.
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// Changes the tree. From here on an error leaves a run that the next one completes.
    pub fn flip(mut self) -> Result<Flipped<'a>, ApplyError> {
        let (work, versions) = (self.target.work()?, self.target.versions.as_ref());
        // Where somebody else has the ledger, nothing has changed yet.
        let ledger = self.target.overlay.as_ref().map(Overlay::lock).transpose()?;
        self.journal.reached(State::Flipping)?;
        let mut backup = Backup::new(&self.target.state, &self.stamp);
        if let Some((overlay, ledger)) = self.target.overlay.as_ref().zip(ledger) {
            self.placed = overlay.complete_in(ledger, &mut backup)?;
        }
        flip::flip(work, &mut backup, &self.ops)?;
        let token = settle(work, versions, &self.ops)?;
        self.journal.flipped(&token)?;
        let left = match (versions, self.version.name()) {
            (Some(versions), Some(name)) => versions.switch(name, &token, &self.stamp)?,
            _ => None,
        };
        self.target.keep_snapshot(&self.version, &self.ops)?;
        let backed_up = [self.backed_up, backup.into_saved()].concat();
        let saved = Saved { backed_up, left };
        let Self { target, version, journal, ops, placed, .. } = self;
        Ok(Flipped { target, version, journal, ops, placed, saved })
    }

    /// Leaves the tree as it is; what was received stays staged.
    pub fn abandon(self) -> Result<(), ApplyError> {
        self.target.overlay.as_ref().map_or(Ok(()), Overlay::abandon)?;
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
    saved: Saved,
}

impl Flipped<'_> {
    /// Records the new version; returns what became of the host's own changes.
    ///
    /// `options.started` is a time after the flip.
    pub fn commit<E: Borrow<Entry> + Sync>(
        mut self,
        wanted: impl IntoIterator<Item = E>,
        scan: &Scan,
        options: &ScanOptions<'_>,
    ) -> Result<Saved, ApplyError> {
        let Target { state, versions, .. } = self.target;
        let work = self.target.work()?;
        let tree = if self.target.is_overlay() { self.target.tree() } else { work };
        let known = Known { tree, scan, placed: &self.placed, ops: &self.ops };
        self.target.note_version(&self.version)?;
        record::write(state, &self.version)?;
        self.journal.reached(State::Committed)?;
        if versions.is_none() {
            stage::discard(work)?;
            settle_root(work, &self.ops)?;
        }
        known.cache(&self.version, wanted, options)?.save(state)?;
        self.journal.end()?;
        Ok(self.saved)
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
