//! One run on one target: from what it holds to what it shall hold.
//!
//! The order is that of the promises: nothing of the target changes before everything is here and verified, and what
//! an earlier run left unfinished is settled before anything else.

mod switch;

pub use self::switch::{Next, Prepared};

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::HumanBytes;
use smart_sync_store::content::name_content;
use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::{Content, Entry, Fidelity, FileTime, GitMode, Manifest, TreePath};
use smart_sync_sync::apply::lock::Holder;
use smart_sync_sync::apply::plan::{ApplyPlan, Need, PlanInput, Policy, Problem, plan};
use smart_sync_sync::apply::preflight::preflight;
use smart_sync_sync::apply::run::{ReadyTarget, Recovery};
use smart_sync_sync::apply::scan::{Extent, Rehash, Scan, ScanOptions, scan};
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::apply::stat::FileKind;
use smart_sync_sync::apply::stat_cache::StatCache;
use smart_sync_sync::apply::tree_dir::TreeDir;
use smart_sync_sync::apply::versions::{Kept, Kind, VersionName, prune};
use smart_sync_sync::apply::{Stamp, Version};
use smart_sync_sync::exclude::Exclusions;

use super::Surroundings;
use super::kept_contents::retain_contents;
use super::pages::Pages;
use super::place::{Label, Place};
use crate::after::trigger::After;
use crate::after::way_back::WayBack;
use crate::config::Allowed;
use crate::failure::{Exit, Failure, MAKE_ROOM};
use crate::output::{Output, count};
use crate::profile;
use crate::settings::{SyncMode, TargetPolicy, Validation};
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::metadata::Owners;

/// How many files of an unchanged tree are read again in each run.
const SAMPLE_FILES: usize = 64;

/// How many reasons against a tree are shown.
const PROBLEMS_SHOWN: usize = 10;

/// A target that is locked and settled, and what it holds.
pub struct Session<'a> {
    place: &'a Place,
    ready: ReadyTarget,
    exclusions: Exclusions,
    allows: Policy,
    keep: usize,
    validation: Validation,
    output: &'a Output,
    /// What happens after an update.
    after: After,
    /// What takes the target back if this run does not get to its end, where it is one that may have to.
    way_back: Option<WayBack>,
    /// Directories in which an overlay places nothing.
    forbidden: Vec<PathBuf>,
    /// Whether an earlier run was found unfinished.
    pub was_interrupted: bool,
    /// What was applied here last.
    pub applied: Option<Version>,
    /// Its manifest.
    pub pages: Pages,
    /// The number of its entries, if its pages are all here; counted when it is first asked for.
    known: OnceLock<Option<u64>>,
}

/// A tree that is to be applied.
pub struct Wanted {
    /// Its pages.
    pub pages: Pages,
    /// Its manifest.
    pub manifest: ManifestId,
    /// How much it keeps of a file's metadata.
    pub fidelity: Fidelity,
    /// What is noted of it.
    pub label: Label,
    /// Why it is applied.
    pub purpose: Purpose,
}

/// Why a tree is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// It is what the target shall hold from now on, if all is well then.
    Update,
    /// It is gone back to; where the target is changed in place, under the name that it is kept under.
    GoingBack(Option<VersionName>),
}

impl Wanted {
    fn with_entries<T>(
        &self,
        work: impl FnOnce(&mut dyn Iterator<Item = Entry>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.pages.with_entries(self.manifest, work)
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target is what it shall be already.
    Nothing,
    /// It is now.
    Applied {
        /// Paths that were made, replaced, changed or deleted.
        changes: usize,
        /// These, where something depends on them.
        changed: Vec<Box<[u8]>>,
    },
    /// It was only asked what would be done.
    Shown {
        /// What would have to come from elsewhere.
        fetches: Vec<Need>,
    },
}

impl<'a> Session<'a> {
    /// Takes the target, settles what an earlier run left, and finds out what it holds.
    pub fn begin(
        place: &'a Place,
        policy: &TargetPolicy,
        validation: Validation,
        output: &'a Output,
    ) -> Result<Self, Failure> {
        let exclusions = Exclusions::new(policy.exclusions.iter().map(String::as_str))
            .map_err(|error| Failure::new(Exit::Configuration, error))?;
        let locked = place.open()?.lock(&Holder::this_process("smart-sync", seconds_now()))?;
        let (ready, recovery) = profile::store::recover(place, locked)?;
        tell_recovery(&recovery, place, output);
        let applied = ready.target().applied()?;
        let pages = match &applied {
            Some(version) => {
                // A run that was killed or completed later has left those of the version before.
                Pages::discard_others(&place.state, needed_pages(&ready, version.manifest())?)?;
                Pages::load(&place.state, version.manifest())?
            }
            None => Pages::default(),
        };
        let mut forbidden = place.leaves_alone(&policy.others);
        if place.kind == Kind::Overlay {
            forbidden.extend(profile::store::beside(place)?);
        }
        let mut allows = allowed(policy)?;
        allows.makes_read_only = ready.target().have_many_names();
        Ok(Self {
            place,
            ready,
            exclusions,
            allows,
            keep: policy.keep,
            after: policy.after.clone(),
            way_back: None,
            forbidden,
            was_interrupted: recovery != Recovery::Nothing,
            validation,
            output,
            applied,
            pages,
            known: OnceLock::new(),
        })
    }

    /// Sees to it that what is applied has to prove itself, and is taken back where this run does not get to its end.
    #[must_use]
    pub(crate) fn guarded(self, surroundings: &Surroundings<'_>) -> Self {
        Self { way_back: Some(WayBack::of(surroundings)), ..self }
    }

    /// The opposite: what is gone back to has nothing to prove.
    #[must_use]
    pub(crate) fn unguarded(self) -> Self {
        Self { way_back: None, ..self }
    }

    /// The manifest that the target holds.
    pub fn manifest(&self) -> Option<ManifestId> {
        self.applied.as_ref().map(Version::manifest)
    }

    /// The fidelity of what was applied; that of git where nothing was.
    pub fn fidelity(&self) -> Fidelity {
        let manifest = self.manifest().and_then(|manifest| Manifest::open(&self.pages, manifest, None).ok());
        manifest.map_or(Fidelity::Git, |manifest| manifest.fidelity())
    }

    /// The manifest that the target holds, if its pages are all here, and the number of its entries.
    pub fn known_manifest(&self) -> Option<(ManifestId, u64)> {
        let manifest = self.manifest()?;
        let count = self.known.get_or_init(|| self.pages.count(manifest).ok());
        count.map(|count| (manifest, count))
    }

    /// Works with the entries of what was applied. Where its pages are lost, nothing is known of it, and what is
    /// there is compared with what is wanted, file by file.
    pub fn with_applied<T>(
        &self,
        work: impl FnOnce(&mut dyn Iterator<Item = Entry>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match self.known_manifest() {
            Some((manifest, _)) => self.pages.with_entries(manifest, work),
            None => work(&mut std::iter::empty()),
        }
    }

    /// The names of the file or link at a path of the target, if it is of this type and size.
    pub fn local_content(
        &self,
        path: &TreePath,
        mode: GitMode,
        size: u64,
    ) -> Result<Option<Content>, Failure> {
        let tree = self.ready.target().tree();
        let path = path.as_bytes();
        let Ok(Some(stat)) = tree.stat(path) else { return Ok(None) };
        match stat.kind {
            FileKind::File if !mode.is_symlink() && stat.size == size => {
                Ok(super::repository_tree::name(&mut tree.open_file(path)?, size)?)
            }
            FileKind::Symlink if mode.is_symlink() => Ok(Some(name_content(&tree.read_link(path)?))),
            _ => Ok(None),
        }
    }

    /// Compares the target with what was applied.
    pub fn scan(&self, fidelity: Fidelity) -> Result<Scan, Failure> {
        let (state, tree) = (self.ready.target().state(), self.ready.target().tree());
        // Nothing was ever applied: every entry that is there is untracked.
        let manifest = self.manifest().unwrap_or_else(|| ManifestId::from_bytes([0; 32]));
        let cache = match StatCache::load(state, manifest).filter(|_| self.applied.is_some()) {
            Some(cache) => cache,
            None => self.with_applied(|applied| Ok(StatCache::from_entries(manifest, applied)?))?,
        };
        let scan = self.with_options(fidelity, |options| scan(tree, cache, options))?;
        if scan.is_cache_changed && self.applied.is_some() {
            scan.cache.save(state)?;
        }
        Ok(scan)
    }

    fn with_options<T>(&self, fidelity: Fidelity, work: impl FnOnce(&ScanOptions<'_>) -> T) -> T {
        let excluded = |path: &[u8], is_directory: bool| self.exclusions.names(path, is_directory);
        let rehash = match self.validation {
            Validation::TrustStat => Rehash::Sample { files: 0, seed: 0 },
            Validation::Sample => {
                Rehash::Sample { files: SAMPLE_FILES, seed: seconds_now().unsigned_abs() / 60 }
            }
            Validation::Full => Rehash::Everything,
        };
        let extent = if self.ready.target().is_overlay() { Extent::NamedPaths } else { Extent::Everything };
        let have_many_names = self.ready.target().have_many_names();
        let started = time_now();
        work(&ScanOptions { excluded: &excluded, fidelity, rehash, started, have_many_names, extent })
    }

    /// The tree of the target.
    pub const fn tree(&self) -> &TreeDir {
        self.ready.target().tree()
    }

    /// The same after readers were switched by this run.
    pub fn reopened(self) -> Result<Self, Failure> {
        let ready = self.ready.reopened()?;
        let applied = ready.target().applied()?;
        let pages = match &applied {
            Some(version) => Pages::load(&self.place.state, version.manifest())?,
            None => Pages::default(),
        };
        Ok(Self { ready, applied, pages, known: OnceLock::new(), ..self })
    }

    /// Where the target is, and what is known of it.
    pub const fn place(&self) -> &'a Place {
        self.place
    }

    /// The pages of a manifest that an earlier version of the target has, if they are all here, and its fidelity.
    pub fn pages_of_kept(&self, manifest: ManifestId) -> Result<Option<(Pages, Fidelity)>, Failure> {
        if !self.ready.target().kept()?.iter().any(|kept| kept.version.manifest() == manifest) {
            return Ok(None);
        }
        let pages = Pages::load(&self.place.state, manifest)?;
        if pages.count(manifest).is_err() {
            return Ok(None);
        }
        let fidelity = Manifest::open(&pages, manifest, None)?.fidelity();
        Ok(Some((pages, fidelity)))
    }

    /// How a version that is kept differs from what it was, as far as that is known without reading all of it.
    pub fn scan_version(&self, kept: &Kept, tree: &TreeDir) -> Result<Scan, Failure> {
        let manifest = kept.version.manifest();
        let pages = Pages::load(&self.place.state, manifest)?;
        let fidelity = Manifest::open(&pages, manifest, None)?.fidelity();
        let cache = match self.ready.target().cache_of(kept) {
            Some(cache) => cache,
            None => pages.with_entries(manifest, |entries| {
                StatCache::from_entries(manifest, entries).map_err(Failure::from)
            })?,
        };
        self.with_options(fidelity, |options| Ok(scan(tree, cache, options)?))
    }

    /// The target, which belongs to this run.
    pub const fn ready(&self) -> &ReadyTarget {
        &self.ready
    }

    /// Whether an earlier run left contents in the stage.
    pub fn has_stage(&self) -> Result<bool, Failure> {
        Ok(self.ready.target().has_stage()?)
    }

    /// Opens the stage for contents that come before it is known what is wanted.
    pub fn stage(&self) -> Result<Stage<'_>, Failure> {
        Ok(self.ready.stage()?)
    }

    /// Removes what is staged.
    pub fn discard_staged(&self) -> Result<(), Failure> {
        Ok(self.ready.discard_staged()?)
    }

    /// Removes versions that are not kept any longer.
    fn prune(&self) -> Result<(), Failure> {
        if !self.ready.target().keeps_versions() {
            return Ok(());
        }
        let kept = self.ready.target().kept()?;
        let applied = self.ready.target().applied()?;
        // The new version is not confirmed yet: the one before has to be there to go back to.
        let before = self.applied.as_ref().and_then(Version::name).filter(|_| !self.after.is_empty());
        let needed = profile::store::needed(self.place, &kept)?;
        let anyway = crate::versions::kept_anyway(&kept, &self.place.state)?;
        let named: Vec<_> = before.into_iter().chain(&needed).chain(anyway).collect();
        for gone in prune::plan(&kept, applied.as_ref().and_then(Version::name), self.keep, &named) {
            self.ready.remove_version(gone)?;
        }
        retain_contents(&self.ready, &self.place.state)?;
        Ok(self.ready.prune_left(self.keep)?)
    }

    pub(crate) fn tell_left(&self, left: Option<&Path>) {
        if let Some(left) = left {
            self.output.warning(&format!(
                "{} was written to while the next version was made; what it was then is kept in {}",
                self.place.target.display(),
                left.display()
            ));
        }
    }

    fn plan(
        &self,
        wanted: &Wanted,
        scan: &mut Scan,
        mode: SyncMode,
        staged: Option<&Stage<'_>>,
    ) -> Result<ApplyPlan, Failure> {
        let tree = self.ready.target().tree();
        self.with_options(wanted.fidelity, |options| {
            wanted.with_entries(|entries| Ok(scan.examine(tree, entries, options)?))
        })?;
        let excluded = |path: &[u8], is_directory: bool| self.exclusions.names(path, is_directory);
        let input = PlanInput { scan, excluded: &excluded, policy: &self.allows, now: time_now() };
        let mut plan =
            self.with_applied(|applied| wanted.with_entries(|entries| Ok(plan(applied, entries, &input)?)))?;
        if let Some(stage) = staged {
            plan.count_staged(|content| stage.has(content))?;
        }
        if !self.ready.target().is_changed_in_place() && !plan.is_empty() {
            // What is mounted below would be in the one version and not in the next.
            let mounts = scan.mounts.iter().cloned().map(Problem::OtherFileSystem);
            plan.problems
                .extend(mounts.filter(|problem| !plan.problems.contains(problem)).collect::<Vec<_>>());
        }
        if self.ready.target().is_overlay() {
            wanted.with_entries(|entries| Ok(self.ready.fit(&mut plan, &self.forbidden, entries)?))?;
            return Ok(plan);
        }
        // Who only looks begins no version.
        let work = if mode == SyncMode::Apply && !plan.is_empty() { self.ready.work()? } else { tree };
        wanted.with_entries(|entries| Ok(preflight(work, &mut plan, entries)?))?;
        Ok(plan)
    }

    fn tell_plan(&self, plan: &ApplyPlan) {
        for path in plan.backups().take(20) {
            self.output.warning(&format!("local change: {}", Shown(path)));
        }
        let left_out = plan.left_out.len();
        if left_out > 0 {
            self.output.warning(&format!(
                "{} covered by the exclusions of this target and left out, for instance {}",
                count(left_out as u64, "published path is", "published paths are"),
                plan.left_out[0]
            ));
        }
    }

    fn tell_backups(&self, backed_up: &[Box<[u8]>]) {
        if !backed_up.is_empty() {
            self.output.info(&kept_in_backup(backed_up.len(), self.place));
        }
    }
}

fn changed(plan: &ApplyPlan) -> Vec<Box<[u8]>> {
    plan.actions.iter().map(|action| action.path.clone()).collect()
}

fn tell_recovery(recovery: &Recovery, place: &Place, output: &Output) {
    match recovery {
        Recovery::Nothing => {}
        Recovery::RolledBack(_) => {
            output.info("an earlier run had not changed anything yet; what it fetched is used again");
        }
        Recovery::Completed { backed_up, .. } => {
            output.info(&format!(
                "an earlier run was interrupted in {}; it is completed now",
                place.target.display()
            ));
            if !backed_up.is_empty() {
                output.info(&kept_in_backup(backed_up.len(), place));
            }
        }
    }
}

/// The manifests whose pages are needed: those of all versions, and the current one.
pub(crate) fn needed_pages(ready: &ReadyTarget, current: ManifestId) -> Result<Vec<ManifestId>, Failure> {
    let kept = ready.target().kept()?;
    Ok(kept.iter().map(|kept| kept.version.manifest()).chain([current]).collect())
}

pub(crate) fn kept_in_backup(number: usize, place: &Place) -> String {
    let changes = count(number as u64, "local change was", "local changes were");
    format!("{changes} kept in {}", place.state.join("backups").display())
}

fn refused(plan: &ApplyPlan) -> Failure {
    let is_permission = plan.problems.iter().any(|problem| {
        matches!(problem, Problem::ReadOnly | Problem::NotWritable(_) | Problem::Immutable(_))
    });
    let exit = if is_permission { Exit::Permission } else { Exit::General };
    let shown = plan.problems.iter().take(PROBLEMS_SHOWN).map(|problem| match problem {
        Problem::Space { needed, free } => format!(
            "{} are needed and {} are free in the file system of the target",
            HumanBytes(*needed),
            HumanBytes(*free)
        ),
        problem => problem.to_string(),
    });
    let mut reasons: Vec<String> = shown.collect();
    if plan.problems.len() > PROBLEMS_SHOWN {
        reasons.push(format!("and {} more", plan.problems.len() - PROBLEMS_SHOWN));
    }
    let failure = Failure::message(
        exit,
        format!("this tree cannot be applied here, and nothing was changed: {}", reasons.join("; ")),
    );
    let failure = match exit {
        Exit::Permission => {
            failure.hint("run this as a user who may write there, or name another target with --target DIR")
        }
        _ => failure,
    };
    let lacks_room = |problem: &Problem| matches!(problem, Problem::Space { .. } | Problem::Inodes { .. });
    failure.hint(if plan.problems.iter().any(lacks_room) {
        MAKE_ROOM
    } else {
        "repair what is named here, or choose another ref with --ref"
    })
}

fn allowed(policy: &TargetPolicy) -> Result<Policy, Failure> {
    let allows = |what: Allowed| policy.allow.contains(&what);
    Ok(Policy {
        allows_excluded: allows(Allowed::ExcludedPaths),
        allows_set_id: allows(Allowed::SetId),
        allows_devices: allows(Allowed::Devices),
        allows_pipes_and_sockets: allows(Allowed::Sockets),
        allows_system_xattrs: false,
        makes_read_only: false,
        // Only root can give files away.
        owners: if rustix::process::geteuid().is_root() { Some(owners()?) } else { None },
    })
}

fn owners() -> Result<Owners, Failure> {
    let read = |path: &str| {
        std::fs::read(path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(error),
        })
    };
    Ok(Owners::parse(&read("/etc/passwd")?, &read("/etc/group")?))
}

/// This machine's time, in seconds since 1970.
pub fn seconds_now() -> i64 {
    time_now().seconds
}

/// This machine's time.
pub fn time_now() -> FileTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    FileTime {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: since.subsec_nanos(),
    }
}

/// This time, as the name of a run.
pub fn stamp() -> Stamp {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    Stamp::new(now.as_bytes()).expect("a time is digits and letters")
}

/// Needs by the content that each is for.
pub struct Needs<'n>(Vec<(u64, &'n Need)>);

impl<'n> Needs<'n> {
    /// Needs of different contents.
    pub fn new(needs: &[&'n Need]) -> Self {
        let mut sorted: Vec<_> = needs.iter().map(|need| (beginning(need.content.id), *need)).collect();
        sorted.sort_unstable_by_key(|(beginning, _)| *beginning);
        Self(sorted)
    }

    /// The need for a content.
    pub fn get(&self, content: ContentId) -> Option<&'n Need> {
        let wanted = beginning(content);
        let first = self.0.partition_point(|(beginning, _)| *beginning < wanted);
        let same = self.0[first..].iter().take_while(|(beginning, _)| *beginning == wanted);
        same.map(|(_, need)| *need).find(|need| need.content.id == content)
    }
}

/// The first bytes of an id: two of one target that begin alike are hardly met.
fn beginning(id: ContentId) -> u64 {
    u64::from_be_bytes(id.as_bytes()[..8].try_into().expect("an id has 32 bytes"))
}
