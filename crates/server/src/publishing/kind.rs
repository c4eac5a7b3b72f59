//! Trees that their kind puts together: see [`smart_sync_sync::kinds`].

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use smart_sync_sync::ingest::{IngestOptions, ingest};
use smart_sync_sync::kinds::findings::Findings;
use smart_sync_sync::kinds::{
    ArtifactKind, Before, Job, KindError, Needed, Prepared, provenance, refusal_lines,
};
use smart_sync_sync::publish::Target;
use smart_sync_sync::source::assembled::AssembledSource;
use smart_sync_sync::source::cache::ContentCache;
use smart_sync_sync::source::directory::DirectorySource;
use smart_sync_sync::source::listed::ListedSource;
use smart_sync_sync::time::UnixTime;

use super::parts::{Says, Stating};
use super::{Edits, Input, Publisher, Read, cache_path, unix_now, warn};
use crate::commands::Failure;
use crate::http::now;
use crate::mirrors::names_in_kept;
use crate::realm::Published;
use crate::realm::before::StoredTree;
use crate::realm::destination::LocalDestination;

/// How long is waited at most until the time of a content has come, in seconds.
const WAIT_SECONDS_MAX: u64 = 60;

impl Publisher<'_> {
    /// Has a tree put together that goes on from what is published, and publishes it with all that hangs together with
    /// it.
    pub(super) fn publish_of_kind(&self, target: &Target, kind: &dyn ArtifactKind) -> anyhow::Result<()> {
        let Self { realm, input, .. } = *self;
        let newest = self.newest(&target.channel, &target.reference)?;
        let cache_path = cache_path(realm, input.source)?;
        let mut directory = self.directory(&cache_path)?;
        let prepared = self.prepare(&directory, target, kind, newest.as_ref(), &cache_path)?;
        for note in &prepared.notes {
            (self.say)(note.clone())?;
        }
        wait_until(prepared.content_time)?;
        let meta = provenance::named_by(&prepared.parts);
        let stating = Stating { kind, target, time: prepared.content_time, says: Says::All };
        let whole = self.publish_alone(&stating, prepared.parts, &mut directory)?;
        directory.assemble(whole)?;
        let mut destination = LocalDestination::new(realm, &target.channel, now())?;
        let tree = ingest(&mut directory, &mut destination, IngestOptions::default())?;
        warn(&tree);
        directory.into_caches().0.save(&cache_path)?;
        self.state(target, &Read { meta, ..stating.read(tree) }, newest.as_ref())?;
        self.bring_branches(&stating)
    }

    /// The directory, without what is left out of it.
    fn directory(&self, cache_path: &Path) -> anyhow::Result<AssembledSource> {
        let input = self.input;
        let open =
            || DirectorySource::open(input.source, input.directory_options(), ContentCache::load(cache_path));
        let left_out = match input.edit {
            Some(edit) => {
                let Edits { mut left_out, changed } = edit(ListedSource::read(&mut open()?)?.listing())?;
                // What its kind looks into is published as it is, or not at all.
                left_out.extend(changed.into_keys());
                left_out
            }
            None => BTreeSet::new(),
        };
        let mut directory = AssembledSource::read(open()?)?;
        directory.leave_out(&left_out);
        Ok(directory)
    }

    fn prepare(
        &self,
        directory: &AssembledSource,
        target: &Target,
        kind: &dyn ArtifactKind,
        newest: Option<&Published>,
        cache_path: &Path,
    ) -> anyhow::Result<Prepared> {
        let Self { realm, input, .. } = *self;
        let findings_path = cache_path.with_extension(kind.name());
        let domain = realm.domain(&target.channel)?;
        let manifest = newest.and_then(|newest| newest.publication.manifest);
        let before = manifest.map(|manifest| StoredTree { realm, domain, manifest: manifest.id });
        let mut findings = Findings::load(&findings_path);
        let ask = || self.needed(kind).map_err(|error| KindError::Unread(format!("{error:#}")));
        let job = Job {
            directory,
            before: before.as_ref().map(|before| before as &dyn Before),
            absent: input.absent,
            findings: &mut findings,
            verify_against: input.verify_against,
            signatures: input.signatures,
            needed: (!input.kept_by.is_empty()).then_some(&ask as Needed<'_>),
            built_on: None,
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
        Ok(prepared)
    }
}

impl Publisher<'_> {
    /// The names of the files that kept versions of other channels refer to.
    fn needed(&self, kind: &dyn ArtifactKind) -> anyhow::Result<BTreeSet<String>> {
        let pull = kind.pull_through().context("no list names its files")?;
        let mut names = BTreeSet::new();
        for channel in &self.input.kept_by {
            names.extend(names_in_kept(self.realm, channel, pull)?);
        }
        Ok(names)
    }
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

pub(super) fn refused(error: KindError, input: &Input<'_>) -> anyhow::Error {
    let source = input.source.display();
    match error {
        KindError::Refused(refusals) => {
            let mut text = format!("{source} holds what must not be published; nothing was published");
            for line in refusal_lines(&refusals) {
                text = format!(
                    "{text}
  because: {line}"
                );
            }
            Failure::Refused(text).into()
        }
        KindError::Reference(text) => Failure::Arguments(text).into(),
        error => error.into(),
    }
}
