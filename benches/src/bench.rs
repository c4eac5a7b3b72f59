//! What a workload works with: how large, how often, and where.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use smart_sync_tests::{Snapshot, TestEnvironment};

use crate::data::Cache;

/// How large the data of the workloads is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Files in the tree of many small files.
    pub(crate) many_files: u32,
    /// Files in the small tree.
    pub(crate) few_files: u32,
    /// Bytes in the realistic tree.
    pub(crate) tree_bytes: u64,
    /// Debian packages that the realistic tree is made of, until it is full.
    pub(crate) packages: &'static [&'static str],
    /// Bytes of the one large file.
    pub(crate) large_file: u64,
    /// Bytes of the file that is served plainly.
    pub(crate) plain_file: u64,
    /// Clients that sync at the same time.
    pub(crate) clients: usize,
    /// Files in the tree that each of these clients syncs.
    pub(crate) served_files: u32,
    /// Bytes of the file with scattered edits.
    pub(crate) edited_file: u64,
    /// Files that change among many.
    pub(crate) many_changed: u32,
    /// Binary packages of a build host.
    pub(crate) binary_packages: u32,
    /// Distfiles of a mirror.
    pub(crate) distfiles: u32,
    /// Whether small trees stand in for published packages.
    pub(crate) generated: bool,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

impl Scale {
    /// What the report holds.
    pub(crate) const FULL: Self = Self {
        many_files: 200_000,
        few_files: 1_000,
        tree_bytes: GIB,
        packages: crate::data::PACKAGES,
        large_file: 4 * GIB,
        plain_file: 256 * MIB,
        clients: 32,
        served_files: 20_000,
        edited_file: 2 * GIB,
        many_changed: 100,
        binary_packages: 500,
        distfiles: 100_000,
        generated: false,
    };
    /// Just enough to see that everything works.
    pub(crate) const QUICK: Self = Self {
        many_files: 2_000,
        few_files: 200,
        tree_bytes: 24 * MIB,
        packages: crate::data::PACKAGES_QUICK,
        large_file: 64 * MIB,
        plain_file: 16 * MIB,
        clients: 4,
        served_files: 500,
        edited_file: 24 * MIB,
        many_changed: 20,
        binary_packages: 20,
        distfiles: 1_000,
        generated: true,
    };
}

/// What a run measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    /// The other programs alone.
    Peers,
    /// Nothing: data and limits are prepared.
    Limits,
}

/// A run of the driver.
#[derive(Debug)]
pub(crate) struct Bench {
    directory: PathBuf,
    /// The machine that every program runs on: no settings of whoever started this reach them.
    pub(crate) environment: TestEnvironment,
    pub(crate) scale: Scale,
    pub(crate) runs: usize,
    pub(crate) scope: Scope,
    /// Whether times are to be comparable, which takes time itself.
    pub(crate) timed: bool,
    /// What is fetched or computed once for all checkouts of the project.
    pub(crate) cache: Cache,
    _lock: File,
}

impl Bench {
    pub(crate) fn new(
        directory: &Path,
        cache: Cache,
        scale: Scale,
        runs: usize,
        scope: Scope,
        timed: bool,
    ) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        let directory =
            fs::canonicalize(directory).with_context(|| format!("finding {}", directory.display()))?;
        let lock = lock(&directory)?;
        let scratch = directory.join("scratch");
        if scratch.exists() {
            fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
        }
        fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
        let environment = TestEnvironment::below(&scratch);
        Ok(Self { directory, environment, scale, runs, scope, timed, cache, _lock: lock })
    }

    /// Whether our own programs are left out.
    pub(crate) fn peers_only(&self) -> bool {
        self.scope != Scope::Everything
    }

    /// A directory that is kept between runs.
    pub(crate) fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A path for this run. Nothing is there: what an earlier step left is removed.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.environment.path(name);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        Ok(path)
    }
}

/// Takes the directory for this run: what an interrupted one left there can then be removed safely.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    file.try_lock().with_context(|| format!("another run uses {}", directory.display()))?;
    Ok(file)
}

/// Runs a command that is not measured, and returns what it printed.
pub(crate) fn prepare(command: &mut Command) -> Result<String> {
    let finished = smart_sync_tests::program::run(command);
    if finished.code != Some(0) {
        bail!("{} ended with {:?}:\n{}", finished.command, finished.code, finished.stderr);
    }
    Ok(finished.stdout)
}

/// Fails unless two trees hold the same files, links and executable bits.
pub(crate) fn check_same(what: &str, expected: &Path, found: &Path) -> Result<()> {
    let differences = Snapshot::as_git(expected).differences(&Snapshot::as_git(found));
    if let Some(first) = differences.first() {
        bail!("{what}: the result differs in {} lines, the first is {first}", differences.len());
    }
    Ok(())
}
