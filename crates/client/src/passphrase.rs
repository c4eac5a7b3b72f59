//! Passphrases: from the environment, or typed on the terminal without being shown.
//!
//! While somebody types, the terminal hands over every key at once, Ctrl-C included, so that it is put back as it was
//! however the typing ends.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize as _, Zeroizing};

use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;

/// The variable that is read in place of the terminal.
pub const VARIABLE: &str = "SMART_SYNC_PASSPHRASE";
/// The longest passphrase that is taken.
const BYTES_MAX: usize = 1024;

const INTERRUPT: u8 = 3;
const END_OF_INPUT: u8 = 4;
const BACKSPACE: u8 = 8;
const ERASE_LINE: u8 = 21;
const DELETE: u8 = 127;

/// The passphrase in the environment, else what is typed; none where there is no terminal.
pub fn ask(prompt: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    match from_environment()? {
        Some(passphrase) => Ok(Some(passphrase)),
        None => from_terminal(prompt),
    }
}

/// A passphrase for something new: where it is typed, it is typed twice.
pub fn ask_for_new(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    if let Some(passphrase) = from_environment()? {
        return Ok(passphrase);
    }
    let none = || {
        Failure::message(Exit::Arguments, "there is no terminal to ask for a passphrase on")
            .hint(format!("put it into the variable {VARIABLE}"))
    };
    let first = from_terminal(prompt)?.ok_or_else(none)?;
    if first.is_empty() {
        return Err(Failure::message(Exit::Arguments, "an empty passphrase protects nothing"));
    }
    let second = from_terminal("The same again: ")?.ok_or_else(none)?;
    if first == second {
        Ok(first)
    } else {
        Err(Failure::message(Exit::Arguments, "the two passphrases are not the same"))
    }
}

fn from_environment() -> Result<Option<Zeroizing<String>>, Failure> {
    match std::env::var(VARIABLE) {
        Ok(passphrase) if passphrase.is_empty() => Ok(None),
        Ok(passphrase) => Ok(Some(Zeroizing::new(passphrase))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::message(Exit::Arguments, format!("{VARIABLE} is not UTF-8")))
        }
    }
}

fn from_terminal(prompt: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/tty") else { return Ok(None) };
    let failed = |error: io::Error| Failure::from(error).context("asking for a passphrase on the terminal");
    let mut hidden = Hidden::new(terminal).map_err(failed)?;
    hidden.terminal.write_all(prompt.as_bytes()).map_err(failed)?;
    let typed = hidden.read_line().map_err(failed)?;
    hidden.terminal.write_all(b"\n").map_err(failed)?;
    drop(hidden);
    let Some(bytes) = typed else { return Err(interrupted()) };
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(Zeroizing::new(text.to_owned()))),
        Err(_) => Err(Failure::message(Exit::Arguments, "the passphrase is not UTF-8")),
    }
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn new(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Flush, &modes)?;
        Ok(Self { terminal, before })
    }

    /// What is typed up to the end of the line; none for Ctrl-C.
    fn read_line(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut typed = Zeroizing::new(Vec::with_capacity(BYTES_MAX));
        let mut byte = [0];
        loop {
            if self.terminal.read(&mut byte)? == 0 {
                return Ok(Some(typed));
            }
            match edit(&mut typed, byte[0]) {
                Edited::Open => {}
                Edited::Complete => return Ok(Some(typed)),
                Edited::Abandoned => return Ok(None),
            }
            byte.zeroize();
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that has gone needs no repair.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// What a key has made of the line.
#[derive(Debug, PartialEq, Eq)]
enum Edited {
    Open,
    Complete,
    Abandoned,
}

fn edit(typed: &mut Vec<u8>, key: u8) -> Edited {
    match key {
        b'\n' | b'\r' | END_OF_INPUT => return Edited::Complete,
        INTERRUPT => return Edited::Abandoned,
        BACKSPACE | DELETE => {
            // A character of several bytes goes as a whole.
            while typed.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {}
        }
        ERASE_LINE => typed.zeroize(),
        key if typed.len() < BYTES_MAX => typed.push(key),
        _ => {}
    }
    Edited::Open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &str, expected: &str, end: Edited) {
        let mut typed = Vec::new();
        let last = keys.bytes().map(|key| edit(&mut typed, key)).find(|edited| *edited != Edited::Open);
        assert_eq!((String::from_utf8(typed).unwrap().as_str(), last), (expected, Some(end)), "{keys:?}");
    }

    #[test]
    fn a_line_can_be_corrected_and_given_up() {
        check("secret\n", "secret", Edited::Complete);
        check("secrex\u{7f}t\r", "secret", Edited::Complete);
        check("aé\u{7f}b\n", "ab", Edited::Complete);
        check("\u{7f}\u{8}x\n", "x", Edited::Complete);
        check("wrong\u{15}right\u{4}", "right", Edited::Complete);
        check("secr\u{3}", "secr", Edited::Abandoned);
    }
}
