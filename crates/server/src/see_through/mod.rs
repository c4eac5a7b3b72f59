//! Compressed artifacts stored as what they are rebuilt from, so that versions of them share what they have in common.
//!
//! Everything is stored as it comes first, and a publication waits for nothing here. Later, on a thread of the lowest
//! priority, what is new is looked at: an artifact that can be rebuilt bit for bit, soon enough, and that takes less room
//! taken apart than as it is, alone or together with the version before it, is stored so. What only the original needs
//! is then garbage. [`choose`] decides, [`round`] goes through what was published, [`tend`](fn@tend) does that again and again.

mod choose;
mod round;
mod tend;

pub(crate) use round::{Outcome, Rounds};
pub(crate) use tend::tend;
