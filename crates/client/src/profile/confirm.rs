//! Confirming a set: somebody says that the host is well with the new versions of all targets of a profile.

use std::path::PathBuf;

use smart_sync_sync::name::Channel;

use super::journal::State;
use super::settle::{self, Ended, Unsettled, report_all};
use super::store::{self, PROFILES, Store};
use crate::after::confirm::{Over, tell_nothing_waits};
use crate::after::fate::Fate;
use crate::after::pending::Phase;
use crate::after::subject::Subject;
use crate::after::verdict::Health;
use crate::after::waiting::check_connection;
use crate::failure::{Exit, Failure};
use crate::sync::Surroundings;

/// Confirms what was pulled of a profile.
pub fn confirm(profile: &Channel, over: Over, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let directory = store::directory_of(profile, surroundings.state_dir);
    if !directory.is_dir() {
        surroundings.output.info(&format!("{profile} was not pulled on this host"));
        return Ok(Exit::Success);
    }
    confirm_at(directory, profile.as_str(), over, surroundings)
}

/// Confirms what was pulled of all profiles that wait for it.
pub fn confirm_all(over: Over, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let mut ended = Exit::Success;
    for directory in store::all(&surroundings.state_dir.join(PROFILES))? {
        // Of others, nothing was ever pulled.
        let Some(name) = store::profile_in(&directory)? else { continue };
        ended = ended.and(surroundings.output.ended(confirm_at(directory, &name, over, surroundings)));
    }
    Ok(ended)
}

fn confirm_at(
    directory: PathBuf,
    profile: &str,
    over: Over,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let (store, output) = (&Store::at(directory, &format!("the profile {profile}"))?, surroundings.output);
    let journal = store.journal()?.filter(|journal| journal.state == State::Proving);
    if let Some(journal) = journal {
        let set = Unsettled { store, journal, surroundings };
        let (pending, fate) = set.judged(&set.standings()?)?;
        if let (Fate::Wait(_), Phase::Waiting(window)) = (fate, &pending.phase) {
            check_connection(&set.subject(), window, over)?;
            let journal = set.journal.clone();
            let ended = set.confirm(&pending);
            report_all(&journal, &ended, surroundings);
            return match ended? {
                Ended::Back(exit) | Ended::Waits(exit) => Ok(exit),
                Ended::Forward => {
                    let number = store.sets()?.current;
                    output.info(&format!("{profile} is confirmed, and is set {number} now"));
                    Ok(Exit::Success)
                }
            };
        }
    }
    // It is too late, or too early, or there was nothing.
    let was_unsettled = store.journal()?.is_some();
    match settle::settle(store, surroundings)? {
        Ended::Back(exit) | Ended::Waits(exit) => Ok(exit),
        Ended::Forward if was_unsettled => Ok(Exit::Success),
        Ended::Forward => {
            let id = store.sets()?.current().map_or_else(String::new, |set| set.id().to_string());
            let health = Health::of(store.directory(), &id)?;
            Ok(tell_nothing_waits(&Subject::set(profile, store.directory()), &health, output))
        }
    }
}
