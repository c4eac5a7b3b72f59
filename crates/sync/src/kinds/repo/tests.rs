use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use smart_sync_store::content::name_content;
use smart_sync_store::id::to_hex;
use smart_sync_store::manifest::{Content, Fidelity, FileTime, TreePath};
use tempfile::TempDir;

use super::*;
use crate::exclude::Exclusions;
use crate::kinds::manifests::{MANIFEST, dist_of};
use crate::kinds::{Before, SignaturePolicy, Unsigned};
use crate::openpgp::{KeyRing, SigningKey};
use crate::source::cache::ContentCache;
use crate::source::directory::{DirectoryOptions, DirectorySource};
use crate::source::listed::ListedSource;
use crate::time::UnixTime;

const RING: &[u8] = include_bytes!("../../../tests/golden/openpgp/ring.asc");
const NOW: UnixTime = UnixTime::new(1_796_010_000).unwrap();
const MADE: &str = "TIMESTAMP 2026-11-29T00:00:00Z\n";

fn put(tree: &TempDir, path: &str, bytes: impl AsRef<[u8]>) {
    let path = tree.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A line that says what is at a path of the tree.
fn line(tree: &TempDir, tag: &str, manifest: &str, name: &str) -> String {
    let directory = Path::new(manifest).parent().unwrap();
    let inner = if tag == "AUX" { format!("files/{name}") } else { name.to_owned() };
    let dist = dist_of(&fs::read(tree.path().join(directory).join(inner)).unwrap());
    let (blake2b, sha512) = (to_hex(&dist.blake2b), to_hex(&dist.sha512));
    format!("{tag} {name} {} BLAKE2B {blake2b} SHA512 {sha512}\n", dist.size)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn sign(tree: &TempDir, text: &str) {
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openpgp/secret.asc");
    let key = SigningKey::open(&key, None, NOW).unwrap();
    put(tree, MANIFEST, key.sign_clear_text(text, NOW).unwrap());
}

/// A tree as Gentoo's, with all kinds of lines that there are.
fn tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    put(&tree, "profiles/repo_name", "gentoo\n");
    put(&tree, "metadata/layout.conf", "masters =\n");
    put(&tree, "metadata/timestamp.chk", "Sun, 29 Nov 2026\n");
    put(&tree, "metadata/.checksum-test-marker", "");
    put(&tree, "app-test/foo/foo-1.ebuild", "EAPI=8\n");
    put(&tree, "app-test/foo/files/a.patch", "+a\n");
    put(&tree, "distfiles/foo-1.tar.gz", "whatever");
    seal(&tree);
    tree
}

/// Writes all Manifests anew.
fn seal(tree: &TempDir) {
    let package = "app-test/foo/Manifest";
    let lines =
        [line(tree, "EBUILD", package, "foo-1.ebuild"), line(tree, "AUX", package, "a.patch")].concat();
    put(tree, package, lines);
    let layout = line(tree, "DATA", "metadata/Manifest", "layout.conf");
    let metadata = format!("IGNORE timestamp.chk\n{layout}");
    put(tree, "metadata/Manifest.gz", gzip(&metadata));
    let named = [
        line(tree, "MANIFEST", MANIFEST, package),
        line(tree, "MANIFEST", MANIFEST, "metadata/Manifest.gz"),
        line(tree, "DATA", MANIFEST, "profiles/repo_name"),
    ];
    sign(
        tree,
        &format!(
            "IGNORE distfiles
{MADE}{}",
            named.concat()
        ),
    );
}

/// What is published now: one Manifest.
struct Published(String);

impl Before for Published {
    fn files(&self) -> Result<BTreeMap<TreePath, Content>, KindError> {
        Ok(BTreeMap::from([(tree_path(MANIFEST)?, name_content(self.0.as_bytes()))]))
    }

    fn read(&self, contents: &[Content], _bytes_max: u64) -> Result<Vec<Vec<u8>>, KindError> {
        Ok(contents.iter().map(|_| self.0.clone().into_bytes()).collect())
    }
}

fn judged_with(
    tree: &Path,
    before: Option<&dyn Before>,
    signatures: SignaturePolicy<'_>,
) -> Result<Judged, KindError> {
    let options = DirectoryOptions {
        fidelity: Fidelity::Git,
        exclusions: Exclusions::none(),
        now: FileTime { seconds: 0, nanoseconds: 0 },
    };
    let mut source = DirectorySource::open(tree, options, ContentCache::default())?;
    let listed = ListedSource::read(&mut source)?;
    Repo.judge(Whole { listing: listed.listing(), before, signatures, now: NOW })
}

fn judged(tree: &TempDir, before: Option<&dyn Before>) -> Result<Judged, KindError> {
    let ring = KeyRing::from_bytes(RING).unwrap();
    judged_with(tree.path(), before, SignaturePolicy { key_ring: Some(&ring), ..SignaturePolicy::default() })
}

#[test]
fn a_tree_that_is_what_was_signed_says_who_did_and_of_when_it_is() {
    let judged = judged(&tree(), None).unwrap();
    assert_eq!(judged.notes.len(), 2);
    assert!(judged.notes[0].starts_with("the tree is signed by Golden <golden@example.org>, "), "{judged:?}");
    let left = "3 files that its Manifests leave to themselves are published as they are";
    assert_eq!(judged.notes[1], left);
    assert_eq!(judged.content_time.map(|time| time.to_string()).as_deref(), Some("2026-11-29T00:00:00Z"));
    assert_eq!(judged.signers.keys().map(ToString::to_string).collect::<Vec<_>>(), [MANIFEST]);
}

#[test]
fn a_tree_that_is_not_what_was_signed_is_refused_and_all_that_is_wrong_is_said() {
    #[track_caller]
    fn check(change: impl Fn(&TempDir), reasons: &[&str]) {
        let tree = tree();
        change(&tree);
        let refused = judged(&tree, None).unwrap_err().to_string();
        for reason in reasons {
            assert!(refused.contains(reason), "{reason}: {refused}");
        }
    }
    let ebuild = "app-test/foo/foo-1.ebuild";
    check(|tree| put(tree, ebuild, "EAPI=7\n"), &["foo-1.ebuild: it is not what a Manifest says"]);
    check(|tree| put(tree, ebuild, "longer than before"), &["foo-1.ebuild: it is not what a Manifest says"]);
    check(
        |tree| {
            put(tree, "app-test/foo/foo-2.ebuild", "EAPI=8\n");
            put(tree, "eclass/evil.eclass", "");
            fs::remove_file(tree.path().join(ebuild)).unwrap();
        },
        &[
            "foo-2.ebuild: no Manifest names it",
            "evil.eclass: no Manifest names it",
            "foo-1.ebuild: it is not there",
        ],
    );
    check(
        |tree| symlink("/etc/passwd", tree.path().join("profiles/arch.list")).unwrap(),
        &["profiles/arch.list: it is no file"],
    );
    check(|tree| put(tree, "metadata/Manifest.gz", gzip("")), &["it is not what Manifest says"]);
    check(|tree| fs::remove_file(tree.path().join(MANIFEST)).unwrap(), &["none at the top of the tree"]);
    check(|tree| put(tree, MANIFEST, MADE), &["none at the top of the tree"]);
    check(
        |tree| {
            let all = fs::read_to_string(tree.path().join(MANIFEST)).unwrap();
            put(tree, MANIFEST, all.replace("2026-11-29", "2026-11-30"));
        },
        &["Manifest: "],
    );
    check(
        |tree| {
            sign(tree, &format!("IGNORE profiles\n{}", line(tree, "DATA", MANIFEST, "profiles/repo_name")));
        },
        &["profiles/repo_name: a Manifest names it, and leaves it to itself"],
    );
    check(
        |tree| {
            let line = line(tree, "DATA", MANIFEST, "profiles/repo_name");
            sign(tree, &format!("{line}{}", line.replacen(" 7 ", " 8 ", 1)));
        },
        &["another line says something else of profiles/repo_name"],
    );
}

#[test]
fn a_tree_never_becomes_older() {
    let of = |time: &str| Published(format!("-----BEGIN\nTIMESTAMP {time}\nDATA a\n"));
    judged(&tree(), Some(&of("2026-11-28T00:00:00Z"))).unwrap();
    judged(&tree(), Some(&of("2026-11-29T00:00:00Z"))).unwrap();
    judged(&tree(), Some(&Published(String::new()))).unwrap();
    let refused = judged(&tree(), Some(&of("2026-11-29T00:00:01Z"))).unwrap_err().to_string();
    assert!(refused.contains("and the one that is published of 2026-11-29T00:00:01Z"), "{refused}");
    let silent = tempfile::tempdir().unwrap();
    sign(&silent, "IGNORE distfiles\n");
    judged(&silent, None).unwrap();
    let refused = judged(&silent, Some(&of("2026-11-01T00:00:00Z"))).unwrap_err().to_string();
    assert!(refused.contains("it does not say when the tree was made"), "{refused}");
}

#[test]
fn without_keys_or_where_that_is_allowed_a_tree_need_not_be_signed() {
    let unsigned = tempfile::tempdir().unwrap();
    put(&unsigned, "profiles/repo_name", "ours\n");
    assert_eq!(judged_with(unsigned.path(), None, SignaturePolicy::default()).unwrap(), Judged::default());
    let ring = KeyRing::from_bytes(RING).unwrap();
    let lenient =
        SignaturePolicy { key_ring: Some(&ring), unsigned: Unsigned::Accepted, ..SignaturePolicy::default() };
    judged_with(unsigned.path(), None, lenient).unwrap();
    // What is signed is judged all the same.
    let tree = tree();
    put(&tree, "profiles/more", "");
    judged_with(tree.path(), None, lenient).unwrap_err();
}

#[test]
fn a_repository_of_something_else_is_none_of_ebuilds() {
    let other = tempfile::tempdir().unwrap();
    put(&other, "metadata/layout.conf", "whatever");
    put(&other, "flake.nix", "{}");
    judged_with(other.path(), None, SignaturePolicy::default()).unwrap();
    put(&other, "profiles/repo_name", "a name\n");
    let refused = judged_with(other.path(), None, SignaturePolicy::default()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "profiles/repo_name: what it says is no name of a repository; metadata/layout.conf: line 1 is not KEY = VALUE"
    );
}
