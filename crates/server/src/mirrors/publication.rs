//! Publishing what came from upstream when it was asked for, so that it is signed and hosts can follow it.
//!
//! Only what the tree of the channel has not yet is laid out in a directory, and published from there as `publish-local`
//! does it: whatever looks at a tree of its kind looks at this one too.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use smart_sync_store::count::counted;
use smart_sync_store::manifest::TreePath;
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::kinds::Before as _;
use smart_sync_sync::name::{Channel, RefName};
use smart_sync_sync::publish::Target;
use tokio::runtime::Handle;

use super::kept::Kept;
use super::kept_of;
use super::mirror::{Mirror, NamesFrom};
use super::round::{MAIN, Order};
use crate::publishing::{Input, publish as publish_directory};
use crate::realm::Realm;
use crate::realm::before::StoredTree;

/// Publishes what came, and says whether there was something. On a thread of the runtime that may block.
pub(super) fn publish(
    realm: &Arc<Realm>,
    mirror: &Mirror,
    key: &Path,
    order: &Order,
) -> anyhow::Result<bool> {
    let channel = &mirror.channel;
    let directory = realm.data.cache().join(format!("mirror-{}", channel.to_url_segment()));
    let new = not_published(realm, channel)?;
    if new.is_empty() {
        order.say(format!("{channel} has all that came from upstream"))?;
        return Ok(false);
    }
    let files = counted(new.len() as u64, "file", "files");
    let are = if new.len() == 1 { "is" } else { "are" };
    order.say(format!("{files} came from upstream and {are} not published yet"))?;
    remove(&directory)?;
    fs::create_dir(&directory).with_context(|| format!("making {}", directory.display()))?;
    let published = lay_out(realm, channel, &new, &directory).and_then(|()| {
        let key = SecretKey::load(key, &mut || None)?;
        let target = Target {
            origin: realm.origin.clone(),
            channel: channel.clone(),
            reference: RefName::branch(MAIN)?,
            kind: mirror.kind.name().parse()?,
        };
        // Whatever upstream calls a file, it is one that is meant.
        let source = |kept: &Kept| Some((TreePath::new(kept.name.as_bytes()).ok()?, kept.source.clone()));
        let sources = new.iter().filter_map(source).collect();
        let kept_by = match &mirror.names {
            NamesFrom::Channel(channel) => vec![channel.clone()],
            NamesFrom::Directory(_) => Vec::new(),
        };
        let input = Input { kept_by, sources, ..Input::directory(&directory, Exclusions::none()) };
        publish_directory(realm, &input, &target, &key, &|line| order.say(line))
    });
    remove(&directory)?;
    published.map(|()| true)
}

/// The newest file of each name that the tree of the channel has not. What it has by that name stays.
fn not_published(realm: &Arc<Realm>, channel: &Channel) -> anyhow::Result<Vec<Kept>> {
    let published = published_files(realm, channel)?;
    let mut new: Vec<Kept> = kept_of(&realm.data, channel)?;
    new.retain(|kept| {
        TreePath::new(kept.name.as_bytes()).is_ok_and(|path| !published.contains_key(path.as_bytes()))
    });
    new.sort_by(|one, other| (&one.name, other.time).cmp(&(&other.name, one.time)));
    new.dedup_by(|later, first| later.name == first.name);
    Ok(new)
}

/// The sizes of the files that are published, by their paths. On a thread of the runtime that may block.
pub(super) fn published_files(
    realm: &Arc<Realm>,
    channel: &Channel,
) -> anyhow::Result<BTreeMap<Vec<u8>, u64>> {
    let view = realm.newest_view()?;
    let newest = realm.newest(&view, channel, &RefName::branch(MAIN)?)?;
    let Some(manifest) = newest.and_then(|newest| newest.publication.manifest) else {
        return Ok(BTreeMap::new());
    };
    let files = StoredTree { realm, domain: realm.domain(channel)?, manifest: manifest.id }.files()?;
    Ok(files.into_iter().map(|(path, content)| (path.as_bytes().to_vec(), content.size)).collect())
}

/// Writes files of the store into a directory.
fn lay_out(realm: &Arc<Realm>, channel: &Channel, files: &[Kept], directory: &Path) -> anyhow::Result<()> {
    let domain = realm.domain(channel)?;
    for Kept { name, content, .. } in files {
        let writing = || format!("laying out {name}");
        let mut file = File::create_new(directory.join(name)).with_context(writing)?;
        let mut pieces = Box::pin(realm.store.read_content(&domain, *content, 0..content.size));
        while let Some(piece) = Handle::current().block_on(pieces.try_next()).with_context(writing)? {
            file.write_all(&piece).with_context(writing)?;
        }
    }
    Ok(())
}

/// Removes what a run has laid out, one that was killed included.
fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}
