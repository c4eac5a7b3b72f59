//! Whether all that a publication refers to is here, and is what it says.
//!
//! A publication is accepted only when a client could take it from here to its end: every page is sound, every
//! content can be read from the publisher's own domain, and the numbers and git ids that it signs are right.
//!
//! Collecting garbage must not take away what is found here before the publication is in the log. So every page, and
//! every content that the version before does not have, is asked for with [`Store::missing`] and
//! [`Store::missing_contents`], which hold what they find. The other contents are held by the version before, which
//! is a root all the while: the publication names it as its predecessor, and is not appended when it no longer is
//! the newest. Where something may be lost, that one counts for nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use smart_sync_store::Store;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::ObjectId;
use smart_sync_store::manifest::{
    Change, Content, Edit, Entry, Fidelity, GitTreeHasher, Manifest, PageError, PageSource, diff,
};
use smart_sync_store::object::ObjectKey;
use smart_sync_sync::record::{ManifestRef, Publication};
use tokio::runtime::Handle;

use super::pages::StorePages;
use super::timestamp;

/// Contents that are looked up at once.
const BATCH: usize = 4096;

/// What a publication is checked against. To be used on a thread that may block.
pub(crate) struct Completeness<'a> {
    /// Where everything has to be.
    pub(crate) store: &'a Arc<Store>,
    /// The domain of the publication's channel.
    pub(crate) domain: &'a Domain,
    /// The manifest that the publication follows on.
    pub(crate) previous: Option<ManifestRef>,
    /// The time.
    pub(crate) now: u64,
}

/// What is wrong with a publication.
type Verdict = Result<(), String>;

impl Completeness<'_> {
    /// Checks a publication whose contents were hashed by this process. The outer error is a fault of the server.
    pub(crate) fn check(&self, publication: &Publication) -> anyhow::Result<Verdict> {
        self.check_tree(publication, BlobIds::Known)
    }

    /// Checks a publication that came over the network. What its contents are called by git is what this process has
    /// computed, most of it when their packs came: the ids of trees and commits rest on it, and the content ids
    /// alone do not show it.
    pub(crate) fn check_uploaded(&self, publication: &Publication) -> anyhow::Result<Verdict> {
        self.check_tree(publication, BlobIds::Claimed)
    }

    fn check_tree(&self, publication: &Publication, blob_ids: BlobIds) -> anyhow::Result<Verdict> {
        let Some(manifest) = publication.manifest else { return Ok(Ok(())) };
        let pages = NotedPages::new(StorePages::new(Arc::clone(self.store), self.domain.clone()));
        let opened = match Manifest::open(pages.clone(), manifest.id, Some(manifest.bytes)) {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(chain(&anyhow!(error)))),
        };
        if let Err(reason) = check_entries(&opened, publication) {
            return Ok(Err(reason));
        }
        if self.lacks_pages(pages.take())? {
            return Ok(Err("a page of the manifest was not uploaded".to_owned()));
        }
        // In doubt, what the version before has may be lost.
        let previous = if self.store.catalogue().doubt()?.is_some() { None } else { self.previous };
        let previous = previous
            .and_then(|previous| Manifest::open(pages, previous.id, Some(previous.bytes)).ok())
            .filter(|previous| previous.fidelity() == opened.fidelity());
        let mut contents = Contents {
            check: self,
            blob_ids,
            known: HashSet::new(),
            seen: HashSet::new(),
            batch: Vec::new(),
            fault: None,
        };
        match previous {
            Some(previous) => {
                for change in diff(&previous, &opened) {
                    let change = change.context("comparing with the version before")?;
                    if let Change::Changed { old, .. } | Change::Removed(old) = &change {
                        contents.known.extend(old.content());
                    }
                    if let Edit::Put(entry) = Edit::from(change) {
                        contents.look_up(&entry)?;
                    }
                }
            }
            None => {
                for entry in &opened {
                    contents.look_up(&entry.context("reading the manifest")?)?;
                }
            }
        }
        contents.finish()
    }

    fn lacks_pages(&self, pages: HashSet<ObjectId>) -> anyhow::Result<bool> {
        let keys: Vec<_> = pages.into_iter().map(ObjectKey::page).collect();
        let missing =
            self.store.missing(self.domain, &keys, timestamp(self.now)).context("looking for pages")?;
        Ok(!missing.is_empty())
    }
}

/// Where the git names of contents come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BlobIds {
    /// This process has computed them.
    Known,
    /// The publisher says so.
    Claimed,
}

fn check_entries(manifest: &Manifest<NotedPages>, publication: &Publication) -> Result<(), String> {
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
    for entry in manifest {
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

/// Pages of the store, and which of them were read.
#[derive(Clone)]
struct NotedPages {
    pages: StorePages,
    read: Arc<Mutex<HashSet<ObjectId>>>,
}

impl NotedPages {
    fn new(pages: StorePages) -> Self {
        Self { pages, read: Arc::default() }
    }

    fn take(&self) -> HashSet<ObjectId> {
        std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PageSource for NotedPages {
    fn page(&self, id: &ObjectId) -> Result<Bytes, PageError> {
        let bytes = self.pages.page(id)?;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(*id);
        Ok(bytes)
    }

    fn is_verified(&self) -> bool {
        self.pages.is_verified()
    }
}

/// The contents that are new with a publication.
struct Contents<'a> {
    check: &'a Completeness<'a>,
    blob_ids: BlobIds,
    /// Contents of the version before, whose names were found right when they came.
    known: HashSet<Content>,
    seen: HashSet<Content>,
    batch: Vec<(Content, String)>,
    fault: Option<String>,
}

impl Contents<'_> {
    fn look_up(&mut self, entry: &Entry) -> anyhow::Result<()> {
        if let Some(content) = entry.content()
            && self.seen.insert(*content)
        {
            self.batch.push((*content, entry.path.to_string()));
        }
        if self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        if self.fault.is_some() || batch.is_empty() {
            return Ok(());
        }
        let Completeness { store, domain, now, .. } = self.check;
        let contents: Vec<Content> = batch.iter().map(|(content, _)| *content).collect();
        let missing = Handle::current()
            .block_on(store.missing_contents(domain, &contents, timestamp(*now)))
            .context("looking for contents")?;
        if let Some(first) = missing.first() {
            let path = batch.iter().find(|(content, _)| content == first).map_or("?", |(_, path)| path);
            self.fault = Some(format!("the content of {path} was not uploaded"));
        } else if self.blob_ids == BlobIds::Claimed {
            self.check_blob_ids(&batch)?;
        }
        Ok(())
    }

    fn check_blob_ids(&mut self, batch: &[(Content, String)]) -> anyhow::Result<()> {
        let (contents, paths): (Vec<Content>, Vec<&String>) = (batch.iter())
            .filter(|(content, _)| !self.known.contains(content))
            .map(|(content, path)| (*content, path))
            .unzip();
        let Completeness { store, domain, .. } = self.check;
        let found = Handle::current().block_on(store.blob_ids(domain, &contents));
        let found = found.context("finding out what git calls the contents")?;
        let wrong =
            contents.iter().zip(paths).zip(found).find(|((content, _), found)| content.blob != *found);
        if let Some(((content, path), found)) = wrong {
            self.fault = Some(format!("the content of {path} is {found} to git, not {}", content.blob));
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Verdict> {
        self.flush()?;
        Ok(self.fault.map_or(Ok(()), Err))
    }
}

fn chain(error: &anyhow::Error) -> String {
    format!("{error:#}")
}
