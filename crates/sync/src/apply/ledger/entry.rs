//! The bytes of the ledger.
//!
//! All entries are one file, in the order of their paths, which is replaced as a whole: so what is about to change is
//! noted for all paths at once, and there is one moment from which on it is.
//!
//! ```text
//! "ssld" 0 0 0 1  entries:number  entry × entries  BLAKE3 of all that: 32
//! entry    = path:prefixed  owner:prefixed  former  placed  pending
//! former   = 0 | thing
//! placed   = 0 | thing
//! pending  = 0 | 1 thing | 2
//! thing    = 1 size:number content:32 metadata | 2 target:prefixed metadata | 3 metadata
//! ```
//!
//! A thing is a file, a symbolic link or a directory. What stood at a path before is never a directory: one that was
//! there is not ours. Pending is what is about to be placed, or 2 for what is about to be given back.

use std::collections::BTreeMap;

use smart_sync_store::codec::{DecodeError, Reader, put_number, put_prefixed};
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::path::PATH_BYTES_MAX;

use crate::apply::checksum::{seal, unseal};
use crate::apply::metadata::Metadata;
use crate::apply::op;

const MAGIC: &[u8; 8] = b"ssld\0\0\0\x01";
/// The largest ledger.
pub(super) const LEDGER_BYTES_MAX: u64 = 256 << 20;
const ENTRIES_MAX: usize = 1_000_000;
const OWNER_BYTES_MAX: usize = 4096 + 64;
const LINK_BYTES_MAX: usize = 4095;

/// A path of the host, from the root of all file systems on, without a link on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPath(Box<[u8]>);

/// Who placed something: a text that names a target, or whatever else places files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(Box<str>);

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A file.
    File {
        /// Number of bytes.
        size: u64,
        /// Its content.
        content: ContentId,
        /// What it has beside that.
        metadata: Metadata,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Box<[u8]>,
        /// Its owner, if that matters.
        metadata: Metadata,
    },
    /// A directory, which is ours only as long as it is there.
    Directory {
        /// Mode and owner.
        metadata: Metadata,
    },
}

/// What is about to be done at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    /// This is placed.
    Place(Thing),
    /// What stood there before is given back.
    GiveBack,
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who placed it.
    pub owner: Owner,
    /// What stood there before, if anything did.
    pub former: Option<Thing>,
    /// What was placed; nothing if that is still pending.
    pub placed: Option<Thing>,
    /// What is about to be done there, if a run was interrupted or is under way.
    pub pending: Option<Pending>,
}

/// All that is known, by path.
pub type Entries = BTreeMap<HostPath, Entry>;

impl HostPath {
    /// Takes an absolute path in which no name is empty, `.` or `..`.
    pub fn new(path: &[u8]) -> Option<Self> {
        let names = path.strip_prefix(b"/")?;
        let is_name = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
        (path.len() <= PATH_BYTES_MAX && names.split(|byte| *byte == b'/').all(is_name))
            .then(|| Self(path.into()))
    }

    /// As it is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it is looked up from the root of all file systems.
    pub(in crate::apply) fn below_root(&self) -> &[u8] {
        &self.0[1..]
    }
}

impl Owner {
    /// Takes a text without control characters.
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = !text.is_empty() && !text.chars().any(char::is_control);
        (is_plain && text.len() <= OWNER_BYTES_MAX).then(|| Self(text.into()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Thing {
    /// As a person calls it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::File { .. } => "a file",
            Self::Symlink { .. } => "a symbolic link",
            Self::Directory { .. } => "a directory",
        }
    }

    pub(in crate::apply) const fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }

    /// The content of a file.
    pub const fn content(&self) -> Option<ContentId> {
        match self {
            Self::File { content, .. } => Some(*content),
            _ => None,
        }
    }
}

impl Entry {
    /// The contents that are needed to give back what stood here, or to end what is under way.
    pub(super) fn contents(&self) -> impl Iterator<Item = ContentId> {
        let pending = match &self.pending {
            Some(Pending::Place(thing)) => Some(thing),
            _ => None,
        };
        self.former.as_ref().into_iter().chain(pending).filter_map(Thing::content)
    }
}

/// The bytes of a ledger.
pub fn encode(entries: &Entries) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    put_number(&mut bytes, entries.len() as u64);
    for (path, entry) in entries {
        put_prefixed(&mut bytes, path.as_bytes());
        put_prefixed(&mut bytes, entry.owner.as_str().as_bytes());
        for thing in [&entry.former, &entry.placed] {
            match thing {
                None => bytes.push(0),
                Some(thing) => put_thing(&mut bytes, thing),
            }
        }
        match &entry.pending {
            None => bytes.push(0),
            Some(Pending::Place(thing)) => {
                bytes.push(1);
                put_thing(&mut bytes, thing);
            }
            Some(Pending::GiveBack) => bytes.push(2),
        }
    }
    seal(bytes)
}

/// Reads the bytes of a ledger.
pub fn decode(bytes: &[u8]) -> Result<Entries, DecodeError> {
    let mut reader = Reader::new(unseal(bytes)?);
    reader.magic("a ledger", MAGIC)?;
    let mut entries = Entries::new();
    for _ in 0..reader.count("entries", ENTRIES_MAX)? {
        let path = HostPath::new(reader.prefixed("path", PATH_BYTES_MAX)?)
            .ok_or_else(|| DecodeError::invalid("a path is not one of a host"))?;
        if entries.last_key_value().is_some_and(|(last, _)| *last >= path) {
            return Err(DecodeError::invalid("the paths are out of order"));
        }
        entries.insert(path, entry(&mut reader)?);
    }
    reader.finish()?;
    Ok(entries)
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    let owner = str::from_utf8(reader.prefixed("owner", OWNER_BYTES_MAX)?).ok().and_then(Owner::new);
    let owner = owner.ok_or_else(|| DecodeError::invalid("an owner is not a plain text"))?;
    let former = optional_thing(reader)?;
    let placed = optional_thing(reader)?;
    let pending = match reader.byte("pending")? {
        0 => None,
        1 => {
            let kind = reader.byte("thing")?;
            Some(Pending::Place(thing(reader, kind)?))
        }
        2 => Some(Pending::GiveBack),
        other => return Err(DecodeError::invalid(format!("{other} is nothing that can be pending"))),
    };
    if former.as_ref().is_some_and(Thing::is_directory) {
        return Err(DecodeError::invalid("a directory is given back"));
    }
    if placed.is_none() && !matches!(pending, Some(Pending::Place(_))) {
        return Err(DecodeError::invalid("nothing was placed"));
    }
    Ok(Entry { owner, former, placed, pending })
}

fn optional_thing(reader: &mut Reader<'_>) -> Result<Option<Thing>, DecodeError> {
    match reader.byte("thing")? {
        0 => Ok(None),
        kind => thing(reader, kind).map(Some),
    }
}

fn thing(reader: &mut Reader<'_>, kind: u8) -> Result<Thing, DecodeError> {
    match kind {
        1 => {
            let size = reader.number("size", u64::MAX)?;
            let content = ContentId::from_bytes(reader.array("content")?);
            Ok(Thing::File { size, content, metadata: op::metadata(reader)? })
        }
        2 => {
            let target = reader.prefixed("link target", LINK_BYTES_MAX)?.into();
            Ok(Thing::Symlink { target, metadata: op::metadata(reader)? })
        }
        3 => Ok(Thing::Directory { metadata: op::metadata(reader)? }),
        other => Err(DecodeError::invalid(format!("{other} is no kind of thing"))),
    }
}

fn put_thing(out: &mut Vec<u8>, thing: &Thing) {
    match thing {
        Thing::File { size, content, metadata } => {
            out.push(1);
            put_number(out, *size);
            out.extend_from_slice(content.as_bytes());
            op::put_metadata(out, metadata);
        }
        Thing::Symlink { target, metadata } => {
            out.push(2);
            put_prefixed(out, target);
            op::put_metadata(out, metadata);
        }
        Thing::Directory { metadata } => {
            out.push(3);
            op::put_metadata(out, metadata);
        }
    }
}
