//! Going to a version that somebody has chosen: what runs for it.
//!
//! It stays whatever comes of that. What is to run is noted before readers are switched, and something stands by to bring it
//! to its end: it may be what cuts off whoever typed the command.

use smart_sync_store::id::ManifestId;

use super::moment::Moment;
use super::pending::{By, Pending, Phase, Return, Run};
use super::subject::Subject;
use super::trigger::{After, Changed, Purpose, Stage};
use super::undo::{is_back_but, remembered};
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

/// What to do where a command fails, or does not come to its end.
pub(super) const RUN_AGAIN: &str =
    "repair what is named here, and run `smart-sync rebuild`; the target stays at this version";
/// What becomes of a version on trial that somebody was about to leave.
const NOT_LEFT: &str = "it was not confirmed, and the run of somebody who was about to leave it ended early";

/// A target that somebody is about to take to another version.
pub(crate) struct Leaving {
    /// What was noted before.
    before: Option<Pending>,
}

impl Leaving {
    /// Notes it, before readers are switched: whoever finds them switched then does what is left to be done, if this run
    /// does not. A version on trial that is not left after all goes back.
    pub(crate) fn note(
        session: &Session<'_>,
        after: &After,
        changed: Changed<'_>,
        surroundings: &Surroundings<'_>,
    ) -> Self {
        let place = session.place();
        // One that cannot be read keeps nobody from going away from it.
        let before = Pending::read(&place.state).unwrap_or_default();
        let Some(left) = session.manifest().map(|left| left.to_string()) else { return Self { before } };
        let is_of_it = |pending: &Pending| pending.manifest == left;
        if before.as_ref().is_some_and(|back| !is_of_it(back) && matches!(back.phase, Phase::Returning(_))) {
            // It was taken to this version, and what runs for that is not at its end: that holds until it is left.
            return Self { before };
        }
        let on_trial = before.clone().filter(is_of_it);
        let stands_by = on_trial.is_some() || !after.chosen(changed, Stage::Chosen).is_empty();
        let reason = match on_trial.as_ref().map(|pending| &pending.phase) {
            None => "",
            Some(Phase::Returning(back)) => back.reason.as_str(),
            Some(_) => NOT_LEFT,
        };
        let back = Return { reason: reason.to_owned(), attempts: 0, by: By::Somebody };
        // The paths in which the two versions differ are another list than that of a trial: until readers are switched,
        // none is noted, and everything runs.
        let noted = Pending::forget_changed(&place.state)
            .and_then(|()| on_trial.map_or_else(|| unnoted(left, after), Ok))
            .and_then(|pending| pending.in_phase(Phase::Returning(back), &Moment::now()?).write(&place.state))
            .and_then(|()| if stands_by { stand_by(place, surroundings) } else { Ok(()) });
        may_be_lost(noted, surroundings);
        Self { before }
    }

    /// The target stays where it is: what was noted before holds again.
    pub(crate) fn stays_after_all(self, place: &Place, surroundings: &Surroundings<'_>) {
        let noted = self.before.map_or_else(|| super::forget(place), |before| before.write(&place.state));
        remembered(noted, surroundings);
    }
}

/// Somebody has decided for the version that a target holds: it is not asked any more whether it would have been confirmed.
/// Returns whether it was.
pub(crate) fn decide_for(session: &Session<'_>) -> Result<bool, Failure> {
    let place = session.place();
    let held = session.manifest().map(|manifest| manifest.to_string());
    let pending = Pending::read(&place.state).unwrap_or_default();
    let is_on_trial = pending.is_some_and(|pending| Some(pending.manifest) == held);
    if is_on_trial {
        super::forget(place)?;
    }
    Ok(is_on_trial)
}

/// What is noted of a version that is left, where nothing was.
fn unnoted(left: String, after: &After) -> Result<Pending, Failure> {
    Ok(Pending {
        manifest: left,
        previous: None,
        since: u64::try_from(seconds_now()).unwrap_or_default(),
        boot: Moment::now()?.boot,
        phase: Phase::Proving,
        run: Run::Update,
        said: after.said.clone(),
    })
}

fn stand_by(place: &Place, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    WayBack::of(surroundings).arm(&Subject::target(place), Due::AfterRun)
}

fn may_be_lost(noted: Result<(), Failure>, surroundings: &Surroundings<'_>) {
    if let Err(failure) = noted {
        let reason = failure.in_one_line();
        surroundings.output.warning(&format!(
            "what runs for that is not brought to its end if this run is killed: {reason}"
        ));
    }
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
    let phase = Phase::Returning(Return { reason: String::new(), attempts: 1, by: By::Somebody });
    let pending = Pending { phase, ..unnoted(manifest, after)? };
    let noted = Pending::keep_changed(&place.state, changed)
        .and_then(|()| pending.write(&place.state))
        .and_then(|()| stand_by(place, surroundings));
    may_be_lost(noted, surroundings);
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
        return Err(is_back_but(session, &reason, surroundings).hint(RUN_AGAIN));
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
