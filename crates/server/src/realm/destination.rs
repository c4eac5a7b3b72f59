//! The store of this server as the place where a tree is published to, without the network.

use std::sync::Arc;

use smart_sync_store::domain::Domain;
use smart_sync_store::manifest::{Content, ManifestSummary};
use smart_sync_store::object::ObjectKey;
use smart_sync_store::pack::VerifiedPack;
use smart_sync_sync::ingest::{Destination, DestinationError};
use smart_sync_sync::name::Channel;
use tokio::runtime::Handle;

use super::{Realm, timestamp};

/// Stores what is published to one channel. To be used on a thread that may block.
pub(crate) struct LocalDestination<'a> {
    realm: &'a Arc<Realm>,
    channel: &'a Channel,
    domain: Domain,
    now: u64,
    runtime: Handle,
}

impl<'a> LocalDestination<'a> {
    /// The destination for a channel. Called on a thread of the runtime.
    pub(crate) fn new(realm: &'a Arc<Realm>, channel: &'a Channel, now: u64) -> anyhow::Result<Self> {
        Ok(Self { realm, channel, domain: realm.domain(channel)?, now, runtime: Handle::current() })
    }
}

impl Destination for LocalDestination<'_> {
    fn missing(&mut self, keys: &[ObjectKey]) -> Result<Vec<bool>, DestinationError> {
        let missing = self.realm.store.missing(&self.domain, keys, timestamp(self.now))?;
        let missing: std::collections::HashSet<_> = missing.into_iter().collect();
        Ok(keys.iter().map(|key| missing.contains(key)).collect())
    }

    fn missing_contents(&mut self, contents: &[Content]) -> Result<Vec<bool>, DestinationError> {
        let missing = self.realm.store.missing_contents(&self.domain, contents, timestamp(self.now));
        let missing: std::collections::HashSet<_> =
            self.runtime.block_on(missing)?.into_iter().map(|content| content.id).collect();
        Ok(contents.iter().map(|content| missing.contains(&content.id)).collect())
    }

    fn has_manifest(&mut self, manifest: &ManifestSummary) -> Result<bool, DestinationError> {
        Ok(self.realm.has_published(self.channel, manifest.id)?)
    }

    fn put_pack(&mut self, pack: &VerifiedPack) -> Result<(), DestinationError> {
        let added = self.realm.store.add_verified(&self.domain, pack, timestamp(self.now));
        self.runtime.block_on(added)?;
        Ok(())
    }
}
