//! `.minisig` sidecars, which `minisign -V` checks: prehashed Ed25519 signatures with a signed comment.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::sidecar::{SidecarDigests, SidecarError};
use super::{PublicKey, SignError, Signature, Signer};

const FILE_BYTES_MAX: usize = 16 * 1024;
const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";

/// The text of a `minisign.pub` file for this key.
pub fn public_key_text(key: &PublicKey) -> String {
    let id = key_id(key);
    let encoded = BASE64_STANDARD.encode([b"Ed", id.as_slice(), key.as_bytes()].concat());
    format!("{UNTRUSTED}minisign public key {:016X}\n{encoded}\n", u64::from_le_bytes(id))
}

/// Signs a file, with a comment of one line that is signed too.
pub fn sign(signer: &dyn Signer, digests: &SidecarDigests, comment: &str) -> Result<String, SignError> {
    let comment: String = comment.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect();
    let signature = signer.sign(&digests.blake2b)?;
    let global = signer.sign(&[signature.as_bytes(), comment.as_bytes()].concat())?;
    let id = key_id(signer.public_key());
    let encoded = BASE64_STANDARD.encode([b"ED", id.as_slice(), signature.as_bytes()].concat());
    let global = BASE64_STANDARD.encode(global.as_bytes());
    Ok(format!("{UNTRUSTED}signature of {}\n{encoded}\n{TRUSTED}{comment}\n{global}\n", signer.name()))
}

/// Checks a sidecar and returns its comment.
pub fn verify<'a>(
    sidecar: &'a str,
    key: &PublicKey,
    digests: &SidecarDigests,
) -> Result<&'a str, SidecarError> {
    let malformed = |reason| SidecarError::Malformed { format: "minisign", reason };
    if sidecar.len() > FILE_BYTES_MAX {
        return Err(malformed("it is longer than 16 KiB"));
    }
    let lines: Vec<&str> =
        sidecar.strip_suffix('\n').ok_or(malformed("its last line has no end"))?.split('\n').collect();
    let [untrusted, encoded, comment, global] = lines[..] else {
        return Err(malformed("it has not four lines"));
    };
    let comment = comment.strip_prefix(TRUSTED).filter(|_| untrusted.starts_with(UNTRUSTED));
    let comment = comment.ok_or(malformed("a comment line is missing"))?;
    let bytes: [u8; 74] = decode(encoded).ok_or(malformed("its signature is not 74 bytes in base64"))?;
    let global: [u8; 64] =
        decode(global).ok_or(malformed("its comment's signature is not 64 bytes in base64"))?;
    if bytes[..2] != *b"ED" {
        return Err(malformed("it is not prehashed"));
    }
    if bytes[2..10] != key_id(key) {
        return Err(SidecarError::OtherKey);
    }
    let mut signature = [0; 64];
    signature.copy_from_slice(&bytes[10..]);
    let signed_comment = [signature.as_slice(), comment.as_bytes()].concat();
    let good = key.verifies(&digests.blake2b, &Signature::from_bytes(signature))
        && key.verifies(&signed_comment, &Signature::from_bytes(global));
    if good { Ok(comment) } else { Err(SidecarError::WrongSignature) }
}

/// Eight bytes by which minisign finds a key; derived, so that they need not be kept.
fn key_id(key: &PublicKey) -> [u8; 8] {
    *Sha256::digest(key.as_bytes()).first_chunk().expect("a digest has 32 bytes")
}

fn decode<const N: usize>(encoded: &str) -> Option<[u8; N]> {
    BASE64_STANDARD.decode(encoded).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use std::fs;
    use std::process::Command;

    fn secret() -> SecretKey {
        SecretKey::from_seed("sidecar".parse().unwrap(), &[9; 32])
    }

    #[test]
    fn minisign_accepts_our_sidecars() {
        let folder = tempfile::tempdir().unwrap();
        let (file, public) = (folder.path().join("file"), folder.path().join("minisign.pub"));
        fs::write(&file, b"content\n").unwrap();
        fs::write(&public, public_key_text(secret().public_key())).unwrap();
        let sidecar = sign(&secret(), &SidecarDigests::of(b"content\n"), "channel repos/nixos").unwrap();
        fs::write(folder.path().join("file.minisig"), sidecar).unwrap();
        let run = || Command::new("minisign").arg("-V").arg("-p").arg(&public).arg("-m").arg(&file).output();
        let Ok(output) = run() else {
            eprintln!("skipped: minisign is not installed");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("channel repos/nixos"));
        fs::write(&file, b"Content\n").unwrap();
        assert!(!run().unwrap().status.success(), "minisign accepts a changed file");
    }

    #[test]
    fn changed_sidecars_are_refused() {
        let digests = SidecarDigests::of(b"content\n");
        let good = sign(&secret(), &digests, "first\nline").unwrap();
        let key = secret().public_key().clone();
        assert_eq!(verify(&good, &key, &digests), Ok("first line"));
        assert_eq!(verify(&good, &key, &SidecarDigests::of(b"other")), Err(SidecarError::WrongSignature));
        let other = SecretKey::from_seed("other".parse().unwrap(), &[10; 32]);
        assert_eq!(verify(&good, other.public_key(), &digests), Err(SidecarError::OtherKey));
        assert_eq!(
            verify(&good.replace("first", "other"), &key, &digests),
            Err(SidecarError::WrongSignature),
            "the comment is signed too"
        );
        for wrong in
            [String::new(), good.trim_end().to_owned(), good.clone() + "\n", good.replace("trusted", "")]
        {
            assert!(
                matches!(verify(&wrong, &key, &digests), Err(SidecarError::Malformed { .. })),
                "{wrong:?}"
            );
        }
    }
}
