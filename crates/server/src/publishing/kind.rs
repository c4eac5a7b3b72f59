//! Trees that their kind puts together: see [`smart_sync_sync::kinds`].

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use smart_sync_sync::ingest::{IngestOptions, ingest};
use smart_sync_sync::kinds::findings::Findings;
use smart_sync_sync::kinds::{ArtifactKind, Before, Job, KindError, provenance};
use smart_sync_sync::publish::Target;
use smart_sync_sync::source::assembled::AssembledSource;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::DirectorySource;
use smart_sync_sync::time::UnixTime;

use super::{Input, Read, Say, cache_path, unix_now, warn};
use crate::commands::Failure;
use crate::http::now;
use crate::realm::before::StoredTree;
use crate::realm::destination::LocalDestination;
use crate::realm::{Published, Realm};

/// How long is waited at most until the time of a content has come, in seconds.
const WAIT_SECONDS_MAX: u64 = 60;

/// Has a tree put together that goes on from what is published, and stores it.
pub(super) fn read(
    realm: &Arc<Realm>,
    input: &Input<'_>,
    target: &Target,
    kind: &dyn ArtifactKind,
    newest: Option<&Published>,
    say: Say<'_>,
) -> anyhow::Result<Read> {
    let mut destination = LocalDestination::new(realm, &target.channel, now())?;
    let cache_path = cache_path(realm, input.source)?;
    let findings_path = cache_path.with_extension(kind.name());
    let directory =
        DirectorySource::open(input.source, input.directory_options(), ContentCache::load(&cache_path))?;
    let mut directory = AssembledSource::read(directory)?;
    let domain = realm.domain(&target.channel)?;
    let manifest = newest.and_then(|newest| newest.publication.manifest);
    let before = manifest.map(|manifest| StoredTree { realm, domain, manifest: manifest.id });
    let mut findings = Findings::load(&findings_path);
    let job = Job {
        directory: &directory,
        before: before.as_ref().map(|before| before as &dyn Before),
        absent: input.absent,
        findings: &mut findings,
        verify_against: input.verify_against,
        signatures: input.signatures,
        making: None,
        newest: input.newest,
        now: unix_now()?,
    };
    let prepared = provenance::prepare(kind, job, &input.sources);
    if prepared.is_err() {
        findings.keep_unused();
    }
    // What was found in files that are well is worth keeping, also when others are not.
    let saved = findings.save(&findings_path);
    let prepared = prepared.map_err(|error| refused(error, input))?;
    saved?;
    for note in &prepared.notes {
        say(note.clone())?;
    }
    let meta = provenance::named_by(&prepared.parts);
    directory.assemble(prepared.parts)?;
    let tree = ingest(&mut directory, &mut destination, IngestOptions::default())?;
    warn(&tree);
    directory.into_caches().0.save(&cache_path)?;
    wait_until(prepared.content_time)?;
    let time = i64::try_from(prepared.content_time.seconds()).ok();
    Ok(Read { tree, commit: None, time, meta })
}

/// Waits until the time has come that a content bears: some clients would take it for the one before.
fn wait_until(time: UnixTime) -> anyhow::Result<()> {
    let seconds = time.seconds().saturating_sub(now());
    ensure!(
        seconds <= WAIT_SECONDS_MAX,
        "the version before is of {time} or a few seconds earlier, and the clock of this machine says that this is {seconds} s ahead"
    );
    std::thread::sleep(Duration::from_secs(seconds));
    Ok(())
}

fn refused(error: KindError, input: &Input<'_>) -> anyhow::Error {
    let source = input.source.display();
    match error {
        KindError::Refused(_) => Failure::Refused(format!(
            "{source} holds what must not be published: {error}; nothing was published"
        ))
        .into(),
        KindError::Reference(text) => Failure::Arguments(text).into(),
        error => error.into(),
    }
}
