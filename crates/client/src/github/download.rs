//! Downloading files, each by what it is.
//!
//! A file is asked for by its commit and path where the server has raw files, else by its blob id; never by a branch,
//! which may have moved or not yet arrived at every cache. Bytes are hashed as they come, and only a whole blob with the
//! right id is handed on. Small ones stay in memory, larger ones in a file that has no name.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use sha1::{Digest, Sha1};
use smart_sync_store::id::{BlobId, CommitId};
use smart_sync_store::manifest::path::TreePath;

use super::error::SourceError;
use super::http::{Request, is_plain_json, shown};
use super::tree_id::{blob_hasher, blob_id};
use super::{Api, RemoteEntry, RemoteNode};

/// Up to this size a content stays in memory.
const IN_MEMORY_BYTES_MAX: u64 = 1 << 20;
/// The largest blob that GitHub hands out over its API.
const API_BYTES_MAX: u64 = 100 << 20;
/// The largest answer that is taken for a blob in base64 within JSON.
const JSON_BYTES_MAX: u64 = 64 << 20;

/// A content that has the id it should have.
#[derive(Debug)]
pub struct VerifiedBlob {
    /// What git calls it.
    pub id: BlobId,
    /// Number of bytes.
    pub size: u64,
    content: Held,
}

#[derive(Debug)]
enum Held {
    Memory(Bytes),
    /// At its beginning, and without a name.
    File(File),
}

/// A blob to get, and one of the paths it stands at.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) path: TreePath,
    pub(super) id: BlobId,
    pub(super) size: u64,
}

/// Which way files are had. What does not work once is not tried for each of a thousand files.
#[derive(Debug)]
pub(super) struct Route {
    /// The server has raw files by commit and path, and shows us those of this repository.
    has_raw: AtomicBool,
}

impl VerifiedBlob {
    /// The bytes, from the first to the last.
    pub fn into_reader(self) -> Box<dyn Read + Send> {
        match self.content {
            Held::Memory(bytes) => Box::new(Cursor::new(bytes)),
            Held::File(file) => Box::new(file),
        }
    }
}

impl Default for Route {
    fn default() -> Self {
        Self { has_raw: AtomicBool::new(true) }
    }
}

impl Api {
    /// Downloads blobs, a few at the same time, and hands each to `sink` when it is whole and proven.
    pub(super) async fn download(
        &self,
        commit: CommitId,
        wanted: &[Wanted],
        sink: &mut dyn FnMut(VerifiedBlob) -> io::Result<()>,
    ) -> Result<(), SourceError> {
        let mut running =
            stream::iter(wanted).map(|blob| self.blob(commit, blob)).buffer_unordered(self.connections);
        while let Some(blob) = running.next().await {
            sink(blob?).map_err(SourceError::Sink)?;
        }
        Ok(())
    }

    async fn blob(&self, commit: CommitId, wanted: &Wanted) -> Result<VerifiedBlob, SourceError> {
        if wanted.size == 0 {
            return Taker::new(wanted, &self.spool)?.finish("the listing");
        }
        let by_path = self.address.raw(commit, &wanted.path);
        if let Some(url) = by_path.filter(|_| self.route.has_raw.load(Ordering::Relaxed)) {
            if let Some(blob) = self.http.retrying(async || self.attempt(&url, "*/*", wanted).await).await? {
                return Ok(blob);
            }
            self.route.has_raw.store(false, Ordering::Relaxed);
        }
        let url = self.address.api(&format!("git/blobs/{}", wanted.id));
        if wanted.size > API_BYTES_MAX {
            return Err(SourceError::TooLarge { url: shown(&url), limit: API_BYTES_MAX });
        }
        let accept = "application/vnd.github.raw+json";
        let blob = self.http.retrying(async || self.attempt(&url, accept, wanted).await).await?;
        blob.ok_or_else(|| SourceError::Absent(format!("`{}` (blob {})", wanted.path, wanted.id)))
    }

    /// One try; nothing where there is no such thing.
    async fn attempt(
        &self,
        url: &reqwest::Url,
        accept: &'static str,
        wanted: &Wanted,
    ) -> Result<Option<VerifiedBlob>, SourceError> {
        let request = Request { url: url.clone(), accept, etag: None };
        let Some(mut opened) = self.http.open(&request).await? else { return Ok(None) };
        let mut taker = Taker::new(wanted, &self.spool)?;
        if is_plain_json(&opened.response) && accept != "*/*" {
            // A server that knows only the form in JSON.
            let (mut bytes, limit) =
                (Vec::new(), wanted.size.saturating_mul(2).saturating_add(4096).min(JSON_BYTES_MAX));
            self.http
                .read(&mut opened.response, limit, |part| {
                    bytes.extend_from_slice(part);
                    Ok(())
                })
                .await?;
            taker.take(&unwrap_json(bytes))?;
        } else {
            self.http.read(&mut opened.response, wanted.size, |part| taker.take(part)).await.map_err(
                |error| match error {
                    SourceError::TooLarge { .. } => wrong(wanted, &shown(url)),
                    other => other,
                },
            )?;
        }
        taker.finish(&shown(url)).map(Some)
    }
}

/// Each blob once, however many paths it stands at.
pub(super) fn distinct(entries: &[RemoteEntry]) -> Vec<Wanted> {
    let mut seen = HashSet::new();
    let blobs = entries.iter().filter_map(|entry| match entry.node {
        RemoteNode::Blob { id, size } if seen.insert(id) => {
            Some(Wanted { path: entry.path.clone(), id, size })
        }
        _ => None,
    });
    blobs.collect()
}

/// Takes the bytes of one blob and proves them.
pub(super) struct Taker<'a> {
    wanted: &'a Wanted,
    hasher: Sha1,
    received: u64,
    memory: Vec<u8>,
    file: Option<(File, PathBuf)>,
}

impl<'a> Taker<'a> {
    pub(super) fn new(wanted: &'a Wanted, spool: &Path) -> Result<Self, SourceError> {
        let file = if wanted.size > IN_MEMORY_BYTES_MAX { Some(nameless_file(spool)?) } else { None };
        Ok(Self { wanted, hasher: blob_hasher(wanted.size), received: 0, memory: Vec::new(), file })
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        self.received += bytes.len() as u64;
        if self.received > self.wanted.size {
            // The end refuses it; until then nothing more of it is kept.
            return Ok(());
        }
        self.hasher.update(bytes);
        if let Some((file, path)) = &mut self.file {
            return file.write_all(bytes).map_err(io_error("writing", path));
        }
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn finish(self, from: &str) -> Result<VerifiedBlob, SourceError> {
        let Wanted { id, size, .. } = *self.wanted;
        if self.received != size || blob_id(self.hasher) != id {
            return Err(wrong(self.wanted, from));
        }
        let content = match self.file {
            Some((mut file, path)) => {
                file.rewind().map_err(io_error("reading", &path))?;
                Held::File(file)
            }
            None => Held::Memory(self.memory.into()),
        };
        Ok(VerifiedBlob { id, size, content })
    }
}

fn wrong(wanted: &Wanted, from: &str) -> SourceError {
    SourceError::WrongBlob { url: from.to_owned(), path: wanted.path.to_string(), id: wanted.id }
}

/// A file that vanishes with the process, whatever becomes of it.
fn nameless_file(folder: &Path) -> Result<(File, PathBuf), SourceError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("{}-{number}.part", std::process::id()));
    std::fs::create_dir_all(folder).map_err(io_error("making", folder))?;
    let open = || File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = match open() {
        // Left behind by a process of the same number that was killed between the two calls below.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&path).and_then(|()| open())
        }
        opened => opened,
    };
    let file = file.map_err(io_error("making", &path))?;
    std::fs::remove_file(&path).map_err(io_error("removing", &path))?;
    Ok((file, path))
}

pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    move |source| SourceError::Io { doing, path: path.to_owned(), source }
}

/// The content within a blob in JSON; what is not one is the content itself, such as a JSON file.
fn unwrap_json(bytes: Vec<u8>) -> Vec<u8> {
    #[derive(serde::Deserialize)]
    struct BlobAnswer {
        encoding: String,
        content: String,
    }
    let Ok(answer) = serde_json::from_slice::<BlobAnswer>(&bytes) else { return bytes };
    if answer.encoding != "base64" {
        return bytes;
    }
    let text: String = answer.content.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or(bytes)
}
