//! The workloads: each measures one thing that users do, with our programs and with those they would use otherwise.

mod bundles;
mod distfiles;
mod few_changed;
mod first_install;
mod first_sync;
mod kernel_pull;
mod memory;
mod mirror_get;
mod nothing_moved;
mod nothing_new;
mod packages;
mod plain_get;
mod publish;
mod storage;
mod updates;
mod versions;
mod watching;

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use crate::bench::{Bench, prepare};
use crate::report::Section;

/// A workload by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// A sync that finds nothing new in a tree of many files.
    NothingNew,
    /// A sync after five files have changed, in a small tree and in a large one.
    FewChanged,
    /// Publishing a realistic tree, for the first time and again.
    Publish,
    /// The first sync of a realistic tree.
    FirstSync,
    /// The peak memory of client and server.
    Memory,
    /// A large file by plain GET over several connections.
    PlainGet,
    /// Bytes of updates of trees of sources.
    UpdateTrees,
    /// Bytes of the next kernel, as a tree.
    UpdateKernel,
    /// Bytes of a pull of the next kernel.
    KernelPull,
    /// Bytes of the next kernel, packed: its limits take hours.
    UpdateKernelPacked,
    /// Bytes of the next versions of compressed source archives.
    UpdateArchives,
    /// Bytes of the next versions of binary packages.
    UpdateBinaries,
    /// Bytes of upgrades in a root file system.
    UpdateRoot,
    /// Bytes of scattered edits in one large file.
    UpdateFile,
    /// Bytes of a few changes among many files.
    UpdateMany,
    /// Bytes of the first install of a tree of sources.
    FirstInstall,
    /// Bytes of an update that finds nothing.
    NothingMoved,
    /// What bundles cost those who make, serve and apply them.
    Bundles,
    /// What many versions take on the disk.
    Storage,
    /// Switching targets that keep their versions, and taking them back.
    Versions,
    /// What the versions of a target take on its disk.
    VersionSpace,
    /// Telling many hosts that something was published.
    Watching,
    /// Publishing the binary packages of a build host.
    Packages,
    /// Starting and asking a mirror of many distfiles.
    Distfiles,
    /// Packages and distfiles by plain GET from many clients.
    MirrorGet,
}

impl Workload {
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NothingNew => "nothing-new",
            Self::FewChanged => "few-changed",
            Self::Publish => "publish",
            Self::FirstSync => "first-sync",
            Self::Memory => "memory",
            Self::PlainGet => "plain-get",
            Self::UpdateTrees => "update-trees",
            Self::UpdateKernel => "update-kernel",
            Self::KernelPull => "kernel-pull",
            Self::UpdateKernelPacked => "update-kernel-packed",
            Self::UpdateArchives => "update-archives",
            Self::UpdateBinaries => "update-binaries",
            Self::UpdateRoot => "update-root",
            Self::UpdateFile => "update-file",
            Self::UpdateMany => "update-many",
            Self::FirstInstall => "first-install",
            Self::NothingMoved => "nothing-moved",
            Self::Bundles => "bundles",
            Self::Storage => "storage",
            Self::Versions => "versions",
            Self::VersionSpace => "version-space",
            Self::Watching => "watching",
            Self::Packages => "packages",
            Self::Distfiles => "distfiles",
            Self::MirrorGet => "mirror-get",
        }
    }

    pub(crate) fn run(self, bench: &Bench) -> Result<Section> {
        match self {
            Self::NothingNew => nothing_new::run(bench),
            Self::FewChanged => few_changed::run(bench),
            Self::Publish => publish::run(bench),
            Self::FirstSync => first_sync::run(bench),
            Self::Memory => memory::run(bench),
            Self::PlainGet => plain_get::run(bench),
            Self::UpdateTrees => updates::trees(bench),
            Self::UpdateKernel => updates::kernel(bench),
            Self::KernelPull => kernel_pull::run(bench),
            Self::UpdateKernelPacked => updates::packed_kernel(bench),
            Self::UpdateArchives => updates::archives(bench),
            Self::UpdateBinaries => updates::binaries(bench),
            Self::UpdateRoot => updates::root(bench),
            Self::UpdateFile => updates::large_file(bench),
            Self::UpdateMany => updates::many_files(bench),
            Self::FirstInstall => first_install::run(bench),
            Self::NothingMoved => nothing_moved::run(bench),
            Self::Bundles => bundles::run(bench),
            Self::Storage => storage::run(bench),
            Self::Versions => versions::switch(bench),
            Self::VersionSpace => versions::space(bench),
            Self::Watching => watching::run(bench),
            Self::Packages => packages::run(bench),
            Self::Distfiles => distfiles::run(bench),
            Self::MirrorGet => mirror_get::run(bench),
        }
    }
}

/// The bytes that a directory takes on the disk.
fn stored(bench: &Bench, directory: &Path) -> Result<u64> {
    let text =
        prepare(bench.environment.command("du").args(["--summarize", "--block-size=1"]).arg(directory))?;
    Ok(text.split_whitespace().next().and_then(|size| size.parse().ok()).unwrap_or(0))
}

/// A tree's size in files and bytes, for the text of a section.
fn sizes(tree: &Path) -> String {
    let (mut files, mut bytes) = (0, 0);
    for node in smart_sync_tests::Snapshot::as_git(tree).nodes().values() {
        files += 1;
        if let smart_sync_tests::snapshot::Node::File { size, .. } = node {
            bytes += size;
        }
    }
    format!("{files} files and links, {} MiB", bytes / (1024 * 1024))
}
