//! A run: what is received, made, put in place and recorded, one type for each.

use std::borrow::Borrow;

use smart_sync_store::manifest::entry::{Entry, Fidelity, FileTime};

use super::super::backup::{Backup, Stamp};
use super::super::error::ApplyError;
use super::super::flip::{self, Placed};
use super::super::journal::{Journal, State};
use super::super::op::Op;
use super::super::overlay::Overlay;
use super::super::plan::Need;
use super::super::record::{self, Version};
use super::super::scan::{Scan, ScanOptions};
use super::super::stage::{self, Stage};
use super::known::Known;
use super::ready::Saved;
use super::settle::{settle, settle_root};
use super::target::Target;

/// A run that receives contents.
#[derive(Debug)]
pub struct Staging<'a> {
    pub(super) target: &'a Target,
    pub(super) needs: Vec<Need>,
    pub(super) version: Version,
    pub(super) stamp: Stamp,
    pub(super) journal: Journal<'a>,
    pub(super) stage: Stage<'a>,
    pub(super) backed_up: Vec<Box<[u8]>>,
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
