//! Packages and an index that Portage has made, and the same made of them here.

use std::fs::{self, File};
use std::path::Path;

use smart_sync_store::manifest::TreePath;

use super::super::codec::Codec;
use super::super::index::Index;
use super::super::package::{Container, Package};
use super::super::signature::Signature;
use super::super::stanza::stanza;
use super::super::{gpkg, image, xpak};

/// The time at which the packages were changed last, which is in the index.
const MODIFIED: u64 = 1_795_202_400;
const UNSIGNED: &str = "app-test/hello/hello-1.0-r1-2.gpkg.tar";
const SIGNED: &str = "app-test/hello/hello-1.0-r1-9.gpkg.tar";
const OLD: &str = "app-test/hello/hello-1.0-r1-8.xpak";

fn golden(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/binpkgs").join(path)
}

fn read(path: &str) -> Package {
    let file = File::open(golden(path)).unwrap();
    if Container::of_name(path) == Some(Container::Gpkg) {
        gpkg::read(file).unwrap()
    } else {
        xpak::read(file).unwrap()
    }
}

/// The image as it stands in the file.
fn packed_image(path: &str, package: &Package) -> Vec<u8> {
    let place = |offset: u64| usize::try_from(offset).unwrap();
    let range = &package.image.range;
    fs::read(golden(path)).unwrap()[place(range.start)..place(range.end)].to_vec()
}

fn portages_index() -> Index {
    Index::parse(&fs::read_to_string(golden("Packages")).unwrap()).unwrap()
}

#[test]
fn packages_of_portage_are_read() {
    let package = read(UNSIGNED);
    assert_eq!(package.basename.as_deref(), Some("hello-1.0-r1-2"));
    assert_eq!(package.metadata.text("PF").unwrap(), "hello-1.0-r1");
    assert!(package.metadata.bytes("environment.bz2").is_some_and(|bytes| bytes.starts_with(b"BZh")));
    assert_eq!((package.image.codec, package.members.len()), (Codec::Zstd, 3));
    assert_eq!(package.signature, Signature::Unsigned);
    let package = read(OLD);
    assert_eq!((package.container, package.image.codec), (Container::Xpak, Codec::Bzip2));
    assert_eq!(package.metadata.text("PF").unwrap(), "hello-1.0-r1");
}

#[test]
fn an_index_of_the_packages_says_what_portages_says() {
    let theirs = portages_index();
    let packages = [UNSIGNED, OLD, SIGNED].map(|path| {
        let path_in_index = TreePath::new(path.as_bytes()).unwrap();
        stanza(&read(path), &path_in_index, MODIFIED).unwrap()
    });
    let ours = Index::new(theirs.timestamp, theirs.settings(), packages.to_vec());
    let mut sorted = theirs.clone();
    sorted.packages.sort_by_key(|package| package.get("BUILD_ID").map(str::to_owned));
    // The directory decides the order of builds in Portage's file; everything else is the same to the byte.
    assert_eq!(ours.render(), sorted.render());
    assert_eq!(ours.header, theirs.header);
}

#[test]
fn the_index_of_portage_is_written_again_as_it_was() {
    let text = fs::read_to_string(golden("Packages")).unwrap();
    assert_eq!(portages_index().render(), text);
}

#[test]
fn the_files_of_the_packages_are_the_same_in_both_forms() {
    let list = |path: &str| {
        let package = read(path);
        let packed = packed_image(path, &package);
        let mut entries = Vec::new();
        image::list(&packed[..], packed.len() as u64, package.image.codec, package.container, |entry| {
            entries.push(entry);
        })
        .unwrap();
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        entries
    };
    let entries = list(UNSIGNED);
    assert_eq!(list(OLD), entries);
    let paths: Vec<String> = entries.iter().map(|entry| entry.path.to_string()).collect();
    insta::assert_snapshot!(paths.join("\n"), @r"
    usr
    usr/bin
    usr/bin/hello
    usr/bin/hello-again
    usr/bin/hi
    usr/share
    usr/share/doc
    usr/share/doc/hello-1.0-r1
    usr/share/doc/hello-1.0-r1/README
    ");
}

#[test]
fn the_signatures_of_a_package_are_at_hand_with_what_they_sign() {
    let package = read(SIGNED);
    let Signature::Signed(parts) = &package.signature else { panic!("it is signed") };
    assert!(parts.manifest.text().starts_with("DATA gpkg-1 0 SHA512 cf83e1357eefb8bd"));
    for signature in [&parts.metadata_signature, &parts.image_signature] {
        assert!(signature.starts_with("-----BEGIN PGP SIGNATURE-----\n"));
    }
    let signed = [parts.manifest.whole().len(), parts.metadata.len(), packed_image(SIGNED, &package).len()];
    assert_eq!(signed, [1763, 1140, 286]);
}
