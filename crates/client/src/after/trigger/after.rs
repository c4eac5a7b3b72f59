//! All that happens after an update of one target: what of it an update needs, and what would be done.

use smart_sync_store::manifest::path::Shown;

use super::nixos::Override;
use super::{Scene, Stage, Trigger, When};
use crate::after::check::Check;
use crate::after::confirmation::Confirmation;

/// What happens after an update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct After {
    /// What runs, in its order.
    pub run: Vec<Trigger>,
    /// Checks, in their order.
    pub check: Vec<Check>,
    /// Who confirms what comes out of it.
    pub confirm: Confirmation,
    /// What the command line says of NixOS systems. It is part of what runs already.
    pub said: Override,
}

impl After {
    /// Whether nothing does.
    pub const fn is_empty(&self) -> bool {
        self.run.is_empty() && self.check.is_empty() && matches!(self.confirm, Confirmation::ByChecks)
    }

    /// Whether something of it knows itself how to take back what it has done.
    pub fn takes_back(&self) -> bool {
        self.run.iter().any(Trigger::takes_back)
    }

    /// Why this cannot be, if it cannot.
    pub fn mistake(&self) -> Option<String> {
        let single = || {
            let count = |is: fn(&Trigger) -> bool| self.run.iter().filter(|trigger| is(trigger)).count();
            let systems = count(|trigger| trigger.nixos.is_some()) > 1;
            let kernels = count(|trigger| trigger.kernel.is_some()) > 1;
            let mistake = systems.then_some("it rebuilds at most one NixOS system");
            mistake.or(kernels.then_some("it installs kernels in at most one way")).map(ToOwned::to_owned)
        };
        let mut mistakes =
            self.run.iter().filter_map(Trigger::mistake).chain(self.check.iter().filter_map(Check::mistake));
        mistakes.next().or_else(single)
    }

    /// The same with what the command line says of NixOS systems.
    #[must_use]
    pub fn with_nixos(&self, by: &Override) -> Self {
        let overridden = |trigger: &Trigger| Trigger {
            nixos: trigger.nixos.as_ref().map(|nixos| nixos.overridden(by)),
            ..trigger.clone()
        };
        Self { run: self.run.iter().map(overridden).collect(), said: by.clone(), ..self.clone() }
    }

    /// Whether something of what runs for these paths only counts after a reboot.
    pub fn needs_reboot(&self, changed: Changed<'_>, scene: &Scene) -> bool {
        let stages = [Stage::Update, Stage::Confirmed];
        stages
            .iter()
            .any(|stage| self.chosen(changed, *stage).iter().any(|trigger| trigger.needs_reboot(scene)))
    }

    /// What would be done at a stage for these changes, line by line.
    pub fn foreseen_at(&self, stage: Stage, changed: Changed<'_>, when: &str, scene: &Scene) -> Vec<String> {
        let chosen = self.chosen(changed, stage);
        let stages = chosen
            .into_iter()
            .flat_map(|trigger| trigger.stages(stage).iter().flat_map(|stage| trigger.steps(*stage, scene)));
        stages.map(|step| format!("would{when} {step}")).collect()
    }

    /// What would be done for an update that changes these paths, line by line.
    pub fn foreseen(&self, changed: &[Box<[u8]>], scene: &Scene) -> Vec<String> {
        let would = |stage, when| self.foreseen_at(stage, Changed::Paths(changed), when, scene);
        let checks = self.check.iter().filter(|_| !changed.is_empty());
        let checks = checks.map(|check| format!("would check {}", Shown(check.title().as_bytes())));
        let wait = self.confirm.is_waited_for().filter(|_| !changed.is_empty());
        let wait = wait.map(|within| format!("would wait {within} for somebody who confirms it"));
        let (first, last) = (would(Stage::Update, ""), would(Stage::Confirmed, ", when all is well,"));
        first.into_iter().chain(checks).chain(wait).chain(last).collect()
    }

    /// The triggers of a stage for an update that changes these paths.
    pub fn chosen(&self, changed: Changed<'_>, stage: Stage) -> Vec<&Trigger> {
        let all = self.run.iter().filter(|trigger| !trigger.stages(stage).is_empty());
        let mut chosen: Vec<&Trigger> = match changed {
            Changed::Unknown => all.collect(),
            Changed::Paths([]) => Vec::new(),
            Changed::Paths(paths) => all.filter(|trigger| trigger.is_for(paths)).collect(),
        };
        if stage == Stage::Chosen {
            // What waits for a confirmation comes after all that does not, as it does in an update.
            chosen.sort_by_key(|trigger| trigger.when == When::Confirmed);
        }
        chosen
    }
}

/// What an update has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed<'a> {
    /// These paths.
    Paths(&'a [Box<[u8]>]),
    /// It is not known any more.
    Unknown,
}
