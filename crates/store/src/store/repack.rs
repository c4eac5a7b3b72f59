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
    /// Whether recipes were made here, from the contents that they make.
    is_own: bool,
}

impl<'a> Repack<'a> {
    /// Begins with an empty pack whose frames are compressed with this level of zstd.
    pub(crate) fn new(store: &'a Store, domain: &'a Domain, level: i32, now: Timestamp) -> Self {
        Self { store, domain, level, now, writer: PackWriter::new(level), packs: Vec::new(), is_own: false }
    }

    /// Begins with an empty pack for recipes that were proven here and what they lead to.
    pub(crate) fn own(store: &'a Store, domain: &'a Domain, level: i32, now: Timestamp) -> Self {
        Self { is_own: true, ..Self::new(store, domain, level, now) }
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
        let pack = if self.is_own {
            writer.finish_own()
        } else {
            let verified = writer.finish().map(|(_, bytes)| VerifiedPack::verify(bytes.into()));
            verified.transpose().map_err(|error| StoreError::Refused(Box::new(error)))?
        };
        let Some(pack) = pack else { return Ok(()) };
        // A file that is there may be the damaged one that these objects were saved from: it is written again.
        if self.store.add_verified(self.domain, &pack, self.now).await? == Added::Known {
            self.store.repair_pack(self.domain, &pack).await?;
        }
        self.packs.push(pack.id());
        Ok(())
    }
}
