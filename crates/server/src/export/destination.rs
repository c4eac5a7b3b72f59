//! Where an export goes: a directory, or anything that `object_store` speaks to.
//!
//! A file appears as a whole or not at all. In a directory, files become durable together, when it is asked for: an
//! export has many small ones, and only their order among each other matters.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _};
use reqwest::Url;
use rustix::fs::{FlockOperation, flock, syncfs};

/// The name of the file that keeps two exports to one directory apart.
const LOCK: &str = ".export.lock";
/// How deep directories of an export lie within each other.
const DEPTH_MAX: usize = 8;

/// Where an export goes.
pub(crate) struct Destination {
    store: Arc<dyn ObjectStore>,
    /// The directory, if it is one, and its lock.
    directory: Option<(PathBuf, File)>,
    name: String,
}

impl Destination {
    /// Opens a directory, which is made if it is not there, or the URL of an object store. Its credentials come from
    /// the environment, as the store's own programs take them.
    pub(crate) fn open(text: &str) -> anyhow::Result<Self> {
        let url = text.contains("://").then(|| Url::parse(text)).transpose();
        let url = url.with_context(|| format!("{text} is not a URL"))?;
        match url {
            None => Self::directory(FilePath::new(text)),
            Some(url) if url.scheme() == "file" => {
                let path = url.to_file_path().ok().with_context(|| format!("{text} names no directory"))?;
                Self::directory(&path)
            }
            Some(url) => {
                let settings = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
                let (store, prefix) = object_store::parse_url_opts(&url, settings)
                    .with_context(|| format!("this program cannot write to {text}"))?;
                Ok(Self::new(Arc::new(PrefixStore::new(store, prefix)), text))
            }
        }
    }

    /// An object store, which makes durable what it has acknowledged.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, name: &str) -> Self {
        Self { store, directory: None, name: name.to_owned() }
    }

    fn directory(path: &FilePath) -> anyhow::Result<Self> {
        let failed = || format!("opening {}", path.display());
        fs::create_dir_all(path).with_context(failed)?;
        let lock = File::create(path.join(LOCK)).with_context(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("another export to {} is under way", path.display()))?;
        remove_unfinished(path, DEPTH_MAX).with_context(failed)?;
        let store = LocalFileSystem::new_with_prefix(path).with_context(failed)?.with_automatic_cleanup(true);
        let directory = Some((path.to_owned(), lock));
        Ok(Self { store: Arc::new(store), directory, name: path.display().to_string() })
    }

    /// All files with their lengths.
    pub(super) async fn list(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let listed =
            self.store.list(None).map_ok(|meta| (meta.location.to_string(), meta.size)).try_collect();
        listed.await.with_context(|| format!("listing {self}"))
    }

    /// A file, if it is there.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Option<Bytes>> {
        let failed = || format!("reading {path} of {self}");
        match self.store.get(&location(path)?).await {
            Ok(found) => Ok(Some(found.bytes().await.with_context(failed)?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error).with_context(failed),
        }
    }

    /// Writes a file as a whole or not at all.
    pub(super) async fn put(&self, path: &str, bytes: Bytes) -> anyhow::Result<()> {
        let put = self.store.put(&location(path)?, bytes.into()).await;
        put.with_context(|| format!("writing {path} of {self}"))?;
        Ok(())
    }

    /// Removes a file; one that is not there counts as removed.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        match self.store.delete(&location(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("removing {path} of {self}")),
        }
    }

    /// Waits until everything that was written is durable.
    pub(super) fn settle(&self) -> anyhow::Result<()> {
        let Some((path, _)) = &self.directory else { return Ok(()) };
        let settled = File::open(path).and_then(|directory| Ok(syncfs(directory)?));
        settled.with_context(|| format!("making {} durable", path.display()))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Paths of an export are their own escapes: none of their characters is escaped again.
fn location(path: &str) -> anyhow::Result<Path> {
    Path::parse(path).with_context(|| format!("{path} is no path of an export"))
}

/// Removes what an export left that was killed: a file is written beside its place, under its name with `#` and a
/// number. Nobody else writes while the lock is held.
fn remove_unfinished(directory: &FilePath, depth: usize) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            remove_unfinished(&entry.path(), depth - 1)?;
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_unfinished) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_unfinished(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
