//! Rebuilding a NixOS system from the tree.
//!
//! A switch has two halves. What runs is changed by the update, and what the machine boots only when the update is
//! confirmed: so a machine that does not come through it is the old one after the next reset. Going back activates the
//! very system that ran before, by its path in the store; nothing is built for it, and no configuration is read. Which
//! system a tree became is noted when that is confirmed, so that somebody who goes back to it later gets the same one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::{Deserialize, Serialize};
use smart_sync_store::id::ManifestId;

use super::Stage;
use super::note;
use super::step::{BuiltIn, Step};
use crate::config::AbsolutePath;

/// The system that runs.
const SYSTEM: &str = "/run/current-system";
/// What the machine boots.
const PROFILE: &str = "/nix/var/nix/profiles/system";
/// The flake of a host.
const FLAKE: &str = "/etc/nixos";
/// What a system is activated by.
const SWITCH: &str = "bin/switch-to-configuration";
/// The link to what was built, where `nixos-rebuild` runs.
const RESULT: &str = "result";
/// What is written otherwise in the path of a flake.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What `nixos-rebuild` is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Build the system, run it, and boot it from then on once it is confirmed.
    #[default]
    Switch,
    /// Build the system and run it until the next boot.
    Test,
    /// Build the system and boot it the next time.
    Boot,
    /// Build the system, and nothing else.
    Build,
    /// Say what would be built.
    DryBuild,
    /// Build the system, and say what running it would change.
    DryActivate,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Test => "test",
            Self::Boot => "boot",
            Self::Build => "build",
            Self::DryBuild => "dry-build",
            Self::DryActivate => "dry-activate",
        }
    }

    /// Whether what runs or what is booted is another system afterwards.
    pub(super) const fn changes_the_machine(self) -> bool {
        matches!(self, Self::Switch | Self::Test | Self::Boot)
    }
}

/// How a system is rebuilt, as it is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Nixos {
    /// What is done.
    #[serde(default)]
    pub action: Action,
    /// The flake with the system: that of the host where the tree is an input of it, else the tree.
    pub flake: Option<String>,
    /// The system in the flake; the one with the name of the host where it is left out.
    pub host: Option<String>,
    /// The input of the flake that the tree stands in for.
    pub input: Option<String>,
    /// Whether errors are shown with where they come from.
    #[serde(default)]
    pub show_trace: bool,
    /// Whether the flake may look at the host.
    #[serde(default)]
    pub impure: bool,
    /// The link to the system that runs.
    pub system: Option<AbsolutePath>,
    /// The profile that the machine boots.
    pub profile: Option<AbsolutePath>,
}

/// What the command line says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Override {
    /// What is done.
    pub action: Option<Action>,
    /// The flake.
    pub flake: Option<String>,
    /// The system in the flake.
    pub host: Option<String>,
    /// Whether errors are shown with where they come from.
    pub show_trace: bool,
    /// Whether the flake may look at the host.
    pub impure: bool,
}

/// What is found on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The system that runs.
    running: Option<PathBuf>,
    /// The one that the machine boots.
    default: Option<PathBuf>,
    /// What ran before the update.
    running_before: Option<PathBuf>,
    /// What the machine booted before the update.
    default_before: Option<PathBuf>,
    /// What the update has built and run.
    built: Option<PathBuf>,
    /// The tree.
    manifest: Option<ManifestId>,
    /// What it became when it was confirmed, if that is still there.
    of_tree: Option<PathBuf>,
}

/// Where things are remembered from the update until it is confirmed or taken back.
struct Notes<'a>(&'a Path);

impl Notes<'_> {
    fn running_before(&self) -> PathBuf {
        self.0.join("running-before")
    }

    fn default_before(&self) -> PathBuf {
        self.0.join("default-before")
    }

    fn built(&self) -> PathBuf {
        self.0.join("built")
    }

    /// Which system each of the newest trees became.
    fn systems(&self) -> PathBuf {
        self.0.join("systems")
    }

    /// Notes what a tree became.
    fn remember(&self, system: &Path, found: &Found) -> Option<Step> {
        let (system, directory) = (system.to_owned(), self.systems());
        let built_in = BuiltIn::Remember { system, directory, manifest: found.manifest? };
        Some(Step::built_in("noting the system of this version", built_in))
    }

    /// Keeps a system from being collected as garbage.
    fn root(&self) -> PathBuf {
        self.0.join("keep")
    }

    fn forget(&self) -> Step {
        let files = vec![self.running_before(), self.default_before(), self.built(), self.root()];
        Step::built_in("forgetting the system before", BuiltIn::Forget(files))
    }
}

impl Nixos {
    /// Why this cannot be done.
    pub(super) fn mistake(&self) -> Option<String> {
        let is_name = |name: &String| {
            let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
            !name.is_empty() && !name.starts_with('-') && name.chars().all(is_letter)
        };
        if let Some(input) = self.input.as_ref().filter(|input| !is_name(input)) {
            return Some(format!("`{input}` is not the name of an input of a flake"));
        }
        if let Some(host) = self.host.as_ref().filter(|host| !is_name(host)) {
            return Some(format!("`{host}` is not the name of a host"));
        }
        let flake = self.flake.as_deref().unwrap_or(FLAKE);
        (flake.is_empty() || flake.starts_with('-') || flake.contains('#'))
            .then(|| format!("`{flake}` is not a flake without a fragment; `host` names the system in it"))
    }

    /// What it is called.
    pub(super) fn title(&self) -> String {
        format!("nixos-rebuild {}", self.action.name())
    }

    /// Whether what it has done only counts after a reboot.
    pub(super) fn needs_reboot(&self, notes: &Path) -> bool {
        let found = self.look(notes, None);
        self.action == Action::Boot && found.running != found.default
    }

    /// The same with what the command line says.
    pub(super) fn overridden(&self, by: &Override) -> Self {
        Self {
            action: by.action.unwrap_or(self.action),
            flake: by.flake.clone().or_else(|| self.flake.clone()),
            host: by.host.clone().or_else(|| self.host.clone()),
            show_trace: by.show_trace || self.show_trace,
            impure: by.impure || self.impure,
            ..self.clone()
        }
    }

    /// Looks at the host and at what was noted.
    pub(super) fn look(&self, notes: &Path, manifest: Option<ManifestId>) -> Found {
        let notes = Notes(notes);
        let of_tree = manifest.and_then(|manifest| note::read(&notes.systems().join(manifest.to_string())));
        Found {
            manifest,
            // Nothing keeps it but the profile of the host: it may have been collected.
            of_tree: of_tree.filter(|system| system.join(SWITCH).exists()),
            running: self.system().canonicalize().ok(),
            default: self.profile().canonicalize().ok(),
            running_before: note::read(&notes.running_before()),
            default_before: note::read(&notes.default_before()),
            built: note::read(&notes.built()),
        }
    }

    /// The same before there is anything new, to be shown.
    pub(super) fn foresee(&self, notes: &Path, manifest: Option<ManifestId>) -> Found {
        Found { built: Some("NEW-SYSTEM".into()), ..self.look(notes, manifest) }
    }

    /// What is done at a stage. The tree is named by a path without links: Nix does not follow them.
    pub(super) fn steps(&self, stage: Stage, found: &Found, tree: &Path, notes: &Path) -> Vec<Step> {
        let to = Notes(notes);
        match (stage, self.action) {
            (Stage::Update | Stage::Chosen, Action::Build | Action::DryBuild | Action::DryActivate) => {
                vec![self.rebuild(self.action, tree, notes)]
            }
            (Stage::Update, Action::Test) => {
                let mut steps = self.remember(found, &to);
                steps.push(self.rebuild(Action::Test, tree, notes));
                steps
            }
            (Stage::Update, Action::Switch) => {
                let mut steps = self.remember(found, &to);
                steps.push(self.rebuild(Action::Test, tree, notes));
                steps.push(noting("noting the new system", self.system(), to.built()));
                steps
            }
            (Stage::Update, Action::Boot) => {
                let mut steps = self.remember(found, &to);
                // The profile is set here, so that it is known to be the one that is gone back from.
                steps.push(self.rebuild(Action::Build, tree, notes));
                steps.extend(self.booting(&notes.join(RESULT)));
                steps
            }
            (Stage::Confirmed, Action::Switch) => {
                let Some(built) = &found.built else { return Vec::new() };
                let steps = self.booting(built).into_iter().chain(to.remember(built, found));
                steps.chain([to.forget()]).collect()
            }
            (Stage::Confirmed, Action::Test) => {
                to.remember(self.system(), found).into_iter().chain([to.forget()]).collect()
            }
            (Stage::Confirmed, Action::Boot) => {
                to.remember(self.profile(), found).into_iter().chain([to.forget()]).collect()
            }
            (Stage::Rollback | Stage::Undone, Action::Switch | Action::Test | Action::Boot) => {
                self.back(found, &to)
            }
            (Stage::Chosen, Action::Switch | Action::Test | Action::Boot) => self.go_to(found, tree, notes),
            (Stage::Confirmed | Stage::Rollback | Stage::Undone, _) => Vec::new(),
        }
    }

    /// Notes what is gone back to, and sees to it that it stays in the store.
    fn remember(&self, found: &Found, to: &Notes<'_>) -> Vec<Step> {
        let boots = self.action != Action::Test;
        let mut steps = vec![noting("noting the running system", self.system(), to.running_before())];
        if boots {
            steps.push(noting("noting the system that boots", self.profile(), to.default_before()));
        }
        let kept = if self.action == Action::Boot { &found.default } else { &found.running };
        steps.extend(kept.as_ref().map(|kept| {
            let words = [
                OsString::from("nix-store"),
                "--realise".into(),
                kept.into(),
                "--add-root".into(),
                to.root().into(),
            ];
            Step::run("keeping the system before", words)
        }));
        steps
    }

    fn rebuild(&self, action: Action, tree: &Path, notes: &Path) -> Step {
        let tree = format!("path:{}", percent_encode(tree.as_os_str().as_bytes(), ESCAPED));
        let flake = match (&self.flake, &self.input) {
            (Some(flake), _) => flake.as_str(),
            (None, Some(_)) => FLAKE,
            (None, None) => &tree,
        };
        let flake = self.host.as_ref().map_or_else(|| flake.to_owned(), |host| format!("{flake}#{host}"));
        let mut words = vec!["nixos-rebuild", action.name(), "--flake", &flake];
        // A lock names what the input was when it was written: with it, the content before would be built.
        if let Some(input) = &self.input {
            words.extend(["--override-input", input, &tree]);
        }
        // Nothing is written into a flake: it may be the tree.
        words.push("--no-write-lock-file");
        words.extend(self.show_trace.then_some("--show-trace"));
        words.extend(self.impure.then_some("--impure"));
        let title = format!("nixos-rebuild {}", action.name());
        // It leaves the link `result` where it runs.
        Step::run(title, words).with(|line| line.directory = Some(notes.to_owned()))
    }

    /// Makes a system the one that the machine boots, as `nixos-rebuild boot` does once it is built.
    fn booting(&self, system: &Path) -> Vec<Step> {
        let set =
            [OsString::from("nix-env"), "-p".into(), self.profile().into(), "--set".into(), system.into()];
        vec![
            Step::run("setting the system that boots", set),
            activate("setting the boot entry", system, "boot"),
        ]
    }

    /// Back to what was before the update, as far as it got.
    fn back(&self, found: &Found, to: &Notes<'_>) -> Vec<Step> {
        let Some(running_before) = &found.running_before else { return Vec::new() };
        let mut steps = Vec::new();
        let default_before = found.default_before.as_ref();
        if let Some(default) = default_before.filter(|default| found.default.as_ref() != Some(*default)) {
            steps.extend(self.booting(default));
        }
        if self.action != Action::Boot {
            steps.push(activate("activating the system before", running_before, "test"));
        } else if found.running.as_ref() != Some(running_before) {
            let text = "the system that was not healthy runs until this machine is rebooted";
            steps.push(Step::built_in("rebooting is left to you", BuiltIn::Warn(text.to_owned())));
        }
        steps.push(to.forget());
        steps
    }

    /// To the system of a tree that somebody has chosen: the very one that it was, else one that is built again. Whoever
    /// types that is there, so what runs is what is booted, too.
    fn go_to(&self, found: &Found, tree: &Path, notes: &Path) -> Vec<Step> {
        let to = Notes(notes);
        let mut steps = Vec::new();
        let system = found.of_tree.clone().unwrap_or_else(|| {
            steps.push(self.rebuild(Action::Build, tree, notes));
            notes.join(RESULT)
        });
        if self.action != Action::Boot {
            steps.push(activate("activating the system of this version", &system, "test"));
        }
        if self.action != Action::Test {
            steps.extend(self.booting(&system));
        }
        steps.extend(to.remember(&system, found));
        steps.push(to.forget());
        steps
    }

    fn system(&self) -> &Path {
        self.system.as_ref().map_or(Path::new(SYSTEM), |path| &path.0)
    }

    fn profile(&self) -> &Path {
        self.profile.as_ref().map_or(Path::new(PROFILE), |path| &path.0)
    }
}

fn noting(title: &str, link: &Path, file: PathBuf) -> Step {
    Step::built_in(title, BuiltIn::Note { link: link.to_owned(), file })
}

fn activate(title: &str, system: &Path, how: &str) -> Step {
    let words = [system.join(SWITCH).into_os_string(), how.into()];
    // As nixos-rebuild says it: the boot loader itself is not installed again.
    Step::run(title, words).with(|line| line.variables.push(("NIXOS_INSTALL_BOOTLOADER", "0")))
}

#[cfg(test)]
mod tests;
