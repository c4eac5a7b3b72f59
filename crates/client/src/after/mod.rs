//! What happens on a host after a new tree is in its place: commands of the host's configuration, and checks that say
//! whether all is well. Where it is not, the target goes back to the version before.
//!
//! Commands and checks stand in the configuration of the host. A channel cannot name any; a profile can, where that
//! configuration lets it.
//!
//! A version is noted before readers are switched to it, and the way back is armed then. The note goes when the version
//! is confirmed, which may be long after the run: by somebody, or when the machine was started again. Whoever finds the
//! note meanwhile asks `fate` what to do.

pub(crate) mod ballast;
mod begun;
pub mod check;
pub(crate) mod chosen;
pub mod confirm;
pub mod confirmation;
mod connection;
pub(crate) mod fate;
pub(crate) mod moment;
pub(crate) mod pending;
pub mod process;
mod rebuild;
pub(crate) mod restore;
mod server;
pub(crate) mod subject;
pub(crate) mod trial;
pub mod trigger;
pub(crate) mod undo;
pub(crate) mod verdict;
pub(crate) mod waiting;
pub mod way_back;
pub(crate) mod work;

pub(crate) use self::rebuild::rebuild;

use std::path::Path;

use smart_sync_store::id::ManifestId;
use smart_sync_sync::apply::Version;

use self::fate::{Fate, Hands, Holds, fate};
use self::moment::Moment;
use self::pending::{Failed, Pending, Phase, Run};
use self::subject::Subject;
use self::trial::{Proof, Trial};
use self::trigger::{After, Changed, Purpose};
use self::undo::undo;
use self::way_back::{Due, WayBack, disarm};
use crate::failure::{Exit, Failure};
use crate::profile;
use crate::settings::{SyncMode, SyncSettings};
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::{Session, seconds_now};

/// What would happen after an update that changes these paths, line by line.
pub(crate) fn foreseen(
    place: &Place,
    after: &After,
    manifest: ManifestId,
    changed: &[Box<[u8]>],
) -> Vec<String> {
    after.foreseen(changed, &work::scene(place, Some(manifest), Purpose::Showing))
}

/// Notes that readers are about to be switched to a version, and arms the way back to the one before.
pub(crate) fn arm(
    place: &Place,
    version: &Version,
    applied: Option<&Version>,
    after: &After,
    way_back: &WayBack,
) -> Result<(), Failure> {
    let pending = Pending {
        manifest: version.manifest().to_string(),
        previous: applied.and_then(Version::name).map(ToString::to_string),
        since: u64::try_from(seconds_now()).unwrap_or_default(),
        boot: Moment::now()?.boot,
        phase: Phase::Proving,
        run: Run::Update,
        said: after.said.clone(),
    };
    guard(place, &pending, after, way_back)
}

/// Notes what is about to be on trial, and arms the way back from it where there is one.
fn guard(place: &Place, pending: &Pending, after: &After, way_back: &WayBack) -> Result<(), Failure> {
    if !pending.can_go_back(after) {
        forget_earlier(&place.state)?;
        return pending.write(&place.state);
    }
    stand_by(&Subject::target(place), pending, &[&place.state], way_back)
}

/// Notes that readers are about to be switched, sets room aside for going back to where the state of these targets is
/// kept, and arms the way back. Where that cannot be done, nothing is noted.
pub(crate) fn stand_by(
    subject: &Subject<'_>,
    pending: &Pending,
    targets: &[&Path],
    way_back: &WayBack,
) -> Result<(), Failure> {
    targets.iter().try_for_each(|state| forget_earlier(state))?;
    pending.write(subject.state)?;
    let armed = ballast::reserve(subject.state, targets).and_then(|()| way_back.arm(subject, Due::AfterRun));
    armed.map_err(|failure| {
        // Readers were not switched, and the note would say no more than that.
        let _ = settled_at(subject.state);
        failure.context("nothing was changed")
    })
}

/// Forgets what is noted in the state of a target of a trial before: which triggers were begun, and what had changed.
fn forget_earlier(state: &Path) -> Result<(), Failure> {
    begun::none(state)?;
    Pending::forget_changed(state)
}

/// Runs the commands for what changed, and looks whether all is well. Goes back to the version before where it is not.
pub(crate) fn complete(
    session: Session<'_>,
    after: &After,
    changed: Changed<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    if after.is_empty() {
        return Ok(Exit::Success);
    }
    let session = session.reopened()?;
    let Some(pending) = Pending::read(&session.place().state)? else { return Ok(Exit::Success) };
    let proof = Trial { session: &session, after, changed, pending: &pending, surroundings }.of_update()?;
    ended(proof, session, after, changed, &pending, surroundings).map(|(_, exit)| exit)
}

/// Draws the consequence of a trial. Returns the session where the version is confirmed.
fn ended<'a>(
    proof: Proof,
    session: Session<'a>,
    after: &After,
    changed: Changed<'_>,
    pending: &Pending,
    surroundings: &Surroundings<'_>,
) -> Result<(Option<Session<'a>>, Exit), Failure> {
    Ok(match proof {
        Proof::Confirmed => (Some(session), Exit::Success),
        Proof::Waits => (None, Exit::Success),
        Proof::AwaitsReboot => (None, Exit::RebootPending),
        Proof::Fails(reason) => (None, undo(session, after, changed, pending, &reason, surroundings)?),
    })
}

/// Runs all commands and checks for the version that a target holds already, if that was not healthy and it is said to
/// try it again.
pub(crate) fn retry(
    session: Session<'_>,
    settings: &SyncSettings,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let (place, after) = (session.place(), &settings.policy.after);
    let Some(applied) = session.applied.clone().filter(|_| settings.retries_failed) else {
        return Ok(Exit::Success);
    };
    if Failed::find(&place.state, applied.manifest())?.is_none() {
        return Ok(Exit::Success);
    }
    if after.is_empty() {
        Failed::forget(&place.state, &applied.manifest().to_string())?;
        return Ok(Exit::Success);
    }
    arm(place, &applied, None, after, &WayBack::of(surroundings))?;
    complete(session, after, Changed::Unknown, surroundings)
}

/// What became of a version that was not confirmed.
pub(crate) enum Settled<'a> {
    /// There was none.
    Nothing(Box<Session<'a>>),
    /// It is confirmed now.
    Confirmed(Box<Session<'a>>),
    /// The target was taken back.
    Undone(Exit),
    /// It waits for somebody, or for the machine to be started again.
    Waits(Exit),
}

/// A version that is not confirmed, and what is to be done about it.
fn standing(session: &Session<'_>) -> Result<Option<(Pending, Fate)>, Failure> {
    let Some(pending) = Pending::read(&session.place().state)? else { return Ok(None) };
    let holds_it = session.manifest().is_some_and(|manifest| manifest.to_string() == pending.manifest);
    let holds = if holds_it { Holds::It } else { Holds::Another };
    // The session has the lock: nobody else is at work.
    let fate = fate(&pending, holds, Hands::None, &Moment::now()?);
    Ok(Some((pending, fate)))
}

/// Settles a version that is not confirmed: takes the target back, or leaves it where it may still be confirmed.
pub(crate) fn settle<'a>(
    session: Session<'a>,
    after: &After,
    surroundings: &Surroundings<'_>,
) -> Result<Settled<'a>, Failure> {
    let place = session.place();
    let Some((pending, fate)) = standing(&session)? else {
        // A run that was killed when all was said and done has left them.
        ballast::release(&place.state);
        disarm(&place.state);
        return Ok(Settled::Nothing(Box::new(session)));
    };
    let after = &pending.of_run(after);
    match fate {
        Fate::Forget => {
            forget(place)?;
            Ok(Settled::Nothing(Box::new(session)))
        }
        Fate::Leave | Fate::Wait(_) => {
            if let Phase::Waiting(window) = &pending.phase {
                waiting::still_waits(&Subject::target(place).noted(&pending), window, surroundings)?;
            }
            Ok(Settled::Waits(Exit::Success))
        }
        Fate::AwaitReboot => {
            waiting::tell_awaits_reboot(&Subject::target(place).noted(&pending), surroundings.output);
            Ok(Settled::Waits(Exit::RebootPending))
        }
        Fate::GoBack(reason) => {
            let paths = Pending::changed(&place.state)?;
            let changed = paths.as_deref().map_or(Changed::Unknown, Changed::Paths);
            undo(session, after, changed, &pending, &reason, surroundings).map(Settled::Undone)
        }
        Fate::Finish(back) => {
            undo::finish_again(&session, after, &pending, back, surroundings).map(Settled::Undone)
        }
        Fate::Prove => after_reboot(session, after, pending, surroundings),
    }
}

/// Nothing is to be confirmed any more.
pub(crate) fn forget(place: &Place) -> Result<(), Failure> {
    settled_at(&place.state)
}

/// Nothing of what is noted in this state is on trial any more.
pub(crate) fn settled_at(state: &Path) -> Result<(), Failure> {
    Pending::remove(state)?;
    ballast::release(state);
    disarm(state);
    Ok(())
}

/// Looks whether all is well with a version that had to wait until the machine was started again.
fn after_reboot<'a>(
    session: Session<'a>,
    after: &After,
    pending: Pending,
    surroundings: &Surroundings<'_>,
) -> Result<Settled<'a>, Failure> {
    let place = session.place();
    // The note comes last: a version of which it says that a run is at it goes back when that cannot go on.
    if pending.can_go_back(after) {
        WayBack::of(surroundings).arm(&Subject::target(place), Due::AfterRun)?;
    }
    let pending = pending.in_phase(Phase::Proving, &Moment::now()?);
    pending.write(&place.state)?;
    let paths = Pending::changed(&place.state)?;
    let changed = paths.as_deref().map_or(Changed::Unknown, Changed::Paths);
    let proof =
        Trial { session: &session, after, changed, pending: &pending, surroundings }.after_reboot()?;
    Ok(match ended(proof, session, after, changed, &pending, surroundings)? {
        (Some(session), _) => {
            surroundings.output.info(&format!("{} is confirmed after the reboot", place.target.display()));
            Settled::Confirmed(Box::new(session))
        }
        (None, Exit::Success) => Settled::Waits(Exit::Success),
        (None, exit) => Settled::Undone(exit),
    })
}

/// Settles it for a sync; one that only looks changes nothing.
pub(crate) fn settled<'a>(
    session: Session<'a>,
    settings: &SyncSettings,
    surroundings: &Surroundings<'_>,
) -> Result<Settled<'a>, Failure> {
    match settings.mode {
        SyncMode::Apply => {
            // A set may have begun before the target was taken.
            if let Some(exit) = profile::between::waits(session.place(), surroundings.output)? {
                return Ok(Settled::Waits(exit));
            }
            settle(session, &settings.policy.after, surroundings)
        }
        SyncMode::DryRun | SyncMode::CheckOnly => Ok(Settled::Nothing(Box::new(session))),
    }
}

/// Whether a version is not tried, because it was not healthy when it was.
pub(crate) fn refuses(
    place: &Place,
    manifest: ManifestId,
    settings: &SyncSettings,
    surroundings: &Surroundings<'_>,
) -> Result<bool, Failure> {
    if settings.mode != SyncMode::Apply || settings.retries_failed {
        return Ok(false);
    }
    let Some(failed) = Failed::find(&place.state, manifest)? else { return Ok(false) };
    surroundings.output.warning(&format!(
        "{}: this version was not healthy when it was tried ({}); --retry-failed tries it again",
        place.target.display(),
        failed.reason
    ));
    Ok(true)
}
