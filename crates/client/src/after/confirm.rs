//! `smart-sync confirm`: somebody says that the host is well with its new version, and can still be reached.

use std::path::PathBuf;

use super::fate::Fate;
use super::pending::{Pending, Phase};
use super::subject::Subject;
use super::trial::Trial;
use super::trigger::Changed;
use super::verdict::Health;
use super::waiting::check_connection;
use super::{Settled, ended, settle, standing};
use crate::failure::{Exit, Failure};
use crate::hosts::report;
use crate::output::Output;
use crate::profile;
use crate::settings::{TargetPolicy, Validation};
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::Session;

/// Over which connections somebody may confirm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Another one than that over which the version was applied.
    NewConnections,
    /// Any, because somebody knows what that says.
    Any,
}

/// Confirms the versions of targets that wait for it.
pub fn run(
    targets: &[(PathBuf, TargetPolicy)],
    over: Over,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let mut ended = Exit::Success;
    for (target, policy) in targets {
        let Some(place) = Place::known(target, surroundings.state_dir) else {
            surroundings.output.info(&format!("{}: nothing waits to be confirmed", target.display()));
            continue;
        };
        let confirmed = confirm(&place, policy, over, surroundings);
        report::after(target, &confirmed, surroundings);
        ended = ended.and(surroundings.output.ended(confirmed));
    }
    Ok(ended)
}

fn confirm(
    place: &Place,
    policy: &TargetPolicy,
    over: Over,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let (target, output) = (place.target.display(), surroundings.output);
    profile::between::check_alone(place)?;
    let session = Session::begin(place, policy, Validation::TrustStat, output)?;
    // A set may have begun before the target was taken.
    profile::between::check_alone(place)?;
    let Some((pending, Fate::Wait(_))) = standing(&session)? else {
        // It is too late, or too early, or there was nothing.
        return match settle(session, &policy.after, surroundings)? {
            Settled::Undone(exit) | Settled::Waits(exit) => Ok(exit),
            Settled::Confirmed(_) => Ok(Exit::Success),
            Settled::Nothing(session) => nothing_waits(&session, output),
        };
    };
    if let Phase::Waiting(window) = &pending.phase {
        check_connection(&Subject::target(place), window, over)?;
    }
    let paths = Pending::changed(&place.state)?;
    let changed = paths.as_deref().map_or(Changed::Unknown, Changed::Paths);
    let after = &pending.of_run(&policy.after);
    let proof =
        Trial { session: &session, after, changed, pending: &pending, surroundings }.is_confirmed()?;
    let (confirmed, exit) = ended(proof, session, after, changed, &pending, surroundings)?;
    if confirmed.is_some() {
        output.info(&format!("{target} is confirmed"));
    }
    Ok(exit)
}

/// Whoever comes too late has to learn what has become of the version, and scripts from the status.
fn nothing_waits(session: &Session<'_>, output: &Output) -> Result<Exit, Failure> {
    let place = session.place();
    let health = match &session.applied {
        Some(applied) => Health::of(&place.state, &applied.manifest().to_string())?,
        None => Health::Unchecked,
    };
    Ok(tell_nothing_waits(&Subject::target(place), &health, output))
}

/// Says that nothing waits, and what has become of the last update, if that is not well.
pub(crate) fn tell_nothing_waits(subject: &Subject<'_>, health: &Health, output: &Output) -> Exit {
    let (exit, what) = match health {
        Health::RolledBack(reason) | Health::TakenBack(reason) => {
            (Exit::RolledBack, format!("the last update was taken back: {reason}"))
        }
        Health::RollbackFailed(reason) => (Exit::RollbackFailed, format!("it is not healthy: {reason}")),
        _ => {
            output.info(&format!("{subject}: nothing waits to be confirmed"));
            return Exit::Success;
        }
    };
    output.warning(&format!("{subject}: nothing waits to be confirmed; {what}"));
    exit
}
