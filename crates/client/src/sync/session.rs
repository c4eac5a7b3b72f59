//! One run on one target: from what it holds to what it shall hold.
//!
//! The order is that of the promises: nothing of the target changes before everything is here and verified, and what
//! an earlier run left unfinished is settled before anything else.

mod allowed;
mod clock;
mod kept;
mod needs;
mod plan;
mod scan;
mod switch;
mod tell;
mod wanted;

pub use self::clock::{seconds_now, stamp, time_now};
pub use self::needs::Needs;
pub use self::switch::{Next, Prepared};
pub use self::wanted::{Outcome, Purpose, Wanted};

pub(crate) use self::kept::needed_pages;
pub(crate) use self::tell::kept_in_backup;

use std::path::PathBuf;
use std::sync::OnceLock;

use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Entry, Fidelity, Manifest};
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::lock::Holder;
use smart_sync_sync::apply::plan::Policy;
use smart_sync_sync::apply::run::{ReadyTarget, Recovery};
use smart_sync_sync::apply::stage::Stage;
use smart_sync_sync::apply::tree_dir::TreeDir;
use smart_sync_sync::apply::versions::Kind;
use smart_sync_sync::exclude::Exclusions;

use self::allowed::allowed;
use self::tell::tell_recovery;
use super::Surroundings;
use super::pages::Pages;
use super::place::Place;
use crate::after::trigger::After;
use crate::after::way_back::WayBack;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::profile;
use crate::settings::{TargetPolicy, Validation};

/// A target that is locked and settled, and what it holds.
pub struct Session<'a> {
    place: &'a Place,
    ready: ReadyTarget,
    exclusions: Exclusions,
    allows: Policy,
    keep: usize,
    validation: Validation,
    output: &'a Output,
    /// What happens after an update.
    after: After,
    /// What takes the target back if this run does not get to its end, where it is one that may have to.
    way_back: Option<WayBack>,
    /// Directories in which an overlay places nothing.
    forbidden: Vec<PathBuf>,
    /// Whether an earlier run was found unfinished.
    pub was_interrupted: bool,
    /// What was applied here last.
    pub applied: Option<Version>,
    /// Its manifest.
    pub pages: Pages,
    /// The number of its entries, if its pages are all here; counted when it is first asked for.
    known: OnceLock<Option<u64>>,
}

impl<'a> Session<'a> {
    /// Takes the target, settles what an earlier run left, and finds out what it holds.
    pub fn begin(
        place: &'a Place,
        policy: &TargetPolicy,
        validation: Validation,
        output: &'a Output,
    ) -> Result<Self, Failure> {
        let exclusions = Exclusions::new(policy.exclusions.iter().map(String::as_str))
            .map_err(|error| Failure::new(Exit::Configuration, error))?;
        let locked = place.open()?.lock(&Holder::this_process("smart-sync", seconds_now()))?;
        let (ready, recovery) = profile::store::recover(place, locked)?;
        tell_recovery(&recovery, place, output);
        let applied = ready.target().applied()?;
        let pages = match &applied {
            Some(version) => {
                // A run that was killed or completed later has left those of the version before.
                Pages::discard_others(&place.state, needed_pages(&ready, version.manifest())?)?;
                Pages::load(&place.state, version.manifest())?
            }
            None => Pages::default(),
        };
        let mut forbidden = place.leaves_alone(&policy.others);
        if place.kind == Kind::Overlay {
            forbidden.extend(profile::store::beside(place)?);
        }
        let mut allows = allowed(policy)?;
        allows.makes_read_only = ready.target().have_many_names();
        Ok(Self {
            place,
            ready,
            exclusions,
            allows,
            keep: policy.keep,
            after: policy.after.clone(),
            way_back: None,
            forbidden,
            was_interrupted: recovery != Recovery::Nothing,
            validation,
            output,
            applied,
            pages,
            known: OnceLock::new(),
        })
    }

    /// Sees to it that what is applied has to prove itself, and is taken back where this run does not get to its end.
    #[must_use]
    pub(crate) fn guarded(self, surroundings: &Surroundings<'_>) -> Self {
        Self { way_back: Some(WayBack::of(surroundings)), ..self }
    }

    /// The opposite: what is gone back to has nothing to prove.
    #[must_use]
    pub(crate) fn unguarded(self) -> Self {
        Self { way_back: None, ..self }
    }

    /// The manifest that the target holds.
    pub fn manifest(&self) -> Option<ManifestId> {
        self.applied.as_ref().map(Version::manifest)
    }

    /// The fidelity of what was applied; that of git where nothing was.
    pub fn fidelity(&self) -> Fidelity {
        let manifest = self.manifest().and_then(|manifest| Manifest::open(&self.pages, manifest, None).ok());
        manifest.map_or(Fidelity::Git, |manifest| manifest.fidelity())
    }

    /// The manifest that the target holds, if its pages are all here, and the number of its entries.
    pub fn known_manifest(&self) -> Option<(ManifestId, u64)> {
        let manifest = self.manifest()?;
        let count = self.known.get_or_init(|| self.pages.count(manifest).ok());
        count.map(|count| (manifest, count))
    }

    /// Works with the entries of what was applied. Where its pages are lost, nothing is known of it, and what is
    /// there is compared with what is wanted, file by file.
    pub fn with_applied<T>(
        &self,
        work: impl FnOnce(&mut dyn Iterator<Item = Entry>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match self.known_manifest() {
            Some((manifest, _)) => self.pages.with_entries(manifest, work),
            None => work(&mut std::iter::empty()),
        }
    }

    /// The tree of the target.
    pub const fn tree(&self) -> &TreeDir {
        self.ready.target().tree()
    }

    /// The same after readers were switched by this run.
    pub fn reopened(self) -> Result<Self, Failure> {
        let ready = self.ready.reopened()?;
        let applied = ready.target().applied()?;
        let pages = match &applied {
            Some(version) => Pages::load(&self.place.state, version.manifest())?,
            None => Pages::default(),
        };
        Ok(Self { ready, applied, pages, known: OnceLock::new(), ..self })
    }

    /// Where the target is, and what is known of it.
    pub const fn place(&self) -> &'a Place {
        self.place
    }

    /// The target, which belongs to this run.
    pub const fn ready(&self) -> &ReadyTarget {
        &self.ready
    }

    /// Whether an earlier run left contents in the stage.
    pub fn has_stage(&self) -> Result<bool, Failure> {
        Ok(self.ready.target().has_stage()?)
    }

    /// Opens the stage for contents that come before it is known what is wanted.
    pub fn stage(&self) -> Result<Stage<'_>, Failure> {
        Ok(self.ready.stage()?)
    }

    /// Removes what is staged.
    pub fn discard_staged(&self) -> Result<(), Failure> {
        Ok(self.ready.discard_staged()?)
    }
}
