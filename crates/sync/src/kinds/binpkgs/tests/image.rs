//! Images that must not be installed.

use super::super::codec::Codec;
use super::super::image::{ImageEntry, ImageKind, list};
use super::super::package::Container;
use super::draft::{DraftMember, archive, compress, member};

fn of_kind(name: &str, kind: u8) -> DraftMember {
    DraftMember { name: name.to_owned(), bytes: Vec::new(), kind }
}

/// An archive whose links lead to `target`.
fn link_archive(members: &[DraftMember], target: &str) -> Vec<u8> {
    let mut out = archive(members, &[]);
    let mut at = 0;
    for member in members {
        let mut header = tar::Header::from_byte_slice(&out[at..at + 512]).clone();
        if matches!(member.kind, b'1' | b'2') {
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        out[at..at + 512].copy_from_slice(header.as_bytes());
        at += 512 + member.bytes.len().next_multiple_of(512);
    }
    out
}

fn listed(plain: &[u8]) -> Result<Vec<ImageEntry>, String> {
    let packed = compress(Codec::Zstd, plain);
    let mut entries = Vec::new();
    list(&packed[..], packed.len() as u64, Codec::Zstd, Container::Gpkg, |entry| entries.push(entry))
        .map(|()| entries)
        .map_err(|error| error.to_string())
}

#[test]
fn an_image_is_listed() {
    let members = [
        of_kind("image", b'5'),
        member("image/usr/bin/hello", b"hello".to_vec()),
        of_kind("image/usr/bin/", b'5'),
        of_kind("image/usr/bin/again", b'1'),
        of_kind("image/usr/bin/there", b'2'),
    ];
    let mut plain = link_archive(&members, "image/usr/bin/hello");
    let mode = |plain: &mut [u8], at: usize, mode: u32| {
        let mut header = tar::Header::from_byte_slice(&plain[at..at + 512]).clone();
        header.set_mode(mode);
        header.set_cksum();
        plain[at..at + 512].copy_from_slice(header.as_bytes());
    };
    mode(&mut plain, 512, 0o4755);
    let entries = listed(&plain).unwrap();
    assert_eq!(entries.len(), 4);
    assert_eq!((entries[0].path.to_string().as_str(), entries[0].mode), ("usr/bin/hello", 0o4755));
    assert!(matches!(entries[0].kind, ImageKind::File { size: 5, .. }));
    assert!(matches!(&entries[2].kind, ImageKind::Hardlink(target) if *target == entries[0].path));
    assert_eq!(entries[3].kind, ImageKind::Symlink(b"image/usr/bin/hello".to_vec()));
}

#[test]
fn links_out_of_the_system_are_links_all_the_same() {
    for target in ["/etc/passwd", "../../../etc/passwd", "image/l"] {
        let plain = link_archive(&[of_kind("image/l", b'2')], target);
        assert_eq!(listed(&plain).unwrap()[0].kind, ImageKind::Symlink(target.as_bytes().to_vec()));
    }
}

#[test]
fn what_must_not_be_installed_is_refused() {
    let check = |members: &[DraftMember], target: &str, expected: &str| {
        let error = listed(&link_archive(members, target)).unwrap_err();
        assert!(error.contains(expected), "{error} instead of {expected}");
    };
    let file = |name: &str| member(name, Vec::new());
    check(&[file("usr/bin/a")], "", "usr/bin/a: it is not below the root of the image");
    check(&[file("metadata/a")], "", "not below the root");
    check(&[file("/image/a")], "", "not below the root");
    check(&[file("image//a")], "", "the path is absolute");
    check(&[file("image/../a")], "", "`.` or `..`");
    check(&[file("image/./a")], "", "`.` or `..`");
    check(&[file("image/a//b")], "", "a component of the path is empty");
    check(&[file("image/.git/config")], "", "`.git`");
    check(&[file("image")], "", "image: the path is empty");
    check(&[file("image/a"), file("image/a")], "", "it comes twice");
    check(&[file("image/a/b"), file("image/a")], "", "it comes twice");
    check(&[file("image/a"), of_kind("image/a", b'5')], "", "it comes twice");
    check(&[file("image/a"), file("image/a/b")], "", "below a file or a link");
    check(&[of_kind("image/a", b'2'), file("image/a/b/c")], "/etc", "below a file or a link");
    check(&[of_kind("image/a/b", b'5'), of_kind("image/a", b'2')], "/etc", "it comes twice");
    check(&[of_kind("image/a", b'1')], "image/b", "a hard link to no file");
    check(&[of_kind("image/a", b'1')], "/etc/passwd", "a hard link to no file");
    check(&[of_kind("image/a", b'1')], "image/../../etc/passwd", "a hard link to no file");
    check(&[of_kind("image/d", b'5'), of_kind("image/a", b'1')], "image/d", "a hard link to no file");
    check(&[of_kind("image/null", b'3')], "", "it is a device");
    check(&[of_kind("image/sda", b'4')], "", "it is a device");
    check(&[of_kind("image/pipe", b'6')], "", "it is a named pipe");
    check(&[file("image/\u{1b}[2J/../x")], "", "image/\\u{1b}[2J/../x: ");
    check(&[of_kind("image/a", b'Z')], "", "unknown type");
}

#[test]
fn an_image_that_grows_without_bounds_is_refused() {
    // Nearly nothing of it is there, so that it may not become large.
    let more = archive(&[member("image/zeros", vec![0; 100 << 20])], &[]);
    let packed = compress(Codec::Zstd, &more);
    let error = list(&packed[..], packed.len() as u64, Codec::Zstd, Container::Gpkg, |_| ()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("it decompresses to more than"), "{error}: {source}");
}

#[test]
fn an_image_that_is_cut_short_is_refused() {
    let plain = archive(&[member("image/a", vec![1; 5000])], &[]);
    let error = listed(&plain[..3000]).unwrap_err();
    assert!(error.contains("ends in the middle of a member"), "{error}");
    let packed = compress(Codec::Xz, &plain);
    let error = list(&packed[..packed.len() - 9], 1 << 20, Codec::Xz, Container::Gpkg, |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "decompressing the image");
}
