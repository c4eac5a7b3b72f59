//! What happens on a host after a new tree is in its place: commands of the host's configuration, and checks that say
//! whether all is well. Where it is not, the target goes back to the version before.
//!
//! Commands and checks stand in the configuration of the host. A channel cannot name any.

pub mod check;
pub(crate) mod pending;
pub mod process;
pub mod trigger;
mod work;

use smart_sync_store::id::ManifestId;
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::versions::{Kind, VersionName};

use self::pending::{Failed, Pending};
use self::trigger::{After, Changed, Stage};
use self::work::Work;
use crate::failure::{Exit, Failure};
use crate::settings::{SyncMode, SyncSettings};
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::sync::session::{Session, seconds_now};
use crate::versions::rollback::go_back;

/// Notes that readers are about to be switched to a version.
pub(crate) fn arm(place: &Place, version: &Version, applied: Option<&Version>) -> Result<(), Failure> {
    let previous = applied.and_then(Version::name).map(ToString::to_string);
    let since = u64::try_from(seconds_now()).unwrap_or_default();
    Pending { manifest: version.manifest().to_string(), previous, since }.write(&place.state)
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
    let place = session.place();
    let Some(pending) = Pending::read(&place.state)? else { return Ok(Exit::Success) };
    match proven(&session, after, changed, surroundings)? {
        Ok(()) => {
            Failed::forget(&place.state, &pending.manifest)?;
            Pending::remove(&place.state)?;
            if !after.check.is_empty() {
                surroundings.output.info(&format!("{} is healthy", place.target.display()));
            }
            Ok(Exit::Success)
        }
        Err(reason) => undo(session, after, changed, &pending, &reason, surroundings),
    }
}

/// Runs what an update needs, looks whether all is well, and runs what waits for that. Returns why it is not.
fn proven(
    session: &Session<'_>,
    after: &After,
    changed: Changed<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<Result<(), String>, Failure> {
    let work = Work::new(session, changed, Stage::Update, surroundings)?;
    if let Err(reason) = work.run(after).and_then(|()| work.check(after)) {
        return Ok(Err(reason));
    }
    Ok(Work::new(session, changed, Stage::Confirmed, surroundings)?.run(after))
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
    arm(place, &applied, None)?;
    complete(session, after, Changed::Unknown, surroundings)
}

/// What became of a version that was not confirmed.
pub(crate) enum Settled<'a> {
    /// There was none.
    Nothing(Box<Session<'a>>),
    /// The target was taken back.
    Undone(Exit),
}

/// Takes a target back whose version was never confirmed. The caller has found it with nobody at work on it.
pub(crate) fn settle<'a>(
    session: Session<'a>,
    after: &After,
    surroundings: &Surroundings<'_>,
) -> Result<Settled<'a>, Failure> {
    let place = session.place();
    let Some(pending) = Pending::read(&place.state)? else { return Ok(Settled::Nothing(Box::new(session))) };
    if session.manifest().map(|manifest| manifest.to_string()).as_ref() != Some(&pending.manifest) {
        // It was interrupted before readers were switched.
        Pending::remove(&place.state)?;
        return Ok(Settled::Nothing(Box::new(session)));
    }
    let reason = "the run that applied it ended before it was confirmed";
    undo(session, after, Changed::Unknown, &pending, reason, surroundings).map(Settled::Undone)
}

fn undo(
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
        // It says nothing about the version; the next run, or `recover`, decides.
        return Err(crate::interrupt::interrupted());
    }
    output.warning(&format!("{} is not healthy: {reason}", place.target.display()));
    let since = u64::try_from(seconds_now()).unwrap_or_default();
    Failed { manifest: pending.manifest.clone(), reason: reason.to_owned(), since }.note(&place.state)?;
    let previous = pending.previous.as_deref().and_then(|name| VersionName::parse(name.as_bytes()));
    let kept = session.ready().target().kept()?;
    let Some(previous) = kept.into_iter().find(|kept| Some(kept.name()) == previous.as_ref()) else {
        Pending::remove(&place.state)?;
        let text = format!(
            "{} stays at a version that is not healthy: there is none to go back to: {reason}",
            place.target.display()
        );
        let failure = Failure::message(Exit::RollbackFailed, text);
        return Err(match place.kind {
            Kind::Directory => {
                failure.hint("versions are kept by targets of the kinds generations and btrfs")
            }
            _ => failure.hint("repair what is named here, and run this again with --retry-failed"),
        });
    };
    let number = go_back(&session, &previous, surroundings).map_err(|failure| {
        failure.context(format!("going back from a version that is not healthy ({reason})"))
    })?;
    Pending::remove(&place.state)?;
    let session = session.reopened()?;
    let work = Work::new(&session, changed, Stage::Rollback, surroundings)?;
    work.run(after).map_err(|reason| {
        let text = format!("{} is back at generation {number}, but {reason}", place.target.display());
        Failure::message(Exit::RollbackFailed, text)
    })?;
    output.warning(&format!(
        "{} is back at generation {number}; the version that was not healthy is not tried again without --retry-failed",
        place.target.display()
    ));
    output.event(&serde_json::json!({
        "event": "unhealthy",
        "target": place.target.to_string_lossy(),
        "manifest": format!("blake3:{}", pending.manifest),
        "reason": reason,
        "generation": number,
    }));
    Ok(Exit::RolledBack)
}

/// The same for a sync; one that only looks changes nothing.
pub(crate) fn settled<'a>(
    session: Session<'a>,
    settings: &SyncSettings,
    surroundings: &Surroundings<'_>,
) -> Result<Settled<'a>, Failure> {
    match settings.mode {
        SyncMode::Apply => settle(session, &settings.policy.after, surroundings),
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
