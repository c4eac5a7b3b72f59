//! `.sshsig` sidecars, which `ssh-keygen -Y verify` checks (OpenSSH's `PROTOCOL.sshsig`).
//!
//! The namespace keeps signatures apart that one key makes for different purposes; only ours is accepted.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use sha2::{Digest, Sha256};
use smart_sync_store::codec::{DecodeError, Reader};

use super::sidecar::{SidecarDigests, SidecarError};
use super::ssh_wire::{
    key_blob, put_string, put_u32, read_key_blob, read_signature_blob, read_string, read_u32, signature_blob,
};
use super::{KeyName, PublicKey, SignError, Signer};

/// The purpose that our signatures are for.
pub const NAMESPACE: &str = "smart-sync";

const FILE_BYTES_MAX: usize = 16 * 1024;
const MAGIC: &[u8] = b"SSHSIG";
const HASH: &[u8] = b"sha512";
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";
const LINE_CHARACTERS: usize = 70;

/// The key as a line of an `authorized_keys` file; with a name in front it is one of `allowed_signers`.
pub fn public_key_text(name: &KeyName, key: &PublicKey) -> String {
    format!("ssh-ed25519 {} {name}", BASE64_STANDARD.encode(key_blob(key)))
}

/// The fingerprint of the key as `ssh-add -l` and `ssh-keygen -l` show it.
pub fn fingerprint(key: &PublicKey) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(key_blob(key))))
}

/// Signs a file.
pub fn sign(signer: &dyn Signer, digests: &SidecarDigests) -> Result<String, SignError> {
    let signature = signer.sign(&signed_message(digests))?;
    let mut blob = MAGIC.to_vec();
    put_u32(&mut blob, 1);
    put_string(&mut blob, &key_blob(signer.public_key()));
    put_string(&mut blob, NAMESPACE.as_bytes());
    put_string(&mut blob, b"");
    put_string(&mut blob, HASH);
    put_string(&mut blob, &signature_blob(&signature));
    let encoded = BASE64_STANDARD.encode(blob);
    let mut text = BEGIN.to_owned();
    for line in encoded.as_bytes().chunks(LINE_CHARACTERS) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(END);
    Ok(text)
}

/// Checks a sidecar.
pub fn verify(sidecar: &str, key: &PublicKey, digests: &SidecarDigests) -> Result<(), SidecarError> {
    let malformed = |reason| SidecarError::Malformed { format: "ssh", reason };
    if sidecar.len() > FILE_BYTES_MAX {
        return Err(malformed("it is longer than 16 KiB"));
    }
    let body = sidecar.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let body = body.ok_or(malformed("its first or last line is missing"))?.replace('\n', "");
    let blob = BASE64_STANDARD.decode(body).map_err(|_| malformed("it is not base64"))?;
    let parts = Parts::read(&blob).map_err(|_| malformed("its fields do not fit together"))?;
    if parts.namespace != NAMESPACE.as_bytes() {
        return Err(SidecarError::OtherNamespace(
            String::from_utf8_lossy(parts.namespace).chars().take(80).collect(),
        ));
    }
    if parts.hash != HASH {
        return Err(malformed("it is not made over SHA-512"));
    }
    if read_key_blob(parts.key).as_ref() != Some(key) {
        return Err(SidecarError::OtherKey);
    }
    let signature = read_signature_blob(parts.signature).ok_or(malformed("its signature is not Ed25519"))?;
    if key.verifies(&signed_message(digests), &signature) {
        Ok(())
    } else {
        Err(SidecarError::WrongSignature)
    }
}

struct Parts<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    hash: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(blob: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(blob);
        reader.magic("an SSH signature", MAGIC)?;
        if read_u32(&mut reader, "version")? != 1 {
            return Err(DecodeError::BadMagic("an SSH signature"));
        }
        let key = read_string(&mut reader, "key")?;
        let namespace = read_string(&mut reader, "namespace")?;
        if !read_string(&mut reader, "reserved")?.is_empty() {
            return Err(DecodeError::invalid("the reserved field is in use"));
        }
        let hash = read_string(&mut reader, "hash")?;
        let signature = read_string(&mut reader, "signature")?;
        reader.finish()?;
        Ok(Self { key, namespace, hash, signature })
    }
}

fn signed_message(digests: &SidecarDigests) -> Vec<u8> {
    let mut message = MAGIC.to_vec();
    put_string(&mut message, NAMESPACE.as_bytes());
    put_string(&mut message, b"");
    put_string(&mut message, HASH);
    put_string(&mut message, &digests.sha512);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use std::fs::{self, File};
    use std::path::Path;
    use std::process::{Command, Output};

    fn secret() -> SecretKey {
        SecretKey::from_seed("sidecar".parse().unwrap(), &[9; 32])
    }

    fn ssh_keygen(folder: &Path, arguments: &[&str]) -> Option<Output> {
        let file = File::open(folder.join("file")).unwrap();
        let output = Command::new("ssh-keygen").current_dir(folder).args(arguments).stdin(file).output();
        if output.is_err() {
            eprintln!("skipped: ssh-keygen is not installed");
        }
        output.ok()
    }

    #[test]
    fn ssh_keygen_accepts_our_sidecars() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("file", "content\n");
        put("signers", &format!("sidecar {}\n", public_key_text(secret().name(), secret().public_key())));
        put("file.sshsig", &sign(&secret(), &SidecarDigests::of(b"content\n")).unwrap());
        let verify = ["-Y", "verify", "-f", "signers", "-I", "sidecar", "-n", NAMESPACE, "-s", "file.sshsig"];
        let Some(output) = ssh_keygen(folder.path(), &verify) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        put("file", "Content\n");
        assert!(!ssh_keygen(folder.path(), &verify).unwrap().status.success(), "a changed file is accepted");
    }

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), public_key_text(secret().name(), secret().public_key()))
            .unwrap();
        let Some(output) = ssh_keygen(folder.path(), &["-l", "-f", "file"]) else { return };
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.split(' ').nth(1), Some(&fingerprint(secret().public_key())[..]), "{text}");
    }

    #[test]
    fn signatures_of_ssh_keygen_count_in_our_namespace_only() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "content\n").unwrap();
        secret().save(&folder.path().join("key"), None).unwrap();
        let digests = SidecarDigests::of(b"content\n");
        for (namespace, expected) in
            [(NAMESPACE, Ok(())), ("git", Err(SidecarError::OtherNamespace("git".to_owned())))]
        {
            let sign = ["-Y", "sign", "-f", "key", "-n", namespace];
            let Some(output) = ssh_keygen(folder.path(), &sign) else { return };
            let sidecar = String::from_utf8(output.stdout).unwrap();
            assert_eq!(verify(&sidecar, secret().public_key(), &digests), expected, "{namespace}");
        }
    }

    #[test]
    fn changed_sidecars_are_refused() {
        let digests = SidecarDigests::of(b"content\n");
        let good = sign(&secret(), &digests).unwrap();
        let key = secret().public_key().clone();
        assert_eq!(verify(&good, &key, &digests), Ok(()));
        assert_eq!(verify(&good, &key, &SidecarDigests::of(b"other")), Err(SidecarError::WrongSignature));
        let other = SecretKey::from_seed("other".parse().unwrap(), &[10; 32]);
        assert_eq!(verify(&good, other.public_key(), &digests), Err(SidecarError::OtherKey));
        for wrong in
            ["", BEGIN, &good.replace("SSH SIGNATURE", "SSH"), &good.replace("U1NI", "U1NJ"), &good[1..]]
        {
            assert!(
                matches!(verify(wrong, &key, &digests), Err(SidecarError::Malformed { .. })),
                "{wrong:?}"
            );
        }
    }
}
