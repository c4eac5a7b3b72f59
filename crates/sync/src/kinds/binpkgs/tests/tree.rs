//! Trees of packages, one made of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use smart_sync_store::content::name_content;
use smart_sync_store::manifest::{Content, Fidelity, FileTime, TreePath};

use super::super::Binpkgs;
use super::super::take_out::take_out;
use crate::exclude::Exclusions;
use crate::kinds::built_on::{self, BuiltOn};
use crate::kinds::findings::Findings;
use crate::kinds::retired;
use crate::kinds::{Absent, ArtifactKind as _, Before, Job, KindError, Legacy, Prepared, SignaturePolicy};
use crate::source::assembled::{AssembledSource, Part};
use crate::source::cache::ContentCache;
use crate::source::directory::{DirectoryOptions, DirectorySource};
use crate::time::UnixTime;

const NOW: u64 = 4_000_000_000;
const FIRST: &str = "app-test/hello/hello-1.0-r1-2.gpkg.tar";
const SECOND: &str = "app-test/hello/hello-1.0-r1-9.gpkg.tar";
const OLD: &str = "app-test/hello/hello-1.0-r1-8.xpak";

/// A tree that is published, held in memory.
struct Published(BTreeMap<TreePath, (Content, Vec<u8>)>);

impl Published {
    /// What is in files of a directory is told apart by its path.
    fn of(prepared: &Prepared) -> Self {
        let parts = prepared.parts.iter().map(|(path, part)| match part {
            Part::Published(content) => (path.clone(), (*content, Vec::new())),
            Part::Made(bytes) => (path.clone(), (name_content(bytes), bytes.to_vec())),
            part => (path.clone(), (name_content(format!("{part:?}").as_bytes()), Vec::new())),
        });
        Self(parts.collect())
    }
}

impl Before for Published {
    fn files(&self) -> Result<BTreeMap<TreePath, Content>, KindError> {
        Ok(self.0.iter().map(|(path, (content, _))| (path.clone(), *content)).collect())
    }

    fn read(&self, contents: &[Content], _bytes_max: u64) -> Result<Vec<Vec<u8>>, KindError> {
        let of = |wanted: &Content| self.0.values().find(|(content, _)| content == wanted).cloned();
        Ok(contents.iter().filter_map(of).map(|(_, bytes)| bytes).collect())
    }
}

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

fn machine(text: &str) -> BuiltOn {
    text.parse().unwrap()
}

/// Publishes some of the golden packages.
fn prepared(
    names: &[&str],
    before: Option<&Published>,
    absent: Absent,
    built_on: Option<&BuiltOn>,
) -> Result<Prepared, KindError> {
    let directory = tempfile::tempdir().unwrap();
    for name in names {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/binpkgs").join(name);
        let place = directory.path().join(name);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(golden, place).unwrap();
    }
    let options = DirectoryOptions {
        fidelity: Fidelity::Git,
        exclusions: Exclusions::none(),
        now: FileTime { seconds: i64::MAX, nanoseconds: 0 },
    };
    let source = DirectorySource::open(directory.path(), options, ContentCache::default()).unwrap();
    let source = AssembledSource::read(source).unwrap();
    Binpkgs.prepare(Job {
        directory: &source,
        before: before.map(|before| before as &dyn Before),
        absent,
        findings: &mut Findings::default(),
        verify_against: None,
        signatures: SignaturePolicy { legacy: Legacy::Accepted, ..SignaturePolicy::default() },
        making: None,
        needed: None,
        built_on,
        newest: None,
        now: UnixTime::new(NOW).unwrap(),
    })
}

/// A file of a tree that was made, as a text.
fn made(prepared: &Prepared, name: &str) -> Option<String> {
    match prepared.parts.get(&path(name))? {
        Part::Made(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn whoever_adds_a_package_says_where_it_was_built() {
    let one = machine("host=one,kernel=6.18");
    let first = prepared(&[FIRST], None, Absent::Stays, Some(&one)).unwrap();
    assert_eq!(made(&first, built_on::FILE), Some(format!("host=one,kernel=6.18 {FIRST}\n")));

    // Another machine has the same package, and one more.
    let other = machine("host=other");
    let second =
        prepared(&[FIRST, SECOND], Some(&Published::of(&first)), Absent::Stays, Some(&other)).unwrap();
    let expected = format!("host=one,kernel=6.18 {FIRST}\nhost=other {SECOND}\n");
    assert_eq!(made(&second, built_on::FILE), Some(expected.clone()));

    // Those of whom nobody has said it are not in it, and what was said stays.
    let third = prepared(&[OLD], Some(&Published::of(&second)), Absent::Stays, None).unwrap();
    assert_eq!(made(&third, built_on::FILE), Some(expected));

    // It goes with the package.
    let fourth = prepared(&[OLD, SECOND], Some(&Published::of(&third)), Absent::Goes, None).unwrap();
    assert_eq!(made(&fourth, built_on::FILE), Some(format!("host=other {SECOND}\n")));
    let fifth = prepared(&[OLD], Some(&Published::of(&fourth)), Absent::Goes, Some(&one)).unwrap();
    assert_eq!(made(&fifth, built_on::FILE), None);
}

#[test]
fn what_is_published_of_machines_has_to_be_read_to_go_on_from_it() {
    let one = machine("host=one");
    let first = prepared(&[FIRST], None, Absent::Stays, Some(&one)).unwrap();
    let mut published = Published::of(&first);
    let wrong = b"host=one \x1b[1m\n/\n";
    published.0.insert(path(built_on::FILE), (name_content(wrong), wrong.to_vec()));
    let refused = prepared(&[SECOND], Some(&published), Absent::Stays, None).unwrap_err();
    assert!(matches!(refused, KindError::Before(_)) && !refused.to_string().contains('\u{1b}'), "{refused}");
}

#[test]
fn packages_are_taken_out_of_an_index_and_their_files_stay() {
    let one = machine("host=one");
    let names = [FIRST, SECOND, OLD];
    let published = prepared(&names, None, Absent::Stays, Some(&one)).unwrap();
    let before = Published::of(&published);
    let later = UnixTime::new(NOW + 60).unwrap();
    let next = take_out::<KindError>(
        &before,
        |index| {
            assert_eq!(index.packages.len(), 3);
            Ok(BTreeSet::from([path(FIRST), path("elsewhere")]))
        },
        later,
    )
    .unwrap();
    let index = made(&next, "Packages").unwrap();
    assert!(index.contains("PACKAGES: 2\n") && !index.contains(FIRST) && index.contains(SECOND), "{index}");
    assert!(index.contains(&format!("TIMESTAMP: {}\n", NOW + 60)), "{index}");
    assert_eq!(made(&next, retired::FILE), Some(format!("{} {FIRST}\n", NOW + 60)));
    assert!(
        matches!(next.parts[&path(FIRST)], Part::Published(content) if content == before.0[&path(FIRST)].0)
    );
    assert!(!made(&next, built_on::FILE).unwrap().contains(FIRST));
    // A build host that still has it does not bring it back, unless its directory is all there is to be.
    let after = prepared(&names, Some(&Published::of(&next)), Absent::Stays, None).unwrap();
    assert_eq!(made(&after, "Packages"), Some(index));
    assert!(after.notes.iter().any(|note| note.starts_with("1 package left out")), "{:?}", after.notes);
    let all = prepared(&names, Some(&Published::of(&after)), Absent::Goes, None).unwrap();
    assert!(made(&all, "Packages").unwrap().contains("PACKAGES: 3\n"));
    assert_eq!(made(&all, ".smart-sync/taken-out"), None);
}
