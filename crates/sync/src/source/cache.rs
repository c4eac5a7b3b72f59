//! What is remembered of contents, so that what did not change is not read again.
//!
//! The cache is only a shortcut: what it names is asked for at the destination like anything else, so a lost or
//! foreign cache costs time and nothing more. A file is remembered by what the file system says of it, and only if
//! its last change is old enough that another one would show: a write within the same tick of the clock leaves
//! size and times as they are.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use smart_sync_store::codec::{DecodeError, Reader, put_number, put_prefixed, unzigzag, zigzag};
use smart_sync_store::id::{BlobId, ContentId, ManifestId, TreeId};
use smart_sync_store::manifest::path::PATH_BYTES_MAX;
use smart_sync_store::manifest::{Content, FileTime, ManifestSummary, TreePath};

use super::Known;

const MAGIC: &[u8] = b"sspc\x01";
/// The largest cache that is loaded.
const CACHE_BYTES_MAX: u64 = 1 << 30;
/// How much older than the moment of reading a file's last change must be. File systems keep times in steps of up
/// to two seconds.
const SETTLED_SECONDS: i64 = 3;

/// What tells a file that changed from one that did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStat {
    /// Number of bytes.
    pub size: u64,
    /// Last change of the content.
    pub modified: FileTime,
    /// Last change of the inode, which no program can set.
    pub changed: FileTime,
    /// Inode number.
    pub inode: u64,
    /// Device, as major and minor number.
    pub device: (u32, u32),
}

impl FileStat {
    /// Whether any change after `read_at` would show in these numbers.
    pub fn is_settled(&self, read_at: FileTime) -> bool {
        let last = self.modified.max(self.changed);
        last.seconds.saturating_add(SETTLED_SECONDS) < read_at.seconds
    }
}

/// Why the cache could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("writing the cache {}", path.display())]
pub struct CacheError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What is remembered between publications from one place.
#[derive(Debug, Default)]
pub struct ContentCache {
    old_blobs: HashMap<BlobId, Known>,
    blobs: HashMap<BlobId, Known>,
    old_files: HashMap<TreePath, (FileStat, Known)>,
    files: HashMap<TreePath, (FileStat, Known)>,
    old_trees: HashMap<TreeId, ManifestSummary>,
    trees: HashMap<TreeId, ManifestSummary>,
}

impl ContentCache {
    /// Loads a cache; one that is missing, damaged or of another version is empty.
    pub fn load(path: &Path) -> Self {
        let is_small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= CACHE_BYTES_MAX);
        let bytes = if is_small { fs::read(path).ok() } else { None };
        bytes.and_then(|bytes| Self::decode(&bytes).ok()).unwrap_or_default()
    }

    /// Reads the bytes of a cache.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (body, digest) = bytes.split_last_chunk::<32>().ok_or(DecodeError::Truncated("digest"))?;
        if blake3::hash(body) != *digest {
            return Err(DecodeError::invalid("the cache is damaged"));
        }
        let mut reader = Reader::new(body);
        reader.magic("a cache of contents", MAGIC)?;
        let mut cache = Self::default();
        for _ in 0..reader.count("number of blobs", body.len())? {
            let known = read_known(&mut reader)?;
            cache.old_blobs.insert(known.content.blob, known);
        }
        for _ in 0..reader.count("number of files", body.len())? {
            let path = TreePath::new(reader.prefixed("path", PATH_BYTES_MAX)?)
                .map_err(|error| DecodeError::invalid(error.to_string()))?;
            let stat = read_stat(&mut reader)?;
            cache.old_files.insert(path, (stat, read_known(&mut reader)?));
        }
        for _ in 0..reader.count("number of trees", body.len())? {
            let tree = TreeId::from_bytes(reader.array("tree id")?);
            let manifest = ManifestSummary {
                id: ManifestId::from_bytes(reader.array("manifest id")?),
                root_length: reader.number("length of a root page", u64::MAX)?,
                entries: reader.number("number of entries", u64::MAX)?,
                bytes: reader.number("number of bytes", u64::MAX)?,
            };
            cache.old_trees.insert(tree, manifest);
        }
        reader.finish()?;
        Ok(cache)
    }

    /// Writes what was used or found since the cache was loaded, in place of what was there.
    pub fn save(&self, path: &Path) -> Result<(), CacheError> {
        save_durably(path, &self.encode())
    }

    /// Whether files were remembered.
    pub fn knows_files(&self) -> bool {
        !self.old_files.is_empty() || !self.files.is_empty()
    }

    /// What is known of a blob.
    pub fn blob(&mut self, blob: &BlobId) -> Option<Known> {
        if let Some(known) = self.old_blobs.remove(blob) {
            self.blobs.insert(*blob, known);
        }
        self.blobs.get(blob).copied()
    }

    /// What is known of a file with these numbers.
    pub fn file(&mut self, path: &TreePath, stat: &FileStat) -> Option<Known> {
        if let Some(old) = self.old_files.remove(path).filter(|(old, _)| old == stat) {
            self.files.insert(path.clone(), old);
        }
        self.files.get(path).filter(|(old, _)| old == stat).map(|(_, known)| *known)
    }

    /// The manifest of a git tree.
    pub fn tree(&mut self, tree: &TreeId) -> Option<ManifestSummary> {
        if let Some(manifest) = self.old_trees.remove(tree) {
            self.trees.insert(*tree, manifest);
        }
        self.trees.get(tree).copied()
    }

    /// Remembers the manifest of a git tree.
    pub fn remember_tree(&mut self, tree: TreeId, manifest: &ManifestSummary) {
        self.trees.insert(tree, *manifest);
    }

    /// Remembers a blob.
    pub fn remember_blob(&mut self, known: &Known) {
        self.blobs.insert(known.content.blob, *known);
    }

    /// Remembers a file that was read at `read_at`, if any later change of it would show.
    pub fn remember_file(&mut self, path: &TreePath, stat: &FileStat, read_at: FileTime, known: &Known) {
        if stat.is_settled(read_at) {
            self.files.insert(path.clone(), (*stat, *known));
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_number(&mut out, self.blobs.len() as u64);
        for known in self.blobs.values() {
            put_known(&mut out, known);
        }
        put_number(&mut out, self.files.len() as u64);
        for (path, (stat, known)) in &self.files {
            put_prefixed(&mut out, path.as_bytes());
            put_stat(&mut out, stat);
            put_known(&mut out, known);
        }
        put_number(&mut out, self.trees.len() as u64);
        for (tree, manifest) in &self.trees {
            out.extend_from_slice(tree.as_bytes());
            out.extend_from_slice(manifest.id.as_bytes());
            put_number(&mut out, manifest.root_length);
            put_number(&mut out, manifest.entries);
            put_number(&mut out, manifest.bytes);
        }
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }
}

fn put_known(out: &mut Vec<u8>, known: &Known) {
    put_number(out, known.content.size);
    out.extend_from_slice(known.content.blob.as_bytes());
    out.extend_from_slice(known.content.id.as_bytes());
    out.push(u8::from(known.is_lfs_pointer));
}

fn read_known(reader: &mut Reader<'_>) -> Result<Known, DecodeError> {
    let content = Content {
        size: reader.number("size", u64::MAX)?,
        blob: BlobId::from_bytes(reader.array("blob id")?),
        id: ContentId::from_bytes(reader.array("content id")?),
    };
    Ok(Known { content, is_lfs_pointer: reader.number("flags", 1)? == 1 })
}

pub(crate) fn put_stat(out: &mut Vec<u8>, stat: &FileStat) {
    put_number(out, stat.size);
    for time in [stat.modified, stat.changed] {
        put_number(out, zigzag(time.seconds));
        put_number(out, u64::from(time.nanoseconds));
    }
    put_number(out, stat.inode);
    put_number(out, u64::from(stat.device.0));
    put_number(out, u64::from(stat.device.1));
}

pub(crate) fn read_stat(reader: &mut Reader<'_>) -> Result<FileStat, DecodeError> {
    let size = reader.number("size", u64::MAX)?;
    let mut time = || -> Result<FileTime, DecodeError> {
        let seconds = unzigzag(reader.number("seconds", u64::MAX)?);
        Ok(FileTime { seconds, nanoseconds: read_u32(reader, "nanoseconds")? })
    };
    let (modified, changed) = (time()?, time()?);
    let inode = reader.number("inode", u64::MAX)?;
    Ok(FileStat {
        size,
        modified,
        changed,
        inode,
        device: (read_u32(reader, "major number")?, read_u32(reader, "minor number")?),
    })
}

fn read_u32(reader: &mut Reader<'_>, field: &'static str) -> Result<u32, DecodeError> {
    let value = reader.number(field, u64::from(u32::MAX))?;
    u32::try_from(value).map_err(|_| DecodeError::BadNumber(field))
}

/// Replaces a cache by these bytes.
pub(crate) fn save_durably(path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
    write_durably(path, bytes).map_err(|source| CacheError { path: path.to_owned(), source })
}

/// Temporary file, fsync, rename, fsync of the directory.
///
/// The name of the temporary file is always the same, so that what a killed run left is written over. Two runs on one
/// source may then write to it at once: the digest shows what they have mixed, and the cache counts as missing.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let written = (|| {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match fs::rename(&temporary, path) {
            // The other run has put it in place.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => Ok(()),
            renamed => renamed,
        }
    })();
    if written.is_err() {
        // The error of the write is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    fs::File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_sync_store::content::name_content;

    fn known(bytes: &[u8]) -> Known {
        Known { content: name_content(bytes), is_lfs_pointer: false }
    }

    fn stat(seconds: i64) -> FileStat {
        let time = FileTime { seconds, nanoseconds: 5 };
        FileStat { size: 3, modified: time, changed: time, inode: 9, device: (8, 1) }
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_was_remembered_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("below/cache");
        let now = FileTime { seconds: 1_000, nanoseconds: 0 };
        let mut cache = ContentCache::load(&file);
        let pointer = Known { is_lfs_pointer: true, ..known(b"pointer") };
        let empty = known(b"");
        for known in [&pointer, &empty] {
            cache.remember_blob(known);
        }
        let tree = TreeId::from_bytes([7; 20]);
        let manifest = ManifestSummary {
            id: ManifestId::from_bytes([9; 32]),
            root_length: 100,
            entries: 3,
            bytes: 1 << 40,
        };
        cache.remember_tree(tree, &manifest);
        cache.remember_file(&path("a"), &stat(10), now, &known(b"abc"));
        cache.save(&file).unwrap();

        let mut again = ContentCache::load(&file);
        assert_eq!(again.tree(&tree), Some(manifest));
        assert_eq!(again.blob(&pointer.content.blob), Some(pointer));
        assert_eq!(again.blob(&empty.content.blob), Some(empty));
        assert_eq!(again.file(&path("a"), &stat(10)), Some(known(b"abc")));
        assert_eq!(again.file(&path("a"), &stat(11)), None);
        assert_eq!(again.file(&path("b"), &stat(10)), None);
    }

    #[test]
    fn what_was_not_used_again_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cache");
        let mut cache = ContentCache::default();
        cache.remember_blob(&known(b"used"));
        cache.remember_blob(&known(b"unused"));
        cache.save(&file).unwrap();
        let mut cache = ContentCache::load(&file);
        cache.blob(&known(b"used").content.blob);
        cache.save(&file).unwrap();
        let mut cache = ContentCache::load(&file);
        assert!(cache.blob(&known(b"used").content.blob).is_some());
        assert!(cache.blob(&known(b"unused").content.blob).is_none());
    }

    #[test]
    fn a_file_that_might_still_change_unseen_is_not_remembered() {
        let now = FileTime { seconds: 1_000, nanoseconds: 0 };
        let check = |stat: FileStat, expected: bool| assert_eq!(stat.is_settled(now), expected, "{stat:?}");
        check(stat(990), true);
        check(stat(999), false);
        check(stat(1_000), false);
        check(stat(5_000), false);
        check(FileStat { changed: FileTime { seconds: 1_000, nanoseconds: 0 }, ..stat(1) }, false);
        check(stat(i64::MAX), false);
    }

    #[test]
    fn a_damaged_cache_is_no_cache() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cache");
        let mut cache = ContentCache::default();
        cache.remember_blob(&known(b"x"));
        cache.save(&file).unwrap();
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&file, bad).unwrap();
            assert!(ContentCache::load(&file).old_blobs.is_empty());
        }
    }

    #[test]
    fn what_a_killed_run_left_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        fs::write(directory.path().join("cache.new"), "a longer text than what is written now".repeat(10))
            .unwrap();
        ContentCache::default().save(&path).unwrap();
        assert!(ContentCache::decode(&fs::read(&path).unwrap()).is_ok());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
