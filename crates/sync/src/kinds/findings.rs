//! What was found out about files by looking into them, so that a file that did not change is not looked into again.
//!
//! Like the [cache of contents](crate::source::cache) it is only a shortcut, and may be deleted at any time.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use smart_sync_store::codec::{DecodeError, Reader, put_number, put_prefixed};
use smart_sync_store::manifest::path::PATH_BYTES_MAX;
use smart_sync_store::manifest::{FileTime, TreePath};

use crate::source::FileStat;
use crate::source::cache::{CacheError, put_stat, read_stat, save_durably};

const MAGIC: &[u8] = b"sskf\x01";
/// The most that is remembered of one file.
const FINDING_BYTES_MAX: usize = 1 << 20;
/// The largest file of findings that is loaded.
const BYTES_MAX: u64 = 1 << 30;

/// What was found in files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    old: HashMap<TreePath, (FileStat, Vec<u8>)>,
    all: HashMap<TreePath, (FileStat, Vec<u8>)>,
}

impl Findings {
    /// Loads what was found; what is missing, damaged or of another version is nothing.
    pub fn load(path: &Path) -> Self {
        let is_small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= BYTES_MAX);
        let bytes = if is_small { fs::read(path).ok() } else { None };
        bytes.and_then(|bytes| Self::decode(&bytes).ok()).unwrap_or_default()
    }

    /// Writes what was used or found since it was loaded, in place of what was there.
    pub fn save(&self, path: &Path) -> Result<(), CacheError> {
        save_durably(path, &self.encode())
    }

    /// What was found in a file with these numbers.
    pub fn get(&mut self, path: &TreePath, stat: &FileStat) -> Option<&[u8]> {
        if let Some(old) = self.old.remove(path).filter(|(old, _)| old == stat) {
            self.all.insert(path.clone(), old);
        }
        self.all.get(path).filter(|(known, _)| known == stat).map(|(_, finding)| &**finding)
    }

    /// Keeps what was not asked for: not all files were looked at.
    pub fn keep_unused(&mut self) {
        for (path, old) in std::mem::take(&mut self.old) {
            self.all.entry(path).or_insert(old);
        }
    }

    /// Remembers what was found in a file at `read_at`, if any later change of it would show.
    pub fn remember(&mut self, path: &TreePath, stat: &FileStat, read_at: FileTime, finding: &[u8]) {
        if stat.is_settled(read_at) && finding.len() <= FINDING_BYTES_MAX {
            self.all.insert(path.clone(), (*stat, finding.to_vec()));
        }
    }

    /// Reads the bytes of a file of findings.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (body, digest) = bytes.split_last_chunk::<32>().ok_or(DecodeError::Truncated("digest"))?;
        if blake3::hash(body) != *digest {
            return Err(DecodeError::invalid("the findings are damaged"));
        }
        let mut reader = Reader::new(body);
        reader.magic("findings in files", MAGIC)?;
        let mut old = HashMap::new();
        for _ in 0..reader.count("number of files", body.len())? {
            let path = TreePath::new(reader.prefixed("path", PATH_BYTES_MAX)?)
                .map_err(|error| DecodeError::invalid(error.to_string()))?;
            let stat = read_stat(&mut reader)?;
            old.insert(path, (stat, reader.prefixed("finding", FINDING_BYTES_MAX)?.to_vec()));
        }
        reader.finish()?;
        Ok(Self { old, all: HashMap::new() })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_number(&mut out, self.all.len() as u64);
        for (path, (stat, finding)) in &self.all {
            put_prefixed(&mut out, path.as_bytes());
            put_stat(&mut out, stat);
            put_prefixed(&mut out, finding);
        }
        let digest = blake3::hash(&out);
        out.extend_from_slice(digest.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(size: u64, seconds: i64) -> FileStat {
        let time = FileTime { seconds, nanoseconds: 7 };
        FileStat { size, modified: time, changed: time, inode: 3, device: (8, 1) }
    }

    #[test]
    fn what_was_found_counts_for_the_same_file_alone_and_what_is_not_used_goes() {
        let now = FileTime { seconds: 100, nanoseconds: 0 };
        let path = |name: &str| TreePath::new(name.as_bytes()).unwrap();
        let mut findings = Findings::default();
        findings.remember(&path("a"), &stat(1, 10), now, b"of a");
        findings.remember(&path("b"), &stat(1, 10), now, b"of b");
        findings.remember(&path("young"), &stat(1, 99), now, b"it may change unseen");
        let mut again = Findings::decode(&findings.encode()).unwrap();
        assert_eq!(again.get(&path("a"), &stat(1, 10)), Some(&b"of a"[..]));
        assert_eq!(again.get(&path("b"), &stat(2, 10)), None);
        assert_eq!(again.get(&path("young"), &stat(1, 99)), None);
        let mut last = Findings::decode(&again.encode()).unwrap();
        assert_eq!(last.get(&path("a"), &stat(1, 10)), Some(&b"of a"[..]));
        assert_eq!(last.get(&path("b"), &stat(1, 10)), None);
    }

    #[test]
    fn damage_is_noticed() {
        let mut bytes = Findings::default().encode();
        assert_eq!(Findings::decode(&bytes), Ok(Findings::default()));
        bytes[4] ^= 1;
        Findings::decode(&bytes).unwrap_err();
        Findings::decode(b"").unwrap_err();
    }
}
