//! A subkey of somebody else.

use pgp::composed::{SignedPublicKey, SignedPublicSubKey, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, PacketTrait as _, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails as _, Password, Timestamp};

use super::super::{KeyRing, SignatureError};
use super::{CONTENT, verify};

const SECRET: &str = include_str!("../../../tests/golden/openpgp/secret.asc");
const THIEF: &str = include_str!("../../../tests/golden/openpgp/thief.asc");
const DETACHED: &[u8] = include_bytes!("../../../tests/golden/openpgp/content.sig");

fn secret(armored: &str) -> SignedSecretKey {
    pgp::composed::Deserializable::from_string(armored).map(|(key, _)| key).unwrap()
}

/// The certificate of the thief with the subkey of somebody else bound to it, which anybody can do.
fn stolen() -> SignedPublicKey {
    let (thief, owner) = (secret(THIEF), secret(SECRET));
    let subkey = owner.secret_subkeys[0].key.public_key().clone();
    let mut flags = KeyFlags::default();
    flags.set_sign(true);
    let mut config = SignatureConfig::v4(
        SignatureType::SubkeyBinding,
        thief.primary_key.algorithm(),
        HashAlgorithm::Sha512,
    );
    let made = Timestamp::from_secs(1_767_312_000);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(made)).unwrap(),
        Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(thief.primary_key.fingerprint())).unwrap(),
    ];
    let binding = config
        .sign_subkey_binding(&thief.primary_key, thief.primary_key.public_key(), &Password::empty(), &subkey)
        .unwrap();
    let mut public = SignedPublicKey::from(thief);
    public.public_subkeys = vec![SignedPublicSubKey::new(subkey, vec![binding])];
    public
}

#[test]
fn a_subkey_that_others_have_taken_does_not_sign_for_them() {
    let mut bytes = Vec::new();
    stolen().to_writer(&mut bytes).unwrap();
    let ring = KeyRing::from_bytes(&bytes).unwrap();
    let refused = verify(&ring, DETACHED, CONTENT, "2026-02-01");
    assert!(
        matches!(refused, Err(SignatureError::NotForSigning { reason, .. }) if reason.contains("belongs to its primary")),
        "{refused:?}"
    );
}

#[test]
fn a_subkey_that_its_primary_key_has_not_bound_is_none() {
    let owner = SignedPublicKey::from(secret(SECRET));
    let mut bytes = Vec::new();
    owner.primary_key.to_writer_with_header(&mut bytes).unwrap();
    owner.details.to_writer(&mut bytes).unwrap();
    // The certificate of the thief says nothing of this subkey that its new primary key has signed.
    stolen().public_subkeys[0].to_writer(&mut bytes).unwrap();
    let refused = verify(&KeyRing::from_bytes(&bytes).unwrap(), DETACHED, CONTENT, "2026-02-01");
    assert!(
        matches!(refused, Err(SignatureError::NotForSigning { reason: "its owner has not signed it", .. })),
        "{refused:?}"
    );
}
