//! Going back from a version that is not healthy, or that nobody has confirmed.
//!
//! Getting readers back comes before remembering why: where the state cannot be written, because a command has filled
//! the disk, the target goes back all the same.

use smart_sync_sync::apply::versions::{Kept, Kind, VersionName};

use super::ballast;
use super::pending::{Failed, Pending};
use super::trigger::{After, Changed, Stage, Trigger};
use super::verdict::{How, Verdict};
use super::work::Work;
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::{Session, seconds_now};
use crate::versions::rollback::go_back;

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
    let since = u64::try_from(seconds_now()).unwrap_or_default();
    let failed = Failed { manifest: pending.manifest.clone(), reason: reason.to_owned(), since };
    remembered(failed.note(&place.state), surroundings);
    let session = session.unguarded();
    let Some(previous) = previous(&session, pending)? else {
        return Err(stays(place, pending, reason, surroundings));
    };
    let number = go_back(&session, &previous, surroundings).map_err(|failure| {
        let failure = failure.context(format!("going back from a version that is not healthy ({reason})"));
        if failure.exit() == Exit::Interrupted { failure } else { failure.with_exit(Exit::RollbackFailed) }
    })?;
    super::forget(place)?;
    let manifest = previous.version.manifest().to_string();
    let session = session.reopened()?;
    let work = Work::new(&session, changed, Stage::Rollback, surroundings)?;
    if let Err(reason) = work.run(after) {
        let text = format!("{} is back at generation {number}, but {reason}", place.target.display());
        let how = How::RollbackFailed(format!("the commands for going back to it: {reason}"));
        remembered(Verdict::end(&place.state, &manifest, how), surroundings);
        return Err(Failure::message(Exit::RollbackFailed, text));
    }
    remembered(Verdict::end(&place.state, &manifest, How::RolledBack(reason.to_owned())), surroundings);
    output.warning(&format!(
        "{} is back at generation {number}; the version that was not healthy is not tried again without --retry-failed",
        place.target.display()
    ));
    if after.chosen(changed, Stage::Rollback).into_iter().any(Trigger::needs_reboot) {
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

fn previous(session: &Session<'_>, pending: &Pending) -> Result<Option<Kept>, Failure> {
    let previous = pending.previous.as_deref().and_then(|name| VersionName::parse(name.as_bytes()));
    let kept = session.ready().target().kept()?;
    Ok(kept.into_iter().find(|kept| Some(kept.name()) == previous.as_ref()))
}

/// The target has nothing to go back to.
fn stays(place: &Place, pending: &Pending, reason: &str, surroundings: &Surroundings<'_>) -> Failure {
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
        Kind::Directory => failure.hint("versions are kept by targets of the kinds generations and btrfs"),
        _ => failure.hint("repair what is named here, and run this again with --retry-failed"),
    }
}

/// What cannot be noted is said.
fn remembered(noted: Result<(), Failure>, surroundings: &Surroundings<'_>) {
    if let Err(failure) = noted {
        let reason = failure.messages().collect::<Vec<_>>().join(": ");
        surroundings.output.warning(&format!("how this ends will not be remembered: {reason}"));
    }
}
