//! The Manifests of a signed ebuild tree (GLEP 74), from the one at its top down.
//!
//! That one is signed. It says what the Manifests below it are, and those say the same of others. One that is not what
//! the one above it says, or is not there, ends the way: who could put it there could say anything in it.

use std::collections::BTreeSet;
use std::io::Read as _;

use blake2::{Blake2b512, Digest as _};
use sha2::Sha512;

use super::binpkgs::codec::Codec;
use super::distfiles::manifest::{self, Dist};
use crate::openpgp::{CLEAR_TEXT_BYTES_MAX, KeyRing, Signer};
use crate::time::UnixTime;

/// What a Manifest is called, but for the end that says how it is compressed.
pub(super) const MANIFEST: &str = "Manifest";
/// The largest Manifest, decompressed.
const BYTES_MAX: u64 = 64 << 20;
/// The most Manifests of a tree. That of Gentoo has 20,000.
const MANIFESTS_MAX: usize = 200_000;

/// What is wrong with a file of a tree.
#[derive(Debug)]
pub(super) struct Fault {
    /// Where it is.
    pub(super) path: String,
    /// What is wrong.
    pub(super) reason: String,
}

/// Where the way has led.
pub(super) struct Followed {
    /// Who has signed the tree.
    pub(super) signer: Signer,
    /// The Manifests that the signature leads to.
    pub(super) manifests: BTreeSet<String>,
}

/// Reads a file of a tree that has no more than so many bytes.
pub(super) type ReadFile<'a> = &'a dyn Fn(&str, u64) -> Result<Vec<u8>, String>;

/// Is given the path and the text of a Manifest.
pub(super) type TakeText<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Result<(), String>;

/// Goes from the signed Manifest to all others. `take` is given the path and the text of each.
pub(super) fn follow(
    open: ReadFile<'_>,
    ring: &KeyRing,
    now: UnixTime,
    take: TakeText<'_>,
) -> Result<Followed, Fault> {
    let wrong = |path: &str, reason: String| Fault { path: path.to_owned(), reason };
    let top = open(MANIFEST, CLEAR_TEXT_BYTES_MAX as u64).map_err(|reason| wrong(MANIFEST, reason))?;
    let (text, signer) =
        ring.verify_clear_text(&top, now).map_err(|error| wrong(MANIFEST, error.to_string()))?;
    let mut manifests = BTreeSet::from([MANIFEST.to_owned()]);
    let mut waiting = vec![(MANIFEST.to_owned(), text.into_bytes())];
    while let Some((path, text)) = waiting.pop() {
        take(&path, &text).map_err(|reason| wrong(&path, reason))?;
        for line in numbered(&text).filter(|(_, line)| line.starts_with(b"MANIFEST ")) {
            let Line::Manifest(name, dist) = read(line).map_err(|reason| wrong(&path, reason))? else {
                continue;
            };
            let below = beside(&path, name);
            if !manifests.insert(below.clone()) {
                return Err(wrong(&path, format!("{below} is named twice")));
            }
            if manifests.len() > MANIFESTS_MAX {
                return Err(wrong(&path, format!("the tree has more than {MANIFESTS_MAX} Manifests")));
            }
            let bytes = open(&below, dist.size).map_err(|reason| wrong(&below, reason))?;
            if dist_of(&bytes) != dist {
                return Err(wrong(&below, format!("it is not what {path} says")));
            }
            let text = decompressed(&below, bytes).map_err(|reason| wrong(&below, reason))?;
            waiting.push((below, text));
        }
    }
    Ok(Followed { signer, manifests })
}

/// A line of a Manifest. Paths are below the directory that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Another Manifest.
    Manifest(&'a str, Dist),
    /// A file of the tree.
    File(&'a str, Dist),
    /// A file of a package, in its directory `files`.
    Auxiliary(&'a str, Dist),
    /// A file or directory that Manifests do not speak for.
    Ignored(&'a str),
    /// When the tree was made.
    Timestamp(UnixTime),
    /// What says nothing about files of the tree.
    Other,
}

/// The lines of a Manifest.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Result<Line<'_>, String>> {
    numbered(text).map(read)
}

/// Lines with their numbers.
fn numbered(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    (1..).zip(text.split(|byte| *byte == b'\n'))
}

fn read((number, line): (usize, &[u8])) -> Result<Line<'_>, String> {
    read_line(line).map_err(|reason| format!("line {number}: {reason}"))
}

fn read_line(line: &[u8]) -> Result<Line<'_>, &'static str> {
    // Of a tree there are some hundred thousand: those that are nobody's concern here are passed over first.
    if line.is_empty() || line.starts_with(b"DIST ") {
        return Ok(Line::Other);
    }
    let line = str::from_utf8(line).map_err(|_| "it is not text")?;
    let mut words = line.split_ascii_whitespace();
    let tag = words.next().unwrap_or_default();
    let name = words.next().ok_or("it says nothing")?;
    if tag == "TIMESTAMP" {
        let time = UnixTime::parse_typed(name).filter(|_| name.contains('T'));
        return time.map(Line::Timestamp).ok_or("its time is malformed");
    }
    if !name.split('/').all(manifest::is_name) {
        return Err("its path is none below the tree");
    }
    match tag {
        "IGNORE" => Ok(Line::Ignored(name)),
        "MANIFEST" => match manifest::parse_facts(words)? {
            dist if dist.size > BYTES_MAX => Err("a Manifest cannot be so large"),
            dist => Ok(Line::Manifest(name, dist)),
        },
        "DATA" | "EBUILD" | "MISC" => Ok(Line::File(name, manifest::parse_facts(words)?)),
        "AUX" => Ok(Line::Auxiliary(name, manifest::parse_facts(words)?)),
        _ => Err("it is of no kind that is known"),
    }
}

/// A path that a Manifest names, below the top of the tree.
pub(super) fn beside(manifest: &str, name: &str) -> String {
    match manifest.rsplit_once('/') {
        Some((directory, _)) => format!("{directory}/{name}"),
        None => name.to_owned(),
    }
}

/// What these bytes are, as a Manifest would say.
pub(super) fn dist_of(bytes: &[u8]) -> Dist {
    Dist {
        size: bytes.len() as u64,
        blake2b: Blake2b512::digest(bytes).into(),
        sha512: Sha512::digest(bytes).into(),
    }
}

/// The text of a Manifest whose digests are right.
fn decompressed(path: &str, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let codec = name.rsplit_once('.').and_then(|(_, ending)| Codec::of_suffix(&format!(".{ending}")));
    let Some(codec) = codec else { return Ok(bytes) };
    let mut text = Vec::new();
    let decoder = codec.decoder(&bytes[..]).map_err(|error| error.to_string())?;
    decoder.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > BYTES_MAX {
        return Err(format!("it has more than {BYTES_MAX} bytes, decompressed"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_files_are_and_which_are_nobodys_concern() {
        #[track_caller]
        fn check(line: &str, expected: Result<Line<'_>, &str>) {
            assert_eq!(read_line(line.as_bytes()), expected, "{line}");
        }
        let facts = format!("3 BLAKE2B {} SHA512 {}", "0a".repeat(64), "ff".repeat(64));
        let dist = Dist { size: 3, blake2b: [10; 64], sha512: [255; 64] };
        check(&format!("DATA a/b.ebuild {facts}"), Ok(Line::File("a/b.ebuild", dist)));
        check(&format!("EBUILD b.ebuild {facts}"), Ok(Line::File("b.ebuild", dist)));
        check(&format!("AUX b.patch {facts}"), Ok(Line::Auxiliary("b.patch", dist)));
        check(&format!("MANIFEST a/Manifest.gz {facts}"), Ok(Line::Manifest("a/Manifest.gz", dist)));
        check("IGNORE distfiles", Ok(Line::Ignored("distfiles")));
        check("DIST whatever", Ok(Line::Other));
        check("", Ok(Line::Other));
        let time = UnixTime::new(1_796_000_000).expect("a time");
        check(&format!("TIMESTAMP {time}"), Ok(Line::Timestamp(time)));
        check("TIMESTAMP yesterday", Err("its time is malformed"));
        check("TIMESTAMP 2026-11-30", Err("its time is malformed"));
        check("IGNORE ../x", Err("its path is none below the tree"));
        check(&format!("DATA /etc/passwd {facts}"), Err("its path is none below the tree"));
        check(&format!("DATA a//b {facts}"), Err("its path is none below the tree"));
        check(&format!("SCRIPT a {facts}"), Err("it is of no kind that is known"));
        check("DATA a 3 SHA512 00", Err("a digest is malformed"));
        check("MANIFEST", Err("it says nothing"));
    }

    #[test]
    fn a_manifest_is_decompressed_by_its_name_and_within_bounds() {
        assert_eq!(decompressed("a/Manifest", b"text".to_vec()).as_deref(), Ok(&b"text"[..]));
        let packed = zstd::encode_all(&b"text"[..], 1).expect("it can be packed");
        assert_eq!(decompressed("a/Manifest.files.zst", packed).as_deref(), Ok(&b"text"[..]));
        let bomb = zstd::encode_all(&vec![b'\n'; (64 << 20) + 1][..], 1).expect("it can be packed");
        assert!(decompressed("Manifest.zst", bomb).expect_err("it is too large").contains("more than"));
        decompressed("Manifest.gz", b"text".to_vec()).expect_err("it is not compressed");
    }
}
