//! Why evidence was refused, and what to do about it.

use super::state::TrustState;
use crate::log::checkpoint::{Checkpoint, CheckpointError};
use crate::log::heads::HeadProofError;
use crate::log::merkle::LogHash;
use crate::log::proof::ProofError;
use crate::name::{Channel, Origin, RefName};
use crate::note::Note;
use crate::record::RecordError;
use crate::time::UnixTime;

/// Two checkpoints of one size that contradict each other: the log has shown different histories. Whoever holds both
/// can prove it to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The one that was known.
    pub known: Note,
    /// The one that was offered.
    pub offered: Note,
}

/// Why evidence was refused. What was known is unchanged; only for a fork there is a state to be kept, and it is one
/// that accepts nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody has said yet what to trust.
    #[error("no root of trust is known for this server")]
    NoPin,
    /// The realm was caught showing two histories, and nobody has looked at it yet.
    #[error("{0} has shown two histories, and nothing of it is accepted")]
    Latched(Origin),
    /// The roots do not lead from what is trusted to what is offered.
    #[error(transparent)]
    Root(#[from] RootFault),
    /// The checkpoint is not one that the realm stands for.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The clock stood for it later than it is now.
    #[error("the checkpoint is from {time}, and this machine's time is {now}")]
    FromTheFuture {
        /// The clock's time.
        time: UnixTime,
        /// This machine's.
        now: UnixTime,
    },
    /// The clock's word is too old.
    #[error(
        "the checkpoint is {age_seconds} seconds old, and {max_age_seconds} are allowed: updates may be hidden"
    )]
    Stale {
        /// How old.
        age_seconds: u64,
        /// How old it may be.
        max_age_seconds: u64,
    },
    /// An older log than the one that was seen.
    #[error("the server is behind: it offers {offered}, and {seen} was seen before")]
    Behind {
        /// What was seen.
        seen: String,
        /// What it offers.
        offered: String,
    },
    /// What was sent does not prove what it claims.
    #[error("the evidence does not prove what it claims: {0}")]
    Unproven(String),
    /// Two histories.
    #[error("FORK: the log has shown two different histories of {} leaves, both properly signed", .size)]
    Fork {
        /// The size of both.
        size: u64,
        /// Both.
        fork: Box<Fork>,
        /// The state to be kept: it accepts nothing.
        latched: Box<TrustState>,
    },
    /// The log itself breaks the rules of logs.
    #[error("the log breaks its rules: {0}")]
    Log(#[from] LogFault),
    /// The log names a newer root document than the ones that were sent.
    #[error(
        "a root document is withheld: the log is at version {named}, and version {known} is the last one sent"
    )]
    RootWithheld {
        /// The version that the log names.
        named: u64,
        /// The last one that was sent.
        known: u64,
    },
    /// There is no such ref.
    #[error("{channel} has no {reference}{}", on(*.at))]
    NotFound {
        /// The channel.
        channel: Channel,
        /// The ref.
        reference: RefName,
        /// The date, if it was asked for one.
        at: Option<UnixTime>,
        /// Whether that is proven; in a private channel that was never seen before it cannot be.
        is_proven: bool,
    },
    /// The ref was withdrawn.
    #[error("{reference} of {channel} was withdrawn{}", on(*.at))]
    Withdrawn {
        /// The channel.
        channel: Channel,
        /// The ref.
        reference: RefName,
        /// The date, if it was asked for one.
        at: Option<UnixTime>,
        /// The number of the publication that withdrew it.
        seq: u64,
        /// The hash of that publication's note, which the next one names as its predecessor.
        leaf: LogHash,
        /// The log that shows it.
        log: Box<Checkpoint>,
    },
    /// The publication stands at the ref, and its signatures do not count, or not any more.
    #[error("the publication is not valid: {source}")]
    NotSigned {
        /// What is wrong with its signatures.
        source: RecordError,
        /// Its number.
        seq: u64,
        /// The hash of its note, which the next publication names as its predecessor.
        leaf: LogHash,
    },
    /// The publication is not one that counts.
    #[error("the publication is not valid: {0}")]
    Publication(#[from] RecordError),
    /// The publication is of something else.
    #[error("the publication is of {found}, and {asked} was asked for")]
    OtherThing {
        /// What was asked.
        asked: String,
        /// What it is.
        found: String,
    },
}

/// The roots do not lead from what is trusted to what is offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootFault {
    /// Too many.
    #[error("{0} root documents were sent, over the limit of {max}", max = super::ROOT_STEPS_MAX)]
    TooMany(usize),
    /// The pinned one is not there.
    #[error("the root document {0} that is pinned was not sent")]
    PinNotFound(LogHash),
    /// One of them does not follow.
    #[error("the root document after version {after} is not acceptable: {source}")]
    Step {
        /// The last good version; 0 for the pin.
        after: u64,
        /// What is wrong.
        source: RecordError,
    },
    /// The pinned root is of another realm.
    #[error("the root document is of {found}, not of {expected}")]
    OtherOrigin {
        /// The realm that was asked for.
        expected: Origin,
        /// The realm it is of.
        found: Origin,
    },
    /// The last one has expired.
    #[error("the root document of {origin} (version {version}) expired at {expires}")]
    Expired {
        /// The realm.
        origin: Origin,
        /// Its version.
        version: u64,
        /// When.
        expires: UnixTime,
    },
}

/// The log itself breaks the rules of logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// Its last leaf is no heads leaf, or a malformed one.
    #[error("a leaf that should be heads is not: {0}")]
    NotHeads(RecordError),
    /// Time goes back.
    #[error("the time of its heads goes back from {seen} to {offered}")]
    TimeBackwards {
        /// The time that was seen.
        seen: UnixTime,
        /// The time that is offered.
        offered: UnixTime,
    },
    /// Heads that are newer than the clock's word.
    #[error("its heads are from {heads}, after the clock's {clock}")]
    HeadsAfterClock {
        /// The time of the heads.
        heads: UnixTime,
        /// The time of the clock.
        clock: UnixTime,
    },
    /// It names a root document that is not the one in force.
    #[error("its heads name another root document than the one in force")]
    OtherRoot,
    /// Sequence numbers go back.
    #[error("the sequence number goes back from {seen} to {offered}")]
    SequenceBack {
        /// The one that was seen.
        seen: u64,
        /// The one that is offered.
        offered: u64,
    },
    /// One sequence number, two publications.
    #[error("it has two publications with the sequence number {0}")]
    TwoPublications(u64),
    /// A ref is gone.
    #[error("a ref that was published is gone from the table of heads")]
    RefGone,
    /// The parts of a publication contradict each other.
    #[error("the table of heads and the publication contradict each other: {0}")]
    Contradiction(&'static str),
}

impl Refusal {
    /// Whether another mirror may well have better evidence.
    pub const fn is_worth_another_mirror(&self) -> bool {
        match self {
            Self::NoPin
            | Self::Latched(_)
            | Self::FromTheFuture { .. }
            | Self::Fork { .. }
            | Self::NotFound { is_proven: true, .. }
            | Self::Withdrawn { .. } => false,
            Self::Root(_)
            | Self::Checkpoint(_)
            | Self::Stale { .. }
            | Self::Behind { .. }
            | Self::Unproven(_)
            | Self::Log(_)
            | Self::RootWithheld { .. }
            | Self::NotFound { .. }
            | Self::Publication(_)
            | Self::NotSigned { .. }
            | Self::OtherThing { .. } => true,
        }
    }

    /// The exit code of a program that ends because of this: 7, verification refused; but 1 where everything was
    /// verified and the answer is that there is nothing.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { is_proven: true, .. } | Self::Withdrawn { .. } => 1,
            _ => 7,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoPin => {
                "ask the realm's owner for the hash of the root document and type \
                 `smart-sync trust add URL --root sha256:…`"
            }
            Self::Latched(_) | Self::Fork { .. } => {
                "tell the realm's owner: type `smart-sync trust show` for both signed checkpoints; \
                 only when the cause is known type `smart-sync trust reset ORIGIN`"
            }
            Self::Root(RootFault::PinNotFound(_) | RootFault::OtherOrigin { .. }) => {
                "check the URL and the hash; if the realm began anew, type `smart-sync trust reset ORIGIN` and add it again"
            }
            Self::Root(RootFault::Expired { .. }) => {
                "the realm's owner has to sign a new root document (`smart-sync root edit`); \
                 if it did, check this machine's time with `date`"
            }
            Self::Root(RootFault::TooMany(_)) => {
                "this machine is too many root documents behind; ask for the hash of a newer one, and type \
                 `smart-sync trust reset ORIGIN` and `smart-sync trust add URL --root sha256:…`"
            }
            Self::FromTheFuture { .. } => "check this machine's time with `date`, set it, and try again",
            Self::Stale { .. } => {
                "try another mirror with `--server`; for a copy that is meant to be old, such as a disk that was carried \
                 here, type `--max-age 30d` or set `max-age` for its realm in the configuration"
            }
            Self::NotFound { is_proven: true, .. } => {
                "check the channel and the name (without its token, a private channel looks like one that is not there); \
                 `smart-sync log` shows what a ref was"
            }
            Self::NotFound { .. } => {
                "nothing of this private channel was ever accepted here, so this is the server's word alone: check the \
                 name, and try another mirror with `--server`"
            }
            Self::Withdrawn { .. } => "choose another ref, or an earlier date with `--ref REF@DATE`",
            Self::Root(_)
            | Self::Checkpoint(_)
            | Self::Behind { .. }
            | Self::Unproven(_)
            | Self::Log(_)
            | Self::RootWithheld { .. }
            | Self::Publication(_)
            | Self::NotSigned { .. }
            | Self::OtherThing { .. } => {
                "nothing was changed; try another mirror with `--server`, and tell the realm's owner if it persists"
            }
        }
    }
}

impl From<ProofError> for Refusal {
    fn from(error: ProofError) -> Self {
        Self::Unproven(error.to_string())
    }
}

impl From<HeadProofError> for Refusal {
    fn from(error: HeadProofError) -> Self {
        Self::Unproven(error.to_string())
    }
}

fn on(at: Option<UnixTime>) -> String {
    at.map(|at| format!(" at {at}")).unwrap_or_default()
}
