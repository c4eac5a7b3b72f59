//! Packs as git reads them: objects one after the other, each compressed, none as a difference to another.
//!
//! Differences are left to git, which finds them when it packs anew. The form is that of git's `gitformat-pack`.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha1::{Digest as _, Sha1};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Commit,
    Tree,
    Blob,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Tree => 2,
            Self::Blob => 3,
        }
    }
}

/// Writes a pack.
pub(super) struct PackWriter<W> {
    out: Hashed<W>,
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack of this many objects.
    pub(super) fn new(out: W, objects: u32) -> io::Result<Self> {
        let mut out = Hashed { out, hash: Sha1::new() };
        out.write_all(b"PACK\0\0\0\x02")?;
        out.write_all(&objects.to_be_bytes())?;
        Ok(Self { out })
    }

    /// Writes an object of this size, which `write` writes.
    pub(super) fn object<T>(
        &mut self,
        kind: Kind,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.out.write_all(&object_header(kind, size))?;
        let mut compressed = ZlibEncoder::new(&mut self.out, Compression::fast());
        let written = write(&mut compressed)?;
        compressed.finish()?;
        Ok(written)
    }

    /// Ends the pack.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let hash = self.out.hash.finalize();
        self.out.out.write_all(&hash)?;
        self.out.out.flush()?;
        Ok(self.out.out)
    }
}

/// Four bits of the size beside the kind, and seven in each byte that follows, the lowest first.
fn object_header(kind: Kind, size: u64) -> Vec<u8> {
    let low = |bits: u64, mask: u8| bits.to_le_bytes()[0] & mask;
    let mut bytes = vec![kind.number() << 4 | low(size, 0x0f)];
    let mut rest = size >> 4;
    while rest > 0 {
        if let Some(last) = bytes.last_mut() {
            *last |= 0x80;
        }
        bytes.push(low(rest, 0x7f));
        rest >>= 7;
    }
    bytes
}

struct Hashed<W> {
    out: W,
    hash: Sha1,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, size: u64, expected: &[u8]) {
        assert_eq!(object_header(kind, size), expected, "{kind:?} {size}");
    }

    #[test]
    fn a_header_has_the_kind_and_the_size() {
        check(Kind::Commit, 0, &[0x10]);
        check(Kind::Tree, 15, &[0x2f]);
        check(Kind::Blob, 16, &[0xb0, 0x01]);
        check(Kind::Blob, 2047, &[0xbf, 0x7f]);
        check(Kind::Blob, 2048, &[0xb0, 0x80, 0x01]);
        check(Kind::Blob, 1 << 32, &[0xb0, 0x80, 0x80, 0x80, 0x80, 0x01]);
    }
}
