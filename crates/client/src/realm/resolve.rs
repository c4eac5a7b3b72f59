//! From a ref to what it is, and why to believe it.
//!
//! All servers are asked at once, and the answer of the largest log is judged first: a mirror that is behind hides
//! nothing while another one is not. One that cannot be reached, or shows something that does not hold together, is
//! passed over; a fork ends everything, because the realm itself has lied.

mod ask;
mod dated;
mod heard;
mod judge;

use std::sync::Arc;
use std::time::Duration;

use smart_sync_store::id::ManifestId;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::{Channel, Kind, Origin, RefName, RefQuery};
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::trust::{Policy, Question, Refusal, TrustState, Verified};

use self::ask::{Asked, update_from};
use super::remote::{Remote, Traffic};
use super::trust_store::TrustStore;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::server_url::ServerUrl;
use crate::settings::NetworkSettings;
use crate::token::Token;

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

    /// Asks what a ref is. A date means what stood there then, unless the kind of its trees dates them by their contents.
    async fn resolve_or_say(
        &self,
        channel: &Channel,
        query: &RefQuery,
        kind: Option<&Kind>,
        base: Option<ManifestId>,
        output: &Output,
    ) -> Result<Resolved, Asked> {
        let stood = self.resolve_in_log(channel, query, kind, base, output).await;
        match query.at {
            Some(at) => self.resolve_by_content(channel, query, at, kind, stood, output).await,
            None => stood,
        }
    }

    async fn resolve_in_log(
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
                let reason = failure.in_one_line();
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

    async fn ask(&self, remote: &Remote, question: &Question, output: &Output) -> Result<Verified, Asked> {
        let known = self.store.state(&self.origin)?;
        let kept = self.kept(known.as_ref(), question)?;
        let (evidence, _) = update_from(remote, question, None, known.as_ref(), kept.as_ref()).await?;
        self.judge(evidence, question, output)
    }
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
