//! Bringing a set to its end: committed, or gone back.

use super::journal::{Journal, Next, Reason, State, next};
use super::members::{Members, Places};
use super::settings::AfterPull;
use super::store::{self, PROFILES, Store};
use crate::after::pending::Failed;
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::realm::resolve::now;
use crate::sync::Surroundings;
use crate::versions::hold::Hold;

/// How a set has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is committed, or nothing was to be settled.
    Forward,
    /// It went back.
    Back(Exit),
}

/// Settles the sets of all profiles that were pulled on this host.
pub fn settle_all(surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let mut ended = Exit::Success;
    for directory in store::all(&surroundings.state_dir.join(PROFILES))? {
        let name = directory.display().to_string();
        let exit = match Store::at(directory, &name).and_then(|store| settle(&store, surroundings)) {
            Ok(Ended::Forward) => Exit::Success,
            Ok(Ended::Back(exit)) => exit,
            Err(failure) => {
                surroundings.output.failure(&failure);
                failure.exit()
            }
        };
        if ended == Exit::Success {
            ended = exit;
        }
    }
    Ok(ended)
}

/// Settles a set whose run has ended.
pub(super) fn settle(store: &Store, surroundings: &Surroundings<'_>) -> Result<Ended, Failure> {
    let Some(mut journal) = store.journal()? else { return Ok(Ended::Forward) };
    let is_new = !matches!(journal.state, State::GoingBack(_));
    if is_new && store.sets()?.find(journal.set.number).is_some() {
        // It was committed, and only the journal was left.
        store.remove_journal()?;
        return Ok(Ended::Forward);
    }
    let profile = journal.set.profile.clone();
    let places = Places::find(&journal.set, surroundings)?;
    let members = Members::take(&places, surroundings)?;
    let standings = members.standings(&journal);
    drop(members);
    match next(&journal.state, &standings) {
        Next::Forget => {
            store.remove_journal()?;
            surroundings.output.info(&format!(
                "an earlier pull of {profile} had not changed anything yet; what it fetched is used again"
            ));
            Ok(Ended::Forward)
        }
        Next::Prove => {
            surroundings
                .output
                .info(&format!("an earlier pull of {profile} was interrupted; it is completed now"));
            prove(store, &mut journal, None, AfterPull::All, surroundings)
        }
        Next::GoBack(reason) => go_back(store, journal, None, reason, surroundings),
    }
}

/// Looks whether a set is well whose targets are all switched, and commits it; or takes all of them back. `changed` are
/// the paths that changed in each target, where that is known.
pub(super) fn prove(
    store: &Store,
    journal: &mut Journal,
    changed: Option<Vec<Vec<Box<[u8]>>>>,
    after: AfterPull,
    surroundings: &Surroundings<'_>,
) -> Result<Ended, Failure> {
    let places = Places::find(&journal.set, surroundings)?;
    let mut members = Members::take(&places, surroundings)?;
    members.note_versions(&mut journal.set)?;
    let was_switched = journal.state == State::Switching;
    for (index, changed) in changed.iter().flatten().enumerate() {
        members.note_changed(index, changed.clone());
    }
    if after == AfterPull::Nothing {
        members.skip_after();
    }
    if was_switched && members.has_after() {
        journal.state = State::Proving;
        store.write_journal(journal)?;
        if let Err(reason) = members.prove(surroundings)? {
            drop(members);
            return go_back(store, journal.clone(), changed, Reason::Unhealthy(reason), surroundings);
        }
        surroundings.output.info(&format!("{} is healthy", journal.set.profile));
    }
    drop(members);
    Failed::forget(store.directory(), &journal.set.id().to_string())?;
    commit(store, journal)?;
    Ok(Ended::Forward)
}

fn commit(store: &Store, journal: &Journal) -> Result<(), Failure> {
    let mut sets = store.sets()?;
    if !sets.current().is_some_and(|current| current.is_same(&journal.set)) {
        sets.add(journal.set.clone());
        store.write_sets(&sets)?;
    }
    store.remove_journal()
}

/// Takes all targets of a set back.
pub(super) fn go_back(
    store: &Store,
    mut journal: Journal,
    changed: Option<Vec<Vec<Box<[u8]>>>>,
    reason: Reason,
    surroundings: &Surroundings<'_>,
) -> Result<Ended, Failure> {
    if surroundings.interrupt.is_requested() {
        // It says nothing about the set; the next run, or `recover`, decides.
        return Err(interrupted());
    }
    let output = surroundings.output;
    let profile = journal.set.profile.clone();
    if let Reason::Unhealthy(reason) = &reason {
        output.warning(&format!("{profile} is not healthy: {reason}"));
        let manifest = journal.set.id().to_string();
        Failed { manifest, reason: reason.clone(), since: now().seconds() }.note(store.directory())?;
    }
    journal.state = State::GoingBack(reason.clone());
    store.write_journal(&journal)?;
    let places = Places::find(&journal.set, surroundings)?;
    let mut members = Members::take(&places, surroundings)?;
    for (index, changed) in changed.into_iter().flatten().enumerate() {
        members.note_changed(index, changed);
    }
    let stuck = members
        .go_back(&journal.back, surroundings)
        .map_err(|failure| failure.context(format!("taking the targets of {profile} back")))?;
    match reason {
        Reason::Asked => {
            hold(store, &members, journal.set.number)?;
            let mut sets = store.sets()?;
            sets.current = journal.set.number;
            store.write_sets(&sets)?;
            store.remove_journal()?;
            Ok(Ended::Forward)
        }
        Reason::Unhealthy(reason) => {
            let ran = members.run_for_rollback(surroundings)?;
            store.remove_journal()?;
            tell_unhealthy(store, &journal, &reason, &stuck, ran, surroundings).map(Ended::Back)
        }
    }
}

/// All targets stay where they were taken back to.
fn hold(store: &Store, members: &Members<'_>, number: u64) -> Result<(), Failure> {
    let since = now().seconds();
    for (place, generation) in members.generations()? {
        if let Some(generation) = generation {
            Hold { generation, since }.write(&place.state)?;
        }
    }
    Hold { generation: number, since }.write(store.directory())
}

fn tell_unhealthy(
    store: &Store,
    journal: &Journal,
    reason: &str,
    stuck: &[std::path::PathBuf],
    ran: Result<(), String>,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let (profile, output) = (&journal.set.profile, surroundings.output);
    if !stuck.is_empty() {
        let names: Vec<_> = stuck.iter().map(|target| target.display().to_string()).collect();
        return Err(Failure::message(
            Exit::RollbackFailed,
            format!("{profile} is not healthy ({reason}), and there is nothing to go back to for {}", names.join(", ")),
        )
        .hint("versions are kept by targets of the kinds generations and btrfs, from the second one on; repair what is named here, and run this again with --retry-failed"));
    }
    let current = store.sets()?.current;
    let to = if current == 0 { "what they were".to_owned() } else { format!("set {current}") };
    if let Err(reason) = ran {
        let text = format!("the targets of {profile} are back at {to}, but {reason}");
        return Err(Failure::message(Exit::RollbackFailed, text));
    }
    output.warning(&format!(
        "all targets of {profile} are back at {to}; these versions are not tried together again without --retry-failed"
    ));
    output.event(&serde_json::json!({
        "event": "set-unhealthy",
        "profile": profile,
        "reason": reason,
        "set": current,
    }));
    Ok(Exit::RolledBack)
}
