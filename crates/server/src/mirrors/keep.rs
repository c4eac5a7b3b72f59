//! Keeping what has come and is right: as a content of the store, like everything that is published.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use smart_sync_store::manifest::{Content, Fidelity, FileTime};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{IngestOptions, ingest_and_show};
use smart_sync_sync::name::Channel;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};

use crate::realm::Realm;
use crate::realm::destination::LocalDestination;

/// Stores the only file of a directory, where the files of a channel are. On a thread of the runtime that may block.
pub(super) fn store(
    realm: &Arc<Realm>,
    channel: &Channel,
    directory: &Path,
    now: u64,
) -> anyhow::Result<Content> {
    let mut destination = LocalDestination::new(realm, channel, now)?;
    let options = DirectoryOptions {
        fidelity: Fidelity::Git,
        exclusions: Exclusions::default(),
        now: FileTime { seconds: i64::try_from(now).unwrap_or(i64::MAX), nanoseconds: 0 },
    };
    let mut source = DirectorySource::open(directory, options, ContentCache::default())?;
    let mut contents = Vec::new();
    ingest_and_show(&mut source, &mut destination, IngestOptions::default(), &mut |entry| {
        contents.extend(entry.content().copied());
    })?;
    ensure!(contents.len() == 1, "{} has {} files in place of one", directory.display(), contents.len());
    contents.pop().context("there is one")
}
