//! A target, while nothing is done with it.

use std::fs::File;
use std::path::Path;

use smart_sync_store::id::ContentId;

use super::super::backup::{Backup, Stamp};
use super::super::error::ApplyError;
use super::super::lock::{Holder, Lock};
use super::super::op::Op;
use super::super::overlay::{self, Overlay};
use super::super::record::{self, Version};
use super::super::stage;
use super::super::stat_cache::StatCache;
use super::super::step::Steps;
use super::super::tree_dir::{RootLink, TreeDir};
use super::super::versions::{Kept, Kind, Sharing, Snapshots, VersionName, Versions, ZFS_PROGRAM, catalogue};
use super::recovery::LockedTarget;
use super::settle::settle_root;

/// A directory that follows a channel, and the directory that holds what is known of it.
#[derive(Debug)]
pub struct Target {
    /// What readers see.
    pub(super) tree: TreeDir,
    pub(super) state: TreeDir,
    /// The versions, where they are made beside what readers see.
    pub(super) versions: Option<Versions>,
    /// The versions, where what readers see is changed in place.
    pub(super) snapshots: Option<Snapshots>,
    /// What places files, where the directory belongs to others.
    pub(super) overlay: Option<Overlay>,
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
    pub(in crate::apply) fn open_dataset(
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
    pub(super) fn work(&self) -> Result<&TreeDir, ApplyError> {
        match (&self.versions, &self.overlay) {
            (Some(versions), _) => versions.next(),
            (None, Some(overlay)) => Ok(overlay.work()),
            (None, None) => Ok(&self.tree),
        }
    }

    /// Where contents are staged, where the next version is not made beside what readers see.
    pub(super) fn stage_tree(&self) -> &TreeDir {
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
    pub(super) fn keep_snapshot(&self, version: &Version, ops: &[Op]) -> Result<(), ApplyError> {
        let (Some(snapshots), Some(name)) = (&self.snapshots, version.name()) else { return Ok(()) };
        stage::discard(&self.tree)?;
        settle_root(&self.tree, ops)?;
        snapshots.keep(name)
    }

    /// Ends what was begun without a run: giving back what stood there before.
    pub(super) fn settle_overlay(&self) -> Result<(), ApplyError> {
        let Some(overlay) = &self.overlay else { return Ok(()) };
        let stamp = Stamp::new(b"ledger").expect("it is a name");
        overlay.complete(&mut Backup::new(&self.state, &stamp)).map(drop)
    }

    /// Notes that readers see a version, where versions are kept.
    pub(super) fn note_version(&self, version: &Version) -> Result<(), ApplyError> {
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
    pub(super) fn reopen(&mut self) -> Result<(), ApplyError> {
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
