//! The bytes of the ledger; placing things and giving back what stood there, with a kill at each step.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use rustix::io::Errno;
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::entry::{FileTime, Xattr};

use super::*;
use crate::apply::backup::Stamp;
use crate::apply::metadata::Metadata;

fn metadata(mode: u32) -> Metadata {
    Metadata { mode, owner: None, modified: None, xattrs: None }
}

fn host_path(path: &str) -> HostPath {
    HostPath::new(path.as_bytes()).unwrap()
}

fn owner(text: &str) -> Owner {
    Owner::new(text).unwrap()
}

/// Entries with everything that there is.
fn every_kind() -> Entries {
    let full = Metadata {
        mode: 0o7777,
        owner: Some((1, u32::MAX)),
        modified: Some(FileTime { seconds: -1, nanoseconds: 7 }),
        xattrs: Some(vec![Xattr { name: (*b"user.a").into(), value: (*b"b").into() }]),
    };
    let content = ContentId::from_bytes([9; 32]);
    let file = || Thing::File { size: 300, content, metadata: full.clone() };
    let link = || Thing::Symlink { target: (*b"../target").into(), metadata: metadata(0o777) };
    let directory = || Thing::Directory { metadata: metadata(0o755) };
    let entry = |former, placed, pending| Entry { owner: owner("target /etc"), former, placed, pending };
    Entries::from([
        (host_path("/boot/new"), entry(None, None, Some(Pending::Place(file())))),
        (host_path("/etc/a"), entry(None, Some(file()), None)),
        (host_path("/etc/b"), entry(Some(file()), Some(link()), Some(Pending::GiveBack))),
        (host_path("/etc/c"), entry(Some(link()), Some(link()), Some(Pending::Place(directory())))),
        (host_path("/etc/d"), entry(None, Some(directory()), None)),
    ])
}

#[test]
fn the_golden_ledger_is_read_and_written_as_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ledger.bin");
    if std::env::var_os("GOLDEN_WRITE").is_some() && !path.exists() {
        fs::write(&path, encode(&every_kind())).unwrap();
    }
    let golden = fs::read(&path).unwrap();
    assert_eq!(decode(&golden).unwrap(), every_kind());
    assert_eq!(encode(&every_kind()), golden);
}

#[test]
fn no_part_of_a_ledger_is_taken_for_all_of_it() {
    let bytes = encode(&every_kind());
    for len in 0..bytes.len() {
        decode(&bytes[..len]).unwrap_err();
        let cut = [&bytes[..len], blake3::hash(&bytes[..len]).as_bytes()].concat();
        assert!(decode(&cut).is_err() || len == bytes.len() - 32, "cut at {len}");
    }
}

#[test]
fn paths_and_owners_are_plain() {
    for path in ["", "/", "etc", "/etc/", "//etc", "/etc/../x", "/./etc", "/a\0b"] {
        assert_eq!(HostPath::new(path.as_bytes()), None, "{path:?}");
    }
    assert!(HostPath::new(format!("/{}", "a/".repeat(2048)).as_bytes()).is_none());
    assert!(HostPath::new(b"/\xff\n").is_some(), "names are bytes");
    assert_eq!((Owner::new(""), Owner::new("a\nb")), (None, None));
}

proptest! {
    #[test]
    fn what_is_accepted_has_one_spelling(at: prop::sample::Index, byte: u8) {
        let mut bytes = encode(&every_kind());
        bytes.truncate(bytes.len() - 32);
        *at.get_mut(&mut bytes) = byte;
        let whole = [&bytes[..], blake3::hash(&bytes).as_bytes()].concat();
        if let Ok(entries) = decode(&whole) {
            prop_assert_eq!(encode(&entries), whole);
        }
    }

    #[test]
    fn entries_come_back(names in prop::collection::btree_set("[a-z]{1,3}(/[a-z]{1,3}){0,2}", 0..9), modes: [u16; 9]) {
        let entry = |mode: u16| {
            let metadata = metadata(u32::from(mode) & 0o7777);
            let target = mode.to_le_bytes().into();
            let former = mode.is_multiple_of(2).then(|| Thing::Symlink { target, metadata: metadata.clone() });
            Entry { owner: owner("x"), former, placed: Some(Thing::Directory { metadata }), pending: None }
        };
        let entries: Entries =
            names.iter().zip(modes).map(|(name, mode)| (host_path(&format!("/{name}")), entry(mode))).collect();
        prop_assert_eq!(decode(&encode(&entries)).unwrap(), entries);
    }
}

/// A host with things of its own, and an owner who places others.
struct Scene {
    _directory: tempfile::TempDir,
    root: PathBuf,
    home: PathBuf,
}

/// What stands at the paths of a directory: modes, and contents or where links point.
type Disk = BTreeMap<String, (u32, Vec<u8>)>;

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let scene = Self { root: path.join("etc"), home: path.join("ledger"), _directory: directory };
        fs::create_dir_all(scene.root.join("conf.d")).unwrap();
        fs::create_dir(&scene.home).unwrap();
        scene.write("replaced", "the host's");
        fs::set_permissions(scene.root.join("replaced"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("replaced", scene.root.join("link")).unwrap();
        scene.write("conf.d/own", "stays");
        scene
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    fn path(&self, path: &str) -> HostPath {
        host_path(self.root.join(path).to_str().unwrap())
    }

    fn lock(&self, steps: &Steps) -> Result<Ledger, ApplyError> {
        Ledger::lock(&self.home, &Holder::this_process("test", 0), steps)
    }

    /// A file whose content the ledger has.
    fn file(&self, ledger: &Ledger, text: &str) -> Result<Thing, ApplyError> {
        let path = self.home.join("new-content");
        fs::write(&path, text).unwrap();
        let tree = TreeDir::open(&self.home, RootLink::Refuse, Steps::default())?;
        let (size, content) = ledger.contents().keep(&tree, b"new-content")?;
        Ok(Thing::File { size, content, metadata: metadata(0o600) })
    }

    fn things(&self, ledger: &Ledger) -> Result<Vec<(HostPath, Thing)>, ApplyError> {
        let directory = |path| (self.path(path), Thing::Directory { metadata: metadata(0o750) });
        let target = (*b"elsewhere").into();
        Ok(vec![
            directory("made"),
            directory("made/deep"),
            (self.path("made/deep/file"), self.file(ledger, "new")?),
            (self.path("replaced"), self.file(ledger, "ours")?),
            (self.path("link"), Thing::Symlink { target, metadata: metadata(0o777) }),
            (self.path("conf.d/ours"), self.file(ledger, "ours too")?),
        ])
    }

    fn disk(&self) -> Disk {
        fn add(root: &Path, directory: &Path, found: &mut Disk) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                let content = if metadata.is_dir() {
                    add(root, &path, found);
                    Vec::new()
                } else if metadata.is_symlink() {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                } else {
                    fs::read(&path).unwrap()
                };
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, (metadata.mode() & 0o7777, content));
            }
        }
        let mut found = Disk::new();
        add(&self.root, &self.root, &mut found);
        found
    }

    /// Contents that the ledger keeps.
    fn kept(&self) -> usize {
        let shards = fs::read_dir(self.home.join("contents")).unwrap().map(|entry| entry.unwrap().path());
        shards.map(|shard| fs::read_dir(shard).unwrap().count()).sum()
    }
}

/// Places everything, with backups in the ledger's own directory.
fn place(scene: &Scene, steps: &Steps) -> Result<Vec<Box<[u8]>>, ApplyError> {
    with(scene, steps, |ledger, backup| {
        let things = scene.things(ledger)?;
        ledger.place(&owner("a"), things, backup).map(|_| ())
    })
}

fn take_away(scene: &Scene, steps: &Steps) -> Result<Vec<Box<[u8]>>, ApplyError> {
    with(scene, steps, |ledger, backup| {
        let owner = owner("a");
        ledger.complete(&owner, backup)?;
        let paths = ledger.entries_of(&owner).map(|(path, _)| path.clone()).collect();
        ledger.give_back(&owner, paths, backup).map(|_| ())
    })
}

fn with(
    scene: &Scene,
    steps: &Steps,
    act: impl FnOnce(&mut Ledger, &mut Backup<'_>) -> Result<(), ApplyError>,
) -> Result<Vec<Box<[u8]>>, ApplyError> {
    let state = TreeDir::open(&scene.home, RootLink::Refuse, Steps::default())?;
    let mut backup = Backup::new(&state, &Stamp::new(b"stamp").unwrap());
    act(&mut scene.lock(steps)?, &mut backup)?;
    Ok(backup.into_saved())
}

#[test]
fn what_stood_there_is_given_back_with_all_that_it_had() {
    let scene = Scene::new();
    let before = scene.disk();
    assert!(place(&scene, &Steps::default()).unwrap().is_empty());
    assert_eq!((scene.read("replaced"), scene.read("made/deep/file")), ("ours".into(), "new".into()));
    assert_eq!(scene.disk()["made/deep"].0, 0o750);
    assert_eq!(scene.disk()["conf.d/ours"], (0o600, b"ours too".to_vec()));
    assert_eq!(read(&scene.home).unwrap().len(), 6);
    assert_eq!(scene.kept(), 1, "what was placed is not kept twice");
    assert!(take_away(&scene, &Steps::default()).unwrap().is_empty());
    assert_eq!(scene.disk(), before);
    assert!(read(&scene.home).unwrap().is_empty());
    assert_eq!(scene.kept(), 0);
}

#[test]
fn a_directory_of_ours_stays_while_something_of_the_hosts_is_in_it() {
    let scene = Scene::new();
    let mut before = scene.disk();
    place(&scene, &Steps::default()).unwrap();
    scene.write("made/mine", "the host's");
    take_away(&scene, &Steps::default()).unwrap();
    before.insert("made".into(), (0o750, Vec::new()));
    before.insert("made/mine".into(), (0o644, b"the host's".to_vec()));
    assert_eq!(scene.disk(), before);
}

#[test]
fn what_was_edited_or_deleted_by_hand_is_kept_and_what_stood_there_given_back() {
    let scene = Scene::new();
    let before = scene.disk();
    place(&scene, &Steps::default()).unwrap();
    scene.write("replaced", "edited");
    scene.write("conf.d/ours", "edited too");
    fs::remove_file(scene.root.join("link")).unwrap();
    let saved = take_away(&scene, &Steps::default()).unwrap();
    assert_eq!(saved.len(), 2);
    assert_eq!(scene.disk(), before);
    let backups = scene.home.join("backups/stamp").join(scene.root.strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(backups.join("replaced")).unwrap(), "edited");
}

#[test]
fn nobody_places_anything_where_somebody_else_did() {
    let scene = Scene::new();
    place(&scene, &Steps::default()).unwrap();
    let before = scene.disk();
    let refused = with(&scene, &Steps::default(), |ledger, backup| {
        let thing = scene.file(ledger, "b's")?;
        ledger.place(&owner("b"), vec![(scene.path("replaced"), thing)], backup).map(|_| ())
    });
    assert!(matches!(refused, Err(ApplyError::PlacedByAnother { .. })), "{refused:?}");
    assert_eq!(scene.disk(), before);
}

#[test]
fn a_link_on_the_way_and_a_directory_in_the_way_are_refused() {
    let scene = Scene::new();
    symlink("conf.d", scene.root.join("alias")).unwrap();
    let before = scene.disk();
    let refused = |path: &str| {
        let placed = with(&scene, &Steps::default(), |ledger, backup| {
            let thing = scene.file(ledger, "x")?;
            ledger.place(&owner("a"), vec![(scene.path(path), thing)], backup).map(|_| ())
        });
        placed.unwrap_err().to_string()
    };
    assert!(refused("alias/x").contains("alias is a symbolic link, and is not followed"));
    assert!(refused("replaced/x").contains("replaced is a file"));
    assert!(refused("conf.d").contains("conf.d: a directory stands there"));
    assert_eq!(scene.disk(), before);
    assert!(read(&scene.home).unwrap().is_empty());
}

#[test]
fn what_a_ledger_cannot_hold_is_refused_and_changes_nothing() {
    let scene = Scene::new();
    let before = scene.disk();
    let too_long = Thing::Symlink { target: vec![b'x'; 4096].into(), metadata: metadata(0o777) };
    let refused = with(&scene, &Steps::default(), |ledger, backup| {
        ledger.place(&owner("a"), vec![(scene.path("new"), too_long)], backup).map(|_| ())
    });
    assert!(refused.unwrap_err().to_string().starts_with("writing "));
    assert_eq!(scene.disk(), before);
    assert!(read(&scene.home).unwrap().is_empty());
}

#[test]
fn the_state_of_each_path_is_found() {
    let scene = Scene::new();
    place(&scene, &Steps::default()).unwrap();
    scene.write("conf.d/ours", "edited");
    fs::remove_file(scene.root.join("link")).unwrap();
    fs::set_permissions(scene.root.join("made/deep/file"), fs::Permissions::from_mode(0o666)).unwrap();
    let ledger = scene.lock(&Steps::default()).unwrap();
    let found = |path: &str| {
        let path = scene.path(path);
        ledger.verify(&path, &ledger.entries()[&path]).unwrap()
    };
    assert_eq!(found("replaced"), Verified { condition: Condition::Placed, lost: None });
    assert_eq!(found("made").condition, Condition::Placed);
    assert_eq!(found("conf.d/ours").condition, Condition::Changed);
    assert_eq!(found("link").condition, Condition::Missing);
    assert_eq!(found("made/deep/file").condition, Condition::MetadataChanged);
    let shard = fs::read_dir(scene.home.join("contents")).unwrap().map(|entry| entry.unwrap().path());
    shard.for_each(|shard| fs::remove_dir_all(shard).unwrap());
    assert_eq!(found("replaced").lost, Some(ContentId::of(b"the host's")));
}

#[test]
fn what_was_kept_and_is_damaged_is_not_given_back_for_what_it_was() {
    let scene = Scene::new();
    place(&scene, &Steps::default()).unwrap();
    let placed = scene.disk();
    let id = ContentId::of(b"the host's").to_string();
    fs::write(scene.home.join("contents").join(&id[..2]).join(&id), "the h0st's").unwrap();
    let error = take_away(&scene, &Steps::default()).unwrap_err();
    assert!(matches!(error, ApplyError::LostContent { .. }), "{error}");
    assert_eq!(scene.disk()["replaced"], placed["replaced"]);
    assert!(read(&scene.home).unwrap().contains_key(&scene.path("replaced")));
}

/// Fails from step `first` on, as after a kill.
fn killed(first: usize) -> (Steps, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let steps = Steps::heard_by(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        step if step >= first => Err(io::Error::from(Errno::INTR)),
        _ => Ok(()),
    });
    (steps, count)
}

#[test]
fn a_kill_at_any_step_of_placing_leaves_what_can_be_completed_and_undone() {
    for first in 0.. {
        let scene = Scene::new();
        let before = scene.disk();
        let (steps, count) = killed(first);
        let outcome = place(&scene, &steps);
        let is_whole = count.load(Ordering::SeqCst) <= first;
        assert_eq!(outcome.is_ok(), is_whole, "step {first}: {outcome:?}");
        let entries = read(&scene.home).unwrap();
        if entries.is_empty() {
            assert_eq!(scene.disk(), before, "step {first}");
        } else {
            with(&scene, &Steps::default(), |ledger, backup| {
                ledger.complete(&owner("a"), backup).map(|_| ())
            })
            .unwrap();
            let expected = Scene::new();
            place(&expected, &Steps::default()).unwrap();
            assert_eq!(scene.disk(), expected.disk(), "step {first}");
        }
        assert!(take_away(&scene, &Steps::default()).unwrap().is_empty(), "step {first}");
        assert_eq!(scene.disk(), before, "step {first}");
        if is_whole {
            assert!(first > 30, "only {first} steps were announced");
            return;
        }
    }
}

#[test]
fn a_kill_at_any_step_of_giving_back_leaves_what_can_be_completed() {
    for first in 0.. {
        let scene = Scene::new();
        let before = scene.disk();
        place(&scene, &Steps::default()).unwrap();
        let (steps, count) = killed(first);
        let outcome = take_away(&scene, &steps);
        let is_whole = count.load(Ordering::SeqCst) <= first;
        assert_eq!(outcome.is_ok(), is_whole, "step {first}: {outcome:?}");
        assert!(take_away(&scene, &Steps::default()).unwrap().is_empty(), "step {first}");
        assert_eq!(scene.disk(), before, "step {first}");
        assert!(read(&scene.home).unwrap().is_empty(), "step {first}");
        if is_whole {
            return;
        }
    }
}
