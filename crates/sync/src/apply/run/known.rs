//! What is known of the files of a target when a run ends.

use std::borrow::Borrow;

use rayon::prelude::*;
use smart_sync_store::manifest::entry::{Attributes, Entry, Node};

use super::super::error::ApplyError;
use super::super::flip::Placed;
use super::super::op::{Op, OpKind};
use super::super::record::Version;
use super::super::scan::{Scan, ScanOptions, is_excluded};
use super::super::stat::FileKind;
use super::super::stat_cache::{Builder, Expected, Record, Seen, StatCache};
use super::super::tree_dir::TreeDir;

/// Files that are looked at by all processors before what is known of them is noted.
const BATCH: usize = 4096;

/// What is known of the files of a target after a run.
pub(super) struct Known<'a> {
    pub(super) tree: &'a TreeDir,
    pub(super) scan: &'a Scan,
    pub(super) placed: &'a Placed,
    pub(super) ops: &'a [Op],
}

impl Known<'_> {
    /// The stat cache of the new version. A file is only noted as verified if nothing shows that it changed since
    /// its content was; what is missing here is hashed by the next scan.
    pub(super) fn cache<E: Borrow<Entry> + Sync>(
        &self,
        version: &Version,
        wanted: impl IntoIterator<Item = E>,
        options: &ScanOptions<'_>,
    ) -> Result<StatCache, ApplyError> {
        let root_device = self.tree.stat(b"")?.map_or((0, 0), |stat| stat.device);
        let touched = self
            .ops
            .iter()
            .filter(|op| matches!(op.kind, OpKind::SetMetadata(..)))
            .map(|op| &*op.path)
            .collect();
        let mut builder = Builder::default();
        let mut wanted = wanted.into_iter();
        loop {
            let batch: Vec<E> = wanted.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(builder.finish(version.manifest(), options.started));
            }
            let seen = batch
                .par_iter()
                .map(|entry| self.seen(entry.borrow(), &touched, options, root_device))
                .collect::<Result<Vec<_>, _>>()?;
            for (entry, seen) in batch.iter().zip(seen) {
                builder.push(entry.borrow(), seen)?;
            }
        }
    }

    fn seen(
        &self,
        entry: &Entry,
        touched: &std::collections::HashSet<&[u8]>,
        options: &ScanOptions<'_>,
        root_device: (u32, u32),
    ) -> Result<Option<Seen>, ApplyError> {
        let path = entry.path.as_bytes();
        let expected = Expected::of(entry);
        let is_git_directory =
            expected.kind() == FileKind::Directory && matches!(entry.attributes, Attributes::Git(_));
        let is_directory = expected.kind() == FileKind::Directory;
        if is_git_directory || is_excluded(options.excluded, path, is_directory) {
            return Ok(None);
        }
        let content = entry.content().map(|content| content.id);
        let record = self.scan.cache.find(path).map(|position| self.scan.cache.record(position));
        let recorded = record
            .filter(|record| content == Some(record.content.id) && record.expected.kind() == expected.kind());
        let found = self.scan.finding(path).and_then(|finding| finding.found.as_ref());
        let found = found.or_else(|| self.scan.examined(path));
        let found = found.filter(|found| content.is_some() && found.content == content);
        let verified = recorded.and_then(|record| record.verified);
        let known = match (self.placed.get(self.ops, path), found, recorded.zip(verified)) {
            (Some(placed), ..) => Some(placed),
            (None, Some(found), _) => Some(found.stat.fingerprint()),
            (None, None, Some((record, fingerprint))) if !touched.contains(path) => {
                // The scan saw it in time to rule out that it changed since; what it cannot rule out is hashed
                // again.
                let Record { mode, is_on_root_device, .. } = record;
                let is_settled = fingerprint.is_settled_before(self.scan.taken);
                return Ok(is_settled.then_some(Seen { fingerprint, mode, is_on_root_device }));
            }
            (None, None, recorded) => recorded.map(|(_, fingerprint)| fingerprint),
        };
        let Some(stat) = self.tree.stat(path)?.filter(|stat| stat.kind == expected.kind()) else {
            return Ok(None);
        };
        let is_verified = match entry.node {
            Node::File(_) | Node::Symlink(_) => {
                known.is_some_and(|known| stat.fingerprint().has_content_of(&known))
            }
            _ => true,
        };
        Ok(is_verified.then(|| Seen::new(&stat, root_device)))
    }
}
