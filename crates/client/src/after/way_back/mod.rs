//! The way back: what takes a target, or all targets of a profile, back when the run that switched them cannot.
//!
//! It is armed before readers are switched, and lives outside of the run, because a run is what an update may kill: by
//! its commands, by a crash, or by cutting off whoever typed it. Where systemd runs it is a transient timer, else a
//! process of our own; both do no more than `smart-sync recover`, which decides as everybody else does. It goes when
//! the version is confirmed, and when the target is back.

mod supervisor;
mod systemd;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::moment::since_boot;
use super::subject::Subject;
use crate::WAY_BACK;
use crate::failure::{Exit, Failure};
use crate::realm::trust_store::write;
use crate::sync::Surroundings;

pub use self::supervisor::serve;

/// Says in the state of a target or a profile what stands by.
const NOTE: &str = "way-back";
/// How soon, and then how often, a timer looks whether the run that armed it is still there.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Lines of a program that did not do what it was asked to, which are shown.
const LINES: usize = 3;

/// What stands by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Armed {
    /// A timer of systemd, with this name.
    Timer(String),
    /// A process that was given this word.
    Supervisor(String),
}

/// When what is on trial has to be taken back, if nobody says otherwise before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// When the run that works on it has ended.
    AfterRun,
    /// When so much time has passed.
    After(Duration),
}

/// How the program is started that goes back: with the configuration and the state that the run has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WayBack {
    config: Option<PathBuf>,
    state_dir: PathBuf,
}

impl WayBack {
    /// As this run was started.
    pub(crate) fn of(surroundings: &Surroundings<'_>) -> Self {
        // Where it is started, relative paths mean something else.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self { config: surroundings.config_path.map(absolute), state_dir: absolute(surroundings.state_dir) }
    }

    /// The arguments of the program.
    fn words(&self, subject: &Subject<'_>) -> Vec<OsString> {
        let mut words = vec![OsString::from("--quiet")];
        if let Some(config) = &self.config {
            words.extend(["--config".into(), config.into()]);
        }
        words.extend(["--state-dir".into(), (&self.state_dir).into()]);
        words.push("recover".into());
        words.extend(subject.words());
        words
    }

    /// Sees to it that it is gone back when that is due, whatever becomes of this process.
    pub(crate) fn arm(&self, subject: &Subject<'_>, due: Due) -> Result<(), Failure> {
        let state = subject.state;
        let before = read(state)?;
        let word = format!("{}-{}", std::process::id(), since_boot().as_nanos());
        let armed = if systemd::runs(Path::new(systemd::RUNTIME), std::env::var_os("PATH").as_deref()) {
            Armed::Timer(format!("{}-{word}", unit(state)))
        } else {
            Armed::Supervisor(word)
        };
        // The note comes first, so that nothing ever stands by that nobody knows of.
        let bytes = serde_json::to_vec(&armed).expect("a text");
        write(&state.join(NOTE), &bytes)?;
        let words = self.words(subject);
        let started = match &armed {
            Armed::Timer(unit) => {
                let first = if let Due::After(time) = due { time } else { LOOK_EVERY };
                systemd::start(unit, &subject.to_string(), first, LOOK_EVERY, &words)
            }
            Armed::Supervisor(word) => start(state, word, &words),
        };
        if let Err(reason) = started {
            disarm(state);
            return Err(Failure::message(
                Exit::General,
                format!("the way back to the version before cannot be armed: {reason}"),
            )
            .hint(match armed {
                Armed::Timer(_) => "look whether `systemctl is-system-running` answers, and run this again",
                Armed::Supervisor(_) => "look whether processes can be started, and run this again",
            }));
        }
        // The new one is there. A process that stood by until now sees that, and ends.
        if let Some(Armed::Timer(unit)) = before {
            systemd::stop(&unit);
        }
        Ok(())
    }
}

/// Lets nothing stand by any more. What is left over does no harm: it finds nothing to be taken back.
pub(crate) fn disarm(state: &Path) {
    let armed = read(state).ok().flatten();
    let removed = fs::remove_file(state.join(NOTE));
    if matches!(armed, Some(Armed::Timer(_))) || (armed.is_none() && removed.is_ok()) {
        systemd::stop(&format!("{}-*", unit(state)));
    }
}

fn read(state: &Path) -> Result<Option<Armed>, Failure> {
    match fs::read(state.join(NOTE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::from(error).context("reading what stands by to go back")),
        // What cannot be read is replaced by the next one.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
    }
}

/// What the units of a target or a profile are called, but for what tells them from each other.
fn unit(state: &Path) -> String {
    let name = state.file_name().unwrap_or_default().to_string_lossy();
    let id = name.rsplit('-').next().unwrap_or_default();
    format!("smart-sync-back-{id}")
}

/// Starts a process that stands by, and waits until it does.
fn start(state: &Path, word: &str, words: &[OsString]) -> Result<(), String> {
    // What is ended with the commands of an update is what this process inherits: this is not to be among it.
    let _ = rustix::process::set_child_subreaper(None);
    let mut command = Command::new("/proc/self/exe");
    command.args([OsStr::new(WAY_BACK), OsStr::new(supervisor::START), state.as_os_str(), OsStr::new(word)]);
    command.args(words).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    let ended = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&ended.stdout);
    match said.trim() {
        supervisor::STANDS_BY if ended.status.success() => Ok(()),
        "" => Err(format!("the process that stands by has ended with {}", ended.status)),
        reason => Err(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_started_with_what_this_run_was_given() {
        let recovery =
            WayBack { config: Some("/etc/sync.toml".into()), state_dir: "/var/lib/smart-sync".into() };
        let state = Path::new("/var/lib/smart-sync/profiles/host-1");
        let words = recovery.words(&Subject::set("profiles/host", state));
        let expected = [
            "--quiet",
            "--config",
            "/etc/sync.toml",
            "--state-dir",
            "/var/lib/smart-sync",
            "recover",
            "--profile",
            "profiles/host",
        ];
        assert_eq!(words, expected);
        let usual = WayBack { config: None, ..recovery }.words(&Subject::set("profiles/host", state));
        assert_eq!(usual[1], "--state-dir");
    }
}
