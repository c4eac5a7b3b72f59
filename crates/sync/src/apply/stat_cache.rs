//! What each path of the applied manifest looked like when its content was last known to be right.
//!
//! The file is a table of records of one size, sorted by path, with the paths in one block behind it, so that
//! loading it is one read and one checksum, whatever the number of entries, and a path is found by binary search.
//! It is only a cache: one that is damaged, of another version or of another manifest is ignored, and everything
//! is hashed again.
//!
//! ```text
//! "sssc" 0 0 0 1  manifest:32  taken: seconds i64, nanoseconds u32  count:u64
//! record × count = path offset u64, path length u16, kind u8, flags u8, mode u32, size u64, inode u64,
//!                  modified and changed: seconds i64 × 2, nanoseconds u32 × 2, blob:20, content:32
//! paths          BLAKE3 of all that: 32
//! ```
//!
//! All numbers are little-endian. Flag 1 says that the content was verified in the recorded state, flag 2 that
//! the file is on the file system of the target's root.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::io::{Read, Write};
use std::ops::Range;

use smart_sync_store::id::{BlobId, ContentId, ManifestId};
use smart_sync_store::manifest::entry::{Content, DeviceKind, Entry, FileTime, Node};

use super::error::ApplyError;
use super::metadata::is_executable;
use super::stat::{FileKind, Fingerprint, Stat};
use super::tree_dir::TreeDir;

const MAGIC: &[u8; 8] = b"sssc\0\0\0\x01";
const HEADER: usize = 8 + 32 + 8 + 4 + 8;
const RECORD: usize = 108;
const CHECKSUM: usize = 32;
const FILE: &[u8] = b"stat-cache";
const FILE_NEW: &[u8] = b"stat-cache.new";
const BYTES_MAX: u64 = 16 << 30;

const VERIFIED: u8 = 1;
const ON_ROOT_DEVICE: u8 = 2;

/// What a manifest wants at a path, without its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A file that is not executable; of a `system` manifest, any file.
    File,
    /// An executable file.
    Executable,
    /// A symbolic link.
    Symlink,
    /// A directory that stands for a commit of another repository.
    Submodule,
    /// A directory with an entry of its own.
    Directory,
    /// Another name of a file.
    Hardlink,
    /// A device, pipe or socket.
    Special(FileKind),
}

impl Expected {
    /// What an entry wants.
    pub fn of(entry: &Entry) -> Self {
        match &entry.node {
            Node::File(_) if is_executable(entry) => Self::Executable,
            Node::File(_) => Self::File,
            Node::Symlink(_) => Self::Symlink,
            Node::Directory => Self::Directory,
            Node::Submodule(_) => Self::Submodule,
            Node::Hardlink(_) => Self::Hardlink,
            Node::Device { kind: DeviceKind::Character, .. } => Self::Special(FileKind::CharacterDevice),
            Node::Device { kind: DeviceKind::Block, .. } => Self::Special(FileKind::BlockDevice),
            Node::Fifo => Self::Special(FileKind::Fifo),
            Node::Socket => Self::Special(FileKind::Socket),
        }
    }

    /// What it is on disk.
    pub const fn kind(self) -> FileKind {
        match self {
            Self::File | Self::Executable | Self::Hardlink => FileKind::File,
            Self::Symlink => FileKind::Symlink,
            Self::Submodule | Self::Directory => FileKind::Directory,
            Self::Special(kind) => kind,
        }
    }

    /// Whether the manifest gives it a content.
    pub const fn has_content(self) -> bool {
        matches!(self, Self::File | Self::Executable | Self::Symlink)
    }

    const CODES: [Self; 10] = [
        Self::File,
        Self::Executable,
        Self::Symlink,
        Self::Submodule,
        Self::Directory,
        Self::Hardlink,
        Self::Special(FileKind::CharacterDevice),
        Self::Special(FileKind::BlockDevice),
        Self::Special(FileKind::Fifo),
        Self::Special(FileKind::Socket),
    ];

    fn code(self) -> u8 {
        let at = Self::CODES.iter().position(|known| *known == self);
        u8::try_from(at.expect("every kind has a code")).expect("there are ten codes")
    }
}

/// What the cache says of one path.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it is.
    pub path: &'a [u8],
    /// What the manifest wants there.
    pub expected: Expected,
    /// The content that the manifest wants there; the one of no bytes where it has none.
    pub content: Content,
    /// Permission bits when it was last seen.
    pub mode: u32,
    /// The state in which it was last seen with that content, if it was.
    pub verified: Option<Fingerprint>,
    /// Whether that was on the file system of the target's root.
    pub is_on_root_device: bool,
}

/// The cache of one target, for one manifest.
#[derive(Debug, Clone)]
pub struct StatCache {
    bytes: Vec<u8>,
    count: usize,
}

impl StatCache {
    /// A cache that knows what the manifest wants and nothing of what is on disk.
    pub fn from_entries<E: Borrow<Entry>>(
        manifest: ManifestId,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Self, ApplyError> {
        let mut builder = Builder::default();
        for entry in entries {
            builder.push(entry.borrow(), None)?;
        }
        Ok(builder.finish(manifest, FileTime { seconds: 0, nanoseconds: 0 }))
    }

    /// Reads the cache of a state directory, if there is one that is whole and of this manifest.
    pub fn load(state: &TreeDir, manifest: ManifestId) -> Option<Self> {
        Self::load_from(state, FILE, manifest)
    }

    /// The same from another file.
    pub(super) fn load_from(state: &TreeDir, file: &[u8], manifest: ManifestId) -> Option<Self> {
        let found = Self::read(state, file).and_then(|bytes| Self::decode(bytes, manifest));
        if found.is_none() {
            tracing::debug!(state = %state.path().display(), "no stat cache for the applied manifest");
        }
        found
    }

    /// Takes the bytes of a file as the cache of this manifest; none if they are damaged or of anything else.
    pub fn decode(mut bytes: Vec<u8>, manifest: ManifestId) -> Option<Self> {
        let body = bytes.len().checked_sub(CHECKSUM).filter(|body| *body >= HEADER)?;
        let checksum = blake3::Hasher::new().update_rayon(&bytes[..body]).finalize();
        if bytes[body..] != *checksum.as_bytes() || bytes[..MAGIC.len()] != *MAGIC {
            return None;
        }
        bytes.truncate(body);
        let count = usize::try_from(u64::from_le_bytes(array(&bytes, 52))).ok()?;
        let paths = count.checked_mul(RECORD)?.checked_add(HEADER).filter(|paths| *paths <= body)?;
        let is_sound = bytes[HEADER..paths].chunks_exact(RECORD).all(|record| {
            let end = u64::from_le_bytes(array(record, 0))
                .checked_add(u64::from(u16::from_le_bytes(array(record, 8))));
            end.is_some_and(|end| end <= (body - paths) as u64)
                && usize::from(record[10]) < Expected::CODES.len()
        });
        let cache = Self { bytes, count };
        (is_sound && cache.manifest() == manifest).then_some(cache)
    }

    /// Writes the cache. It need not survive a power loss, only never be half a file.
    pub fn save(&self, state: &TreeDir) -> Result<(), ApplyError> {
        state.remove_file(FILE_NEW)?;
        let mut file = state.create_file(FILE_NEW)?;
        let checksum = blake3::Hasher::new().update_rayon(&self.bytes).finalize();
        state.announce("write stat cache", FILE_NEW)?;
        file.write_all(&self.bytes)
            .and_then(|()| file.write_all(checksum.as_bytes()))
            .map_err(|source| state.failed("writing", FILE_NEW, source))?;
        state.rename(FILE_NEW, FILE).map(|_| ())
    }

    /// Moves the file of a state directory out of the way, if there is one.
    pub(super) fn set_aside(state: &TreeDir, to: &[u8]) -> Result<(), ApplyError> {
        state.rename(FILE, to).map(|_| ())
    }

    /// Moves back what was set aside.
    pub(super) fn take_back(state: &TreeDir, from: &[u8]) -> Result<(), ApplyError> {
        state.rename(from, FILE).map(|_| ())
    }

    /// Forgets what is known of the files on disk.
    pub fn discard(state: &TreeDir) -> Result<(), ApplyError> {
        state.remove_file(FILE).map(|_| ())
    }

    /// The manifest whose paths these are.
    pub fn manifest(&self) -> ManifestId {
        ManifestId::from_bytes(array(&self.bytes, MAGIC.len()))
    }

    /// The number of paths.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The record at a position; positions follow the order of the paths.
    pub fn record(&self, position: usize) -> Record<'_> {
        let record = &self.bytes[HEADER + position * RECORD..][..RECORD];
        let flags = record[11];
        let size = u64::from_le_bytes(array(record, 16));
        let time = |seconds, nanoseconds| FileTime {
            seconds: i64::from_le_bytes(array(record, seconds)),
            nanoseconds: u32::from_le_bytes(array(record, nanoseconds)),
        };
        let content_size = u64::from_le_bytes(array(record, 16));
        Record {
            path: self.path(position),
            expected: Expected::CODES[usize::from(record[10])],
            content: Content {
                size: content_size,
                blob: BlobId::from_bytes(array(record, 56)),
                id: ContentId::from_bytes(array(record, 76)),
            },
            mode: u32::from_le_bytes(array(record, 12)),
            verified: (flags & VERIFIED != 0).then(|| Fingerprint {
                inode: u64::from_le_bytes(array(record, 24)),
                size,
                modified: time(32, 48),
                changed: time(40, 52),
            }),
            is_on_root_device: flags & ON_ROOT_DEVICE != 0,
        }
    }

    /// The path at a position.
    pub fn path(&self, position: usize) -> &[u8] {
        let record = &self.bytes[HEADER + position * RECORD..][..RECORD];
        let offset = usize::try_from(u64::from_le_bytes(array(record, 0))).unwrap_or(usize::MAX);
        let len = usize::from(u16::from_le_bytes(array(record, 8)));
        &self.bytes[HEADER + self.count * RECORD + offset..][..len]
    }

    /// What the manifest wants at a position.
    pub fn expected(&self, position: usize) -> Expected {
        Expected::CODES[usize::from(self.bytes[HEADER + position * RECORD + 10])]
    }

    /// Where a path is.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        let position = self.position(0..self.count, |found| found < path);
        (position < self.count && self.path(position) == path).then_some(position)
    }

    /// The first position of a range whose path is not `before` something; those before it come first.
    pub(super) fn position(&self, range: Range<usize>, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low.midpoint(high);
            if before(self.path(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Whether the content at a position is certainly still what it was verified to be.
    ///
    /// Where files `have_many_names`, the time of the last change of status says nothing: it is that of the last name
    /// that came or went. Their mode is compared instead.
    pub(super) fn is_certain(
        &self,
        record: &Record<'_>,
        now: &Stat,
        root_device: (u32, u32),
        have_many_names: bool,
    ) -> bool {
        record.verified.is_some_and(|verified| {
            let is_same = if have_many_names {
                verified.has_content_of(&now.fingerprint()) && record.mode == now.mode
            } else {
                verified == now.fingerprint()
            };
            is_same
                && verified.is_settled_before(self.taken())
                && record.is_on_root_device == (now.device == root_device)
        })
    }

    /// Notes that the content at a position was verified in this state, or no longer stands there.
    pub(super) fn note(&mut self, position: usize, verified: Option<Seen>) {
        let record = &mut self.bytes[HEADER + position * RECORD..][..RECORD];
        put_state(record, verified);
    }

    /// Sets the time before which all files were looked at.
    pub(super) fn set_taken(&mut self, taken: FileTime) {
        self.bytes[40..48].copy_from_slice(&taken.seconds.to_le_bytes());
        self.bytes[48..52].copy_from_slice(&taken.nanoseconds.to_le_bytes());
    }

    fn taken(&self) -> FileTime {
        FileTime {
            seconds: i64::from_le_bytes(array(&self.bytes, 40)),
            nanoseconds: u32::from_le_bytes(array(&self.bytes, 48)),
        }
    }

    fn read(state: &TreeDir, file: &[u8]) -> Option<Vec<u8>> {
        let file = state.open_file(file).ok()?;
        let len = file.metadata().ok().map(|metadata| metadata.len()).filter(|len| *len <= BYTES_MAX)?;
        let mut bytes = Vec::with_capacity(usize::try_from(len).ok()?);
        file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// A file as it was when its content was known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub fingerprint: Fingerprint,
    /// Its permission bits.
    pub mode: u32,
    /// Whether it is on the file system of the target's root.
    pub is_on_root_device: bool,
}

impl Seen {
    /// A file that was just looked at.
    pub fn new(stat: &Stat, root_device: (u32, u32)) -> Self {
        Self {
            fingerprint: stat.fingerprint(),
            mode: stat.mode,
            is_on_root_device: stat.device == root_device,
        }
    }
}

/// Collects the records of a cache in the order of their paths.
#[derive(Debug, Default)]
pub(super) struct Builder {
    records: Vec<u8>,
    paths: Vec<u8>,
    last: Range<usize>,
}

impl Builder {
    /// Adds the next path. The order is the manifest's, and a manifest out of order is refused.
    pub(super) fn push(&mut self, entry: &Entry, verified: Option<Seen>) -> Result<(), ApplyError> {
        let path = entry.path.as_bytes();
        if !self.records.is_empty() && self.paths[self.last.clone()].cmp(path) != Ordering::Less {
            return Err(ApplyError::Manifest(format!("{} is out of order", entry.path)));
        }
        let offset = self.paths.len();
        self.paths.extend_from_slice(path);
        self.last = offset..self.paths.len();
        let content = entry.content();
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&(offset as u64).to_le_bytes());
        let len = u16::try_from(path.len()).expect("a tree path is at most 4,096 bytes long");
        record[8..10].copy_from_slice(&len.to_le_bytes());
        record[10] = Expected::of(entry).code();
        record[16..24].copy_from_slice(&content.map_or(0, |content| content.size).to_le_bytes());
        if let Some(content) = content {
            record[56..76].copy_from_slice(content.blob.as_bytes());
            record[76..108].copy_from_slice(content.id.as_bytes());
        }
        put_state(&mut record, verified);
        self.records.extend_from_slice(&record);
        Ok(())
    }

    pub(super) fn finish(self, manifest: ManifestId, taken: FileTime) -> StatCache {
        let count = self.records.len() / RECORD;
        let mut bytes = Vec::with_capacity(HEADER + self.records.len() + self.paths.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(manifest.as_bytes());
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&(count as u64).to_le_bytes());
        bytes.extend_from_slice(&self.records);
        bytes.extend_from_slice(&self.paths);
        let mut cache = StatCache { bytes, count };
        cache.set_taken(taken);
        cache
    }
}

fn put_state(record: &mut [u8], verified: Option<Seen>) {
    let Some(seen) = verified else {
        record[11] = 0;
        return;
    };
    let Fingerprint { inode, size, modified, changed } = seen.fingerprint;
    if !Expected::CODES[usize::from(record[10])].has_content() {
        // Where the manifest gives a size, it is that one.
        record[16..24].copy_from_slice(&size.to_le_bytes());
    }
    record[11] = VERIFIED | if seen.is_on_root_device { ON_ROOT_DEVICE } else { 0 };
    record[12..16].copy_from_slice(&seen.mode.to_le_bytes());
    record[24..32].copy_from_slice(&inode.to_le_bytes());
    record[32..40].copy_from_slice(&modified.seconds.to_le_bytes());
    record[40..48].copy_from_slice(&changed.seconds.to_le_bytes());
    record[48..52].copy_from_slice(&modified.nanoseconds.to_le_bytes());
    record[52..56].copy_from_slice(&changed.nanoseconds.to_le_bytes());
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range is N bytes long")
}
