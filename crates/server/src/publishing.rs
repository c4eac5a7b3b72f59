//! Publishing what is on this machine without going through the network: for whoever types a command, and for mirrors.
//!
//! Whatever is worth saying on the way is handed to whoever asked, who prints it or writes it into a log.

mod kind;
mod whole;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use smart_sync_store::count::counted;
use smart_sync_store::id::{CommitId, ContentId};
use smart_sync_store::manifest::{Content, Fidelity, FileTime, TreePath};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{IngestOptions, Ingested, ingest};
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::kinds::{self, Absent, SignaturePolicy};
use smart_sync_sync::publish::{Standing, Target, sign};
use smart_sync_sync::record::Publication;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};
use smart_sync_sync::source::git::GitRepository;
use smart_sync_sync::time::UnixTime;

use crate::commands::Failure;
use crate::http::now;
use crate::realm::Realm;
use crate::realm::append::AppendError;
use crate::realm::complete::Completeness;
use crate::realm::destination::LocalDestination;

/// Who hears what is worth saying.
pub(crate) type Say<'a> = &'a (dyn Fn(String) -> anyhow::Result<()> + 'a);

/// What is published.
pub(crate) struct Input<'a> {
    /// A directory, or a git repository.
    pub(crate) source: &'a Path,
    /// The revision of a repository.
    pub(crate) git: Option<&'a str>,
    /// How much of a directory's metadata is kept.
    pub(crate) fidelity: Fidelity,
    /// What of a directory is left out.
    pub(crate) exclusions: Exclusions,
    /// What becomes of what is published now and not in the directory, where the kind asks.
    pub(crate) absent: Absent,
    /// Where it is written what files have to be, where the kind compares.
    pub(crate) verify_against: Option<&'a Path>,
    /// Which signatures it has to have, where the kind judges them.
    pub(crate) signatures: SignaturePolicy<'a>,
    /// How many of the newest versions stay, where the kind keeps some.
    pub(crate) newest: Option<usize>,
    /// Where files of the directory came from, by their paths there, where the kind has a say.
    pub(crate) sources: BTreeMap<TreePath, String>,
    /// Files of the published tree that stay, where the kind has no say and the directory is not all there is.
    pub(crate) beside: Option<BTreeMap<TreePath, Content>>,
}

impl<'a> Input<'a> {
    /// A directory as it is.
    pub(crate) fn directory(source: &'a Path, exclusions: Exclusions) -> Self {
        Self {
            source,
            git: None,
            fidelity: Fidelity::Git,
            exclusions,
            absent: Absent::Stays,
            verify_against: None,
            signatures: SignaturePolicy::default(),
            newest: None,
            sources: BTreeMap::new(),
            beside: None,
        }
    }

    fn directory_options(&self) -> DirectoryOptions {
        let (fidelity, exclusions) = (self.fidelity, self.exclusions.clone());
        DirectoryOptions { fidelity, exclusions, now: file_time(now()) }
    }
}

/// Publishes it. On a thread of the runtime that may block.
pub(crate) fn publish(
    realm: &Arc<Realm>,
    input: &Input<'_>,
    target: &Target,
    key: &SecretKey,
    say: Say<'_>,
) -> anyhow::Result<()> {
    let newest = || {
        let view = realm.newest_view()?;
        realm.newest(&view, &target.channel, &target.reference)
    };
    let (read, newest) = match (kinds::find(&target.kind), &input.beside) {
        // What it puts together goes on from what is published now, and so does the publication.
        (Some(kind), None) => {
            let newest = newest()?;
            (kind::read(realm, input, target, kind, newest.as_ref(), say)?, newest)
        }
        (_, Some(beside)) => {
            let newest = newest()?;
            (whole::read(realm, input, target, beside)?, newest)
        }
        (None, None) => (read_tree(realm, input, target)?, newest()?),
    };
    let previous = newest.as_ref().and_then(|newest| newest.publication.manifest);
    if previous.is_some_and(|previous| previous.id == read.tree.manifest.id) {
        let brought_back = match read.tree.statistics.objects_sent {
            0 => String::new(),
            sent => format!("; {} brought back, which had been lost", counted(sent, "object", "objects")),
        };
        let (channel, reference) = (&target.channel, &target.reference);
        return say(format!("{channel} {reference} is that tree already{brought_back}"));
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
    say(format!(
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

fn read_tree(realm: &Arc<Realm>, input: &Input<'_>, target: &Target) -> anyhow::Result<Read> {
    let mut destination = LocalDestination::new(realm, &target.channel, now())?;
    let cache_path = cache_path(realm, input.source)?;
    let cache = ContentCache::load(&cache_path);
    let options = IngestOptions::default();
    let (read, cache) = if let Some(revision) = input.git {
        let repository = GitRepository::open(input.source)?;
        let commit = repository.resolve(revision)?;
        let mut source = repository.tree(&commit, cache)?;
        let tree = ingest(&mut source, &mut destination, options)?;
        (Read { tree, commit: Some(commit.id), time: Some(commit.time), meta: None }, source.into_cache())
    } else {
        let mut source = DirectorySource::open(input.source, input.directory_options(), cache)?;
        let tree = ingest(&mut source, &mut destination, options)?;
        (Read { tree, commit: None, time: None, meta: None }, source.into_cache())
    };
    warn(&read.tree);
    cache.save(&cache_path)?;
    Ok(read)
}

fn warn(tree: &Ingested) {
    for warning in &tree.warnings {
        tracing::warn!("{warning}");
    }
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
