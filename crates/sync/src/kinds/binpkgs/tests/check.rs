//! Packages compared with what an index says of them.

use std::io::Cursor;

use super::super::super::{SignaturePolicy, Unsigned};
use super::super::check::check;
use super::super::index::{Block, Index};
use crate::openpgp::KeyRing;
use crate::time::UnixTime;

const INDEX: &str = include_str!("../../../../tests/golden/binpkgs/Packages");
const UNSIGNED: &[u8] =
    include_bytes!("../../../../tests/golden/binpkgs/app-test/hello/hello-1.0-r1-2.gpkg.tar");
const SIGNED: &[u8] =
    include_bytes!("../../../../tests/golden/binpkgs/app-test/hello/hello-1.0-r1-9.gpkg.tar");
const OLD: &[u8] = include_bytes!("../../../../tests/golden/binpkgs/app-test/hello/hello-1.0-r1-8.xpak");
const SIGNER: &[u8] = include_bytes!("../../../../tests/golden/binpkgs/signer.asc");
const STRANGER: &[u8] = include_bytes!("../../../../tests/golden/openpgp/ring.asc");
const NOW: UnixTime = UnixTime::new(1_796_010_000).unwrap();

/// What Portage says of the golden package of this build.
fn stated(build_id: &str) -> Block {
    let index = Index::parse(INDEX).unwrap();
    index.packages.into_iter().find(|block| block.get("BUILD_ID") == Some(build_id)).unwrap()
}

fn with(build_id: &str, key: &str, value: &str) -> Block {
    let mut block = stated(build_id);
    block.set(key, value).unwrap();
    block
}

#[track_caller]
fn faults(bytes: &[u8], block: &Block, policy: &SignaturePolicy<'_>) -> Vec<String> {
    let checked = check(&mut Cursor::new(bytes), block, policy, NOW).unwrap();
    checked.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn what_portage_says_of_its_packages_is_so() {
    for (bytes, build_id) in [(UNSIGNED, "2"), (SIGNED, "9"), (OLD, "8")] {
        let none: [String; 0] = [];
        assert_eq!(faults(bytes, &stated(build_id), &SignaturePolicy::default()), none, "{build_id}");
    }
}

#[test]
fn every_flipped_byte_is_found() {
    for (bytes, build_id) in [(UNSIGNED, "2"), (OLD, "8")] {
        let block = stated(build_id);
        for at in (0..bytes.len()).step_by(97) {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            assert!(!faults(&flipped, &block, &SignaturePolicy::default()).is_empty(), "{build_id} {at}");
        }
    }
}

#[test]
fn what_the_index_says_otherwise_is_named() {
    let named =
        |key: &str, value: &str| faults(UNSIGNED, &with("2", key, value), &SignaturePolicy::default());
    assert_eq!(named("SIZE", "10241"), ["SIZE is 10240, and the index says 10241"]);
    assert_eq!(named("KEYWORDS", ""), ["KEYWORDS is amd64 ~arm64, and the index says nothing"]);
    assert_eq!(named("PROPERTIES", "live"), ["PROPERTIES is nothing, and the index says live"]);
    assert_eq!(named("MTIME", ""), ["MTIME is 0, and the index says nothing"]);
    assert_eq!(named("PATH", "a/../b.gpkg.tar"), ["a/../b.gpkg.tar is not the path of a package"]);
    assert_eq!(named("PATH", "a/b"), ["a/b is not the path of a package"]);
    let long = named("RDEPEND", &"x".repeat(500));
    assert!(long.len() == 1 && long[0].len() < 300 && long[0].ends_with("\u{2026}"), "{long:?}");
    // When a copy was made, and what only others say.
    assert!(named("MTIME", "5").is_empty() && named("DESC", "a greeting").is_empty());
    assert!(!faults(SIGNED, &stated("2"), &SignaturePolicy::default()).is_empty());
}

#[test]
fn signatures_are_judged_where_there_are_keys() {
    let (signer, stranger) = (KeyRing::from_bytes(SIGNER).unwrap(), KeyRing::from_bytes(STRANGER).unwrap());
    let of = |ring| SignaturePolicy { key_ring: Some(ring), ..SignaturePolicy::default() };
    let checked = check(&mut Cursor::new(SIGNED), &stated("9"), &of(&signer), NOW).unwrap();
    assert!(checked.faults.is_empty() && checked.signer.is_some(), "{checked:?}");
    let strange = faults(SIGNED, &stated("9"), &of(&stranger));
    assert!(strange.len() == 1 && strange[0].contains("the signature of the Manifest"), "{strange:?}");
    assert_eq!(faults(UNSIGNED, &stated("2"), &of(&signer)), ["it is not signed"]);
    let lenient = SignaturePolicy { unsigned: Unsigned::Accepted, ..of(&signer) };
    assert!(faults(UNSIGNED, &stated("2"), &lenient).is_empty());
    assert_eq!(faults(SIGNED, &stated("9"), &of(&stranger)).len(), 1);
}
