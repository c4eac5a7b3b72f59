//! The texts that say what files are: `.DIGESTS`, and `.sha256` as `sha256sum` writes it.
//!
//! A line `HEX  NAME` for each digest, and before them, where it is not always the same, `# ALGORITHM HASH`. Digests of
//! other algorithms are passed over.

use std::collections::BTreeMap;

use smart_sync_store::id::from_hex;

/// The most files that a text is about.
const FILES_MAX: usize = 100;
/// The most lines.
const LINES_MAX: usize = 2000;

/// A hash function that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// BLAKE2b with 64 bytes.
    Blake2b,
    /// SHA-512.
    Sha512,
    /// SHA-256.
    Sha256,
}

/// What is said of one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileDigests {
    /// BLAKE2b with 64 bytes.
    pub blake2b: Option<[u8; 64]>,
    /// SHA-512.
    pub sha512: Option<[u8; 64]>,
    /// SHA-256.
    pub sha256: Option<[u8; 32]>,
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestsError {
    /// A line that says nothing that can be relied on.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1 on.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It is about more files than it may be.
    #[error("it is about more than {FILES_MAX} files")]
    TooLong,
}

/// Reads a text without its signature; `always` is the algorithm of lines before which none is named.
pub fn parse(text: &str, always: Option<Algorithm>) -> Result<BTreeMap<String, FileDigests>, DigestsError> {
    let mut found: BTreeMap<String, FileDigests> = BTreeMap::new();
    // None where digests are passed over.
    let mut algorithm = always;
    let mut is_named = always.is_some();
    for (at, line) in text.split('\n').enumerate() {
        let wrong = |reason| DigestsError::Line { line: at + 1, reason };
        if at == LINES_MAX {
            return Err(wrong("there are too many lines"));
        }
        if let Some(name) = line.strip_prefix("# ").and_then(|line| line.strip_suffix(" HASH")) {
            (algorithm, is_named) = (algorithm_of(name), true);
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !is_named {
            return Err(wrong("no algorithm was named before it"));
        }
        let (digest, name) = line.split_once("  ").ok_or_else(|| wrong("it is no digest and a name"))?;
        let is_plain =
            |character: char| !character.is_whitespace() && !character.is_control() && character != '/';
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            return Err(wrong("it does not name a file"));
        }
        let Some(algorithm) = algorithm else { continue };
        if !found.contains_key(name) && found.len() == FILES_MAX {
            return Err(DigestsError::TooLong);
        }
        let digests = found.entry(name.to_owned()).or_default();
        let is_new = match algorithm {
            Algorithm::Blake2b => put(&mut digests.blake2b, digest),
            Algorithm::Sha512 => put(&mut digests.sha512, digest),
            Algorithm::Sha256 => put(&mut digests.sha256, digest),
        };
        match is_new {
            Some(true) => {}
            Some(false) => return Err(wrong("another line says something else of the same file")),
            None => return Err(wrong("a digest is malformed")),
        }
    }
    Ok(found)
}

fn algorithm_of(name: &str) -> Option<Algorithm> {
    match name {
        "BLAKE2B" => Some(Algorithm::Blake2b),
        "SHA512" => Some(Algorithm::Sha512),
        "SHA256" => Some(Algorithm::Sha256),
        _ => None,
    }
}

/// Notes a digest; whether nothing else was said before. None where it is malformed.
fn put<const N: usize>(place: &mut Option<[u8; N]>, digest: &str) -> Option<bool> {
    let digest = from_hex(digest)?;
    Some(place.replace(digest).is_none_or(|before| before == digest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_file_has_the_digests_that_stand_below_the_name_of_their_algorithm() {
        let (one, other, short) = ("0a".repeat(64), "ff".repeat(64), "1b".repeat(32));
        let text = format!(
            "# BLAKE2B HASH\n{one}  a.tar.xz\n# SHA512 HASH\n{other}  a.tar.xz\n# WHIRLPOOL HASH\n00  a.tar.xz\n# SHA512 HASH\n{one}  a.tar.xz.CONTENTS.gz\n"
        );
        let found = parse(&text, None).expect("digests");
        let medium = FileDigests { blake2b: Some([10; 64]), sha512: Some([255; 64]), sha256: None };
        let contents = FileDigests { sha512: Some([10; 64]), ..FileDigests::default() };
        let expected = [("a.tar.xz", medium), ("a.tar.xz.CONTENTS.gz", contents)]
            .map(|(name, of)| (name.to_owned(), of));
        assert_eq!(found, BTreeMap::from(expected));
        let found = parse(&format!("{short}  a.iso\n"), Some(Algorithm::Sha256)).expect("a digest");
        assert_eq!(found["a.iso"].sha256, Some([27; 32]));
        assert_eq!(parse("", None), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_cannot_be_relied_on_is_refused() {
        let hex = "0a".repeat(64);
        for wrong in [
            format!("{hex}  a\n"),
            format!("# SHA512 HASH\n{hex} a\n"),
            format!("# SHA512 HASH\n{hex}   a\n"),
            format!("# SHA512 HASH\n{hex}  \n"),
            format!("# SHA512 HASH\n{hex}  a/b\n"),
            format!("# SHA512 HASH\n{hex}  ..\n"),
            format!("# SHA512 HASH\n{hex}  a b\n"),
            format!("# SHA512 HASH\n{}  a\n", &hex[2..]),
            format!("# SHA512 HASH\n{}  a\n", hex.to_uppercase()),
            format!("# SHA512 HASH\n{hex}  a\n{}  a\n", "0b".repeat(64)),
            format!("# WHIRLPOOL HASH\n{hex}  ../a\n"),
            "\n".repeat(LINES_MAX + 1),
        ] {
            assert!(parse(&wrong, None).is_err(), "{wrong:?}");
        }
        let many: Vec<String> = (0..=FILES_MAX).map(|at| format!("{hex}  a{at}")).collect();
        assert_eq!(parse(&format!("# SHA512 HASH\n{}", many.join("\n")), None), Err(DigestsError::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(text in "\\PC*", lines in "(# SHA512 HASH\n|[0-9a-f]{126,130}  [a./]{0,4}\n){0,6}") {
            let _ = parse(&text, None);
            let _ = parse(&lines, Some(Algorithm::Sha256));
        }
    }
}
