//! The next tree of a target: made whole beside it, and switched to.
//!
//! These are two steps, so that several targets can wait for each other between them.

use std::time::{Duration, Instant};

use serde::Serialize;
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::plan::{ApplyPlan, Need};
use smart_sync_sync::apply::run;
use smart_sync_sync::apply::scan::Scan;
use smart_sync_sync::apply::stage::Stage;

use super::plan::{changed, refused};
use super::{Outcome, Purpose, Session, Wanted, needed_pages, stamp, time_now};
use crate::after;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::settings::SyncMode;
use crate::sync::pages::Pages;

/// What has to be done for a target to be what is wanted, when everything is here.
#[derive(Debug)]
pub enum Prepared<'s> {
    /// Its tree is that already, by whatever name it went.
    Same(Box<(Version, Scan)>),
    /// Readers have to be switched.
    Next(Box<Next<'s>>),
}

/// A tree that is whole and durable beside a target.
#[derive(Debug)]
pub struct Next<'s> {
    prepared: run::Prepared<'s>,
    scan: Scan,
    changes: usize,
    paths: Vec<Box<[u8]>>,
    timing: Timing,
}

impl Next<'_> {
    /// The version that it will be.
    pub const fn version(&self) -> &Version {
        self.prepared.version()
    }

    /// Leaves the target as it is.
    pub fn abandon(self) -> Result<(), Failure> {
        Ok(self.prepared.abandon()?)
    }
}

/// How long the parts of a run took.
#[derive(Debug)]
struct Timing {
    since: Instant,
    staged: Duration,
    switched: Duration,
}

/// The same for programs, in seconds.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "timing")]
struct TimingEvent {
    /// Fetching what is needed.
    staged: f64,
    /// From there until readers see the new tree.
    switched: f64,
    /// Noting what the target holds.
    noted: f64,
}

impl Timing {
    fn start() -> Self {
        Self { since: Instant::now(), staged: Duration::ZERO, switched: Duration::ZERO }
    }

    fn staged(&mut self) {
        self.staged = self.since.elapsed();
    }

    fn switched(&mut self) {
        self.switched = self.since.elapsed().saturating_sub(self.staged);
    }

    fn tell(&self, output: &Output) {
        let noted = self.since.elapsed().saturating_sub(self.staged + self.switched);
        let [staged, switched, noted] = [self.staged, self.switched, noted].map(|span| span.as_secs_f64());
        output
            .detail(&format!("fetched in {staged:.2} s, switched in {switched:.2} s, noted in {noted:.2} s"));
        output.event(&TimingEvent { staged, switched, noted });
    }
}

impl Session<'_> {
    /// Makes the target what is wanted. `stage_needs` brings contents into the stage that are not `staged` already.
    pub fn apply<'s>(
        &'s self,
        wanted: &Wanted,
        scan: Scan,
        mode: SyncMode,
        staged: Option<Stage<'s>>,
        stage_needs: impl FnOnce(&[&Need], &Stage<'_>) -> Result<(), Failure>,
    ) -> Result<Outcome, Failure> {
        if mode != SyncMode::Apply {
            return self.show(wanted, scan, mode, staged.as_ref());
        }
        match self.prepare(wanted, scan, staged, stage_needs)? {
            Prepared::Same(same) => {
                self.adopt(wanted, &same.0, &same.1)?;
                Ok(Outcome::Nothing)
            }
            Prepared::Next(next) => {
                let is_tried = wanted.purpose == Purpose::Update && !self.after.is_empty();
                if let Some(way_back) = self.way_back.as_ref().filter(|_| is_tried) {
                    let applied = self.applied.as_ref();
                    after::arm(self.place, next.version(), applied, &self.after, way_back)?;
                }
                self.switch(wanted, *next)
            }
        }
    }

    /// Says what would be done.
    fn show(
        &self,
        wanted: &Wanted,
        mut scan: Scan,
        mode: SyncMode,
        staged: Option<&Stage<'_>>,
    ) -> Result<Outcome, Failure> {
        let plan = self.plan(wanted, &mut scan, mode, staged)?;
        self.tell_plan(&plan);
        plan.to_string().lines().for_each(|line| self.output.info(line));
        let paths = changed(&plan);
        for line in after::foreseen(self.place, &self.after, wanted.manifest, &paths) {
            self.output.info(&line);
        }
        Ok(Outcome::Shown { fetches: plan.fetches().cloned().collect() })
    }

    /// Makes everything ready beside what readers see, durably.
    pub fn prepare<'s>(
        &'s self,
        wanted: &Wanted,
        mut scan: Scan,
        staged: Option<Stage<'s>>,
        stage_needs: impl FnOnce(&[&Need], &Stage<'_>) -> Result<(), Failure>,
    ) -> Result<Prepared<'s>, Failure> {
        let plan = self.plan(wanted, &mut scan, SyncMode::Apply, staged.as_ref())?;
        self.tell_plan(&plan);
        if !plan.problems.is_empty() {
            return Err(self.refuse(&plan, staged)?);
        }
        let label = wanted.label.to_bytes();
        let version = Version::new(wanted.manifest, &label).ok_or_else(|| {
            Failure::message(Exit::General, "the names of this ref are too long to be noted")
        })?;
        let version = match &wanted.purpose {
            Purpose::GoingBack(Some(name)) => version.named(name.clone()),
            Purpose::GoingBack(None) | Purpose::Update => version,
        };
        wanted.pages.save(&self.place.state, wanted.manifest)?;
        if plan.is_empty() {
            if staged.is_some() {
                self.ready.discard_staged()?;
            }
            self.ready.discard_next()?;
            return Ok(Prepared::Same(Box::new((version, scan))));
        }
        let changes = plan.actions.len();
        let paths = if self.after.is_empty() { Vec::new() } else { changed(&plan) };
        let mut timing = Timing::start();
        let mut run = self.ready.begin_with(plan, version, stamp(), staged)?;
        let mut needs = Vec::new();
        for need in run.needs() {
            let is_here = run.stage().has(&need.content)? || run.stage().copy_local(need)?;
            if !is_here && !run.copy_kept(need)? {
                needs.push(need);
            }
        }
        stage_needs(&needs, run.stage())?;
        drop(needs);
        timing.staged();
        run.fill(&mut scan, wanted.fidelity, time_now)?;
        let prepared = run.prepare()?;
        Ok(Prepared::Next(Box::new(Next { prepared, scan, changes, paths, timing })))
    }

    /// Gives up a plan with problems.
    fn refuse(&self, plan: &ApplyPlan, staged: Option<Stage<'_>>) -> Result<Failure, Failure> {
        if staged.is_some() {
            drop(staged);
            self.ready.discard_staged()?;
        }
        self.ready.discard_next()?;
        Ok(refused(plan))
    }

    /// Notes that the target is what is wanted.
    pub fn adopt(&self, wanted: &Wanted, version: &Version, scan: &Scan) -> Result<(), Failure> {
        self.with_options(wanted.fidelity, |options| {
            wanted.with_entries(|entries| Ok(self.ready.adopt(version, entries, scan, options)?))
        })?;
        Pages::discard_others(&self.place.state, needed_pages(&self.ready, wanted.manifest)?)
    }

    /// Switches readers to a tree that is ready, and notes what the target holds then.
    pub fn switch(&self, wanted: &Wanted, next: Next<'_>) -> Result<Outcome, Failure> {
        let Next { prepared, scan, changes, paths, mut timing } = next;
        let flipped = prepared.flip()?;
        timing.switched();
        let saved = self.with_options(wanted.fidelity, |options| {
            wanted.with_entries(|entries| Ok(flipped.commit(entries, &scan, options)?))
        })?;
        timing.tell(self.output);
        self.tell_backups(&saved.backed_up);
        self.tell_left(saved.left.as_deref());
        self.prune()?;
        Pages::discard_others(&self.place.state, needed_pages(&self.ready, wanted.manifest)?)?;
        Ok(Outcome::Applied { changes, changed: paths })
    }
}
