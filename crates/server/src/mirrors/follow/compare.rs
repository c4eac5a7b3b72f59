//! Which of the files that an upstream has are published already.
//!
//! What was found out once holds as long as the demand and the published content are the same; else the content is read
//! and compared. An upstream is asked for nothing that is here.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use bytes::Bytes;
use futures::TryStreamExt as _;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::{Content, TreePath};
use smart_sync_sync::kinds::Before as _;
use smart_sync_sync::name::RefName;
use tokio::runtime::Handle;

use super::super::round::MAIN;
use super::look::Offering;
use super::must::{Judge, Must};
use super::round::Round;
use super::state::{self, Demand};
use crate::realm::before::StoredTree;

/// The tree that is published.
pub(super) struct Published {
    pub(super) manifest: Option<ManifestId>,
    pub(super) files: BTreeMap<TreePath, Content>,
    domain: Domain,
}

/// What is to be done with a file that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Has {
    /// It is published already.
    Content(Content),
    /// The kind has left it out before, or it is of a version that is published.
    LeftOut,
    /// It has to come.
    Nothing,
}

#[cfg(test)]
impl Published {
    /// A tree with these files.
    pub(super) fn of(files: BTreeMap<TreePath, Content>) -> Self {
        Self { manifest: None, files, domain: Domain::public() }
    }
}

impl Round<'_> {
    /// The tree that is published now. On a thread that may block.
    pub(super) fn published(&self) -> anyhow::Result<Published> {
        let realm = self.realm();
        let channel = &self.followed.channel;
        let view = realm.newest_view()?;
        let newest = realm.newest(&view, channel, &RefName::branch(MAIN)?)?;
        let manifest = newest.and_then(|newest| newest.publication.manifest).map(|manifest| manifest.id);
        let domain = realm.domain(channel)?;
        let files = match manifest {
            Some(manifest) => StoredTree { realm, domain: domain.clone(), manifest }.files()?,
            None => BTreeMap::new(),
        };
        Ok(Published { manifest, files, domain })
    }

    /// Which of the files are here. On a thread that may block.
    pub(super) fn compare(&self, offering: &Offering, published: &Published) -> anyhow::Result<Vec<Has>> {
        if let Some(of) = &self.followed.versions {
            return Ok(of.compare(offering, published));
        }
        let known = state::files(&self.mirrors.db(), &self.followed.name)?;
        offering
            .files
            .iter()
            .map(|(path, offered)| self.compare_one(path, &offered.must, published, &known))
            .collect()
    }

    fn compare_one(
        &self,
        path: &TreePath,
        must: &Must,
        published: &Published,
        known: &HashMap<Vec<u8>, Demand>,
    ) -> anyhow::Result<Has> {
        let content = published.files.get(path);
        match (known.get(path.as_bytes()).filter(|(key, _)| *key == must.key()), content) {
            (Some((_, None)), None) => return Ok(Has::LeftOut),
            (Some((_, Some(id))), Some(content)) if content.id == *id => return Ok(Has::Content(*content)),
            _ => {}
        }
        let Some(content) = content.filter(|content| must.has_size(content.size)) else {
            return Ok(Has::Nothing);
        };
        let is_it = match must {
            Must::Read(bytes) => ContentId::of(bytes) == content.id,
            Must::Come { sums, .. } if sums.is_empty() => true,
            Must::Come { .. } => self.is_stored(*content, must, &published.domain)?,
        };
        Ok(if is_it { Has::Content(*content) } else { Has::Nothing })
    }

    /// Whether a content of the store is what a file has to be.
    fn is_stored(&self, content: Content, must: &Must, domain: &Domain) -> anyhow::Result<bool> {
        let mut judge = Judge::new(must);
        let mut pieces = Box::pin(self.realm().store.read_content(domain, content, 0..content.size));
        let reading = || format!("comparing what {} has", self.followed.channel);
        while let Some(piece) = Handle::current().block_on(pieces.try_next()).with_context(reading)? {
            let piece: Bytes = piece;
            judge.take(&piece);
        }
        Ok(judge.verdict())
    }
}
