//! The way back as a process of our own, where there is no service manager to ask.
//!
//! It has a session of its own, nothing open that others wait for, and no part in the lock. It looks at the notes of the
//! target, or of the profile, twice a second rather than be told of changes: what tells of changes can run out, and
//! what looks notices everything alike, be it a run that was killed, a confirmation, or the end of the time.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::super::fate::{Fate, Hands, Holds, fate};
use super::super::moment::Moment;
use super::super::pending::Pending;
use super::{Armed, read};
use crate::WAY_BACK;

/// The second word of the process that starts the one which stands by.
pub(super) const START: &str = "start";
/// The second word of that.
const STAND_BY: &str = "stand-by";
/// What it says when it does.
pub(super) const STANDS_BY: &str = "stands by";
/// The longest reason that is passed on why it does not.
const REASON_BYTES_MAX: u64 = 4096;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest wait between two attempts to go back.
const ATTEMPT_WAIT_MAX: Duration = Duration::from_secs(600);
/// After that many attempts it is given up: with these waits that is after two weeks.
const ATTEMPTS_MAX: u32 = 2000;

/// What the last attempt to go back has said, in the same state.
const LOG: &str = "way-back.log";

/// What the process does whose first argument was [`WAY_BACK`], given those behind it.
pub fn serve(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    let done = match words.split_first() {
        Some((word, rest)) if word == START => start(rest),
        Some((word, rest)) if word == STAND_BY => stand_by(rest),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever has started this process reads it; later nobody does.
            let _ = writeln!(io::stdout(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Leaves the session of the run, starts the process that stands by, and ends when it does, so that it is nobody's.
fn start(words: &[OsString]) -> io::Result<()> {
    rustix::process::setsid()?;
    let mut child = Command::new("/proc/self/exe")
        .args([WAY_BACK, STAND_BY])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output.take(REASON_BYTES_MAX)).read_line(&mut said)?;
    }
    writeln!(io::stdout(), "{}", said.trim_end())
}

/// What may have to go back: a target, or all targets of a profile.
struct Watched {
    state: PathBuf,
    armed: Armed,
    words: Vec<OsString>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    End,
    Look,
    GoBack,
}

fn stand_by(words: &[OsString]) -> io::Result<()> {
    let [state, word, words @ ..] = words else { return Err(io::ErrorKind::InvalidInput.into()) };
    let word = word.to_str().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let watched = Watched { state: state.into(), armed: Armed::Supervisor(word), words: words.to_vec() };
    // It has to be able to look before anybody relies on it.
    watched.next().map_err(io::Error::other)?;
    writeln!(io::stdout(), "{STANDS_BY}")?;
    watched.until_settled();
    Ok(())
}

impl Watched {
    fn until_settled(&self) {
        let mut attempts = 0;
        loop {
            match self.next() {
                Ok(Next::End) => return,
                // What cannot be read now is looked at again.
                Ok(Next::Look) | Err(_) => sleep(LOOK_EVERY),
                Ok(Next::GoBack) if attempts == ATTEMPTS_MAX => return,
                Ok(Next::GoBack) => {
                    // How it ended is seen at the notes.
                    let _ = self.go_back();
                    if self.next() == Ok(Next::GoBack) {
                        sleep(wait_after(attempts));
                    }
                    attempts += 1;
                }
            }
        }
    }

    fn next(&self) -> Result<Next, String> {
        let shown = |failure: crate::failure::Failure| failure.in_one_line();
        if !self.state.is_dir() || read(&self.state).map_err(shown)?.as_ref() != Some(&self.armed) {
            return Ok(Next::End);
        }
        let Some(pending) = Pending::read(&self.state).map_err(shown)? else { return Ok(Next::End) };
        let now = Moment::now().map_err(shown)?;
        // What targets hold is found out by the program that is started, which has to lock them for that.
        let lone = fate(&pending, Holds::It, Hands::None, &now);
        let found = match lone {
            Fate::GoBack(_) | Fate::Finish(_) | Fate::Forget | Fate::Prove => {
                fate(&pending, Holds::It, hands(&self.state).map_err(|error| error.to_string())?, &now)
            }
            other => other,
        };
        Ok(match found {
            Fate::Leave | Fate::Wait(_) => Next::Look,
            Fate::AwaitReboot => Next::End,
            Fate::Forget | Fate::Prove | Fate::GoBack(_) | Fate::Finish(_) => Next::GoBack,
        })
    }

    fn go_back(&self) -> io::Result<()> {
        let log = File::create(self.state.join(LOG));
        let output = |log: &io::Result<File>| {
            // A disk that is full does not keep it from going back.
            log.as_ref().ok().and_then(|log| log.try_clone().ok()).map_or_else(Stdio::null, Stdio::from)
        };
        let mut command = Command::new("/proc/self/exe");
        command.args(&self.words).stdin(Stdio::null()).stdout(output(&log)).stderr(output(&log));
        command.status().map(drop)
    }
}

/// Whether somebody works on it.
fn hands(state: &Path) -> io::Result<Hands> {
    let lock = match File::open(state.join(OsStr::new("lock"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Hands::None),
        opened => opened?,
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Hands::None),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Hands::Others),
        Err(errno) => Err(errno.into()),
    }
}

/// How long to wait after so many attempts that did not get back.
fn wait_after(attempts: u32) -> Duration {
    (LOOK_EVERY * 2).saturating_mul(1 << attempts.min(16)).min(ATTEMPT_WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::after::pending::{Phase, Run, Window};
    use crate::after::trigger::nixos::Override;

    fn watched(state: &Path) -> Watched {
        Watched { state: state.to_owned(), armed: Armed::Supervisor("word".to_owned()), words: Vec::new() }
    }

    fn note(state: &Path, phase: Phase) {
        let boot = Moment::now().unwrap().boot;
        let manifest = "m".to_owned();
        let (run, said) = (Run::Update, Override::default());
        Pending { manifest, previous: None, since: 1, boot, phase, run, said }.write(state).unwrap();
    }

    fn arm(state: &Path, word: &str) {
        let armed = Armed::Supervisor(word.to_owned());
        std::fs::write(state.join(super::super::NOTE), serde_json::to_vec(&armed).unwrap()).unwrap();
    }

    #[test]
    fn it_ends_when_it_is_not_what_stands_by_any_more() {
        let state = tempfile::tempdir().unwrap();
        let (state, watched) = (state.path(), watched(state.path()));
        assert_eq!(watched.next(), Ok(Next::End));
        note(state, Phase::Proving);
        arm(state, "another");
        assert_eq!(watched.next(), Ok(Next::End));
        arm(state, "word");
        assert_eq!(watched.next(), Ok(Next::GoBack));
        note(state, Phase::Rebooting);
        assert_eq!(watched.next(), Ok(Next::End));
        Pending::remove(state).unwrap();
        assert_eq!(watched.next(), Ok(Next::End));
    }

    #[test]
    fn it_waits_for_a_run_and_for_the_end_of_a_window() {
        let state = tempfile::tempdir().unwrap();
        let (state, watched) = (state.path(), watched(state.path()));
        arm(state, "word");
        let waiting =
            |until| Phase::Waiting(Window { until, within: Duration::from_secs(60), connection: None });
        let lock = File::create(state.join("lock")).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        for phase in [Phase::Proving, waiting(Duration::MAX), waiting(Duration::ZERO)] {
            note(state, phase);
            assert_eq!(watched.next(), Ok(Next::Look));
        }
        drop(lock);
        assert_eq!(watched.next(), Ok(Next::GoBack));
        note(state, waiting(Duration::MAX));
        assert_eq!(watched.next(), Ok(Next::Look));
    }

    #[test]
    fn attempts_are_made_more_and_more_seldom() {
        assert_eq!(wait_after(0), Duration::from_secs(1));
        assert_eq!(wait_after(3), Duration::from_secs(8));
        assert_eq!(wait_after(u32::MAX), ATTEMPT_WAIT_MAX);
    }
}
