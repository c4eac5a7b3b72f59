//! A closer look at what stands where a new manifest wants something.
//!
//! The walk knows the paths of the applied manifest. Before planning, what else stands where the wanted one puts
//! a file is looked at and, where its size allows it, hashed: a file that already has the wanted content is
//! adopted, any other is somebody's and is kept in the backup.

use std::borrow::Borrow;

use smart_sync_store::manifest::entry::Entry;

use super::{Drift, Extent, Found, Scan, ScanOptions, Untracked, is_excluded};
use crate::apply::error::ApplyError;
use crate::apply::hash::hash_at;
use crate::apply::stat::{FileKind, Stat};
use crate::apply::stat_cache::Expected;
use crate::apply::tree_dir::TreeDir;
use crate::apply::tree_walk::join;

impl Scan {
    /// Looks at everything that stands where an entry is wanted and is not tracked, or not what was applied.
    pub fn examine<E: Borrow<Entry>>(
        &mut self,
        tree: &TreeDir,
        wanted: impl IntoIterator<Item = E>,
        options: &ScanOptions<'_>,
    ) -> Result<(), ApplyError> {
        for entry in wanted {
            let entry = entry.borrow();
            let path = entry.path.as_bytes();
            if options.extent == Extent::NamedPaths {
                self.find_untracked(tree, path, options)?;
            }
            let at = self.findings.binary_search_by(|finding| (*finding.path).cmp(path));
            if let Ok(at) = at {
                if let Some(found) = &self.findings[at].found
                    && found.content.is_none()
                    && self.findings[at].drift != Drift::Metadata
                    && let Some(closer) = look(tree, entry, found.stat)?
                {
                    self.files_hashed += usize::from(closer.content.is_some());
                    self.findings[at].found = Some(closer);
                }
                continue;
            }
            let is_covered = self.untracked_above(path).is_some() || self.excluded_above(path).is_some();
            // A directory of the applied tree may stand where a file is wanted, or hold local files only.
            if !is_covered || self.cache.find(path).is_some() {
                continue;
            }
            if let Some(stat) = tree.stat(path)?
                && stat.kind == FileKind::Directory
                && Expected::of(entry).kind() != FileKind::Directory
                && options.extent == Extent::Everything
            {
                self.find_excluded(tree, path, options)?;
            }
            if let Some(stat) = tree.stat(path)?
                && let Some(found) = look(tree, entry, stat)?
            {
                self.files_hashed += usize::from(found.content.is_some());
                self.examined.insert(path.into(), found);
            }
        }
        self.excluded.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.excluded.dedup();
        Ok(())
    }

    /// Notes what stands at a path that is not tracked. Paths come in their order.
    fn find_untracked(
        &mut self,
        tree: &TreeDir,
        path: &[u8],
        options: &ScanOptions<'_>,
    ) -> Result<(), ApplyError> {
        if self.cache.find(path).is_some() || self.untracked_above(path).is_some() {
            return Ok(());
        }
        if let Some(stat) = tree.stat(path)?
            && !is_excluded(options.excluded, path, stat.kind == FileKind::Directory)
        {
            self.untracked.push(Untracked { path: path.into(), kind: stat.kind });
        }
        Ok(())
    }

    /// What an untracked directory that is in the way holds of the host's own. The walk did not look into it.
    fn find_excluded(
        &mut self,
        tree: &TreeDir,
        path: &[u8],
        options: &ScanOptions<'_>,
    ) -> Result<(), ApplyError> {
        for (name, kind) in tree.list(path)?.names() {
            let below = join(path, name.to_bytes());
            if (options.excluded)(&below, kind == FileKind::Directory) {
                self.excluded.push(Untracked { path: below.into(), kind });
            } else if kind == FileKind::Directory {
                self.find_excluded(tree, &below, options)?;
            }
        }
        Ok(())
    }

    /// What stands at a path that is not tracked, if it was examined.
    pub fn examined(&self, path: &[u8]) -> Option<&Found> {
        self.examined.get(path)
    }
}

fn look(tree: &TreeDir, entry: &Entry, stat: Stat) -> Result<Option<Found>, ApplyError> {
    let path = entry.path.as_bytes();
    let may_be_it = entry.content().is_some_and(|content| content.size == stat.size)
        && Expected::of(entry).kind() == stat.kind;
    let hashed = if may_be_it {
        tree.at(path, |directory, name| Ok(hash_at(directory, name, stat.kind)))
            .map_err(std::io::Error::from)
            .flatten()
            .map_err(|source| tree.failed("reading", path, source))?
    } else {
        None
    };
    let (stat, content) = hashed.map_or((stat, None), |(stat, id)| (stat, Some(id)));
    let xattrs = match stat.kind {
        FileKind::File | FileKind::Directory => tree.xattrs(path)?,
        _ => Vec::new(),
    };
    Ok(Some(Found { stat, content, xattrs }))
}
