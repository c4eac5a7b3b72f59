//! What is in a target, compared with what was applied there.

use smart_sync_store::content::name_content;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Content, Fidelity, GitMode, Manifest, TreePath};
use smart_sync_sync::apply::scan::{Extent, Rehash, Scan, ScanOptions, scan};
use smart_sync_sync::apply::stat::FileKind;
use smart_sync_sync::apply::stat_cache::StatCache;
use smart_sync_sync::apply::tree_dir::TreeDir;
use smart_sync_sync::apply::versions::Kept;

use super::{Session, seconds_now, time_now};
use crate::failure::Failure;
use crate::settings::Validation;
use crate::sync::pages::Pages;
use crate::sync::repository_tree;

/// How many files of an unchanged tree are read again in each run.
const SAMPLE_FILES: usize = 64;

impl Session<'_> {
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
                Ok(repository_tree::name(&mut tree.open_file(path)?, size)?)
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

    pub(super) fn with_options<T>(&self, fidelity: Fidelity, work: impl FnOnce(&ScanOptions<'_>) -> T) -> T {
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
}
