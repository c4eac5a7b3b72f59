//! Moving objects into new packs, for garbage collection and repair.

use super::{Added, Store};
use crate::catalogue::Timestamp;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::id::PackId;
use crate::object::VerifiedObject;
use crate::pack::{PackWriter, VerifiedPack};

/// Collects objects of a domain into packs, and stores each pack when it is full.
#[derive(Debug)]
pub(crate) struct Repack<'a> {
    store: &'a Store,
    domain: &'a Domain,
    level: i32,
    now: Timestamp,
    writer: PackWriter,
    packs: Vec<PackId>,
}

impl<'a> Repack<'a> {
    /// Begins with an empty pack whose frames are compressed with this level of zstd.
    pub(crate) fn new(store: &'a Store, domain: &'a Domain, level: i32, now: Timestamp) -> Self {
        Self { store, domain, level, now, writer: PackWriter::new(level), packs: Vec::new() }
    }

    /// Adds an object.
    pub(crate) async fn add(&mut self, object: &VerifiedObject) -> Result<(), StoreError> {
        if self.writer.is_full() {
            self.flush().await?;
        }
        self.writer.add(object.key(), object.bytes()).expect("a pack that is not full takes any object");
        Ok(())
    }

    /// Stores what is left. Everything that was added is durable and found when this returns; the packs that
    /// hold it are named.
    pub(crate) async fn finish(mut self) -> Result<Vec<PackId>, StoreError> {
        self.flush().await?;
        Ok(self.packs)
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let writer = std::mem::replace(&mut self.writer, PackWriter::new(self.level));
        let Some((id, bytes)) = writer.finish() else { return Ok(()) };
        let pack =
            VerifiedPack::verify(bytes.into()).map_err(|error| StoreError::Refused(Box::new(error)))?;
        // A file that is there may be the damaged one that these objects were saved from: it is written again.
        if self.store.add_verified(self.domain, &pack, self.now).await? == Added::Known {
            self.store.repair_pack(self.domain, &pack).await?;
        }
        self.packs.push(id);
        Ok(())
    }
}
