use futures::executor::block_on;
use object_store::memory::InMemory;

use super::faulty::{Failure, Faulty};
use super::*;
use crate::error::Fault;

fn file(domain: &str, id: u8, number: i64) -> PackFile {
    PackFile { domain: domain.parse().unwrap(), id: PackId::from_bytes([id; 32]), number }
}

fn listed(backend: &Backend) -> Vec<(PackFile, u64)> {
    let mut all: Vec<_> = block_on(backend.list().try_collect()).unwrap();
    all.sort();
    all
}

/// A source that cannot be read.
struct Broken;

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("broken"))
    }
}

/// What every back end has to do.
fn conforms(backend: &Backend) {
    let one = file("public", 1, 1);
    let again = file("public", 1, 2);
    let private = file("dotfiles/alice", 1, 3);
    assert_eq!(listed(backend), []);
    assert_eq!(block_on(backend.len(&one)).unwrap(), None);
    assert_eq!(block_on(backend.get(&one)).unwrap_err().fault(), Fault::Absent);
    assert_eq!(block_on(backend.get_range(&one, 0..1)).unwrap_err().fault(), Fault::Absent);
    block_on(backend.delete(&one)).unwrap();

    block_on(backend.put(&one, Bytes::from_static(b"0123456789"))).unwrap();
    block_on(backend.put(&again, Bytes::from_static(b"other"))).unwrap();
    block_on(backend.put(&private, Bytes::from_static(b"secret"))).unwrap();
    assert_eq!(block_on(backend.get(&one)).unwrap(), "0123456789");
    assert_eq!(block_on(backend.get_range(&one, 3..6)).unwrap(), "345");
    assert_eq!(block_on(backend.get_range(&one, 4..4)).unwrap(), "");
    assert_eq!(block_on(backend.len(&one)).unwrap(), Some(10));
    assert!(block_on(backend.get_range(&one, 8..12)).is_err(), "a range beyond the end");
    let mut all = vec![(one.clone(), 10), (again.clone(), 5), (private.clone(), 6)];
    all.sort();
    assert_eq!(listed(backend), all);

    // Two parts and a bit, read by what gives little at a time.
    let long: Vec<u8> = (0..=250u8).cycle().take(2 * PART_LEN + 5).collect();
    let large = file("public", 2, 4);
    let mut source = io::Read::chain(&long[..1000], &long[1000..]);
    block_on(backend.put_from(&large, &mut source)).unwrap();
    assert!(block_on(backend.get(&large)).unwrap() == long);
    block_on(backend.delete(&large)).unwrap();
    let mut broken = io::Read::chain(&long[..=PART_LEN], Broken);
    assert!(block_on(backend.put_from(&large, &mut broken)).is_err());
    assert_eq!(listed(backend), all, "half a file is no file");
    block_on(backend.put_from(&large, &mut &b""[..])).unwrap();
    assert_eq!(block_on(backend.len(&large)).unwrap(), Some(0));
    block_on(backend.delete(&large)).unwrap();

    block_on(backend.put(&one, Bytes::from_static(b"healed"))).unwrap();
    assert_eq!(block_on(backend.get(&one)).unwrap(), "healed");
    block_on(backend.delete(&again)).unwrap();
    block_on(backend.delete(&again)).unwrap();
    assert_eq!(listed(backend).len(), 2);
}

#[test]
fn a_directory_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::local(&directory.path().join("new")).unwrap();
    conforms(&backend);
    assert_eq!(backend.remove_unfinished::<PackFile>(Timestamp(i64::MAX)).unwrap(), 0);
    let path = backend.local_path(&file("public", 1, 1)).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"healed");
}

#[test]
fn memory_conforms() {
    conforms(&Backend::new(Arc::new(InMemory::new())));
}

#[test]
fn a_decorated_back_end_conforms_until_it_fails() {
    conforms(&Backend::new(Arc::new(Faulty::new(Arc::new(InMemory::new()), Failure::Io, u64::MAX))));
}

#[test]
fn failures_are_told_apart() {
    let check = |failure, operation: fn(&Backend) -> Result<(), StoreError>, fault| {
        let inner = Arc::new(InMemory::new());
        block_on(Backend::new(inner.clone()).put(&file("public", 1, 1), Bytes::from_static(b"0123")))
            .unwrap();
        let error = operation(&Backend::new(Arc::new(Faulty::new(inner, failure, 0)))).unwrap_err();
        assert_eq!(error.fault(), fault, "{error:?}");
    };
    let put = |backend: &Backend| block_on(backend.put(&file("public", 1, 1), Bytes::from_static(b"x")));
    let get = |backend: &Backend| block_on(backend.get_range(&file("public", 1, 1), 1..3)).map(drop);
    let delete = |backend: &Backend| block_on(backend.delete(&file("public", 1, 1)));
    check(Failure::NoSpace, put, Fault::Full);
    check(Failure::Io, put, Fault::Transient);
    check(Failure::Io, get, Fault::Transient);
    check(Failure::Short, get, Fault::Corrupt);
    check(Failure::Io, delete, Fault::Transient);
}

#[test]
fn names_come_back_and_others_are_passed_over() {
    for good in [file("public", 1, 1), file("a/b+c/d.e", 0xff, i64::MAX)] {
        assert_eq!(PackFile::parse(&good.to_string()), Some(good));
    }
    let id = "01".repeat(32);
    for bad in [
        format!("packs/{id}-1.pack"),
        format!("packs/public/{id}-01.pack"),
        format!("packs/public/{id}-0.pack"),
        format!("packs/public/{id}.pack"),
        format!("packs/public/{id}-1.pack.tmp"),
        format!("packs/.hidden/{id}-1.pack"),
        format!("other/public/{id}-1.pack"),
    ] {
        assert_eq!(PackFile::parse(&bad), None, "{bad}");
    }
}

#[test]
fn what_a_killed_process_left_half_written_is_removed_when_it_is_old() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::local(directory.path()).unwrap();
    let whole = file("dotfiles/alice", 1, 1);
    block_on(backend.put(&whole, Bytes::from_static(b"whole"))).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
    let make = |number: i64, modified| {
        let path = directory.path().join(format!("{}#1", file("dotfiles/alice", 2, number)));
        std::fs::write(&path, b"ha").unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    };
    make(2, old);
    make(3, old + std::time::Duration::from_secs(1));
    assert_eq!(listed(&backend), [(whole, 5)], "half a file is no pack");
    assert_eq!(backend.remove_unfinished::<PackFile>(Timestamp(1_000)).unwrap(), 0);
    assert_eq!(backend.remove_unfinished::<PackFile>(Timestamp(1_001)).unwrap(), 1);
    assert_eq!(backend.remove_unfinished::<PackFile>(Timestamp(1_002)).unwrap(), 1);
    assert_eq!(listed(&backend).len(), 1);
    assert_eq!(
        Backend::new(Arc::new(InMemory::new())).remove_unfinished::<PackFile>(Timestamp(1_002)).unwrap(),
        0
    );
}
