//! Overlays: trees that are laid over directories that belong to others, and perhaps over several file systems.
//!
//! Such a tree has no directory of its own that could be exchanged or staged in, and most of what stands beside its files
//! is not its business. So only the paths of its manifests are looked at, each is placed on its own by the
//! [ledger](super::ledger), and each can be undone. Contents are received in the state directory, where those of all
//! versions that are kept stay, so that going back needs nobody.
//!
//! A run goes through the states of the [journal](super::journal) like any other. What it does is not in the journal but
//! pending in the ledger: it is noted there before *staged*, and completed from there, or forgotten where the run is. So
//! the ledger is not held while a run waits for others, and other overlays can be made ready meanwhile.

mod fit;
mod room;

use std::collections::HashSet;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::{Content, Entry, Node};
use smart_sync_store::manifest::path::Shown;

use super::backup::Backup;
use super::error::ApplyError;
use super::flip::Placed;
use super::ledger::{Contents, Done, HostPath, Ledger, Owner, Pending, Thing, read};
use super::lock::Holder;
use super::metadata::Metadata;
use super::plan::{ApplyPlan, Need};
use super::stage::Stage;
use super::step::Steps;
use super::tree_dir::{RootLink, TreeDir};
use fit::{Fit, Step, relative};

/// Where contents are received.
const WORK: &[u8] = b"work";
/// The contents of the versions that are kept.
const KEPT: &[u8] = b"kept";
const COPY_BYTES: usize = 256 << 10;

/// What an overlay has beside its target.
#[derive(Debug)]
pub(super) struct Overlay {
    /// The target; empty for the root of all file systems.
    prefix: Box<[u8]>,
    owner: Owner,
    home: PathBuf,
    work: TreeDir,
    kept: Contents,
    holder: Option<Holder>,
    steps: Steps,
}

/// Who places what is of a target.
pub fn owner_of(target: &Path) -> Option<Owner> {
    Owner::new(&format!("the target {}", Shown(target.as_os_str().as_bytes())))
}

impl Overlay {
    /// Opens what an overlay has in its state directory; `home` is the directory of the ledger.
    pub(super) fn open(root: &Path, state: &TreeDir, home: &Path, steps: &Steps) -> Result<Self, ApplyError> {
        let owner = owner_of(root).ok_or_else(|| ApplyError::NotForVersions {
            path: Shown(root.as_os_str().as_bytes()).to_string(),
            reason: "its path is too long".to_owned(),
        })?;
        state.make_directory(WORK, 0o700)?;
        let prefix = root.as_os_str().as_bytes();
        Ok(Self {
            prefix: prefix.strip_suffix(b"/").unwrap_or(prefix).into(),
            owner,
            home: home.to_owned(),
            work: state.below(WORK)?,
            kept: Contents::open(state, KEPT)?,
            holder: None,
            steps: steps.clone(),
        })
    }

    /// Says who works with it, for those who wait for the ledger.
    pub(super) fn held_by(&mut self, holder: &Holder) {
        self.holder = Some(holder.clone());
    }

    /// Where contents are received.
    pub(super) const fn work(&self) -> &TreeDir {
        &self.work
    }

    pub(super) fn lock(&self) -> Result<Ledger, ApplyError> {
        let unknown = Holder::this_process("smart-sync", 0);
        Ledger::lock(&self.home, self.holder.as_ref().unwrap_or(&unknown), &self.steps)
    }

    /// Leaves out of a plan what an overlay does not do, and adds what speaks against it.
    pub(super) fn fit<'e>(
        &self,
        tree: &TreeDir,
        plan: &mut ApplyPlan,
        forbidden: &[PathBuf],
        wanted: impl IntoIterator<Item = Entry> + 'e,
    ) -> Result<(), ApplyError> {
        let entries = read(&self.home)?;
        let Self { prefix, owner, .. } = self;
        Fit { tree, prefix, owner, entries: &entries, forbidden }.fit(plan)?;
        room::check(tree, &self.work, plan, wanted)
    }

    /// Keeps the contents that a run places, and notes what it does. From here on it can be completed, and nothing was
    /// done.
    pub(super) fn prepare(&self, tree: &TreeDir, stage: &Stage<'_>) -> Result<(), ApplyError> {
        let mut ledger = self.lock()?;
        let fit =
            Fit { tree, prefix: &self.prefix, owner: &self.owner, entries: ledger.entries(), forbidden: &[] };
        let mut changes = Vec::new();
        for (path, step) in fit::steps(stage.fresh().actions()) {
            // A plan that fits has no others.
            let Some(host) = fit.host_path(&path) else { continue };
            let change = match step {
                Step::GiveBack => Pending::GiveBack,
                Step::MakeDirectory(metadata) => Pending::Place(Thing::Directory { metadata }),
                Step::Put(node, metadata) => match self.made(&ledger, stage, &node, metadata)? {
                    Some(thing) => Pending::Place(thing),
                    None => continue,
                },
                Step::SetMetadata(metadata) => Pending::Place(as_it_is(&ledger, tree, &path, metadata)?),
            };
            changes.push((host, change));
        }
        ledger.begin(&self.owner, changes)
    }

    /// What is placed for a node, with its content kept here and in the ledger.
    fn made(
        &self,
        ledger: &Ledger,
        stage: &Stage<'_>,
        node: &Node,
        metadata: Metadata,
    ) -> Result<Option<Thing>, ApplyError> {
        Ok(match node {
            Node::File(content) => {
                self.keep(stage, content)?;
                if !ledger.contents().keep_from(&self.kept, content.id)? {
                    return Err(ApplyError::MissingContent(content.id));
                }
                Some(Thing::File { size: content.size, content: content.id, metadata })
            }
            Node::Symlink(content) => {
                self.keep(stage, content)?;
                Some(Thing::Symlink { target: stage.read(content)?.into(), metadata })
            }
            _ => None,
        })
    }

    fn keep(&self, stage: &Stage<'_>, content: &Content) -> Result<(), ApplyError> {
        if content.size == 0 {
            return self.kept.keep_nothing();
        }
        let path = stage.path_of(content)?;
        if self.kept.keep_file(stage.tree(), &path, content.id)? {
            return Ok(());
        }
        Err(ApplyError::MissingContent(content.id))
    }

    /// Forgets what a run was about to do that had not begun to do it.
    pub(super) fn abandon(&self) -> Result<(), ApplyError> {
        if self.is_pending()? { self.lock()?.abandon(&self.owner) } else { Ok(()) }
    }

    /// Does what a run has noted, from the first step, whether or not it was done before.
    pub(super) fn complete(&self, backup: &mut Backup<'_>) -> Result<Placed, ApplyError> {
        if self.is_pending()? { self.complete_in(self.lock()?, backup) } else { Ok(Placed::default()) }
    }

    /// The same with the ledger, which belongs to this run.
    pub(super) fn complete_in(
        &self,
        mut ledger: Ledger,
        backup: &mut Backup<'_>,
    ) -> Result<Placed, ApplyError> {
        let done = ledger.complete(&self.owner, backup)?;
        let placed =
            done.into_iter().filter_map(|(path, print): Done| Some((relative(&path, &self.prefix)?, print?)));
        Ok(Placed::of(placed.collect()))
    }

    fn is_pending(&self) -> Result<bool, ApplyError> {
        Ok(read(&self.home)?.values().any(|entry| entry.owner == self.owner && entry.pending.is_some()))
    }

    /// Gives back what stood at all paths that this overlay placed something at. Returns how many these were.
    pub(super) fn take_away(&self, backup: &mut Backup<'_>) -> Result<usize, ApplyError> {
        let mut ledger = self.lock()?;
        let paths: Vec<HostPath> = ledger.entries_of(&self.owner).map(|(path, _)| path.clone()).collect();
        let count = paths.len();
        ledger.give_back(&self.owner, paths, backup)?;
        Ok(count)
    }

    /// Stages a content that is kept here, or in the ledger as what stood somewhere before.
    pub(super) fn copy_kept(&self, stage: &Stage<'_>, need: &Need) -> Result<bool, ApplyError> {
        let mut found = self.kept.get(need.content.id)?;
        if found.is_none() {
            found = Contents::of_ledger(&self.home)?.map_or(Ok(None), |kept| kept.get(need.content.id))?;
        }
        let Some(mut file) = found else { return Ok(false) };
        let mut writer = stage.writer(need)?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let read = file
                .read(&mut buffer)
                .map_err(|source| self.work.failed("reading what is kept for", WORK, source))?;
            if read == 0 {
                break;
            }
            writer.write(&buffer[..read])?;
        }
        match writer.finish() {
            Ok(()) => Ok(true),
            Err(ApplyError::WrongContent { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens a content of a version that is kept.
    pub(super) fn open_kept(&self, id: ContentId) -> Result<Option<std::fs::File>, ApplyError> {
        self.kept.get(id)
    }

    /// Removes the contents that no version needs that is kept.
    pub(super) fn retain(&self, needed: &HashSet<ContentId>) -> Result<(), ApplyError> {
        self.kept.retain(needed)
    }
}

/// What stands at a path, with other metadata, and its content kept in the ledger.
fn as_it_is(ledger: &Ledger, tree: &TreeDir, path: &[u8], metadata: Metadata) -> Result<Thing, ApplyError> {
    let changed = || ApplyError::ChangedMeanwhile(tree.show(path));
    let stat = tree.stat(path)?.ok_or_else(changed)?;
    match stat.kind {
        super::stat::FileKind::File => {
            let (size, content) = ledger.contents().keep(tree, path)?;
            Ok(Thing::File { size, content, metadata })
        }
        super::stat::FileKind::Symlink => {
            Ok(Thing::Symlink { target: tree.read_link(path)?.into(), metadata })
        }
        _ => Err(changed()),
    }
}

/// Opens the target itself: the path leads to it without a link.
pub(super) fn open_tree(root: &Path, steps: &Steps) -> Result<TreeDir, ApplyError> {
    TreeDir::open(root, RootLink::Refuse, steps.clone())
}
