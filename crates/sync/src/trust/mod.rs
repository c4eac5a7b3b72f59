//! Deciding what to believe.
//!
//! [`verify()`] is one pure function of what is known, what was received, what was asked and what time it is. It
//! either returns a new state to be kept or a refusal; what is known is never changed in place, so that a refusal
//! cannot move it. `docs/trust.md` says the same for people.

mod refusal;
mod roots;
mod state;
mod state_text;
mod verify;

use crate::log::heads::Head;
use crate::log::merkle::LogHash;
use crate::name::{Channel, Kind, RefName};
use crate::record::{ManifestRef, Publication, Root, Signed};
use crate::time::UnixTime;

pub use refusal::{Fork, LogFault, Refusal, RootFault};
pub use state::{RefState, TrustState};
pub use state_text::StateError;
pub use verify::verify;

/// How far the clock of a realm may run ahead of this machine's, in seconds.
pub const CLOCK_SKEW_SECONDS: u64 = 600;
/// How many versions of the root document are walked at most.
pub const ROOT_STEPS_MAX: usize = crate::evidence::ROOTS_MAX;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The channel.
    pub channel: Channel,
    /// The ref.
    pub reference: RefName,
    /// The last second that counts; none asks for what is current.
    pub at: Option<UnixTime>,
    /// What the channel has to carry, where that is known.
    pub kind: Option<Kind>,
}

/// What this machine allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// How old the clock's word may be, in place of what the root document says.
    pub max_age_seconds: Option<u64>,
    /// For how long after that a stale checkpoint is only a warning, where it says nothing that is not known.
    pub stale_grace_seconds: u64,
}

/// What is believed, and the state to be kept from now on.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The new state. It has to be made durable before anything is done with the rest.
    pub state: TrustState,
    /// The publication.
    pub publication: Signed<Publication>,
    /// The tree that it publishes.
    pub manifest: ManifestRef,
    /// Where it stands in the log.
    pub head: Head,
    /// What was known of the ref before.
    pub before: Option<RefState>,
    /// The root document in force.
    pub root: Signed<Root>,
    /// The size of the log.
    pub size: u64,
    /// When the clock stood for it.
    pub checkpoint_time: UnixTime,
    /// The time of the heads leaf that answered.
    pub heads_time: UnixTime,
    /// Whether that is recent enough.
    pub freshness: Freshness,
}

/// Whether a checkpoint is recent enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is.
    Fresh,
    /// It is not, but nothing newer is known, and it only says again what was known. To be shown as a warning; the
    /// state has not moved.
    Stale {
        /// How old it is.
        age_seconds: u64,
        /// How old it may be.
        max_age_seconds: u64,
    },
}

impl Verified {
    /// Whether this is another publication than the one that was known before.
    pub fn is_news(&self) -> bool {
        self.before.as_ref().is_none_or(|before| before.leaf != self.head.leaf)
    }
}

/// The hash of a root document, as it is pinned and as `trust show` prints it.
pub fn pin_of(root_note: &[u8]) -> LogHash {
    LogHash::of_leaf(root_note)
}

#[cfg(test)]
mod tests;
