//! What a package says of itself: values by key, bounded.

use std::collections::BTreeMap;

use super::PackageError;
use super::codec::Codec;
use super::ustar::{PlainFiles, UstarError};

/// The most bytes of the metadata as they stand in the container.
pub(super) const PACKED_BYTES_MAX: u64 = 16 << 20;
/// The most bytes of all values. A package that was made of an installed one lists its files here too.
const BYTES_MAX: u64 = 32 << 20;
/// The most keys.
const KEYS_MAX: usize = 256;
const KEY_BYTES_MAX: usize = 255;
/// The most bytes of the archive around the values.
const ARCHIVE_BYTES_MAX: u64 = BYTES_MAX + (2 * KEYS_MAX as u64 + 22) * 512;

/// The values of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    values: BTreeMap<String, Vec<u8>>,
    bytes: u64,
}

impl Metadata {
    /// Reads the archive `metadata.tar` of a GPKG.
    pub(super) fn read_archive(packed: &[u8], codec: Codec) -> Result<Self, PackageError> {
        let failed = |error| PackageError::Codec { part: "metadata", error };
        let archive = codec.decode(packed, ARCHIVE_BYTES_MAX).map_err(failed)?;
        let malformed = |error: UstarError| PackageError::Metadata(error.to_string());
        let mut files = PlainFiles::new(&archive[..]);
        let mut metadata = Self::default();
        while let Some(file) = files.next_file().map_err(malformed)? {
            let key = file.name.strip_prefix(b"metadata/").ok_or_else(|| {
                let name = String::from_utf8_lossy(&file.name).into_owned();
                PackageError::Metadata(format!("the member {name:?} is not below metadata/"))
            })?;
            let key = key.to_vec();
            // The archive is in memory, so no claim of a size leads to more.
            metadata.insert(&key, files.read_whole().map_err(malformed)?)?;
        }
        Ok(metadata)
    }

    /// Adds a value.
    pub(super) fn insert(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), PackageError> {
        let refuse = |reason: String| Err(PackageError::Metadata(reason));
        let is_key = (1..=KEY_BYTES_MAX).contains(&key.len())
            && key[0] != b'.'
            && key.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(byte));
        let key = String::from_utf8_lossy(key).into_owned();
        if !is_key {
            return refuse(format!("{key:?} is no name of a key"));
        }
        self.bytes += value.len() as u64;
        if self.bytes > BYTES_MAX {
            return refuse(format!("there are more than {BYTES_MAX} bytes"));
        }
        if self.values.contains_key(&key) {
            return refuse(format!("the key {key} comes twice"));
        }
        self.values.insert(key, value);
        if self.values.len() > KEYS_MAX {
            refuse(format!("there are more than {KEYS_MAX} keys"))
        } else {
            Ok(())
        }
    }

    /// The bytes of a value, as they are in the package.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// A value as Portage reads it: its words, with one space between. A value that is not there is empty.
    pub fn text(&self, key: &str) -> Result<String, PackageError> {
        let refuse = |reason: &str| PackageError::Metadata(format!("the value of {key} {reason}"));
        let text = str::from_utf8(self.bytes(key).unwrap_or_default()).map_err(|_| refuse("is no UTF-8"))?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        if text.chars().any(char::is_control) { Err(refuse("holds a control character")) } else { Ok(text) }
    }

    /// The keys and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}
