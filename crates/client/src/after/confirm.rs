//! `smart-sync confirm`: somebody says that the host is well with its new version, and can still be reached.

use std::path::PathBuf;

use super::connection;
use super::fate::Fate;
use super::moment::{Moment, shown};
use super::pending::{Pending, Phase};
use super::trial::Trial;
use super::trigger::Changed;
use super::verdict::Health;
use super::way_back::{Due, WayBack};
use super::{Settled, ended, settle, standing};
use crate::failure::{Exit, Failure};
use crate::hosts::report;
use crate::output::Output;
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
        let exit = confirmed.unwrap_or_else(|failure| {
            surroundings.output.failure(&failure);
            failure.exit()
        });
        if ended == Exit::Success {
            ended = exit;
        }
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
    let session = Session::begin(place, policy, Validation::TrustStat, output)?;
    let Some((pending, Fate::Wait(_))) = standing(&session)? else {
        // It is too late, or too early, or there was nothing.
        return match settle(session, &policy.after, surroundings)? {
            Settled::Undone(exit) | Settled::Waits(exit) => Ok(exit),
            Settled::Confirmed(_) => Ok(Exit::Success),
            Settled::Nothing(session) => nothing_waits(&session, output),
        };
    };
    if over == Over::NewConnections && is_same_connection(&pending) {
        return Err(Failure::message(
            Exit::Arguments,
            format!("{target}: this is the connection over which the version was applied"),
        )
        .hint("open a new connection to this host and type it there, so that it is known to be reachable")
        .hint("--same-connection confirms it all the same"));
    }
    let paths = Pending::changed(&place.state)?;
    let changed = paths.as_deref().map_or(Changed::Unknown, Changed::Paths);
    let after = &policy.after;
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
    let target = place.target.display();
    let health = match &session.applied {
        Some(applied) => Health::of(&place.state, applied)?,
        None => Health::Unchecked,
    };
    let (exit, what) = match &health {
        Health::RolledBack(reason) => (Exit::RolledBack, format!("the last update was taken back: {reason}")),
        Health::RollbackFailed(reason) => (Exit::RollbackFailed, format!("it is not healthy: {reason}")),
        _ => {
            output.info(&format!("{target}: nothing waits to be confirmed"));
            return Ok(Exit::Success);
        }
    };
    output.warning(&format!("{target}: nothing waits to be confirmed; {what}"));
    Ok(exit)
}

fn is_same_connection(pending: &Pending) -> bool {
    let Phase::Waiting(window) = &pending.phase else { return false };
    window.connection.is_some() && window.connection == connection::this_one()
}

/// Says that a version waits, and sees to it that it does not wait for ever: what stood by may be gone, for instance with
/// the container that it ran in.
pub(super) fn still_waits(
    place: &Place,
    pending: &Pending,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let Phase::Waiting(window) = &pending.phase else { return Ok(()) };
    let left = window.until.saturating_sub(Moment::now()?.since_boot);
    WayBack::of(surroundings).arm(place, Due::After(left))?;
    let target = place.target.display();
    surroundings.output.warning(&format!(
        "{target} is not confirmed yet, and nothing is done before: type `smart-sync confirm --target {target}` \
         within {}, else it goes back to the version before",
        shown(left)
    ));
    Ok(())
}
