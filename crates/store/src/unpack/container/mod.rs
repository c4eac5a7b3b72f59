//! How entries of archives lie, read from the fixed part of their headers.
//!
//! The same function tells the walk where a member begins and the rebuild how much of it to copy, so that a program
//! need not repeat what the headers say. A header that is not plainly right has no layout, and the archive ends there.

pub(super) mod columns;
pub(super) mod cpio;
pub(super) mod kernel;
pub(super) mod tar;
pub(super) mod zip;

/// Where the payload of an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// It describes the entry after it.
    Frames,
    /// It is a file.
    Member,
    /// It is a file that is deflated.
    Deflated,
}

/// An entry of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The length of the header, its variable part included.
    pub header: u64,
    /// What follows it.
    pub payload: Payload,
    /// The number of bytes of the payload once it is plain.
    pub plain: u64,
    /// The number of bytes of the payload as it lies there.
    pub stored: u64,
    /// The number of bytes up to the next entry.
    pub padding: u64,
}

impl Layout {
    /// The number of bytes of the entry, if they can be counted.
    pub(super) const fn len(&self) -> Option<u64> {
        match self.header.checked_add(self.stored) {
            Some(len) => len.checked_add(self.padding),
            None => None,
        }
    }
}

/// The archives whose entries a program counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archive {
    Tar,
    Cpio,
    Zip,
}

impl Archive {
    /// The length of the fixed part of a header.
    pub(super) const fn header_len(self) -> usize {
        match self {
            Self::Tar => tar::HEADER_LEN,
            Self::Cpio => cpio::HEADER_LEN,
            Self::Zip => zip::HEADER_LEN,
        }
    }

    /// The layout that the fixed part of a header tells of.
    pub(super) fn layout(self, header: &[u8]) -> Option<Layout> {
        match self {
            Self::Tar => tar::layout(header.first_chunk()?),
            Self::Cpio => cpio::layout(header.first_chunk()?),
            Self::Zip => zip::layout(header.first_chunk()?),
        }
    }
}

/// The number of bytes from `len` to the next multiple of `unit`.
const fn padding(len: u64, unit: u64) -> u64 {
    (unit - len % unit) % unit
}
