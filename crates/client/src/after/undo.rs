//! Going back from a version that is not healthy, or that nobody has confirmed.
//!
//! Getting readers back comes before remembering why: where the state cannot be written, because a command has filled
//! the disk, the target goes back all the same.

use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::versions::{Kept, Kind, VersionName};

use super::ballast;
use super::chosen::RUN_AGAIN;
use super::moment::Moment;
use super::pending::{By, Failed, Pending, Phase, Return, Run};
use super::restore::restore;
use super::trigger::{After, Changed, Stage};
use super::verdict::{How, Verdict};
use super::work::{Work, needs_reboot};
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::{Session, seconds_now};
use crate::versions::rollback::{go_back, hold};

/// What to do where a command fails for the version before as well.
const TRY_AGAIN: &str =
    "repair what is named here; `smart-sync --retry-failed` tries the newer version again";
/// How often the commands for going back are begun.
pub(crate) const ATTEMPTS_MAX: u32 = 3;

/// Takes a target back to the version before, and runs the commands for that.
pub(super) fn undo(
    session: Session<'_>,
    after: &After,
    changed: Changed<'_>,
    pending: &Pending,
    reason: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let place = session.place();
    if surroundings.interrupt.is_requested() {
        // It says nothing about the version; whoever settles it next decides.
        return Err(interrupted());
    }
    output.warning(&format!("{} is not healthy: {reason}", place.target.display()));
    ballast::release(&place.state);
    if pending.run == Run::Update {
        let since = u64::try_from(seconds_now()).unwrap_or_default();
        let failed = Failed { manifest: pending.manifest.clone(), reason: reason.to_owned(), since };
        remembered(failed.note(&place.state), surroundings);
    }
    let session = session.unguarded();
    let Some(previous) = previous(&session, pending)? else {
        return restore(&session, after, changed, pending, reason, surroundings);
    };
    // Before readers are switched: whoever finds them switched then runs the commands to their end, if this run does not.
    let noted = |attempts| {
        let back = Return { reason: reason.to_owned(), attempts, by: By::Itself };
        remembered(note(place, pending, &back), surroundings);
    };
    noted(0);
    go_back(&session, &previous, surroundings).map_err(|failure| {
        let failure = failure.context(format!("going back from a version that is not healthy ({reason})"));
        if failure.exit() == Exit::Interrupted { failure } else { failure.with_exit(Exit::RollbackFailed) }
    })?;
    noted(1);
    finish(&session.reopened()?, after, changed, pending, reason, surroundings)
}

fn note(place: &Place, pending: &Pending, back: &Return) -> Result<(), Failure> {
    let phase = Phase::Returning(back.clone());
    pending.clone().in_phase(phase, &Moment::now()?).write(&place.state)
}

/// Runs the commands for a version that was gone back to, after a run that has not got to their end.
pub(super) fn finish_again(
    session: &Session<'_>,
    after: &After,
    pending: &Pending,
    back: Return,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let place = session.place();
    if back.attempts >= ATTEMPTS_MAX {
        let reason = format!(
            "the commands for going back to it were begun {ATTEMPTS_MAX} times, and none came to their end"
        );
        let advice = if back.by == By::Somebody { RUN_AGAIN } else { TRY_AGAIN };
        return Err(is_back_but(session, &reason, surroundings).hint(advice));
    }
    if back.by == By::Somebody && back.attempts == 0 {
        let number = generation(session)?;
        // The run that has switched readers may have ended before it said so.
        hold(place, number)?;
        surroundings.output.info(&format!(
            "{} was taken to generation {number}, and stays there until `smart-sync resume`",
            place.target.display()
        ));
    }
    let back = Return { attempts: back.attempts + 1, ..back };
    note(place, pending, &back)?;
    let paths = Pending::changed(&place.state)?;
    let changed = paths.as_deref().map_or(Changed::Unknown, Changed::Paths);
    if back.by == By::Somebody {
        return super::chosen::finish(session, after, changed, surroundings);
    }
    finish(session, after, changed, pending, &back.reason, surroundings)
}

/// Runs the commands for a version that was gone back to.
fn finish(
    session: &Session<'_>,
    after: &After,
    changed: Changed<'_>,
    pending: &Pending,
    reason: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let (place, output) = (session.place(), surroundings.output);
    if let Err(reason) = Work::new(session, changed, Stage::Rollback, surroundings)?.run(after) {
        if surroundings.interrupt.is_requested() {
            return Err(interrupted());
        }
        return Err(is_back_but(session, &reason, surroundings).hint(TRY_AGAIN));
    }
    if let Some(manifest) = session.manifest() {
        let how = How::RolledBack(reason.to_owned());
        remembered(Verdict::end(&place.state, &manifest.to_string(), how), surroundings);
    }
    super::forget(place)?;
    let number = generation(session)?;
    output.warning(&format!(
        "{} is back at generation {number}; the version that was not healthy is not tried again without --retry-failed",
        place.target.display()
    ));
    if needs_reboot(place, after, changed, Stage::Rollback) {
        output.warning("it takes a reboot until what runs is that version, too");
    }
    output.event(&serde_json::json!({
        "event": "unhealthy",
        "target": place.target.to_string_lossy(),
        "manifest": format!("blake3:{}", pending.manifest),
        "reason": reason,
        "generation": number,
    }));
    Ok(Exit::RolledBack)
}

/// Readers see an earlier version again, and it is not healthy either.
pub(super) fn is_back_but(session: &Session<'_>, reason: &str, surroundings: &Surroundings<'_>) -> Failure {
    let place = session.place();
    let manifest = session.manifest().map_or_else(String::new, |manifest| manifest.to_string());
    let how = How::RollbackFailed(format!("going back to it: {reason}"));
    remembered(Verdict::end(&place.state, &manifest, how), surroundings);
    remembered(super::forget(place), surroundings);
    let number = generation(session).unwrap_or_default();
    let text = format!("{} is back at generation {number}, but {reason}", place.target.display());
    Failure::message(Exit::RollbackFailed, text)
}

/// The number of the version that a target holds.
fn generation(session: &Session<'_>) -> Result<u64, Failure> {
    let kept = session.ready().target().kept()?;
    let current = session.applied.as_ref().and_then(Version::name);
    Ok(kept.iter().find(|kept| Some(kept.name()) == current).map_or(0, |kept| kept.number))
}

fn previous(session: &Session<'_>, pending: &Pending) -> Result<Option<Kept>, Failure> {
    let previous = pending.previous.as_deref().and_then(|name| VersionName::parse(name.as_bytes()));
    let kept = session.ready().target().kept()?;
    Ok(kept.into_iter().find(|kept| Some(kept.name()) == previous.as_ref()))
}

/// The target has nothing to go back to.
pub(super) fn stays(
    place: &Place,
    pending: &Pending,
    reason: &str,
    surroundings: &Surroundings<'_>,
) -> Failure {
    let how = How::RollbackFailed(reason.to_owned());
    remembered(Verdict::end(&place.state, &pending.manifest, how), surroundings);
    if let Err(failure) = super::forget(place) {
        return failure;
    }
    let text = format!(
        "{} stays at a version that is not healthy: there is none to go back to: {reason}",
        place.target.display()
    );
    let failure = Failure::message(Exit::RollbackFailed, text);
    match place.kind {
        Kind::Directory => {
            failure.hint("versions are kept by targets of the kinds generations, btrfs, zfs and overlay")
        }
        _ => failure.hint("repair what is named here, and run this again with --retry-failed"),
    }
}

/// What cannot be noted is said.
pub(crate) fn remembered(noted: Result<(), Failure>, surroundings: &Surroundings<'_>) {
    if let Err(failure) = noted {
        let reason = failure.in_one_line();
        surroundings.output.warning(&format!("how this ends will not be remembered: {reason}"));
    }
}
