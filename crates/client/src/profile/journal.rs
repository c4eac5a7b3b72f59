//! The journal of a set: targets that are switched together, and what is to become of them when that was interrupted.
//!
//! A set goes through these states, each a record that is made durable before what it allows:
//!
//! | record | before it | after it, until the next |
//! |---|---|---|
//! | none | nothing is touched | |
//! | staging | what everything shall be is proven | the next version of each target is made beside what readers see |
//! | switching | each next version is whole and durable, and the target's own journal says so | readers are switched, one target after the other |
//! | proving | all targets are switched | commands and checks of all targets; then the set may wait |
//! | going back | it is decided that all go back | readers are switched back, one target after the other, and then the commands for that |
//!
//! The set is *committed* when it is written to the list of sets of its profile, before its journal goes.
//!
//! Before *switching*, it is noted beside the journal that the set is not confirmed, and the
//! [way back](crate::after::way_back) is armed. What a set at *proving* waits for, the end of its run, somebody, or the
//! machine to be started again, stands in that note, and `after::fate` decides as for a target.
//! While a set is *going back* because somebody has said so, something stands by, too, and the note counts how often it
//! was begun to run what belongs to that.
//!
//! A journal that is found belongs to a run that ended. At *staging* nothing has changed for anybody, and each target
//! forgets its own run. At *switching* the set is completed: each target that waits at *staged* in its own
//! [journal](smart_sync_sync::apply::journal) goes on from there, whoever comes to it first, and keeps waiting for
//! nobody. Where one cannot, because somebody has taken away what it needs, all go back. A set at *proving* whose run
//! has died was never found to be well, and goes back; one that goes back goes on doing so.
//!
//! So a kill at any moment leaves all targets old, or a set that the next run makes all new or all old; and whatever
//! stands by is such a run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use smart_sync_store::id::ManifestId;

use super::set::{Member, Set};
use super::settings::AfterPull;

/// The version of the file.
pub const FORMAT: u32 = 1;

/// What is known of a set that is not committed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Journal {
    /// The version of the file.
    pub format: u32,
    /// How far it has come.
    pub state: State,
    /// What the targets shall be.
    pub set: Set,
    /// Where each of them goes back to.
    pub back: Vec<Way>,
    /// What runs for it, whoever goes on with it.
    #[serde(default)]
    pub after: AfterPull,
}

/// How far a set has come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Next versions are made.
    Staging,
    /// Readers are switched.
    Switching,
    /// It is looked whether all is well.
    Proving,
    /// Readers are switched back.
    GoingBack(Reason),
}

/// Why a set goes back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is not well.
    Unhealthy(String),
    /// Somebody has said so. The journal's set is the one that is gone back to.
    Asked,
}

/// A version of a target to go back to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Way {
    /// The target.
    pub target: PathBuf,
    /// The name of the version, where versions are kept and there was one.
    pub version: Option<String>,
    /// Its manifest; none where nothing was applied.
    pub manifest: Option<String>,
}

/// Where a target of a set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// At what the set makes of it.
    New,
    /// Anywhere else.
    Elsewhere,
}

/// What is done with a set whose run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing was switched: it is forgotten.
    Forget,
    /// All is switched: it is looked whether it is well.
    Prove,
    /// What its trial has come to decides.
    Judge,
    /// All targets go back.
    GoBack(Reason),
}

impl Journal {
    /// The manifest that it is decided to switch a target to.
    pub fn decided(&self, target: &std::path::Path) -> Option<ManifestId> {
        let member = self.set.members.iter().find(|member| member.target == target)?;
        (self.state == State::Switching).then(|| member.manifest.parse().ok())?
    }

    /// The targets that the set changes, by their numbers.
    pub fn changing(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.set.members.iter().enumerate().filter(|(index, member)| self.changes(*index, member))
    }

    /// The targets that are on trial: those that the set changes, or all, where it is in place and tried once more.
    pub fn on_trial(&self) -> impl Iterator<Item = (usize, &Member)> {
        let is_in_place = self.is_in_place();
        let all = self.set.members.iter().enumerate();
        all.filter(move |(index, member)| is_in_place || self.changes(*index, member))
    }

    /// Whether the set changes no target.
    pub fn is_in_place(&self) -> bool {
        self.changing().next().is_none()
    }

    fn changes(&self, index: usize, member: &Member) -> bool {
        self.back.get(index).is_none_or(|way| way.manifest.as_ref() != Some(&member.manifest))
    }

    /// Whether any target that the set changes has a version to go back to.
    pub fn can_go_back(&self) -> bool {
        self.changing().any(|(index, _)| self.back.get(index).is_some_and(|way| way.version.is_some()))
    }

    /// Whether a target of this set may be somewhere where the set will not leave it.
    pub fn is_between(&self, target: &std::path::Path) -> bool {
        self.state != State::Staging && self.set.members.iter().any(|member| member.target == target)
    }
}

/// Decides what is done with a set that was found at `state`, with those of its targets that change standing so.
pub fn next(state: &State, changing: &[Standing]) -> Next {
    let is_new = |standing: &Standing| *standing == Standing::New;
    match state {
        State::Staging => Next::Forget,
        State::Switching if changing.iter().all(is_new) => Next::Prove,
        State::Switching if !changing.iter().any(is_new) => Next::Forget,
        State::Switching => Next::GoBack(Reason::Unhealthy(
            "a run was interrupted, and not all targets could be switched afterwards".to_owned(),
        )),
        State::Proving => Next::Judge,
        State::GoingBack(reason) => Next::GoBack(reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Elsewhere, New};
    use super::*;

    /// The journal of a set that makes `new` of targets that are at `old`, as it was written before anything was noted of
    /// what runs afterwards.
    fn journal(old: &[&str], new: &[&str]) -> Journal {
        let named = |at: usize| format!("/srv/{at}");
        let member = |(at, manifest): (usize, &&str)| {
            serde_json::json!({
                "target": named(at), "named": named(at), "channel": "repos/a", "ref": "branch:main", "seq": 1,
                "manifest": manifest, "version": null, "generation": null, "said": "",
            })
        };
        let way = |(at, manifest): (usize, &&str)| serde_json::json!({ "target": named(at), "version": null, "manifest": manifest });
        let members: Vec<_> = new.iter().enumerate().map(member).collect();
        let back: Vec<_> = old.iter().enumerate().map(way).collect();
        let set = serde_json::json!({
            "number": 1, "origin": "lab.example.org", "profile": "profiles/x", "ref": "branch:main", "seq": 1,
            "manifest": "m", "at": null, "applied": 1, "by": "", "members": members,
        });
        let journal = serde_json::json!({ "format": FORMAT, "state": "proving", "set": set, "back": back });
        serde_json::from_value(journal).unwrap()
    }

    #[test]
    fn what_a_set_does_not_change_is_on_trial_where_it_changes_nothing() {
        for (old, new, changing, on_trial) in [
            (["a", "b"], ["a", "c"], &[1][..], &[1][..]),
            (["a", "b"], ["c", "d"], &[0, 1], &[0, 1]),
            (["a", "b"], ["a", "b"], &[], &[0, 1]),
        ] {
            let journal = journal(&old, &new);
            assert_eq!(journal.changing().map(|(at, _)| at).collect::<Vec<_>>(), changing);
            assert_eq!(journal.on_trial().map(|(at, _)| at).collect::<Vec<_>>(), on_trial);
            assert_eq!(journal.is_in_place(), changing.is_empty());
        }
    }

    #[test]
    fn what_runs_afterwards_is_kept() {
        let all = journal(&["a"], &["b"]);
        assert_eq!(all.after, AfterPull::All);
        let nothing = Journal { after: AfterPull::Nothing, ..all };
        let bytes = serde_json::to_vec(&nothing).unwrap();
        assert_eq!(serde_json::from_slice::<Journal>(&bytes).unwrap(), nothing);
    }

    #[track_caller]
    fn check(state: &State, changing: &[Standing], expected: &str) {
        let found = match next(state, changing) {
            Next::Forget => "forget",
            Next::Prove => "prove",
            Next::Judge => "judge",
            Next::GoBack(Reason::Unhealthy(_)) => "unhealthy",
            Next::GoBack(Reason::Asked) => "asked",
        };
        assert_eq!(found, expected, "{state:?} {changing:?}");
    }

    #[test]
    fn a_set_that_was_interrupted_becomes_all_new_or_all_old() {
        let unhealthy = State::GoingBack(Reason::Unhealthy("it burns".to_owned()));
        for changing in [&[][..], &[New], &[Elsewhere], &[New, New], &[New, Elsewhere]] {
            check(&State::Staging, changing, "forget");
            check(&State::Proving, changing, "judge");
            check(&unhealthy, changing, "unhealthy");
            check(&State::GoingBack(Reason::Asked), changing, "asked");
        }
        check(&State::Switching, &[], "prove");
        check(&State::Switching, &[New], "prove");
        check(&State::Switching, &[New, New, New], "prove");
        check(&State::Switching, &[Elsewhere], "forget");
        check(&State::Switching, &[Elsewhere, Elsewhere], "forget");
        check(&State::Switching, &[New, Elsewhere], "unhealthy");
        check(&State::Switching, &[Elsewhere, New], "unhealthy");
        assert_eq!(next(&unhealthy, &[]), Next::GoBack(Reason::Unhealthy("it burns".to_owned())));
    }
}
