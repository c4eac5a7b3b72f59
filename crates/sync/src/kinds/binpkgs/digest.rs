//! The digests of a package, all of them while its bytes go by once.

use std::io::{self, Read};

use blake2::Blake2b512;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha512};

use super::package::{FileDigests, MemberDigests};

/// The number of bytes that are taken at once: few enough that every hash function finds them in the processor.
pub(super) const PIECE_LEN: usize = 64 << 10;

/// A reader that hashes everything that is read from it.
pub(super) struct Hashed<R> {
    input: R,
    md5: Md5,
    sha1: Sha1,
    size: u64,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, md5: Md5::new(), sha1: Sha1::new(), size: 0 }
    }

    /// The digests of what was read.
    pub(super) fn finish(self) -> FileDigests {
        FileDigests { size: self.size, md5: self.md5.finalize().into(), sha1: self.sha1.finalize().into() }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buffer)?;
        self.md5.update(&buffer[..len]);
        self.sha1.update(&buffer[..len]);
        self.size += len as u64;
        Ok(len)
    }
}

/// The digests of one member.
#[derive(Clone, Default)]
pub(super) struct MemberHasher {
    sha512: Sha512,
    blake2b: Blake2b512,
}

impl MemberHasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha512.update(bytes);
        self.blake2b.update(bytes);
    }

    /// What was hashed so far, for a signature that goes on from there.
    pub(super) fn sha512(&self) -> Sha512 {
        self.sha512.clone()
    }

    pub(super) fn finish(self) -> MemberDigests {
        MemberDigests { sha512: self.sha512.finalize().into(), blake2b: self.blake2b.finalize().into() }
    }

    /// The digests of bytes that are at hand.
    pub(super) fn of(bytes: &[u8]) -> MemberDigests {
        let mut hasher = Self::default();
        hasher.update(bytes);
        hasher.finish()
    }
}
