//! What a certificate says, as far as its own signatures prove it, whatever the time.

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, Tag};

use super::name::Fingerprint;
use super::signatures::demands_known;
use crate::time::UnixTime;

/// The most signatures of a certificate by its own key that are verified. Certificates have a few dozen.
const OWN_SIGNATURES_MAX: usize = 2_000;

/// A primary key and its subkeys, with what is proven of them.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) primary: KeyFacts<PublicKey>,
    pub(super) subkeys: Vec<KeyFacts<PublicSubkey>>,
}

/// One key.
#[derive(Debug, Clone)]
pub(super) struct KeyFacts<K> {
    pub(super) key: K,
    pub(super) fingerprint: Fingerprint,
    pub(super) created: UnixTime,
    /// When it was revoked.
    pub(super) revoked: Option<UnixTime>,
    /// What the primary key says of it, the newest first.
    pub(super) statements: Vec<Statement>,
}

/// What a primary key says of itself or of a subkey, at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) at: UnixTime,
    /// When it does not hold any more.
    pub(super) ends: Option<UnixTime>,
    /// When the key does not hold any more.
    pub(super) key_ends: Option<UnixTime>,
    /// Whether the key may sign, where that is said.
    pub(super) may_sign: Option<bool>,
    /// The user that the key belongs to, and whether that is the foremost one.
    pub(super) user: Option<(String, bool)>,
    /// Whether the key says itself that it belongs to the primary key, without which it may not sign.
    pub(super) is_agreed: bool,
}

/// Why nothing can be said of a certificate.
pub(super) const TOO_MANY: &str = "its key has signed it too often to look at all of that";

impl Facts {
    /// Verifies all that the key of a certificate says in it.
    pub(super) fn prove(certificate: &SignedPublicKey) -> Result<Self, &'static str> {
        let key = &certificate.primary_key;
        let own: Vec<&Signature> = own_signatures(certificate);
        if own.len() > OWN_SIGNATURES_MAX {
            return Err(TOO_MANY);
        }
        let details = &certificate.details;
        let is_proven = |signature: &&Signature| is_own(signature, key) && signature.verify_key(key).is_ok();
        let revoked = details.revocation_signatures.iter().filter(is_proven).filter_map(made_at).min();
        let mut statements: Vec<Statement> = (details.direct_signatures.iter())
            .filter(|signature| signature.typ() == Some(SignatureType::Key))
            .filter(is_proven)
            .filter_map(|signature| Statement::read(signature, created(key), None, true))
            .collect();
        for user in &details.users {
            let proven: Vec<&Signature> = (user.signatures.iter())
                .filter(|signature| {
                    is_own(signature, key)
                        && signature.verify_certification(key, Tag::UserId, &user.id).is_ok()
                })
                .collect();
            let is_revocation =
                |signature: &Signature| signature.typ() == Some(SignatureType::CertRevocation);
            let taken_back =
                proven.iter().filter(|one| is_revocation(one)).filter_map(|one| made_at(one)).max();
            let name = shown(user.id.id());
            statements.extend(proven.iter().filter(|one| !is_revocation(one)).filter_map(|one| {
                let statement =
                    Statement::read(one, created(key), Some((name.clone(), one.is_primary())), true)?;
                taken_back.is_none_or(|taken_back| statement.at > taken_back).then_some(statement)
            }));
        }
        statements.sort_by_key(|statement| std::cmp::Reverse(statement.at));
        let primary = KeyFacts {
            key: key.clone(),
            fingerprint: Fingerprint::of(key),
            created: created(key),
            revoked,
            statements,
        };
        let subkeys = certificate.public_subkeys.iter().map(|subkey| of_subkey(key, subkey)).collect();
        Ok(Self { primary, subkeys })
    }
}

fn of_subkey(primary: &PublicKey, subkey: &SignedPublicSubKey) -> KeyFacts<PublicSubkey> {
    let key = &subkey.key;
    let proven: Vec<&Signature> = (subkey.signatures.iter())
        .filter(|signature| {
            is_own(signature, primary) && signature.verify_subkey_binding(primary, key).is_ok()
        })
        .collect();
    let is_revocation = |signature: &Signature| signature.typ() == Some(SignatureType::SubkeyRevocation);
    // When a revocation is older than what binds the key, the key stays revoked, as it does for GnuPG.
    let revoked = proven.iter().filter(|one| is_revocation(one)).filter_map(|one| made_at(one)).min();
    let mut statements: Vec<Statement> = (proven.iter())
        .filter(|one| !is_revocation(one))
        .filter_map(|one| Statement::read(one, created(key), None, is_agreed(one, primary, key)))
        .collect();
    statements.sort_by_key(|statement| std::cmp::Reverse(statement.at));
    KeyFacts {
        key: key.clone(),
        fingerprint: Fingerprint::of(key),
        created: created(key),
        revoked,
        statements,
    }
}

/// Whether a signing subkey has signed in turn that it belongs to the primary key. Anybody could take another's subkey
/// for their own otherwise, and claim what that one has signed.
fn is_agreed(binding: &Signature, primary: &PublicKey, subkey: &PublicSubkey) -> bool {
    let Some(back) = binding.embedded_signature() else { return false };
    is_sound(back) && back.verify_primary_key_binding(subkey, primary).is_ok()
}

impl Statement {
    fn read(
        signature: &Signature,
        key_created: UnixTime,
        user: Option<(String, bool)>,
        is_agreed: bool,
    ) -> Option<Self> {
        let at = made_at(signature)?;
        let after = |begin: UnixTime, duration: Option<pgp::types::Duration>| {
            let seconds = u64::from(duration?.as_secs());
            (seconds > 0).then(|| begin.plus(seconds))
        };
        let config = signature.config()?;
        let says = |packet: &pgp::packet::Subpacket| matches!(packet.data, SubpacketData::KeyFlags(_));
        let may_sign = config.hashed_subpackets.iter().any(says).then(|| signature.key_flags().sign());
        Some(Self {
            at,
            ends: after(at, signature.signature_expiration_time()),
            key_ends: after(key_created, signature.key_expiration_time()),
            may_sign,
            user,
            is_agreed,
        })
    }
}

/// The signatures of a certificate that claim to be of its own key.
fn own_signatures(certificate: &SignedPublicKey) -> Vec<&Signature> {
    let details = &certificate.details;
    let all = (details.revocation_signatures.iter().chain(&details.direct_signatures))
        .chain(details.users.iter().flat_map(|user| &user.signatures))
        .chain(certificate.public_subkeys.iter().flat_map(|subkey| &subkey.signatures));
    all.filter(|signature| is_own(signature, &certificate.primary_key)).collect()
}

/// Whether a signature in a certificate may be one of the certificate's own key.
fn is_own(signature: &Signature, primary: &PublicKey) -> bool {
    let names_it = signature.issuer_key_id().into_iter().any(|id| *id == primary.legacy_key_id())
        || signature.issuer_fingerprint().into_iter().any(|name| *name == primary.fingerprint());
    names_it && is_sound(signature)
}

/// SHA-1 is taken where a key speaks of itself: many keys are older than their owners' programs, whoever makes two of
/// them signs only what is theirs, and the library notices what is known to collide.
fn is_sound(signature: &Signature) -> bool {
    signature.config().is_some_and(|config| {
        let weak = [HashAlgorithm::None, HashAlgorithm::Md5, HashAlgorithm::Ripemd160];
        !weak.contains(&config.hash_alg) && demands_known(config).is_ok()
    })
}

fn made_at(signature: &Signature) -> Option<UnixTime> {
    signature.created().and_then(|time| UnixTime::new(u64::from(time.as_secs())))
}

fn created(key: &impl KeyDetails) -> UnixTime {
    UnixTime::EPOCH.plus(u64::from(key.created_at().as_secs()))
}

/// A user id as it can be printed: whatever a terminal would act on is left out.
fn shown(id: &[u8]) -> String {
    const USER_LEN_MAX: usize = 256;
    let text = String::from_utf8_lossy(id);
    text.chars().filter(|character| !character.is_control()).take(USER_LEN_MAX).collect()
}
