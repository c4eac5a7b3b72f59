//! A target, the trees that are applied to it, and what is found there.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use smart_sync_store::id::{BlobId, CommitId, ContentId, ManifestId};
use smart_sync_store::manifest::entry::{Attributes, Content, Entry, Fidelity, FileTime, GitMode, Node};
use smart_sync_store::manifest::path::TreePath;

use crate::apply::error::ApplyError;
use crate::apply::lock::Holder;
use crate::apply::plan::{ApplyPlan, PlanInput, Policy, Problem, plan};
use crate::apply::preflight::preflight;
use crate::apply::run::{ReadyTarget, Recovery, Target};
use crate::apply::scan::{Extent, Rehash, Scan, ScanOptions, scan};
use crate::apply::stat_cache::StatCache;
use crate::apply::step::Steps;
use crate::apply::versions::{CURRENT, Kind, make_subvolume};
use crate::apply::{Stamp, Version};

/// Later than any time that a file gets in a test, so that no file is taken for just changed.
pub(super) const LATER: FileTime = FileTime { seconds: 1 << 40, nanoseconds: 0 };
pub(super) const APPLY_TIME: FileTime = FileTime { seconds: 1_700_000_000, nanoseconds: 5 };

pub(super) const ZFS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/stand-ins/zfs");

/// Hosts of the kinds that are changed in place, and of the one that lies over directories of others.
pub(super) const ALL_IN_PLACE: [fn() -> Host; 3] = [Host::new, Host::with_dataset, Host::with_overlay];

#[derive(Debug, Clone, Copy)]
pub(super) enum Spec {
    File(&'static str),
    Executable(&'static str),
    Link(&'static str),
    Directory,
    Submodule,
}

/// A tree with its contents.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    pub(super) entries: Vec<Entry>,
    pub(super) contents: HashMap<ContentId, Vec<u8>>,
}

impl Tree {
    pub(super) fn new(specs: &[(&str, Spec)]) -> Self {
        let mut tree = Self::default();
        for (path, spec) in specs {
            let mut content = |bytes: &str| tree.content(bytes.as_bytes());
            let (node, mode) = match spec {
                Spec::File(text) => (Node::File(content(text)), GitMode::FILE),
                Spec::Executable(text) => (Node::File(content(text)), GitMode::EXECUTABLE),
                Spec::Link(target) => (Node::Symlink(content(target)), GitMode::SYMLINK),
                Spec::Directory => (Node::Directory, GitMode::DIRECTORY),
                Spec::Submodule => (Node::Submodule(CommitId::from_bytes([1; 20])), GitMode::SUBMODULE),
            };
            let path = TreePath::new(path.as_bytes()).unwrap();
            tree.entries.push(Entry { path, node, attributes: Attributes::Git(mode) });
        }
        tree.entries.sort_by(|a, b| a.path.cmp(&b.path));
        tree
    }

    pub(super) fn content(&mut self, bytes: &[u8]) -> Content {
        let id = ContentId::of(bytes);
        self.contents.insert(id, bytes.to_vec());
        Content { size: bytes.len() as u64, blob: BlobId::from_bytes([0; 20]), id }
    }

    pub(super) fn version(&self) -> Version {
        let id = blake3::hash(format!("{:?}", self.entries).as_bytes());
        Version::new(ManifestId::from_bytes(*id.as_bytes()), b"main").unwrap()
    }
}

/// What stands at a path: its mode and content, or where it points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stands {
    File(u32, String),
    Link(String),
    Directory,
    Other,
}

pub(super) type Disk = BTreeMap<String, Stands>;

/// Everything below a directory; directories only where nothing is in them.
pub(super) fn disk(root: &Path) -> Disk {
    fn add(root: &Path, path: &Path, found: &mut Disk) {
        let name =
            String::from_utf8_lossy(path.strip_prefix(root).unwrap().as_os_str().as_bytes()).into_owned();
        let metadata = fs::symlink_metadata(path).unwrap();
        if metadata.is_dir() {
            let children: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            if children.is_empty() && path != root {
                found.insert(name, Stands::Directory);
            }
            // What the file system has there of its own is no part of the tree, and may be as large as all versions.
            for child in children.iter().filter(|child| **child != root.join(".zfs")) {
                add(root, child, found);
            }
        } else if metadata.is_symlink() {
            let target = fs::read_link(path).unwrap();
            found.insert(name, Stands::Link(target.to_string_lossy().into_owned()));
        } else if metadata.is_file() {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            found.insert(name, Stands::File(metadata.mode() & 0o7777, text));
        } else {
            found.insert(name, Stands::Other);
        }
    }
    let mut found = Disk::new();
    add(root, root, &mut found);
    found
}

/// What a tree looks like when it is applied to an empty directory.
pub(super) fn disk_of(specs: &[(&str, Spec)]) -> Disk {
    let stands = |spec: &Spec| match spec {
        Spec::File(text) => Stands::File(0o644, (*text).into()),
        Spec::Executable(text) => Stands::File(0o755, (*text).into()),
        Spec::Link(target) => Stands::Link((*target).into()),
        Spec::Directory | Spec::Submodule => Stands::Directory,
    };
    specs.iter().map(|(path, spec)| ((*path).to_owned(), stands(spec))).collect()
}

pub(super) struct Host {
    _directory: tempfile::TempDir,
    pub(super) root: PathBuf,
    pub(super) state: PathBuf,
    pub(super) outside: PathBuf,
    pub(super) excluded: fn(&[u8], bool) -> bool,
    pub(super) policy: Policy,
    pub(super) fidelity: Fidelity,
    pub(super) kind: Kind,
}

impl Host {
    pub(super) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// One whose everything lies in this directory.
    fn within(directory: tempfile::TempDir) -> Self {
        let path = |name: &str| directory.path().join(name);
        let [root, state, outside] = [path("target"), path("state"), path("outside")];
        for path in [&root, &state, &outside] {
            fs::create_dir(path).unwrap();
        }
        fs::write(outside.join("precious"), "outside").unwrap();
        Self {
            root,
            state,
            outside,
            excluded: |_, _| false,
            policy: Policy::default(),
            fidelity: Fidelity::Git,
            kind: Kind::Directory,
            _directory: directory,
        }
    }

    /// One that keeps its versions as directories.
    pub(super) fn with_generations() -> Self {
        Self { kind: Kind::Generations, ..Self::new() }
    }

    /// One whose target is a subvolume in a directory on btrfs, which keeps its versions as snapshots.
    pub(super) fn with_subvolume(disk: &Path) -> Self {
        let host = Self { kind: Kind::Btrfs, ..Self::within(tempfile::tempdir_in(disk).unwrap()) };
        fs::remove_dir(&host.root).unwrap();
        make_subvolume(&host.root).unwrap();
        host
    }

    /// One that keeps its versions as snapshots of a dataset, which the stand-in for the program `zfs` makes.
    pub(super) fn with_dataset() -> Self {
        let host = Self { kind: Kind::Zfs, ..Self::new() };
        fs::create_dir(host.root.join(".zfs")).unwrap();
        host
    }

    /// One whose target is a directory of others that trees are laid over.
    pub(super) fn with_overlay() -> Self {
        let mut host = Self { kind: Kind::Overlay, ..Self::new() };
        host.root = host.root.canonicalize().unwrap();
        fs::create_dir(host.ledger()).unwrap();
        host
    }

    /// The directory of the ledger.
    pub(super) fn ledger(&self) -> PathBuf {
        self.state.with_file_name("ledger")
    }

    /// What readers see.
    pub(super) fn seen(&self) -> PathBuf {
        match self.kind {
            Kind::Generations => self.root.join(CURRENT),
            _ => self.root.clone(),
        }
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.seen().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.seen().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn link(&self, target: &Path, path: &str) {
        std::os::unix::fs::symlink(target, self.seen().join(path)).unwrap();
    }

    pub(super) fn disk(&self) -> Disk {
        // A target that keeps its versions as directories has none before the first.
        let Ok(seen) = self.seen().canonicalize() else { return Disk::new() };
        disk(&seen)
    }

    /// What readers see, as far as every file system shows it: files of directories of versions may be shared, and then
    /// cannot be written to.
    pub(super) fn looks(&self) -> Disk {
        self.as_shared(self.disk())
    }

    /// What a tree looks like here.
    pub(super) fn looks_like(&self, specs: &[(&str, Spec)]) -> Disk {
        self.as_shared(disk_of(specs))
    }

    fn as_shared(&self, mut disk: Disk) -> Disk {
        for stands in disk.values_mut() {
            if let (Stands::File(mode, _), Kind::Generations) = (stands, self.kind) {
                *mode &= 0o555;
            }
        }
        disk
    }

    /// Which of two trees the target holds, as it is noted.
    pub(super) fn holds<'t>(&self, old: &'t Tree, new: &'t Tree) -> &'t Tree {
        let (ready, _) = self.open(&Steps::default()).unwrap();
        let applied = ready.target().applied().unwrap().map(|applied| applied.manifest());
        if applied == Some(new.version().manifest()) { new } else { old }
    }

    /// The problems that speak against a tree.
    pub(super) fn problems(&self, applied: &Tree, wanted: &Tree) -> Vec<Problem> {
        let (ready, _) = self.open(&Steps::default()).unwrap();
        self.plan(&ready, applied, wanted).unwrap().1.problems
    }

    /// The same for a first version and one or more of the other tree.
    pub(super) fn check_kept_since(&self, first: &Disk, others: &Disk) {
        if self.kind == Kind::Zfs {
            let (ready, _) = self.open(&Steps::default()).unwrap();
            let count = ready.target().kept().unwrap().len();
            drop(ready);
            assert!(count > 1, "the new version is not kept");
            let trees: Vec<&Disk> =
                std::iter::once(first).chain(std::iter::repeat_n(others, count - 1)).collect();
            self.check_kept(&trees);
        }
    }

    /// Each version that is kept is as it was when it was applied, and nothing else is kept: `trees` by their numbers.
    pub(super) fn check_kept(&self, trees: &[&Disk]) {
        if self.kind != Kind::Zfs {
            return;
        }
        let (ready, _) = self.open(&Steps::default()).unwrap();
        let kept = ready.target().kept().unwrap();
        assert_eq!(kept.len(), trees.len());
        let path = |name: &str| self.root.join(".zfs").join(name);
        let mut snapshots = 0;
        for (kept, tree) in kept.iter().zip(trees) {
            assert_eq!(disk(&path("snapshot").join(kept.name().as_str())), **tree, "{kept:?}");
            assert!(path("holds").join(kept.name().as_str()).join("smart-sync").exists(), "{kept:?}");
            snapshots += 1;
        }
        assert_eq!(fs::read_dir(path("snapshot")).unwrap().count(), snapshots);
    }

    /// Nothing but the precious file may be outside, whatever happened.
    pub(super) fn check_outside(&self) {
        let expected = Disk::from([("precious".into(), Stands::File(0o644, "outside".into()))]);
        assert_eq!(disk(&self.outside), expected);
    }

    /// The backups of the only run that made any.
    pub(super) fn backups(&self) -> Disk {
        let backups = self.state.join("backups");
        if backups.exists() { disk(&backups.join("stamp")) } else { Disk::new() }
    }

    pub(super) fn options(&self) -> ScanOptions<'_> {
        ScanOptions {
            excluded: &self.excluded,
            fidelity: self.fidelity,
            rehash: Rehash::Sample { files: 0, seed: 0 },
            started: LATER,
            have_many_names: self.kind == Kind::Generations,
            extent: if self.kind == Kind::Overlay { Extent::NamedPaths } else { Extent::Everything },
        }
    }

    pub(super) fn open(&self, steps: &Steps) -> Result<(ReadyTarget, Recovery), ApplyError> {
        self.open_to(None, steps)
    }

    /// The same for a target that is switched together with others, which it is decided to switch to a manifest.
    pub(super) fn open_to(
        &self,
        decided: Option<ManifestId>,
        steps: &Steps,
    ) -> Result<(ReadyTarget, Recovery), ApplyError> {
        let target = match self.kind {
            Kind::Overlay => Target::open_overlay(&self.root, &self.state, &self.ledger(), steps)?,
            Kind::Zfs => Target::open_dataset(&self.root, &self.state, steps, Path::new(ZFS))?,
            kind => Target::open_as(kind, &self.root, &self.state, steps)?,
        };
        target.lock(&Holder::this_process("test", 0))?.recover_to(decided)
    }

    pub(super) fn scan(&self, ready: &ReadyTarget, applied: &Tree) -> Result<Scan, ApplyError> {
        let manifest = applied.version().manifest();
        let cache = match StatCache::load(ready.target().state(), manifest) {
            Some(cache) => cache,
            None => StatCache::from_entries(manifest, &applied.entries)?,
        };
        scan(ready.target().tree(), cache, &self.options())
    }

    fn policy(&self, ready: &ReadyTarget) -> Policy {
        Policy { makes_read_only: ready.target().have_many_names(), ..self.policy.clone() }
    }

    pub(super) fn plan(
        &self,
        ready: &ReadyTarget,
        applied: &Tree,
        wanted: &Tree,
    ) -> Result<(Scan, ApplyPlan), ApplyError> {
        let mut scan = self.scan(ready, applied)?;
        scan.examine(ready.target().tree(), &wanted.entries, &self.options())?;
        let policy = self.policy(ready);
        let input = PlanInput { scan: &scan, excluded: &self.excluded, policy: &policy, now: APPLY_TIME };
        let mut made = plan(&applied.entries, &wanted.entries, &input)?;
        if ready.target().is_overlay() {
            let forbidden = std::slice::from_ref(&self.state);
            ready.fit(&mut made, forbidden, wanted.entries.iter().cloned())?;
        } else {
            preflight(ready.work()?, &mut made, &wanted.entries)?;
        }
        Ok((scan, made))
    }

    /// One whole run; returns what was backed up.
    pub(super) fn run(
        &self,
        applied: &Tree,
        wanted: &Tree,
        steps: &Steps,
    ) -> Result<Vec<Box<[u8]>>, ApplyError> {
        self.run_as(applied, wanted, wanted.version(), steps)
    }

    /// The same for a version that has a name already.
    pub(super) fn run_as(
        &self,
        applied: &Tree,
        wanted: &Tree,
        version: Version,
        steps: &Steps,
    ) -> Result<Vec<Box<[u8]>>, ApplyError> {
        let (ready, _) = self.open(steps)?;
        let (mut scan, plan) = self.plan(&ready, applied, wanted)?;
        let mut run = ready.begin(plan.clone(), version, Stamp::new(b"stamp").unwrap())?;
        for need in &plan.needs {
            if run.stage().has(&need.content)? || run.stage().copy_local(need)? || run.copy_kept(need)? {
                continue;
            }
            let mut writer = run.stage().writer(need)?;
            writer.write(&wanted.contents[&need.content.id])?;
            writer.finish()?;
        }
        run.fill(&mut scan, self.fidelity, || LATER)?;
        let saved = run.prepare()?.flip()?.commit(&wanted.entries, &scan, &self.options())?;
        Ok(saved.backed_up)
    }

    /// One whole run that has to succeed.
    pub(super) fn apply(&self, applied: &Tree, wanted: &Tree) -> Vec<String> {
        let backups = self.run(applied, wanted, &Steps::default()).unwrap();
        backups.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }
}

/// A tree with these problems is refused, and nothing changes.
#[track_caller]
pub(super) fn refused(host: &Host, applied: &Tree, wanted: &Tree, expected: &[Problem]) {
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let before = host.disk();
    let (_, plan) = host.plan(&ready, applied, wanted).unwrap();
    assert_eq!(plan.problems, expected);
    let refused = ready.begin(plan, wanted.version(), Stamp::new(b"stamp").unwrap()).unwrap_err();
    assert!(matches!(refused, ApplyError::Refused(_)), "{refused}");
    assert!(!host.state.join("journal").exists());
    assert_eq!(host.disk(), before);
}
