//! Which contents an overlay still needs: those of the versions that it keeps.

use std::collections::HashSet;
use std::path::Path;

use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::Entry;
use smart_sync_sync::apply::run::ReadyTarget;

use super::pages::Pages;
use super::session::needed_pages;
use crate::failure::Failure;

/// Removes the contents of versions that are gone. Nothing goes where the manifest of a version cannot be read.
pub(crate) fn retain_contents(ready: &ReadyTarget, state: &Path) -> Result<(), Failure> {
    if !ready.target().is_overlay() {
        return Ok(());
    }
    let Some(applied) = ready.target().applied()? else { return Ok(()) };
    let mut needed = HashSet::new();
    for manifest in needed_pages(ready, applied.manifest())? {
        if add_contents(state, manifest, &mut needed).is_err() {
            return Ok(());
        }
    }
    Ok(ready.retain_contents(&needed)?)
}

fn add_contents(state: &Path, manifest: ManifestId, needed: &mut HashSet<ContentId>) -> Result<(), Failure> {
    let pages = Pages::load(state, manifest)?;
    pages.with_entries(manifest, |entries| {
        needed.extend(entries.filter_map(|entry: Entry| entry.content().map(|content| content.id)));
        Ok(())
    })
}
