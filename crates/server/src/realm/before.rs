//! The tree that is published now, for a kind that goes on from it: see [`smart_sync_sync::kinds::Before`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Content, Manifest, TreePath};
use smart_sync_sync::kinds::{Before, KindError};
use tokio::runtime::Handle;

use super::Realm;
use super::pages::StorePages;

/// A tree in the store of this server. To be used on a thread of the runtime that may block.
pub(crate) struct StoredTree<'a> {
    pub(crate) realm: &'a Arc<Realm>,
    pub(crate) domain: Domain,
    pub(crate) manifest: ManifestId,
}

impl Before for StoredTree<'_> {
    fn files(&self) -> Result<BTreeMap<TreePath, Content>, KindError> {
        let unread = |error: &dyn std::error::Error| KindError::Unread(error.to_string());
        let pages = StorePages::new(Arc::clone(&self.realm.store), self.domain.clone());
        let manifest = Manifest::open(pages, self.manifest, None).map_err(|error| unread(&error))?;
        let mut files = BTreeMap::new();
        for entry in &manifest {
            let entry = entry.map_err(|error| unread(&error))?;
            if let Some(content) = entry.content() {
                files.insert(entry.path.clone(), *content);
            }
        }
        Ok(files)
    }

    fn file(&self, path: &TreePath) -> Result<Option<Content>, KindError> {
        let pages = StorePages::new(Arc::clone(&self.realm.store), self.domain.clone());
        let found = Manifest::open(pages, self.manifest, None).and_then(|manifest| manifest.get(path));
        let found = found.map_err(|error| KindError::Unread(error.to_string()))?;
        Ok(found.and_then(|entry| entry.content().copied()))
    }

    fn read(&self, contents: &[Content], bytes_max: u64) -> Result<Vec<Vec<u8>>, KindError> {
        if contents.iter().any(|content| content.size > bytes_max) {
            return Err(KindError::Before(format!("a file of it is larger than {bytes_max} bytes")));
        }
        let read = |content: &Content| {
            let stream = self.realm.store.read_content(&self.domain, *content, 0..content.size);
            let pieces: Result<Vec<Bytes>, _> = Handle::current().block_on(stream.try_collect());
            pieces.map(|pieces| pieces.concat()).map_err(|error| KindError::Unread(error.to_string()))
        };
        contents.iter().map(read).collect()
    }
}
