//! Kernels: from a tree to where they are booted from.
//!
//! An image is in its place, and on the disk, before anything names it. The new one is booted once, so that the machine
//! is the old one again after the next reset if it does not come up, and it becomes the default when an update is confirmed while it
//! runs. Only what was placed here is ever removed, and nothing that runs or ran before.

mod install;
mod loader;
mod modules;
mod record;
mod release;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::step::{BuiltIn, Step};
use super::{Stage, shown};
use crate::config::{AbsolutePath, Keep};

pub use self::install::{Install, Remove, Settle};
use self::loader::entry_name;
use self::record::Record;
use self::release::Release;

/// Where kernels are booted from.
const BOOT: &str = "/boot";
/// Where their modules are.
const MODULES: &str = "/lib/modules";
/// How many are kept.
const KEPT: usize = 3;
/// What the kernel that runs calls itself.
const RUNNING: &str = "/proc/sys/kernel/osrelease";
/// How deep in a tree kernels are looked for, and how far.
const DEPTH_MAX: usize = 6;
const PATHS_MAX: usize = 100_000;

/// How kernels are installed, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kernel {
    /// The boot loader.
    pub loader: Loader,
    /// Where images go, which is where the boot loader finds them: `/boot` where it is left out.
    pub boot: Option<AbsolutePath>,
    /// Where modules go: `/lib/modules` where it is left out.
    pub modules: Option<AbsolutePath>,
    /// What the kernel is given when it is booted.
    pub entry_options: Option<String>,
    /// Whether a new kernel is booted once, until it is confirmed.
    #[serde(default = "yes")]
    pub one_shot: bool,
    /// How many are kept.
    pub keep: Option<Keep>,
    /// The directory of the tree with the kernels, such as `current`; all of it where it is left out.
    pub from: Option<String>,
}

const fn yes() -> bool {
    true
}

/// A boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// One that reads an entry for each kernel.
    SystemdBoot,
    /// One whose configuration is made anew.
    Grub,
    /// One that somebody else looks after.
    None,
}

/// What is found in a tree and on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    releases: Vec<Release>,
    record: Record,
    running: String,
}

impl Kernel {
    /// Why this cannot be done.
    pub(super) fn mistake(&self) -> Option<String> {
        let is_line = |text: &String| !text.is_empty() && !text.chars().any(char::is_control);
        if self.entry_options.as_ref().is_some_and(|options| !is_line(options)) {
            return Some("`entry-options` is one line, such as root=LABEL=root ro".to_owned());
        }
        if self.loader == Loader::SystemdBoot && self.entry_options.is_none() {
            return Some("systemd-boot needs `entry-options`, such as root=LABEL=root ro".to_owned());
        }
        let from = self.from.as_ref()?;
        smart_sync_store::manifest::TreePath::new(from.as_bytes())
            .err()
            .map(|error| format!("`{from}` is no directory of a tree: {error}"))
    }

    /// What it is called.
    pub(super) const fn title() -> &'static str {
        "installing kernels"
    }

    /// Looks at the tree and the host.
    pub(super) fn look(&self, tree: &Path, notes: &Path) -> Found {
        let running = running();
        let root = self.directory(tree);
        let mut paths = Vec::new();
        list(&root, "", DEPTH_MAX, &mut paths);
        Found { releases: release::find(&paths), record: Record::read(notes, &running), running }
    }

    /// Whether the newest kernel of the tree only runs after a reboot.
    pub(super) fn needs_reboot(&self, tree: &Path, notes: &Path) -> bool {
        let found = self.look(tree, notes);
        found.releases.last().is_some_and(|newest| newest.version != found.running)
    }

    /// Whether a start of the machine should have brought it: where others tell the boot loader, nobody here knows.
    pub(super) fn is_booted_by_us(&self) -> bool {
        self.loader != Loader::None
    }

    /// The same before the tree is there, to be shown.
    pub(super) fn foresee(&self, tree: &Path, notes: &Path) -> Found {
        let release = Release { version: "VERSION".to_owned(), ..Release::default() };
        Found { releases: vec![release], ..self.look(tree, notes) }
    }

    /// What is done at a stage.
    pub(super) fn steps(&self, stage: Stage, found: &Found, tree: &Path, notes: &Path) -> Vec<Step> {
        let keep = self.keep.map_or(KEPT, |keep| keep.0);
        let skipped = found.releases.len().saturating_sub(keep);
        let wanted = &found.releases[skipped..];
        let versions: Vec<String> = wanted.iter().map(|release| release.version.clone()).collect();
        match (stage, versions.last()) {
            (Stage::Update, None) => {
                let text = format!("{} holds no kernel", shown(&self.directory(tree)));
                vec![Step::built_in("looking for kernels", BuiltIn::Warn(text))]
            }
            (Stage::Update, Some(newest)) => {
                let mut steps = vec![self.install(wanted, tree, notes)];
                steps.extend(self.configure());
                let is_new = found.running != *newest;
                let boot = if self.one_shot { self.boot_once(newest) } else { self.boot_always(newest) };
                steps.extend(boot.filter(|_| is_new));
                steps
            }
            (Stage::Confirmed, None) => Vec::new(),
            (Stage::Confirmed, Some(newest)) => self.confirm(newest, &versions, found, notes, keep),
            (Stage::Rollback, _) => self.back(wanted, found, tree, notes),
            (Stage::Chosen, _) => self.go_to(wanted, &versions, found, tree, notes),
            (Stage::Undone, _) => self.undo(found, notes),
        }
    }

    /// Without what came since an update was confirmed last, whatever the tree says: it stays.
    fn undo(&self, found: &Found, notes: &Path) -> Vec<Step> {
        let record = &found.record;
        let mut steps: Vec<Step> = self.one_shot.then(|| self.forget_once()).flatten().into_iter().collect();
        if !record.added.is_empty() {
            steps.push(self.remove(record.added.clone(), notes));
            steps.extend(self.configure());
            // Without new ones the boot loader was told nothing else than before.
            let before = record.before().filter(|_| !self.one_shot);
            steps.extend(before.and_then(|version| self.boot_always(version)));
        }
        steps
    }

    /// Whether the kernel that runs came since an update was confirmed last.
    pub(super) fn runs_what_was_added(notes: &Path) -> bool {
        let running = running();
        Record::read(notes, &running).added.contains(&running)
    }

    /// To the kernels of a tree that somebody has chosen. One that ran here before is the default at once, as it was then.
    fn go_to(
        &self,
        wanted: &[Release],
        versions: &[String],
        found: &Found,
        tree: &Path,
        notes: &Path,
    ) -> Vec<Step> {
        let mut steps = self.without_added(versions, found, notes);
        if let Some(newest) = versions.last() {
            steps.push(self.install(wanted, tree, notes));
            steps.extend(self.configure());
            if !self.one_shot || found.record.must_stay(newest) {
                steps.extend(self.boot_always(newest));
            } else {
                steps.extend(self.boot_once(newest));
                steps.extend(self.is_booted_once(newest));
            }
        } else if !steps.is_empty() {
            steps.extend(self.configure());
        }
        steps.push(Step::built_in("noting the kernels", BuiltIn::Settle(Settle { notes: notes.to_owned() })));
        steps
    }

    /// Without the kernels that came since an update was confirmed last and are not among these.
    fn without_added(&self, versions: &[String], found: &Found, notes: &Path) -> Vec<Step> {
        let gone: Vec<String> =
            found.record.added.iter().filter(|version| !versions.contains(version)).cloned().collect();
        let mut steps = Vec::new();
        if !gone.is_empty() {
            steps.extend(self.one_shot.then(|| self.forget_once()).flatten());
            steps.push(self.remove(gone, notes));
        }
        steps
    }

    fn confirm(
        &self,
        newest: &str,
        versions: &[String],
        found: &Found,
        notes: &Path,
        keep: usize,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.one_shot || found.running == newest {
            steps.extend(self.boot_always(newest));
        } else {
            steps.extend(self.is_booted_once(newest));
        }
        let victims = found.record.victims(keep, versions);
        if !victims.is_empty() {
            steps.push(self.remove(victims, notes));
            steps.extend(self.configure());
        }
        let settle = Settle { notes: notes.to_owned() };
        steps.push(Step::built_in("noting the kernels", BuiltIn::Settle(settle)));
        steps
    }

    fn is_booted_once(&self, version: &str) -> Option<Step> {
        let text = format!(
            "{version} is booted once; it becomes the default when it is confirmed while it runs: reboot, then `smart-sync rebuild`"
        );
        let warn = || Step::built_in("waiting for a reboot", BuiltIn::Warn(text));
        (self.loader != Loader::None).then(warn)
    }

    /// Back to the kernels of the tree that is in its place again. An update that did not get as far has added none.
    fn back(&self, wanted: &[Release], found: &Found, tree: &Path, notes: &Path) -> Vec<Step> {
        if found.record.placed.is_empty() {
            return Vec::new();
        }
        let placed = |release: &&Release| found.record.placed.contains(&release.version);
        let before: Vec<Release> = wanted.iter().filter(placed).cloned().collect();
        let versions: Vec<String> = before.iter().map(|release| release.version.clone()).collect();
        let mut steps = self.without_added(&versions, found, notes);
        if !before.is_empty() {
            steps.push(self.install(&before, tree, notes));
        }
        if !steps.is_empty() {
            steps.extend(self.configure());
            let last = before.last().filter(|_| !self.one_shot);
            steps.extend(last.and_then(|release| self.boot_always(&release.version)));
        }
        steps
    }

    fn install(&self, releases: &[Release], tree: &Path, notes: &Path) -> Step {
        let entry_options = match self.loader {
            Loader::SystemdBoot => self.entry_options.clone(),
            Loader::Grub | Loader::None => None,
        };
        let install = Install {
            releases: releases.to_vec(),
            from: self.directory(tree),
            boot: self.boot().to_owned(),
            modules: self.modules().to_owned(),
            entry_options,
            notes: notes.to_owned(),
        };
        Step::built_in(Self::title(), BuiltIn::Install(install))
    }

    fn remove(&self, versions: Vec<String>, notes: &Path) -> Step {
        let (boot, modules) = (self.boot().to_owned(), self.modules().to_owned());
        let remove = Remove { versions, boot, modules, notes: notes.to_owned() };
        Step::built_in("removing kernels", BuiltIn::Remove(remove))
    }

    /// Lets the boot loader see what is there.
    fn configure(&self) -> Option<Step> {
        let config = self.grub_config();
        let words = ["grub-mkconfig".into(), "-o".into(), config.into_os_string()];
        (self.loader == Loader::Grub).then(|| Step::run("grub-mkconfig", words))
    }

    fn boot_once(&self, version: &str) -> Option<Step> {
        match self.loader {
            Loader::SystemdBoot => Some(Step::titled(["bootctl", "set-oneshot", &entry_name(version)])),
            Loader::Grub => Some(self.grub("grub-reboot", version)),
            Loader::None => None,
        }
    }

    fn boot_always(&self, version: &str) -> Option<Step> {
        match self.loader {
            Loader::SystemdBoot => Some(Step::titled(["bootctl", "set-default", &entry_name(version)])),
            Loader::Grub => Some(self.grub("grub-set-default", version)),
            Loader::None => None,
        }
    }

    fn forget_once(&self) -> Option<Step> {
        match self.loader {
            Loader::SystemdBoot => {
                Some(Step::run("forgetting what is booted once", ["bootctl", "set-oneshot", ""]))
            }
            Loader::Grub => {
                let file = self.boot().join("grub/grubenv").into_os_string();
                let words = ["grub-editenv".into(), file, "unset".into(), "next_entry".into()];
                Some(Step::run("forgetting what is booted once", words))
            }
            Loader::None => None,
        }
    }

    fn grub(&self, program: &'static str, version: &str) -> Step {
        let mut directory = std::ffi::OsString::from("--boot-directory=");
        directory.push(self.boot());
        let step = Step::run(program, [program.into(), directory]);
        let entry = GrubEntry { config: self.grub_config(), version: version.to_owned() };
        step.with(|line| line.grub_entry = Some(entry))
    }

    fn grub_config(&self) -> PathBuf {
        self.boot().join("grub/grub.cfg")
    }

    fn directory(&self, tree: &Path) -> PathBuf {
        self.from.as_ref().map_or_else(|| tree.to_owned(), |from| tree.join(from))
    }

    fn boot(&self) -> &Path {
        self.boot.as_ref().map_or(Path::new(BOOT), |path| &path.0)
    }

    fn modules(&self) -> &Path {
        self.modules.as_ref().map_or(Path::new(MODULES), |path| &path.0)
    }
}

/// The last word of a command line that is only known once GRUB's configuration was made: what it calls an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrubEntry {
    config: PathBuf,
    version: String,
}

impl GrubEntry {
    /// Looks it up.
    pub fn find(&self) -> Result<String, String> {
        loader::grub_entry(&self.config, &self.version)
    }

    /// How it is shown before that.
    pub(super) fn shown(&self) -> String {
        format!("ENTRY-OF-{}", self.version)
    }
}

/// The version of the kernel that runs.
pub(crate) fn running() -> String {
    fs::read_to_string(RUNNING).unwrap_or_default().trim().to_owned()
}

/// The files below a directory, and the directories of modules with a slash behind them; in no certain order, and only
/// names that are texts.
fn list(directory: &Path, prefix: &str, depth: usize, paths: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().map_while(Result::ok) {
        if paths.len() >= PATHS_MAX {
            return;
        }
        let Some(path) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else { continue };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && prefix.ends_with("lib/modules/") => paths.push(format!("{path}/")),
            Ok(kind) if kind.is_dir() && depth > 0 => {
                list(&entry.path(), &format!("{path}/"), depth - 1, paths);
            }
            Ok(kind) if kind.is_file() => paths.push(path),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
