//! Whether a key may have signed something at one time, and may be believed at another one.
//!
//! Everything here is a decision about facts that were proven before.

use pgp::types::{PublicParams, VerifyingKey};

use super::error::SignatureError;
use super::facts::{Facts, KeyFacts, Statement};
use super::name::KeyName;
use crate::time::UnixTime;

/// How far the clocks of two machines may be apart, in seconds.
const SKEW_SECONDS: u64 = 300;
/// The smallest RSA key that is believed.
const RSA_BITS_MIN: usize = 2048;

/// One of the keys of a certificate.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Primary,
    Subkey(usize),
}

/// Says when what begins at `at` and was made by a key is early.
pub(super) fn check_begun(
    what: &'static str,
    key: &KeyName,
    at: UnixTime,
    now: UnixTime,
) -> Result<(), SignatureError> {
    if at > now.plus(SKEW_SECONDS) {
        return Err(SignatureError::Early { what, key: key.clone(), at });
    }
    Ok(())
}

/// Whether a key of a certificate could sign at a time, and is believed now.
pub(super) fn check(
    facts: &Facts,
    which: Which,
    signed_at: UnixTime,
    now: UnixTime,
) -> Result<(), SignatureError> {
    check_key(&facts.primary, signed_at, now)?;
    match which {
        Which::Primary => check_may_sign(&facts.primary, now, true),
        Which::Subkey(at) => {
            let subkey = &facts.subkeys[at];
            check_key(subkey, signed_at, now)?;
            check_may_sign(subkey, now, false)
        }
    }
}

/// The user that a certificate belongs to, as far as it says so now.
pub(super) fn user(facts: &Facts, now: UnixTime) -> Option<String> {
    let users = || current(&facts.primary.statements, now).filter_map(|statement| statement.user.as_ref());
    let foremost = users().find(|(_, is_foremost)| *is_foremost).or_else(|| users().next());
    foremost.map(|(name, _)| name.clone())
}

fn check_key<K: VerifyingKey>(
    facts: &KeyFacts<K>,
    signed_at: UnixTime,
    now: UnixTime,
) -> Result<(), SignatureError> {
    let key = KeyName::from(&facts.fingerprint);
    if let Some(at) = facts.revoked {
        return Err(SignatureError::Revoked { key, at });
    }
    check_begun("key", &key, facts.created, now)?;
    if signed_at < facts.created {
        return Err(SignatureError::NotForSigning { key, reason: "it was made later than the signature" });
    }
    check_strength(facts, &key)?;
    let Some(newest) = current(&facts.statements, now).next() else {
        return Err(match facts.statements.first() {
            Some(Statement { ends: Some(at), .. }) => SignatureError::Expired { what: "key", key, at: *at },
            _ => SignatureError::NotForSigning { key, reason: "its owner has not signed it" },
        });
    };
    match newest.key_ends {
        Some(at) if at <= now => Err(SignatureError::Expired { what: "key", key, at }),
        _ => Ok(()),
    }
}

/// Whether what was last said of a key lets it sign. A primary key of which nothing was said may: that is how it was
/// before there were such flags.
fn check_may_sign<K>(facts: &KeyFacts<K>, now: UnixTime, is_primary: bool) -> Result<(), SignatureError> {
    let refuse =
        |reason| Err(SignatureError::NotForSigning { key: KeyName::from(&facts.fingerprint), reason });
    let speaks = |statement: &&Statement| statement.may_sign.is_some() || !is_primary;
    match current(&facts.statements, now).find(speaks) {
        Some(Statement { may_sign: Some(true), is_agreed: false, .. }) => {
            refuse("it has not signed itself that it belongs to its primary key")
        }
        Some(Statement { may_sign: Some(true), .. }) => Ok(()),
        None if is_primary => Ok(()),
        _ => refuse("it was made for something else"),
    }
}

fn check_strength<K: VerifyingKey>(facts: &KeyFacts<K>, key: &KeyName) -> Result<(), SignatureError> {
    let weak = |what: String| Err(SignatureError::Weak { key: key.clone(), what });
    match facts.key.public_params() {
        PublicParams::RSA(params) => {
            let bits = rsa_bits(params);
            if bits < RSA_BITS_MIN { weak(format!("an RSA key of {bits} bits is too short")) } else { Ok(()) }
        }
        PublicParams::ECDSA(_)
        | PublicParams::EdDSALegacy(_)
        | PublicParams::Ed25519(_)
        | PublicParams::Ed448(_) => Ok(()),
        PublicParams::DSA(_) => weak("DSA is too weak".to_owned()),
        _ => weak("its key is of a kind that is not".to_owned()),
    }
}

/// The length of a modulus: a number is written behind the count of its bits (RFC 9580, section 3.2), and the modulus
/// is the first one.
fn rsa_bits(params: &pgp::types::RsaPublicParams) -> usize {
    let mut written = Vec::new();
    match pgp::ser::Serialize::to_writer(params, &mut written) {
        Ok(()) => written.first_chunk().map_or(0, |bits| usize::from(u16::from_be_bytes(*bits))),
        Err(_) => 0,
    }
}

/// What is said of a key at this time, the newest first.
fn current(statements: &[Statement], now: UnixTime) -> impl Iterator<Item = &Statement> {
    let holds = move |statement: &&Statement| {
        statement.at <= now.plus(SKEW_SECONDS) && statement.ends.is_none_or(|end| end > now)
    };
    statements.iter().filter(holds)
}
