//! Whether the host is as the ledger says.

use smart_sync_store::id::ContentId;

use super::Ledger;
use super::act::Hand;
use super::entry::{Entry, HostPath, Thing};
use crate::apply::error::ApplyError;
use crate::apply::metadata::Metadata;

/// What became of a path since something was placed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It is as it was placed.
    Placed,
    /// Nothing stands there.
    Missing,
    /// Something else does.
    Changed,
    /// It has another mode or owner.
    MetadataChanged,
    /// A link leads to somewhere else.
    BehindLink,
    /// A run that would change it was interrupted.
    Pending,
}

/// What was found of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What became of it.
    pub condition: Condition,
    /// What stood there before and cannot be given back: its content is gone or damaged.
    pub lost: Option<ContentId>,
}

impl Condition {
    /// As a person calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Placed => "as it was placed",
            Self::Missing => "missing",
            Self::Changed => "changed",
            Self::MetadataChanged => "mode or owner changed",
            Self::BehindLink => "behind a symbolic link",
            Self::Pending => "to be completed",
        }
    }
}

impl Ledger {
    /// Looks at a path, reading all of what was placed there and of what is kept of it.
    pub fn verify(&self, path: &HostPath, entry: &Entry) -> Result<Verified, ApplyError> {
        let hand = Hand { root: &self.root, contents: &self.contents };
        let lost = match entry.former.as_ref().and_then(Thing::content) {
            Some(content) if self.contents.get(content)?.is_none() => Some(content),
            _ => None,
        };
        let condition = match (&entry.placed, hand.check_way(path)) {
            _ if entry.pending.is_some() => Condition::Pending,
            (_, Err(ApplyError::BehindLink { .. })) => Condition::BehindLink,
            (_, Err(error)) => return Err(error),
            (None, Ok(())) => Condition::Pending,
            (Some(placed), Ok(())) => match self.root.stat(path.below_root())? {
                None => Condition::Missing,
                Some(stat) if !hand.is(path, &stat, placed)? => Condition::Changed,
                Some(stat) if hand.is_met(path, &stat, &without_times(placed))? => Condition::Placed,
                Some(_) => Condition::MetadataChanged,
            },
        };
        Ok(Verified { condition, lost })
    }
}

/// Times change when nothing else does.
fn without_times(thing: &Thing) -> Thing {
    let without = |metadata: &Metadata| Metadata { modified: None, ..metadata.clone() };
    match thing {
        Thing::File { size, content, metadata } => {
            Thing::File { size: *size, content: *content, metadata: without(metadata) }
        }
        Thing::Symlink { target, metadata } => {
            Thing::Symlink { target: target.clone(), metadata: without(metadata) }
        }
        Thing::Directory { metadata } => Thing::Directory { metadata: without(metadata) },
    }
}
