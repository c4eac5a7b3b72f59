//! A tree that is to be applied, and what came of it.

use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Entry, Fidelity};
use smart_sync_sync::apply::plan::Need;
use smart_sync_sync::apply::versions::VersionName;

use crate::failure::Failure;
use crate::sync::pages::Pages;
use crate::sync::place::Label;

/// A tree that is to be applied.
pub struct Wanted {
    /// Its pages.
    pub pages: Pages,
    /// Its manifest.
    pub manifest: ManifestId,
    /// How much it keeps of a file's metadata.
    pub fidelity: Fidelity,
    /// What is noted of it.
    pub label: Label,
    /// Why it is applied.
    pub purpose: Purpose,
}

/// Why a tree is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// It is what the target shall hold from now on, if all is well then.
    Update,
    /// It is gone back to; where the target is changed in place, under the name that it is kept under.
    GoingBack(Option<VersionName>),
}

impl Wanted {
    pub(super) fn with_entries<T>(
        &self,
        work: impl FnOnce(&mut dyn Iterator<Item = Entry>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.pages.with_entries(self.manifest, work)
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The target is what it shall be already.
    Nothing,
    /// It is now.
    Applied {
        /// Paths that were made, replaced, changed or deleted.
        changes: usize,
        /// These, where something depends on them.
        changed: Vec<Box<[u8]>>,
    },
    /// It was only asked what would be done.
    Shown {
        /// What would have to come from elsewhere.
        fetches: Vec<Need>,
    },
}
