//! One time through what was published.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use smart_sync_store::catalogue::Timestamp;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::{Change, Content, Manifest, diff};
use smart_sync_store::{Apart, Store};
use smart_sync_sync::bundle::pairing::{Candidate, Pairing};
use smart_sync_sync::confined::Confined;
use tokio::runtime::Handle;

use super::choose::{Choice, Offer, choose};
use crate::CONFINED;
use crate::config::SeeThroughConfig;
use crate::realm::Realm;
use crate::realm::pages::StorePages;
use crate::realm::refs::RefState;
use crate::realm::view::View;

/// Artifacts with fewer bytes are left as they are: what they are rebuilt from has names and places too.
const SIZE_MIN: u64 = 4096;
/// Artifacts with names that are alike, of which one after the other is asked about.
const RELATIVES_MAX: usize = 32;
/// Versions of a ref of which one is looked for that was gone through.
const VERSIONS_MAX: u64 = 16;
/// Contents that are asked about at once.
const BATCH: usize = 4096;

/// What became of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing in it can be seen through and rebuilt.
    Opaque,
    /// A rebuild would take too long.
    TooSlow,
    /// It would take as much room as it does.
    NoGain,
    /// It is stored taken apart.
    Apart,
}

/// Told of each artifact that was looked at.
pub(crate) type Progress<'a> = dyn FnMut(&[u8], &Content, Outcome) + 'a;

/// Goes through what was published. What was gone through is noted in the catalogue, and passed over from then on.
pub(crate) struct Rounds {
    realm: Arc<Realm>,
    config: SeeThroughConfig,
    /// Artifacts come from publishers: what finds out how they were made runs in a process of its own.
    dissector: Confined,
}

/// An artifact at a path.
struct Artifact {
    path: Vec<u8>,
    content: Content,
}

impl Rounds {
    /// Those of a realm.
    pub(crate) fn new(realm: Arc<Realm>) -> anyhow::Result<Self> {
        let config = realm.config.see_through.clone();
        let spool = realm.data.spool();
        std::fs::create_dir_all(&spool).with_context(|| format!("making {}", spool.display()))?;
        let dissector = Confined::this_program(CONFINED).in_directory(&spool);
        Ok(Self { realm, config, dissector })
    }

    /// Goes through what each ref is now. Called on a thread of a runtime that may block; ends early when it is stopped.
    pub(crate) fn go(
        &self,
        view: &View,
        now: impl Fn() -> Timestamp,
        is_stopped: &AtomicBool,
        progress: &mut Progress<'_>,
    ) -> anyhow::Result<()> {
        for state in self.realm.refs(view)?.iter() {
            let publication = &state.publication;
            let Some(manifest) = publication.manifest else { continue };
            let name = format!("{} {}", publication.channel, publication.reference);
            let domain = self.realm.domain(&publication.channel)?;
            if self.is_done(&domain, manifest.id)? {
                continue;
            }
            let before = self.before(view, state, &domain)?;
            let tree = Tree {
                store: &self.realm.store,
                domain: &domain,
                config: &self.config,
                dissector: &self.dissector,
                is_stopped,
            };
            tree.go(before, manifest.id, &now, progress).with_context(|| format!("looking at {name}"))?;
            if is_stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_done(&self, domain: &Domain, manifest: ManifestId) -> anyhow::Result<bool> {
        Ok(self.realm.store.catalogue().looked_at(domain, &[manifest.root_page()])?.contains(&true))
    }

    /// The version before the newest one of a ref, if that was gone through: only what has changed since is looked at.
    fn before(&self, view: &View, state: &RefState, domain: &Domain) -> anyhow::Result<Option<ManifestId>> {
        let leaves = self.realm.index().history(&state.head.key, None, VERSIONS_MAX, view.size)?;
        for (_, leaf) in leaves.into_iter().skip(1) {
            if let Some(manifest) = self.realm.published(leaf, view.size)?.publication.manifest
                && self.is_done(domain, manifest.id)?
            {
                return Ok(Some(manifest.id));
            }
        }
        Ok(None)
    }
}

/// A tree that is gone through.
struct Tree<'a> {
    store: &'a Arc<Store>,
    domain: &'a Domain,
    config: &'a SeeThroughConfig,
    dissector: &'a Confined,
    is_stopped: &'a AtomicBool,
}

impl Tree<'_> {
    fn go(
        &self,
        before: Option<ManifestId>,
        id: ManifestId,
        now: &impl Fn() -> Timestamp,
        progress: &mut Progress<'_>,
    ) -> anyhow::Result<()> {
        let pages = StorePages::new(Arc::clone(self.store), self.domain.clone());
        let tree = Manifest::open(pages.clone(), id, None)?;
        let (mut new, mut old) = (Vec::new(), Vec::new());
        let mut batch = Vec::new();
        let before = before.and_then(|before| Manifest::open(pages, before, None).ok());
        match before.filter(|before| before.fidelity() == tree.fidelity()) {
            Some(before) => {
                for change in diff(&before, &tree) {
                    match change? {
                        Change::Added(entry) => {
                            self.collect(entry.path.as_bytes(), entry.content(), &mut batch);
                        }
                        Change::Changed { old: was, new: is } => {
                            self.collect(was.path.as_bytes(), was.content(), &mut old);
                            self.collect(is.path.as_bytes(), is.content(), &mut batch);
                        }
                        Change::Removed(entry) => {
                            self.collect(entry.path.as_bytes(), entry.content(), &mut old);
                        }
                    }
                    self.sift(&mut batch, BATCH, &mut new)?;
                }
            }
            None => {
                for entry in &tree {
                    let entry = entry?;
                    self.collect(entry.path.as_bytes(), entry.content(), &mut batch);
                    self.sift(&mut batch, BATCH, &mut new)?;
                }
            }
        }
        self.sift(&mut batch, 1, &mut new)?;
        let mut relatives = Relatives { tree: self, manifest: &tree, old, all: None };
        for artifact in new {
            if self.is_stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            let outcome = self.decide(&artifact, &mut relatives, now())?;
            progress(&artifact.path, &artifact.content, outcome);
            self.store.catalogue().note_looked_at(self.domain, &[artifact.content.id.as_chunk()])?;
        }
        // Who was stopped has not seen all of it.
        if self.is_stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        Ok(self.store.catalogue().note_looked_at(self.domain, &[id.root_page()])?)
    }

    fn collect(&self, path: &[u8], content: Option<&Content>, into: &mut Vec<Artifact>) {
        let sizes = SIZE_MIN..=self.config.size_max_mib.saturating_mul(1 << 20);
        if let Some(content) = content.filter(|content| sizes.contains(&content.size)) {
            into.push(Artifact { path: path.to_vec(), content: *content });
        }
    }

    /// Of what has come together, when it is enough, passes on what was not looked at before and begins like an artifact.
    fn sift(&self, batch: &mut Vec<Artifact>, enough: usize, into: &mut Vec<Artifact>) -> anyhow::Result<()> {
        if batch.len() < enough || self.is_stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let ids: Vec<_> = batch.iter().map(|artifact| artifact.content.id.as_chunk()).collect();
        let looked_at = self.store.catalogue().looked_at(self.domain, &ids)?;
        let mut seen = HashSet::new();
        for (artifact, is_known) in batch.drain(..).zip(looked_at) {
            if is_known || !seen.insert(artifact.content.id) {
                continue;
            }
            let asking = self.store.could_be_apart(self.domain, &artifact.content, self.rebuild_max());
            if Handle::current().block_on(asking)? {
                into.push(artifact);
            }
        }
        Ok(())
    }

    fn rebuild_max(&self) -> Duration {
        Duration::from_secs(self.config.rebuild_seconds)
    }

    fn take_apart(&self, content: &Content) -> anyhow::Result<Option<Apart>> {
        Ok(Handle::current().block_on(self.store.take_apart(self.domain, content, self.dissector))?)
    }

    fn choose(&self, aparts: &[Apart]) -> anyhow::Result<Choice> {
        let offer = Offer {
            originals: aparts.iter().map(|apart| apart.content().size).sum(),
            parts: self.store.weigh(self.domain, aparts)?,
            rebuild: aparts.iter().map(Apart::rebuild_time).max().unwrap_or_default(),
        };
        Ok(choose(offer, self.rebuild_max()))
    }

    fn decide(
        &self,
        artifact: &Artifact,
        relatives: &mut Relatives<'_>,
        now: Timestamp,
    ) -> anyhow::Result<Outcome> {
        let Some(apart) = self.take_apart(&artifact.content)? else { return Ok(Outcome::Opaque) };
        let mut aparts = vec![apart];
        let mut asked = HashSet::from([artifact.content.id]);
        match self.choose(&aparts)? {
            Choice::TooSlow => return Ok(Outcome::TooSlow),
            Choice::NoGain => {
                // The first version of anything gains little. Two that share most of what is in them gain much.
                let Some(other) = relatives.next(artifact, &mut asked)? else { return Ok(Outcome::NoGain) };
                aparts.push(other);
                if self.choose(&aparts)? != Choice::Apart {
                    return Ok(Outcome::NoGain);
                }
            }
            Choice::Apart => {}
        }
        for apart in &aparts {
            self.keep(apart, now)?;
        }
        // Others that gained nothing alone may do so now.
        while !self.is_stopped.load(Ordering::Relaxed)
            && let Some(other) = relatives.next(artifact, &mut asked)?
            && self.choose(std::slice::from_ref(&other))? == Choice::Apart
        {
            self.keep(&other, now)?;
        }
        Ok(Outcome::Apart)
    }

    fn keep(&self, apart: &Apart, now: Timestamp) -> anyhow::Result<()> {
        let keeping = self.store.keep_apart(self.domain, apart, self.config.keep_originals, now);
        Ok(Handle::current().block_on(keeping)?)
    }
}

/// Where versions of an artifact are looked for.
struct Relatives<'a> {
    tree: &'a Tree<'a>,
    manifest: &'a Manifest<StorePages>,
    /// What the tree had before and has no more.
    old: Vec<Artifact>,
    /// All that it has: versions may lie side by side.
    all: Option<Vec<Artifact>>,
}

impl Relatives<'_> {
    /// The next artifact that is likely to be another version of this one, taken apart, of those that are stored as they
    /// came. None is asked about twice.
    fn next(&mut self, artifact: &Artifact, asked: &mut HashSet<ContentId>) -> anyhow::Result<Option<Apart>> {
        if let Some(found) = self.tree.relative(artifact, &self.old, asked)? {
            return Ok(Some(found));
        }
        if self.all.is_none() {
            let mut all = Vec::new();
            for entry in self.manifest {
                let entry = entry?;
                self.tree.collect(entry.path.as_bytes(), entry.content(), &mut all);
            }
            self.all = Some(all);
        }
        self.tree.relative(artifact, self.all.as_deref().unwrap_or_default(), asked)
    }
}

impl Tree<'_> {
    fn relative(
        &self,
        artifact: &Artifact,
        among: &[Artifact],
        asked: &mut HashSet<ContentId>,
    ) -> anyhow::Result<Option<Apart>> {
        for _ in 0..RELATIVES_MAX {
            let others: Vec<_> = among.iter().filter(|other| !asked.contains(&other.content.id)).collect();
            let candidates = others
                .iter()
                .map(|other| Candidate { path: &other.path, size: other.content.size })
                .collect();
            let found = Pairing::new(candidates).find(&artifact.path, artifact.content.size);
            let Some(other) = found.and_then(|index| others.get(index)) else { return Ok(None) };
            asked.insert(other.content.id);
            let asking = self.store.could_be_apart(self.domain, &other.content, self.rebuild_max());
            if Handle::current().block_on(asking)?
                && let Some(apart) = self.take_apart(&other.content)?
            {
                return Ok(Some(apart));
            }
        }
        Ok(None)
    }
}
