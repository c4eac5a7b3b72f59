//! What a file has to be that comes from an upstream that is followed, and whether it is.

use std::io::Read;

use blake2::Blake2b512;
use sha2::{Digest as _, Sha256, Sha512};
use smart_sync_store::id::ContentId;
use smart_sync_sync::kinds::follow::MustBe;

/// The number of bytes that are hashed at once.
const READ_LEN: usize = 256 << 10;

/// A digest of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sum {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
    /// BLAKE2b with 64 bytes.
    Blake2b([u8; 64]),
}

/// What a file has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Must {
    /// These bytes, which are here already.
    Read(Box<[u8]>),
    /// A file that comes.
    Come {
        /// Its size, where that is known.
        size: Option<u64>,
        /// The most bytes that it may have.
        bytes_max: u64,
        /// Its digests, as far as they are known.
        sums: Vec<Sum>,
    },
}

impl Must {
    /// What a kind says of a file.
    pub(super) fn of(must_be: MustBe) -> Self {
        match must_be {
            MustBe::Read(bytes) => Self::Read(bytes),
            MustBe::This(expected) => Self::Come {
                size: Some(expected.size),
                bytes_max: expected.size,
                sums: vec![Sum::Sha512(expected.sha512), Sum::Blake2b(expected.blake2b)],
            },
            MustBe::Sized(size) => Self::Come { size: Some(size), bytes_max: size, sums: Vec::new() },
            MustBe::AtMost(bytes_max) => Self::Come { size: None, bytes_max, sums: Vec::new() },
        }
    }

    /// What tells it from any other demand.
    pub(super) fn key(&self) -> [u8; 32] {
        *ContentId::of(format!("{self:?}").as_bytes()).as_bytes()
    }

    /// Whether a file of so many bytes can be it.
    pub(super) fn has_size(&self, bytes: u64) -> bool {
        match self {
            Self::Read(expected) => bytes == expected.len() as u64,
            Self::Come { size, bytes_max, .. } => size.map_or(bytes <= *bytes_max, |size| bytes == size),
        }
    }

    /// Whether the bytes themselves say that they are it.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self, Self::Come { sums, .. } if !sums.is_empty())
    }

    /// Whether what is read is it.
    pub(super) fn is(&self, mut input: impl Read) -> std::io::Result<bool> {
        let mut judge = Judge::new(self);
        let mut buffer = vec![0; READ_LEN];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return Ok(judge.verdict()),
                Ok(length) => judge.take(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Compares bytes that go by with what they have to be.
pub(super) struct Judge<'a> {
    must: &'a Must,
    bytes: u64,
    hashers: Vec<Hasher>,
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
    Blake2b(Box<Blake2b512>),
    Content(Box<smart_sync_store::id::ContentIdHasher>),
}

impl<'a> Judge<'a> {
    /// Nothing has gone by yet.
    pub(super) fn new(must: &'a Must) -> Self {
        let hashers = match must {
            Must::Read(_) => vec![Hasher::Content(Box::default())],
            Must::Come { sums, .. } => sums.iter().map(Hasher::for_sum).collect(),
        };
        Self { must, bytes: 0, hashers }
    }

    /// The next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for hasher in &mut self.hashers {
            match hasher {
                Hasher::Sha256(hasher) => hasher.update(bytes),
                Hasher::Sha512(hasher) => hasher.update(bytes),
                Hasher::Blake2b(hasher) => hasher.update(bytes),
                Hasher::Content(hasher) => hasher.update(bytes),
            }
        }
    }

    /// Whether that was all of it and nothing else.
    pub(super) fn verdict(self) -> bool {
        if !self.must.has_size(self.bytes) {
            return false;
        }
        match self.must {
            Must::Read(bytes) => self.hashers.into_iter().all(|hasher| match hasher {
                Hasher::Content(hasher) => hasher.finish() == ContentId::of(bytes),
                _ => false,
            }),
            Must::Come { sums, .. } => self.hashers.into_iter().zip(sums).all(|(hasher, sum)| hasher.is(sum)),
        }
    }
}

impl Hasher {
    fn for_sum(sum: &Sum) -> Self {
        match sum {
            Sum::Sha256(_) => Self::Sha256(Sha256::new()),
            Sum::Sha512(_) => Self::Sha512(Sha512::new()),
            Sum::Blake2b(_) => Self::Blake2b(Box::default()),
        }
    }

    fn is(self, sum: &Sum) -> bool {
        match (self, sum) {
            (Self::Sha256(hasher), Sum::Sha256(sum)) => <[u8; 32]>::from(hasher.finalize()) == *sum,
            (Self::Sha512(hasher), Sum::Sha512(sum)) => <[u8; 64]>::from(hasher.finalize()) == *sum,
            (Self::Blake2b(hasher), Sum::Blake2b(sum)) => <[u8; 64]>::from(hasher.finalize()) == *sum,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_what_it_has_to_be_is_not_it() {
        let come = |size, sums| Must::Come { size, bytes_max: 4, sums };
        let is = |must: &Must, bytes: &[u8]| must.is(bytes).unwrap();
        let sums = || {
            let blake: [u8; 64] = Blake2b512::digest(b"abcd").into();
            vec![
                Sum::Sha256(Sha256::digest(b"abcd").into()),
                Sum::Sha512(Sha512::digest(b"abcd").into()),
                Sum::Blake2b(blake),
            ]
        };
        for must in [come(Some(4), vec![]), come(None, sums()), Must::Read(b"abcd".to_vec().into())] {
            assert!(is(&must, b"abcd") && !is(&must, b"abcde"), "{must:?}");
        }
        assert!(is(&come(None, vec![]), b"abc") && !is(&come(Some(4), vec![]), b"abc"));
        assert!(!is(&come(None, sums()), b"abce") && !is(&Must::Read(b"abcd".to_vec().into()), b"abce"));
        for sum in sums() {
            assert!(!is(&come(Some(4), vec![sum]), b"abce"));
        }
        let keys: std::collections::BTreeSet<_> =
            [come(Some(4), vec![]), come(None, vec![]), come(None, sums())].iter().map(Must::key).collect();
        assert_eq!(keys.len(), 3);
    }
}
