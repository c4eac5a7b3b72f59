//! Where the bytes of packs are kept: a directory, or anything that `object_store` speaks to.
//!
//! A stored file is written once and never changed. Its name holds the domain, the pack's id, and a number
//! that is never used twice: a file that is being removed and the same pack being added again are two files, so that
//! neither needs to wait for the other, and the catalogue can be rebuilt from the names and indexes alone.

mod unfinished;

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::catalogue::Timestamp;
use crate::domain::Domain;
use crate::error::StoreError;
use crate::id::PackId;

/// A pack in a back end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackFile {
    /// The domain it belongs to.
    pub domain: Domain,
    /// The pack.
    pub id: PackId,
    /// The number that the catalogue gave it.
    pub number: i64,
}

/// The prefix of all stored files.
const ROOT: &str = "packs";

impl fmt::Display for PackFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}/{}/{}-{}.pack", self.domain, self.id, self.number)
    }
}

impl PackFile {
    fn path(&self) -> Path {
        Path::from(self.to_string())
    }

    fn parse(path: &Path) -> Option<Self> {
        let (directory, name) = path.as_ref().strip_prefix(ROOT)?.strip_prefix('/')?.rsplit_once('/')?;
        let (id, number) = name.strip_suffix(".pack")?.split_once('-')?;
        let file =
            Self { domain: directory.parse().ok()?, id: id.parse().ok()?, number: number.parse().ok()? };
        // A number has one spelling, or two names would stand for one file.
        (file.number > 0 && file.number.to_string() == number).then_some(file)
    }
}

/// Keeps packs.
#[derive(Debug, Clone)]
pub struct Backend {
    store: Arc<dyn ObjectStore>,
    /// Where the files are, if they are files.
    directory: Option<PathBuf>,
}

impl Backend {
    /// Keeps packs in a directory, which is made if it is not there. What has been stored is durable: the file and
    /// its directory have been flushed.
    pub fn local(directory: &FilePath) -> Result<Self, StoreError> {
        let path = || directory.display().to_string();
        std::fs::create_dir_all(directory).map_err(|source| StoreError::Io {
            operation: "making the directory",
            path: path(),
            source,
        })?;
        let store = LocalFileSystem::new_with_prefix(directory).map_err(|source| StoreError::Backend {
            operation: "opening",
            object: path(),
            source,
        })?;
        let store = Arc::new(store.with_fsync(true));
        Ok(Self { store, directory: Some(directory.to_owned()) })
    }

    /// Keeps packs in an object store, which has to make what it has acknowledged durable.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, directory: None }
    }

    /// Stores a pack as a whole or not at all. It is durable when this returns.
    pub async fn put(&self, file: &PackFile, bytes: Bytes) -> Result<(), StoreError> {
        self.store.put(&file.path(), bytes.into()).await.map_err(failed("storing", file))?;
        Ok(())
    }

    /// Reads a whole pack.
    pub async fn get(&self, file: &PackFile) -> Result<Bytes, StoreError> {
        let result = self.store.get(&file.path()).await.map_err(failed("reading", file))?;
        result.bytes().await.map_err(failed("reading", file))
    }

    /// Reads a part of a pack; one that the file does not have in full is an error.
    pub async fn get_range(&self, file: &PackFile, range: Range<u64>) -> Result<Bytes, StoreError> {
        let expected = range.end.saturating_sub(range.start);
        if expected == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.store.get_range(&file.path(), range).await.map_err(failed("reading", file))?;
        let found = bytes.len() as u64;
        if found == expected {
            Ok(bytes)
        } else {
            Err(StoreError::Short { object: file.to_string(), expected, found })
        }
    }

    /// The number of bytes of a pack, or nothing if it is not there.
    pub async fn len(&self, file: &PackFile) -> Result<Option<u64>, StoreError> {
        match self.store.head(&file.path()).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed("examining", file)(source)),
        }
    }

    /// Removes a pack; one that is not there counts as removed.
    pub async fn delete(&self, file: &PackFile) -> Result<(), StoreError> {
        match self.store.delete(&file.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(failed("removing", file)(source)),
        }
    }

    /// Removes what was left of files whose writing was cut short before `before`; returns how many there were. An
    /// object store leaves nothing behind.
    pub(crate) fn remove_unfinished(&self, before: Timestamp) -> Result<usize, StoreError> {
        let Some(directory) = &self.directory else { return Ok(0) };
        unfinished::remove(&directory.join(ROOT), before)
    }

    /// All packs in no particular order, with their numbers of bytes. Files that are no packs are passed over.
    pub fn list(&self) -> BoxStream<'static, Result<(PackFile, u64), StoreError>> {
        self.store
            .list(Some(&Path::from(ROOT)))
            .map_err(|source| StoreError::Backend { operation: "listing", object: ROOT.to_owned(), source })
            .try_filter_map(|meta| async move {
                Ok(PackFile::parse(&meta.location).map(|file| (file, meta.size)))
            })
            .boxed()
    }
}

fn failed(operation: &'static str, file: &PackFile) -> impl FnOnce(object_store::Error) -> StoreError {
    let object = file.to_string();
    move |source| StoreError::Backend { operation, object, source }
}

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod tests;
