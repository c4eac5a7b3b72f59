//! Publishing what is on this machine without going through the network: for whoever types a command, and for mirrors.
//!
//! Whatever is worth saying on the way is handed to whoever asked, who prints it or writes it into a log.

mod kind;
mod parts;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use smart_sync_store::count::counted;
use smart_sync_store::id::{CommitId, ContentId};
use smart_sync_store::manifest::{Content, Fidelity, FileTime, TreePath};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{IngestOptions, Ingested, ingest};
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::kinds::{self, Absent, AsItIs, Before, SignaturePolicy, Whole};
use smart_sync_sync::name::{Channel, RefName};
use smart_sync_sync::publish::{Standing, Target, sign};
use smart_sync_sync::record::Publication;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};
use smart_sync_sync::source::git::GitRepository;
use smart_sync_sync::source::listed::{ListedSource, Listing};
use smart_sync_sync::source::{SourceNode, TreeSource};
use smart_sync_sync::time::UnixTime;

use crate::commands::Failure;
use crate::http::now;
use crate::realm::append::AppendError;
use crate::realm::before::StoredTree;
use crate::realm::complete::Completeness;
use crate::realm::destination::LocalDestination;
use crate::realm::{Published, Realm};
pub(crate) use parts::is_whole;
use parts::{Says, Stating};

/// Who hears what is worth saying.
pub(crate) type Say<'a> = &'a (dyn Fn(String) -> anyhow::Result<()> + 'a);

/// Looks at a directory before anything of it is published, and says what is changed of it.
pub(crate) type Edit<'a> = &'a dyn Fn(&Listing) -> anyhow::Result<Edits>;

/// What of a directory is published in another way than it is there.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    /// Files that are not.
    pub(crate) left_out: BTreeSet<TreePath>,
    /// Files that have other bytes.
    pub(crate) changed: BTreeMap<TreePath, Box<[u8]>>,
}

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
    /// What else is changed of it.
    pub(crate) edit: Option<Edit<'a>>,
    /// What becomes of what is published now and not in the directory, where the kind asks.
    pub(crate) absent: Absent,
    /// Where it is written what files have to be, where the kind compares.
    pub(crate) verify_against: Option<&'a Path>,
    /// Which signatures it has to have, where the kind judges them.
    pub(crate) signatures: SignaturePolicy<'a>,
    /// The channels of trees whose kept versions name what must not go, where files of the kind are named by others.
    pub(crate) kept_by: Vec<Channel>,
    /// How many of the newest versions stay, where the kind keeps some.
    pub(crate) newest: Option<usize>,
    /// Where files of the directory came from, by their paths there, where the kind puts the tree together.
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
            edit: None,
            absent: Absent::Stays,
            verify_against: None,
            signatures: SignaturePolicy::default(),
            kept_by: Vec::new(),
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
    let publisher = Publisher { realm, input, key, say };
    if let Some(beside) = &input.beside {
        return publisher.publish_with(target, beside);
    }
    match kinds::find(&target.kind).map(|kind| (kind, kind.as_it_is())) {
        // What it puts together goes on from what is published now, and so does the publication.
        Some((kind, None)) => publisher.publish_of_kind(target, kind),
        Some((_, Some(judge))) => {
            let newest = publisher.newest(&target.channel, &target.reference)?;
            let read = publisher.read_tree(target, Some(judge), newest.as_ref())?;
            publisher.state(target, &read, newest.as_ref())
        }
        None => {
            let read = publisher.read_tree(target, None, None)?;
            publisher.state(target, &read, publisher.newest(&target.channel, &target.reference)?.as_ref())
        }
    }
}

/// Brings the branches that follow the tree of a target to what that is now, where a publication was ended before it had
/// done so. On a thread of the runtime that may block.
pub(crate) fn bring_branches(
    realm: &Arc<Realm>,
    input: &Input<'_>,
    target: &Target,
    key: &SecretKey,
    say: Say<'_>,
) -> anyhow::Result<()> {
    let Some(kind) = kinds::find(&target.kind) else { return Ok(()) };
    let stating = Stating { kind, target, time: unix_now()?, says: Says::Changes };
    Publisher { realm, input, key, say }.bring_branches(&stating)
}

/// A run of it.
struct Publisher<'a> {
    realm: &'a Arc<Realm>,
    input: &'a Input<'a>,
    key: &'a SecretKey,
    say: Say<'a>,
}

/// A tree that was read and stored.
struct Read {
    tree: Ingested,
    commit: Option<CommitId>,
    time: Option<UnixTime>,
    /// The file of it that says where its files came from.
    meta: Option<ContentId>,
}

impl Publisher<'_> {
    /// Where a ref stands.
    fn newest(&self, channel: &Channel, reference: &RefName) -> anyhow::Result<Option<Published>> {
        let view = self.realm.newest_view()?;
        self.realm.newest(&view, channel, reference)
    }

    /// States that a ref is a tree which was stored, unless it is that already.
    fn state(&self, target: &Target, read: &Read, newest: Option<&Published>) -> anyhow::Result<()> {
        let realm = self.realm;
        let (channel, reference) = (&target.channel, &target.reference);
        let previous = newest.and_then(|newest| newest.publication.manifest);
        if previous.is_some_and(|previous| previous.id == read.tree.manifest.id) {
            let brought_back = match read.tree.statistics.objects_sent {
                0 => String::new(),
                sent => format!("; {} brought back, which had been lost", counted(sent, "object", "objects")),
            };
            return (self.say)(format!("{channel} {reference} is that tree already{brought_back}"));
        }
        if reference.is_tag() && previous.is_some() {
            return Err(Failure::Refused(format!(
                "{channel} {reference} is another tree, and a tag is written once"
            ))
            .into());
        }
        let standing =
            newest.map(|newest| Standing { seq: newest.publication.seq, leaf: newest.note_leaf() });
        let time = unix_now()?;
        let content_time = read.time.unwrap_or(time);
        let publication = target.publication(&read.tree, read.commit, standing, content_time, time);
        let publication = Publication { meta: read.meta, ..publication };
        let note = sign(&publication, &[self.key])?;
        let domain = realm.domain(channel)?;
        let check = Completeness { store: &realm.store, domain: &domain, previous, now: now() };
        check.check(&publication)?.map_err(Failure::Refused)?;
        let (_, index) = realm.append_publication(&note, &[], now()).map_err(|error| match error {
            AppendError::Fault(error) => error,
            AppendError::Behind(error) => Failure::Refused(error.to_string()).into(),
            AppendError::Moved(text) | AppendError::Refused(text) => Failure::Refused(text).into(),
        })?;
        (self.say)(format!(
            "{channel} {reference} number {}: {}, {}; {} of packs added; leaf {index} of the log",
            publication.seq,
            counted(publication.content.entries, "entry", "entries"),
            counted(publication.content.bytes, "byte", "bytes"),
            counted(read.tree.statistics.bytes_sent, "byte", "bytes")
        ))
    }

    /// Reads a tree as it is, has it judged where its kind does that, and stores it.
    fn read_tree(
        &self,
        target: &Target,
        judge: Option<&dyn AsItIs>,
        newest: Option<&Published>,
    ) -> anyhow::Result<Read> {
        let Self { realm, input, .. } = *self;
        let mut destination = LocalDestination::new(realm, &target.channel, now())?;
        let cache_path = cache_path(realm, input.source)?;
        let cache = ContentCache::load(&cache_path);
        let (read, cache) = if let Some(revision) = input.git {
            let repository = GitRepository::open(input.source)?;
            let commit = repository.resolve(revision)?;
            let mut source = repository.tree(&commit, cache)?;
            let (tree, made) = self.take_in(&mut source, &mut destination, target, judge, newest)?;
            let committed = u64::try_from(commit.time).ok().and_then(UnixTime::new);
            let time = made.or(committed);
            (Read { tree, commit: Some(commit.id), time, meta: None }, source.into_cache())
        } else {
            let mut source = DirectorySource::open(input.source, input.directory_options(), cache)?;
            let (tree, made) = self.take_in(&mut source, &mut destination, target, judge, newest)?;
            (Read { tree, commit: None, time: made, meta: None }, source.into_cache())
        };
        warn(&read.tree);
        cache.save(&cache_path)?;
        Ok(read)
    }

    fn take_in(
        &self,
        source: &mut dyn TreeSource,
        destination: &mut LocalDestination<'_>,
        target: &Target,
        judge: Option<&dyn AsItIs>,
        newest: Option<&Published>,
    ) -> anyhow::Result<(Ingested, Option<UnixTime>)> {
        if judge.is_none() && self.input.edit.is_none() {
            return Ok((ingest(source, destination, IngestOptions::default())?, None));
        }
        let mut listed = ListedSource::read(source)?;
        if let Some(edit) = self.input.edit {
            let Edits { left_out, mut changed } = edit(listed.listing())?;
            listed.change(|entry| {
                if let Some(bytes) = changed.remove(&entry.path) {
                    entry.node = SourceNode::of_bytes(bytes);
                }
                !left_out.contains(&entry.path)
            });
        }
        let made = match judge {
            Some(judge) => self.judge(judge, listed.listing(), target, newest)?,
            None => None,
        };
        Ok((ingest(&mut listed, destination, IngestOptions::default())?, made))
    }

    /// Has a tree judged. The time of its content, if it says one.
    fn judge(
        &self,
        judge: &dyn AsItIs,
        listing: &Listing,
        target: &Target,
        newest: Option<&Published>,
    ) -> anyhow::Result<Option<UnixTime>> {
        let domain = self.realm.domain(&target.channel)?;
        let manifest = newest.and_then(|newest| newest.publication.manifest);
        let before = manifest.map(|manifest| StoredTree { realm: self.realm, domain, manifest: manifest.id });
        let judged = judge.judge(Whole {
            listing,
            before: before.as_ref().map(|before| before as &dyn Before),
            signatures: self.input.signatures,
            now: unix_now()?,
        });
        let judged = judged.map_err(|error| kind::refused(error, self.input))?;
        for note in judged.notes {
            (self.say)(note)?;
        }
        Ok(judged.content_time)
    }
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
