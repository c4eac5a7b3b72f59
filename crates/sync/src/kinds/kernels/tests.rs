//! Directories of kernels as trees.

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use smart_sync_store::content::name_content;
use smart_sync_store::manifest::{Content, Fidelity, FileTime};

use super::inspect::tests::{elf, x86};
use super::*;
use crate::exclude::Exclusions;
use crate::kinds::SignaturePolicy;
use crate::kinds::findings::Findings;
use crate::source::assembled::AssembledSource;
use crate::source::cache::ContentCache;
use crate::source::directory::{DirectoryOptions, DirectorySource};

const NOW: u64 = 4_000_000_000;

/// What is published, held in memory.
#[derive(Default)]
struct Published {
    files: BTreeMap<TreePath, Content>,
    bytes: BTreeMap<TreePath, Vec<u8>>,
    asked: Cell<usize>,
}

impl Before for Published {
    fn files(&self) -> Result<BTreeMap<TreePath, Content>, KindError> {
        self.asked.set(self.asked.get() + 1);
        Ok(self.files.clone())
    }

    fn read(&self, contents: &[Content], _bytes_max: u64) -> Result<Vec<Vec<u8>>, KindError> {
        let of = |content: &Content| {
            let path = self.files.iter().find(|(_, other)| *other == content).map(|(path, _)| path);
            path.and_then(|path| self.bytes.get(path)).cloned().unwrap_or_default()
        };
        Ok(contents.iter().map(of).collect())
    }
}

impl Published {
    /// Takes a tree; what is in files is told apart by its path.
    fn of(prepared: &Prepared) -> Self {
        let mut published = Self::default();
        for (path, part) in &prepared.parts {
            let content = match part {
                Part::Published(content) => *content,
                Part::Made(bytes) => {
                    published.bytes.insert(path.clone(), bytes.to_vec());
                    name_content(bytes)
                }
                part => name_content(format!("{part:?}").as_bytes()),
            };
            published.files.insert(path.clone(), content);
        }
        published
    }
}

fn write(directory: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn config(version: &str) -> String {
    format!("#\n# Linux/x86 {version} Kernel Configuration\n#\nCONFIG_MODULES=y\n")
}

/// A kernel as `make install modules_install` leaves it.
fn kernel(directory: &Path, release: &str) {
    write(directory, &format!("vmlinuz-{release}"), x86(release));
    write(directory, &format!("config-{release}"), config(release));
    write(directory, &format!("System.map-{release}"), "ffffffff81000000 T _stext\n");
    write(directory, &format!("lib/modules/{release}/kernel/a.ko"), elf(1));
    write(directory, &format!("lib/modules/{release}/modules.dep"), "kernel/a.ko:\n");
}

/// A tar of members: name, type flag, mode, link and bytes.
fn tar(members: &[(&str, u8, u32, &str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, mode, link, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn prepared(directory: &Path, before: Option<&Published>, absent: Absent) -> Result<Prepared, KindError> {
    let options = DirectoryOptions {
        fidelity: Fidelity::Git,
        exclusions: Exclusions::none(),
        now: FileTime { seconds: i64::MAX, nanoseconds: 0 },
    };
    let source = DirectorySource::open(directory, options, ContentCache::default()).unwrap();
    let source = AssembledSource::read(source).unwrap();
    let job = Job {
        directory: &source,
        before: before.map(|before| before as &dyn Before),
        absent,
        findings: &mut Findings::default(),
        verify_against: None,
        signatures: SignaturePolicy::default(),
        making: None,
        needed: None,
        built_on: None,
        newest: None,
        now: UnixTime::new(NOW).unwrap(),
    };
    Kernels.prepare(job)
}

#[track_caller]
fn paths(prepared: &Prepared) -> Vec<String> {
    prepared.parts.keys().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(directory: &Path) -> String {
    match prepared(directory, None, Absent::Stays) {
        Err(KindError::Refused(refusals)) => refusals
            .iter()
            .map(|refusal| format!("{}: {}", refusal.path, refusal.reason))
            .collect::<Vec<_>>()
            .join("\n"),
        other => panic!("it is not refused: {other:?}"),
    }
}

#[test]
fn a_kernel_becomes_the_current_one_and_the_one_before_is_deprecated() {
    let directory = tempfile::tempdir().unwrap();
    kernel(&directory.path().join("a"), "6.9.1-gentoo");
    kernel(&directory.path().join("b"), "6.10.1-gentoo");
    let first = prepared(&directory.path().join("a"), None, Absent::Stays).unwrap();
    assert_eq!(
        paths(&first),
        [
            ".smart-sync/kernels",
            "current/6.9.1-gentoo/System.map-6.9.1-gentoo",
            "current/6.9.1-gentoo/config-6.9.1-gentoo",
            "current/6.9.1-gentoo/lib/modules/6.9.1-gentoo/kernel/a.ko",
            "current/6.9.1-gentoo/lib/modules/6.9.1-gentoo/modules.dep",
            "current/6.9.1-gentoo/vmlinuz",
        ]
    );
    let alone = Kernels.alone(&first.parts);
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0].reference, RefName::tag("6.9.1-gentoo").unwrap());
    assert_eq!(alone[0].directory.to_string(), "current/6.9.1-gentoo");

    let published = Published::of(&first);
    let second = prepared(&directory.path().join("b"), Some(&published), Absent::Stays).unwrap();
    let notes = ["6.10.1-gentoo is new, and current", "6.9.1-gentoo is deprecated, and was current"];
    assert_eq!(second.notes, notes);
    // Nothing is asked for of what stays.
    let stays =
        second.parts.iter().filter(|(path, _)| path.as_bytes().starts_with(b"deprecated/6.9.1-gentoo/"));
    assert_eq!(stays.filter(|(_, part)| matches!(part, Part::Published(_))).count(), 5);
    assert_eq!(Kernels.alone(&second.parts).len(), 1);
    let holds = Kernels.branch_holds(NEWEST, &mut second.parts.keys());
    assert_eq!(holds.unwrap().to_string(), "current/6.10.1-gentoo");

    // The same build again changes nothing; an older state of it stays.
    let published = Published::of(&second);
    let again = prepared(&directory.path().join("a"), Some(&published), Absent::Stays).unwrap();
    assert_eq!(paths(&again), paths(&second));
    assert!(again.notes[0].contains("is published already, and stays deprecated"), "{:?}", again.notes);

    // Back to what was current, as a plan and its tree.
    let versions = ["6.10.1-gentoo".parse().unwrap()];
    let now = UnixTime::new(NOW).unwrap();
    let none = put(&published, &versions, State::Deprecated, now);
    assert!(matches!(none, Err(PutError::Move(MoveError::NoneCurrent))), "{none:?}");
    let back = put(&published, &["6.9.1-gentoo".parse().unwrap()], State::Current, now).unwrap();
    assert_eq!(back.prepared.notes, ["6.9.1-gentoo is current, and was deprecated"]);
    let published = Published::of(&back.prepared);
    let back = put(&published, &versions, State::Compat, now).unwrap();
    let holds = Kernels.branch_holds(NEWEST, &mut back.prepared.parts.keys());
    assert_eq!(holds.unwrap().to_string(), "current/6.9.1-gentoo");
}

#[test]
fn a_whole_tree_of_states_is_taken_with_the_names_that_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let archive = gzip(&tar(&[
        ("./", b'5', 0o755, "", b""),
        ("./lib/modules/6.9.1-gentoo-x86_64/", b'5', 0o755, "", b""),
        ("./lib/modules/6.9.1-gentoo-x86_64/build", b'2', 0o777, "/usr/src/linux", b""),
        ("./lib/modules/6.9.1-gentoo-x86_64/kernel/a.ko", b'0', 0o644, "", &elf(1)),
        ("./lib/modules/6.9.1-gentoo-x86_64/modules.dep", b'0', 0o644, "", b"kernel/a.ko:\n"),
    ]));
    write(root, "current/6.9.1-gentoo/vmlinuz", x86("6.9.1-gentoo-x86_64"));
    write(root, "current/6.9.1-gentoo/System.Map", "ffffffff81000000 T _stext\n");
    write(root, "current/6.9.1-gentoo/Kernel.Config", config("6.9.1-gentoo"));
    write(root, "current/6.9.1-gentoo/modules.tar.gz", &archive);
    write(root, "current/6.9.1-gentoo/initramfs", "a file system");
    write(root, "current/README", "what is here");
    kernel(&root.join("deprecated/6.8.1-gentoo"), "6.8.1-gentoo");
    let whole = prepared(root, None, Absent::Stays).unwrap();
    let found = paths(&whole);
    let expected = [
        "current/6.9.1-gentoo/config-6.9.1-gentoo-x86_64",
        "current/6.9.1-gentoo/initramfs",
        "current/6.9.1-gentoo/lib/modules/6.9.1-gentoo-x86_64/kernel/a.ko",
        "current/6.9.1-gentoo/lib/modules/6.9.1-gentoo-x86_64/modules.dep",
    ];
    for path in expected {
        assert!(found.iter().any(|found| found == path), "{path} {found:#?}");
    }
    assert_eq!(found.len(), 1 + 6 + 5);
    let index = TreePath::new(shelf::INDEX.as_bytes()).unwrap();
    let Part::Made(text) = &whole.parts[&index] else { panic!("it is made") };
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains(" 6.9.1-gentoo-x86_64 6.9.1-gentoo\n"), "{text}");

    // What the directory says counts, and what it does not hold goes only where it is all there is to be.
    let published = Published::of(&whole);
    fs::rename(root.join("deprecated/6.8.1-gentoo"), root.join("current/6.8.1-gentoo")).unwrap();
    let moved = prepared(root, Some(&published), Absent::Stays).unwrap();
    assert!(
        moved.notes.contains(&"6.8.1-gentoo is current, and was deprecated".to_owned()),
        "{:?}",
        moved.notes
    );
    fs::remove_dir_all(root.join("current/6.9.1-gentoo")).unwrap();
    let stays = prepared(root, Some(&published), Absent::Stays).unwrap();
    assert!(paths(&stays).iter().any(|path| path.starts_with("current/6.9.1-gentoo/")));
    let alone = prepared(root, Some(&published), Absent::Goes).unwrap();
    assert!(!paths(&alone).iter().any(|path| path.contains("6.9.1")));
    fs::rename(root.join("current/6.8.1-gentoo"), root.join("deprecated/6.8.1-gentoo")).unwrap();
    let none = prepared(root, Some(&published), Absent::Goes).unwrap_err();
    assert!(none.to_string().contains("no kernel would be current"), "{none}");
}

#[test]
fn directories_of_versions_become_what_each_would_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    for version in ["6.9.1", "6.10.1"] {
        kernel(&directory.path().join(version), version);
    }
    let both = prepared(directory.path(), None, Absent::Stays).unwrap();
    let notes =
        ["6.9.1 is new, and current", "6.10.1 is new, and current", "6.9.1 is deprecated, and was current"];
    assert_eq!(both.notes, notes);
    // In one kernel, they are no versions.
    kernel(directory.path(), "6.11.1");
    let one = prepared(directory.path(), None, Absent::Stays).unwrap();
    assert_eq!(one.notes.len(), 2, "{:?}", one.notes);
    assert!(one.notes[0].contains("no parts of the kernel 6.11.1, and are left out"), "{:?}", one.notes);
}

#[test]
fn a_version_that_is_offered_is_followed_by_nobody_until_it_is_made_current() {
    let directory = tempfile::tempdir().unwrap();
    let (offered, again) = (directory.path().join("offered-ones"), directory.path().join("again"));
    kernel(&offered.join("offered/6.9.1"), "6.9.1");
    let first = prepared(&offered, None, Absent::Stays).unwrap();
    assert_eq!(first.notes, ["6.9.1 is new, and offered"]);
    assert_eq!(Kernels.branch_holds(NEWEST, &mut first.parts.keys()), None);
    assert_eq!(Kernels.alone(&first.parts).len(), 1);
    let versions = ["6.9.1".parse().unwrap()];
    // What is known of it goes with it.
    let (mut from, known) = (Published::of(&first), b"- http://a.example.org/v offered/6.9.1/vmlinuz\n");
    let file = TreePath::new(provenance::FILE.as_bytes()).unwrap();
    from.files.insert(file.clone(), name_content(known));
    from.bytes.insert(file.clone(), known.to_vec());
    let current = put(&from, &versions, State::Current, UnixTime::new(NOW).unwrap()).unwrap();
    let known: &[u8] = b"- http://a.example.org/v current/6.9.1/vmlinuz\n";
    assert_eq!(current.prepared.parts.get(&file), Some(&Part::Made(known.into())));
    let published = Published::of(&current.prepared);

    // It is the only one that hosts have, so it must not become a mere offer again.
    kernel(&again.join("offered/6.9.1"), "6.9.1");
    let stays = prepared(&again, Some(&published), Absent::Stays).unwrap();
    assert_eq!(stays.notes, ["6.9.1 is published already, and stays current"]);
    let all = paths(&current.prepared);
    assert_eq!(
        paths(&stays),
        all.iter().filter(|path| **path != provenance::FILE).cloned().collect::<Vec<_>>()
    );
}

#[test]
fn what_is_missing_or_not_what_it_should_be_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "a/readme", "nothing");
    let all = refused(&root.join("a"));
    for part in ["no vmlinuz", "no config", "no System.map", "no modules", "nothing in it says which version"]
    {
        assert!(all.contains(part), "{part}: {all}");
    }
    kernel(&root.join("b"), "6.9.1");
    write(root, "b/vmlinuz-6.9.1", "<html>404 Not Found</html>");
    write(root, "b/lib/modules/6.9.1/kernel/b.ko", elf(3));
    write(root, "b/System.map-6.9.1", "nothing");
    let all = refused(&root.join("b"));
    assert_eq!(all.lines().count(), 3, "{all}");
    assert!(all.contains("vmlinuz-6.9.1: it is no image of a kernel"), "{all}");
    assert!(all.contains("kernel/b.ko: it is a program or a library"), "{all}");

    kernel(&root.join("c"), "6.9.1");
    write(root, "c/vmlinuz-6.9.1", x86("6.9.2"));
    assert!(refused(&root.join("c")).contains("vmlinuz-6.9.1 that it is 6.9.2"));
    kernel(&root.join("d"), "6.9.1");
    kernel(&root.join("d"), "6.9.2");
    assert!(refused(&root.join("d")).contains("a directory holds one version"));
    kernel(&root.join("e"), "6.9.1");
    write(root, "e/config-6.9.1", config("6.10.1"));
    assert!(refused(&root.join("e")).contains("it is the configuration of 6.10.1, and the kernel is 6.9.1"));
}

#[test]
fn states_and_directories_that_are_none_are_refused() {
    #[track_caller]
    fn check(places: &[&str], expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        for place in places {
            kernel(&directory.path().join(place), "6.9.1");
        }
        let found = refused(directory.path());
        assert!(found.contains(expected), "{found}");
    }
    check(&["old/6.9.1"], "old is no state of kernels");
    check(&["current/6.9.1", "old/6.9.1"], "old is no state of kernels");
    check(&["current/gentoo"], "its directory is not called by a version");
    check(&["current/6.9.2"], "the kernel in it is 6.9.1");
    check(
        &["current/6.9.1", "compat/6.9.1"],
        "6.9.1 lies in current/6.9.1 as well, and a version has one state",
    );
    check(&["6.9.1", "compat/6.9.1"], "6.9.1 lies in 6.9.1 as well");
    check(&["current/6.9.1", "."], "a kernel lies here, and others in directories of states");
}

#[test]
fn hostile_archives_are_refused_by_what_is_wrong_with_them() {
    #[track_caller]
    fn check(archive: &[u8], expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        kernel(directory.path(), "6.9.1");
        fs::remove_dir_all(directory.path().join("lib")).unwrap();
        write(directory.path(), "modules.tar.gz", archive);
        if expected.is_empty() {
            prepared(directory.path(), None, Absent::Stays).unwrap();
        } else {
            let found = refused(directory.path());
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }
    let module = elf(1);
    let place = "lib/modules/6.9.1/kernel/a.ko";
    let one = |name: &str, kind: u8, mode: u32, link: &str, bytes: &[u8]| {
        gzip(&tar(&[(place, b'0', 0o644, "", &elf(1)), (name, kind, mode, link, bytes)]))
    };
    check(&one("lib/modules/6.9.1/b", b'0', 0o644, "", b"b"), "");
    check(&one("lib/modules/6.9.1/../../../etc/passwd", b'0', 0o644, "", b"b"), "`.` or `..`");
    check(&one("/lib/modules/6.9.1/b", b'0', 0o644, "", b"b"), "/lib/modules/6.9.1/b: ");
    check(&one("etc/passwd", b'0', 0o644, "", b"b"), "it does not lie below lib/modules/RELEASE");
    check(&one("etc", b'5', 0o755, "", b""), "it does not lie below lib/modules/RELEASE");
    check(&one("lib/modules/6.9.1/.git/config", b'0', 0o644, "", b"b"), ".git");
    check(&one("lib/modules/6.9.1/b", b'2', 0o777, "/etc", b""), "it is a symbolic link");
    check(&one("lib/modules/6.9.1/b", b'1', 0o644, place, b""), "");
    check(&one("lib/modules/6.9.1/b", b'1', 0o644, "etc/passwd", b""), "it is a hard link to no file");
    check(&one("lib/modules/6.9.1/b", b'3', 0o644, "", b""), "it is neither a file nor a directory");
    check(&one("lib/modules/6.9.1/b", b'6', 0o644, "", b""), "it is neither a file nor a directory");
    check(&one("lib/modules/6.9.1/b", b'0', 0o4755, "", b"b"), "with the rights of its owner");
    check(&one(place, b'0', 0o644, "", &module), "it comes twice");
    check(&one("lib/modules/6.9.1/kernel", b'0', 0o644, "", b"b"), "lies below a file");
    check(&one("lib/modules/6.9.2/b", b'0', 0o644, "", b"b"), "modules.tar.gz that it is 6.9.2");
    check(&one("lib/modules/6.9.1/b.ko", b'0', 0o644, "", b"#!/bin/sh"), "it is no module");
    check(b"<html>404 Not Found</html>", "modules.tar.gz: ");
    check(&gzip(&tar(&[(place, b'0', 0o644, "", &module)]))[..40], "modules.tar.gz: ");
    let whole = gzip(&tar(&[(place, b'0', 0o644, "", &module)]));
    check(&[&whole[..], b"behind"].concat(), "modules.tar.gz: ");
}
