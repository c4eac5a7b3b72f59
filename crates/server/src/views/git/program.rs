//! Running git on a repository of ours, with nothing of the settings of whoever started the server.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// How much of what git complains about is repeated.
const COMPLAINT_BYTES_MAX: usize = 1024;

/// Git could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// There is no git.
    #[error("git is not installed\nhint: install it, on Debian with `apt-get install git`")]
    Missing,
    /// It could not be run.
    #[error("running git {0}")]
    Run(String, #[source] io::Error),
    /// It has failed.
    #[error("git {command} ended with {status}: {complaint}")]
    Failed {
        /// What was asked for.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        complaint: String,
    },
    /// It said something else than it should.
    #[error("git {0} answered with something else than what was asked for")]
    Answer(String),
}

/// `git ARGUMENTS` on a repository.
pub(crate) fn command(repository: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(arguments).env_clear().env("GIT_DIR", repository);
    for (name, value) in settings(repository) {
        command.env(name, value);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The environment of every git of the server: where programs are found, and otherwise nothing from outside. A
/// repository that the server has made is one that it trusts, also where the data directory belongs to another user.
pub(crate) fn settings(repository: &Path) -> Vec<(&'static str, std::ffi::OsString)> {
    let mut settings = vec![
        ("PATH", std::env::var_os("PATH").unwrap_or_default()),
        ("LC_ALL", "C".into()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
        ("GIT_ATTR_NOSYSTEM", "1".into()),
        ("GIT_OPTIONAL_LOCKS", "0".into()),
        ("GIT_CONFIG_COUNT", "1".into()),
        ("GIT_CONFIG_KEY_0", "safe.directory".into()),
    ];
    settings.push(("GIT_CONFIG_VALUE_0", repository.as_os_str().to_owned()));
    settings
}

/// Runs git to its end; what it printed, without the last line end.
pub(super) fn run(repository: &Path, arguments: &[&str]) -> Result<String, GitError> {
    text(&output(command(repository, arguments), arguments)?, arguments)
}

/// Runs a command that may also end with status 1, which means that there is no such thing.
pub(super) fn ask(repository: &Path, arguments: &[&str]) -> Result<Option<String>, GitError> {
    let output = command(repository, arguments).output().map_err(|error| run_error(arguments, error))?;
    if output.status.code() == Some(1) {
        return Ok(None);
    }
    text(&checked(output, arguments)?, arguments).map(Some)
}

fn output(mut command: Command, arguments: &[&str]) -> Result<Output, GitError> {
    checked(command.output().map_err(|error| run_error(arguments, error))?, arguments)
}

pub(super) fn run_error(arguments: &[&str], error: io::Error) -> GitError {
    if error.kind() == io::ErrorKind::NotFound {
        GitError::Missing
    } else {
        GitError::Run(words(arguments), error)
    }
}

pub(super) fn checked(output: Output, arguments: &[&str]) -> Result<Output, GitError> {
    if output.status.success() {
        return Ok(output);
    }
    let status = output.status.to_string();
    Err(GitError::Failed { command: words(arguments), status, complaint: complaint(&output.stderr) })
}

fn text(output: &Output, arguments: &[&str]) -> Result<String, GitError> {
    let text = str::from_utf8(&output.stdout).map_err(|_| GitError::Answer(words(arguments)))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// What git said, as far as it is repeated, without what a terminal would act on.
pub(crate) fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(&stderr[..stderr.len().min(COMPLAINT_BYTES_MAX)]).into_owned();
    text.trim().escape_debug().to_string()
}

fn words(arguments: &[&str]) -> String {
    arguments.join(" ")
}

/// Whether there is a git that speaks HTTP.
pub(super) fn is_installed() -> Result<(), GitError> {
    let arguments = ["--exec-path"];
    let path = run(Path::new("/nonexistent"), &arguments)?;
    let backend = Path::new(OsStr::new(&path)).join("git-http-backend");
    if backend.exists() { Ok(()) } else { Err(GitError::Missing) }
}
