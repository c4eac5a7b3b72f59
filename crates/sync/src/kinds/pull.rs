//! Files of a tree that come from a mirror of somebody else when they are first asked for.
//!
//! What such a file has to be stands in another tree that is published, so that nobody on the way is believed. A kind
//! says which files of that tree name files, what is asked for by a path, and where a mirror keeps a file. It fetches
//! nothing itself.

use blake2::{Blake2b512, Digest as _};
use sha2::Sha512;

pub use super::distfiles::manifest::Dist as Expected;

/// What a kind knows of files that may be fetched.
pub trait PullThrough: Sync {
    /// Whether the file at a path of the tree of names says what files have to be.
    fn is_list(&self, path: &[u8]) -> bool;

    /// How many names long the paths of such files are.
    fn list_depth(&self) -> usize;

    /// The most bytes of one that are read.
    fn list_bytes_max(&self) -> u64;

    /// The files that it names, and what each has to be.
    fn read_list(&self, bytes: &[u8]) -> Result<Vec<(String, Expected)>, String>;

    /// The names in it, whatever else it says of the files and whether or not that can be relied on: what somebody may need
    /// is not taken away.
    fn names_in_list(&self, bytes: &[u8]) -> Vec<String>;

    /// What is asked for by a path at which nothing stands.
    fn asked(&self, path: &[u8]) -> Option<Asked>;

    /// The file of a mirror that says where it keeps its files, and the most bytes of it that are read.
    fn layout_file(&self) -> (&'static str, u64);

    /// Reads it; None where the mirror has no such file.
    fn read_layout(&self, bytes: Option<&[u8]>) -> Box<dyn Places>;
}

/// Where one mirror keeps its files.
pub trait Places: Send + Sync {
    /// The path of a file, below the URL of the mirror.
    fn path(&self, name: &str, expected: &Expected) -> String;
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The file of this name.
    Name(String),
    /// The file with this SHA-512.
    Content([u8; 64]),
}

/// Compares what comes with what it has to be.
#[derive(Debug, Clone)]
pub struct Judge {
    expected: Expected,
    size: u64,
    blake2b: Blake2b512,
    sha512: Sha512,
}

impl Judge {
    /// Nothing has come yet.
    pub fn new(expected: Expected) -> Self {
        Self { expected, size: 0, blake2b: Blake2b512::new(), sha512: Sha512::new() }
    }

    /// Takes the next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.blake2b.update(bytes);
        self.sha512.update(bytes);
    }

    /// Whether it was all of it and nothing else.
    pub fn is_as_expected(&self) -> bool {
        let Self { expected, size, blake2b, sha512 } = self.clone();
        size == expected.size
            && <[u8; 64]>::from(blake2b.finalize()) == expected.blake2b
            && <[u8; 64]>::from(sha512.finalize()) == expected.sha512
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_size_or_in_one_digest_is_not_what_is_expected() {
        let bytes = b"a distfile";
        let right = Expected {
            size: bytes.len() as u64,
            blake2b: Blake2b512::digest(bytes).into(),
            sha512: Sha512::digest(bytes).into(),
        };
        let judged = |expected: Expected, pieces: &[&[u8]]| {
            let mut judge = Judge::new(expected);
            for piece in pieces {
                judge.take(piece);
            }
            judge.is_as_expected()
        };
        assert!(judged(right, &[b"a dist", b"", b"file"]));
        assert!(!judged(right, &[b"a dist"]) && !judged(right, &[b"a dist", b"file", b"s"]));
        assert!(!judged(Expected { size: 11, ..right }, &[bytes]));
        assert!(!judged(Expected { blake2b: [0; 64], ..right }, &[bytes]));
        assert!(!judged(Expected { sha512: [0; 64], ..right }, &[bytes]));
    }
}
