//! `import-backend`: takes over a backend of the older kind, each directory of it as a channel.
//!
//! It is shown what would be published, and published with `--yes`. What is there already is not published again, so a
//! run that was interrupted is run once more. A channel that cannot be published does not keep the others from it.

mod act;
mod say;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use smart_sync_store::manifest::{Fidelity, FileTime};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::key::{SecretKey, Signer as _};
use smart_sync_sync::openpgp::KeyRing;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};
use smart_sync_sync::source::listed::ListedSource;

use super::{Failure, key_ring, print};
use crate::args::ImportBackendArgs;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::import::plan::{Made, Plan, Planned};
use crate::import::scan::{self, Found};
use crate::realm::Realm;

pub(super) async fn run(args: ImportBackendArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    realm.peers.ask(realm.newest_view()?.root.record()).await;
    let path = args.key.clone().unwrap_or_else(|| realm.data.keys().join("publish.key"));
    let key = SecretKey::load(&path, &mut || None)?;
    let key_ring = key_ring(&args.keyrings)?;
    tokio::task::spawn_blocking(move || import(&realm, &args, &key, key_ring.as_ref())).await?
}

fn import(
    realm: &Arc<Realm>,
    args: &ImportBackendArgs,
    key: &SecretKey,
    key_ring: Option<&KeyRing>,
) -> anyhow::Result<()> {
    let backend =
        args.backend.canonicalize().with_context(|| format!("opening {}", args.backend.display()))?;
    let prefix = match &args.channel_prefix {
        Some(prefix) => format!("{}/", prefix.trim_end_matches('/')),
        None => String::new(),
    };
    let plan = Plan::of(&backend, &prefix)?;
    if plan.channels.is_empty() {
        let text = format!("{} holds nothing that a backend consists of", backend.display());
        return Err(Failure::Arguments(text).into());
    }
    if args.yes {
        check_key(realm, &plan, key)?;
    }
    if key_ring.is_none() {
        say::not_judged(&plan)?;
    }
    let failed = if args.yes {
        act::publish(&Import { realm, backend: &backend, key, key_ring }, &plan)?
    } else {
        for planned in &plan.channels {
            say::planned(planned, &look(&backend, planned)?)?;
        }
        Vec::new()
    };
    act::configure_mirrors(realm, args, &prefix, &plan)?;
    say::hosts(&plan)?;
    say::not_taken(&plan)?;
    if !args.yes {
        print(format_args!("nothing was changed; add --yes to do it"))?;
        // What is in the way is worth knowing before that.
        return check_key(realm, &plan, key);
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(Failure::Damaged(format!("not published: {}", failed.join(", "))).into()),
    }
}

/// What is the same for all channels.
struct Import<'a> {
    realm: &'a Arc<Realm>,
    backend: &'a Path,
    key: &'a SecretKey,
    /// The keys that have to have signed what is signed elsewhere.
    key_ring: Option<&'a KeyRing>,
}

/// Refuses a key that may not publish to one of the channels, before anything is published.
fn check_key(realm: &Realm, plan: &Plan, key: &SecretKey) -> anyhow::Result<()> {
    let view = realm.newest_view()?;
    let may = |planned: &&Planned| {
        let role = view.root.record().publishers(&planned.channel);
        role.is_some_and(|role| role.keys.iter().any(|known| known.public_key() == key.public_key()))
    };
    let refused: Vec<&str> = plan
        .channels
        .iter()
        .filter(|planned| !may(planned))
        .map(|planned| planned.channel.as_str())
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "the key may not publish to {}\nhint: name another key with --key, or have the root document changed: \
         `smart-sync root edit`",
        refused.join(", ")
    ))
    .into())
}

/// What a directory holds, and what of it is not taken over.
#[derive(Debug, Default)]
struct Looked {
    files: u64,
    bytes: u64,
    left_out: Vec<String>,
    found: Vec<Found>,
}

fn look(backend: &Path, planned: &Planned) -> anyhow::Result<Looked> {
    let Made::Directory(rule) = planned.made else { return Ok(Looked::default()) };
    let options = DirectoryOptions {
        fidelity: Fidelity::Git,
        exclusions: Exclusions::none(),
        now: FileTime { seconds: 0, nanoseconds: 0 },
    };
    let mut source = DirectorySource::open(&backend.join(&planned.place), options, ContentCache::default())?;
    let mut listed = ListedSource::read(&mut source)?;
    let found = scan::look(listed.listing(), rule)?;
    let (files, bytes) =
        listed.listing().files().fold((0, 0), |(files, bytes), (_, size)| (files + 1, bytes + size));
    let left_out = smart_sync_sync::source::TreeSource::take_warnings(&mut listed);
    Ok(Looked { files, bytes, left_out: left_out.iter().map(ToString::to_string).collect(), found })
}
