//! Distfiles as other mirrors have them: which Manifests name them, and where a mirror keeps each (GLEP 75).
//!
//! A mirror says in its `layout.conf` how it names files, and may say it in several ways. The first one that is known
//! here counts, as it does for Portage; a mirror that says nothing has its files side by side.

use std::collections::BTreeMap;

use blake2::{Blake2b512, Digest as _};
use sha2::Sha512;
use smart_sync_store::id::to_hex;

use super::super::pull::{Asked, Expected, Places, PullThrough};
use super::{Distfiles, MANIFEST, layout, manifest};

/// The largest Manifest of one package.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// The largest `layout.conf`.
const LAYOUT_BYTES_MAX: u64 = 64 << 10;
/// The most directories that a file is below.
const CUTS_MAX: usize = 8;
/// The number of hexadecimal digits of a digest.
const DIGITS: usize = 128;

impl PullThrough for Distfiles {
    fn is_list(&self, path: &[u8]) -> bool {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let [category, package, file] = parts[..] else { return false };
        file == MANIFEST.as_bytes() && !category.starts_with(b".") && !package.starts_with(b".")
    }

    fn list_depth(&self) -> usize {
        3
    }

    fn list_bytes_max(&self) -> u64 {
        LIST_BYTES_MAX
    }

    fn read_list(&self, bytes: &[u8]) -> Result<Vec<(String, Expected)>, String> {
        Ok(manifest::parse(bytes).map_err(|error| error.to_string())?.into_iter().collect())
    }

    fn names_in_list(&self, bytes: &[u8]) -> Vec<String> {
        manifest::names(bytes).map(str::to_owned).collect()
    }

    fn asked(&self, path: &[u8]) -> Option<Asked> {
        if let Some(digest) = layout::digest_of(path) {
            return Some(Asked::Content(digest));
        }
        let path = str::from_utf8(path).ok()?;
        let name = match path.split_once('/') {
            None => path,
            Some((directory, name)) => {
                (layout::directory_of(name.as_bytes()) == directory).then_some(name)?
            }
        };
        manifest::is_name(name).then(|| Asked::Name(name.to_owned()))
    }

    fn layout_file(&self) -> (&'static str, u64) {
        (layout::FILE, LAYOUT_BYTES_MAX)
    }

    fn read_layout(&self, bytes: Option<&[u8]>) -> Box<dyn Places> {
        Box::new(bytes.map_or(Structure::Flat, structure_of))
    }
}

/// How a mirror names its files.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Structure {
    /// All in one directory.
    Flat,
    /// Below digits of a digest of the name.
    ByName(Algorithm, Vec<usize>),
    /// By a digest of the content, below digits of it.
    ByContent(Algorithm, Vec<usize>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Blake2b,
    Sha512,
}

impl Places for Structure {
    fn path(&self, name: &str, expected: &Expected) -> String {
        match self {
            Self::Flat => name.to_owned(),
            Self::ByName(algorithm, cuts) => {
                let digest = match algorithm {
                    Algorithm::Blake2b => to_hex(&Blake2b512::digest(name)),
                    Algorithm::Sha512 => to_hex(&Sha512::digest(name)),
                };
                below(&digest, cuts, name)
            }
            Self::ByContent(algorithm, cuts) => {
                let digest = match algorithm {
                    Algorithm::Blake2b => to_hex(&expected.blake2b),
                    Algorithm::Sha512 => to_hex(&expected.sha512),
                };
                below(&digest, cuts, &digest)
            }
        }
    }
}

fn below(digest: &str, cuts: &[usize], name: &str) -> String {
    let mut path = String::new();
    let mut rest = digest;
    for cut in cuts {
        let (directory, after) = rest.split_at((*cut).min(rest.len()));
        path.push_str(directory);
        path.push('/');
        rest = after;
    }
    path.push_str(name);
    path
}

/// The first structure that is known, in the order of their numbers.
fn structure_of(layout: &[u8]) -> Structure {
    let text = String::from_utf8_lossy(layout);
    let mut is_meant = false;
    let mut structures = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_meant = line == "[structure]";
        } else if is_meant
            && let Some((number, value)) = line.split_once('=')
            && let Ok(number) = number.trim().parse::<u32>()
        {
            structures.entry(number).or_insert_with(|| value.trim().to_owned());
        }
    }
    structures.values().find_map(|value| known(value)).unwrap_or(Structure::Flat)
}

fn known(value: &str) -> Option<Structure> {
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    match words[..] {
        ["flat"] => Some(Structure::Flat),
        ["filename-hash", algorithm, cuts] => {
            Some(Structure::ByName(algorithm_of(algorithm)?, cuts_of(cuts)?))
        }
        ["content-hash", algorithm, cuts] => {
            Some(Structure::ByContent(algorithm_of(algorithm)?, cuts_of(cuts)?))
        }
        _ => None,
    }
}

fn algorithm_of(name: &str) -> Option<Algorithm> {
    match name {
        "BLAKE2B" => Some(Algorithm::Blake2b),
        "SHA512" => Some(Algorithm::Sha512),
        _ => None,
    }
}

/// Numbers of bits, four for each digit.
fn cuts_of(text: &str) -> Option<Vec<usize>> {
    let digits = |bits: &str| {
        bits.parse::<usize>().ok().filter(|bits| *bits > 0 && bits.is_multiple_of(4)).map(|bits| bits / 4)
    };
    let cuts: Vec<usize> = text.split(':').take(CUTS_MAX + 1).map(digits).collect::<Option<_>>()?;
    let total = cuts.iter().try_fold(0usize, |total, cut| total.checked_add(*cut))?;
    (cuts.len() <= CUTS_MAX && total < DIGITS).then_some(cuts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXPECTED: Expected = Expected { size: 1, blake2b: [0xab; 64], sha512: [0xcd; 64] };

    #[track_caller]
    fn check(layout: Option<&str>, name: &str, path: &str) {
        let places = Distfiles.read_layout(layout.map(str::as_bytes));
        assert_eq!(places.path(name, &EXPECTED), path, "{layout:?}");
    }

    #[test]
    fn the_first_structure_that_is_known_says_where_a_file_is() {
        check(None, "foo-1.tar.gz", "foo-1.tar.gz");
        check(Some(""), "foo-1.tar.gz", "foo-1.tar.gz");
        check(Some("<html><body>[structure]"), "foo-1.tar.gz", "foo-1.tar.gz");
        check(Some("[structure]\n0=filename-hash BLAKE2B 8\n1=flat\n"), "foo-1.tar.gz", "1b/foo-1.tar.gz");
        check(
            Some("[structure]\r\n1 = flat\r\n0 = filename-hash BLAKE2B 8\r\n"),
            "foo-1.tar.gz",
            "1b/foo-1.tar.gz",
        );
        check(
            Some("[other]\n0=flat\n[structure]\n0=filename-hash BLAKE2B 8\n"),
            "foo-1.tar.gz",
            "1b/foo-1.tar.gz",
        );
        let digest = "cd".repeat(64);
        check(Some("[structure]\n0=content-hash SHA512 8:8:8"), "foo", &format!("cd/cd/cd/{digest}"));
        let digest = "ab".repeat(64);
        check(Some("[structure]\n0=content-hash BLAKE2B 12:4"), "foo", &format!("aba/b/{digest}"));
        for unknown in [
            "filename-hash MD5 8",
            "filename-hash BLAKE2B 7",
            "filename-hash BLAKE2B 0",
            "filename-hash BLAKE2B 8:",
            "filename-hash BLAKE2B 512",
            "filename-hash BLAKE2B 8:8:8:8:8:8:8:8:8",
            "filename-hash BLAKE2B",
            "tree ../..",
        ] {
            check(Some(&format!("[structure]\n0={unknown}\n1=flat\n")), "foo", "foo");
        }
    }

    #[test]
    fn a_path_asks_for_a_name_or_for_a_content() {
        let asked = |path: &str| Distfiles.asked(path.as_bytes());
        let name = || Some(Asked::Name("foo-1.tar.gz".to_owned()));
        assert_eq!(asked("foo-1.tar.gz"), name());
        assert_eq!(asked("1b/foo-1.tar.gz"), name());
        assert_eq!(asked(&format!("ab/ab/ab/{}", "ab".repeat(64))), Some(Asked::Content([0xab; 64])));
        for nothing in ["", "1c/foo-1.tar.gz", "1b/", "..", "a b", "1b/x/foo-1.tar.gz", ".git"] {
            assert_eq!(asked(nothing), None, "{nothing}");
        }
        assert_eq!(Distfiles.asked(b"\xff"), None);
    }

    #[test]
    fn manifests_of_packages_name_distfiles() {
        for (path, is_list) in [
            ("app-test/hello/Manifest", true),
            ("Manifest", false),
            ("app-test/Manifest", false),
            ("app-test/hello/files/Manifest", false),
            (".git/hello/Manifest", false),
            ("app-test/hello/metadata.xml", false),
        ] {
            assert_eq!(Distfiles.is_list(path.as_bytes()), is_list, "{path}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_mirror_says_of_its_layout_a_file_stays_below_it(
            layout in prop::collection::vec(prop::sample::select(&b"[]structure=0123456789:flat hash-contentBLAKE2BSHA512\n"[..]), 0..200)
        ) {
            let path = Distfiles.read_layout(Some(&layout)).path("name", &EXPECTED);
            prop_assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path}");
        }
    }
}
