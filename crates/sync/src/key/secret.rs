//! Secret keys, kept in OpenSSH private key files whose comment is the key's name.
//!
//! The format is the one that `ssh-keygen` writes and `ssh-add` reads, so that the same file serves an agent. A file
//! that others may read is refused rather than used with a warning: the key in it can no longer be relied upon.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::Ed25519PublicKey;
use ssh_key::{Cipher, Kdf, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::{KeyName, PublicKey, SignError, Signature, Signer};

/// The largest key file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The most rounds of the passphrase hash: some minutes. `ssh-keygen` takes 16 to 24 by default.
const KDF_ROUNDS_MAX: u32 = 4096;
const KDF_ROUNDS: u32 = 24;

/// A secret key in memory. It is wiped when it is dropped and never printed.
pub struct SecretKey {
    name: KeyName,
    public: PublicKey,
    secret: SigningKey,
}

/// A key file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error("there is no key file {}", .path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The group or others have access to it.
    #[error(
        "others may read the key file {} (mode {mode:03o}); type `chmod 600 {}`, and make a new key if somebody may have",
        .path.display(), .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is a file already, and a key is never overwritten.
    #[error("{} exists already, and a key is never overwritten", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It is encrypted and no passphrase was given.
    #[error("the key file {} is encrypted, and no passphrase was given", .path.display())]
    PassphraseNeeded {
        /// The file.
        path: PathBuf,
    },
    /// What is in the file cannot be used.
    #[error("the key file {}: {reason}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The operating system refused.
    #[error("{operation} the key file {}", .path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl SecretKey {
    /// Makes a new key from the operating system's random numbers.
    pub fn generate(name: KeyName) -> io::Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(io::Error::other)?;
        Ok(Self::from_seed(name, &seed))
    }

    /// Makes the key that belongs to a seed.
    pub fn from_seed(name: KeyName, seed: &[u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(seed);
        let public = PublicKey::from_bytes(secret.verifying_key().as_bytes())
            .expect("a key that was derived from a seed is canonical and of large order");
        Self { name, public, secret }
    }

    /// Reads a key file. `passphrase` is asked, once, only when the file is encrypted.
    pub fn load(
        path: &Path,
        passphrase: &mut dyn FnMut() -> Option<Zeroizing<String>>,
    ) -> Result<Self, KeyFileError> {
        let text = read_private(path)?;
        let unusable = |reason: &str| KeyFileError::Unusable { path: path.into(), reason: reason.into() };
        let mut key = PrivateKey::from_openssh(&*text)
            .map_err(|_| unusable("not an OpenSSH private key, as `ssh-keygen -t ed25519` writes it"))?;
        if key.is_encrypted() {
            if matches!(key.kdf(), Kdf::Bcrypt { rounds, .. } if *rounds > KDF_ROUNDS_MAX) {
                return Err(unusable("it asks for more rounds of its passphrase hash than is sensible"));
            }
            let passphrase =
                passphrase().ok_or_else(|| KeyFileError::PassphraseNeeded { path: path.into() })?;
            key = key.decrypt(passphrase.as_bytes()).map_err(|_| unusable("the passphrase is wrong"))?;
        }
        let KeypairData::Ed25519(pair) = key.key_data() else {
            return Err(unusable("only ed25519 keys are used here"));
        };
        let name = key.comment().parse().map_err(|_| {
            unusable("its comment has to be the name of the key, without spaces or `+`; type `ssh-keygen -c -C NAME -f FILE`")
        })?;
        let loaded = Self::from_seed(name, pair.private.as_ref());
        if loaded.public.as_bytes() != &pair.public.0 {
            return Err(unusable("its public half does not belong to its secret half"));
        }
        Ok(loaded)
    }

    /// Writes a new key file, readable by its owner alone, and makes it durable.
    pub fn save(&self, path: &Path, passphrase: Option<&str>) -> Result<(), KeyFileError> {
        let text = self.to_openssh(passphrase).map_err(|source| KeyFileError::Io {
            operation: "encoding",
            path: path.into(),
            source,
        })?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|source| {
                match source.kind() {
                    io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
                    _ => KeyFileError::Io { operation: "creating", path: path.into(), source },
                }
            })?;
        write_durably(&mut file, path, text.as_bytes()).map_err(|source| {
            // Half a key helps nobody, and would stand in the way of the next attempt.
            let _ = fs::remove_file(path);
            KeyFileError::Io { operation: "writing", path: path.into(), source }
        })
    }

    fn to_openssh(&self, passphrase: Option<&str>) -> io::Result<Zeroizing<String>> {
        let pair = Ed25519Keypair {
            public: Ed25519PublicKey(*self.public.as_bytes()),
            private: Ed25519PrivateKey::from_bytes(self.secret.as_bytes()),
        };
        let mut key =
            PrivateKey::new(KeypairData::Ed25519(pair), self.name.as_str()).map_err(io::Error::other)?;
        if let Some(passphrase) = passphrase {
            let mut random = [0; 20];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            let (check, salt) = random.split_first_chunk::<4>().expect("the array has twenty bytes");
            let kdf = Kdf::Bcrypt { salt: salt.to_vec(), rounds: KDF_ROUNDS };
            key = key
                .encrypt_with(Cipher::Aes256Ctr, kdf, u32::from_be_bytes(*check), passphrase)
                .map_err(io::Error::other)?;
        }
        key.to_openssh(LineEnding::LF).map_err(io::Error::other)
    }
}

impl Signer for SecretKey {
    fn name(&self) -> &KeyName {
        &self.name
    }

    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        Ok(Signature::from_bytes(self.secret.sign(message).to_bytes()))
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey")
            .field("name", &self.name)
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// Reads a file that only its owner may have access to. The mode is that of the opened file, so that it cannot be
/// exchanged in between.
fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let failed = |operation| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeyFileError::Absent { path: path.into() },
            _ => KeyFileError::Io { operation, path: path.into(), source },
        }
    };
    let file = File::open(path).map_err(failed("opening"))?;
    let metadata = file.metadata().map_err(failed("examining"))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.into(), mode });
    }
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        let reason = "not a regular file of at most 64 KiB".into();
        return Err(KeyFileError::Unusable { path: path.into(), reason });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed("reading"))?;
    Ok(bytes)
}

fn write_durably(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_seed("publisher".parse().unwrap(), &[7; 32])
    }

    fn load(path: &Path, passphrase: Option<&str>) -> Result<SecretKey, KeyFileError> {
        SecretKey::load(path, &mut || passphrase.map(|text| Zeroizing::new(text.to_owned())))
    }

    #[test]
    fn keys_are_saved_for_their_owner_alone_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        for passphrase in [None, Some("correct horse")] {
            let path = folder.path().join(format!("key-{}", passphrase.is_some()));
            key().save(&path, passphrase).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let loaded = load(&path, passphrase).unwrap();
            assert_eq!(loaded.name(), key().name());
            assert_eq!(loaded.public_key(), key().public_key());
            let signature = loaded.sign(b"message").unwrap();
            assert!(key().public_key().verifies(b"message", &signature));
            assert!(matches!(key().save(&path, None), Err(KeyFileError::Exists { .. })));
        }
    }

    #[test]
    fn key_files_that_cannot_be_relied_upon_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(load(&path, None), Err(KeyFileError::Absent { .. })));
        key().save(&path, Some("correct horse")).unwrap();
        assert!(matches!(load(&path, None), Err(KeyFileError::PassphraseNeeded { .. })));
        let error = load(&path, Some("wrong")).unwrap_err().to_string();
        assert!(error.contains("passphrase is wrong"), "{error}");
        for mode in [0o640, 0o604, 0o610, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load(&path, Some("correct horse")).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "mode {mode:o}: {error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for damage in ["", "not a key", "-----BEGIN OPENSSH PRIVATE KEY-----\n"] {
            fs::write(&path, damage).unwrap();
            assert!(matches!(load(&path, None), Err(KeyFileError::Unusable { .. })), "{damage:?}");
        }
        fs::write(&path, vec![b'-'; 70_000]).unwrap();
        assert!(matches!(load(&path, None), Err(KeyFileError::Unusable { .. })));
        assert!(!format!("{:?}", key()).contains("07070707"), "a secret was printed");
    }
}
