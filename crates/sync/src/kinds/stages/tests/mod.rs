//! A mirror of release media in a directory, signed by a key that tests have.

mod prepare;
mod upstream;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use blake2::{Blake2b512, Digest as _};
use sha2::{Sha256, Sha512};
use smart_sync_store::content::name_content;
use smart_sync_store::id::to_hex;
use smart_sync_store::manifest::{Content, Fidelity, FileTime, TreePath};
use tempfile::TempDir;

use super::Stages;
use crate::exclude::Exclusions;
use crate::kinds::findings::Findings;
use crate::kinds::{Absent, ArtifactKind as _, Before, Job, KindError, Prepared, SignaturePolicy};
use crate::openpgp::{KeyRing, SigningKey};
use crate::source::assembled::{AssembledSource, Part};
use crate::source::cache::ContentCache;
use crate::source::directory::{DirectoryOptions, DirectorySource};
use crate::time::UnixTime;

const RING: &[u8] = include_bytes!("../../../../tests/golden/openpgp/ring.asc");
/// The last second of 2026-11-30.
const NOW: u64 = 1_796_083_199;
/// A build and the time of a text that names it.
const FIRST: (&str, u64) = ("20261122T170312Z", 1_795_400_000);
/// A later one.
const SECOND: (&str, u64) = ("20261129T170312Z", 1_796_000_000);
/// What is built, and where.
const NAME: &str = "stage3-amd64-openrc";
const AREA: &str = "amd64/autobuilds";

/// A tree that is published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tree(BTreeMap<TreePath, Vec<u8>>);

impl Before for Tree {
    fn files(&self) -> Result<BTreeMap<TreePath, Content>, KindError> {
        Ok(self.0.iter().map(|(path, bytes)| (path.clone(), name_content(bytes))).collect())
    }

    fn read(&self, contents: &[Content], bytes_max: u64) -> Result<Vec<Vec<u8>>, KindError> {
        assert!(contents.iter().all(|content| content.size <= bytes_max));
        Ok(contents.iter().map(|content| self.bytes(content)).collect())
    }
}

impl Tree {
    fn bytes(&self, content: &Content) -> Vec<u8> {
        self.0.values().find(|bytes| name_content(bytes) == *content).expect("it is published").clone()
    }

    fn get(&self, path: &str) -> Option<&[u8]> {
        self.0.get(&TreePath::new(path.as_bytes()).unwrap()).map(Vec::as_slice)
    }

    fn paths(&self) -> Vec<String> {
        self.0.keys().map(ToString::to_string).collect()
    }
}

/// The name of the medium of a build.
fn file(stamp: &str) -> String {
    format!("{NAME}-{stamp}.tar.xz")
}

/// A text with digests of files.
fn digests(files: &[(&str, &[u8])]) -> String {
    let lines = files.iter().map(|(name, bytes)| {
        let (blake2b, sha512) = (to_hex(&Blake2b512::digest(bytes)), to_hex(&Sha512::digest(bytes)));
        format!("# BLAKE2B HASH\n{blake2b}  {name}\n# SHA512 HASH\n{sha512}  {name}\n")
    });
    lines.collect::<Vec<_>>().concat()
}

fn latest(time: u64, path: &str, size: usize) -> String {
    format!("# Latest as of some day\n# ts={time}\n{path} {size}\n")
}

/// A directory, and what was published of it.
struct Scene {
    directory: TempDir,
    key: SigningKey,
    ring: Option<KeyRing>,
    tree: Option<Tree>,
    findings: Findings,
    absent: Absent,
    newest: Option<usize>,
}

impl Scene {
    fn new() -> Self {
        let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openpgp/secret.asc");
        Self {
            directory: tempfile::tempdir().unwrap(),
            key: SigningKey::open(&key, None, now()).unwrap(),
            ring: Some(KeyRing::from_bytes(RING).unwrap()),
            tree: None,
            findings: Findings::default(),
            absent: Absent::Stays,
            newest: None,
        }
    }

    /// One with a build that nothing is wrong with, and the texts that name it.
    fn with_build((stamp, time): (&str, u64)) -> Self {
        let scene = Self::new();
        scene.build(stamp, b"a stage");
        scene.name(stamp, time, 7);
        scene
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn put_signed(&self, path: &str, text: &str) {
        self.put(path, self.key.sign_clear_text(text, now()).unwrap());
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    /// Writes a build with everything that lies beside it.
    fn build(&self, stamp: &str, bytes: &[u8]) {
        let (file, contents) = (file(stamp), b"the files in it");
        let path = format!("{AREA}/{stamp}/{file}");
        self.put(&path, bytes);
        self.put(&format!("{path}.CONTENTS.gz"), contents);
        let text = digests(&[(&file, bytes), (&format!("{file}.CONTENTS.gz"), contents)]);
        self.put_signed(&format!("{path}.DIGESTS"), &text);
        self.put(&format!("{path}.asc"), self.key.sign_detached(bytes, now()).unwrap());
        let sha256 = to_hex(&Sha256::digest(bytes));
        self.put_signed(&format!("{path}.sha256"), &format!("{sha256}  {file}\n"));
    }

    /// Writes the texts that name a build as the newest.
    fn name(&self, stamp: &str, time: u64, size: usize) {
        let file = file(stamp);
        let text = latest(time, &format!("{stamp}/{file}"), size);
        self.put_signed(&format!("{AREA}/latest-{NAME}.txt"), &text);
        let text = latest(time, &file, size);
        self.put_signed(&format!("{AREA}/current-{NAME}/latest-{NAME}.txt"), &text);
    }

    fn prepare(&mut self) -> Result<Prepared, KindError> {
        let options = DirectoryOptions {
            fidelity: Fidelity::Git,
            exclusions: Exclusions::none(),
            now: FileTime { seconds: i64::MAX, nanoseconds: 0 },
        };
        let source = DirectorySource::open(self.directory.path(), options, ContentCache::default()).unwrap();
        let source = AssembledSource::read(source).unwrap();
        Stages.prepare(Job {
            directory: &source,
            before: self.tree.as_ref().map(|tree| tree as &dyn Before),
            absent: self.absent,
            findings: &mut self.findings,
            verify_against: None,
            signatures: SignaturePolicy { key_ring: self.ring.as_ref(), ..SignaturePolicy::default() },
            needed: None,
            built_on: None,
            making: None,
            newest: self.newest,
            now: now(),
        })
    }

    #[track_caller]
    fn publish(&mut self) -> Prepared {
        let prepared = self.prepare().unwrap_or_else(|error| panic!("{error}"));
        let before = self.tree.take().unwrap_or_default();
        let bytes = |part: &Part| match part {
            Part::File(path) => fs::read(self.path(&path.to_string())).unwrap(),
            Part::Published(content) => before.bytes(content),
            other => panic!("nothing else is in such a tree: {other:?}"),
        };
        let files = prepared.parts.iter().map(|(path, part)| (path.clone(), bytes(part))).collect();
        self.tree = Some(Tree(files));
        prepared
    }

    /// The tree that was published last.
    fn tree(&self) -> &Tree {
        self.tree.as_ref().expect("something was published")
    }

    /// Fails unless all of what is refused is said with these words, the path first.
    #[track_caller]
    fn check_refused(&mut self, path: &str, reason: &str) {
        let error = self.prepare().expect_err(reason);
        let KindError::Refused(refusals) = &error else { panic!("{error}") };
        let is_it = |refusal: &crate::kinds::Refusal| {
            refusal.path.to_string() == path && refusal.reason.contains(reason)
        };
        assert!(refusals.iter().any(is_it), "{path}: {reason}: {error}");
    }
}

fn now() -> UnixTime {
    UnixTime::new(NOW).unwrap()
}
