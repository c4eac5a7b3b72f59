//! `mirror sync`: publishes what came from upstream, so that it is signed and hosts can follow it.
//!
//! Only what the tree of the channel has not yet is laid out in a directory, and published from there as `publish-local`
//! does it: whatever looks at a tree of its kind looks at this one too.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use smart_sync_store::count::counted;
use smart_sync_store::manifest::TreePath;
use smart_sync_sync::kinds::Before as _;
use smart_sync_sync::name::{Channel, RefName};
use tokio::runtime::Handle;

use super::super::publish_local::{self, key_of, target_of};
use super::super::{Failure, print};
use crate::args::{MirrorSyncArgs, PublishLocalArgs};
use crate::config::MirrorConfig;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::mirrors::{Kept, kept_of};
use crate::realm::Realm;
use crate::realm::before::StoredTree;

/// The branch that a mirror is.
const MAIN: &str = "main";

pub(super) async fn run(args: MirrorSyncArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    realm.peers.ask(realm.newest_view()?.root.record()).await;
    let mirror = realm.config.mirrors.iter().find(|mirror| mirror.name == args.name);
    let mirror = mirror.cloned().ok_or_else(|| {
        Failure::Arguments(format!("there is no [[mirror]] {:?} in server.toml", args.name))
    })?;
    tokio::task::spawn_blocking(move || sync(&realm, &mirror, args)).await?
}

fn sync(realm: &Arc<Realm>, mirror: &MirrorConfig, args: MirrorSyncArgs) -> anyhow::Result<()> {
    let channel: Channel = mirror.channel.parse()?;
    let directory = realm.data.cache().join(format!("mirror-{}", channel.to_url_segment()));
    let lock = realm.data.cache().join(format!("mirror-{}.lock", channel.to_url_segment()));
    fs::create_dir_all(realm.data.cache()).context("making the directory of caches")?;
    let lock = File::create(&lock).with_context(|| format!("opening {}", lock.display()))?;
    lock.lock().context("waiting for another run of the same")?;
    let new = not_published(realm, &channel)?;
    if new.is_empty() {
        return print(format_args!("{channel} has all that came from upstream"));
    }
    let files = counted(new.len() as u64, "file", "files");
    print(format_args!(
        "{files} came from upstream and {} not published yet",
        if new.len() == 1 { "is" } else { "are" }
    ))?;
    remove(&directory)?;
    fs::create_dir(&directory).with_context(|| format!("making {}", directory.display()))?;
    let published = lay_out(realm, &channel, &new, &directory).and_then(|()| {
        let args = PublishLocalArgs {
            data: args.data,
            channel: mirror.channel.clone(),
            reference: format!("branch:{MAIN}"),
            kind: mirror.kind.clone(),
            key: args.key.or_else(|| mirror.key.clone()),
            git: None,
            system: false,
            // Whatever upstream calls a file, it is one that is meant.
            exclude: vec![String::new()],
            verify_against: None,
            replace: false,
            source: directory.clone(),
        };
        publish_local::publish(realm, &args, &target_of(realm, &args)?, &key_of(realm, &args)?)
    });
    remove(&directory)?;
    published
}

/// The newest file of each name that the tree of the channel has not. What it has by that name stays.
fn not_published(realm: &Arc<Realm>, channel: &Channel) -> anyhow::Result<Vec<Kept>> {
    let view = realm.newest_view()?;
    let newest = realm.newest(&view, channel, &RefName::branch(MAIN)?)?;
    let published = match newest.and_then(|newest| newest.publication.manifest) {
        Some(manifest) => {
            StoredTree { realm, domain: realm.domain(channel)?, manifest: manifest.id }.files()?
        }
        None => std::collections::BTreeMap::new(),
    };
    let mut new: Vec<Kept> = kept_of(&realm.data, channel)?;
    new.retain(|kept| TreePath::new(kept.name.as_bytes()).is_ok_and(|path| !published.contains_key(&path)));
    new.sort_by(|one, other| (&one.name, other.time).cmp(&(&other.name, one.time)));
    new.dedup_by(|later, first| later.name == first.name);
    Ok(new)
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
