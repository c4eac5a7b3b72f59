//! Manifest pages out of the store, for code that is not async.

use bytes::Bytes;
use smart_sync_store::Store;
use smart_sync_store::domain::Domain;
use smart_sync_store::error::{Fault, StoreError};
use smart_sync_store::id::ObjectId;
use smart_sync_store::manifest::{PageError, PageSource};
use smart_sync_store::object::{ObjectKey, VerifiedObject};
use std::sync::Arc;
use tokio::runtime::Handle;

/// The pages of one domain. To be used on a thread that may block.
#[derive(Clone)]
pub(crate) struct StorePages {
    store: Arc<Store>,
    domain: Domain,
    runtime: Handle,
}

impl StorePages {
    /// The pages of this domain. Called on a thread of the runtime.
    pub(crate) fn new(store: Arc<Store>, domain: Domain) -> Self {
        Self { store, domain, runtime: Handle::current() }
    }
}

impl PageSource for StorePages {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        let object = self.runtime.block_on(self.store.object(&self.domain, ObjectKey::page(*id)));
        object.map(VerifiedObject::into_bytes).map_err(|error| match error.fault() {
            Fault::Absent => PageError::Absent,
            _ => PageError::Failed(Box::<StoreError>::new(error)),
        })
    }

    fn is_verified(&self) -> bool {
        true
    }
}
