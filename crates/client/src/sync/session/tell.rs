//! What people are told of a run.

use std::path::Path;

use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::plan::ApplyPlan;
use smart_sync_sync::apply::run::Recovery;

use super::Session;
use crate::output::{Output, count};
use crate::sync::place::Place;

impl Session<'_> {
    pub(crate) fn tell_left(&self, left: Option<&Path>) {
        if let Some(left) = left {
            self.output.warning(&format!(
                "{} was written to while the next version was made; what it was then is kept in {}",
                self.place.target.display(),
                left.display()
            ));
        }
    }

    pub(super) fn tell_plan(&self, plan: &ApplyPlan) {
        for path in plan.backups().take(20) {
            self.output.warning(&format!("local change: {}", Shown(path)));
        }
        let left_out = plan.left_out.len();
        if left_out > 0 {
            self.output.warning(&format!(
                "{} covered by the exclusions of this target and left out, for instance {}",
                count(left_out as u64, "published path is", "published paths are"),
                plan.left_out[0]
            ));
        }
    }

    pub(super) fn tell_backups(&self, backed_up: &[Box<[u8]>]) {
        if !backed_up.is_empty() {
            self.output.info(&kept_in_backup(backed_up.len(), self.place));
        }
    }
}

pub(super) fn tell_recovery(recovery: &Recovery, place: &Place, output: &Output) {
    match recovery {
        Recovery::Nothing => {}
        Recovery::RolledBack(_) => {
            output.info("an earlier run had not changed anything yet; what it fetched is used again");
        }
        Recovery::Completed { backed_up, .. } => {
            output.info(&format!(
                "an earlier run was interrupted in {}; it is completed now",
                place.target.display()
            ));
            if !backed_up.is_empty() {
                output.info(&kept_in_backup(backed_up.len(), place));
            }
        }
    }
}

pub(crate) fn kept_in_backup(number: usize, place: &Place) -> String {
    let changes = count(number as u64, "local change was", "local changes were");
    format!("{changes} kept in {}", place.state.join("backups").display())
}
