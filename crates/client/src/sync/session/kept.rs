//! The versions that a target keeps: their pages, and which of them go.

use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Fidelity, Manifest};
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::run::ReadyTarget;
use smart_sync_sync::apply::versions::prune;

use super::Session;
use crate::failure::Failure;
use crate::profile;
use crate::sync::kept_contents::retain_contents;
use crate::sync::pages::Pages;

impl Session<'_> {
    /// The pages of a manifest that an earlier version of the target has, if they are all here, and its fidelity.
    pub fn pages_of_kept(&self, manifest: ManifestId) -> Result<Option<(Pages, Fidelity)>, Failure> {
        if !self.ready.target().kept()?.iter().any(|kept| kept.version.manifest() == manifest) {
            return Ok(None);
        }
        let pages = Pages::load(&self.place.state, manifest)?;
        if pages.count(manifest).is_err() {
            return Ok(None);
        }
        let fidelity = Manifest::open(&pages, manifest, None)?.fidelity();
        Ok(Some((pages, fidelity)))
    }

    /// Removes versions that are not kept any longer.
    pub(super) fn prune(&self) -> Result<(), Failure> {
        if !self.ready.target().keeps_versions() {
            return Ok(());
        }
        let kept = self.ready.target().kept()?;
        let applied = self.ready.target().applied()?;
        // The new version is not confirmed yet: the one before has to be there to go back to.
        let before = self.applied.as_ref().and_then(Version::name).filter(|_| !self.after.is_empty());
        let needed = profile::store::needed(self.place, &kept)?;
        let anyway = crate::versions::kept_anyway(&kept, &self.place.state)?;
        let named: Vec<_> = before.into_iter().chain(&needed).chain(anyway).collect();
        for gone in prune::plan(&kept, applied.as_ref().and_then(Version::name), self.keep, &named) {
            self.ready.remove_version(gone)?;
        }
        retain_contents(&self.ready, &self.place.state)?;
        Ok(self.ready.prune_left(self.keep)?)
    }
}

/// The manifests whose pages are needed: those of all versions, and the current one.
pub(crate) fn needed_pages(ready: &ReadyTarget, current: ManifestId) -> Result<Vec<ManifestId>, Failure> {
    let kept = ready.target().kept()?;
    Ok(kept.iter().map(|kept| kept.version.manifest()).chain([current]).collect())
}
