//! Directories as sources.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use smart_sync_store::manifest::{Attributes, Entry, Fidelity, FileTime, TreePath};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{IngestError, IngestOptions, Ingested, ingest};
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};
use smart_sync_sync::source::listed::ListedSource;
use smart_sync_sync::source::{SourceError, SourceNode, TreeSource};

use crate::destination::{Memory, noise};

/// Long after anything that a test writes.
const LATER: FileTime = FileTime { seconds: 1 << 40, nanoseconds: 0 };

fn options(fidelity: Fidelity) -> DirectoryOptions {
    DirectoryOptions { fidelity, exclusions: Exclusions::default(), now: LATER }
}

fn open(path: &Path, fidelity: Fidelity) -> DirectorySource {
    DirectorySource::open(path, options(fidelity), ContentCache::default()).unwrap()
}

fn publish(path: &Path, fidelity: Fidelity) -> (Memory, Ingested) {
    let mut memory = Memory::default();
    let ingested = memory.ingest(&mut open(path, fidelity));
    (memory, ingested)
}

fn write(top: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = top.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn sample() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    write(top, "a/x", "below");
    write(top, "a!", "before");
    write(top, "a.c", "between");
    write(top, "deep/er/still", noise(1, 500_000));
    write(top, "var/lib/state", "not to be published");
    write(top, "modules/var/x", "to be published");
    write(top, "tools/target/debug", "not to be published");
    write(top, ".git/config", "not to be published");
    write(top, "sub/.git/config", "not to be published either");
    fs::create_dir(top.join("empty")).unwrap();
    fs::set_permissions(top.join("a.c"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("/etc/passwd", top.join("link")).unwrap();
    directory
}

#[test]
fn a_directory_is_published_as_git_would_see_it() {
    let directory = sample();
    let _socket = UnixListener::bind(directory.path().join("agent")).unwrap();
    let _excluded = UnixListener::bind(directory.path().join("agent.socket")).unwrap();
    let (memory, ingested) = publish(directory.path(), Fidelity::Git);
    let tree = memory.tree(&ingested);
    let described: Vec<String> = tree.iter().map(|(path, (kind, _))| format!("{path}: {kind}")).collect();
    assert_eq!(
        described,
        [
            "a!: file 100644",
            "a.c: file 100755",
            "a/x: file 100644",
            "deep/er/still: file 100644",
            "empty: directory 40000",
            "link: link 120000",
            "modules/var/x: file 100644",
            "sub: directory 40000",
            "tools: directory 40000"
        ]
    );
    assert_eq!(tree["deep/er/still"].1, noise(1, 500_000));
    assert_eq!(tree["link"].1, b"/etc/passwd");
    let warnings: Vec<String> = ingested.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["agent is left out: a socket"]);
}

#[test]
fn everything_that_the_file_system_knows_is_kept_when_asked_for() {
    let directory = sample();
    let top = directory.path();
    fs::hard_link(top.join("a!"), top.join("z")).unwrap();
    fs::set_permissions(top.join("a.c"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::File::create(top.join("holes")).unwrap().set_len(1 << 20).unwrap();
    let (memory, ingested) = publish(top, Fidelity::System);
    let tree = memory.tree(&ingested);
    assert_eq!(tree["z"].0, "also a!");
    assert_eq!(tree["a.c"].0, "file 4711");
    assert_eq!(tree["a"].0.split(' ').next(), Some("directory"));
    assert_eq!(tree["holes"].1.len(), 1 << 20);
    let entries = memory.entries(&ingested);
    let entry = |path: &str| -> &Entry {
        entries.iter().find(|entry| entry.path.to_string() == path).expect("the path is there")
    };
    let Attributes::System(Some(metadata)) = &entry("a.c").attributes else { panic!("no metadata") };
    let found = fs::metadata(top.join("a.c")).unwrap();
    assert_eq!((metadata.uid, metadata.gid), (found.uid(), found.gid()));
    assert_eq!(metadata.modified.seconds, found.mtime());
    assert_eq!(i64::from(metadata.modified.nanoseconds), found.mtime_nsec());
    let Attributes::System(Some(metadata)) = &entry("holes").attributes else { panic!("no metadata") };
    assert!(metadata.is_sparse);
    assert!(entry(".").path.is_root());
}

#[test]
fn extended_attributes_are_kept() {
    let directory = sample();
    let file = directory.path().join("a!");
    if xattr::set(&file, "user.comment", b"said \0 so").is_err() {
        // The file system of the temporary directory has none.
        return;
    }
    let (memory, ingested) = publish(directory.path(), Fidelity::System);
    let entries = memory.entries(&ingested);
    let entry = entries.iter().find(|entry| entry.path.as_bytes() == b"a!").unwrap();
    let Attributes::System(Some(metadata)) = &entry.attributes else { panic!("no metadata") };
    assert!(
        metadata.xattrs.iter().any(|xattr| &*xattr.name == b"user.comment" && &*xattr.value == b"said \0 so")
    );
}

#[test]
fn unchanged_files_are_not_opened() {
    let directory = sample();
    let mut memory = Memory::default();
    let mut source = open(directory.path(), Fidelity::Git);
    let first = memory.ingest(&mut source);
    // No content could be read now, whoever runs the test.
    let again = |cache| DirectorySource::open(directory.path(), options(Fidelity::Git), cache).unwrap();
    let mut source = again(source.into_cache());
    let second = memory.ingest(&mut source);
    assert_eq!(second.manifest, first.manifest);
    // The link's target is read from its directory, not from a file.
    assert_eq!(second.statistics.contents_read, 1);
    write(directory.path(), "a!", "another");
    let mut source = again(source.into_cache());
    let third = memory.ingest(&mut source);
    assert_eq!(third.statistics.contents_read, 2);
    assert_ne!(third.manifest, first.manifest);
}

#[test]
fn a_file_that_was_exchanged_after_the_walk_is_looked_at_again() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "f", "old");
    let mut source = open(directory.path(), Fidelity::Git);
    let entry = source.next_entry().unwrap().unwrap();
    write(directory.path(), "f", "longer than before");
    let SourceNode::Content { handle, .. } = &entry.node else { panic!("not a file") };
    let contents = source.contents();
    let path = TreePath::new(*b"f").unwrap();
    assert!(contents.reader().read(&path, handle, &mut |_| Ok(())).is_err());
    let (_, size, handle) = contents.look_again(&path).unwrap().unwrap();
    assert_eq!(size, 18);
    contents
        .reader()
        .read(&path, &handle, &mut |bytes| {
            assert_eq!(bytes, b"longer than before");
            Ok(())
        })
        .unwrap();
    fs::remove_file(directory.path().join("f")).unwrap();
    symlink("/etc/passwd", directory.path().join("f")).unwrap();
    assert!(contents.reader().read(&path, &handle, &mut |_| Ok(())).is_err());
    assert!(contents.look_again(&path).unwrap().is_none());
}

#[test]
fn a_directory_that_becomes_a_link_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "x", "secret");
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "d/x", "public");
    let mut source = open(directory.path(), Fidelity::Git);
    let entry = source.next_entry().unwrap().unwrap();
    assert_eq!(entry.path.as_bytes(), b"d/x");
    fs::rename(directory.path().join("d"), directory.path().join("moved")).unwrap();
    symlink(outside.path(), directory.path().join("d")).unwrap();
    let SourceNode::Content { handle, .. } = &entry.node else { panic!("not a file") };
    let contents = source.contents();
    let read = contents.reader().read(&entry.path, handle, &mut |_| panic!("something was read"));
    assert!(read.is_err());
}

#[test]
fn a_directory_that_did_not_change_costs_one_question() {
    for fidelity in [Fidelity::Git, Fidelity::System] {
        let directory = sample();
        let mut memory = Memory { keeps_manifests: true, ..Memory::default() };
        let mut source = open(directory.path(), fidelity);
        let first = memory.ingest(&mut source);
        let mut again = |source: DirectorySource| {
            let source = DirectorySource::open(directory.path(), options(fidelity), source.into_cache());
            let mut source = source.unwrap();
            let ingested = memory.ingest(&mut source);
            (ingested, source)
        };
        let (unchanged, source) = again(source);
        assert_eq!((unchanged.manifest, unchanged.git_tree), (first.manifest, first.git_tree));
        assert_eq!((unchanged.statistics.contents_read, unchanged.statistics.packs_sent), (0, 0));

        // One that did is gone through again, from its beginning.
        write(directory.path(), "a/y", "new");
        let (changed, source) = again(source);
        assert_eq!(changed.manifest.entries, first.manifest.entries + 1);
        assert_eq!(memory.tree(&changed).len(), memory.tree(&first).len() + 1);
        let mut again = |source: DirectorySource| {
            let source = DirectorySource::open(directory.path(), options(fidelity), source.into_cache());
            memory.ingest(&mut source.unwrap())
        };
        fs::remove_file(directory.path().join("a/y")).unwrap();
        let mut back = again(source);
        back.statistics = first.statistics;
        if fidelity == Fidelity::Git {
            assert_eq!(back, first);
        }
    }
}

#[test]
fn a_tree_that_was_listed_is_published_as_it_was_then_or_not_at_all() {
    let directory = sample();
    let (_, plain) = publish(directory.path(), Fidelity::Git);
    let mut source = open(directory.path(), Fidelity::Git);
    let mut listed = ListedSource::read(&mut source).unwrap();
    assert_eq!(listed.listing().read_small(b"a/x", 5).unwrap().as_deref(), Some(&b"below"[..]));
    assert_eq!(listed.listing().read_small(b"a/x", 4).unwrap(), None);
    assert_eq!(listed.listing().read_small(b"a", 100).unwrap(), None);
    let mut memory = Memory::default();
    assert_eq!(memory.ingest(&mut listed).manifest, plain.manifest);

    let mut source = open(directory.path(), Fidelity::Git);
    let mut listed = ListedSource::read(&mut source).unwrap();
    write(directory.path(), "a/x", "somebody writes to it");
    let refused = ingest(&mut listed, &mut Memory::default(), IngestOptions::default()).unwrap_err();
    assert!(
        matches!(&refused, IngestError::Source(SourceError::Changed(path)) if path.as_bytes() == b"a/x"),
        "{refused:?}"
    );

    let mut source = open(directory.path(), Fidelity::Git);
    let mut listed = ListedSource::read(&mut source).unwrap();
    listed.change(|entry| {
        if entry.path.as_bytes() == b"a/x" {
            entry.node = SourceNode::of_bytes(b"in its place".as_slice().into());
        }
        entry.path.as_bytes() != b"deep/er/still"
    });
    let ingested = memory.ingest(&mut listed);
    let tree = memory.tree(&ingested);
    assert_eq!(tree["a/x"].1, b"in its place");
    assert!(!tree.contains_key("deep/er/still"));
}
