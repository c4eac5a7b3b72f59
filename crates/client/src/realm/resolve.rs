//! From a ref to what it is, and why to believe it.
//!
//! All servers are asked at once, and the answer of the largest log is judged first: a mirror that is behind hides
//! nothing while another one is not. One that cannot be reached, or shows something that does not hold together, is
//! passed over; a fork ends everything, because the realm itself has lied.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use smart_sync_store::id::ManifestId;
use smart_sync_sync::evidence::FullEvidence;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::{Channel, Kind, Origin, RefName, RefQuery, update_path as path_of_update};
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::trust::{Freshness, Policy, Question, Refusal, TrustState, Verified, verify};
use smart_sync_sync::wire::update::{UPDATE_BYTES_MAX, Update};

use super::continuation::continued;
use super::remote::{OTHER_ANSWER_HINT, Remote, Traffic};
use super::trust_store::{HeldRealm, TrustStore};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::server_url::ServerUrl;
use crate::settings::NetworkSettings;
use crate::token::Token;
use tokio::time::{Instant, timeout_at};

/// How long other mirrors are waited for once one has answered: theirs may be the newer answer.
const OTHERS_WAIT: Duration = Duration::from_secs(2);

/// A channel, and who is asked about it.
#[derive(Debug, Clone)]
pub struct Realm {
    origin: Origin,
    store: TrustStore,
    remotes: Vec<Remote>,
    policy: Policy,
}

/// What a ref is, and which server said so.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What was proven.
    pub verified: Verified,
    /// The ref, with its kind.
    pub reference: RefName,
    /// The servers that answered, in the order in which they are to be asked for contents: the one that is believed,
    /// those that are as new, and those that are behind.
    pub remotes: Vec<Remote>,
    /// What came with the evidence.
    pub carried: Option<Carried>,
}

/// A bundle that came with evidence. Nobody has looked at it yet.
#[derive(Debug, Clone)]
pub struct Carried {
    /// Where it begins.
    pub from: ManifestId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Where a ref stands, for whoever is about to publish to it.
#[derive(Debug)]
pub enum RefStanding {
    /// It was never published.
    Absent,
    /// It is a tree.
    Published(Box<Verified>),
    /// It was withdrawn.
    Withdrawn {
        /// The number of the withdrawal.
        seq: u64,
        /// The hash of its note.
        leaf: LogHash,
    },
    /// It was published with keys that do not count any more.
    Void {
        /// The number of that publication.
        seq: u64,
        /// The hash of its note.
        leaf: LogHash,
    },
}

/// Where a ref ends, whatever it is there.
#[derive(Debug)]
pub struct RefHead {
    /// The ref, with its kind.
    pub reference: RefName,
    /// The number of its newest publication, or of the newest one at the date.
    pub seq: u64,
    /// The hash of that publication's note.
    pub leaf: LogHash,
    /// The log that shows it.
    pub log: Checkpoint,
    /// Servers in the order in which they are to be asked.
    pub remotes: Vec<Remote>,
}

/// What is needed to ask.
#[derive(Debug, Clone)]
pub struct RealmOptions {
    /// The realm, where it is known.
    pub origin: Option<Origin>,
    /// The servers; those that were added with the realm where there are none.
    pub servers: Vec<ServerUrl>,
    /// The token.
    pub token: Option<Token>,
    /// How old the proof of freshness may be.
    pub max_age: Option<Duration>,
    /// How the network is used.
    pub network: NetworkSettings,
}

impl Realm {
    /// Finds out which realm is meant, and prepares to ask its servers.
    pub fn open(store: &TrustStore, options: &RealmOptions) -> Result<Self, Failure> {
        let origin = find_origin(store, options)?;
        let servers =
            if options.servers.is_empty() { store.servers(&origin)? } else { options.servers.clone() };
        if servers.is_empty() {
            return Err(Failure::message(Exit::Arguments, format!("no server of {origin} is known"))
                .hint("name one with --server URL"));
        }
        let traffic = Arc::new(Traffic::default());
        let remotes = servers
            .into_iter()
            .map(|server| Remote::new(server, options.token.clone(), options.network, Arc::clone(&traffic)))
            .collect::<Result<_, _>>()?;
        let policy =
            Policy { max_age_seconds: options.max_age.map(|age| age.as_secs()), ..Policy::default() };
        Ok(Self { origin, store: store.clone(), remotes, policy })
    }

    /// The realm's name.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The servers.
    pub fn remotes(&self) -> &[Remote] {
        &self.remotes
    }

    /// What was sent and received.
    pub fn traffic(&self) -> &Arc<Traffic> {
        self.remotes[0].traffic()
    }

    /// Asks what a ref is, judges the answers, and keeps what was accepted.
    pub async fn resolve(
        &self,
        channel: &Channel,
        query: &RefQuery,
        kind: Option<&Kind>,
        output: &Output,
    ) -> Result<Resolved, Failure> {
        Ok(self.resolve_or_say(channel, query, kind, None, output).await?)
    }

    /// The same for a target that holds a manifest: a short bundle from there may come along.
    pub async fn resolve_from(
        &self,
        channel: &Channel,
        query: &RefQuery,
        base: Option<ManifestId>,
        output: &Output,
    ) -> Result<Resolved, Failure> {
        Ok(self.resolve_or_say(channel, query, None, base, output).await?)
    }

    /// Asks where a ref ends; one that was withdrawn has an end too.
    pub async fn head(
        &self,
        channel: &Channel,
        query: &RefQuery,
        output: &Output,
    ) -> Result<RefHead, Failure> {
        match self.resolve_or_say(channel, query, None, None, output).await {
            Ok(Resolved { verified, reference, remotes, .. }) => {
                let log = verified.state.checkpoint().expect("a log that was verified is known").clone();
                let (seq, leaf) = (verified.head.seq, verified.publication.leaf());
                Ok(RefHead { reference, seq, leaf, log, remotes })
            }
            Err(Asked { refusal: Some(Refusal::Withdrawn { reference, seq, leaf, log, .. }), .. }) => {
                Ok(RefHead { reference, seq, leaf, log: *log, remotes: self.remotes.clone() })
            }
            Err(asked) => Err(asked.into()),
        }
    }

    async fn resolve_or_say(
        &self,
        channel: &Channel,
        query: &RefQuery,
        kind: Option<&Kind>,
        base: Option<ManifestId>,
        output: &Output,
    ) -> Result<Resolved, Asked> {
        let candidates = query.reference.candidates();
        let mut absent: Option<Asked> = None;
        for reference in &candidates {
            let question = Question {
                channel: channel.clone(),
                reference: reference.clone(),
                at: query.at,
                kind: kind.cloned(),
            };
            match self.ask_all(&question, base, output).await {
                Ok(resolved) => return Ok(resolved),
                // A name without a kind may be a branch or a tag.
                Err(asked) if asked.is_absence() => absent = absent.or(Some(asked)),
                Err(asked) => return Err(asked),
            }
        }
        Err(absent.unwrap_or_else(|| Failure::message(Exit::Arguments, "no ref was asked for").into()))
    }

    /// Finds out where a ref stands, from the first server alone: the one that is published to.
    pub async fn standing(
        &self,
        channel: &Channel,
        reference: &RefName,
        output: &Output,
    ) -> Result<RefStanding, Failure> {
        let (channel, reference) = (channel.clone(), reference.clone());
        let question = Question { channel, reference, at: None, kind: None };
        match self.ask(&self.remotes[0], &question, output).await {
            Ok(verified) => Ok(RefStanding::Published(Box::new(verified))),
            Err(Asked { refusal: Some(Refusal::NotFound { .. }), .. }) => Ok(RefStanding::Absent),
            Err(Asked { refusal: Some(Refusal::Withdrawn { seq, leaf, .. }), .. }) => {
                Ok(RefStanding::Withdrawn { seq, leaf })
            }
            Err(Asked { refusal: Some(Refusal::NotSigned { seq, leaf, .. }), failure, .. }) => {
                let reason = failure.messages().collect::<Vec<_>>().join(": ");
                output.warning(&format!("what stands there now is accepted by nobody: {reason}"));
                Ok(RefStanding::Void { seq, leaf })
            }
            Err(asked) => Err(asked.into()),
        }
    }

    /// What is believed of the realm.
    pub fn state(&self) -> Result<Option<TrustState>, Failure> {
        self.store.state(&self.origin)
    }

    async fn ask_all(
        &self,
        question: &Question,
        base: Option<ManifestId>,
        output: &Output,
    ) -> Result<Resolved, Asked> {
        let known = self.store.state(&self.origin)?;
        let kept = self.kept(known.as_ref(), question)?;
        let (known, kept) = (known.as_ref(), kept.as_ref());
        let mut asking: FuturesUnordered<_> = (self.remotes.iter().enumerate())
            .map(async |(index, remote)| (index, update_from(remote, question, base, known, kept).await))
            .collect();
        let mut heard = Heard::default();
        let mut deadline = None;
        let mut last = None;
        loop {
            let next = match deadline {
                None => asking.next().await,
                Some(deadline) => timeout_at(deadline, asking.next()).await.ok().flatten(),
            };
            match next {
                Some((index, Ok((evidence, carried)))) => {
                    heard.answers.push(Answered::new(index, evidence, carried));
                    deadline.get_or_insert_with(|| Instant::now() + OTHERS_WAIT);
                    if !asking.is_empty() {
                        continue;
                    }
                }
                Some((index, Err(asked))) => {
                    heard.failures.push((index, asked));
                    if !asking.is_empty() {
                        continue;
                    }
                }
                None => {}
            }
            if let Some(resolved) = self.judge_newest(question, &mut heard, &mut last, output)? {
                return Ok(resolved);
            }
            if asking.is_empty() {
                return Err(self.none_is_right(heard, last, output));
            }
            // What came first was no good. Whatever comes next is judged at once.
            deadline = None;
        }
    }

    /// Judges what was heard, the answer of the largest log first, until one is believed.
    fn judge_newest(
        &self,
        question: &Question,
        heard: &mut Heard,
        last: &mut Option<(usize, Asked)>,
        output: &Output,
    ) -> Result<Option<Resolved>, Asked> {
        heard.answers.sort_by_key(|answered| (std::cmp::Reverse(answered.size), answered.index));
        while !heard.answers.is_empty() {
            let Answered { index, evidence, carried, .. } = heard.answers.remove(0);
            match self.judge(evidence, question, output) {
                Ok(verified) => {
                    for (index, asked) in heard.failures.drain(..).chain(last.take()) {
                        self.tell_passed_over(index, &asked, output);
                    }
                    let others = heard.answers.iter().map(|answered| answered.index);
                    let remotes = std::iter::once(index).chain(others);
                    let remotes = remotes.map(|index| self.remotes[index].clone()).collect();
                    let reference = question.reference.clone();
                    return Ok(Some(Resolved { verified, reference, remotes, carried }));
                }
                Err(asked) if asked.may_another_know => {
                    if let Some((index, asked)) = last.replace((index, asked)) {
                        self.tell_passed_over(index, &asked, output);
                    }
                }
                Err(asked) => return Err(asked),
            }
        }
        Ok(None)
    }

    /// Says why each server is passed over but one, which stands for the failure: one that was refused rather than
    /// one that did not answer.
    fn none_is_right(&self, heard: Heard, last: Option<(usize, Asked)>, output: &Output) -> Asked {
        let mut failures = heard.failures;
        failures.sort_by_key(|(index, _)| *index);
        let last = last.or_else(|| failures.pop());
        for (index, asked) in failures {
            self.tell_passed_over(index, &asked, output);
        }
        last.map_or_else(
            || Failure::message(Exit::Arguments, "no server is known").into(),
            |(_, asked)| asked,
        )
    }

    fn tell_passed_over(&self, index: usize, asked: &Asked, output: &Output) {
        let reason = asked.failure.messages().collect::<Vec<_>>().join(": ");
        output.warning(&format!("{} is passed over: {reason}", self.remotes[index].base()));
    }

    async fn ask(&self, remote: &Remote, question: &Question, output: &Output) -> Result<Verified, Asked> {
        let known = self.store.state(&self.origin)?;
        let kept = self.kept(known.as_ref(), question)?;
        let (evidence, _) = update_from(remote, question, None, known.as_ref(), kept.as_ref()).await?;
        self.judge(evidence, question, output)
    }

    /// Judges evidence, and keeps what was accepted.
    fn judge(&self, full: FullEvidence, question: &Question, output: &Output) -> Result<Verified, Asked> {
        let held = self.store.hold(&self.origin)?;
        // Another run may have learnt more in between.
        let state = held.state()?;
        let verified = verify(state.as_ref(), &full, question, now(), &self.policy)
            .map_err(|refusal| refused(&held, refusal, output))?;
        held.save(&verified.state)?;
        if question.at.is_none() {
            held.keep_evidence(&question.channel, &question.reference, full)?;
        }
        if let Freshness::Stale { age_seconds, max_age_seconds } = verified.freshness {
            output.warning(&format!(
                "the newest checkpoint is {age_seconds} s old, and {max_age_seconds} s are allowed; it says nothing \
                 new, so what is here stays"
            ));
        }
        warn_of_expiry(&verified, output);
        Ok(verified)
    }

    /// The last full evidence, if it is of the log that was verified last.
    fn kept(&self, known: Option<&TrustState>, question: &Question) -> Result<Option<FullEvidence>, Failure> {
        let Some(known) = known.filter(|known| known.size() > 0 && question.at.is_none()) else {
            return Ok(None);
        };
        let held = self.store.hold(&self.origin)?;
        let kept = held.evidence(&question.channel, &question.reference);
        let note = known.checkpoint_note().map(|note| note.text().to_owned());
        // Evidence of another log size would not fit the newest checkpoint.
        Ok(kept.filter(|kept| {
            smart_sync_sync::note::Note::parse(&kept.checkpoint).ok().map(|kept| kept.text().to_owned())
                == note
        }))
    }
}

/// Days before the root document's end from which on it is mentioned.
const EXPIRY_WARNING_SECONDS: u64 = 30 * 24 * 60 * 60;

fn warn_of_expiry(verified: &Verified, output: &Output) {
    let root = verified.root.record();
    let left = root.expires.seconds_since(now());
    if left < EXPIRY_WARNING_SECONDS {
        output.warning(&format!(
            "the root document of {} expires at {}; whoever runs the realm has to publish a new one",
            root.origin, root.expires
        ));
    }
}

/// What servers have said so far.
#[derive(Default)]
struct Heard {
    answers: Vec<Answered>,
    failures: Vec<(usize, Asked)>,
}

/// Evidence that was not judged yet.
struct Answered {
    /// The number of the server.
    index: usize,
    /// The size of the log that it says to be of.
    size: u64,
    evidence: FullEvidence,
    carried: Option<Carried>,
}

impl Answered {
    fn new(index: usize, evidence: FullEvidence, carried: Option<Carried>) -> Self {
        Self { index, size: evidence.claimed_log().map_or(0, |log| log.size), evidence, carried }
    }
}

/// Asks one server for evidence, from what is known of the log and was kept of the last time, and for what leads there
/// from a manifest.
async fn update_from(
    remote: &Remote,
    question: &Question,
    base: Option<ManifestId>,
    known: Option<&TrustState>,
    kept: Option<&FullEvidence>,
) -> Result<(FullEvidence, Option<Carried>), Asked> {
    let path = update_path(question, base, known, kept.is_some());
    let limit = UPDATE_BYTES_MAX as u64;
    let bytes = remote.get(&path, limit).await.map_err(|error| Asked::of_network(error.into()))?;
    let Update { evidence, bundle } = Update::decode(&bytes).map_err(|error| {
        Asked::of_network(
            Failure::new(Exit::Network, error)
                .context(format!("{} does not answer as a smart-sync server does", remote.base()))
                .hint(OTHER_ANSWER_HINT),
        )
    })?;
    let Some(full) = evidence.complete(kept) else {
        let text =
            format!("{} says that nothing changed, without having been told what is known", remote.base());
        let failure = Failure::message(Exit::Network, text).hint("try another mirror with --server");
        return Err(Asked::of_network(failure));
    };
    let size = known.map_or(0, TrustState::size);
    let full = continued(remote, full, size).await.map_err(Asked::of_network)?;
    let carried = base.filter(|_| !bundle.is_empty()).map(|from| Carried { from, bytes: bundle });
    Ok((full, carried))
}

/// A failure to learn something from one server.
struct Asked {
    failure: Box<Failure>,
    may_another_know: bool,
    /// What the evidence was refused for, where there was any.
    refusal: Option<Refusal>,
}

impl Asked {
    fn of_network(failure: Failure) -> Self {
        Self { failure: Box::new(failure), may_another_know: true, refusal: None }
    }

    const fn is_absence(&self) -> bool {
        matches!(self.refusal, Some(Refusal::NotFound { .. }))
    }
}

impl From<Failure> for Asked {
    fn from(failure: Failure) -> Self {
        Self { failure: Box::new(failure), may_another_know: false, refusal: None }
    }
}

impl From<Asked> for Failure {
    fn from(asked: Asked) -> Self {
        *asked.failure
    }
}

fn refused(held: &HeldRealm, refusal: Refusal, output: &Output) -> Asked {
    if let Refusal::Fork { fork, latched, .. } = &refusal {
        let kept = held.keep_fork(fork).and_then(|path| held.save(latched).map(|()| path));
        match kept {
            Ok(path) => output.warning(&format!("both checkpoints are kept in {}", path.display())),
            Err(failure) => output.failure(&failure),
        }
    }
    let may_another_know = refusal.is_worth_another_mirror();
    let exit = if refusal.exit_code() == Exit::Refused.code() { Exit::Refused } else { Exit::General };
    let hint = refusal.hint();
    let failure = Failure::new(exit, refusal.clone()).hint(hint);
    Asked { failure: Box::new(failure), may_another_know, refusal: Some(refusal) }
}

fn update_path(
    question: &Question,
    base: Option<ManifestId>,
    known: Option<&TrustState>,
    has_kept: bool,
) -> String {
    let mut query = Vec::new();
    let mut had = None;
    if let Some(at) = question.at {
        query.push(format!("at={}", at.seconds()));
    }
    if let Some(known) = known.filter(|known| known.size() > 0) {
        query.push(format!("size={}", known.size()));
        if let Some(reference) = known.reference(&question.channel, &question.reference).filter(|_| has_kept)
        {
            query.push(format!("have={}", reference.manifest));
            had = Some(reference.manifest);
        }
    }
    match base.filter(|_| question.at.is_none()) {
        Some(base) if had == Some(base) => query.push("bundle=".to_owned()),
        Some(base) => query.push(format!("bundle={base}")),
        None => {}
    }
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", path_of_update(&question.channel, &question.reference), query.join("&"))
}

fn find_origin(store: &TrustStore, options: &RealmOptions) -> Result<Origin, Failure> {
    if let Some(origin) = &options.origin {
        return Ok(origin.clone());
    }
    for server in &options.servers {
        if let Some(origin) = store.origin_of(server)? {
            return Ok(origin);
        }
    }
    let origins = store.origins()?;
    match (&origins[..], options.servers.first()) {
        ([], server) => {
            let server = server.map_or_else(|| "URL".to_owned(), ToString::to_string);
            Err(Failure::message(Exit::Refused, "no realm is trusted yet").hint(format!(
                "get the fingerprint from whoever runs it, then: smart-sync trust add {server} --root sha256:…"
            )))
        }
        ([only], _) => Ok(only.clone()),
        (several, _) => {
            let names: Vec<_> = several.iter().map(ToString::to_string).collect();
            Err(Failure::message(
                Exit::Arguments,
                format!("it is not clear which realm is meant: {}", names.join(", ")),
            )
            .hint("name a server that was added with `trust add`, or the realm in the configuration"))
        }
    }
}

/// This machine's time.
pub fn now() -> UnixTime {
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    UnixTime::new(seconds).unwrap_or(UnixTime::MAX)
}
