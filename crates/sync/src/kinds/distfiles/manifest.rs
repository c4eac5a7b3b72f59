//! The lines of a Manifest (GLEP 74) that say what a distfile is: `DIST NAME SIZE BLAKE2B HEX SHA512 HEX`.
//!
//! Lines of other kinds are passed over, and so are digests of other names: what counts is that both of these are
//! there, which is what every ebuild tree of today has.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use smart_sync_store::id::{from_hex, to_hex};

/// The longest name of a distfile; file systems hold no longer one.
const NAME_BYTES_MAX: usize = 255;
/// The most lines that are read.
const LINES_MAX: usize = 2_000_000;

/// What a distfile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dist {
    /// The number of its bytes.
    pub size: u64,
    /// BLAKE2b with 64 bytes.
    pub blake2b: [u8; 64],
    /// SHA-512.
    pub sha512: [u8; 64],
}

/// Why a Manifest is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A line that says nothing that can be relied on.
    #[error("line {line} of a Manifest: {reason}")]
    Line {
        /// Its number, from 1 on.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More lines than a Manifest may have.
    #[error("a Manifest has more than {LINES_MAX} lines")]
    TooLong,
}

/// Reads the distfiles of a Manifest. Of one name there may be several lines, if they say the same.
pub fn parse(text: &[u8]) -> Result<BTreeMap<String, Dist>, ManifestError> {
    let mut found = BTreeMap::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if at >= LINES_MAX {
            return Err(ManifestError::TooLong);
        }
        let wrong = |reason| ManifestError::Line { line: at + 1, reason };
        if !line.starts_with(b"DIST ") {
            continue;
        }
        let line = str::from_utf8(line).map_err(|_| wrong("it is not text"))?;
        let (name, dist) = parse_line(line).map_err(wrong)?;
        if found.insert(name.to_owned(), dist).is_some_and(|other| other != dist) {
            return Err(wrong("another line says something else of the same file"));
        }
    }
    Ok(found)
}

/// The names in the lines of a Manifest, whatever else stands there.
pub(super) fn names(text: &[u8]) -> impl Iterator<Item = &str> {
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"DIST "));
    let names = lines.filter_map(|line| str::from_utf8(line).ok()?.split_ascii_whitespace().next());
    names.filter(|name| is_name(name))
}

fn parse_line(line: &str) -> Result<(&str, Dist), &'static str> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let name = words.next().filter(|name| is_name(name)).ok_or("it has no name of a file")?;
    Ok((name, parse_facts(words)?))
}

/// Reads what stands behind the name in such a line, and in those that say the same of other files.
pub(in crate::kinds) fn parse_facts<'a>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<Dist, &'static str> {
    let size = words.next().and_then(|size| size.parse().ok()).ok_or("it has no size")?;
    let (mut blake2b, mut sha512) = (None, None);
    while let Some(algorithm) = words.next() {
        let digest = words.next().ok_or("a digest is missing")?;
        let place = match algorithm {
            "BLAKE2B" => &mut blake2b,
            "SHA512" => &mut sha512,
            _ => continue,
        };
        let digest = from_hex(digest).ok_or("a digest is malformed")?;
        if place.replace(digest).is_some() {
            return Err("it has a digest twice");
        }
    }
    let blake2b = blake2b.ok_or("it has no BLAKE2B")?;
    let sha512 = sha512.ok_or("it has no SHA512")?;
    Ok(Dist { size, blake2b, sha512 })
}

/// Whether this can be the name of a distfile: one name of a file, without white space, as Manifests are split there.
pub fn is_name(name: &str) -> bool {
    let is_plain =
        |character: char| !character.is_whitespace() && !character.is_control() && character != '/';
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !matches!(name, "." | "..")
        && !name.eq_ignore_ascii_case(".git")
        && name.chars().all(is_plain)
}

/// Writes a Manifest of distfiles.
pub fn render<'a>(files: impl IntoIterator<Item = (&'a str, &'a Dist)>) -> Vec<u8> {
    let mut text = String::new();
    for (name, dist) in files {
        let (blake2b, sha512) = (to_hex(&dist.blake2b), to_hex(&dist.sha512));
        // Writing to a string does not fail.
        let _ = writeln!(text, "DIST {name} {} BLAKE2B {blake2b} SHA512 {sha512}", dist.size);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            files in prop::collection::btree_map("[a-zA-Z0-9+._~-]{2,40}", (any::<u64>(), any::<u8>(), any::<u8>()), 0..20)
        ) {
            let files: BTreeMap<String, Dist> = (files.into_iter())
                .filter(|(name, _)| is_name(name))
                .map(|(name, (size, one, other))| (name, Dist { size, blake2b: [one; 64], sha512: [other; 64] }))
                .collect();
            let bytes = render(files.iter().map(|(name, dist)| (&**name, dist)));
            prop_assert_eq!(parse(&bytes), Ok(files));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn lines_of_an_ebuild_tree_are_read_and_others_passed_over() {
        let (one, other) = ("0a".repeat(64), "ff".repeat(64));
        let text = format!(
            "AUX a.patch 3 SHA512 00\nDIST a-1.tar.gz 7 BLAKE2B {one} SHA512 {other}\nDIST a-1.tar.gz 7 SHA512 {other} BLAKE2B {one} MD5 0\n\n"
        );
        let found = parse(text.as_bytes()).unwrap();
        let expected = Dist { size: 7, blake2b: [10; 64], sha512: [255; 64] };
        assert_eq!(found, BTreeMap::from([("a-1.tar.gz".to_owned(), expected)]));
    }

    #[test]
    fn names_are_found_in_lines_that_cannot_be_relied_on() {
        let text = b"AUX a 1\nDIST a-1 x y\nDIST b-1\nDIST \nDIST a/b 1\nDIST \xff 1\nDIST c-1 1 SHA512 00";
        assert_eq!(names(text).collect::<Vec<_>>(), ["a-1", "b-1", "c-1"]);
    }

    #[test]
    fn what_cannot_be_relied_on_is_refused() {
        let hex = "00".repeat(64);
        let long = "n".repeat(256);
        for wrong in [
            "DIST ".to_owned(),
            format!("DIST a/b 1 BLAKE2B {hex} SHA512 {hex}"),
            format!("DIST .. 1 BLAKE2B {hex} SHA512 {hex}"),
            format!("DIST .GIT 1 BLAKE2B {hex} SHA512 {hex}"),
            format!("DIST {long} 1 BLAKE2B {hex} SHA512 {hex}"),
            format!("DIST a -1 BLAKE2B {hex} SHA512 {hex}"),
            format!("DIST a 1 BLAKE2B {hex}"),
            format!("DIST a 1 SHA512 {hex}"),
            format!("DIST a 1 BLAKE2B {hex} SHA512"),
            format!("DIST a 1 BLAKE2B {hex} SHA512 {hex} SHA512 {hex}"),
            format!("DIST a 1 BLAKE2B {} SHA512 {hex}", &hex[1..]),
            format!("DIST a 1 BLAKE2B x{} SHA512 {hex}", &hex[1..]),
            format!("DIST a 1 BLAKE2B A{} SHA512 {hex}", &hex[1..]),
            format!("DIST a 1 BLAKE2B {hex} SHA512 {hex}\nDIST a 2 BLAKE2B {hex} SHA512 {hex}"),
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(parse(b"DIST \xff 1").is_err());
    }
}
