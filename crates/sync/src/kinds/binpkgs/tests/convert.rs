//! Packages of the older form that are converted.

use std::io::{self, Cursor};
use std::path::Path;

use super::super::codec::Codec;
use super::super::convert::convert;
use super::super::image::{ImageEntry, list};
use super::super::package::{Container, Package};
use super::super::signature::Signature;
use super::super::{gpkg, xpak};
use crate::openpgp::{KeyRing, SigningKey};
use crate::time::UnixTime;

const OLD: &[u8] = include_bytes!("../../../../tests/golden/binpkgs/app-test/hello/hello-1.0-r1-8.xpak");
const RING: &[u8] = include_bytes!("../../../../tests/golden/openpgp/ring.asc");
const NOW: UnixTime = UnixTime::new(1_796_010_000).unwrap();

fn converted(source: &[u8], key: Option<&SigningKey>) -> Vec<u8> {
    let package = xpak::read(Cursor::new(source)).unwrap();
    let mut out = Vec::new();
    convert(Cursor::new(source), &package, tempfile::tempfile().unwrap(), key, NOW, &mut out).unwrap();
    out
}

fn files(source: &[u8], package: &Package) -> Vec<ImageEntry> {
    let begin = usize::try_from(package.image.range.start).unwrap();
    let len = package.image.range.end - package.image.range.start;
    let mut files = Vec::new();
    list(&source[begin..], len, package.image.codec, package.container, |entry| files.push(entry)).unwrap();
    files
}

/// A package of the older form with these files, which says what the golden one says.
fn with_files(archive: &[u8]) -> Vec<u8> {
    let golden = xpak::read(Cursor::new(OLD)).unwrap();
    let segment = &OLD[usize::try_from(golden.image.range.end).unwrap()..];
    [archive, segment].concat()
}

#[test]
fn a_converted_package_says_the_same_and_has_the_same_files() {
    let before = xpak::read(Cursor::new(OLD)).unwrap();
    let whole = converted(OLD, None);
    let after = gpkg::read(&whole[..]).unwrap();
    assert_eq!(after.container, Container::Gpkg);
    assert_eq!((&after.metadata, &after.signature), (&before.metadata, &Signature::Unsigned));
    assert_eq!(files(&whole, &after), files(OLD, &before));
    assert_eq!(whole, converted(OLD, None), "it is made of nothing else");
}

#[test]
fn a_converted_package_can_be_signed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openpgp/secret.asc");
    let key = SigningKey::open(&path, None, NOW).unwrap();
    let whole = converted(OLD, Some(&key));
    let Signature::Signed(parts) = gpkg::read(&whole[..]).unwrap().signature else { panic!("it is not") };
    let digested = parts.digest(|| -> io::Result<&[u8]> { panic!("the image was hashed already") }).unwrap();
    digested.judge(&KeyRing::from_bytes(RING).unwrap(), NOW).unwrap();
}

#[test]
fn names_of_any_length_links_and_attributes_are_kept() {
    let long = format!("./usr/share/{}file", "a-directory-with-a-long-name/".repeat(6));
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, link: &str, body: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_700_000_000);
        header.set_size(body.len() as u64);
        if link.is_empty() {
            archive.append_data(&mut header, name, body).unwrap();
        } else {
            archive.append_link(&mut header, name, link).unwrap();
        }
    };
    add(&long, tar::EntryType::Regular, "", b"of the file");
    add("./usr/bin/other", tar::EntryType::Link, &long, b"");
    add("./usr/bin/link", tar::EntryType::Symlink, "../../elsewhere//that", b"");
    add("./usr/lib/", tar::EntryType::Directory, "", b"");
    let source = with_files(&archive.into_inner().unwrap());
    let before = xpak::read(Cursor::new(&source[..])).unwrap();
    assert_eq!(before.image.codec, Codec::Plain);
    let whole = converted(&source, None);
    let after = gpkg::read(&whole[..]).unwrap();
    let kept = files(&whole, &after);
    assert_eq!(kept, files(&source, &before));
    assert_eq!((kept.len(), kept[0].mode, kept[0].uid, kept[0].gid), (4, 0o4755, 7, 8));
}

#[test]
fn what_no_image_may_hold_is_not_converted() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Fifo);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "./run/pipe", io::empty()).unwrap();
    let source = with_files(&archive.into_inner().unwrap());
    let package = xpak::read(Cursor::new(&source[..])).unwrap();
    let scratch = tempfile::tempfile().unwrap();
    let refused = convert(Cursor::new(&source[..]), &package, scratch, None, NOW, io::sink()).unwrap_err();
    assert!(refused.to_string().contains("named pipe"), "{refused}");
}
