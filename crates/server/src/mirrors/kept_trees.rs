//! What the files of kept trees are called: those that a host may ask for that is at any version which is kept.
//!
//! Names are taken from every kept version of every ref, and read leniently. A name too many keeps a file for longer than
//! it had to be; one too few would delete what somebody needs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_store::manifest::{Content, Manifest};
use smart_sync_sync::kinds::pull::PullThrough;
use smart_sync_sync::name::Channel;

use super::learn::{Published, Tree as _};
use crate::realm::Realm;
use crate::realm::pages::StorePages;
use crate::retention::{Retention, Typed};

/// The most names that are looked for.
const NAMES_MAX: usize = 10_000_000;

/// The names of the files that kept versions of the trees of a channel name. On a thread of the runtime that may block.
pub(crate) fn names_in_kept(
    realm: &Arc<Realm>,
    channel: &Channel,
    pull: &dyn PullThrough,
) -> anyhow::Result<BTreeSet<String>> {
    let domain = realm.domain(channel)?;
    let (mut lists, mut names) = (HashMap::<ContentId, Content>::new(), BTreeSet::new());
    let mut trees = Vec::new();
    for manifest in kept_manifests(realm, channel)? {
        let pages = StorePages::new(Arc::clone(&realm.store), domain.clone());
        let tree = Manifest::open(pages, manifest, None)?;
        let tree = Published { realm, domain: domain.clone(), tree };
        let found = tree.lists(pull).with_context(|| format!("reading a kept tree of {channel}"))?;
        lists.extend(found.into_iter().map(|listed| (listed.list.id, listed.list)));
        trees.push(tree);
    }
    let tree = trees
        .first()
        .with_context(|| format!("{channel} holds no tree, so that nobody can say which files are needed"))?;
    for list in lists.values() {
        let reading = || format!("reading what a kept tree of {channel} names");
        names.extend(pull.names_in_list(&tree.read(list, pull.list_bytes_max()).with_context(reading)?));
        ensure!(names.len() <= NAMES_MAX, "{channel} names more than {NAMES_MAX} files");
    }
    Ok(names)
}

/// The trees of the versions that are kept, each once.
fn kept_manifests(realm: &Arc<Realm>, channel: &Channel) -> anyhow::Result<HashSet<ManifestId>> {
    let retention = Retention::new(&realm.config.retention, Typed::default())?;
    let view = realm.newest_view()?;
    let mut manifests = HashSet::new();
    for state in realm.refs(&view)?.of_channel(channel) {
        let kept = realm.kept(&view, state, retention.of(channel))?;
        manifests.extend(kept.iter().filter_map(|kept| kept.manifest).map(|manifest| manifest.id));
    }
    Ok(manifests)
}
