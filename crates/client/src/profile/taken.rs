//! One target of a set, taken: what it holds, what runs for it, and going back with it.

use std::path::{Path, PathBuf};

use super::journal::Way;
use super::store::find;
use crate::after::restore::{Restored, restored};
use crate::after::trigger::{After, Changed, Stage};
use crate::after::verdict::How;
use crate::after::work::{Work, needs_reboot};
use crate::failure::Failure;
use crate::sync::Surroundings;
use crate::sync::session::Session;
use crate::versions::rollback::{changes, go_back};

/// A target of a set, taken.
pub(super) struct Taken<'a> {
    /// Its number in the set.
    pub(super) index: usize,
    pub(super) session: Session<'a>,
    pub(super) after: After,
    /// What changed in it, where that is known.
    pub(super) changed: Option<Vec<Box<[u8]>>>,
    /// Whether this run has switched it to another version.
    pub(super) is_moved: bool,
}

/// A target that stays where it is while others go back.
pub(super) struct Stuck {
    pub(super) target: PathBuf,
    /// What has become of what triggers did for it.
    pub(super) restored: Restored,
}

impl Stuck {
    /// Whether the machine is what it was before, as far as this target goes.
    pub(super) const fn is_restored(&self) -> bool {
        matches!(self.restored, Restored::All { .. })
    }

    /// How that ends for the target.
    pub(super) fn how(&self, reason: &str) -> How {
        match &self.restored {
            Restored::All { .. } => How::TakenBack(reason.to_owned()),
            Restored::Nothing => How::RollbackFailed(reason.to_owned()),
            Restored::Partly(failed) => How::RollbackFailed(format!("{reason}; going back: {failed}")),
        }
    }
}

impl Taken<'_> {
    pub(super) fn target(&self) -> &Path {
        &self.session.place().target
    }

    pub(super) fn holds(&self, manifest: &str) -> bool {
        self.session.manifest().is_some_and(|held| held.to_string() == manifest)
    }

    pub(super) fn is_at(&self, way: &Way) -> bool {
        let applied = self.session.applied.as_ref();
        let name = applied.and_then(|applied| applied.name()).map(ToString::to_string);
        match &way.manifest {
            Some(manifest) => self.holds(manifest) && (name == way.version || name.is_none()),
            None => applied.is_none(),
        }
    }

    /// Switches the target to where it goes back to. Returns also whether it cannot.
    pub(super) fn go_back(self, way: &Way, surroundings: &Surroundings<'_>) -> Result<(Self, bool), Failure> {
        if self.is_at(way) {
            return Ok((self, false));
        }
        let kept = self.session.ready().target().kept()?;
        let Some(kept) = find(&kept, way.version.as_deref(), way.manifest.as_deref()) else {
            return Ok((self, true));
        };
        let changed = self.changed.clone().or_else(|| changes(&self.session, kept));
        go_back(&self.session, kept, surroundings)?;
        let session = self.session.reopened()?;
        Ok((Self { session, changed, is_moved: true, ..self }, false))
    }

    pub(super) fn state(&self) -> &Path {
        &self.session.place().state
    }

    pub(super) fn changed(&self) -> Changed<'_> {
        self.changed.as_deref().map_or(Changed::Unknown, Changed::Paths)
    }

    fn work<'w>(&'w self, stage: Stage, surroundings: &'w Surroundings<'w>) -> Result<Work<'w>, String> {
        Work::new(&self.session, self.changed(), stage, surroundings).map_err(|failure| failure.in_one_line())
    }

    pub(super) fn run(&self, stage: Stage, surroundings: &Surroundings<'_>) -> Result<(), String> {
        if self.after.run.is_empty() {
            return Ok(());
        }
        let ran = self.work(stage, surroundings).and_then(|work| work.run(&self.after));
        ran.map_err(|reason| self.of_target(&reason))
    }

    pub(super) fn check(&self, surroundings: &Surroundings<'_>) -> Result<(), String> {
        if self.after.check.is_empty() {
            return Ok(());
        }
        let checked = self.work(Stage::Update, surroundings).and_then(|work| work.check(&self.after));
        checked.map_err(|reason| self.of_target(&reason))
    }

    /// Whether something that runs at a stage only counts after a reboot.
    pub(super) fn needs_reboot(&self, stage: Stage) -> bool {
        needs_reboot(self.session.place(), &self.after, self.changed(), stage)
    }

    /// Takes back what triggers have done, as far as they know how. The tree stays.
    pub(super) fn restore(&self, surroundings: &Surroundings<'_>) -> Stuck {
        let restored = restored(&self.session, &self.after, self.changed(), surroundings);
        let restored = restored.unwrap_or_else(|failure| Restored::Partly(failure.in_one_line()));
        Stuck { target: self.target().to_owned(), restored }
    }

    pub(super) fn of_target(&self, reason: &str) -> String {
        format!("{}: {reason}", self.target().display())
    }
}
