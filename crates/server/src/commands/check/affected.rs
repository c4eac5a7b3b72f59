//! What cannot be read of the trees that refs are now.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use smart_sync_store::check::affected_contents;
use smart_sync_store::domain::Domain;
use smart_sync_store::error::Fault;
use smart_sync_store::manifest::{Content, Manifest, TreePath};
use smart_sync_store::object::ObjectKey;
use smart_sync_sync::name::{Channel, RefName};

use super::chain;
use crate::http::now;
use crate::realm::pages::StorePages;
use crate::realm::{Realm, timestamp};

/// Something that cannot be read.
#[derive(Debug)]
pub(super) struct Affected {
    channel: Channel,
    reference: RefName,
    part: Part,
}

/// What of a tree it is.
#[derive(Debug)]
enum Part {
    /// One path.
    Path(TreePath),
    /// Everything, or everything from some place on, and why.
    Many(&'static str, String),
}

impl fmt::Display for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.channel, self.reference)?;
        match &self.part {
            Part::Path(path) => write!(f, "{path}"),
            Part::Many(what, reason) => write!(f, "{what} ({reason})"),
        }
    }
}

impl Affected {
    pub(super) fn to_json(&self) -> Value {
        let mut event = json!({
            "event": "affected", "channel": self.channel.as_str(), "ref": self.reference.to_string(),
        });
        match &self.part {
            Part::Path(path) => event["path"] = json!(path.to_string()),
            Part::Many(what, reason) => {
                event["part"] = json!(what);
                event["reason"] = json!(reason);
            }
        }
        event
    }
}

/// The channels, refs and paths that cannot be read: because these objects are lost, or because the store knows
/// nothing of what they need, as after a pack went and the catalogue was made anew. On a thread that may block.
pub(super) fn affected(
    realm: &Realm,
    lost: &BTreeMap<Domain, BTreeSet<ObjectKey>>,
) -> anyhow::Result<Vec<Affected>> {
    let view = realm.newest_view()?;
    let mut found = Vec::new();
    let mut looked_at = HashSet::new();
    let nothing = BTreeSet::new();
    for state in realm.refs(&view)?.iter() {
        let (channel, reference) = (&state.publication.channel, &state.publication.reference);
        let domain = realm.domain(channel)?;
        let lost = lost.get(&domain).unwrap_or(&nothing);
        let Some(manifest) = state.publication.manifest else { continue };
        if !looked_at.insert((domain.as_str().to_owned(), manifest.id)) {
            continue; // Another ref is the same tree.
        }
        let pages = StorePages::new(Arc::clone(&realm.store), domain.clone());
        let mut tree = Tree { realm, domain, lost, parts: Vec::new() };
        match Manifest::open(pages, manifest.id, Some(manifest.bytes)) {
            Ok(manifest) => tree.look_at(&manifest)?,
            Err(error) => tree.parts.push(Part::Many("the whole tree", chain(&error))),
        }
        let of_ref = |part| Affected { channel: channel.clone(), reference: reference.clone(), part };
        found.extend(tree.parts.into_iter().map(of_ref));
    }
    Ok(found)
}

struct Tree<'a> {
    realm: &'a Realm,
    domain: Domain,
    lost: &'a BTreeSet<ObjectKey>,
    parts: Vec<Part>,
}

impl Tree<'_> {
    fn look_at(&mut self, manifest: &Manifest<StorePages>) -> anyhow::Result<()> {
        /// Entries that are looked at together.
        const BATCH: usize = 1024;
        let mut batch = Vec::new();
        for entry in manifest {
            match entry {
                Ok(entry) => batch.extend(entry.content().map(|content| (*content, entry.path.clone()))),
                Err(error) => {
                    self.flush(&mut batch)?;
                    self.parts.push(Part::Many("the rest of the tree", chain(&error)));
                    return Ok(());
                }
            }
            if batch.len() >= BATCH {
                self.flush(&mut batch)?;
            }
        }
        self.flush(&mut batch)
    }

    fn flush(&mut self, batch: &mut Vec<(Content, TreePath)>) -> anyhow::Result<()> {
        let contents: Vec<Content> = batch.iter().map(|(content, _)| *content).collect();
        let affected = affected_contents(&self.realm.store, &self.domain, self.lost, &contents);
        let affected = tokio::runtime::Handle::current().block_on(affected)?;
        let mut affected: HashSet<_> = affected.into_iter().map(|affected| affected.content.id).collect();
        for content in contents {
            if !affected.contains(&content.id) && self.is_missing(content)? {
                affected.insert(content.id);
            }
        }
        let paths = batch.drain(..).filter(|(content, _)| affected.contains(&content.id));
        self.parts.extend(paths.map(|(_, path)| Part::Path(path)));
        Ok(())
    }

    /// Whether a content cannot be read, or turns out wrong when it is.
    fn is_missing(&self, content: Content) -> anyhow::Result<bool> {
        let contents = [content];
        let missing = self.realm.store.missing_contents(&self.domain, &contents, timestamp(now()));
        match tokio::runtime::Handle::current().block_on(missing) {
            Ok(missing) => Ok(!missing.is_empty()),
            Err(error) if matches!(error.fault(), Fault::Absent | Fault::Corrupt) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
