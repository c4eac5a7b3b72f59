//! The distfiles that a signed ebuild tree names: those of the Manifests that its signature leads to.
//!
//! A Manifest that no signature leads to counts for nothing: who could put it there could name any distfile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::manifest::Dist;
use super::named::{Named, package_directories};
use crate::kinds::KindError;
use crate::kinds::manifests::{Fault, MANIFEST, follow};
use crate::openpgp::{KeyRing, Signer};
use crate::time::UnixTime;

/// Reads the distfiles that the Manifests of a signed tree name, and says who has signed it.
pub(super) fn of_signed_tree(
    tree: &Path,
    ring: &KeyRing,
    now: UnixTime,
) -> Result<(BTreeMap<String, Dist>, Signer), KindError> {
    let wrong =
        |Fault { path, reason }| KindError::Reference(format!("{}: {reason}", tree.join(path).display()));
    let mut named = Named::default();
    let read = |path: &str, most| read(&tree.join(path), most).map_err(|error| error.to_string());
    let followed = follow(&read, ring, now, &mut |_, text| named.add(text)).map_err(wrong)?;
    for package in package_directories(tree)? {
        let path = format!("{package}/{MANIFEST}");
        if !followed.manifests.contains(&path) && tree.join(&path).exists() {
            return Err(wrong(Fault { path, reason: "no Manifest above it names it".to_owned() }));
        }
    }
    named.finish(tree).map(|named| (named, followed.signer))
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use smart_sync_store::id::to_hex;
    use tempfile::TempDir;

    use super::*;
    use crate::kinds::manifests::dist_of;
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
