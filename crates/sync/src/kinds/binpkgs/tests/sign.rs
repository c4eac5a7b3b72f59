//! Packages that are signed here.

use std::io;
use std::path::Path;

use super::super::codec::Codec;
use super::super::container::MakeError;
use super::super::gpkg;
use super::super::package::Package;
use super::super::sign::sign;
use super::super::signature::Signature;
use super::draft::Draft;
use crate::openpgp::{KeyRing, SigningKey};
use crate::time::UnixTime;

const UNSIGNED: &[u8] =
    include_bytes!("../../../../tests/golden/binpkgs/app-test/hello/hello-1.0-r1-2.gpkg.tar");
const RING: &[u8] = include_bytes!("../../../../tests/golden/openpgp/ring.asc");
/// A year after the key was made.
const NOW: UnixTime = UnixTime::new(1_796_010_000).unwrap();

fn key() -> SigningKey {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openpgp/secret.asc");
    SigningKey::open(&path, None, NOW).unwrap()
}

fn signed(source: &[u8], package: &Package) -> Result<Vec<u8>, MakeError> {
    let mut out = Vec::new();
    sign(source, package, &key(), NOW, &mut out).map(|()| out)
}

#[test]
fn a_signed_package_is_the_same_but_for_its_signatures() {
    let ring = KeyRing::from_bytes(RING).unwrap();
    for source in [UNSIGNED.to_vec(), Draft::sound(Codec::Xz).bytes(), Draft::sound(Codec::Plain).bytes()] {
        let before = gpkg::read(&source[..]).unwrap();
        let whole = signed(&source, &before).unwrap();
        let after = gpkg::read(&whole[..]).unwrap();
        assert_eq!((&after.basename, &after.metadata), (&before.basename, &before.metadata));
        for member in &before.members {
            assert!(after.members.contains(member), "{}", member.name);
        }
        let Signature::Signed(parts) = &after.signature else { panic!("it is not signed") };
        let digested =
            parts.digest(|| -> io::Result<&[u8]> { panic!("the image was hashed already") }).unwrap();
        assert_eq!(digested.judge(&ring, NOW).unwrap().user.as_deref(), Some("Golden <golden@example.org>"));
    }
}

#[test]
fn a_package_that_changes_meanwhile_is_not_signed() {
    let package = gpkg::read(UNSIGNED).unwrap();
    let mut changed = UNSIGNED.to_vec();
    let at = usize::try_from(package.image.range.start).unwrap();
    changed[at] ^= 1;
    assert!(matches!(signed(&changed, &package), Err(MakeError::Changed)));
    assert!(matches!(signed(&UNSIGNED[..at], &package), Err(MakeError::Package(_))));
    let other = gpkg::read(&Draft::sound(Codec::Xz).bytes()[..]).unwrap();
    assert!(matches!(signed(UNSIGNED, &other), Err(MakeError::Changed)));
}
