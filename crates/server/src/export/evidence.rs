//! The evidence of every ref that everybody may see, as a file at the address that clients ask.
//!
//! A file cannot know what its reader has verified, so it shows the log from nothing; the reader adds what it needs
//! from the tiles. A tag has a second file: that there is no branch of its name, because whoever types a name without
//! its kind may mean either, and believes "there is none" only where it is proven.

use smart_sync_sync::evidence::{BuildError, Evidence, Inquiry, ROOTS_MAX, build};
use smart_sync_sync::log::heads::HeadKey;
use smart_sync_sync::name::{Channel, RefName, update_path};

use crate::realm::Realm;
use crate::realm::evidence::LogAt;
use crate::realm::view::View;

/// The files and their bytes.
pub(super) fn of_all_refs(realm: &Realm, view: &View) -> anyhow::Result<Vec<(String, bytes::Bytes)>> {
    let mut roots = realm.roots_after(view, None)?;
    // Whoever is further behind than the longest walk is pinned anew, whatever it is shown.
    roots.drain(..roots.len().saturating_sub(ROOTS_MAX));
    let mut files = Vec::new();
    let mut add = |channel: &Channel, reference: &RefName| {
        if channel.to_file_segment().is_none() || reference.to_file_segment().is_none() {
            tracing::warn!(%channel, %reference, "the name is too long for a file, so the export leaves it out");
            return Ok(());
        }
        let inquiry = Inquiry {
            checkpoint: view.checkpoint.to_vec(),
            size: view.size,
            base: 0,
            roots: roots.clone(),
            key: HeadKey::open(channel, reference),
            table: &view.table,
            dated: None,
            private: None,
        };
        let log = LogAt { files: &realm.files, size: view.size };
        let evidence = build(&log, inquiry).map_err(|error| match error {
            BuildError::Log(error) => error,
            BuildError::Inquiry(error) => error.into(),
        })?;
        let bytes = Evidence::Full(Box::new(evidence)).encode();
        files.push((update_path(channel, reference), bytes.into()));
        anyhow::Ok(())
    };
    for (channel, reference) in refs(realm, view) {
        add(&channel, &reference)?;
        if let RefName::Tag(name) = &reference
            && let Ok(branch) = RefName::branch(name.as_str())
            && view.table.get(&HeadKey::open(&channel, &branch)).is_none()
        {
            add(&channel, &branch)?;
        }
    }
    Ok(files)
}

/// Every ref that everybody may see. A channel that is private now is left out even where it was not before.
pub(super) fn refs<'a>(realm: &'a Realm, view: &'a View) -> impl Iterator<Item = (Channel, RefName)> + 'a {
    let open = view.table.heads().iter().filter_map(|head| head.key.channel_and_ref());
    open.filter(|(channel, _)| !realm.is_private(channel))
}
