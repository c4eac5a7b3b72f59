//! `publish`: states that a ref is a tree.
//!
//! Everything that the statement refers to is uploaded first, and the statement last, so that whatever ends a run
//! leaves nothing but pieces that the next one need not send. What the ref was before is judged from evidence, as
//! any client does, and "published" is said when the evidence shows the new statement.

mod destination;
mod kind;
mod parts;
mod rearrange;
mod say;
mod sign;
mod source;
mod submit;

use std::cell::OnceCell;

use smart_sync_store::id::{ContentId, ManifestId};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::ingest::{Ingested, Statistics};
use smart_sync_sync::kinds::{self, ArtifactKind, KindError};
use smart_sync_sync::name::{Channel, Kind, RefName};
use smart_sync_sync::publish::{Standing, Target};
use smart_sync_sync::record::{Publication, Root, Signed};
use smart_sync_sync::time::UnixTime;

use super::{count, open_realm, wait_for};
use crate::args::publish::{PublishArgs, TreeInput};
use crate::args::sync::ChannelArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::profile;
use crate::realm::remote::Remote;
use crate::realm::resolve::{Realm, RefStanding, now};
use crate::realm::roots::{RootChain, trusted_by};
use crate::sync::Surroundings;
use destination::{NetworkDestination, Packs};
use sign::Keys;
use source::{Job, Origin, Reading, Stored};
use submit::Overtaken;

pub(in crate::commands) use rearrange::{Rearranged, rearrange};

/// How often a tree is put together because somebody else has published meanwhile.
const ATTEMPTS_MAX: u32 = 8;

/// Publishes what the arguments name.
pub fn run(args: &PublishArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    if args.reference.as_ref().is_some_and(|query| query.at.is_some()) {
        return Err(Failure::message(
            Exit::Arguments,
            "a date says what a ref was, and publishing says what it is",
        )
        .hint("name the ref without @DATE"));
    }
    let publisher = Publisher::open(args, config, surroundings)?;
    if let (Some(TreeInput::Directory(path)), Some(kind)) = (&args.tree, &args.kind)
        && *kind == profile::resolve::kind()
    {
        profile::document::check_directory(path)?;
    }
    if args.withdraw {
        return publisher.withdraw();
    }
    let origin = match (&args.git, &args.tree) {
        (Some(path), _) => Origin::git(path)?,
        (None, Some(TreeInput::Directory(path))) => {
            Origin::Directory { path: path.clone(), fidelity: Origin::fidelity(args.fidelity) }
        }
        (None, _) => Origin::Tar { fidelity: Origin::fidelity(args.fidelity) },
    };
    match &origin {
        Origin::Git { repository, .. } if args.all_refs => {
            let jobs = Origin::all_jobs(repository, surroundings.output)?;
            publisher.publish_all(&origin, &jobs)
        }
        _ => {
            let job = origin.job(args.reference.as_ref().map(|query| &query.reference))?;
            publisher.publish(&origin, &job)?;
            Ok(Exit::Success)
        }
    }
}

/// A run of `publish`.
struct Publisher<'a> {
    args: &'a PublishArgs,
    surroundings: &'a Surroundings<'a>,
    realm: Realm,
    keys: Keys,
    root: OnceCell<Signed<Root>>,
    /// The kind of the trees that are published together.
    together: OnceCell<Kind>,
}

/// What is known of a tree besides what it is.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    /// The time of its content, where its kind knows that.
    content_time: Option<UnixTime>,
    /// The file of it that says where its files came from.
    meta: Option<ContentId>,
}

/// What became of a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It was published, or would be.
    Published,
    /// It is that tree already.
    Unchanged,
}

impl<'a> Publisher<'a> {
    fn open(
        args: &'a PublishArgs,
        config: &Config,
        surroundings: &'a Surroundings<'a>,
    ) -> Result<Self, Failure> {
        let tree = ChannelArgs {
            channel: Some(args.channel.clone()),
            servers: args.server.iter().cloned().collect(),
            ..ChannelArgs::default()
        };
        let (realm, _) = open_realm(&tree, config, surroundings)?;
        let keys = Keys::load(args)?;
        Ok(Self { args, surroundings, realm, keys, root: OnceCell::new(), together: OnceCell::new() })
    }
}

impl Publisher<'_> {
    fn remote(&self) -> &Remote {
        &self.realm.remotes()[0]
    }

    fn output(&self) -> &Output {
        self.surroundings.output
    }

    fn channel(&self) -> &Channel {
        &self.args.channel
    }

    fn standing(&self, reference: &RefName) -> Result<RefStanding, Failure> {
        wait_for(self.surroundings, self.realm.standing(self.channel(), reference, self.output()))
    }

    /// Publishes every ref; one that cannot be published does not keep the others from it.
    fn publish_all(&self, origin: &Origin, jobs: &[Job]) -> Result<Exit, Failure> {
        let (mut published, mut unchanged, mut failed) = (0, 0, Vec::new());
        for job in jobs {
            match self.publish(origin, job) {
                Ok(Outcome::Published) => published += 1,
                Ok(Outcome::Unchanged) => unchanged += 1,
                Err(failure)
                    if matches!(failure.exit(), Exit::General | Exit::Arguments)
                        || failure.cause::<KindError>().is_some() =>
                {
                    self.output().failure(&failure.context(format!("publishing {}", job.reference)));
                    failed.push(job.reference.to_string());
                }
                Err(failure) => return Err(failure.context(format!("publishing {}", job.reference))),
            }
        }
        let verb = if self.args.dry_run { "would be published" } else { "published" };
        self.output().info(&format!("{} {verb}, {unchanged} unchanged", count(published, "ref", "refs")));
        if failed.is_empty() {
            return Ok(Exit::Success);
        }
        Err(Failure::message(Exit::General, format!("not published: {}", failed.join(", "))))
    }

    /// Publishes a ref. Where several add to what is published, and another one was first, it is put together once more.
    fn publish(&self, origin: &Origin, job: &Job) -> Result<Outcome, Failure> {
        let mut kind = None;
        let outcome = self.until_first(|| {
            let before = self.standing(&job.reference)?;
            // Before anything is read: a kind does not change.
            kind = kinds::find(&self.target(job.reference.clone(), &before)?.kind);
            self.check_options(kind)?;
            Self::check_reference(kind, &job.reference)?;
            let is_joint = kind.is_some_and(|kind| kind.as_it_is().is_none()) && !self.args.replace;
            Ok((self.publish_onto(&before, kind, origin, job), is_joint))
        })?;
        self.bring_branches(kind)?;
        Ok(outcome)
    }

    /// Does it once more as long as others are first, and what they have published is to be added to.
    fn until_first<T>(
        &self,
        mut attempt: impl FnMut() -> Result<(Result<T, Failure>, bool), Failure>,
    ) -> Result<T, Failure> {
        let mut attempts = ATTEMPTS_MAX;
        loop {
            attempts -= 1;
            match attempt()? {
                (Err(failure), true) if attempts > 0 && failure.cause::<Overtaken>().is_some() => {
                    self.output().info("somebody else was first: adding to what they have published");
                }
                (ended, _) => return ended,
            }
        }
    }

    fn publish_onto(
        &self,
        before: &RefStanding,
        kind: Option<&dyn ArtifactKind>,
        origin: &Origin,
        job: &Job,
    ) -> Result<Outcome, Failure> {
        let packs = if self.args.dry_run { Packs::Count } else { Packs::Send };
        let mut destination =
            NetworkDestination::new(self.remote(), self.surroundings, self.channel(), packs);
        let is_same_commit = self.is_same_commit(before, job)?;
        if let (RefStanding::Published(before), true) = (before, is_same_commit)
            && Self::is_kept(before.manifest.id, &mut destination)?
        {
            self.say_unchanged(&job.reference, before.head.seq, Statistics::default());
            return Ok(Outcome::Unchanged);
        }
        self.check_keys(before)?;
        let wants_sums = self.keys.has_sidecars() && !self.args.dry_run;
        let exclusions = Exclusions::in_place(self.args.exclude.iter().map(String::as_str))
            .map_err(|error| Failure::new(Exit::Arguments, error))?;
        let state_dir = self.surroundings.state_dir;
        let (stored, said) = match kind.map(|kind| (kind, kind.as_it_is())) {
            Some((kind, None)) => self
                .store_of_kind(kind, before, &mut destination, exclusions, wants_sums)
                .map(|made| (made.stored, made.said)),
            Some((_, Some(judge))) => {
                let reading = Reading { exclusions, state_dir, wants_sums, judge: None };
                self.store_judged(judge, before, (origin, job), &mut destination, reading)
                    .map(|(stored, content_time)| (stored, Said { content_time, meta: None }))
            }
            None => {
                let reading = Reading { exclusions, state_dir, wants_sums, judge: None };
                origin.store(job, &mut destination, reading).map(|stored| (stored, Said::default()))
            }
        }
        .map_err(|failure| destination.take_failure().unwrap_or(failure))?;
        self.show_warnings(&stored.tree.warnings);
        let is_what_is_published = is_same_commit || job.commit.is_none();
        self.state(job, &stored, before, said, is_what_is_published)
    }

    /// States that a ref is a tree which was stored, unless it is that already and nothing else is new of it.
    fn state(
        &self,
        job: &Job,
        stored: &Stored,
        before: &RefStanding,
        said: Said,
        may_be_unchanged: bool,
    ) -> Result<Outcome, Failure> {
        if let RefStanding::Published(before) = before
            && may_be_unchanged
            && before.manifest.id == stored.tree.manifest.id
        {
            self.say_unchanged(&job.reference, before.head.seq, stored.tree.statistics);
            return Ok(Outcome::Unchanged);
        }
        if self.args.dry_run {
            self.say_what_would_be(job, &stored.tree);
            return Ok(Outcome::Published);
        }
        if let Some(time) = said.content_time {
            self.wait_until(time)?;
        }
        let publication = self.publication(job, &stored.tree, before, said)?;
        let note = self.keys.sign(&publication)?;
        let sidecars = self.keys.sidecars(&publication, &note, stored.sums.as_ref())?;
        let shown = self.submit(note, sidecars, &publication)?;
        self.say_published(&publication, Some(&stored.tree), shown);
        Ok(Outcome::Published)
    }

    fn withdraw(&self) -> Result<Exit, Failure> {
        let candidates = self.args.reference.iter().flat_map(|query| query.reference.candidates());
        for reference in candidates {
            match self.standing(&reference)? {
                RefStanding::Absent => {}
                RefStanding::Withdrawn { seq, .. } => {
                    self.output()
                        .info(&format!("{} {reference} was withdrawn by number {seq}", self.channel()));
                    return Ok(Exit::Success);
                }
                before @ (RefStanding::Published(_) | RefStanding::Void { .. }) => {
                    self.check_keys(&before)?;
                    let target = self.target(reference, &before)?;
                    if self.args.dry_run {
                        self.output()
                            .info(&format!("{} {} would be withdrawn", target.channel, target.reference));
                        return Ok(Exit::Success);
                    }
                    let publication = target.withdrawal(standing_of(&before), now());
                    let note = self.keys.sign(&publication)?;
                    let sidecars = self.keys.sidecars(&publication, &note, None)?;
                    let shown = self.submit(note, sidecars, &publication)?;
                    self.say_published(&publication, None, shown);
                    return Ok(Exit::Success);
                }
            }
        }
        let reference = self.args.reference.as_ref().map_or_else(String::new, ToString::to_string);
        Err(Failure::message(Exit::General, format!("{} has no {reference} to withdraw", self.channel())))
    }

    /// Whether the server still has all of a tree that is published; it knows when something was lost.
    fn is_kept(manifest: ManifestId, destination: &mut NetworkDestination<'_>) -> Result<bool, Failure> {
        let kept = destination.has_manifest(manifest);
        kept.map_err(|error| {
            let failure = destination.take_failure();
            failure.unwrap_or_else(|| Failure::message(Exit::Network, error.to_string()))
        })
    }

    /// Whether nothing has to be read to know that nothing changed. Refuses what a tag cannot do.
    fn is_same_commit(&self, before: &RefStanding, job: &Job) -> Result<bool, Failure> {
        let (channel, reference) = (self.channel(), &job.reference);
        match before {
            RefStanding::Published(before) => {
                let publication = before.publication.record();
                let is_same = job
                    .commit
                    .is_some_and(|commit| publication.git.is_some_and(|git| git.commit == commit.id));
                if !is_same && reference.is_tag() && job.commit.is_some() {
                    return Err(tag_is_written(channel, reference));
                }
                Ok(is_same)
            }
            RefStanding::Withdrawn { .. } if reference.is_tag() => Err(Failure::message(
                Exit::General,
                format!(
                    "{channel} {reference} was withdrawn, and the name of a withdrawn tag is not used again"
                ),
            )
            .hint("publish another tag")),
            RefStanding::Void { .. } if reference.is_tag() => Err(Failure::message(
                Exit::General,
                format!("{channel} {reference} was published with keys that do not count any more, and a tag is written once"),
            )
            .hint("publish another tag; this one can only be withdrawn")),
            RefStanding::Void { .. } | RefStanding::Withdrawn { .. } | RefStanding::Absent => Ok(false),
        }
    }

    /// Refuses keys that may not publish here before anything is uploaded.
    fn check_keys(&self, before: &RefStanding) -> Result<(), Failure> {
        match before {
            RefStanding::Published(before) => self.keys.check(before.root.record(), self.channel()),
            _ => self.keys.check(self.root()?.record(), self.channel()),
        }
    }

    /// The root document in force, where no evidence has shown it.
    fn root(&self) -> Result<&Signed<Root>, Failure> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let trusted = trusted_by(self.realm.state()?.as_ref());
        let chain = wait_for(self.surroundings, RootChain::fetch(self.remote(), |_| Ok(trusted.clone())))?;
        let trusted = trusted.first().ok_or_else(|| {
            Failure::message(Exit::Refused, format!("{} is not trusted yet", self.realm.origin()))
                .hint(format!("smart-sync trust add {} --root sha256:…", self.remote().base()))
        })?;
        let root = chain.verify(trusted)?;
        Ok(self.root.get_or_init(|| root))
    }

    fn target(&self, reference: RefName, before: &RefStanding) -> Result<Target, Failure> {
        let held = match before {
            RefStanding::Published(before) => Some(before.publication.record().kind.clone()),
            _ => None,
        };
        let kind = match (&self.args.kind, held) {
            (Some(asked), Some(held)) if *asked != held => {
                return Err(Failure::message(
                    Exit::Arguments,
                    format!("{} {reference} is of the kind {held}, which does not change", self.channel()),
                ));
            }
            (Some(kind), _) => kind.clone(),
            (None, Some(kind)) => kind,
            (None, None) => {
                self.together.get().cloned().unwrap_or_else(|| default_kind(self.args.git.is_some()))
            }
        };
        Ok(Target { origin: self.realm.origin().clone(), channel: self.channel().clone(), reference, kind })
    }

    fn publication(
        &self,
        job: &Job,
        tree: &Ingested,
        before: &RefStanding,
        said: Said,
    ) -> Result<Publication, Failure> {
        if job.reference.is_tag() && matches!(before, RefStanding::Published(_)) {
            return Err(tag_is_written(self.channel(), &job.reference));
        }
        let time = now();
        let committed = job.commit.and_then(|commit| UnixTime::new(u64::try_from(commit.time).ok()?));
        let content_time = said.content_time.or(committed).unwrap_or(time);
        let target = self.target(job.reference.clone(), before)?;
        let commit = job.commit.map(|commit| commit.id);
        let publication = target.publication(tree, commit, standing_of(before), content_time, time);
        Ok(Publication { meta: said.meta, ..publication })
    }
}

fn standing_of(before: &RefStanding) -> Option<Standing> {
    match before {
        RefStanding::Absent => None,
        // In a private channel the leaf is a seal, and a note follows on the note before it.
        RefStanding::Published(before) => {
            Some(Standing { seq: before.head.seq, leaf: before.publication.leaf() })
        }
        RefStanding::Withdrawn { seq, leaf } | RefStanding::Void { seq, leaf } => {
            Some(Standing { seq: *seq, leaf: *leaf })
        }
    }
}

fn default_kind(is_git: bool) -> Kind {
    let name = if is_git { "repo" } else { "tree" };
    name.parse().expect("a word of small letters is a kind")
}

fn tag_is_written(channel: &Channel, reference: &RefName) -> Failure {
    Failure::message(
        Exit::General,
        format!("{channel} {reference} is another tree, and a tag is written once"),
    )
    .hint("publish another tag; this one can only be withdrawn")
}
