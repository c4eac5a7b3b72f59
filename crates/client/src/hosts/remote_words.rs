//! A command line for the shell of another host.
//!
//! ssh hands on one text, and the login shell there makes words of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::shell_words::quote;

/// The command line that runs `program --json` with these arguments.
pub(super) fn command_line(program: &str, words: &[OsString]) -> OsString {
    let mut line = Vec::new();
    for word in [OsStr::new(program), OsStr::new("--json")].into_iter().chain(words.iter().map(AsRef::as_ref))
    {
        if !line.is_empty() {
            line.push(b' ');
        }
        quote(word.as_bytes(), &mut line);
    }
    OsString::from_vec(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A shell makes the same words of the line again.
    #[track_caller]
    fn check(words: &[&[u8]]) {
        let words: Vec<OsString> = words.iter().map(|word| OsString::from_vec(word.to_vec())).collect();
        let line = command_line("each", &words);
        let mut script = OsString::from("each() { printf '%s\\0' \"$@\"; }\n");
        script.push(&line);
        let printed = Command::new("sh").arg("-c").arg(&script).output().unwrap();
        let expected = [OsString::from("--json")].iter().chain(&words).fold(Vec::new(), |mut all, word| {
            all.extend_from_slice(word.as_bytes());
            all.push(0);
            all
        });
        assert_eq!(printed.stdout, expected, "{line:?}");
    }

    #[test]
    fn words_arrive_as_they_were_typed() {
        check(&[]);
        check(&[b"--ref", b"main@2026-11-01T12:00Z"]);
        check(&[b"", b" ", b"a b", b"'", b"''", b"a'b", b"\"", b"\\", b"\\'"]);
        check(&[b"$HOME", b"$(id)", b"`id`", b"*", b"~", b";id", b"&", b"|", b"#x", b"!x", b"{a,b}"]);
        check(&[b"line\nbreak", b"\ttab", b"\x1b[2J", b"\xff\xfe", "f\u{fc}r".as_bytes()]);
        let every: Vec<u8> = (1..=255).collect();
        check(&[&every]);
    }

    #[test]
    fn plain_words_are_not_quoted() {
        let words = ["--target".into(), "/srv/a b".into()];
        assert_eq!(command_line("smart-sync", &words), "smart-sync --json --target '/srv/a b'");
    }
}
