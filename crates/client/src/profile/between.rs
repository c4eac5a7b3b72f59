//! A target of a set that is not committed, seen by whoever is about that target alone.
//!
//! Such a target may be somewhere where its set will not leave it. So it is neither synced nor taken back nor confirmed
//! by itself: all targets of the set are one thing until that is decided.

use std::path::{Path, PathBuf};

use super::journal::{Journal, State};
use super::store::{all, read_journal};
use crate::after::fate::{Fate, Hands, Holds, fate};
use crate::after::moment::Moment;
use crate::after::pending::{By, Pending, Phase};
use crate::after::subject::Subject;
use crate::after::verdict::Health;
use crate::after::waiting::{tell_awaits_reboot, tell_waits};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::sync::place::Place;

/// What is noted of the trial of a set. Of one that goes back, what it has waited for before means nothing any more.
pub(super) fn noted(journal: &Journal, directory: &Path) -> Result<Option<Pending>, Failure> {
    let is_of = |pending: &Pending| match &pending.phase {
        Phase::Returning(back) => back.by == By::Itself,
        _ => journal.state == State::Proving,
    };
    Ok(Pending::read(directory)?.filter(is_of))
}

/// A set that is not committed.
pub(crate) struct OnTrial {
    profile: String,
    directory: PathBuf,
    /// What is noted of its trial; nothing of one that goes back because somebody has said so.
    pub(crate) pending: Option<Pending>,
}

impl OnTrial {
    /// The one that a target is part of.
    pub(crate) fn of(place: &Place) -> Result<Option<Self>, Failure> {
        for directory in all(&place.profiles)? {
            let Some(journal) = read_journal(&directory)? else { continue };
            if journal.is_between(&place.target) {
                let pending = noted(&journal, &directory)?;
                return Ok(Some(Self { profile: journal.set.profile, directory, pending }));
            }
        }
        Ok(None)
    }

    /// All of it, as one.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject::set(&self.profile, &self.directory)
    }

    /// The state that this gives its targets.
    pub(crate) fn health(&self) -> Result<Health, Failure> {
        self.pending.clone().map_or(Ok(Health::Unconfirmed), Health::on_trial)
    }

    fn refusal(&self, place: &Place) -> Failure {
        let (target, profile) = (place.target.display(), &self.profile);
        Failure::message(
            Exit::General,
            format!(
                "{target} is a target of {profile}, which is being pulled, or was until that was interrupted"
            ),
        )
        .hint("`smart-sync recover` settles what was interrupted")
    }
}

/// Says that a target waits with its set, and how a run ends that leaves it alone for that. A target that its set has
/// left somewhere where it will not stay is refused.
pub(crate) fn waits(place: &Place, output: &Output) -> Result<Option<Exit>, Failure> {
    let Some(set) = OnTrial::of(place)? else { return Ok(None) };
    let now = Moment::now()?;
    // What the targets hold and who works on them is found out by whoever settles the set.
    let found = set.pending.as_ref().map(|pending| fate(pending, Holds::It, Hands::None, &now));
    match found {
        Some(Fate::Wait(until)) => {
            tell_waits(&set.subject(), until.saturating_sub(now.since_boot), output);
            Ok(Some(Exit::Success))
        }
        Some(Fate::AwaitReboot) => {
            tell_awaits_reboot(&set.subject(), output);
            Ok(Some(Exit::RebootPending))
        }
        _ => Err(set.refusal(place)),
    }
}

/// Refuses to take back or to confirm a target alone whose set is not committed.
pub(crate) fn check_alone(place: &Place) -> Result<(), Failure> {
    let Some(set) = OnTrial::of(place)? else { return Ok(()) };
    let (target, profile) = (place.target.display(), &set.profile);
    let (what, hint) = match set.pending.as_ref().map(|pending| &pending.phase) {
        Some(Phase::Waiting(_)) => {
            let confirms = format!("`smart-sync confirm --profile {profile}` confirms all of them");
            ("waits to be confirmed", confirms)
        }
        Some(Phase::Rebooting) => {
            ("waits for a reboot", "start the machine again: all of them are looked at then".to_owned())
        }
        _ => return Err(set.refusal(place)),
    };
    let text = format!("{target} is a target of {profile}, which {what} with all its targets together");
    Err(Failure::message(Exit::Arguments, text)
        .hint(format!("{hint}; `smart-sync rollback --profile {profile}` takes all of them back")))
}

/// Those of some targets that are not part of a set that is not committed.
pub fn alone<T>(targets: Vec<(PathBuf, T)>, state_dir: &Path) -> Result<Vec<(PathBuf, T)>, Failure> {
    let mut alone = Vec::new();
    for (target, of_target) in targets {
        let set = Place::known(&target, state_dir).map(|place| OnTrial::of(&place)).transpose()?;
        if set.flatten().is_none() {
            alone.push((target, of_target));
        }
    }
    Ok(alone)
}
