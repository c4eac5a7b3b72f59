//! A target that is taken, and the run on it that did not end.

use smart_sync_store::id::ManifestId;

use super::super::backup::Backup;
use super::super::error::ApplyError;
use super::super::flip;
use super::super::journal::{Journal, State};
use super::super::lock::Lock;
use super::super::overlay::Overlay;
use super::super::record::{self, Version};
use super::super::stage;
use super::super::versions::Versions;
use super::ready::ReadyTarget;
use super::settle::{settle, settle_root};
use super::target::Target;

/// A target that belongs to this run, in a state that is not known yet.
#[derive(Debug)]
pub struct LockedTarget {
    pub(super) target: Target,
    pub(super) lock: Lock,
}

/// What became of a run that did not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// There was none.
    Nothing,
    /// It had not changed the tree, and is forgotten; what it received is still staged.
    RolledBack(Version),
    /// It was completed.
    Completed {
        /// What the target holds now.
        version: Version,
        /// Paths of the host's own changes that were moved to the backup.
        backed_up: Vec<Box<[u8]>>,
    },
}

impl LockedTarget {
    /// Settles a run that did not end.
    pub fn recover(self) -> Result<(ReadyTarget, Recovery), ApplyError> {
        self.recover_to(None)
    }

    /// The same, but a run that has everything beside the tree is completed if it is to this manifest. It is for
    /// targets that are switched together: others may have been switched already.
    pub fn recover_to(self, decided: Option<ManifestId>) -> Result<(ReadyTarget, Recovery), ApplyError> {
        let Target { tree, state, versions, overlay, .. } = &self.target;
        let mut is_switched = false;
        let recovery = match Journal::reopen(state)? {
            None => {
                self.target.settle_overlay()?;
                Recovery::Nothing
            }
            Some((journal, run)) if !run.is_decided(decided) => {
                overlay.as_ref().map_or(Ok(()), Overlay::abandon)?;
                journal.end()?;
                Recovery::RolledBack(run.version)
            }
            Some((mut journal, run)) => {
                let mut backup = Backup::new(state, &run.stamp);
                let mut token = run.token;
                if run.state < State::Flipping {
                    journal.reached(State::Flipping)?;
                }
                if run.state <= State::Flipping {
                    let reopened = versions.as_ref().map(Versions::reopen_next).transpose()?.flatten();
                    let work = reopened.as_ref().unwrap_or(tree);
                    overlay.as_ref().map_or(Ok(()), |overlay| overlay.complete(&mut backup).map(drop))?;
                    flip::flip(work, &mut backup, &run.ops)?;
                    token = settle(work, versions.as_ref(), &run.ops)?.into();
                    journal.flipped(&token)?;
                }
                if run.state < State::Committed {
                    if let (Some(versions), Some(name)) = (versions, run.version.name()) {
                        versions.switch(name, &token, &run.stamp)?;
                        is_switched = true;
                    }
                    self.target.keep_snapshot(&run.version, &run.ops)?;
                    self.target.note_version(&run.version)?;
                    record::write(state, &run.version)?;
                    journal.reached(State::Committed)?;
                }
                if versions.is_none() {
                    stage::discard(self.target.stage_tree())?;
                    settle_root(tree, &run.ops)?;
                }
                journal.end()?;
                Recovery::Completed { version: run.version, backed_up: backup.into_saved() }
            }
        };
        let mut target = self.target;
        if is_switched {
            target.reopen()?;
        }
        Ok((ReadyTarget { target, _lock: self.lock }, recovery))
    }
}
