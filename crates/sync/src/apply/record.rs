//! The record of what a target holds.
//!
//! It is replaced, whole and durably, at the very end of a run: what it names is what the target is. Beside the
//! manifest it keeps a few bytes of the caller's, so that what belongs together changes together; and, for a target
//! that keeps its versions, the name of the one it is.
//!
//! ```text
//! "ssap" 0 0 0 2  manifest:32  label length:number  label  name length:number  name  BLAKE3 of all that: 32
//! ```
//!
//! A version that has no name has an empty one. Format 1 ends with the label, and is read as well.

use std::io::{Read, Write};

use smart_sync_store::codec::{DecodeError, Reader, put_prefixed};
use smart_sync_store::id::ManifestId;

use super::checksum::{seal, unseal};
use super::error::ApplyError;
use super::tree_dir::TreeDir;
use super::tree_walk::sync_file;
use super::versions::VersionName;

const MAGIC: &[u8; 8] = b"ssap\0\0\0\x02";
const MAGIC_1: &[u8; 8] = b"ssap\0\0\0\x01";
const RECORD: &[u8] = b"applied";
const RECORD_NEW: &[u8] = b"applied.new";
const LABEL_BYTES_MAX: usize = 64 << 10;
const RECORD_BYTES_MAX: u64 = 128 << 10;

/// A version of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    manifest: ManifestId,
    label: Box<[u8]>,
    name: Option<VersionName>,
}

/// How a version is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Without a name.
    One,
    Two,
}

impl Version {
    /// A version that the caller labels as it likes, in at most 64 KiB.
    pub fn new(manifest: ManifestId, label: &[u8]) -> Option<Self> {
        (label.len() <= LABEL_BYTES_MAX).then(|| Self { manifest, label: label.into(), name: None })
    }

    /// The same under the name that it has among the versions of its target.
    #[must_use]
    pub fn named(mut self, name: VersionName) -> Self {
        self.name = Some(name);
        self
    }

    /// Its name among the versions of its target, where that keeps them.
    pub const fn name(&self) -> Option<&VersionName> {
        self.name.as_ref()
    }

    /// The manifest of the tree.
    pub const fn manifest(&self) -> ManifestId {
        self.manifest
    }

    /// What the caller noted of it.
    pub const fn label(&self) -> &[u8] {
        &self.label
    }

    /// The bytes of the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        encode_version(&mut bytes, self);
        seal(bytes)
    }

    /// Reads the bytes of a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let body = unseal(bytes)?;
        let (format, magic) =
            if body.starts_with(MAGIC_1) { (Format::One, MAGIC_1) } else { (Format::Two, MAGIC) };
        let mut reader = Reader::new(body);
        reader.magic("a record of what is applied", magic)?;
        let version = decode_version(&mut reader, format)?;
        reader.finish()?;
        Ok(version)
    }
}

/// Reads what a target holds; none if nothing was applied there yet.
pub(super) fn read(state: &TreeDir) -> Result<Option<Version>, ApplyError> {
    if state.stat(RECORD)?.is_none() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    state
        .open_file(RECORD)?
        .take(RECORD_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|source| state.failed("reading", RECORD, source))?;
    Version::decode(&bytes)
        .map(Some)
        .map_err(|error| ApplyError::DamagedRecord { path: state.show(RECORD), reason: error.to_string() })
}

/// Writes what the target holds from now on.
pub(super) fn write(state: &TreeDir, version: &Version) -> Result<(), ApplyError> {
    state.remove_file(RECORD_NEW)?;
    let mut file = state.create_file(RECORD_NEW)?;
    state.announce("write record", RECORD_NEW)?;
    file.write_all(&version.encode()).map_err(|source| state.failed("writing", RECORD_NEW, source))?;
    sync_file(state, RECORD_NEW, &file)?;
    state.rename(RECORD_NEW, RECORD)?;
    state.sync_directory(b"")
}

pub(super) fn encode_version(out: &mut Vec<u8>, version: &Version) {
    out.extend_from_slice(version.manifest.as_bytes());
    put_prefixed(out, &version.label);
    put_prefixed(out, version.name.as_ref().map_or(&[], |name| name.as_str().as_bytes()));
}

pub(super) fn decode_version(reader: &mut Reader<'_>, format: Format) -> Result<Version, DecodeError> {
    let manifest = ManifestId::from_bytes(reader.array("manifest")?);
    let label = reader.prefixed("label", LABEL_BYTES_MAX)?.into();
    let name = match format {
        Format::One => None,
        Format::Two => match reader.prefixed("name", VersionName::BYTES_MAX)? {
            [] => None,
            name => Some(
                VersionName::parse(name)
                    .ok_or_else(|| DecodeError::invalid("the name is not that of a version"))?,
            ),
        },
    };
    Ok(Version { manifest, label, name })
}
