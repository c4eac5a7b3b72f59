//! What was found of the versions of a target or of the sets of a profile, and the state that this gives it.
//!
//! One small file, replaced as a whole: the version that was confirmed last, which is kept because it is known to be
//! good, and how the last update ended.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::versions::VersionName;

use super::moment::{Moment, shown};
use super::pending::{By, Pending, Phase, read, write_json};
use super::subject::Subject;
use crate::failure::Failure;

const NOTE: &str = "verdict";
/// Versions that were confirmed earlier and are remembered.
const EARLIER_MAX: usize = 100;

/// What is noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Verdict {
    /// The name of the version that was confirmed last.
    pub(crate) confirmed: Option<String>,
    /// The names of those that were confirmed before it, the newest last.
    #[serde(default)]
    pub(crate) earlier: Vec<String>,
    /// How the last update ended, where it was looked at.
    pub(crate) last: Option<Ending>,
}

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Ending {
    /// The manifest that the target holds since then.
    pub(crate) manifest: String,
    /// How.
    pub(crate) how: How,
}

/// How an update ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum How {
    /// It is confirmed.
    Confirmed,
    /// It was taken back, for this reason.
    RolledBack(String),
    /// What it had made of the machine was taken back, and its tree stays, for this reason.
    TakenBack(String),
    /// It was to be taken back, and was not or not completely, for this reason.
    RollbackFailed(String),
}

impl Verdict {
    pub(crate) fn read(state: &Path) -> Result<Self, Failure> {
        Ok(read(&state.join(NOTE))?.unwrap_or_default())
    }

    /// Notes that a version is confirmed.
    pub(crate) fn confirm(state: &Path, version: &Version) -> Result<(), Failure> {
        let before = Self::read(state)?;
        let confirmed = version.name().map(ToString::to_string);
        let mut earlier = before.earlier;
        earlier.extend(before.confirmed);
        earlier.retain(|name| Some(name) != confirmed.as_ref());
        earlier.drain(..earlier.len().saturating_sub(EARLIER_MAX));
        let last = Some(Ending { manifest: version.manifest().to_string(), how: How::Confirmed });
        write_json(&state.join(NOTE), &Self { confirmed, earlier, last })
    }

    /// Notes how an update ended.
    pub(crate) fn end(state: &Path, manifest: &str, how: How) -> Result<(), Failure> {
        let last = Some(Ending { manifest: manifest.to_owned(), how });
        // What is damaged is replaced: it is more important to know this.
        write_json(&state.join(NOTE), &Self { last, ..Self::read(state).unwrap_or_default() })
    }

    /// Whether a version was ever confirmed, as far as that is remembered.
    pub(crate) fn was_confirmed(&self, name: &VersionName) -> bool {
        self.is_confirmed(name) || self.earlier.iter().any(|earlier| earlier == name.as_str())
    }

    /// Whether this is the version that was confirmed last.
    pub(crate) fn is_confirmed(&self, name: &VersionName) -> bool {
        self.confirmed.as_deref() == Some(name.as_str())
    }
}

/// The state of a target as to the version that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing looks at its versions.
    Unchecked,
    /// The version is confirmed.
    Confirmed,
    /// The run that applied it has ended early, and nobody has settled it yet.
    Unconfirmed,
    /// Somebody has gone to it, and the run that did so has ended before what runs for that.
    Interrupted,
    /// It waits for somebody who confirms it, for so long yet.
    Waiting(String),
    /// It waits for the machine to be started again.
    RebootPending,
    /// The target was taken back to it from one that was not healthy, for this reason.
    RolledBack(String),
    /// It is not healthy for this reason, and the machine was taken back to what it was before.
    TakenBack(String),
    /// It is not healthy, or what was gone back to is not, for this reason.
    RollbackFailed(String),
}

impl Health {
    /// Finds it out for what is known by `manifest`.
    pub(crate) fn of(state: &Path, manifest: &str) -> Result<Self, Failure> {
        if let Some(pending) = Pending::read(state)? {
            match (&pending.phase, pending.manifest == manifest) {
                // Somebody was about to leave it, and has not.
                (Phase::Returning(back), true) if back.by == By::Somebody && back.reason.is_empty() => {}
                // Readers were not switched back yet, or its tree stays.
                (Phase::Returning(_), true) => return Ok(Self::Unconfirmed),
                (Phase::Returning(_), false) | (_, true) => return Self::on_trial(pending),
                (_, false) => {}
            }
        }
        let last = Verdict::read(state)?.last.filter(|last| last.manifest == manifest);
        Ok(match last.map(|last| last.how) {
            None => Self::Unchecked,
            Some(How::Confirmed) => Self::Confirmed,
            Some(How::RolledBack(reason)) => Self::RolledBack(reason),
            Some(How::TakenBack(reason)) => Self::TakenBack(reason),
            Some(How::RollbackFailed(reason)) => Self::RollbackFailed(reason),
        })
    }

    /// That of something that is not confirmed.
    pub(crate) fn on_trial(pending: Pending) -> Result<Self, Failure> {
        Ok(match pending.phase {
            Phase::Returning(back) if back.by == By::Somebody => Self::Interrupted,
            Phase::Returning(back) => Self::RolledBack(back.reason),
            Phase::Proving => Self::Unconfirmed,
            Phase::Rebooting => Self::RebootPending,
            Phase::Waiting(window) => {
                let now = Moment::now()?;
                let left = window.until.saturating_sub(now.since_boot);
                let left = if pending.boot == now.boot { left } else { Duration::ZERO };
                Self::Waiting(shown(left))
            }
        })
    }

    /// What programs are told.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Confirmed => "confirmed",
            Self::Unconfirmed => "unconfirmed",
            Self::Interrupted => "interrupted",
            Self::Waiting(_) => "waiting",
            Self::RebootPending => "reboot-pending",
            Self::RolledBack(_) | Self::TakenBack(_) => "rolled-back",
            Self::RollbackFailed(_) => "rollback-failed",
        }
    }

    /// Why it is not what it should be, where something was found.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::RolledBack(reason) | Self::TakenBack(reason) | Self::RollbackFailed(reason) => Some(reason),
            _ => None,
        }
    }

    /// What people are told, where there is something to tell.
    pub(crate) fn sentence(&self, subject: &Subject<'_>) -> Option<String> {
        let typed = subject.typed();
        Some(match self {
            Self::Unchecked => return None,
            Self::Confirmed => "confirmed".to_owned(),
            Self::Unconfirmed => format!(
                "not confirmed: the run that applied it has ended early; `smart-sync recover {typed}` {}",
                subject.is_settled()
            ),
            Self::Interrupted => format!(
                "somebody has gone to it, and not all has run for that: `smart-sync recover {typed}` runs it to its end"
            ),
            Self::Waiting(left) => format!(
                "not confirmed: `smart-sync confirm {typed}` does it within {left}, else {}",
                subject.goes_back()
            ),
            Self::RebootPending => {
                "not confirmed: it is looked at when the machine is started again".to_owned()
            }
            Self::RolledBack(reason) => {
                format!("gone back to, because the one after it was not healthy: {reason}")
            }
            Self::TakenBack(reason) => {
                format!("not healthy, and what runs is what ran before it; its files stay: {reason}")
            }
            Self::RollbackFailed(reason) => format!("not healthy: {reason}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use smart_sync_store::id::ManifestId;

    use super::*;
    use crate::after::pending::{Return, Run};
    use crate::after::trigger::nixos::Override;

    fn version(byte: u8) -> Version {
        let name = VersionName::parse(format!("smart-sync-{byte}").as_bytes()).unwrap();
        Version::new(ManifestId::from_bytes([byte; 32]), b"").unwrap().named(name)
    }

    #[test]
    fn the_state_of_a_target_is_that_of_the_version_it_holds() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        let (one, two) = (version(1), version(2));
        let health = |version: &Version| Health::of(state, &version.manifest().to_string()).unwrap().name();
        assert_eq!(health(&one), "unchecked");
        Verdict::confirm(state, &one).unwrap();
        assert_eq!((health(&one), health(&two)), ("confirmed", "unchecked"));
        let boot = Moment::now().unwrap().boot;
        let pending = |phase| Pending {
            manifest: two.manifest().to_string(),
            previous: None,
            since: 0,
            boot: boot.clone(),
            phase,
            run: Run::Update,
            said: Override::default(),
        };
        for (phase, expected) in [(Phase::Proving, "unconfirmed"), (Phase::Rebooting, "reboot-pending")] {
            pending(phase).write(state).unwrap();
            assert_eq!((health(&one), health(&two)), ("confirmed", expected));
        }
        let returning =
            |by, reason: &str| Phase::Returning(Return { reason: reason.to_owned(), attempts: 0, by });
        // One that goes back by itself is not back before readers see the other one; where its tree stays, it never is.
        for (phase, of_one, of_two) in [
            (returning(By::Itself, "why"), "rolled-back", "unconfirmed"),
            (returning(By::Somebody, ""), "interrupted", "unchecked"),
            (returning(By::Somebody, "why"), "interrupted", "unconfirmed"),
        ] {
            pending(phase).write(state).unwrap();
            assert_eq!((health(&one), health(&two)), (of_one, of_two));
        }
        Pending::remove(state).unwrap();
        Verdict::end(state, &one.manifest().to_string(), How::RolledBack("why".to_owned())).unwrap();
        assert_eq!(health(&one), "rolled-back");
        // What was confirmed before is known all the same.
        let verdict = Verdict::read(state).unwrap();
        assert!(verdict.is_confirmed(one.name().unwrap()) && !verdict.is_confirmed(two.name().unwrap()));
        Verdict::confirm(state, &two).unwrap();
        let verdict = Verdict::read(state).unwrap();
        assert!(!verdict.is_confirmed(one.name().unwrap()) && verdict.was_confirmed(one.name().unwrap()));
        Verdict::confirm(state, &two).unwrap();
        assert_eq!(Verdict::read(state).unwrap(), verdict);
        Verdict::end(state, &two.manifest().to_string(), How::TakenBack("why".to_owned())).unwrap();
        assert_eq!(health(&two), "rolled-back");
        Verdict::end(state, &two.manifest().to_string(), How::RollbackFailed("why".to_owned())).unwrap();
        assert_eq!(health(&two), "rollback-failed");
    }
}
