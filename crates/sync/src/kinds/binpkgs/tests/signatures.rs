//! Which packages are published, and what is remembered of their signatures.

use std::collections::BTreeMap;
use std::io::{self, Cursor};

use smart_sync_store::manifest::TreePath;

use super::super::super::{KindError, Legacy, SignaturePolicy, Unsigned};
use super::super::admit::{admit, said_of};
use super::super::looked::Looked;
use super::super::package::{Container, Package};
use super::super::signature::{DigestedParts, Signature, SignedParts};
use super::super::stanza::stanza;
use super::super::{PackageError, gpkg, xpak};
use crate::openpgp::{KeyRing, SignatureError};
use crate::time::UnixTime;

const SIGNED: &[u8] =
    include_bytes!("../../../../tests/golden/binpkgs/app-test/hello/hello-1.0-r1-9.gpkg.tar");
const UNSIGNED: &[u8] =
    include_bytes!("../../../../tests/golden/binpkgs/app-test/hello/hello-1.0-r1-2.gpkg.tar");
const OLD: &[u8] = include_bytes!("../../../../tests/golden/binpkgs/app-test/hello/hello-1.0-r1-8.xpak");
const SIGNER: &[u8] = include_bytes!("../../../../tests/golden/binpkgs/signer.asc");
const STRANGER: &[u8] = include_bytes!("../../../../tests/golden/openpgp/ring.asc");
/// An hour after the key of the golden packages was made.
const NOW: UnixTime = UnixTime::new(1_796_010_000).unwrap();

fn looked(package: &Package, signatures: Option<DigestedParts>) -> Looked {
    let name = match package.container {
        Container::Gpkg => "app-test/hello/hello-1.0-r1-1.gpkg.tar",
        Container::Xpak => "app-test/hello/hello-1.0-r1-1.xpak",
    };
    let path = TreePath::new(name.as_bytes()).unwrap();
    let block = stanza(package, &path, 7).unwrap();
    Looked { block, is_plain: false, container: package.container, signatures }
}

fn signed_parts(bytes: &[u8]) -> Box<SignedParts> {
    match gpkg::read(bytes).unwrap().signature {
        Signature::Signed(parts) => parts,
        Signature::Unsigned => panic!("it is signed"),
    }
}

fn digested(bytes: &[u8]) -> DigestedParts {
    signed_parts(bytes).digest(|| -> io::Result<&[u8]> { panic!("the image was hashed already") }).unwrap()
}

fn all() -> BTreeMap<&'static str, Looked> {
    let signed = looked(&gpkg::read(SIGNED).unwrap(), Some(digested(SIGNED)));
    let unsigned = looked(&gpkg::read(UNSIGNED).unwrap(), None);
    let old = looked(&xpak::read(Cursor::new(OLD)).unwrap(), None);
    BTreeMap::from([("signed", signed), ("unsigned", unsigned), ("old", old)])
}

#[test]
fn packages_are_published_as_their_signatures_and_forms_allow() {
    let [signer, stranger] = [SIGNER, STRANGER].map(|ring| KeyRing::from_bytes(ring).unwrap());
    let check = |key_ring: Option<&KeyRing>, unsigned: Unsigned, legacy: Legacy, refused: &[(&str, &str)]| {
        let policy = SignaturePolicy { key_ring, unsigned, legacy };
        for (name, looked) in all() {
            let found = BTreeMap::from([(TreePath::new(name.as_bytes()).unwrap(), looked)]);
            let expected = refused.iter().find(|(refused, _)| *refused == name);
            match (admit(&found, &policy, NOW), expected) {
                (Ok(signers), None) => {
                    assert_eq!(signers.len(), usize::from(name == "signed" && key_ring.is_some()), "{name}");
                }
                (Err(KindError::Refused(refusals)), Some((_, reason))) => {
                    assert!(
                        refusals[0].reason.contains(reason) && refusals[0].hint.is_some(),
                        "{refusals:?}"
                    );
                }
                (other, _) => panic!("{name}: {other:?}"),
            }
        }
    };
    let old = ("old", "older form");
    check(None, Unsigned::Refused, Legacy::Refused, &[old]);
    check(None, Unsigned::Refused, Legacy::Accepted, &[]);
    check(Some(&signer), Unsigned::Refused, Legacy::Refused, &[old, ("unsigned", "it is not signed")]);
    let not_signed = [("old", "it is not signed"), ("unsigned", "it is not signed")];
    check(Some(&signer), Unsigned::Refused, Legacy::Accepted, &not_signed);
    check(Some(&signer), Unsigned::Accepted, Legacy::Accepted, &[]);
    let unknown = ("signed", "the signature of the Manifest: it is signed by");
    check(Some(&stranger), Unsigned::Accepted, Legacy::Accepted, &[unknown]);
}

#[test]
fn every_part_has_to_be_signed_by_a_key_that_counts() {
    let ring = KeyRing::from_bytes(SIGNER).unwrap();
    let parts = signed_parts(SIGNED);
    let check = |parts: &SignedParts, part: &str| {
        let digested = parts.digest(|| Ok(&b"another image"[..])).unwrap();
        let refused = digested.judge(&ring, NOW).unwrap_err();
        assert!(
            matches!(refused, PackageError::Signature { part: refused, error: SignatureError::Bad { .. } } if refused == part),
            "{part}: {refused:?}"
        );
    };
    let metadata = [&parts.metadata[..], b"x"].concat();
    check(&SignedParts { metadata, ..SignedParts::clone(&parts) }, "metadata");
    check(&SignedParts { image_digested: None, ..SignedParts::clone(&parts) }, "image");
    let swapped = parts.metadata_signature.clone();
    check(
        &SignedParts { image_signature: swapped, image_digested: None, ..SignedParts::clone(&parts) },
        "image",
    );
}

#[test]
fn what_is_remembered_is_judged_again() {
    let ring = KeyRing::from_bytes(SIGNER).unwrap();
    for (name, looked) in all() {
        let kept = Looked::decode(&looked.encode()).unwrap();
        assert_eq!(kept, looked, "{name}");
        assert_eq!(Looked::decode(&looked.encode()[..40]), None);
        if let Some(parts) = kept.signatures {
            let signer = parts.judge(&ring, NOW).unwrap();
            assert!(said_of(&[signer])[0].starts_with("1 package is signed by"));
        }
    }
}
