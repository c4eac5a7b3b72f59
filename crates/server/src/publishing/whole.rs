//! Trees of which a directory holds what is new, and the store the rest.

use std::collections::BTreeMap;

use smart_sync_store::manifest::{Content, TreePath};
use smart_sync_sync::ingest::{IngestOptions, ingest};
use smart_sync_sync::publish::Target;
use smart_sync_sync::source::assembled::{AssembledSource, Part};
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::DirectorySource;

use super::{Publisher, Read, warn};
use crate::http::now;
use crate::realm::destination::LocalDestination;

impl Publisher<'_> {
    /// Publishes the files of the directory, with those beside them. What is in the directory goes before.
    pub(super) fn publish_with(
        &self,
        target: &Target,
        beside: &BTreeMap<TreePath, Content>,
    ) -> anyhow::Result<()> {
        let Self { realm, input, .. } = *self;
        let newest = self.newest(&target.channel, &target.reference)?;
        let mut destination = LocalDestination::new(realm, &target.channel, now())?;
        let directory =
            DirectorySource::open(input.source, input.directory_options(), ContentCache::default())?;
        let mut directory = AssembledSource::read(directory)?;
        let mut parts: BTreeMap<TreePath, Part> =
            beside.iter().map(|(path, content)| (path.clone(), Part::Published(*content))).collect();
        parts.extend(directory.files().map(|(path, _)| (path.clone(), Part::File(path.clone()))));
        directory.assemble(parts)?;
        let tree = ingest(&mut directory, &mut destination, IngestOptions::default())?;
        warn(&tree);
        let read = Read { tree, commit: None, time: None, meta: None };
        self.state(target, &read, newest.as_ref())
    }
}
