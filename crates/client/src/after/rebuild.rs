//! Running everything for a tree that is in its place already.
//!
//! The tree stays where it is whatever comes of it, so nothing is noted as pending or failed. What a trigger has done and
//! knows how to take back is taken back where something fails.

use super::trigger::{After, Changed, Purpose, Stage};
use super::work::Work;
use crate::failure::{Exit, Failure};
use crate::sync::Surroundings;
use crate::sync::session::Session;

/// Runs all triggers, looks whether all is well, and runs what waits for that.
pub(crate) fn rebuild(
    session: &Session<'_>,
    after: &After,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let target = session.place().target.display();
    let output = surroundings.output;
    let Err(reason) = proven(session, after, surroundings)? else {
        if !after.check.is_empty() {
            output.info(&format!("{target} is healthy"));
        }
        let scene = super::work::scene(session.place(), session.manifest(), Purpose::Doing);
        if after.needs_reboot(Changed::Unknown, &scene) {
            output.info("what is new runs after a reboot");
            return Ok(Exit::RebootPending);
        }
        return Ok(Exit::Success);
    };
    if surroundings.interrupt.is_requested() {
        return Err(crate::interrupt::interrupted());
    }
    if !after.run.iter().any(super::trigger::Trigger::takes_back) {
        return Err(Failure::message(Exit::General, format!("rebuilding {target}: {reason}")));
    }
    output.warning(&format!("{target} is not healthy after it was rebuilt: {reason}"));
    let work = Work::new(session, Changed::Unknown, Stage::Rollback, surroundings)?;
    for trigger in after.run.iter().filter(|trigger| trigger.takes_back()) {
        work.pull(trigger).map_err(|second| {
            Failure::message(Exit::RollbackFailed, format!("{target} was not healthy, and {second}"))
                .context(format!("going back from what was rebuilt ({reason})"))
        })?;
    }
    output.warning("the system before is in its place again; the tree was not changed");
    Ok(Exit::RolledBack)
}

/// Runs what an update needs, looks whether all is well, and runs what waits for that. Returns why it is not.
fn proven(
    session: &Session<'_>,
    after: &After,
    surroundings: &Surroundings<'_>,
) -> Result<Result<(), String>, Failure> {
    let work = Work::new(session, Changed::Unknown, Stage::Update, surroundings)?;
    if let Err(reason) = work.run(after).and_then(|()| work.check(after)) {
        return Ok(Err(reason));
    }
    Ok(Work::new(session, Changed::Unknown, Stage::Confirmed, surroundings)?.run(after))
}
