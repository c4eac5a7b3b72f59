//! Taking back what triggers have done, where the tree that they did it for stays in its place: after a `rebuild`, and on
//! a target that has no version before.
//!
//! A NixOS system and a kernel know themselves what was there before them. Where everything that ran is of that sort, the
//! machine is what it was, and that is a target that was taken back; where anything else ran, it is one that could not be.

use super::begun;
use super::moment::Moment;
use super::pending::{By, Pending, Phase, Return, Run};
use super::trigger::{After, Changed, Purpose, Stage, Trigger, Undoing, When};
use super::undo::{ATTEMPTS_MAX, remembered, stays};
use super::verdict::{How, Verdict};
use super::work::{Work, scene};
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::sync::Surroundings;
use crate::sync::session::Session;

/// Takes back what triggers know how to take back.
pub(super) fn restore(
    session: &Session<'_>,
    after: &After,
    changed: Changed<'_>,
    pending: &Pending,
    reason: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let (place, output) = (session.place(), surroundings.output);
    let needs_reboot = match begin(session, after, changed, pending, reason, surroundings)? {
        Restored::All { needs_reboot } => needs_reboot,
        Restored::Nothing => return Err(stays(place, pending, reason, surroundings)),
        Restored::Partly(failed) => {
            return Err(failed_too(session, pending, reason, &failed, surroundings));
        }
    };
    if pending.run == Run::Update {
        let how = How::TakenBack(reason.to_owned());
        remembered(Verdict::end(&place.state, &pending.manifest, how), surroundings);
    }
    super::forget(place)?;
    output.warning(&format!(
        "what ran before is in its place again; the tree in {} stays",
        place.target.display()
    ));
    if needs_reboot {
        output.warning("it takes a reboot until that is what runs");
    }
    output.event(&serde_json::json!({
        "event": "unhealthy",
        "target": place.target.to_string_lossy(),
        "manifest": format!("blake3:{}", pending.manifest),
        "reason": reason,
        "generation": null,
    }));
    Ok(Exit::RolledBack)
}

/// What has become of what triggers did for a tree that stays.
pub(crate) enum Restored {
    /// None of them knows how to take it back.
    Nothing,
    /// What ran before is in its place again, or will be when the machine was started again.
    All { needs_reboot: bool },
    /// Not all of it was taken back, for this reason.
    Partly(String),
}

/// Takes back what triggers have done, as far as they know how.
pub(crate) fn restored(
    session: &Session<'_>,
    after: &After,
    changed: Changed<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<Restored, Failure> {
    let ran = ran(session, after, changed);
    if !ran.iter().any(|trigger| trigger.takes_back()) {
        say_what_stays(session, after, changed, surroundings)?;
        return Ok(Restored::Nothing);
    }
    let work = Work::new(session, changed, Stage::Undone, surroundings)?;
    if let Err(failed) = ran.iter().try_for_each(|trigger| work.pull(trigger)) {
        return Ok(Restored::Partly(failed));
    }
    let left = named(&ran, Undoing::Nothing);
    if !left.is_empty() {
        return Ok(Restored::Partly(format!("what {} did cannot be taken back", left.join(" and "))));
    }
    let scene = scene(session.place(), session.manifest(), Purpose::Doing);
    Ok(Restored::All { needs_reboot: ran.iter().any(|trigger| trigger.outlives_undoing(&scene)) })
}

/// Lets triggers say what they know of going back that cannot do it themselves. That fails nothing.
pub(super) fn say_what_stays(
    session: &Session<'_>,
    after: &After,
    changed: Changed<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let work = Work::new(session, changed, Stage::Undone, surroundings)?;
    let chosen = after.chosen(changed, Stage::Undone);
    for trigger in chosen.into_iter().filter(|trigger| trigger.undoing() == Undoing::Nothing) {
        let _ = work.pull(trigger);
    }
    Ok(())
}

/// What may have run until now. What takes itself back knows itself whether there is something to be taken back.
fn ran<'t>(session: &Session<'_>, after: &'t After, changed: Changed<'_>) -> Vec<&'t Trigger> {
    // Before the confirmation all of it has run that an update needs, and then what waits for that.
    let chosen = after.chosen(changed, Stage::Update).into_iter();
    let waiting = after.run.iter().filter(|trigger| trigger.when == When::Confirmed);
    let all =
        chosen.chain(waiting.filter(|trigger| after.chosen(changed, Stage::Confirmed).contains(trigger)));
    all.filter(|trigger| trigger.takes_back() || begun::may_be(&session.place().state, trigger)).collect()
}

fn named(ran: &[&Trigger], undoing: Undoing) -> Vec<String> {
    ran.iter().filter(|trigger| trigger.undoing() == undoing).map(|trigger| trigger.title()).collect()
}

/// Does that, unless it was begun too often: it may be what kills each run.
fn begin(
    session: &Session<'_>,
    after: &After,
    changed: Changed<'_>,
    pending: &Pending,
    reason: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Restored, Failure> {
    let attempts = if let Phase::Returning(back) = &pending.phase { back.attempts } else { 0 };
    if attempts >= ATTEMPTS_MAX {
        let failed = format!("going back was begun {ATTEMPTS_MAX} times, and never came to its end");
        return Ok(Restored::Partly(failed));
    }
    let back = Return { reason: reason.to_owned(), attempts: attempts + 1, by: By::Itself };
    let noted = Moment::now()
        .and_then(|now| pending.clone().in_phase(Phase::Returning(back), &now).write(&session.place().state));
    remembered(noted, surroundings);
    let restored = restored(session, after, changed, surroundings)?;
    if matches!(restored, Restored::Partly(_)) && surroundings.interrupt.is_requested() {
        return Err(interrupted());
    }
    Ok(restored)
}

/// The machine is not what it was before.
fn failed_too(
    session: &Session<'_>,
    pending: &Pending,
    reason: &str,
    failed: &str,
    surroundings: &Surroundings<'_>,
) -> Failure {
    let place = session.place();
    let how = How::RollbackFailed(format!("{reason}; going back: {failed}"));
    remembered(Verdict::end(&place.state, &pending.manifest, how), surroundings);
    remembered(super::forget(place), surroundings);
    let text = format!("{} was not healthy, and {failed}", place.target.display());
    Failure::message(Exit::RollbackFailed, text)
        .context(format!("going back from what was not healthy ({reason})"))
        .hint("repair what is named here; `smart-sync rebuild` runs all of it again")
}
