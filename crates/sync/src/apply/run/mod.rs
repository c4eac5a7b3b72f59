//! A run: from the lock to the commit, one type for each state.
//!
//! What may be done next is what the type at hand allows: nothing before an unfinished run is settled, no flip
//! before everything is staged, no record of the new version before the flip.

mod known;
mod ready;
mod recovery;
mod settle;
mod staging;
mod target;

pub use ready::{ReadyTarget, Saved};
pub use recovery::{LockedTarget, Recovery};
pub use staging::{Flipped, Prepared, Staging};
pub use target::Target;
