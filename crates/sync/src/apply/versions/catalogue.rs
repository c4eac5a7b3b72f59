//! What is known of the versions of a target: a record for each, in the state directory.
//!
//! A version is there if its tree is; its record says what it is. The record is written when the target is switched to
//! the version for the first time, before it counts as what the target holds, and goes after the tree has gone.
//!
//! ```text
//! "ssvr" 0 0 0 1  number:number  pinned u8  the version, as in the record of what a target holds, from the manifest on
//!                 BLAKE3 of all that: 32
//! ```

use std::io::{Read, Write};

use smart_sync_store::codec::{DecodeError, Reader, put_number};

use super::name::VersionName;
use crate::apply::checksum::{seal, unseal};
use crate::apply::error::ApplyError;
use crate::apply::record::{self, Format, Version};
use crate::apply::stat::FileKind;
use crate::apply::stat_cache::StatCache;
use crate::apply::tree_dir::TreeDir;
use crate::apply::tree_walk::{join, sync_file};

const MAGIC: &[u8; 8] = b"ssvr\0\0\0\x01";
const RECORDS: &[u8] = b"versions";
const RECORD_NEW: &[u8] = b"version.new";
const CACHES: &[u8] = b"version-caches";
const RECORD_BYTES_MAX: u64 = 128 << 10;
/// Versions of which it is kept what their files looked like.
const CACHES_MAX: usize = 3;

/// A version that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number: versions are counted from 1, and a number is given once.
    pub number: u64,
    /// Whether it stays until somebody says otherwise.
    pub is_pinned: bool,
    /// What it is.
    pub version: Version,
}

impl Kept {
    /// Its name.
    pub fn name(&self) -> &VersionName {
        self.version.name().expect("only versions with a name are kept")
    }

    /// The bytes of its record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        put_number(&mut bytes, self.number);
        bytes.push(u8::from(self.is_pinned));
        record::encode_version(&mut bytes, &self.version);
        seal(bytes)
    }

    /// Reads the bytes of a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let body = unseal(bytes)?;
        let mut reader = Reader::new(body);
        reader.magic("a record of a version", MAGIC)?;
        let number = reader.number("number", u64::MAX)?;
        let is_pinned = match reader.byte("pinned")? {
            0 => false,
            1 => true,
            other => return Err(DecodeError::invalid(format!("pinned is {other}"))),
        };
        let version = record::decode_version(&mut reader, Format::Two)?;
        reader.finish()?;
        if version.name().is_none() {
            return Err(DecodeError::invalid("the version has no name"));
        }
        Ok(Self { number, is_pinned, version })
    }
}

/// All versions that are kept, by their numbers.
pub(in crate::apply) fn list(state: &TreeDir) -> Result<Vec<Kept>, ApplyError> {
    let mut found = Vec::new();
    if state.stat(RECORDS)?.is_none() {
        return Ok(found);
    }
    for (name, kind) in state.list(RECORDS)?.names() {
        if kind == FileKind::File {
            found.push(read(state, &join(RECORDS, name.to_bytes()))?);
        }
    }
    found.sort_unstable_by_key(|kept| kept.number);
    Ok(found)
}

/// Notes a version that a target is switched to. One that is known stays as it is.
pub(in crate::apply) fn note(state: &TreeDir, version: &Version) -> Result<(), ApplyError> {
    let Some(name) = version.name() else { return Ok(()) };
    if state.stat(&path_of(name))?.is_some() {
        return Ok(());
    }
    let number = list(state)?.last().map_or(1, |last| last.number + 1);
    write(state, &Kept { number, is_pinned: false, version: version.clone() })
}

/// Writes a record, whole and durably.
pub(in crate::apply) fn write(state: &TreeDir, kept: &Kept) -> Result<(), ApplyError> {
    state.make_directory(RECORDS, 0o700)?;
    state.remove_file(RECORD_NEW)?;
    let mut file = state.create_file(RECORD_NEW)?;
    state.announce("write record", RECORD_NEW)?;
    file.write_all(&kept.encode()).map_err(|source| state.failed("writing", RECORD_NEW, source))?;
    sync_file(state, RECORD_NEW, &file)?;
    state.rename(RECORD_NEW, &path_of(kept.name()))?;
    state.sync_directory(RECORDS)
}

/// Forgets a version.
pub(in crate::apply) fn forget(state: &TreeDir, name: &VersionName) -> Result<(), ApplyError> {
    state.remove_file(&cache_path(name))?;
    state.remove_file(&path_of(name))?;
    state.sync_directory(RECORDS)
}

/// Keeps what the files of the version that is left look like, and takes out again what those of the next one do, if
/// that was the current one before.
pub(in crate::apply) fn exchange_caches(
    state: &TreeDir,
    left: Option<&VersionName>,
    next: &VersionName,
) -> Result<(), ApplyError> {
    state.make_directory(CACHES, 0o700)?;
    if let Some(left) = left.filter(|left| *left != next) {
        StatCache::set_aside(state, &cache_path(left))?;
    }
    if state.stat(&cache_path(next))?.is_some() {
        StatCache::take_back(state, &cache_path(next))?;
    }
    let mut names: Vec<_> = list(state)?.into_iter().rev().map(|kept| cache_path(kept.name())).collect();
    names.truncate(CACHES_MAX);
    for (name, _) in state.list(CACHES)?.names() {
        let path = join(CACHES, name.to_bytes());
        if !names.contains(&path) {
            state.remove_file(&path)?;
        }
    }
    Ok(())
}

/// What the files of a version that is not the current one look like, if that is kept.
pub(in crate::apply) fn cache(state: &TreeDir, kept: &Kept) -> Option<StatCache> {
    StatCache::load_from(state, &cache_path(kept.name()), kept.version.manifest())
}

fn read(state: &TreeDir, path: &[u8]) -> Result<Kept, ApplyError> {
    let mut bytes = Vec::new();
    state
        .open_file(path)?
        .take(RECORD_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|source| state.failed("reading", path, source))?;
    Kept::decode(&bytes)
        .map_err(|error| ApplyError::DamagedRecord { path: state.show(path), reason: error.to_string() })
}

fn path_of(name: &VersionName) -> Vec<u8> {
    join(RECORDS, name.as_bytes())
}

fn cache_path(name: &VersionName) -> Vec<u8> {
    join(CACHES, name.as_bytes())
}
