//! Where bytes wait between two steps: in memory while they are few, then in what the caller provides.
//!
//! Everything is read by offset, so that an archive can be looked at ahead of what is decided about it, and a buffer is
//! always filled to its end: what a decoder is fed with never depends on how a source happens to be read.

use std::io::{self, Read, Seek, SeekFrom, Write};

/// A place for bytes that can be read again: a temporary file, or memory.
pub trait Storage: Read + Write + Seek {}

impl<T: Read + Write + Seek> Storage for T {}

/// Gives empty places for bytes.
pub trait Spools {
    /// A new one.
    fn spool(&mut self) -> io::Result<Box<dyn Storage>>;
}

impl<F: FnMut() -> io::Result<Box<dyn Storage>>> Spools for F {
    fn spool(&mut self) -> io::Result<Box<dyn Storage>> {
        self()
    }
}

/// Spools in memory, for artifacts that are known to be small.
#[derive(Debug, Clone, Copy)]
pub struct InMemory;

impl Spools for InMemory {
    fn spool(&mut self) -> io::Result<Box<dyn Storage>> {
        Ok(Box::new(io::Cursor::new(Vec::new())))
    }
}

/// Bytes that are read at any offset.
pub(super) trait Input {
    /// Fills `buffer` from `offset` on, up to the end of what there is, and says how much of it was filled.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Reads by offset from something with a position.
pub(super) struct Positioned<R> {
    inner: R,
    at: Option<u64>,
}

impl<R: Read + Seek> Positioned<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self { inner, at: None }
    }
}

impl<R: Read + Seek> Input for Positioned<R> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at.take() != Some(offset) {
            self.inner.seek(SeekFrom::Start(offset))?;
        }
        let filled = fill(&mut self.inner, buffer)?;
        self.at = Some(offset + filled as u64);
        Ok(filled)
    }
}

/// Reads until `buffer` is full or nothing is left.
pub(super) fn fill(source: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What is held in memory of one decompressed stream.
const MEMORY_MAX: usize = 2 << 20;

/// A decompressed stream.
pub(super) struct Plain {
    memory: Vec<u8>,
    storage: Option<Positioned<Box<dyn Storage>>>,
    len: u64,
}

impl Plain {
    pub(super) const fn new() -> Self {
        Self { memory: Vec::new(), storage: None, len: 0 }
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Forgets what lies behind `len`; nothing is appended after that.
    pub(super) fn truncate(&mut self, len: u64) {
        self.len = self.len.min(len);
    }

    /// Adds bytes at the end.
    pub(super) fn append(&mut self, bytes: &[u8], spools: &mut dyn Spools) -> io::Result<()> {
        if self.storage.is_none() && self.memory.len() + bytes.len() > MEMORY_MAX {
            let mut storage = spools.spool()?;
            storage.write_all(&self.memory)?;
            self.memory = Vec::new();
            self.storage = Some(Positioned::new(storage));
        }
        match &mut self.storage {
            Some(storage) => storage.inner.write_all(bytes)?,
            None => self.memory.extend_from_slice(bytes),
        }
        self.len += bytes.len() as u64;
        Ok(())
    }
}

impl Input for Plain {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(storage) = &mut self.storage {
            return storage.read_at(offset, buffer);
        }
        let rest =
            usize::try_from(offset).ok().and_then(|offset| self.memory.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// The bytes from `at` on, at most `len` of them and none behind `end`.
pub(super) fn peek(input: &mut dyn Input, at: u64, end: u64, len: usize) -> io::Result<Vec<u8>> {
    let len = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(len);
    let mut bytes = vec![0; len];
    let filled = input.read_at(at, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// A stretch of an input, read from its beginning.
pub(super) struct Section<'a> {
    input: &'a mut dyn Input,
    at: u64,
    end: u64,
}

impl<'a> Section<'a> {
    pub(super) fn new(input: &'a mut dyn Input, start: u64, end: u64) -> Self {
        Self { input, at: start, end }
    }

    /// The number of bytes that are left.
    pub(super) const fn rest(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.rest()).unwrap_or(usize::MAX).min(buffer.len());
        if len == 0 {
            return Ok(0);
        }
        let filled = self.input.read_at(self.at, &mut buffer[..len])?;
        if filled < len {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the artifact is shorter than was said",
            ));
        }
        self.at += filled as u64;
        Ok(filled)
    }
}

/// The size of the pieces in which bytes are handed on.
pub(super) const BLOCK: usize = 64 << 10;

/// Copies `len` bytes and says how many there were, which is fewer only where the source ends.
pub(super) fn copy(source: &mut dyn Read, len: u64, out: &mut dyn Write) -> Result<u64, CopyError> {
    let mut buffer = vec![0; BLOCK.min(usize::try_from(len).unwrap_or(BLOCK))];
    let mut left = len;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let filled = fill(source, &mut buffer[..wanted]).map_err(CopyError::Read)?;
        out.write_all(&buffer[..filled]).map_err(CopyError::Write)?;
        left -= filled as u64;
        if filled < wanted {
            break;
        }
    }
    Ok(len - left)
}

/// Which side of a copy failed.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl From<CopyError> for io::Error {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Read(error) | CopyError::Write(error) => error,
        }
    }
}
