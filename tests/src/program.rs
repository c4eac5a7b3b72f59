//! Running programs to their end, and finding the ones that are under test.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::SystemTime;

use rustix::process::{Pid, Signal, kill_process};

/// What a program that has ended left behind.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was run, for messages.
    pub command: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

#[expect(clippy::return_self_not_must_use, reason = "an assertion is a statement of its own as often as not")]
impl Finished {
    /// Fails the test, with everything the program said, unless it ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "{} ended with {:?} instead of {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails the test unless the program ended with 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.expect_code(0)
    }

    /// Fails the test unless standard output holds this text.
    #[track_caller]
    pub fn stdout_contains(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "{}: no {text:?} in:\n{}", self.command, self.stdout);
        self
    }

    /// Fails the test unless standard error holds this text.
    #[track_caller]
    pub fn stderr_contains(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{}: no {text:?} in:\n{}", self.command, self.stderr);
        self
    }
}

/// Runs a command to its end, without standard input.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    let described = describe(command);
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("starting {described}: {error}"));
    finished(described, &output)
}

/// Waits for a command that was started, with its output in pipes.
#[track_caller]
pub fn finish(command: &Command, child: Child) -> Finished {
    let described = describe(command);
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("waiting for {described}: {error}"));
    finished(described, &output)
}

fn finished(command: String, output: &Output) -> Finished {
    Finished {
        command,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A program that runs; it is killed if the test ends before it does.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Option<Child>,
}

impl Running {
    /// Starts a command, without standard input.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let described = describe(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("starting {described}: {error}"));
        Self { command: described, child: Some(child) }
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        let process = id.and_then(Pid::from_raw).expect("a process that was started has an id");
        // It may have ended already; whoever waits for it sees how.
        let _ = kill_process(process, signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let child = self.child.take().expect("it is only waited for once");
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("{}: {error}", self.command));
        finished(std::mem::take(&mut self.command), &output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command as one would type it.
pub fn describe(command: &Command) -> String {
    let mut words = OsString::from(command.get_program());
    for argument in command.get_args() {
        words.push(" ");
        words.push(argument);
    }
    words.to_string_lossy().into_owned()
}

/// The path of a program that cargo built beside the running executable.
///
/// A program older than the sources that its dependency file lists would test yesterday's code, and fails as an
/// absent one does.
pub fn built(name: &str) -> PathBuf {
    let path = target_directory().join(name);
    let advice = "run `cargo build --bins` (with --release for a release build), or `make test`";
    let built = modified(&path).unwrap_or_else(|| panic!("{} is not there: {advice}", path.display()));
    if let Some(newer) =
        sources(&path).into_iter().find(|source| modified(source).is_none_or(|time| time > built))
    {
        panic!("{} is older than {}: {advice}", path.display(), newer.display());
    }
    path
}

/// `target/debug` or whatever the profile's directory is.
pub fn target_directory() -> PathBuf {
    let executable = std::env::current_exe().expect("the running executable has a path");
    let directory = executable.parent().expect("an executable lies in a directory");
    // Test executables lie in `deps`, programs one level above.
    if directory.ends_with("deps") {
        directory.parent().expect("`deps` lies in the profile's directory").to_path_buf()
    } else {
        directory.to_path_buf()
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// The sources that cargo's dependency file, `PROGRAM: SOURCE SOURCE …` with escaped spaces, lists for a program.
fn sources(program: &Path) -> Vec<PathBuf> {
    let listed = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let Some((_, listed)) = listed.split_once(": ") else { return Vec::new() };
    let listed = listed.trim_end().replace("\\ ", "\0");
    listed.split(' ').filter(|path| !path.is_empty()).map(|path| path.replace('\0', " ").into()).collect()
}
