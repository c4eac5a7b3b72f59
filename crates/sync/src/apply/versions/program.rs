//! The programs that know the interfaces of a file system in the kernel, and what they say.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::apply::error::ApplyError;

/// Runs a program, and returns what it says. `name` is what it is called where it is missing.
pub(super) fn run(
    program: &Path,
    name: &'static str,
    operation: &'static str,
    path: &Path,
    words: &[&[u8]],
) -> Result<String, ApplyError> {
    let mut command = Command::new(program);
    command.args(words.iter().map(|word| OsStr::from_bytes(word))).env("LC_ALL", "C").stdin(Stdio::null());
    let failed = |source| ApplyError::Io { operation, path: path.display().to_string(), source };
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ApplyError::MissingProgram(name));
        }
        output => output.map_err(failed)?,
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().strip_prefix("ERROR: ").unwrap_or(said.trim()).to_owned();
    Err(failed(kind_of(&said, said.clone())))
}

/// The programs say in words what the kernel said.
fn kind_of(said: &str, text: String) -> io::Error {
    let kinds = [
        ("Operation not permitted", io::ErrorKind::PermissionDenied),
        ("ermission denied", io::ErrorKind::PermissionDenied),
        ("Read-only file system", io::ErrorKind::ReadOnlyFilesystem),
        ("pool is read-only", io::ErrorKind::ReadOnlyFilesystem),
        ("No space left", io::ErrorKind::StorageFull),
        ("out of space", io::ErrorKind::StorageFull),
        ("quota exceeded", io::ErrorKind::QuotaExceeded),
    ];
    let kind =
        kinds.iter().find(|(words, _)| said.contains(words)).map_or(io::ErrorKind::Other, |(_, kind)| *kind);
    io::Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, expected: io::ErrorKind) {
        assert_eq!(kind_of(said, "x".into()).kind(), expected, "{said}");
    }

    #[test]
    fn what_a_program_says_is_what_the_kernel_meant() {
        check("Could not create subvolume: No space left on device", io::ErrorKind::StorageFull);
        check("cannot create snapshot 'tank/a@b': out of space", io::ErrorKind::StorageFull);
        check("cannot create snapshot 'tank/a@b': permission denied", io::ErrorKind::PermissionDenied);
        check("something", io::ErrorKind::Other);
    }
}
