//! The names under which a mirror of distfiles is asked for them (GLEP 75).
//!
//! A tree of distfiles holds each by its plain name, so that a host can use it as its own directory of distfiles. For
//! clients that ask as they ask a mirror, every file has two more names: below the first two digits of a digest of its
//! name, and by its content.

use std::collections::HashMap;

use blake2::{Blake2b512, Digest as _};
use smart_sync_store::id::{from_hex, to_hex};
use smart_sync_store::manifest::TreePath;

use super::super::{Located, Names};
use super::manifest::Dist;

/// Where a client learns of these names.
pub const FILE: &str = "layout.conf";
/// What it reads there.
pub const TEXT: &[u8] = b"[structure]\n0=filename-hash BLAKE2B 8\n1=content-hash SHA512 8:8:8\n";

/// The directory of a file, by its name.
pub fn directory_of(name: &[u8]) -> String {
    to_hex(&Blake2b512::digest(name)[..1])
}

/// What a path means, whatever the tree holds.
pub fn locate(path: &[u8]) -> Option<Located> {
    if path == FILE.as_bytes() {
        return Some(Located::Made(TEXT));
    }
    let slash = path.iter().position(|byte| *byte == b'/')?;
    let (directory, name) = (&path[..slash], &path[slash + 1..]);
    let is_in_place = !name.contains(&b'/') && directory == directory_of(name).as_bytes();
    TreePath::new(name).ok().filter(|_| is_in_place).map(Located::File)
}

/// The digest of the content that a path asks for.
pub fn digest_of(path: &[u8]) -> Option<[u8; 64]> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let [first, second, third, digest] = parts[..] else { return None };
    let is_in_place = [first, second, third].concat() == *digest.get(..6)?;
    from_hex(str::from_utf8(digest).ok()?).filter(|_| is_in_place)
}

/// The names by content of the files of one tree.
#[derive(Debug)]
pub struct LayoutNames {
    by_content: HashMap<[u8; 64], Box<str>>,
}

impl LayoutNames {
    /// The names of these files.
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a Dist)>) -> Self {
        Self { by_content: files.into_iter().map(|(name, dist)| (dist.sha512, name.into())).collect() }
    }
}

impl Names for LayoutNames {
    fn find(&self, path: &[u8]) -> Option<TreePath> {
        TreePath::new(self.by_content.get(&digest_of(path)?)?.as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_a_digest_of_its_name_and_by_its_content() {
        let dist = Dist { size: 1, blake2b: [1; 64], sha512: [0xab; 64] };
        let names = LayoutNames::new([("a+b-1.tar.gz", &dist)]);
        let file = || TreePath::new(&b"a+b-1.tar.gz"[..]).unwrap();
        let directory = directory_of(b"a+b-1.tar.gz");
        assert_eq!(locate(format!("{directory}/a+b-1.tar.gz").as_bytes()), Some(Located::File(file())));
        assert_eq!(locate(b"layout.conf"), Some(Located::Made(TEXT)));
        let digest = "ab".repeat(64);
        assert_eq!(names.find(format!("ab/ab/ab/{digest}").as_bytes()), Some(file()));
        for nothing in [
            "a+b-1.tar.gz".to_owned(),
            "zz/a+b-1.tar.gz".to_owned(),
            format!("{directory}/below/a+b-1.tar.gz"),
            format!("ab/ab/ac/{digest}"),
            format!("ab/ab/ab/{}", "ac".repeat(64)),
            format!("ab/ab/ab/{}", &digest[1..]),
            "ab/ab/ab/ab".to_owned(),
            String::new(),
        ] {
            assert_eq!(locate(nothing.as_bytes()), None, "{nothing}");
            assert_eq!(names.find(nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[test]
    fn the_directory_is_what_b2sum_says_of_the_name() {
        // printf %s foo-1.tar.gz | b2sum
        assert_eq!(directory_of(b"foo-1.tar.gz"), "1b");
    }
}
