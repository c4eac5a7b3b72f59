//! What an upstream has answered before, so that it only has to say that this is still so.
//!
//! A file of the cache names what it is an answer to and has the digest of its bytes: one that is another, or was damaged,
//! is as good as none.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use smart_sync_store::id::ContentId;

use super::super::transport::Version;
use crate::durable;

/// The documents of one upstream.
#[derive(Debug)]
pub(super) struct Documents {
    directory: PathBuf,
}

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    path: String,
    version: Version,
    digest: String,
}

impl Documents {
    /// Those of the upstream with this URL.
    pub(super) fn of(directory: &Path, url: &str) -> Self {
        Self { directory: directory.join(ContentId::of(url.as_bytes()).to_string()) }
    }

    /// What was answered, if it is still whole.
    pub(super) fn get(&self, path: &str, bytes_max: u64) -> Option<(Version, Vec<u8>)> {
        let file = self.file(path);
        // The head is short.
        if fs::metadata(&file).ok()?.len() > bytes_max.saturating_add(64 << 10) {
            return None;
        }
        let mut bytes = fs::read(file).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
        bytes.drain(..=end);
        let is_whole = head.path == path && head.digest == ContentId::of(&bytes).to_string();
        (is_whole && head.version.is_known()).then_some((head.version, bytes))
    }

    /// Remembers an answer, if its upstream can be asked whether it is still so.
    pub(super) fn put(&self, path: &str, version: &Version, bytes: &[u8]) -> anyhow::Result<()> {
        if !version.is_known() {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("making {}", self.directory.display()))?;
        let (path_in, digest) = (path.to_owned(), ContentId::of(bytes).to_string());
        let head = Head { path: path_in, version: version.clone(), digest };
        let mut file = serde_json::to_vec(&head)?;
        file.push(b'\n');
        file.extend_from_slice(bytes);
        durable::write(&self.file(path), &file)
    }

    /// Forgets what nobody has asked for.
    pub(super) fn keep_only(&self, paths: &HashSet<String>) -> anyhow::Result<()> {
        let kept: HashSet<PathBuf> = paths.iter().map(|path| self.file(path)).collect();
        let Ok(entries) = fs::read_dir(&self.directory) else { return Ok(()) };
        for entry in entries {
            let path = entry?.path();
            if !kept.contains(&path) {
                fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn file(&self, path: &str) -> PathBuf {
        self.directory.join(ContentId::of(path.as_bytes()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_remembered_unless_it_was_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let documents = Documents::of(directory.path(), "http://one.example.org");
        let version = Version { etag: Some("\"a\"".to_owned()), modified: None };
        assert_eq!(documents.get("a/b", 100), None);
        documents.put("a/b", &version, b"two\nlines").unwrap();
        documents.put("c", &version, b"other").unwrap();
        documents.put("d", &Version::default(), b"nothing can be asked with").unwrap();
        assert_eq!(documents.get("a/b", 100), Some((version.clone(), b"two\nlines".to_vec())));
        assert_eq!(documents.get("d", 100), None);
        assert_eq!(Documents::of(directory.path(), "http://two.example.org").get("a/b", 100), None);

        documents.keep_only(&HashSet::from(["a/b".to_owned()])).unwrap();
        assert_eq!(documents.get("c", 100), None);
        let file = documents.file("a/b");
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert_eq!(documents.get("a/b", 100), None);
        fs::write(&file, "{").unwrap();
        assert_eq!(documents.get("a/b", 100), None);
        fs::write(&file, vec![b'x'; 70_000]).unwrap();
        assert_eq!(documents.get("a/b", 100), None);
    }
}
