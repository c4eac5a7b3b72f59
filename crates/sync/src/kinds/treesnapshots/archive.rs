//! Looking into a snapshot: that it is a whole archive, and of which time its tree is.
//!
//! Only headers are looked at, and one file: `*/metadata/timestamp.x`, which a client reads to know whether the snapshot
//! is newer than what it has. The archive is read to its end all the same, which is where a compressed file says that
//! it is whole.

use std::io::{self, BufRead, Read};

use crate::kinds::binpkgs::codec::{Codec, CodecError};

/// The block that archives consist of.
const BLOCK: usize = 512;
/// The most that a snapshot decompresses to.
const BYTES_MAX: u64 = 16 << 30;
/// The most entries of a snapshot.
const ENTRIES_MAX: u64 = 4_000_000;
/// The end of the name of the file that says the time.
const TIMESTAMP: &[u8] = b"/metadata/timestamp.x";
/// The longest such file.
const TIMESTAMP_BYTES_MAX: u64 = 256;

/// Why a file is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not compressed as its name says, or not whole.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// What is compressed is no archive of tar.
    #[error("the archive is malformed at byte {at}: {reason}")]
    Tar {
        /// Where.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// It does not say of which time it is.
    #[error("it holds no metadata/timestamp.x below a directory, or one that is no number")]
    Timeless,
}

/// Reads an archive to its end: the time of its tree, in seconds since 1970.
pub fn timestamp(input: impl BufRead, codec: Codec) -> Result<u64, ArchiveError> {
    let mut archive = Archive { input: codec.decoder(input)?, codec, at: 0 };
    let mut found = None;
    for _ in 0..ENTRIES_MAX {
        let header = archive.header()?;
        if header.iter().all(|byte| *byte == 0) {
            archive.rest()?;
            return found.ok_or(ArchiveError::Timeless);
        }
        let size = archive.size(&header)?;
        let is_file = matches!(header[156], b'0' | 0);
        if is_file && field(&header[..100]).ends_with(TIMESTAMP) && field(&header[345..500]).is_empty() {
            let text = archive.content(size, TIMESTAMP_BYTES_MAX)?;
            let first = text.split(u8::is_ascii_whitespace).next().unwrap_or_default();
            let number = str::from_utf8(first).ok().and_then(|first| first.parse().ok());
            // Clients read all of them, and one that says something else would be misleading.
            if number.is_none() || found.is_some() {
                return Err(ArchiveError::Timeless);
            }
            found = number;
        } else {
            archive.skip(padded(size))?;
        }
    }
    Err(archive.wrong("it has too many entries"))
}

/// The text of a field, up to the NUL that ends it.
fn field(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

const fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64)
}

struct Archive<'a> {
    input: Box<dyn Read + 'a>,
    codec: Codec,
    at: u64,
}

impl Archive<'_> {
    const fn wrong(&self, reason: &'static str) -> ArchiveError {
        ArchiveError::Tar { at: self.at, reason }
    }

    fn failed(&self, error: io::Error) -> ArchiveError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.wrong("it is cut short");
        }
        ArchiveError::Codec(CodecError::Decode { codec: self.codec, error })
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        self.input.read_exact(bytes).map_err(|error| self.failed(error))?;
        self.at += bytes.len() as u64;
        if self.at > BYTES_MAX { Err(CodecError::TooLarge { limit: BYTES_MAX }.into()) } else { Ok(()) }
    }

    fn header(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        let mut header = [0; BLOCK];
        self.take(&mut header)?;
        Ok(header)
    }

    /// The size of an entry, of a header whose checksum is right.
    fn size(&self, header: &[u8; BLOCK]) -> Result<u64, ArchiveError> {
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte }))
            .sum();
        if octal(&header[148..156]) != Some(sum) {
            return Err(self.wrong("the checksum of a header is wrong"));
        }
        // Files beyond 8 GiB, which have another form, are in no tree of ebuilds.
        octal(&header[124..136]).ok_or_else(|| self.wrong("a size is no number"))
    }

    fn content(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > limit {
            return Err(ArchiveError::Timeless);
        }
        let mut content = vec![0; usize::try_from(padded(size)).map_err(|_| ArchiveError::Timeless)?];
        self.take(&mut content)?;
        content.truncate(usize::try_from(size).unwrap_or(0));
        Ok(content)
    }

    fn skip(&mut self, size: u64) -> Result<(), ArchiveError> {
        let mut buffer = [0; 16 * BLOCK];
        let mut left = size;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.take(&mut buffer[..length])?;
            left -= length as u64;
        }
        Ok(())
    }

    /// What stands behind the end is padding.
    fn rest(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = [0; 16 * BLOCK];
        loop {
            match self.input.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) if buffer[..read].iter().any(|byte| *byte != 0) => {
                    return Err(self.wrong("something stands behind its end"));
                }
                Ok(read) => self.at += read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
            if self.at > BYTES_MAX {
                return Err(CodecError::TooLarge { limit: BYTES_MAX }.into());
            }
        }
    }
}

/// An octal number, between white space and NULs.
fn octal(bytes: &[u8]) -> Option<u64> {
    let text = str::from_utf8(bytes).ok()?.trim_matches([' ', '\0']);
    let is_octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u64::from_str_radix(text, 8).ok().filter(|_| is_octal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_snapshot_is_read_or_refused_wherever_it_is_damaged(at in 0usize..3584, byte: u8, length in 0usize..3584) {
            let mut bytes = [entry("a/b", &[1; 700]), entry("a/metadata/timestamp.x", b"7"), vec![0; 2 * BLOCK]].concat();
            prop_assert_eq!(timestamp(&bytes[..], Codec::Plain).ok(), Some(7));
            bytes[at] = byte;
            let _ = timestamp(&bytes[..], Codec::Plain);
            // What is cut short is noticed up to the first block of the end.
            if length < bytes.len() - 2 * BLOCK {
                prop_assert!(timestamp(&bytes[..length], Codec::Plain).is_err());
            }
        }
    }

    fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).expect("a short name");
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    #[track_caller]
    fn check(parts: &[&[u8]], expected: Result<u64, &str>) {
        let bytes = parts.concat();
        let found = timestamp(&bytes[..], Codec::Plain).map_err(|error| error.to_string());
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            _ => panic!("{found:?}"),
        }
    }

    #[test]
    fn the_time_of_a_tree_is_found_and_what_is_no_archive_is_refused() {
        let time = entry("gentoo-20261130/metadata/timestamp.x", b"1796000000 Mon, 30 Nov\n");
        let (other, end) = (entry("gentoo-20261130/a", &[7; 1000]), vec![0; 2 * BLOCK]);
        check(&[&other, &time, &other, &end], Ok(1_796_000_000));
        check(&[&other, &time, &other], Err("it is cut short"));
        check(&[&other, &time[..600]], Err("it is cut short"));
        check(&[&other, &end], Err("no metadata/timestamp.x"));
        check(&[&time, &time, &end], Err("no metadata/timestamp.x"));
        check(&[&entry("metadata/timestamp.x", b"1"), &end], Err("no metadata/timestamp.x"));
        check(&[&entry("a/metadata/timestamp.x", b"-1"), &end], Err("no metadata/timestamp.x"));
        check(&[&entry("a/metadata/timestamp.x", &[b'1'; 300]), &end], Err("no metadata/timestamp.x"));
        check(&[&time, &end, b"more"], Err("something stands behind its end"));
        check(&[b"<html>not found</html>"], Err("it is cut short"));
        check(&[&[b'<'; BLOCK]], Err("the checksum of a header is wrong"));
        check(&[], Err("it is cut short"));
    }

    #[test]
    fn what_is_not_compressed_as_it_should_be_is_refused() {
        let html = b"<html><body>404 not found</body></html>".repeat(100);
        for codec in [Codec::Xz, Codec::Bzip2] {
            assert!(matches!(timestamp(&html[..], codec), Err(ArchiveError::Codec(_))), "{codec}");
        }
    }
}
