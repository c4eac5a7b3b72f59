//! What runs after an update: what is configured, what of it an update needs, and which steps that is.
//!
//! Whatever its kind, a trigger becomes a list of [steps](step): plain data, made by functions that only look. So
//! `--dry-run` shows what is done, to the word.

mod after;
pub mod emerge;
pub mod kernel;
pub mod nixos;
mod note;
mod place;
pub mod portage;
pub mod snapshot;
pub mod step;
pub mod units;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::exclude::{ExclusionError, Exclusions};

pub use self::after::{After, Changed};
use self::emerge::Emerge;
use self::kernel::Kernel;
use self::nixos::Nixos;
use self::portage::Portage;
use self::step::Step;
use self::units::Units;
use crate::config::Span;

/// How long a step may take where nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Something that runs after an update, as it is configured. Exactly one of the kinds is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trigger {
    /// What it is called in messages.
    pub name: Option<String>,
    /// A program and its arguments.
    pub command: Option<Vec<String>>,
    /// Units of systemd that are reloaded or restarted.
    pub units: Option<Units>,
    /// A NixOS system that is rebuilt.
    pub nixos: Option<Nixos>,
    /// Packages of Gentoo that are installed or updated.
    pub emerge: Option<Emerge>,
    /// The configuration of Portage that is written.
    pub portage: Option<Portage>,
    /// Kernels of the tree that are placed where they are booted from.
    pub kernel: Option<Kernel>,
    /// Patterns of paths one of which has to have changed; any path where none is named.
    #[serde(default)]
    pub paths: Vec<String>,
    /// How long each of its steps may take.
    pub timeout: Option<Span>,
    /// What it waits for.
    #[serde(default)]
    pub when: When,
    /// Whether what it does takes effect when the machine is started again, and not before.
    #[serde(default)]
    pub reboot: bool,
}

/// What a trigger does.
enum Kind<'t> {
    Command(&'t [String]),
    Units(&'t Units),
    Nixos(&'t Nixos),
    Emerge(&'t Emerge),
    Kernel(&'t Kernel),
    Portage(&'t Portage),
}

/// Where a trigger works.
#[derive(Debug, Clone)]
pub struct Scene {
    /// The tree, by a path without links.
    pub tree: PathBuf,
    /// What is known of the target.
    pub state: PathBuf,
    /// The manifest of the tree, where it is known.
    pub manifest: Option<ManifestId>,
    /// What goes back with all that is in it when the target does, if there is such a directory.
    pub goes_back: Option<PathBuf>,
    /// Whether steps are made to be done.
    pub purpose: Purpose,
}

/// What steps are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// They are done one after the other.
    Doing,
    /// They are shown, and nothing was done yet.
    Showing,
}

/// What a trigger waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// A tree was switched to, be it a new one or one that is gone back to.
    #[default]
    Switched,
    /// A new one was found to be healthy.
    Confirmed,
}

/// Why triggers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A new tree is in its place.
    Update,
    /// It is confirmed.
    Confirmed,
    /// The one before is in its place again.
    Rollback,
    /// Somebody has gone to another one that was here before, whatever came of it then.
    Chosen,
    /// The tree stays, and what was done for it is taken back.
    Undone,
}

impl Stage {
    /// What commands are told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Confirmed => "confirmed",
            Self::Rollback | Self::Chosen | Self::Undone => "rollback",
        }
    }
}

/// What becomes of what a trigger has done, where the tree that it was done for stays in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undoing {
    /// It has changed nothing.
    NotNeeded,
    /// It knows itself how to take it back.
    Itself,
    /// It is done again, for what runs then.
    Again,
    /// It stays.
    Nothing,
}

impl Trigger {
    /// Why this is not one, if it is not.
    pub fn mistake(&self) -> Option<String> {
        let named = [
            self.command.is_some(),
            self.units.is_some(),
            self.nixos.is_some(),
            self.emerge.is_some(),
            self.kernel.is_some(),
            self.portage.is_some(),
        ];
        if named.into_iter().filter(|named| *named).count() != 1 {
            return Some(
                "what is run is one of `command`, `units`, `nixos`, `emerge`, `kernel` and `portage`"
                    .to_owned(),
            );
        }
        let mistake = match self.kind()? {
            Kind::Command([]) => Some("the command of `run` names a program".to_owned()),
            Kind::Command(_) => None,
            Kind::Units(units) => units.mistake(),
            Kind::Nixos(nixos) => nixos.mistake(),
            Kind::Emerge(emerge) => emerge.mistake(),
            Kind::Kernel(kernel) => kernel.mistake(),
            Kind::Portage(portage) => portage.mistake(),
        };
        if self.reboot && self.when == When::Confirmed {
            return Some(
                "a command that needs a reboot runs before a version is confirmed, which it is after the reboot"
                    .to_owned(),
            );
        }
        mistake.or_else(|| self.patterns().err().map(|error| error.to_string()))
    }

    fn kind(&self) -> Option<Kind<'_>> {
        let command = self.command.as_deref().map(Kind::Command);
        let units = self.units.as_ref().map(Kind::Units);
        let nixos = self.nixos.as_ref().map(Kind::Nixos);
        let emerge = self.emerge.as_ref().map(Kind::Emerge);
        let kernel = self.kernel.as_ref().map(Kind::Kernel);
        let portage = self.portage.as_ref().map(Kind::Portage);
        command.or(units).or(nixos).or(emerge).or(kernel).or(portage)
    }

    fn patterns(&self) -> Result<Exclusions, ExclusionError> {
        Exclusions::new(self.paths.iter().map(String::as_str))
    }

    /// What it is called.
    pub fn title(&self) -> String {
        match (&self.name, self.kind()) {
            (Some(name), _) => name.clone(),
            (None, Some(Kind::Command(command))) => command.join(" "),
            (None, Some(Kind::Units(units))) => units.title(),
            (None, Some(Kind::Nixos(nixos))) => nixos.title(),
            (None, Some(Kind::Emerge(emerge))) => emerge.title(),
            (None, Some(Kind::Kernel(_))) => Kernel::title().to_owned(),
            (None, Some(Kind::Portage(_))) => Portage::title().to_owned(),
            (None, None) => String::new(),
        }
    }

    /// How long each step may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(TIMEOUT, |span| span.0)
    }

    /// Whether what it has done only counts after a reboot.
    pub fn needs_reboot(&self, scene: &Scene) -> bool {
        match self.kind() {
            _ if self.reboot => true,
            Some(Kind::Nixos(nixos)) => nixos.needs_reboot(&scene.notes("nixos")),
            Some(Kind::Kernel(kernel)) => kernel.needs_reboot(&scene.tree, &scene.notes("kernel")),
            _ => false,
        }
    }

    /// Whether what it has taken back runs until the machine is started again.
    pub fn outlives_undoing(&self, scene: &Scene) -> bool {
        match self.kind() {
            Some(Kind::Nixos(nixos)) => nixos.needs_reboot(&scene.notes("nixos")),
            Some(Kind::Kernel(_)) => Kernel::runs_what_was_added(&scene.notes("kernel")),
            _ => false,
        }
    }

    /// Whether it has seen to what the machine is started with, and something else runs.
    pub fn did_not_come_up(&self, scene: &Scene) -> bool {
        match self.kind() {
            Some(Kind::Nixos(nixos)) => nixos.needs_reboot(&scene.notes("nixos")),
            Some(Kind::Kernel(kernel)) => {
                kernel.is_booted_by_us() && kernel.needs_reboot(&scene.tree, &scene.notes("kernel"))
            }
            _ => false,
        }
    }

    /// Whether it knows itself how to take back what it has done.
    pub fn takes_back(&self) -> bool {
        self.undoing() == Undoing::Itself
    }

    /// What becomes of what it has done where the tree stays.
    pub fn undoing(&self) -> Undoing {
        match self.kind() {
            None => Undoing::NotNeeded,
            Some(Kind::Nixos(nixos)) if !nixos.action.changes_the_machine() => Undoing::NotNeeded,
            Some(Kind::Nixos(_) | Kind::Kernel(_)) => Undoing::Itself,
            Some(Kind::Units(_)) => Undoing::Again,
            Some(Kind::Command(_) | Kind::Emerge(_) | Kind::Portage(_)) => Undoing::Nothing,
        }
    }

    /// The stages that it goes through when the target does. What waits for the confirmation does all of it then.
    pub fn stages(&self, stage: Stage) -> &'static [Stage] {
        match (self.when, stage) {
            (When::Switched, Stage::Update) => &[Stage::Update],
            (When::Switched, Stage::Confirmed) => &[Stage::Confirmed],
            (When::Confirmed, Stage::Confirmed) => &[Stage::Update, Stage::Confirmed],
            (When::Switched, Stage::Rollback) => &[Stage::Rollback],
            // What was confirmed once is not looked at again, and nothing waits for that.
            (When::Switched | When::Confirmed, Stage::Chosen) => &[Stage::Chosen],
            (When::Confirmed, Stage::Rollback) if self.takes_back() => &[Stage::Rollback],
            // Packages stay, and it is said how they could be taken back.
            (_, Stage::Undone) if self.takes_back() || self.units.is_some() || self.emerge.is_some() => {
                &[Stage::Undone]
            }
            (When::Confirmed, Stage::Update | Stage::Rollback) | (_, Stage::Undone) => &[],
        }
    }

    /// What it does at one of its stages, with what is found on the host now.
    pub fn steps(&self, stage: Stage, scene: &Scene) -> Vec<Step> {
        let steps = match self.kind() {
            None => Vec::new(),
            Some(Kind::Command(_)) if stage == Stage::Confirmed => Vec::new(),
            Some(Kind::Command(words)) => vec![Step::run(self.title(), words)],
            Some(Kind::Units(units)) => units.steps(stage),
            Some(Kind::Portage(portage)) => portage.steps(stage, &scene.tree),
            Some(Kind::Kernel(kernel)) => {
                let notes = scene.notes("kernel");
                let found = match scene.purpose {
                    Purpose::Doing => kernel.look(&scene.tree, &notes),
                    Purpose::Showing => kernel.foresee(&scene.tree, &notes),
                };
                kernel.steps(stage, &found, &scene.tree, &notes)
            }
            Some(Kind::Emerge(emerge)) => {
                let found = emerge.look(scene.goes_back.as_deref(), &scene.notes("emerge"));
                emerge.steps(stage, &found, scene.manifest)
            }
            Some(Kind::Nixos(nixos)) => {
                let notes = scene.notes("nixos");
                let found = match scene.purpose {
                    Purpose::Doing => nixos.look(&notes, scene.manifest),
                    Purpose::Showing => nixos.foresee(&notes, scene.manifest),
                };
                nixos.steps(stage, &found, &scene.tree, &notes)
            }
        };
        match (&self.name, &self.command) {
            (Some(name), None) => steps.into_iter().map(|step| step.of(name)).collect(),
            _ => steps,
        }
    }

    fn is_for(&self, changed: &[Box<[u8]>]) -> bool {
        let Ok(patterns) = self.patterns() else { return true };
        let is_named = |path: &[u8]| {
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            patterns.names(path, false) || ends.into_iter().any(|end| patterns.names(&path[..end], true))
        };
        self.paths.is_empty() || changed.iter().any(|path| is_named(path))
    }
}

impl Scene {
    /// Where triggers of a kind remember something.
    fn notes(&self, kind: &str) -> PathBuf {
        self.state.join(kind)
    }
}

fn shown(path: &Path) -> String {
    Shown(path.as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
pub(super) mod tests;
