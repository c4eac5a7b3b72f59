//! Gentoo's binary packages, their index, and the texts in them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Cursor;
use std::str::FromStr;

use blake2::Blake2b512;
use sha2::{Digest, Sha512};
use smart_sync_store::id::to_hex;
use smart_sync_store::manifest::TreePath;
use smart_sync_sync::kinds::binpkgs::atom::Atom;
use smart_sync_sync::kinds::binpkgs::codec::Codec;
use smart_sync_sync::kinds::binpkgs::cpv::Cpv;
use smart_sync_sync::kinds::binpkgs::dependencies::{Dependencies, Token, Word};
use smart_sync_sync::kinds::binpkgs::index::{Block, Index};
use smart_sync_sync::kinds::binpkgs::package::{Container, Package};
use smart_sync_sync::kinds::binpkgs::stanza::stanza;
use smart_sync_sync::kinds::binpkgs::version::Version;
use smart_sync_sync::kinds::binpkgs::{gpkg as read_gpkg, image as read_image, xpak as read_xpak};

use crate::{Verdict, any, check_name, check_text};

const BLOCK: usize = 512;
/// The first byte of an image that is compressed with zstd.
pub const ZSTD: u8 = 7;

/// A GPKG as it is, and with checksums and a Manifest that fit.
pub fn gpkg(bytes: &[u8]) -> Verdict {
    any(&[check_gpkg(bytes), check_gpkg(&sealed(bytes))])
}

fn check_gpkg(bytes: &[u8]) -> Verdict {
    let Ok(package) = read_gpkg::read(bytes) else { return Verdict::Refused };
    check_package(&package, bytes, b"a/a/a-1-1.gpkg.tar");
    Verdict::Accepted
}

/// A package with its metadata behind it.
pub fn xpak(bytes: &[u8]) -> Verdict {
    let Ok(package) = read_xpak::read(Cursor::new(bytes)) else { return Verdict::Refused };
    check_package(&package, bytes, b"a/a/a-1-1.xpak");
    Verdict::Accepted
}

/// What was learned of a package lies in its file, and what an index says of it can be read again.
fn check_package(package: &Package, bytes: &[u8], path: &[u8]) {
    let range = &package.image.range;
    assert!(package.digests.size == bytes.len() as u64 && range.start <= range.end);
    assert!(range.end <= package.digests.size);
    let path = TreePath::new(path).expect("the path is sound");
    if let Ok(block) = stanza(package, &path, 7) {
        let index = Index::new(1, Block::default(), vec![block]);
        assert_eq!(Index::parse(&index.render()).as_ref(), Ok(&index));
    }
}

/// The same archive with the checksums that its headers should have, and a Manifest that knows the members before it.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut manifest, mut at) = (Vec::new(), String::new(), 0);
    while let Some(header) = bytes.get(at..at + BLOCK).filter(|header| header.iter().any(|byte| *byte != 0)) {
        let mut header = header.to_vec();
        let digits = header[124..136].iter().take_while(|byte| (b'0'..=b'7').contains(*byte));
        let size = digits.fold(0, |size: usize, digit| size << 3 | usize::from(digit - b'0'));
        let end = (at + BLOCK).saturating_add(size);
        let Some(body) = bytes.get(at + BLOCK..end) else { break };
        let name = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let body = if name == b"Manifest" && !body.starts_with(b"-----") {
            manifest.as_bytes()
        } else {
            let (sha512, blake2b) = (to_hex(&Sha512::digest(body)), to_hex(&Blake2b512::digest(body)));
            let name = String::from_utf8_lossy(name);
            // Writing to a string does not fail.
            let _ = writeln!(manifest, "DATA {name} {size} SHA512 {sha512} BLAKE2B {blake2b}");
            body
        };
        header[124..136].copy_from_slice(format!("{:011o}\0", body.len()).as_bytes());
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(body);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        at = end.next_multiple_of(BLOCK);
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
    out
}

/// The files of a package; the first byte chooses how they are compressed.
pub fn image(bytes: &[u8]) -> Verdict {
    let Some((first, packed)) = bytes.split_first() else { return Verdict::Refused };
    let codec = Codec::ALL[usize::from(first & 7)];
    let container = if first & 8 == 0 { Container::Gpkg } else { Container::Xpak };
    let mut paths = HashSet::new();
    let listed = read_image::list(packed, packed.len() as u64, codec, container, |entry| {
        paths.insert(entry.path);
    });
    if listed.is_ok() { Verdict::Accepted } else { Verdict::Refused }
}

/// An index: what was read is written, and read again.
pub fn index(bytes: &[u8]) -> Verdict {
    let Some(index) = str::from_utf8(bytes).ok().and_then(|text| Index::parse(text).ok()) else {
        return Verdict::Refused;
    };
    let text = index.render();
    let again = Index::parse(&text);
    assert_eq!(again.as_ref(), Ok(&index));
    assert_eq!(again.map(|again| again.render()), Ok(text));
    index.settings();
    Verdict::Accepted
}

/// Dependencies; the first byte chooses which USE flags are set.
pub fn dependencies(bytes: &[u8]) -> Verdict {
    let Some((first, text)) = bytes.split_first() else { return Verdict::Refused };
    let Ok(text) = str::from_utf8(text) else { return Verdict::Refused };
    let known = ["nls", "ssl", "a", "b"];
    let chosen = known.iter().enumerate().filter(|(at, _)| first >> at & 1 == 1);
    let flags: HashSet<&str> = chosen.map(|(_, flag)| *flag).collect();
    any(&[check_dependencies::<Atom>(text, &flags), check_dependencies::<Word>(text, &flags)])
}

fn check_dependencies<T: Token + PartialEq + std::fmt::Debug>(text: &str, flags: &HashSet<&str>) -> Verdict {
    let words: Vec<&str> = text.split_whitespace().collect();
    let settled = |text: &str, flags: &HashSet<&str>| {
        Dependencies::<T>::from_str(text).map(|dependencies| dependencies.settled(flags))
    };
    if let Ok(once) = settled(text, flags) {
        assert_eq!(settled(&once, &HashSet::new()).as_ref(), Ok(&once), "what is settled stays so");
    }
    check_text(words.join(" ").as_bytes(), Dependencies::<T>::from_str, Dependencies::to_string)
}

/// Names: each has one spelling.
pub fn names(bytes: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(bytes) else { return Verdict::Refused };
    if let Ok(version) = text.parse::<Version>() {
        assert!(version == version.clone() && version.is_revision_of(&version));
    }
    any(&[check_name::<Cpv>(text), check_name::<Atom>(text), check_name::<Version>(text)])
}
