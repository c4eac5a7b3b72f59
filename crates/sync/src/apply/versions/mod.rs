//! Targets that keep their versions.
//!
//! Such a target is changed beside what readers see: the next version is begun with what stays as it is, everything
//! that applying does is done there, and then readers are switched to it in one step. They see one version or the
//! other and never a mix, going back is another switch, and a run that is interrupted has left nothing that is seen.
//!
//! There are two kinds, which differ in how a version shares what it has in common with others, and in how readers are
//! switched: directories with a link to one of them (`generations`), on any file system, and snapshots (`btrfs`). A third
//! one keeps snapshots of what is changed in place (`zfs`), and promises less: readers may see a mix while it is changed.

mod btrfs;
pub mod catalogue;
mod fill;
mod generations;
mod local;
mod mounts;
mod name;
pub mod of_root;
mod program;
pub mod prune;
mod zfs;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use smart_sync_store::manifest::entry::Fidelity;

pub use btrfs::{is_btrfs, is_subvolume, make_subvolume};
pub use catalogue::Kept;
pub use fill::Sharing;
pub(super) use fill::WRITABLE;
pub use generations::CURRENT;
pub use name::VersionName;
pub use zfs::is_dataset;
pub(super) use zfs::{PROGRAM as ZFS_PROGRAM, Snapshots};

use super::backup::{Backup, Stamp};
use super::error::ApplyError;
use super::plan::{Action, Displaced};
use super::scan::Scan;
use super::stage;
use super::stat::FileKind;
use super::step::Steps;
use super::tree_dir::TreeDir;
use btrfs::Btrfs;
use generations::Generations;
use local::{Local, Own};

/// How a target is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory that is changed in place.
    Directory,
    /// Directories beside each other, and a link to one of them.
    Generations,
    /// Snapshots of a subvolume.
    Btrfs,
    /// Snapshots of a dataset that is changed in place.
    Zfs,
    /// A tree that is laid over directories of others; earlier versions are kept as contents.
    Overlay,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Directory, Self::Generations, Self::Btrfs, Self::Zfs, Self::Overlay];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Generations => "generations",
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
            Self::Overlay => "overlay",
        }
    }

    /// The kind of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether versions are kept.
    pub fn keeps_versions(self) -> bool {
        self != Self::Directory
    }
}

#[derive(Debug)]
enum Layout {
    Generations(Generations),
    Btrfs(Btrfs),
}

/// The versions of a target.
#[derive(Debug)]
pub struct Versions {
    layout: Layout,
    next: OnceLock<Next>,
    sharing: OnceLock<Sharing>,
}

/// The next version, and which last change of what readers see is known elsewhere.
#[derive(Debug)]
struct Next {
    tree: TreeDir,
    seen: String,
}

impl Versions {
    /// Opens the versions of a target and what readers see of them; none for a directory that is changed in place.
    pub(super) fn open(
        kind: Kind,
        root: &Path,
        steps: &Steps,
    ) -> Result<Option<(Self, TreeDir)>, ApplyError> {
        let (layout, current) = match kind {
            Kind::Directory | Kind::Zfs | Kind::Overlay => return Ok(None),
            Kind::Generations => {
                let (generations, current) = Generations::open(root, steps)?;
                (Layout::Generations(generations), current)
            }
            Kind::Btrfs => {
                let (btrfs, current) = Btrfs::open(root, steps)?;
                (Layout::Btrfs(btrfs), current)
            }
        };
        Ok(Some((Self { layout, next: OnceLock::new(), sharing: OnceLock::new() }, current)))
    }

    /// Opens again what readers see, after they were switched.
    pub(super) fn reopen(self) -> Result<(Self, TreeDir), ApplyError> {
        let current = match &self.layout {
            Layout::Generations(generations) => generations.current_tree()?,
            Layout::Btrfs(btrfs) => btrfs.current_tree()?,
        };
        Ok((Self { next: OnceLock::new(), ..self }, current))
    }

    /// The next version, which is begun when it is first asked for.
    pub(super) fn next(&self) -> Result<&TreeDir, ApplyError> {
        if let Some(next) = self.next.get() {
            return Ok(&next.tree);
        }
        let next = match &self.layout {
            Layout::Generations(generations) => Next { tree: generations.begin_next()?, seen: String::new() },
            Layout::Btrfs(btrfs) => {
                self.check_exchange(btrfs)?;
                let tree = btrfs.begin_next()?;
                // A snapshot ends a transaction: what is written from here on belongs to another.
                Next { tree, seen: btrfs.seen()? }
            }
        };
        Ok(&self.next.get_or_init(|| next).tree)
    }

    /// The next version of a run that was interrupted, as it was left.
    pub(super) fn reopen_next(&self) -> Result<Option<TreeDir>, ApplyError> {
        match &self.layout {
            Layout::Generations(generations) => generations.next(),
            Layout::Btrfs(btrfs) => btrfs.next(),
        }
    }

    /// Refuses to switch readers away from what is not only a version: a mount point, or one with mounts below.
    pub(super) fn check_switch(&self, current: &TreeDir) -> Result<(), ApplyError> {
        if let Layout::Btrfs(btrfs) = &self.layout {
            self.check_exchange(btrfs)?;
        }
        let below = mounts::below(current.path())?;
        below.map_or(Ok(()), |below| Err(ApplyError::MountedBelow(mounts::shown(&below))))
    }

    /// Begins the next version as one that is kept; nothing has to be begun where that itself is what is switched to.
    pub(super) fn begin_next_from(&self, name: &VersionName) -> Result<(), ApplyError> {
        if let Layout::Btrfs(btrfs) = &self.layout {
            let next = Next { tree: btrfs.begin_next_from(name)?, seen: btrfs.seen()? };
            _ = self.next.set(next);
        }
        Ok(())
    }

    /// How files of two versions share their bytes.
    pub(super) fn sharing(&self) -> Sharing {
        *self.sharing.get_or_init(|| match &self.layout {
            // Where that cannot be tried, nothing can be made either, and looking is done with the greater care.
            Layout::Generations(generations) => generations.sharing().unwrap_or(Sharing::Names),
            Layout::Btrfs(_) => Sharing::Blocks,
        })
    }

    /// Puts what a plan leaves alone into the next version, where it is not there from the beginning, and links what
    /// is the host's into it. Returns whether files of the next version look otherwise than the scan says.
    pub(super) fn fill(
        &self,
        current: &TreeDir,
        fidelity: Fidelity,
        actions: &[Action],
        scan: &mut Scan,
        backup: &mut Backup<'_>,
    ) -> Result<bool, ApplyError> {
        let next = self.next()?;
        let Own { stays, makes_way } = Own::find(current, scan, actions)?;
        self.take_own(current, next, &stays, backup)?;
        let is_filled = matches!(self.layout, Layout::Generations(_));
        if is_filled {
            fill::fill(current, next, self.sharing(), fidelity, actions, scan)?;
            // What a directory holds that makes way is either ours or listed for itself.
            let displaced = actions.iter().filter(|action| action.displaced == Displaced::Local);
            let displaced = displaced.map(|action| &action.path).chain(&makes_way);
            for path in displaced {
                let stands = current.stat(path)?;
                if stands.is_some_and(|stat| stat.kind != FileKind::Directory) || makes_way.contains(path) {
                    backup.copy_aside(current, path)?;
                }
            }
        }
        self.local().link(next, &stays)?;
        Ok(is_filled)
    }

    /// Moves what is the host's out of the versions.
    fn take_own(
        &self,
        current: &TreeDir,
        version: &TreeDir,
        own: &[Box<[u8]>],
        backup: &mut Backup<'_>,
    ) -> Result<(), ApplyError> {
        let local = self.local();
        for path in own {
            match &self.layout {
                Layout::Generations(_) => local.take(current, path, backup)?,
                Layout::Btrfs(_) => local.copy(current, version, path, backup)?,
            }
        }
        Ok(())
    }

    /// Links what is the host's into a version that is kept, or into the next one that was begun from it. `own` is
    /// what was found among what readers see and is not linked yet.
    pub(super) fn link_into(
        &self,
        name: &VersionName,
        current: &TreeDir,
        own: &[Box<[u8]>],
        backup: &mut Backup<'_>,
    ) -> Result<(), ApplyError> {
        let opened = match &self.layout {
            Layout::Generations(generations) => generations.open_version(name)?,
            Layout::Btrfs(btrfs) => btrfs.next()?,
        };
        let version = opened.ok_or_else(|| ApplyError::NoVersion(name.to_string()))?;
        let linked = self.local().linked(current)?;
        self.take_own(current, &version, own, backup)?;
        self.local().link(&version, &linked)?;
        self.local().link(&version, own)
    }

    /// Whether what readers see may have been changed since they were switched to it.
    pub(super) fn may_have_changed(&self) -> Result<bool, ApplyError> {
        match &self.layout {
            Layout::Generations(_) => Ok(true),
            Layout::Btrfs(btrfs) => btrfs.was_written_to_since_switch(),
        }
    }

    const fn local(&self) -> Local<'_> {
        match &self.layout {
            Layout::Generations(generations) => generations.local(),
            Layout::Btrfs(btrfs) => btrfs.local(),
        }
    }

    /// By what it will be known whether the switch was done.
    pub(super) fn token(&self) -> Result<Vec<u8>, ApplyError> {
        match &self.layout {
            Layout::Generations(_) => Ok(Vec::new()),
            Layout::Btrfs(btrfs) => btrfs.token(self.next.get().map_or("", |next| &next.seen)),
        }
    }

    /// Switches readers to the version of this name: the next one, unless it is kept already. It can be done again.
    /// Returns where what readers saw is kept, if it holds what nothing else does.
    pub(super) fn switch(
        &self,
        name: &VersionName,
        token: &[u8],
        stamp: &Stamp,
    ) -> Result<Option<PathBuf>, ApplyError> {
        match &self.layout {
            Layout::Generations(generations) => generations.switch(name).map(|()| None),
            Layout::Btrfs(btrfs) => {
                let left = btrfs.switch(name, token, stamp)?;
                Ok(left.map(|left| btrfs.store().join(left.as_str())))
            }
        }
    }

    /// Opens a version that is kept.
    pub(super) fn open_version(&self, name: &VersionName) -> Result<Option<TreeDir>, ApplyError> {
        match &self.layout {
            Layout::Generations(generations) => generations.open_version(name),
            Layout::Btrfs(btrfs) => btrfs.open_version(name),
        }
    }

    /// Removes a version.
    pub(super) fn remove(&self, name: &VersionName) -> Result<(), ApplyError> {
        match &self.layout {
            Layout::Generations(generations) => generations.remove(name),
            Layout::Btrfs(btrfs) => btrfs.remove(name),
        }
    }

    /// Removes all but the newest of what readers saw and wrote to until a switch.
    pub(super) fn prune_left(&self, newest: usize) -> Result<(), ApplyError> {
        match &self.layout {
            Layout::Generations(_) => Ok(()),
            Layout::Btrfs(btrfs) => btrfs.prune_left(newest),
        }
    }

    /// Removes what is staged, and with it a next version that was not begun in this run.
    pub(super) fn discard_staged(&self) -> Result<(), ApplyError> {
        self.next.get().map_or_else(|| self.clean(), |next| stage::discard(&next.tree))
    }

    /// Removes what there is of a next version.
    pub(super) fn clean(&self) -> Result<(), ApplyError> {
        match &self.layout {
            Layout::Generations(generations) => generations.clean(),
            Layout::Btrfs(btrfs) => btrfs.clean(),
        }
    }

    fn check_exchange(&self, btrfs: &Btrfs) -> Result<(), ApplyError> {
        if !btrfs.is_mounted()? {
            return Ok(());
        }
        let reason = "it is a mount point, which cannot be exchanged".to_owned();
        Err(ApplyError::NotForVersions { path: self.shown(), reason })
    }

    fn shown(&self) -> String {
        match &self.layout {
            Layout::Generations(generations) => generations.path().display().to_string(),
            Layout::Btrfs(btrfs) => btrfs.path_shown(),
        }
    }
}
