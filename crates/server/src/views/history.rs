//! What was published to a channel since a view was last made of it.

use std::sync::Arc;

use smart_sync_store::domain::Domain;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Fidelity, Manifest};
use smart_sync_store::object::ObjectKey;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::{Channel, RefName};
use smart_sync_sync::record::Publication;

use crate::realm::Realm;
use crate::realm::pages::StorePages;
use crate::realm::view::View;

/// The branch that is shown: the one that plain URLs have too.
const BRANCH: &str = "main";

/// A tree that was published.
#[derive(Debug, Clone)]
pub(super) struct Version {
    /// Its leaf in the log.
    pub(super) leaf: LogHash,
    /// The tree.
    pub(super) manifest: ManifestId,
    /// What was published.
    pub(super) publication: Publication,
}

/// The newest versions of a channel, oldest first.
#[derive(Debug)]
pub(super) struct History {
    /// Where its objects are.
    pub(super) domain: Domain,
    /// The version that is known, if those below follow it without a gap.
    pub(super) known: Option<Version>,
    /// Versions that came after that, of which the store has everything; never empty without `known`.
    pub(super) new: Vec<Version>,
}

/// What came to a channel after a version that is known, at most `count` versions; none where the channel has no tree.
///
/// A version is left out, with all before it, when the store does not have its tree any more, or when the branch was
/// withdrawn after it. One that keeps more than git is left out when it is not the newest.
pub(super) fn history(
    realm: &Realm,
    view: &View,
    channel: &Channel,
    count: u64,
    is_known: impl Fn(&Version) -> bool,
) -> anyhow::Result<Option<History>> {
    let Some(key) = realm.head_key(channel, &RefName::branch(BRANCH)?)? else { return Ok(None) };
    let domain = realm.domain(channel)?;
    let leaves = realm.index().history(&key, None, count, view.size)?;
    let mut history = History { domain, known: None, new: Vec::new() };
    for (_, leaf) in leaves {
        let published = realm.published(leaf, view.size)?;
        let Some(manifest) = published.publication.manifest else { break };
        let version =
            Version { leaf: published.leaf, manifest: manifest.id, publication: published.publication };
        if is_known(&version) {
            history.known = Some(version);
            break;
        }
        if !has_tree(realm, &history.domain, version.manifest)? {
            break;
        }
        // One that cannot be shown is passed over once another has come; until then, whoever shows it says so.
        if history.new.is_empty() || is_of_git(realm, &history.domain, version.manifest)? {
            history.new.push(version);
        }
    }
    history.new.reverse();
    Ok((history.known.is_some() || !history.new.is_empty()).then_some(history))
}

/// Whether a tree keeps what git keeps, and neither owners nor times.
fn is_of_git(realm: &Realm, domain: &Domain, manifest: ManifestId) -> anyhow::Result<bool> {
    let pages = StorePages::new(Arc::clone(&realm.store), domain.clone());
    Ok(Manifest::open(pages, manifest, None)?.fidelity() == Fidelity::Git)
}

/// Whether the store has a tree; garbage is collected by whole trees.
pub(super) fn has_tree(realm: &Realm, domain: &Domain, manifest: ManifestId) -> anyhow::Result<bool> {
    Ok(realm.store.locate(domain, &[ObjectKey::page(manifest.root_page())])?.iter().all(Option::is_some))
}
