//! Trees that their kind puts together: see [`smart_sync_sync::kinds`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use smart_sync_store::manifest::Fidelity;
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{IngestOptions, ingest};
use smart_sync_sync::kinds::findings::Findings;
use smart_sync_sync::kinds::{Absent, ArtifactKind, Before, Job, KindError, SignaturePolicy, provenance};
use smart_sync_sync::publish::Target;
use smart_sync_sync::source::assembled::AssembledSource;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::{DirectoryOptions, DirectorySource};
use smart_sync_sync::time::UnixTime;

use super::super::{Failure, print};
use super::{Read, cache_path, file_time, unix_now};
use crate::args::PublishLocalArgs;
use crate::http::now;
use crate::realm::before::StoredTree;
use crate::realm::destination::LocalDestination;
use crate::realm::{Published, Realm};

/// How long is waited at most until the time of a content has come, in seconds.
const WAIT_SECONDS_MAX: u64 = 60;

/// Refuses what is said of a tree that its kind does not ask about.
pub(super) fn check_options(args: &PublishLocalArgs, kind: Option<&dyn ArtifactKind>) -> Result<(), Failure> {
    let verifies = kind.is_some_and(ArtifactKind::verifies);
    let said = [
        (args.verify_against.is_some() && !verifies, "--verify-against"),
        (args.replace && kind.is_none(), "--replace"),
        (args.git.is_some() && kind.is_some(), "--git"),
        (args.system && kind.is_some(), "--system"),
    ];
    if kind.is_some_and(|kind| !kind.branches().is_empty()) {
        let text = format!(
            "trees of the kind {} are several refs at once: `smart-sync publish` publishes them",
            args.kind
        );
        return Err(Failure::Arguments(text));
    }
    match said.into_iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, option)) => {
            Err(Failure::Arguments(format!("{option} means nothing for the kind {}", args.kind)))
        }
        None => Ok(()),
    }
}

/// Has a tree put together that goes on from what is published, and stores it.
pub(super) fn read(
    realm: &Arc<Realm>,
    args: &PublishLocalArgs,
    target: &Target,
    kind: &dyn ArtifactKind,
    newest: Option<&Published>,
) -> anyhow::Result<Read> {
    let mut destination = LocalDestination::new(realm, &target.channel, now())?;
    let cache_path = cache_path(realm, &args.source)?;
    let findings_path = cache_path.with_extension(kind.name());
    let options = DirectoryOptions {
        fidelity: Fidelity::Git,
        exclusions: Exclusions::in_place(args.exclude.iter().map(String::as_str))?,
        now: file_time(now()),
    };
    let directory = DirectorySource::open(&args.source, options, ContentCache::load(&cache_path))?;
    let mut directory = AssembledSource::read(directory)?;
    let domain = realm.domain(&target.channel)?;
    let manifest = newest.and_then(|newest| newest.publication.manifest);
    let before = manifest.map(|manifest| StoredTree { realm, domain, manifest: manifest.id });
    let mut findings = Findings::load(&findings_path);
    let job = Job {
        directory: &directory,
        before: before.as_ref().map(|before| before as &dyn Before),
        absent: if args.replace { Absent::Goes } else { Absent::Stays },
        findings: &mut findings,
        verify_against: args.verify_against.as_deref(),
        signatures: SignaturePolicy::default(),
        making: None,
        newest: None,
        now: unix_now()?,
    };
    let prepared = provenance::prepare(kind, job, &BTreeMap::new());
    if prepared.is_err() {
        findings.keep_unused();
    }
    // What was found in files that are well is worth keeping, also when others are not.
    let saved = findings.save(&findings_path);
    let prepared = prepared.map_err(|error| refused(error, args))?;
    saved?;
    for note in &prepared.notes {
        print(format_args!("{note}"))?;
    }
    let meta = provenance::named_by(&prepared.parts);
    directory.assemble(prepared.parts)?;
    let tree = ingest(&mut directory, &mut destination, IngestOptions::default())?;
    for warning in &tree.warnings {
        tracing::warn!("{warning}");
    }
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

fn refused(error: KindError, args: &PublishLocalArgs) -> anyhow::Error {
    let source = args.source.display();
    match error {
        KindError::Refused(_) => Failure::Refused(format!(
            "{source} holds what must not be published: {error}; nothing was published"
        ))
        .into(),
        KindError::Reference(text) => Failure::Arguments(text).into(),
        error => error.into(),
    }
}
