//! Telling OpenRC.

use std::path::Path;

use super::scripts::{RECOVER, WATCH};
use crate::failure::{Exit, Failure};
use crate::programs;
use crate::service::files::Home;
use crate::service::tool;
use crate::sync::Surroundings;

const SERVICE: &str = "rc-service";
const UPDATE: &str = "rc-update";
/// What is there while OpenRC runs.
pub(in crate::service) const RUNNING: &str = "/run/openrc";

/// Whether OpenRC runs this machine, and is not only installed in what will be one.
pub(super) fn is_running() -> bool {
    Path::new(RUNNING).exists()
}

/// Sees to it that the programs are there, before anything is changed.
pub(super) fn find() -> Result<(), Failure> {
    let missing = [SERVICE, UPDATE].into_iter().find(|program| programs::find(program).is_none());
    missing.map_or(Ok(()), |program| {
        Err(Failure::message(Exit::MissingDependency, format!("there is no {program} here"))
            .hint("`smart-sync service install --print` shows what would be written, for hosts that start programs in another way"))
    })
}

/// The runlevel of a service of ours.
fn runlevel(name: &str) -> &'static str {
    if name == RECOVER { "boot" } else { "default" }
}

/// What stops services, and has nothing start them any more.
pub(super) fn stopping(names: &[&str], home: &Home, is_running: bool) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for name in names {
        // What was settled at boot does not run, and has nothing to stop.
        if is_running {
            commands.push(words(&[SERVICE, "--ifstarted", name, "stop"]));
        }
        for (level, _) in home.links_to(name) {
            commands.push(words(&[UPDATE, "delete", name, &level]));
        }
    }
    commands
}

/// What has services start with the machine, and now; those that changed start again.
pub(super) fn starting(names: &[&str], changed: &[&str], home: &Home, is_running: bool) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for name in names {
        if home.links_to(name).is_empty() {
            commands.push(words(&[UPDATE, "add", name, runlevel(name)]));
        }
    }
    // What is left is settled before anything follows.
    let in_order = [RECOVER, WATCH].into_iter().filter(|name| is_running && names.contains(name));
    for name in in_order {
        if changed.contains(&name) {
            commands.push(words(&[SERVICE, "--ifstarted", name, "stop"]));
        }
        commands.push(words(&[SERVICE, "--ifnotstarted", name, "start"]));
    }
    commands
}

/// Runs commands, one after the other, until one fails.
pub(super) fn run(commands: &[Vec<String>], surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    commands.iter().try_for_each(|words| tool::run(words, surroundings))
}

/// What OpenRC says of a service.
pub(super) fn state(name: &str, surroundings: &Surroundings<'_>) -> Result<String, Failure> {
    let ran = tool::ran(&words(&[SERVICE, "--nocolor", name, "status"]), surroundings)?;
    Ok(state_in(&String::from_utf8_lossy(&ran.output)).to_owned())
}

/// The word behind `status:`, in a line that may begin with a star.
fn state_in(said: &str) -> &str {
    let state = said.lines().find_map(|line| line.split_once("status:").map(|(_, state)| state.trim()));
    state.filter(|state| !state.is_empty()).unwrap_or("unknown")
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_what_openrc_says() {
        assert_eq!(state_in(" * status: started\n"), "started");
        assert_eq!(state_in("warming up\n * status: crashed  \n"), "crashed");
        assert_eq!(state_in(""), "unknown");
        assert_eq!(state_in("status:\n"), "unknown");
    }
}
