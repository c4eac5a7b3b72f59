//! GnuPG with a home of its own, whose clock stands where a test puts it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::skip::skipped;

/// The time at which keys are made where a test asks for no other one: 2026-01-01.
pub const FIRST_DAY: &str = "20260101T000000";

/// GnuPG, with the keys of one test.
#[derive(Debug)]
pub struct Gpg {
    home: TempDir,
    time: String,
}

impl Gpg {
    /// GnuPG without keys; none where the machine has no such program, which is said.
    pub fn new() -> Option<Self> {
        if Command::new("gpg").arg("--version").output().is_err() {
            skipped("there is no gpg");
            return None;
        }
        // The socket of its agent lies below the home, and has to have a short name.
        let home =
            tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").expect("a directory can be made");
        Some(Self { home, time: FIRST_DAY.to_owned() })
    }

    /// Puts its clock to a time such as `20260101T000000`.
    pub fn set_time(&mut self, time: &str) {
        time.clone_into(&mut self.time);
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The program.
    pub fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command
            .env("GNUPGHOME", self.home.path())
            .env("LC_ALL", "C")
            .args([
                "--batch",
                "--no-tty",
                "--quiet",
                "--yes",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
            ])
            .args(["--no-permission-warning", "--trust-model", "always", "--status-fd", "2"])
            .arg(format!("--faked-system-time={}!", self.time));
        command
    }

    /// Runs it with something on its standard input; returns what it prints, or fails with what it says.
    pub fn try_run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        feed(self.command().args(arguments), input)
    }

    /// Does the same, and fails the test where it fails.
    #[track_caller]
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        self.try_run(arguments, input).unwrap_or_else(|said| panic!("gpg {arguments:?}: {said}"))
    }

    /// Makes a key for a user, such as of the algorithm `ed25519` for `sign` until `1y`; returns its fingerprint.
    #[track_caller]
    pub fn make_key(&self, user: &str, algorithm: &str, usage: &str, until: &str) -> String {
        self.run(&["--quick-generate-key", user, algorithm, usage, until], b"");
        self.fingerprints(user).remove(0)
    }

    /// Adds a subkey to a key; returns its fingerprint.
    #[track_caller]
    pub fn add_subkey(&self, key: &str, algorithm: &str, usage: &str, until: &str) -> String {
        self.run(&["--quick-add-key", key, algorithm, usage, until], b"");
        self.fingerprints(key).pop().expect("a key was added")
    }

    fn fingerprints(&self, key: &str) -> Vec<String> {
        let listed = self.run(&["--with-colons", "--list-keys", key], b"");
        let listed = String::from_utf8(listed).expect("a list is text");
        let fingerprints = listed.lines().filter_map(|line| line.strip_prefix("fpr:"));
        fingerprints.map(|line| line.trim_matches(':').to_owned()).collect()
    }

    /// The public half of a key, armored.
    #[track_caller]
    pub fn export(&self, key: &str) -> Vec<u8> {
        self.run(&["--armor", "--export", key], b"")
    }

    /// The secret half of a key, armored.
    #[track_caller]
    pub fn export_secret(&self, key: &str) -> Vec<u8> {
        self.run(&["--armor", "--export-secret-keys", key], b"")
    }

    /// Takes in the public half of somebody's key, and trusts it as one's own.
    #[track_caller]
    pub fn trust(&self, key: &str, exported: &[u8]) {
        self.run(&["--import"], exported);
        self.run(&["--trust-model", "pgp", "--import-ownertrust"], format!("{key}:6:\n").as_bytes());
        // Portage asks GnuPG not to look for itself whom to trust.
        self.run(&["--trust-model", "pgp", "--check-trustdb"], b"");
    }

    /// Writes the public half of a key to a file below the home.
    #[track_caller]
    pub fn export_to(&self, key: &str, name: &str) -> PathBuf {
        self.write(name, &self.export(key))
    }

    /// Writes a file below the home.
    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
        path
    }

    /// Revokes a key by the certificate that was written when it was made.
    #[track_caller]
    pub fn revoke_key(&self, key: &str) {
        let path = self.home.path().join(format!("openpgp-revocs.d/{key}.rev"));
        let text = fs::read_to_string(&path).expect("there is a certificate");
        // A colon stands before its first line, so that nobody uses it by accident.
        let text = text.replace("\n:-----BEGIN", "\n-----BEGIN");
        self.run(&["--import"], text.as_bytes());
    }

    /// Revokes the first subkey of a key.
    #[track_caller]
    pub fn revoke_subkey(&self, key: &str) {
        // Asking is what this command does, which `--batch` forbids.
        let mut command = Command::new("gpg");
        command
            .env("GNUPGHOME", self.home.path())
            .args([
                "--no-tty",
                "--quiet",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
                "--command-fd",
                "0",
            ])
            .arg(format!("--faked-system-time={}!", self.time))
            .args(["--edit-key", key]);
        feed(&mut command, b"key 1\nrevkey\ny\n0\n\ny\nsave\n").expect("a subkey can be revoked");
    }

    /// A detached signature of some bytes, armored.
    #[track_caller]
    pub fn sign(&self, key: &str, bytes: &[u8]) -> Vec<u8> {
        self.run(&["--armor", "--local-user", key, "--detach-sign"], bytes)
    }

    /// A text with its signature behind it.
    #[track_caller]
    pub fn clear_sign(&self, key: &str, text: &str) -> Vec<u8> {
        self.run(&["--local-user", key, "--clear-sign"], text.as_bytes())
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // Its agent ends by itself when the home is gone; this is sooner. Nothing can be done where it fails.
        let _ = Command::new("gpgconf").env("GNUPGHOME", self.home.path()).args(["--kill", "all"]).output();
    }
}

fn feed(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let input = input.to_vec();
    // It may end without having read everything.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    feeding.join().expect("writing does not panic");
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
