//! Where stored files are kept: a directory, or anything that `object_store` speaks to.
//!
//! A stored file is written once and never changed, and its name says everything that has to be known of it. That of
//! a pack holds the domain, the pack's id, and a number that is never used twice: a file that is being removed and the
//! same pack being added again are two files, so that neither needs to wait for the other, and the catalogue can be
//! rebuilt from the names and indexes alone. Files of other kinds lie beside the packs, under a root of their own.

mod unfinished;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::MultipartUpload;
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

/// A kind of stored file: where such files lie, and how one is read from its name. What `Display` writes is the whole
/// name, from the root on, and begins and ends as the constants say.
pub trait StoredFile: fmt::Display + Sized {
    /// The directory of all files of this kind.
    const ROOT: &'static str;
    /// How their names end, with the dot.
    const EXTENSION: &'static str;

    /// Reads a name; nothing if it is not exactly as it would be written.
    fn parse(name: &str) -> Option<Self>;
}

impl fmt::Display for PackFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}-{}{}", Self::ROOT, self.domain, self.id, self.number, Self::EXTENSION)
    }
}

impl StoredFile for PackFile {
    const ROOT: &'static str = "packs";
    const EXTENSION: &'static str = ".pack";

    fn parse(name: &str) -> Option<Self> {
        let (directory, name) = name.strip_prefix(Self::ROOT)?.strip_prefix('/')?.rsplit_once('/')?;
        let (id, number) = name.strip_suffix(Self::EXTENSION)?.split_once('-')?;
        let file =
            Self { domain: directory.parse().ok()?, id: id.parse().ok()?, number: number.parse().ok()? };
        // A number has one spelling, or two names would stand for one file.
        (file.number > 0 && file.number.to_string() == number).then_some(file)
    }
}

/// A stored file as it is found in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed<F> {
    /// The file.
    pub file: F,
    /// Its number of bytes.
    pub length: u64,
    /// When it was stored.
    pub stored: Timestamp,
}

/// Bytes of one part of a file that is stored piece by piece; object stores take none below 5 MiB but the last.
const PART_LEN: usize = 8 << 20;

/// Keeps stored files.
#[derive(Debug, Clone)]
pub struct Backend {
    store: Arc<dyn ObjectStore>,
    /// Where the files are, if they are files.
    directory: Option<PathBuf>,
}

impl Backend {
    /// Keeps files in a directory, which is made if it is not there. What has been stored is durable: the file and
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

    /// Keeps files in an object store, which has to make what it has acknowledged durable.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, directory: None }
    }

    /// Stores a file as a whole or not at all. It is durable when this returns.
    pub async fn put<F: StoredFile>(&self, file: &F, bytes: Bytes) -> Result<(), StoreError> {
        self.store.put(&path_of(file), bytes.into()).await.map_err(failed("storing", file))?;
        Ok(())
    }

    /// Stores what `source` gives until it ends, as a whole or not at all, and holds one part of it in memory at a
    /// time. It is durable when this returns. The source is read on the caller's thread.
    pub async fn put_from<F: StoredFile>(
        &self,
        file: &F,
        source: &mut (dyn io::Read + Send),
    ) -> Result<(), StoreError> {
        let upload = self.store.put_multipart(&path_of(file)).await;
        let mut upload = upload.map_err(failed("storing", file))?;
        let sent = send_parts(&mut *upload, file, source).await;
        if sent.is_err() {
            // The error of the upload is the one to report; what is left of it is removed with time.
            let _ = upload.abort().await;
        }
        sent
    }

    /// Reads a whole file.
    pub async fn get<F: StoredFile>(&self, file: &F) -> Result<Bytes, StoreError> {
        let result = self.store.get(&path_of(file)).await.map_err(failed("reading", file))?;
        result.bytes().await.map_err(failed("reading", file))
    }

    /// Reads a part of a file; one that the file does not have in full is an error.
    pub async fn get_range<F: StoredFile>(&self, file: &F, range: Range<u64>) -> Result<Bytes, StoreError> {
        let expected = range.end.saturating_sub(range.start);
        if expected == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.store.get_range(&path_of(file), range).await.map_err(failed("reading", file))?;
        let found = bytes.len() as u64;
        if found == expected {
            Ok(bytes)
        } else {
            Err(StoreError::Short { object: file.to_string(), expected, found })
        }
    }

    /// The same on the caller's thread where the file is one of this machine, for whoever works on the bytes there anyway:
    /// going to another thread and back costs more than a short read.
    pub async fn read_range<F: StoredFile>(&self, file: &F, range: Range<u64>) -> Result<Bytes, StoreError> {
        if let Some(bytes) = self.local_path(file).and_then(|path| read_at(&path, &range).ok()) {
            return Ok(bytes);
        }
        // What went wrong is said as by any other back end.
        self.get_range(file, range).await
    }

    /// Whether files are kept on this machine.
    pub const fn is_local(&self) -> bool {
        self.directory.is_some()
    }

    /// Where a stored file lies, if it is a file of this machine: one that was opened can be read to its end, also
    /// when it is removed meanwhile.
    pub fn local_path<F: StoredFile>(&self, file: &F) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(file.to_string()))
    }

    /// The number of bytes of a file, or nothing if it is not there.
    pub async fn len<F: StoredFile>(&self, file: &F) -> Result<Option<u64>, StoreError> {
        match self.store.head(&path_of(file)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed("examining", file)(source)),
        }
    }

    /// Removes a file; one that is not there counts as removed.
    pub async fn delete<F: StoredFile>(&self, file: &F) -> Result<(), StoreError> {
        match self.store.delete(&path_of(file)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(failed("removing", file)(source)),
        }
    }

    /// Removes what was left of files of this kind whose writing was cut short before `before`; returns how many there
    /// were. An object store leaves nothing behind.
    pub fn remove_unfinished<F: StoredFile>(&self, before: Timestamp) -> Result<usize, StoreError> {
        let Some(directory) = &self.directory else { return Ok(0) };
        unfinished::remove(&directory.join(F::ROOT), F::EXTENSION, before)
    }

    /// All packs in no particular order, with their numbers of bytes. Files that are no packs are passed over.
    pub fn list(&self) -> BoxStream<'static, Result<(PackFile, u64), StoreError>> {
        self.list_all().map_ok(|listed| (listed.file, listed.length)).boxed()
    }

    /// All files of a kind in no particular order. Files whose names are not of that kind are passed over.
    pub fn list_all<F: StoredFile + Send + 'static>(
        &self,
    ) -> BoxStream<'static, Result<Listed<F>, StoreError>> {
        let listing =
            |source| StoreError::Backend { operation: "listing", object: F::ROOT.to_owned(), source };
        self.store
            .list(Some(&Path::from(F::ROOT)))
            .map_err(listing)
            .try_filter_map(|meta| async move {
                let stored = Timestamp(meta.last_modified.timestamp());
                let found = F::parse(meta.location.as_ref());
                Ok(found.map(|file| Listed { file, length: meta.size, stored }))
            })
            .boxed()
    }
}

fn read_at(path: &FilePath, range: &Range<u64>) -> io::Result<Bytes> {
    let length = range.end.checked_sub(range.start).and_then(|length| usize::try_from(length).ok());
    let mut bytes = vec![0; length.ok_or(io::ErrorKind::InvalidInput)?];
    File::open(path)?.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

fn path_of(file: &impl StoredFile) -> Path {
    Path::from(file.to_string())
}

async fn send_parts(
    upload: &mut dyn MultipartUpload,
    file: &impl StoredFile,
    source: &mut (dyn io::Read + Send),
) -> Result<(), StoreError> {
    let mut is_first = true;
    loop {
        let mut part = Vec::with_capacity(PART_LEN);
        let mut limited = io::Read::take(&mut *source, PART_LEN as u64);
        io::Read::read_to_end(&mut limited, &mut part).map_err(|source| StoreError::Io {
            operation: "reading what is to be stored as",
            path: file.to_string(),
            source,
        })?;
        let is_last = part.len() < PART_LEN;
        if is_first || !part.is_empty() {
            upload.put_part(part.into()).await.map_err(failed("storing", file))?;
            is_first = false;
        }
        if is_last {
            upload.complete().await.map_err(failed("storing", file))?;
            return Ok(());
        }
    }
}

fn failed(operation: &'static str, file: &impl StoredFile) -> impl FnOnce(object_store::Error) -> StoreError {
    let object = file.to_string();
    move |source| StoreError::Backend { operation, object, source }
}

#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
mod tests;
