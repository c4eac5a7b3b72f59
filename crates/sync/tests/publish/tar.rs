//! Tar streams as sources, written by the program of that name and by hand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use smart_sync_store::manifest::{Attributes, Fidelity};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{IngestOptions, Ingested, ingest};
use smart_sync_sync::source::SourceError;
use smart_sync_sync::source::tar::{TarOptions, TarSource, spool_file};

use crate::destination::{Memory, noise};

fn read(stream: &[u8], fidelity: Fidelity) -> Result<TarSource, SourceError> {
    let options = TarOptions { fidelity, exclusions: Exclusions::default() };
    TarSource::read(stream, spool_file(&std::env::temp_dir()).unwrap(), &options)
}

fn publish(stream: &[u8], fidelity: Fidelity) -> (Memory, Ingested) {
    let mut memory = Memory::default();
    let ingested = memory.ingest(&mut read(stream, fidelity).unwrap());
    (memory, ingested)
}

fn describe(memory: &Memory, ingested: &Ingested) -> Vec<String> {
    memory
        .tree(ingested)
        .iter()
        .map(|(path, (kind, bytes))| format!("{path}: {kind}, {}", bytes.len()))
        .collect()
}

fn tar_of(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .args(["--create", "--file=-"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn sample() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path();
    fs::create_dir_all(top.join("d/empty")).unwrap();
    fs::create_dir_all(top.join("var")).unwrap();
    fs::write(top.join("var/state"), "not to be published").unwrap();
    fs::write(top.join("z"), noise(2, 300_000)).unwrap();
    fs::write(top.join("d/zero"), "").unwrap();
    fs::write(top.join("d/zero too"), "").unwrap();
    fs::hard_link(top.join("z"), top.join("d/also")).unwrap();
    fs::write(top.join(format!("{}.txt", "long".repeat(50))), "long name").unwrap();
    symlink("../../etc", top.join("link")).unwrap();
    directory
}

#[test]
fn every_format_of_tar_gives_the_same_tree() {
    let directory = sample();
    let long = format!("{}.txt", "long".repeat(50));
    for format in ["--format=gnu", "--format=pax"] {
        let stream = tar_of(directory.path(), &[format, "."]);
        let (memory, ingested) = publish(&stream, Fidelity::Git);
        assert_eq!(
            describe(&memory, &ingested),
            [
                "d/also: file 100644, 300000".to_owned(),
                "d/empty: directory 40000, 0".to_owned(),
                "d/zero: file 100644, 0".to_owned(),
                "d/zero too: file 100644, 0".to_owned(),
                "link: link 120000, 9".to_owned(),
                format!("{long}: file 100644, 9"),
                "z: file 100644, 300000".to_owned(),
            ]
        );
        let (memory, ingested) = publish(&stream, Fidelity::System);
        let tree = memory.tree(&ingested);
        assert_eq!(tree["z"].0, "also d/also");
        assert_eq!(tree["d/also"].1, noise(2, 300_000));
        assert_eq!(tree["d/zero too"].0, "file 644");
        assert!(tree.contains_key("."));
    }
}

#[test]
fn times_and_owners_are_those_of_the_stream() {
    let directory = sample();
    let stream = tar_of(
        directory.path(),
        &["--format=pax", "--owner=alice:1234", "--group=staff:50", "--mtime=@1700000000.25", "z"],
    );
    let (memory, ingested) = publish(&stream, Fidelity::System);
    let entries = memory.entries(&ingested);
    let Attributes::System(Some(metadata)) = &entries[1].attributes else { panic!("no metadata") };
    assert_eq!((metadata.uid, metadata.gid), (1234, 50));
    assert_eq!((&*metadata.user, &*metadata.group), (&b"alice"[..], &b"staff"[..]));
    assert_eq!((metadata.modified.seconds, metadata.modified.nanoseconds), (1_700_000_000, 250_000_000));
}

/// A member written by hand.
struct Raw<'a> {
    name: &'a [u8],
    kind: u8,
    link: &'a [u8],
    body: &'a [u8],
}

const fn file<'a>(name: &'a [u8], body: &'a [u8]) -> Raw<'a> {
    Raw { name, kind: b'0', link: b"", body }
}

fn stream(members: &[Raw<'_>]) -> Vec<u8> {
    let mut stream = Vec::new();
    for member in members {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..member.name.len()].copy_from_slice(member.name);
        header.as_mut_bytes()[157..157 + member.link.len()].copy_from_slice(member.link);
        header.set_entry_type(tar::EntryType::new(member.kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(member.body.len() as u64);
        header.set_cksum();
        stream.extend_from_slice(header.as_bytes());
        stream.extend_from_slice(member.body);
        stream.resize(stream.len().next_multiple_of(512), 0);
    }
    stream.resize(stream.len() + 1024, 0);
    stream
}

#[test]
fn the_last_member_of_a_name_counts() {
    let bytes = stream(&[file(b"a", b"first"), file(b"b", b"b"), file(b"./a", b"second")]);
    let (memory, ingested) = publish(&bytes, Fidelity::Git);
    assert_eq!(memory.tree(&ingested)["a"].1, b"second");
}

#[test]
fn directories_that_are_not_named_are_added() {
    let (memory, ingested) = publish(&stream(&[file(b"a/b/c", b"x")]), Fidelity::System);
    let expected =
        [".: directory 755, 0", "a: directory 755, 0", "a/b: directory 755, 0", "a/b/c: file 644, 1"];
    assert_eq!(describe(&memory, &ingested), expected);
}

#[track_caller]
fn check_refused(bytes: &[u8], expected: &str) {
    let error = match read(bytes, Fidelity::System) {
        Err(error) => format!("{error}"),
        Ok(mut source) => {
            let error = ingest(&mut source, &mut Memory::default(), IngestOptions::default()).unwrap_err();
            format!(
                "{error}: {}",
                std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
            )
        }
    };
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

#[test]
fn hostile_streams_are_refused() {
    let link = |name, kind, link| Raw { name, kind, link, body: b"" };
    check_refused(&stream(&[file(b"../a", b"")]), "tar member ../a");
    check_refused(&stream(&[file(b"a/../../b", b"")]), "is `.` or `..`");
    check_refused(&stream(&[file(b"/etc/passwd", b"")]), "absolute");
    check_refused(&stream(&[file(b"a//b", b"")]), "empty");
    check_refused(&stream(&[file(b".", b"")]), "stands for the tree itself");
    check_refused(
        &stream(&[link(b"l", b'2', b"/etc"), file(b"l/passwd", b"")]),
        "below l, which is not a directory",
    );
    check_refused(&stream(&[link(b"h", b'1', b"/etc/passwd")]), "absolute");
    check_refused(&stream(&[link(b"h", b'1', b"later"), file(b"later", b"")]), "did not come before it");
    check_refused(&stream(&[link(b"l", b'2', b"x"), link(b"h", b'1', b"l")]), "something that is no file");
    check_refused(&stream(&[link(b"x", b'S', b"")]), "sparse");
    check_refused(&stream(&[link(b"x", b'?', b"")]), "unknown type '?'");
    check_refused(b"", "empty");
    let good = stream(&[file(b"a", &[7; 700])]);
    check_refused(&good[..900], "in the middle");
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    check_refused(&flipped, "checksum");
    let pax = |body: &[u8]| stream(&[Raw { name: b"pax", kind: b'x', link: b"", body }, file(b"a", b"")]);
    check_refused(&pax(b"21 path=../../escape\n"), "is `.` or `..`");
    check_refused(&pax(b"16 path=/absolu\n"), "absolute");
    check_refused(&pax(b"19 size=9999999999\n"), "in the middle");
    check_refused(&pax(b"25 GNU.sparse.major=1000\n"), "sparse");
    check_refused(&pax(b"99 path=a\n"), "malformed");
    check_refused(&pax(&vec![b'x'; (1 << 20) + 1]), "more than 1048576 bytes");
    check_refused(
        &stream(&[Raw { name: b"g", kind: b'g', link: b"", body: b"9 path=a\n" }, file(b"a", b"")]),
        "global header",
    );
}

#[test]
fn repositories_and_excluded_paths_are_left_out() {
    let bytes = stream(&[
        file(b"a/.git/config", b""),
        file(b"var/x", b""),
        file(b"x.socket", b""),
        file(b"kept", b""),
    ]);
    let (memory, ingested) = publish(&bytes, Fidelity::Git);
    assert_eq!(describe(&memory, &ingested), ["kept: file 100644, 0"]);
    assert_eq!(ingested.warnings.len(), 1);
}
