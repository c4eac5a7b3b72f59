//! `publish-local`: publishes what is on this machine without going through the network.

mod kind;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use smart_sync_store::count::counted;
use smart_sync_store::id::{CommitId, ContentId};
use smart_sync_store::manifest::{Fidelity, FileTime};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{IngestOptions, Ingested, ingest};
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::kinds;
use smart_sync_sync::name::TypedRef;
use smart_sync_sync::publish::{Standing, Target, sign};
use smart_sync_sync::record::Publication;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};
use smart_sync_sync::source::git::GitRepository;
use smart_sync_sync::time::UnixTime;

use super::{Failure, print};
use crate::args::PublishLocalArgs;
use crate::data_dir::DataDir;
use crate::http::now;
use crate::realm::Realm;
use crate::realm::append::AppendError;
use crate::realm::complete::Completeness;
use crate::realm::destination::LocalDestination;

pub(super) async fn run(args: PublishLocalArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    realm.peers.ask(realm.newest_view()?.root.record()).await;
    let (key, target) = (key_of(&realm, &args)?, target_of(&realm, &args)?);
    kind::check_options(&args, kinds::find(&target.kind))?;
    tokio::task::spawn_blocking(move || publish(&realm, &args, &target, &key)).await?
}

/// The key that signs.
pub(super) fn key_of(realm: &Realm, args: &PublishLocalArgs) -> anyhow::Result<SecretKey> {
    let path = args.key.clone().unwrap_or_else(|| realm.data.keys().join("publish.key"));
    Ok(SecretKey::load(&path, &mut || None)?)
}

/// What is published to.
pub(super) fn target_of(realm: &Realm, args: &PublishLocalArgs) -> anyhow::Result<Target> {
    let typed: TypedRef = args.reference.parse()?;
    Ok(Target {
        origin: realm.origin.clone(),
        channel: args.channel.parse()?,
        reference: typed.candidates().into_iter().next().context("a ref has a name")?,
        kind: args.kind.parse()?,
    })
}

/// Publishes it. On a thread of the runtime that may block.
pub(super) fn publish(
    realm: &Arc<Realm>,
    args: &PublishLocalArgs,
    target: &Target,
    key: &SecretKey,
) -> anyhow::Result<()> {
    let newest = || {
        let view = realm.newest_view()?;
        realm.newest(&view, &target.channel, &target.reference)
    };
    let (read, newest) = match kinds::find(&target.kind) {
        // What it puts together goes on from what is published now, and so does the publication.
        Some(kind) => {
            let newest = newest()?;
            (kind::read(realm, args, target, kind, newest.as_ref())?, newest)
        }
        None => (read_tree(realm, args, target)?, newest()?),
    };
    let previous = newest.as_ref().and_then(|newest| newest.publication.manifest);
    if previous.is_some_and(|previous| previous.id == read.tree.manifest.id) {
        let brought_back = match read.tree.statistics.objects_sent {
            0 => String::new(),
            sent => format!("; {} brought back, which had been lost", counted(sent, "object", "objects")),
        };
        let (channel, reference) = (&target.channel, &target.reference);
        return print(format_args!("{channel} {reference} is that tree already{brought_back}"));
    }
    let standing = newest.map(|newest| Standing { seq: newest.publication.seq, leaf: newest.note_leaf() });
    let time = unix_now()?;
    let content_time = read.time.and_then(|time| UnixTime::new(u64::try_from(time).ok()?)).unwrap_or(time);
    let publication = target.publication(&read.tree, read.commit, standing, content_time, time);
    let publication = Publication { meta: read.meta, ..publication };
    let note = sign(&publication, &[key])?;
    let domain = realm.domain(&target.channel)?;
    let check = Completeness { store: &realm.store, domain: &domain, previous, now: now() };
    check.check(&publication)?.map_err(Failure::Refused)?;
    let (_, index) = realm.append_publication(&note, &[], now()).map_err(|error| match error {
        AppendError::Fault(error) => error,
        AppendError::Behind(error) => Failure::Refused(error.to_string()).into(),
        AppendError::Moved(text) | AppendError::Refused(text) => Failure::Refused(text).into(),
    })?;
    print(format_args!(
        "{} {} number {}: {}, {}; {} of packs added; leaf {index} of the log",
        target.channel,
        target.reference,
        publication.seq,
        counted(publication.content.entries, "entry", "entries"),
        counted(publication.content.bytes, "byte", "bytes"),
        counted(read.tree.statistics.bytes_sent, "byte", "bytes")
    ))
}

struct Read {
    tree: Ingested,
    commit: Option<CommitId>,
    time: Option<i64>,
    /// The file of it that says where its files came from.
    meta: Option<ContentId>,
}

fn read_tree(realm: &Arc<Realm>, args: &PublishLocalArgs, target: &Target) -> anyhow::Result<Read> {
    let mut destination = LocalDestination::new(realm, &target.channel, now())?;
    let cache_path = cache_path(realm, &args.source)?;
    let cache = ContentCache::load(&cache_path);
    let options = IngestOptions::default();
    let (read, cache) = if let Some(revision) = &args.git {
        let repository = GitRepository::open(&args.source)?;
        let commit = repository.resolve(revision)?;
        let mut source = repository.tree(&commit, cache)?;
        let tree = ingest(&mut source, &mut destination, options)?;
        (Read { tree, commit: Some(commit.id), time: Some(commit.time), meta: None }, source.into_cache())
    } else {
        let options_of_directory = DirectoryOptions {
            fidelity: if args.system { Fidelity::System } else { Fidelity::Git },
            exclusions: Exclusions::in_place(args.exclude.iter().map(String::as_str))?,
            now: file_time(now()),
        };
        let mut source = DirectorySource::open(&args.source, options_of_directory, cache)?;
        let tree = ingest(&mut source, &mut destination, options)?;
        (Read { tree, commit: None, time: None, meta: None }, source.into_cache())
    };
    for warning in &read.tree.warnings {
        tracing::warn!("{warning}");
    }
    cache.save(&cache_path)?;
    Ok(read)
}

fn unix_now() -> anyhow::Result<UnixTime> {
    UnixTime::new(now()).context("the clock of this machine is beyond the year 9999")
}

/// One cache for each place that is published from.
fn cache_path(realm: &Realm, source: &Path) -> anyhow::Result<PathBuf> {
    let source = source.canonicalize().with_context(|| format!("opening {}", source.display()))?;
    let directory = realm.data.cache();
    std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let name = smart_sync_store::id::ObjectId::of(source.as_os_str().as_encoded_bytes());
    Ok(directory.join(format!("{name}.contents")))
}

fn file_time(now: u64) -> FileTime {
    FileTime { seconds: i64::try_from(now).unwrap_or(i64::MAX), nanoseconds: 0 }
}
