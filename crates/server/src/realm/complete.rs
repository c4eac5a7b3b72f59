//! Whether all that a publication refers to is here, and is what it says.
//!
//! A publication is accepted only when a client could take it from here to its end: every page is sound, every
//! content can be read from the publisher's own domain, and the numbers and git ids that it signs are right.

use anyhow::{Context, anyhow};
use smart_sync_store::Store;
use smart_sync_store::domain::Domain;
use smart_sync_store::manifest::{Content, Fidelity, GitTreeHasher, Manifest, diff};
use smart_sync_sync::record::{ManifestRef, Publication};
use std::sync::Arc;
use tokio::runtime::Handle;

use super::pages::StorePages;
use super::timestamp;

/// Contents that are looked up at once.
const BATCH: usize = 4096;

/// Checks a publication's tree. `previous` is a manifest of the same domain that is known to be complete: what it
/// holds is not looked up again. To be called on a thread that may block.
///
/// The outer error is a fault of the server, the inner one says what is wrong with the publication.
pub(crate) fn check(
    store: &Arc<Store>,
    domain: &Domain,
    publication: &Publication,
    previous: Option<ManifestRef>,
    now: u64,
) -> anyhow::Result<Result<(), String>> {
    let Some(manifest) = publication.manifest else { return Ok(Ok(())) };
    let pages = StorePages::new(Arc::clone(store), domain.clone());
    let opened = match Manifest::open(pages.clone(), manifest.id, Some(manifest.bytes)) {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(chain(&anyhow!(error)))),
    };
    if let Err(reason) = check_entries(&opened, publication) {
        return Ok(Err(reason));
    }
    let previous = previous
        .and_then(|previous| Manifest::open(pages, previous.id, Some(previous.bytes)).ok())
        .filter(|previous| previous.fidelity() == opened.fidelity());
    let mut contents = Contents { store, domain, now, batch: Vec::new(), missing: None };
    match previous {
        Some(previous) => {
            for change in diff(&previous, &opened) {
                let change = change.context("comparing with the version before")?;
                contents.look_up(
                    smart_sync_store::manifest::Edit::from(change)
                        .entry()
                        .and_then(|entry| entry.content().map(|content| (*content, entry.path.to_string()))),
                )?;
            }
        }
        None => {
            for entry in opened.iter() {
                let entry = entry.context("reading the manifest")?;
                contents.look_up(entry.content().map(|content| (*content, entry.path.to_string())))?;
            }
        }
    }
    Ok(match contents.finish()? {
        None => Ok(()),
        Some(path) => Err(format!("the content of {path} was not uploaded")),
    })
}

fn check_entries(manifest: &Manifest<StorePages>, publication: &Publication) -> Result<(), String> {
    let (entries, bytes) = (manifest.entries(), manifest.bytes());
    if (entries, bytes) != (publication.content.entries, publication.content.bytes) {
        return Err(format!(
            "the manifest has {entries} entries and {bytes} bytes, and the publication says otherwise"
        ));
    }
    let mut tree = publication.git.map(|git| (git.tree, GitTreeHasher::new()));
    if tree.is_some() && manifest.fidelity() != Fidelity::Git {
        return Err("a publication with git ids needs a manifest of the fidelity git".to_owned());
    }
    for entry in manifest.iter() {
        let entry = entry.map_err(|error| chain(&anyhow!(error)))?;
        if let Some((_, hasher)) = &mut tree {
            hasher.push(&entry).map_err(|error| error.to_string())?;
        }
    }
    match tree {
        Some((expected, hasher)) => {
            let found = hasher.finish();
            if found == expected {
                Ok(())
            } else {
                Err(format!("the tree is {found} to git, not {expected}"))
            }
        }
        None => Ok(()),
    }
}

struct Contents<'a> {
    store: &'a Arc<Store>,
    domain: &'a Domain,
    now: u64,
    batch: Vec<(Content, String)>,
    missing: Option<String>,
}

impl Contents<'_> {
    fn look_up(&mut self, content: Option<(Content, String)>) -> anyhow::Result<()> {
        self.batch.extend(content);
        if self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if self.missing.is_some() || batch.is_empty() {
            return Ok(());
        }
        let contents: Vec<Content> = batch.iter().map(|(content, _)| *content).collect();
        let missing = Handle::current()
            .block_on(self.store.missing_contents(self.domain, &contents, timestamp(self.now)))
            .context("looking for contents")?;
        if let Some(first) = missing.first() {
            self.missing =
                batch.into_iter().find(|(content, _)| content.id == first.id).map(|(_, path)| path);
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Option<String>> {
        self.flush()?;
        Ok(self.missing)
    }
}

fn chain(error: &anyhow::Error) -> String {
    format!("{error:#}")
}
