//! Signing with a running ssh-agent ([draft-ietf-sshm-ssh-agent](https://datatracker.ietf.org/doc/draft-ietf-sshm-ssh-agent/)).
//!
//! Two messages are enough: list the keys, sign with one. An agent is trusted with the secret but not with our
//! memory: answers are bounded, parsed strictly, and a signature is checked before it is handed on.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smart_sync_store::codec::{DecodeError, Reader};

use super::ssh_wire::{
    key_blob, put_string, put_u32, read_key_blob, read_signature_blob, read_string, read_u32,
};
use super::{KeyName, PublicKey, SignError, Signature, Signer};

const MESSAGE_BYTES_MAX: u32 = 256 * 1024;
const KEYS_MAX: u32 = 2048;
/// Agents may ask their user to confirm, so an answer may take a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// A connection to an agent.
#[derive(Debug, Clone)]
pub struct Agent {
    stream: Arc<Mutex<UnixStream>>,
}

/// A key that an agent holds.
#[derive(Debug, Clone)]
pub struct AgentKey {
    agent: Agent,
    name: KeyName,
    public: PublicKey,
}

/// The agent did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It cannot be talked to.
    #[error("talking to the ssh-agent")]
    Io(#[from] io::Error),
    /// It said no: the user declined, or the key is gone or locked.
    #[error("the ssh-agent declined")]
    Declined,
    /// Its answer breaks the protocol.
    #[error("the answer of the ssh-agent: {0}")]
    Malformed(#[from] DecodeError),
    /// It made a signature that its own key does not verify.
    #[error("the ssh-agent made a signature that does not verify")]
    WrongSignature,
}

impl Agent {
    /// Connects to the agent that listens at `socket`, which is what `SSH_AUTH_SOCK` holds.
    pub fn connect(socket: &Path) -> Result<Self, AgentError> {
        Self::over(UnixStream::connect(socket)?)
    }

    /// The Ed25519 keys of the agent whose comments can serve as names; others are passed over.
    pub fn keys(&self) -> Result<Vec<AgentKey>, AgentError> {
        let answer = self.ask(&[REQUEST_IDENTITIES])?;
        let mut reader = Reader::new(&answer);
        expect_message(&mut reader, IDENTITIES_ANSWER)?;
        let count = read_u32(&mut reader, "number of keys")?;
        if count > KEYS_MAX {
            return Err(DecodeError::invalid("it holds more keys than is sensible").into());
        }
        let mut keys = Vec::new();
        for _ in 0..count {
            let blob = read_string(&mut reader, "key")?;
            let comment = read_string(&mut reader, "comment")?;
            let name = str::from_utf8(comment).ok().and_then(|comment| comment.parse().ok());
            if let (Some(public), Some(name)) = (read_key_blob(blob), name) {
                keys.push(AgentKey { agent: self.clone(), name, public });
            }
        }
        reader.finish()?;
        Ok(keys)
    }

    fn over(stream: UnixStream) -> Result<Self, AgentError> {
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { stream: Arc::new(Mutex::new(stream)) })
    }

    fn ask(&self, message: &[u8]) -> Result<Vec<u8>, AgentError> {
        // A panic while the stream was held could leave it in the middle of an answer; the parser finds that out.
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let mut request = Vec::new();
        put_string(&mut request, message);
        stream.write_all(&request)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MESSAGE_BYTES_MAX {
            return Err(DecodeError::invalid("it is longer than 256 KiB").into());
        }
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl AgentKey {
    fn ask_for_signature(&self, message: &[u8]) -> Result<Signature, AgentError> {
        let mut request = vec![SIGN_REQUEST];
        put_string(&mut request, &key_blob(&self.public));
        put_string(&mut request, message);
        put_u32(&mut request, 0);
        let answer = self.agent.ask(&request)?;
        let mut reader = Reader::new(&answer);
        expect_message(&mut reader, SIGN_RESPONSE)?;
        let blob = read_string(&mut reader, "signature")?;
        reader.finish()?;
        read_signature_blob(blob)
            .filter(|signature| self.public.verifies(message, signature))
            .ok_or(AgentError::WrongSignature)
    }
}

impl Signer for AgentKey {
    fn name(&self) -> &KeyName {
        &self.name
    }

    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        self.ask_for_signature(message).map_err(|source| SignError { name: self.name.clone(), source })
    }
}

fn expect_message(reader: &mut Reader<'_>, expected: u8) -> Result<(), AgentError> {
    match reader.byte("message type")? {
        found if found == expected => Ok(()),
        FAILURE => Err(AgentError::Declined),
        found => Err(DecodeError::invalid(format!("message {found} in place of {expected}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;
    use crate::key::ssh_wire::signature_blob;
    use std::process::{Command, Stdio};
    use std::thread;

    /// An agent that gives these answers, whatever it is asked.
    fn agent_that_answers(answers: Vec<Vec<u8>>) -> Agent {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let mut length = [0; 4];
                theirs.read_exact(&mut length).unwrap();
                let mut request = vec![0; u32::from_be_bytes(length) as usize];
                theirs.read_exact(&mut request).unwrap();
                theirs.write_all(&answer).unwrap();
            }
        });
        Agent::over(ours).unwrap()
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, message);
        out
    }

    fn identities(keys: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = vec![IDENTITIES_ANSWER];
        put_u32(&mut out, u32::try_from(keys.len()).unwrap());
        for (blob, comment) in keys {
            put_string(&mut out, blob);
            put_string(&mut out, comment);
        }
        framed(&out)
    }

    #[test]
    fn keys_are_listed_and_sign() {
        let secret = SecretKey::from_seed("publisher".parse().unwrap(), &[7; 32]);
        let mut response = vec![SIGN_RESPONSE];
        put_string(&mut response, &signature_blob(&secret.sign(b"message").unwrap()));
        let blob = key_blob(secret.public_key());
        let agent = agent_that_answers(vec![
            identities(&[(b"\0\0\0\x07ssh-rsa", b"other"), (&blob, b"publisher"), (&blob, b"no name")]),
            framed(&response),
            framed(&response),
            framed(&[FAILURE]),
        ]);
        let keys = agent.keys().unwrap();
        assert_eq!(keys.len(), 1, "keys that cannot sign notes are passed over");
        assert_eq!(keys[0].sign(b"message").unwrap(), secret.sign(b"message").unwrap());
        assert!(matches!(keys[0].sign(b"other").unwrap_err().source, AgentError::WrongSignature));
        assert!(matches!(keys[0].sign(b"message").unwrap_err().source, AgentError::Declined));
    }

    #[test]
    fn answers_are_bounded_and_strict() {
        let too_many = [vec![IDENTITIES_ANSWER], u32::MAX.to_be_bytes().to_vec()].concat();
        for answer in [
            u32::MAX.to_be_bytes().to_vec(),
            framed(&[]),
            framed(&[99]),
            framed(&[IDENTITIES_ANSWER, 0, 0, 0, 1]),
            framed(&[IDENTITIES_ANSWER, 0, 0, 0, 0, 0]),
            framed(&too_many),
            vec![0, 0, 0, 9, IDENTITIES_ANSWER],
        ] {
            assert!(agent_that_answers(vec![answer.clone()]).keys().is_err(), "{answer:?}");
        }
    }

    #[test]
    fn openssh_agents_hold_our_key_files() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, file) = (folder.path().join("agent"), folder.path().join("key"));
        let secret = SecretKey::from_seed("publisher".parse().unwrap(), &[7; 32]);
        secret.save(&file, None).unwrap();
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(mut process) = command.spawn() else {
            eprintln!("skipped: ssh-agent is not installed");
            return;
        };
        // `ssh-add` fails until the agent listens, and says so by its status.
        let added = (0..1000).any(|_| {
            thread::yield_now();
            let mut add = Command::new("ssh-add");
            add.arg("-q").arg(&file).env("SSH_AUTH_SOCK", &socket).stderr(Stdio::null());
            add.status().is_ok_and(|status| status.success())
        });
        let signed = Agent::connect(&socket)
            .and_then(|agent| agent.keys())
            .map(|keys| keys.iter().find(|key| key.name() == secret.name()).map(|key| key.sign(b"message")));
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(added, "ssh-add does not take our key file");
        let signature = signed.unwrap().expect("the agent lists the key").unwrap();
        assert!(secret.public_key().verifies(b"message", &signature));
    }
}
