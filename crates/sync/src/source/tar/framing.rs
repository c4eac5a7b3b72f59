//! The members of a tar stream, one after the other.
//!
//! The fields of a header are read by the `tar` crate. The framing is done here, because long names and extended
//! headers are members themselves and their lengths come from outside: each is bounded before it is read.

use std::collections::HashMap;
use std::io::{self, Read};

use smart_sync_store::manifest::{DeviceKind, FileTime, Xattr};
use tar::{EntryType, Header, PaxExtensions};

use super::TarError;

const BLOCK: usize = 512;
/// The most bytes of a long name or of the extended headers of one member.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// How an extended header names an extended attribute.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    Directory,
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    Device { kind: DeviceKind, major: u32, minor: u32 },
    Fifo,
}

/// A member, its name as it stands in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) user: Vec<u8>,
    pub(crate) group: Vec<u8>,
    pub(crate) modified: FileTime,
    pub(crate) xattrs: Vec<Xattr>,
}

/// Reads members and their bodies from a stream.
pub(crate) struct Members<R> {
    input: R,
    /// Where the next byte of the stream is.
    offset: u64,
    /// Where the header of the current member is.
    header_at: u64,
    body_left: u64,
    padding: u64,
}

/// What extended headers said of the member that follows them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: HashMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> Members<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, offset: 0, header_at: 0, body_left: 0, padding: 0 }
    }

    /// Skips what is left of the current member and reads the next header; nothing at the end of the archive.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_body()?;
            self.header_at = self.offset;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|error| self.malformed(error.to_string()))?;
            self.begin_body(size);
            match header.entry_type() {
                EntryType::GNULongName => extensions.name = Some(self.long_name()?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name()?),
                EntryType::XHeader => extensions.records = self.records()?,
                EntryType::XGlobalHeader => {
                    let records = self.records()?;
                    if [&b"path"[..], b"linkpath", b"size"].iter().any(|key| records.contains_key(*key)) {
                        return Err(self.malformed("a global header sets names or sizes"));
                    }
                }
                _ => return self.member(&header, extensions).map(Some),
            }
        }
    }

    /// How many bytes of the current member's body are to come.
    pub(crate) fn body_left(&self) -> u64 {
        self.body_left
    }

    /// Reads the next bytes of the current member's body; none at its end.
    pub(crate) fn read_body(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let len = buffer.len().min(usize::try_from(self.body_left).unwrap_or(usize::MAX));
        if len == 0 {
            return Ok(0);
        }
        self.read_exact(&mut buffer[..len])?;
        self.body_left -= len as u64;
        Ok(len)
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut header = Header::new_old();
        let mut is_after_zeros = false;
        loop {
            if !self.read_block(header.as_mut_bytes())? {
                // Some programs leave out the blocks of zeros at the end; an empty stream is no archive.
                return if self.offset > 0 { Ok(None) } else { Err(self.malformed("the stream is empty")) };
            }
            if header.as_bytes().iter().any(|byte| *byte != 0) {
                break;
            }
            if is_after_zeros {
                self.drain()?;
                return Ok(None);
            }
            is_after_zeros = true;
        }
        let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
        let field: u32 = header.as_bytes()[148..156].iter().map(|byte| u32::from(*byte)).sum();
        let stated = header.cksum().map_err(|error| self.malformed(error.to_string()))?;
        if stated == sum - field + 8 * u32::from(b' ') {
            Ok(Some(header))
        } else {
            Err(self.malformed("the checksum of a header is wrong"))
        }
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member, TarError> {
        let records = extensions.records;
        let text = |key: &[u8]| records.get(key).cloned();
        if records.keys().any(|key| key.starts_with(b"GNU.sparse"))
            || header.entry_type() == EntryType::GNUSparse
        {
            return Err(
                self.malformed("sparse members are not understood; write the archive without --sparse")
            );
        }
        if let Some(size) = text(b"size") {
            let size = number(&size).ok_or_else(|| self.malformed("the size of a member is no number"))?;
            self.begin_body(size);
        }
        let failed = |error: io::Error| self.malformed(error.to_string());
        let link = text(b"linkpath")
            .or(extensions.link)
            .unwrap_or_else(|| header.link_name_bytes().map(|name| name.to_vec()).unwrap_or_default());
        let small = |value: Option<u64>, field: &str| {
            value.and_then(|value| u32::try_from(value).ok()).ok_or_else(|| {
                self.malformed(format!("the {field} of a member is no number that a file system has"))
            })
        };
        let owner = |key: &[u8], of_header: io::Result<u64>, field: &str| match text(key) {
            Some(value) => small(number(&value), field),
            None => small(of_header.ok(), field),
        };
        let device = |kind: DeviceKind| -> Result<MemberKind, TarError> {
            let major = header.device_major().map_err(failed)?.unwrap_or_default();
            let minor = header.device_minor().map_err(failed)?.unwrap_or_default();
            Ok(MemberKind::Device { kind, major, minor })
        };
        let name = text(b"path").or(extensions.name).unwrap_or_else(|| header.path_bytes().to_vec());
        let kind = match header.entry_type() {
            // Before there was a type for directories, a slash behind the name told them from files.
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => MemberKind::Directory,
            EntryType::Regular | EntryType::Continuous => MemberKind::File,
            EntryType::Directory => MemberKind::Directory,
            EntryType::Symlink => MemberKind::Symlink(link),
            EntryType::Link => MemberKind::Hardlink(link),
            EntryType::Char => device(DeviceKind::Character)?,
            EntryType::Block => device(DeviceKind::Block)?,
            EntryType::Fifo => MemberKind::Fifo,
            other => {
                return Err(self
                    .malformed(format!("a member has the unknown type {:?}", char::from(other.as_byte()))));
            }
        };
        let modified = if let Some(value) = text(b"mtime") {
            time(&value).ok_or_else(|| self.malformed("the time of a member is no number"))?
        } else {
            let seconds = header.mtime().map_err(failed)?;
            FileTime { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanoseconds: 0 }
        };
        Ok(Member {
            kind,
            mode: header.mode().map_err(failed)? & 0o7777,
            uid: owner(b"uid", header.uid(), "owner")?,
            gid: owner(b"gid", header.gid(), "group")?,
            user: text(b"uname").unwrap_or_else(|| header.username_bytes().unwrap_or_default().to_vec()),
            group: text(b"gname").unwrap_or_else(|| header.groupname_bytes().unwrap_or_default().to_vec()),
            modified,
            xattrs: xattrs(&records),
            name,
        })
    }

    fn long_name(&mut self) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension()?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn records(&mut self) -> Result<HashMap<Vec<u8>, Vec<u8>>, TarError> {
        let bytes = self.extension()?;
        let mut records = HashMap::new();
        for record in PaxExtensions::new(&bytes) {
            let record = record.map_err(|error| self.malformed(error.to_string()))?;
            records.insert(record.key_bytes().to_vec(), record.value_bytes().to_vec());
        }
        Ok(records)
    }

    /// The body of a member that speaks of the next one.
    fn extension(&mut self) -> Result<Vec<u8>, TarError> {
        if self.body_left > EXTENSION_BYTES_MAX {
            return Err(self
                .malformed(format!("a name or extended header has more than {EXTENSION_BYTES_MAX} bytes")));
        }
        let mut bytes = vec![0; usize::try_from(self.body_left).unwrap_or_default()];
        self.read_body(&mut bytes)?;
        Ok(bytes)
    }

    fn begin_body(&mut self, size: u64) {
        self.body_left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_body(&mut self) -> Result<(), TarError> {
        let mut buffer = vec![0; BLOCK * 16];
        while self.read_body(&mut buffer)? > 0 {}
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or_default();
        self.read_exact(&mut buffer[..padding])
    }

    /// Reads to the end of the stream, so that the program that writes it is not cut off.
    fn drain(&mut self) -> Result<(), TarError> {
        io::copy(&mut self.input, &mut io::sink()).map(|_| ()).map_err(TarError::Read)
    }

    /// Reads one block; false at the end of the stream.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.malformed("the stream ends in the middle of a block")),
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        self.offset += BLOCK as u64;
        Ok(true)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        self.input.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.malformed("the stream ends in the middle of a member"),
            _ => TarError::Read(error),
        })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    fn malformed(&self, reason: impl Into<String>) -> TarError {
        TarError::Malformed { offset: self.header_at, reason: reason.into() }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with a fraction, as extended headers write them.
fn time(text: &[u8]) -> Option<FileTime> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let (seconds, nanoseconds): (i64, u32) = (whole.parse().ok()?, digits.parse().ok()?);
    if !whole.starts_with('-') || nanoseconds == 0 {
        return Some(FileTime { seconds, nanoseconds });
    }
    // Minus one and a half is half a second after minus two.
    Some(FileTime { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds })
}

fn xattrs(records: &HashMap<Vec<u8>, Vec<u8>>) -> Vec<Xattr> {
    let mut xattrs: Vec<Xattr> = records
        .iter()
        .filter_map(|(key, value)| {
            let name = key.strip_prefix(XATTR_PREFIX)?;
            Some(Xattr { name: name.into(), value: value[..].into() })
        })
        .collect();
    xattrs.sort_unstable();
    xattrs
}
