//! Trees that their kind puts together: see [`smart_sync_sync::kinds`].

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use smart_sync_store::manifest::{Content, Fidelity, Manifest, TreePath};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::Destination;
use smart_sync_sync::kinds::built_on::BuiltOn;
use smart_sync_sync::kinds::findings::Findings;
use smart_sync_sync::kinds::{
    Absent, ArtifactKind, AsItIs, Before, Job, KindError, Legacy, Making, SignaturePolicy, Unsigned, Whole,
    provenance, refusal_lines,
};
use smart_sync_sync::openpgp::{KeyRing, SigningKey};
use smart_sync_sync::source::assembled::AssembledSource;
use smart_sync_sync::source::directory::DirectorySource;
use smart_sync_sync::source::listed::Listing;
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::trust::Verified;

use super::parts::Parts;
use super::source::{Cache, Origin, Reading, Stored, directory_options, of_source, take_in};
use super::{Publisher, Said};
use crate::after::trigger::kernel::running;
use crate::args::publish::{Machine, TreeInput};
use crate::commands::contents::{Contents, files_of};
use crate::commands::wait_for;
use crate::failure::{Exit, Failure};
use crate::realm::locate::Tree;
use crate::realm::pages::RemotePages;
use crate::realm::remote::Remote;
use crate::realm::resolve::{RefStanding, now};
use crate::sync::Surroundings;

/// The most different pieces of advice that are given for packages that are refused.
const HINTS_MAX: usize = 3;
/// How long is waited at most until the time of a content has come, in seconds.
const WAIT_SECONDS_MAX: u64 = 60;

/// Where the kernel says what this machine is called.
const NAME_OF_HOST: &str = "/proc/sys/kernel/hostname";

/// A tree that was put together and stored.
pub(super) struct StoredOfKind {
    pub(super) stored: Stored,
    pub(super) said: Said,
}

impl Publisher<'_> {
    /// Refuses what is said of a tree that its kind does not ask about.
    pub(super) fn check_options(&self, kind: Option<&dyn ArtifactKind>) -> Result<(), Failure> {
        let is_put_together = kind.is_some_and(|kind| kind.as_it_is().is_none());
        let judges = kind.is_some_and(ArtifactKind::judges_signatures);
        let makes = kind.is_some_and(ArtifactKind::makes_files);
        let said = [
            (
                self.args.verify_against.is_some() && !kind.is_some_and(ArtifactKind::verifies),
                "--verify-against",
            ),
            (self.args.replace && !is_put_together, "--replace"),
            (self.args.newest.is_some() && !kind.is_some_and(ArtifactKind::keeps_newest), "--newest"),
            (!self.args.keyrings.is_empty() && !judges, "--keyring"),
            (self.args.allow_unsigned && !makes, "--allow-unsigned"),
            (self.args.allow_xpak && !makes, "--allow-xpak"),
            (self.args.sign_with.is_some() && !makes, "--sign-with"),
            (self.args.convert && !makes, "--convert"),
            (self.args.fidelity.is_some() && is_put_together, "--fidelity"),
            (self.args.built_on.is_some() && !kind.is_some_and(ArtifactKind::says_built_on), "--built-on"),
        ];
        let Some((_, option)) = said.into_iter().find(|(is_wrong, _)| *is_wrong) else { return Ok(()) };
        let kind = kind.map_or("a tree without a kind of its own", ArtifactKind::name);
        Err(Failure::message(Exit::Arguments, format!("{option} means nothing for {kind}"))
            .hint("leave it out, or say with --kind what is published"))
    }

    /// The directory that is published, where a kind puts trees together of nothing else.
    pub(super) fn directory_for(&self, kind: &dyn ArtifactKind) -> Result<PathBuf, Failure> {
        match &self.args.tree {
            Some(TreeInput::Directory(path)) => Ok(path.clone()),
            _ => Err(Failure::message(
                Exit::Arguments,
                format!("trees of the kind {} are put together from a directory", kind.name()),
            )
            .hint("name the directory in the place of --git or -")),
        }
    }

    /// Has a tree put together by its kind, and stores it.
    pub(super) fn store_of_kind(
        &self,
        kind: &dyn ArtifactKind,
        before: &RefStanding,
        destination: &mut dyn Destination,
        exclusions: Exclusions,
        wants_sums: bool,
    ) -> Result<StoredOfKind, Failure> {
        let path = self.directory_for(kind)?;
        let state_dir = self.surroundings.state_dir;
        let (cache, findings_path) =
            (Cache::of(&path, state_dir)?, Cache::beside(&path, state_dir, kind.name())?);
        let options = directory_options(Fidelity::Git, exclusions);
        let directory = DirectorySource::open(&path, options, cache.load()).map_err(of_source)?;
        let mut directory = AssembledSource::read(directory).map_err(of_source)?.aside_in(state_dir);
        let mut findings = Findings::load(&findings_path);
        let published = match before {
            RefStanding::Published(before) => Some(self.published(before)),
            _ => None,
        };
        let (key_ring, signing_key) = (self.key_ring()?, self.signing_key()?);
        let built_on = self.built_on()?;
        let is_made = signing_key.is_some() || self.args.convert;
        let made = is_made.then(|| Cache::beside(&path, state_dir, "made")).transpose()?;
        let job = Job {
            directory: &directory,
            before: published.as_ref().map(|published| published as &dyn Before),
            absent: if self.args.replace { Absent::Goes } else { Absent::Stays },
            findings: &mut findings,
            verify_against: self.args.verify_against.as_deref(),
            signatures: self.signature_policy(key_ring.as_ref()),
            making: made.as_deref().map(|directory| Making {
                key: signing_key.as_ref(),
                converts: self.args.convert,
                directory,
            }),
            needed: None,
            built_on: built_on.as_ref(),
            newest: self.args.newest,
            now: now(),
        };
        let prepared = provenance::prepare(kind, job, &BTreeMap::new());
        if prepared.is_err() {
            findings.keep_unused();
        }
        // What was found in files that are well is worth keeping, also when others are not.
        let saved = findings.save(&findings_path);
        let unread = published.as_ref().and_then(Published::take_failure);
        let prepared = prepared
            .map_err(|error| unread.unwrap_or_else(|| refused(error, &path.display().to_string())))?;
        saved.map_err(|error| Failure::new(Exit::General, error))?;
        for note in &prepared.notes {
            self.output().info(note);
        }
        let beside = made.as_deref().map(|made| Cache::of(made, state_dir)).transpose()?;
        if let Some((made, cache)) = made.as_deref().zip(beside.as_ref()) {
            let options = directory_options(Fidelity::Git, Exclusions::none());
            let beside = DirectorySource::open(made, options, cache.load()).map_err(of_source)?;
            directory.add_beside(beside).map_err(of_source)?;
        }
        let said =
            Said { content_time: Some(prepared.content_time), meta: provenance::named_by(&prepared.parts) };
        let parts = Parts { kind, content_time: prepared.content_time, wants_sums };
        let stored =
            self.publish_alone(&parts, prepared.parts, &mut directory, destination).and_then(|whole| {
                directory.assemble(whole).map_err(of_source)?;
                Ok(take_in(&mut directory, destination, wants_sums)?)
            });
        let (known, known_beside) = directory.into_caches();
        cache.save(&known, stored.is_ok())?;
        if let Some((cache, known)) = beside.zip(known_beside) {
            cache.save(&known, stored.is_ok())?;
        }
        Ok(StoredOfKind { stored: stored?, said })
    }

    /// Has a tree judged as it is, and stores it.
    pub(super) fn store_judged(
        &self,
        kind: &dyn AsItIs,
        before: &RefStanding,
        (origin, job): (&Origin, &super::source::Job),
        destination: &mut dyn Destination,
        reading: Reading<'_>,
    ) -> Result<(Stored, Option<UnixTime>), Failure> {
        let published = match before {
            RefStanding::Published(before) => Some(self.published(before)),
            _ => None,
        };
        let key_ring = self.key_ring()?;
        let mut content_time = None;
        let mut judge = |listing: &Listing| -> Result<(), Failure> {
            let judged = kind.judge(Whole {
                listing,
                before: published.as_ref().map(|published| published as &dyn Before),
                signatures: self.signature_policy(key_ring.as_ref()),
                now: now(),
            });
            let unread = published.as_ref().and_then(Published::take_failure);
            let judged = judged.map_err(|error| unread.unwrap_or_else(|| refused(error, &origin.place())))?;
            for note in &judged.notes {
                self.output().info(note);
            }
            content_time = judged.content_time;
            Ok(())
        };
        let Reading { exclusions, state_dir, wants_sums, .. } = reading;
        let reading = Reading { exclusions, state_dir, wants_sums, judge: Some(&mut judge) };
        let stored = origin.store(job, destination, reading)?;
        Ok((stored, content_time))
    }

    /// The keys that may have signed what is published, where they matter.
    fn key_ring(&self) -> Result<Option<KeyRing>, Failure> {
        if self.args.keyrings.is_empty() {
            return Ok(None);
        }
        let ring = KeyRing::open(&self.args.keyrings);
        ring.map(Some).map_err(|error| {
            let hint = error.hint();
            Failure::new(Exit::Arguments, error).hint(hint)
        })
    }

    /// The key that signs what is not signed.
    fn signing_key(&self) -> Result<Option<SigningKey>, Failure> {
        let Some(path) = &self.args.sign_with else { return Ok(None) };
        let key = SigningKey::open(path, self.args.sign_passphrase.as_deref(), now());
        key.map(Some).map_err(|error| {
            let hint = error.hint();
            Failure::new(Exit::Arguments, error).hint(hint)
        })
    }

    /// The machine that what is new was built on, where that is to be said.
    fn built_on(&self) -> Result<Option<BuiltOn>, Failure> {
        let machine = match &self.args.built_on {
            None => return Ok(None),
            Some(Machine::Said(machine)) => Ok(machine.clone()),
            Some(Machine::This) => BuiltOn::new(&host_name(), &running()),
        };
        machine.map(Some).map_err(|error| {
            Failure::new(Exit::General, error)
                .context("saying which machine this is")
                .hint("--built-on host=NAME,kernel=VERSION says it")
        })
    }

    fn signature_policy<'a>(&self, key_ring: Option<&'a KeyRing>) -> SignaturePolicy<'a> {
        SignaturePolicy {
            key_ring,
            unsigned: if self.args.allow_unsigned { Unsigned::Accepted } else { Unsigned::Refused },
            legacy: if self.args.allow_xpak { Legacy::Accepted } else { Legacy::Refused },
        }
    }

    pub(super) fn published<'a>(&'a self, before: &'a Verified) -> Published<'a> {
        let (remotes, surroundings) = (self.realm.remotes(), self.surroundings);
        Published { verified: before, remotes, surroundings, failure: Cell::default() }
    }

    /// Waits until the time has come that a content bears.
    pub(super) fn wait_until(&self, time: UnixTime) -> Result<(), Failure> {
        let seconds = time.seconds().saturating_sub(now().seconds());
        if seconds == 0 {
            return Ok(());
        }
        if seconds > WAIT_SECONDS_MAX {
            return Err(Failure::message(
                Exit::General,
                format!("the version before is of {time} or a few seconds earlier, and the clock of this machine says that this is {seconds} s ahead"),
            )
            .hint("set the clock of this machine, or of the one that published last"));
        }
        self.output().info(&format!(
            "some clients would take this version for the one before, which is a few seconds old: waiting {seconds} s"
        ));
        let waiting = async {
            tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
            Ok(())
        };
        wait_for(self.surroundings, waiting)
    }
}

/// The tree that is published now, at the servers that have it.
pub(super) struct Published<'a> {
    verified: &'a Verified,
    remotes: &'a [Remote],
    surroundings: &'a Surroundings<'a>,
    /// Why it could not be read, with its exit status and hints.
    failure: Cell<Option<Failure>>,
}

impl Published<'_> {
    /// Why it could not be read, with its exit status and hints.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.failure.take()
    }

    fn unread(&self, failure: Failure) -> KindError {
        let text = failure.in_one_line();
        self.failure.set(Some(failure));
        KindError::Unread(text)
    }
}

impl Before for Published<'_> {
    fn files(&self) -> Result<BTreeMap<TreePath, Content>, KindError> {
        let files = files_of(self.verified, self.remotes, self.surroundings);
        files.map_err(|failure| self.unread(failure))
    }

    fn file(&self, path: &TreePath) -> Result<Option<Content>, KindError> {
        let pages = RemotePages::new(self.remotes, self.surroundings);
        let manifest = self.verified.manifest;
        let found = Manifest::open(&pages, manifest.id, Some(manifest.bytes))
            .and_then(|manifest| manifest.get(path))
            .map_err(|error| self.unread(pages.failure(error)))?;
        Ok(found.and_then(|entry| entry.content().copied()))
    }

    fn read(&self, contents: &[Content], bytes_max: u64) -> Result<Vec<Vec<u8>>, KindError> {
        if contents.iter().any(|content| content.size > bytes_max) {
            return Err(KindError::Before(format!("a file of it is larger than {bytes_max} bytes")));
        }
        let trees = vec![Tree::of(self.verified)];
        let found = Contents::new(self.remotes, trees, self.surroundings).small(contents);
        let mut found = found.map_err(|failure| self.unread(failure))?;
        Ok(contents.iter().map(|content| found.remove(&content.id).unwrap_or_default()).collect())
    }
}

/// The name that this machine has.
fn host_name() -> String {
    fs::read_to_string(NAME_OF_HOST).unwrap_or_default().trim().to_owned()
}

fn refused(error: KindError, place: &str) -> Failure {
    match error {
        KindError::Source(error) => of_source(error),
        KindError::Refused(refusals) => {
            let mut hints: Vec<&str> = refusals.iter().filter_map(|refusal| refusal.hint).collect();
            hints.dedup();
            hints.truncate(HINTS_MAX);
            let text = format!("{place} holds what must not be published");
            let failure = Failure::message(Exit::Refused, text).because(refusal_lines(&refusals));
            let failure = hints.into_iter().fold(failure, Failure::hint);
            failure.hint("repair or remove what is named, and run this again; nothing was published")
        }
        KindError::Unwritten { path, error } => {
            Failure::from(error).context(format!("writing {}", path.display()))
        }
        error @ KindError::Reference(_) => Failure::new(Exit::Arguments, error),
        error @ (KindError::Before(_) | KindError::Unread(_) | KindError::NotPutTogether(_)) => {
            Failure::new(Exit::General, error)
        }
    }
}
