//! The distfiles that a signed ebuild tree names (GLEP 74).
//!
//! The Manifest at the top of such a tree is signed. It says what the Manifests below it are, those say the same of others,
//! and those of packages say what distfiles are. One that is not what the one above it says, is not there, or is named by
//! none counts for nothing: who could put it there could name any distfile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use blake2::{Blake2b512, Digest as _};
use sha2::Sha512;

use super::manifest::{self, Dist};
use super::named::{Named, package_directories};
use crate::kinds::KindError;
use crate::openpgp::{CLEAR_TEXT_BYTES_MAX, KeyRing, Signer};
use crate::time::UnixTime;

/// What a Manifest is called, but for the end that says how it is compressed.
const MANIFEST: &str = "Manifest";
/// The largest Manifest, decompressed.
const BYTES_MAX: u64 = 64 << 20;
/// The most Manifests of a tree. That of Gentoo has 20,000.
const MANIFESTS_MAX: usize = 200_000;

/// Reads the distfiles that the Manifests of a signed tree name, and says who has signed it.
pub(super) fn of_signed_tree(
    tree: &Path,
    ring: &KeyRing,
    now: UnixTime,
) -> Result<(BTreeMap<String, Dist>, Signer), KindError> {
    let wrong = |path: &str, reason: &dyn std::fmt::Display| {
        KindError::Reference(format!("{}: {reason}", tree.join(path).display()))
    };
    let top =
        read(&tree.join(MANIFEST), CLEAR_TEXT_BYTES_MAX as u64).map_err(|error| wrong(MANIFEST, &error))?;
    let (text, signer) = ring.verify_clear_text(&top, now).map_err(|error| wrong(MANIFEST, &error))?;
    let mut named = Named::default();
    let mut known = BTreeSet::from([MANIFEST.to_owned()]);
    let mut waiting = vec![(MANIFEST.to_owned(), text.into_bytes())];
    while let Some((path, text)) = waiting.pop() {
        named.add(&text).map_err(|reason| wrong(&path, &reason))?;
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for line in below(&text).map_err(|reason| wrong(&path, &reason))? {
            let below = if directory.is_empty() { line.name } else { format!("{directory}/{}", line.name) };
            if !known.insert(below.clone()) {
                return Err(wrong(&path, &format!("{below} is named twice")));
            }
            if known.len() > MANIFESTS_MAX {
                return Err(wrong(&path, &format!("the tree has more than {MANIFESTS_MAX} Manifests")));
            }
            let bytes = read(&tree.join(&below), line.dist.size).map_err(|error| wrong(&below, &error))?;
            if dist_of(&bytes) != line.dist {
                return Err(wrong(&below, &format!("it is not what {path} says")));
            }
            let text = decompressed(&below, bytes).map_err(|error| wrong(&below, &error))?;
            waiting.push((below, text));
        }
    }
    for package in package_directories(tree)? {
        let path = format!("{package}/{MANIFEST}");
        if !known.contains(&path) && tree.join(&path).exists() {
            return Err(wrong(&path, &"no Manifest above it names it"));
        }
    }
    named.finish(tree).map(|named| (named, signer))
}

/// A Manifest that another one names.
struct Line {
    name: String,
    dist: Dist,
}

/// The lines `MANIFEST PATH SIZE …` of a Manifest, which have the form of those of distfiles but for the path.
fn below(text: &[u8]) -> Result<Vec<Line>, String> {
    let mut found = Vec::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let Some(rest) = line.strip_prefix(b"MANIFEST ") else { continue };
        let wrong = |reason: &str| format!("line {}: {reason}", at + 1);
        let rest = str::from_utf8(rest).map_err(|_| wrong("it is not text"))?;
        let (path, rest) = rest.split_once(' ').ok_or_else(|| wrong("it has no size"))?;
        if !path.split('/').all(manifest::is_name) {
            return Err(wrong("its path is none below the tree"));
        }
        let dist = manifest::parse(format!("DIST {MANIFEST} {rest}\n").as_bytes());
        let dist = dist.map_err(|error| wrong(&error.to_string()))?.remove(MANIFEST);
        let dist = dist.ok_or_else(|| wrong("it says nothing"))?;
        if dist.size > BYTES_MAX {
            return Err(wrong("a Manifest cannot be so large"));
        }
        found.push(Line { name: path.to_owned(), dist });
    }
    Ok(found)
}

fn dist_of(bytes: &[u8]) -> Dist {
    Dist {
        size: bytes.len() as u64,
        blake2b: Blake2b512::digest(bytes).into(),
        sha512: Sha512::digest(bytes).into(),
    }
}

/// Reads a file that has no more than so many bytes.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // A pipe of that name would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// The text of a Manifest whose digests are right.
fn decompressed(path: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((_, "gz")) => {
            let mut text = Vec::new();
            flate2::bufread::MultiGzDecoder::new(&bytes[..]).take(BYTES_MAX + 1).read_to_end(&mut text)?;
            if text.len() as u64 > BYTES_MAX {
                return Err(io::Error::other(format!("it has more than {BYTES_MAX} bytes, decompressed")));
            }
            Ok(text)
        }
        Some((_, "bz2" | "xz" | "lzma" | "zst")) => {
            Err(io::Error::other("it is compressed in a way that is not known here; gzip is"))
        }
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use smart_sync_store::id::to_hex;
    use tempfile::TempDir;

    use super::*;
    use crate::openpgp::SigningKey;

    const RING: &[u8] = include_bytes!("../../../tests/golden/openpgp/ring.asc");
    const NOW: UnixTime = UnixTime::new(1_796_010_000).unwrap();

    fn line(tag: &str, name: &str, bytes: &[u8]) -> String {
        let Dist { size, blake2b, sha512 } = dist_of(bytes);
        format!("{tag} {name} {size} BLAKE2B {} SHA512 {}\n", to_hex(&blake2b), to_hex(&sha512))
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn put(tree: &TempDir, path: &str, bytes: &[u8]) {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn sign(tree: &TempDir, text: &str) {
        let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openpgp/secret.asc");
        let key = SigningKey::open(&key, None, NOW).unwrap();
        put(tree, MANIFEST, key.sign_clear_text(text, NOW).unwrap().as_bytes());
    }

    /// A tree as Gentoo's: what is signed names a list, that the categories, and those their packages.
    fn tree() -> TempDir {
        let tree = tempfile::tempdir().unwrap();
        let package = line("DIST", "foo-1.0.tar.gz", b"foo");
        put(&tree, "app-test/foo/Manifest", package.as_bytes());
        let category = gzip(&line("MANIFEST", "foo/Manifest", package.as_bytes()));
        put(&tree, "app-test/Manifest.gz", &category);
        let files = gzip(&line("MANIFEST", "app-test/Manifest.gz", &category));
        put(&tree, "Manifest.files.gz", &files);
        sign(&tree, &format!("IGNORE distfiles\n{}", line("MANIFEST", "Manifest.files.gz", &files)));
        tree
    }

    fn named(tree: &TempDir) -> Result<(BTreeMap<String, Dist>, Signer), KindError> {
        of_signed_tree(tree.path(), &KeyRing::from_bytes(RING).unwrap(), NOW)
    }

    #[test]
    fn what_is_signed_leads_to_what_a_distfile_is() {
        let (named, signer) = named(&tree()).unwrap();
        assert_eq!(named, BTreeMap::from([("foo-1.0.tar.gz".to_owned(), dist_of(b"foo"))]));
        assert_eq!(signer.user.as_deref(), Some("Golden <golden@example.org>"));
    }

    #[test]
    fn a_manifest_that_nothing_signed_leads_to_is_refused() {
        let check = |change: &dyn Fn(&TempDir), reason: &str| {
            let tree = tree();
            change(&tree);
            let refused = named(&tree).unwrap_err().to_string();
            assert!(refused.contains(reason), "{reason}: {refused}");
        };
        let package = "app-test/foo/Manifest";
        let other = line("DIST", "foo-1.0.tar.gz", b"bar");
        check(&|tree| put(tree, package, other.as_bytes()), "it is not what app-test/Manifest.gz says");
        check(&|tree| put(tree, package, &[b'x'; 4096]), "it has more than");
        check(&|tree| put(tree, "app-test/Manifest.gz", &gzip(&other)), "Manifest.files.gz says");
        check(
            &|tree| fs::remove_file(tree.path().join(package)).unwrap(),
            "app-test/foo/Manifest: No such file",
        );
        check(&|tree| put(tree, "app-test/bar/Manifest", other.as_bytes()), "no Manifest above it names it");
        check(&|tree| put(tree, MANIFEST, other.as_bytes()), "it is not signed");
        let top = |tree: &TempDir| fs::read_to_string(tree.path().join(MANIFEST)).unwrap();
        check(&|tree| put(tree, MANIFEST, top(tree).replace("IGNORE", "ignore").as_bytes()), "is wrong");
        check(&|tree| sign(tree, &line("MANIFEST", "../Manifest", b"")), "its path is none below the tree");
        let twice = line("MANIFEST", MANIFEST, b"x");
        check(&|tree| sign(tree, &twice), "is named twice");
        check(&|tree| sign(tree, "MANIFEST a/Manifest 99999999999 BLAKE2B 00 SHA512 00\n"), "malformed");
        check(&|tree| sign(tree, "IGNORE distfiles\n"), "no Manifest above it names it");
    }
}
