//! Going to a version that somebody has chosen: what runs for it.
//!
//! Readers see the version already, and it stays whatever comes of this. What runs is noted before it is begun, and something
//! stands by to bring it to its end: it may be what cuts off whoever typed the command.

use smart_sync_store::id::ManifestId;

use super::moment::Moment;
use super::pending::{By, Pending, Phase, Return, Run};
use super::subject::Subject;
use super::trigger::{After, Changed, Purpose, Stage};
use super::undo::is_back_but;
use super::way_back::{Due, WayBack};
use super::work::{Work, scene};
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::{Session, seconds_now};

/// What would run for a version of this manifest, line by line.
pub(crate) fn foreseen(
    place: &Place,
    after: &After,
    changed: Changed<'_>,
    manifest: ManifestId,
) -> Vec<String> {
    after.foreseen_at(Stage::Chosen, changed, "", &scene(place, Some(manifest), Purpose::Showing))
}

/// Runs it for the version that a target holds now, which has left this one for it.
pub(crate) fn run_for_chosen(
    session: &Session<'_>,
    after: &After,
    changed: Changed<'_>,
    left: Option<ManifestId>,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let place = session.place();
    let manifest = match left {
        Some(left) if !after.chosen(changed, Stage::Chosen).is_empty() => left.to_string(),
        _ => {
            // Whether the version that is left would have been confirmed is not asked any more.
            super::forget(place)?;
            return Ok(Exit::Success);
        }
    };
    let now = Moment::now()?;
    let back = Return { reason: String::new(), attempts: 1, by: By::Somebody };
    let since = u64::try_from(seconds_now()).unwrap_or_default();
    let phase = Phase::Returning(back);
    let (run, said) = (Run::Update, after.said.clone());
    let pending = Pending { manifest, previous: None, since, boot: now.boot, phase, run, said };
    let noted = Pending::keep_changed(&place.state, changed)
        .and_then(|()| pending.write(&place.state))
        .and_then(|()| WayBack::of(surroundings).arm(&Subject::target(place), Due::AfterRun));
    if let Err(failure) = noted {
        let reason = failure.messages().collect::<Vec<_>>().join(": ");
        surroundings
            .output
            .warning(&format!("what runs now is not brought to its end if this run is killed: {reason}"));
    }
    finish(session, after, changed, surroundings)
}

/// Runs it to its end.
pub(super) fn finish(
    session: &Session<'_>,
    after: &After,
    changed: Changed<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let place = session.place();
    if let Err(reason) = Work::new(session, changed, Stage::Chosen, surroundings)?.run(after) {
        if surroundings.interrupt.is_requested() {
            return Err(interrupted());
        }
        return Err(is_back_but(session, &reason, surroundings).hint(
            "repair what is named here, and run `smart-sync rebuild`; the target stays at this version",
        ));
    }
    super::forget(place)?;
    let scene = scene(place, session.manifest(), Purpose::Doing);
    let chosen = after.chosen(changed, Stage::Chosen);
    if chosen.into_iter().any(|trigger| trigger.needs_reboot(&scene)) {
        surroundings.output.warning("it takes a reboot until what runs is that version, too");
        return Ok(Exit::RebootPending);
    }
    Ok(Exit::Success)
}
