//! Running everything for a tree that is in its place already.
//!
//! The tree stays where it is whatever comes of it, so it is not what is found healthy or not. What a trigger can do to the
//! machine is on trial, as in an update: it is noted and the way back is armed before it is done, and where something
//! fails, what the trigger knows how to take back is taken back.

use super::pending::{Pending, Phase, Run};
use super::restore::say_what_stays;
use super::trial::Trial;
use super::trigger::nixos::Override;
use super::trigger::{After, Changed, Purpose, Stage, Undoing};
use super::way_back::WayBack;
use super::work::Work;
use super::{Moment, ended, guard};
use crate::failure::{Exit, Failure};
use crate::sync::Surroundings;
use crate::sync::session::{Session, seconds_now};

/// Runs all triggers, with what somebody says of them, looks whether all is well, and runs what waits for that.
pub(crate) fn rebuild(
    session: Session<'_>,
    configured: &After,
    by: &Override,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let after = configured.with_nixos(by);
    let Some(manifest) = session.manifest().filter(|_| after.takes_back()) else {
        return without_way_back(&session, &after, surroundings);
    };
    let place = session.place();
    let pending = Pending {
        manifest: manifest.to_string(),
        previous: None,
        since: u64::try_from(seconds_now()).unwrap_or_default(),
        boot: Moment::now()?.boot,
        phase: Phase::Proving,
        run: Run::Rebuild,
        said: by.clone(),
    };
    guard(place, &pending, &after, &WayBack::of(surroundings))?;
    let changed = Changed::Unknown;
    let trial = Trial { session: &session, after: &after, changed, pending: &pending, surroundings };
    let proof = trial.of_update()?;
    ended(proof, session, &after, changed, &pending, surroundings).map(|(_, exit)| exit)
}

/// The same where nothing could be taken back.
fn without_way_back(
    session: &Session<'_>,
    after: &After,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let target = session.place().target.display();
    let output = surroundings.output;
    match proven(session, after, surroundings)? {
        Ok(()) => {}
        Err(_) if surroundings.interrupt.is_requested() => return Err(crate::interrupt::interrupted()),
        Err(reason) if after.run.iter().all(|trigger| trigger.undoing() == Undoing::NotNeeded) => {
            return Err(Failure::message(Exit::General, format!("rebuilding {target}: {reason}")));
        }
        Err(reason) => {
            say_what_stays(session, after, Changed::Unknown, surroundings)?;
            let text = format!(
                "{target} is not healthy after it was rebuilt, and nothing that ran knows how to go back: {reason}"
            );
            return Err(Failure::message(Exit::RollbackFailed, text)
                .hint("repair what is named here, and rebuild again; `smart-sync rollback` goes to an earlier version"));
        }
    }
    if !after.check.is_empty() {
        output.info(&format!("{target} is healthy"));
    }
    let scene = super::work::scene(session.place(), session.manifest(), Purpose::Doing);
    if after.needs_reboot(Changed::Unknown, &scene) {
        output.info("what is new runs after a reboot");
        return Ok(Exit::RebootPending);
    }
    Ok(Exit::Success)
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
