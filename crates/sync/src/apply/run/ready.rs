//! A target that a run may begin on, and what is done there without one.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::path::PathBuf;

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::Entry;

use super::super::backup::{Backup, Stamp};
use super::super::error::ApplyError;
use super::super::flip::Placed;
use super::super::journal::{Journal, State};
use super::super::lock::Lock;
use super::super::plan::ApplyPlan;
use super::super::record::{self, Version};
use super::super::scan::{Scan, ScanOptions};
use super::super::stage::{self, Stage};
use super::super::tree_dir::TreeDir;
use super::super::versions::{Kept, Snapshots, VersionName, Versions, catalogue};
use super::known::Known;
use super::staging::Staging;
use super::target::Target;

/// What became of what the host had changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// Paths that are in the backup now.
    pub backed_up: Vec<Box<[u8]>>,
    /// Where what readers saw until now is kept, if it was written to while the next version was made.
    pub left: Option<PathBuf>,
}

/// A target that belongs to this run, with no other run unfinished.
#[derive(Debug)]
pub struct ReadyTarget {
    pub(super) target: Target,
    pub(super) _lock: Lock,
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
        versions.check_switch(tree)?;
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
