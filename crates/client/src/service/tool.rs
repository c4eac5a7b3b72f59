//! Running the programs of a service manager.

use std::process::Command;
use std::time::Duration;

use smart_sync_store::manifest::path::Shown;

use crate::after::process;
use crate::failure::{Exit, Failure};
use crate::sync::Surroundings;

/// Stopping waits until an update has come to a safe point.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Lines of a failed command that are shown.
const LINES: usize = 5;

/// Runs a command, however it ends.
pub(super) fn ran(words: &[String], surroundings: &Surroundings<'_>) -> Result<process::Ran, Failure> {
    let mut command = Command::new(&words[0]);
    process::run(command.args(&words[1..]), TIMEOUT, surroundings.interrupt)
        .map_err(|error| Failure::from(error).context(format!("running {}", words.join(" "))))
}

/// Runs a command that has to succeed.
pub(super) fn run(words: &[String], surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let ran = ran(words, surroundings)?;
    for line in ran.last_lines(LINES) {
        let line = format!("{}: {}", words[0], Shown(line.as_bytes()));
        let output = surroundings.output;
        if ran.is_success() { output.detail(&line) } else { output.warning(&line) }
    }
    if ran.is_success() {
        return Ok(());
    }
    let text = format!("{} {}", words.join(" "), ran.how(TIMEOUT));
    Err(Failure::message(Exit::General, text).hint(
        "run this again when that is repaired; `smart-sync service remove` takes back what was written",
    ))
}
