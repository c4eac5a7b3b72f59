//! One round of a mirror that follows an upstream: look, compare, bring, publish, remember.
//!
//! What is served changes by one publication or not at all; trees that hang together with it come before and after, in the
//! order of [`parts`](smart_sync_sync::kinds::parts). Whatever is remembered is written down after that, so that a round that
//! was killed is made again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use smart_sync_store::count::counted;
use smart_sync_store::manifest::{Content, TreePath};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::kinds::{SignaturePolicy, Unsigned};
use smart_sync_sync::name::RefName;
use smart_sync_sync::openpgp::KeyRing;
use smart_sync_sync::publish::Target;
use smart_sync_sync::time::UnixTime;
use tokio::task::block_in_place;

use super::super::Mirrors;
use super::super::answer::Fault;
use super::super::health::{self, Standing};
use super::super::record::{self, Attempt, Report};
use super::super::round::{MAIN, Order};
use super::asking::Asking;
use super::bring::{Bringing, Brought, Work};
use super::compare::{Has, Published};
use super::documents::Documents;
use super::fetch::attempt;
use super::hold::{self, Seen};
use super::look::{self, Looking, Offered, Offering, Wants};
use super::state::{self, Demand};
use super::whole::Whole;
use super::{Followed, Way};
use crate::commands::Failure;
use crate::http::now;
use crate::publishing::{Input, publish};
use crate::realm::Realm;

/// The most files that an upstream may have.
const FILES_MAX: usize = 500_000;
/// What events are called that are about no single file.
const LOOK: &str = "look";
/// The most failures that are said one by one.
const SHOWN_MAX: usize = 5;

/// A round.
pub(in super::super) struct Round<'a> {
    pub(in super::super) mirrors: &'a Arc<Mirrors>,
    pub(in super::super) followed: &'a Followed,
    pub(in super::super) order: &'a Order,
    /// The key that publishes.
    pub(in super::super) key: &'a Path,
}

impl Round<'_> {
    /// Makes it, and says whether something was published.
    pub(in super::super) async fn run(&self) -> anyhow::Result<bool> {
        let followed = self.followed;
        let place = format!("follow/{}", followed.channel.to_url_segment());
        let work = block_in_place(|| Work::open(self.realm().data.cache().join(place)))?;
        let (ring, key) =
            block_in_place(|| anyhow::Ok((self.key_ring()?, SecretKey::load(self.key, &mut || None)?)))?;
        let (first, offering) = self.look(&work, ring.as_ref()).await?;
        self.hold(&offering)?;
        let published = block_in_place(|| self.published())?;
        let has = block_in_place(|| self.compare(&offering, &published))?;
        let missing: Vec<(&TreePath, &Offered)> = (offering.files.iter().zip(&has))
            .filter_map(|(offered, has)| (*has == Has::Nothing).then_some(offered))
            .collect();
        let is_whole = !matches!(followed.way, Way::Kind(_)) && followed.versions.is_none();
        let has_all = missing.is_empty() && !(is_whole && offering.files.keys().ne(published.files.keys()));
        if has_all {
            self.complete(&work, &key)?;
            self.order.say(format!(
                "{} has all that upstream has: {}",
                followed.channel,
                said_of(&offering)
            ))?;
            block_in_place(|| self.remember(&offering, &published, &has))?;
            return Ok(false);
        }
        let sources = self.bring(&work, first, &missing).await?;
        let published_before = published.manifest;
        let beside = is_whole.then(|| beside(&offering, &has));
        let outcome = block_in_place(|| self.publish(&work, beside, sources, ring.as_ref(), &key));
        if let Err(error) = outcome {
            // What nobody has signed, or is no such file, would be taken for what it has to be the next time.
            if error.downcast_ref::<Failure>().is_some_and(|failure| matches!(failure, Failure::Refused(_))) {
                block_in_place(|| work.distrust())?;
            }
            return Err(error);
        }
        let published = block_in_place(|| self.published())?;
        block_in_place(|| self.remember(&offering, &published, &has))?;
        block_in_place(|| work.clear())?;
        Ok(published.manifest != published_before)
    }

    pub(super) fn realm(&self) -> &Arc<Realm> {
        &self.mirrors.realm
    }

    fn key_ring(&self) -> anyhow::Result<Option<KeyRing>> {
        if self.followed.keyring.is_empty() {
            return Ok(None);
        }
        let ring = KeyRing::open(&self.followed.keyring);
        Ok(Some(ring.map_err(|error| {
            let hint = error.hint();
            anyhow::Error::new(error)
                .context(format!("reading the keys of {}\nhint: {hint}", self.followed.name))
        })?))
    }

    /// Looks at one upstream after the other, until one says what there is.
    async fn look(&self, work: &Work, ring: Option<&KeyRing>) -> anyhow::Result<(usize, Offering)> {
        let (sources, mut attempts) = (&self.followed.sources, Vec::new());
        let (mut tries, mut is_wrong) = (vec![0; sources.len()], false);
        let found = loop {
            let standing = |(source, tries): (&super::Source, &u32)| Standing {
                until: if self.order.is_asked { 0 } else { source.left_alone_until() },
                tries: *tries,
                ..Standing::default()
            };
            let standings: Vec<Standing> = sources.iter().zip(&tries).map(standing).collect();
            let Some(at) = health::next(&standings, now()) else { break None };
            tries[at] += 1;
            let documents = Documents::of(&work.documents(), &sources[at].url);
            let asking = Asking {
                outside: &self.mirrors.outside,
                source: &sources[at],
                documents: &documents,
                room: work.room(),
            };
            let looked = look::look(self.looking(ring)?, &asking).await.and_then(bounded);
            if let Err(Fault::Down { retry_after, .. }) = &looked {
                sources[at].failed(*retry_after, now());
            } else {
                sources[at].worked();
            }
            if matches!(looked, Err(Fault::Wrong(_))) {
                is_wrong = true;
                // A text and its signature may have been of two versions; they are asked for anew.
                block_in_place(|| documents.keep_only(&std::collections::HashSet::new()))?;
            }
            attempts.push(attempt(&sources[at], 0, looked.as_ref().err()));
            if let Ok(offering) = looked {
                break Some((at, offering));
            }
        };
        // That it said what there is is no file that came from it.
        for attempt in &mut attempts {
            attempt.is_whole = false;
        }
        self.note(LOOK, &attempts, None)?;
        found.ok_or_else(|| {
            let said: Vec<String> = attempts.iter().map(said_of_attempt).collect();
            let said =
                if said.is_empty() { "all are left alone for a while".to_owned() } else { said.join("; ") };
            failure(is_wrong, format!("no upstream of {} says what there is: {said}", self.followed.name))
        })
    }

    /// Whoever knows what to ask.
    fn looking<'b>(&'b self, key_ring: Option<&'b KeyRing>) -> anyhow::Result<Looking<'b>> {
        let followed = self.followed;
        let wants = Wants {
            architectures: &followed.architectures,
            variants: &followed.variants,
            newest: followed.newest,
            key_ring,
            now: UnixTime::new(now()).context("the clock of this machine is beyond the year 9999")?,
        };
        if let Some(of) = &followed.versions {
            of.versions.check(&wants).map_err(Failure::Arguments)?;
        }
        let whole = |whole: Whole<'b>| Looking::Whole(Box::new(whole.of_versions(followed.versions, wants)));
        Ok(match &followed.way {
            Way::Kind(kind) => Looking::Kind(kind.look(wants).map_err(Failure::Arguments)?),
            Way::Digests(path) => whole(Whole::upstream(path, &wants, FILES_MAX)),
            Way::DigestsFile(path) => {
                let text = block_in_place(|| std::fs::read(path));
                let text = text.with_context(|| format!("reading {}", path.display()))?;
                whole(Whole::here(text, &wants, FILES_MAX))
            }
        })
    }

    /// Refuses to go on with what does not follow what was accepted before, unless a person says so.
    fn hold(&self, offering: &Offering) -> anyhow::Result<()> {
        let name = &self.followed.name;
        let seen = Seen { files: offering.files.len(), marks: offering.marks.clone() };
        let mut reasons = hold::reasons(&state::seen(&self.mirrors.db(), name)?, &seen);
        reasons.extend(self.reasons_of_versions(offering)?);
        let held = (!reasons.is_empty() && !self.order.accept).then(|| reasons.join("; "));
        let before = state::load(&self.mirrors.db(), name)?;
        if let Some(held) = held.as_ref().filter(|held| before.held.as_ref() != Some(*held)) {
            self.note(LOOK, &[], Some(&format!("held: {held}")))?;
        }
        state::change(&mut self.mirrors.db(), name, |state| {
            state.held_since = held.as_ref().map(|_| before.held_since.unwrap_or_else(now));
            state.held.clone_from(&held);
        })?;
        match held {
            None => Ok(()),
            Some(held) => Err(Failure::Held(format!(
                "what upstream of {name} has now is held, and nothing was published: {held}\n\
                 hint: look at it; if it is meant, `smart-sync-server mirror sync {name} --accept` takes it"
            ))
            .into()),
        }
    }

    /// Brings what is not here, or says what did not come. Returns which upstream each file came from.
    async fn bring(
        &self,
        work: &Work,
        first: usize,
        missing: &[(&TreePath, &Offered)],
    ) -> anyhow::Result<BTreeMap<TreePath, String>> {
        let followed = self.followed;
        let wanted: std::collections::HashSet<_> = missing.iter().map(|(path, _)| work.file(path)).collect();
        block_in_place(|| work.keep_only(&|path| wanted.contains(&work.files().join(path))))?;
        let bytes_max = followed.bytes_max;
        let bringing =
            Bringing { outside: &self.mirrors.outside, sources: &followed.sources, first, work, bytes_max };
        let mut brought = Brought::default();
        let outcome = bringing.bring(missing, &mut brought).await;
        for done in &brought.done {
            self.note(&done.file, &done.attempts, done.failure.as_deref())?;
        }
        let bytes = brought.bytes();
        state::change(&mut self.mirrors.db(), &followed.name, |state| {
            state.fetched_bytes = state.fetched_bytes.saturating_add(bytes);
        })?;
        outcome?;
        let mut failures = brought.failures();
        if failures.is_empty() {
            let (files, bytes) =
                (counted(missing.len() as u64, "file is", "files are"), counted(bytes, "byte", "bytes"));
            self.order.say(format!("{files} new upstream; {bytes} came from there"))?;
            return Ok(brought.sources(missing));
        }
        let more = failures.len().saturating_sub(SHOWN_MAX);
        failures.truncate(SHOWN_MAX);
        if more > 0 {
            failures.push(format!("and {more} more"));
        }
        let said = failures.join("; ");
        let text = format!(
            "not all that is new upstream of {} came, and nothing was published: {said}",
            followed.name
        );
        Err(failure(brought.is_wrong, text))
    }

    /// Publishes what was brought, with what stays.
    fn publish(
        &self,
        work: &Work,
        beside: Option<BTreeMap<TreePath, Content>>,
        sources: BTreeMap<TreePath, String>,
        key_ring: Option<&KeyRing>,
        key: &SecretKey,
    ) -> anyhow::Result<()> {
        let followed = self.followed;
        let unsigned = if followed.allow_unsigned { Unsigned::Accepted } else { Unsigned::Refused };
        let files = work.files();
        let input = Input {
            signatures: SignaturePolicy { key_ring, unsigned, ..SignaturePolicy::default() },
            newest: followed.newest,
            sources,
            beside,
            // Whatever upstream calls a file, it is one that is meant.
            ..Input::directory(&files, Exclusions::none())
        };
        publish(self.realm(), &input, &self.target()?, key, &|line| self.order.say(line))
    }

    /// What is published.
    pub(super) fn target(&self) -> anyhow::Result<Target> {
        Ok(Target {
            origin: self.realm().origin.clone(),
            channel: self.followed.channel.clone(),
            reference: RefName::branch(MAIN)?,
            kind: self.followed.kind.clone(),
        })
    }

    /// Takes what there is for what is accepted.
    fn remember(&self, offering: &Offering, published: &Published, has: &[Has]) -> anyhow::Result<()> {
        let demand = |(path, offered): (_, &Offered)| {
            let content = published.files.get(path).map(|content| content.id);
            (path, (offered.must.key(), content))
        };
        let files: Vec<(&TreePath, Demand)> = offering.files.iter().map(demand).collect();
        let name = &self.followed.name;
        state::accept(&mut self.mirrors.db(), name, &offering.marks, &files)?;
        let (bytes, saved) = match &self.followed.versions {
            Some(of) => of.bytes(offering, has, published),
            None => bytes(offering, has, published),
        };
        state::change(&mut self.mirrors.db(), name, |state| {
            (state.files, state.bytes) = (offering.files.len() as u64, bytes);
            state.saved_bytes = state.saved_bytes.saturating_add(saved);
        })
    }

    fn note(&self, file: &str, attempts: &[Attempt], failure: Option<&str>) -> anyhow::Result<()> {
        let report = Report { mirror: &self.followed.name, file, attempts, failure, now: now() };
        record::note(&mut self.mirrors.db(), &report)
    }
}

/// An upstream that gave something else than it had to is refused; others only were of no use.
fn failure(is_wrong: bool, text: String) -> anyhow::Error {
    if is_wrong { Failure::Refused(text).into() } else { Failure::Upstream(text).into() }
}

/// The files of the published tree that stay.
fn beside(offering: &Offering, has: &[Has]) -> BTreeMap<TreePath, Content> {
    let stays = offering.files.keys().zip(has).filter_map(|(path, has)| match has {
        Has::Content(content) => Some((path.clone(), *content)),
        _ => None,
    });
    stays.collect()
}

/// The bytes of the published files, and of those that did not have to come.
fn bytes(offering: &Offering, has: &[Has], published: &Published) -> (u64, u64) {
    let saved = has.iter().map(|has| match has {
        Has::Content(content) => content.size,
        _ => 0,
    });
    let all = offering.files.keys().filter_map(|path| published.files.get(path)).map(|content| content.size);
    (all.fold(0, u64::saturating_add), saved.fold(0, u64::saturating_add))
}

fn bounded(offering: Offering) -> Result<Offering, Fault> {
    if offering.files.len() > FILES_MAX {
        return Err(Fault::Wrong(format!("it has more than {FILES_MAX} files")));
    }
    Ok(offering)
}

fn said_of(offering: &Offering) -> String {
    counted(offering.files.len() as u64, "file", "files").to_string()
}

fn said_of_attempt(attempt: &Attempt) -> String {
    format!("{}: {}", attempt.source, attempt.fault.as_deref().unwrap_or("it has nothing of that"))
}
