//! What a target needs to be what is wanted, and what speaks against it.

use indicatif::HumanBytes;
use smart_sync_sync::apply::plan::{ApplyPlan, PlanInput, Problem, plan};
use smart_sync_sync::apply::preflight::preflight;
use smart_sync_sync::apply::scan::Scan;
use smart_sync_sync::apply::stage::Stage;

use super::{Session, Wanted, time_now};
use crate::failure::{Exit, Failure, MAKE_ROOM};
use crate::settings::SyncMode;

/// How many reasons against a tree are shown.
const PROBLEMS_SHOWN: usize = 10;

impl Session<'_> {
    pub(super) fn plan(
        &self,
        wanted: &Wanted,
        scan: &mut Scan,
        mode: SyncMode,
        staged: Option<&Stage<'_>>,
    ) -> Result<ApplyPlan, Failure> {
        let tree = self.ready.target().tree();
        self.with_options(wanted.fidelity, |options| {
            wanted.with_entries(|entries| Ok(scan.examine(tree, entries, options)?))
        })?;
        let excluded = |path: &[u8], is_directory: bool| self.exclusions.names(path, is_directory);
        let input = PlanInput { scan, excluded: &excluded, policy: &self.allows, now: time_now() };
        let mut plan =
            self.with_applied(|applied| wanted.with_entries(|entries| Ok(plan(applied, entries, &input)?)))?;
        if let Some(stage) = staged {
            plan.count_staged(|content| stage.has(content))?;
        }
        if !self.ready.target().is_changed_in_place() && !plan.is_empty() {
            // What is mounted below would be in the one version and not in the next.
            let mounts = scan.mounts.iter().cloned().map(Problem::OtherFileSystem);
            plan.problems
                .extend(mounts.filter(|problem| !plan.problems.contains(problem)).collect::<Vec<_>>());
        }
        if self.ready.target().is_overlay() {
            wanted.with_entries(|entries| Ok(self.ready.fit(&mut plan, &self.forbidden, entries)?))?;
            return Ok(plan);
        }
        // Who only looks begins no version.
        let work = if mode == SyncMode::Apply && !plan.is_empty() { self.ready.work()? } else { tree };
        wanted.with_entries(|entries| Ok(preflight(work, &mut plan, entries)?))?;
        Ok(plan)
    }
}

pub(super) fn changed(plan: &ApplyPlan) -> Vec<Box<[u8]>> {
    plan.actions.iter().map(|action| action.path.clone()).collect()
}

pub(super) fn refused(plan: &ApplyPlan) -> Failure {
    let is_permission = plan.problems.iter().any(|problem| {
        matches!(problem, Problem::ReadOnly | Problem::NotWritable(_) | Problem::Immutable(_))
    });
    let exit = if is_permission { Exit::Permission } else { Exit::General };
    let shown = plan.problems.iter().take(PROBLEMS_SHOWN).map(|problem| match problem {
        Problem::Space { needed, free } => format!(
            "{} are needed and {} are free in the file system of the target",
            HumanBytes(*needed),
            HumanBytes(*free)
        ),
        problem => problem.to_string(),
    });
    let mut reasons: Vec<String> = shown.collect();
    if plan.problems.len() > PROBLEMS_SHOWN {
        reasons.push(format!("and {} more", plan.problems.len() - PROBLEMS_SHOWN));
    }
    let failure = Failure::message(
        exit,
        format!("this tree cannot be applied here, and nothing was changed: {}", reasons.join("; ")),
    );
    let failure = match exit {
        Exit::Permission => {
            failure.hint("run this as a user who may write there, or name another target with --target DIR")
        }
        _ => failure,
    };
    let lacks_room = |problem: &Problem| matches!(problem, Problem::Space { .. } | Problem::Inodes { .. });
    failure.hint(if plan.problems.iter().any(lacks_room) {
        MAKE_ROOM
    } else {
        "repair what is named here, or choose another ref with --ref"
    })
}
