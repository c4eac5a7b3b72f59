//! Keys that sign: from files, or held by an ssh-agent.

use std::path::Path;

use smart_sync_sync::key::{Agent, AgentError, KeyFileError, SecretKey, SignError, Signer, sshsig};

use crate::args::trust::KeySource;
use crate::failure::{Exit, Failure};
use crate::passphrase;

/// Makes a key ready to sign. A passphrase is asked for where the key has one.
pub fn load(source: &KeySource) -> Result<Box<dyn Signer>, Failure> {
    match source {
        KeySource::File(path) => Ok(Box::new(load_file(path)?)),
        KeySource::Agent(fingerprint) => load_from_agent(fingerprint),
    }
}

/// Reads a key file.
pub fn load_file(path: &Path) -> Result<SecretKey, Failure> {
    let mut failed = None;
    let loaded = SecretKey::load(path, &mut || {
        passphrase::ask(&format!("Passphrase for {}: ", path.display())).unwrap_or_else(|failure| {
            failed = Some(failure);
            None
        })
    });
    match failed {
        Some(failure) => Err(failure),
        None => Ok(loaded?),
    }
}

fn load_from_agent(fingerprint: &str) -> Result<Box<dyn Signer>, Failure> {
    let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).ok_or_else(|| {
        Failure::message(Exit::Arguments, "no ssh-agent is running: SSH_AUTH_SOCK is not set")
            .hint("start one with: eval \"$(ssh-agent)\" && ssh-add KEYFILE")
    })?;
    let keys = Agent::connect(Path::new(&socket)).and_then(|agent| agent.keys())?;
    let is_meant = |found: &str| found == fingerprint || found.strip_prefix("SHA256:") == Some(fingerprint);
    let key = keys.into_iter().find(|key| is_meant(&sshsig::fingerprint(key.public_key()))).ok_or_else(|| {
        Failure::message(Exit::Arguments, format!("the ssh-agent has no key {fingerprint} that can be used"))
            .hint(
                "`ssh-add -l` lists what it has; a key has to be of the type ed25519, with a comment that is the \
                 key's name, without spaces and `+`",
            )
    })?;
    Ok(Box::new(key))
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        match &error {
            KeyFileError::Absent { .. } | KeyFileError::Exists { .. } | KeyFileError::Unusable { .. } => {
                Self::new(Exit::Arguments, error)
            }
            KeyFileError::PassphraseNeeded { .. } => Self::new(Exit::Arguments, error).hint(format!(
                "run this on a terminal, or put the passphrase into the variable {}",
                passphrase::VARIABLE
            )),
            KeyFileError::Exposed { .. } => Self::new(Exit::Permission, error),
            KeyFileError::Io { source, .. } => {
                let is_denied = source.kind() == std::io::ErrorKind::PermissionDenied;
                Self::new(if is_denied { Exit::Permission } else { Exit::General }, error)
            }
        }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self::new(Exit::General, error)
    }
}

impl From<SignError> for Failure {
    fn from(error: SignError) -> Self {
        Self::new(Exit::General, error)
    }
}
