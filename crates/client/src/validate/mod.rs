//! `validate`: whether a host is fit for an update.
//!
//! Checks are data: those that come with the program, those of the configuration, and those of a target's tree. All of
//! them are made, whatever the ones before have found, and each result is said. Nothing is changed by looking; what
//! `--fix` repairs is shown before it is done.

mod drift;
mod flake;
pub mod item;
mod look;
mod machine;
mod own;
mod owners;
mod repair;
pub mod sets;
pub mod values;
mod walk;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::versions::{CURRENT, Kind};

use self::item::{Item, Severity};
use self::look::{Ground, look};
use self::repair::Repair;
use crate::args::validate::ValidateArgs;
use crate::config::AbsolutePath;
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::output::{Format, Output, count};
use crate::settings;
use crate::sync::Surroundings;
use crate::sync::place::Place;

pub use self::look::{Depth, Verdict};

/// Where checks of this program itself stand.
const OWN: &str = "smart-sync";
/// Where those of the host's configuration do.
const CONFIGURED: &str = "configuration";
/// The most repairs that are listed one by one.
const LISTED_MAX: usize = 100;

/// What faults of a target's tree mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trees {
    /// As much as any other.
    Count,
    /// No more than a warning: another tree is about to take its place, and may be the one that mends them.
    AreReplaced,
}

/// What a check has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Skipped,
    Warning,
    Failed,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The set or the target that it belongs to.
    of: String,
    title: String,
    state: State,
    text: String,
    hint: Option<String>,
    repairs: Vec<Repair>,
}

impl Found {
    fn of(of: &str, title: &str, verdict: Verdict, usual: Severity) -> Self {
        let (state, text, repairs) = match verdict {
            Verdict::Well(text) => (State::Ok, text, Vec::new()),
            Verdict::Skipped(text) => (State::Skipped, text, Vec::new()),
            Verdict::Wrong { text, severity, repairs } => {
                let state = match severity.unwrap_or(usual) {
                    Severity::Fail => State::Failed,
                    Severity::Warn => State::Warning,
                };
                (state, text, repairs)
            }
        };
        Self { of: of.to_owned(), title: title.to_owned(), state, text, hint: None, repairs }
    }

    /// With what it means for a tree.
    fn counted(self, trees: Trees) -> Self {
        match (self.state, trees) {
            (State::Failed, Trees::AreReplaced) => Self { state: State::Warning, ..self },
            _ => self,
        }
    }

    fn say(&self, output: &Output) {
        let Self { title, text, .. } = self;
        if output.format() == Format::Json {
            return output.event(&json!({
                "event": "validation",
                "of": self.of,
                "name": title,
                "state": self.state.name(),
                "text": text,
                "hint": self.hint,
                "repairs": self.repairs.iter().take(LISTED_MAX).map(ToString::to_string).collect::<Vec<_>>(),
            }));
        }
        match self.state {
            State::Ok => output.detail(&format!("{title}: {text}")),
            State::Skipped => output.detail(&format!("{title}: not looked at: {text}")),
            State::Warning => {
                let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
                output.warning(&format!("{title}: {text}{hint}"));
            }
            State::Failed => {
                let failure = Failure::message(Exit::General, format!("{title}: {text}"));
                output.failure(&self.hint.iter().fold(failure, Failure::hint));
            }
        }
    }
}

/// The results of all checks.
#[derive(Debug)]
pub struct Report(Vec<Found>);

impl Report {
    fn number(&self, state: State) -> u64 {
        self.0.iter().filter(|found| found.state == state).count() as u64
    }

    /// Everything that can be repaired, each once.
    fn repairs(&self) -> Vec<&Repair> {
        let mut repairs: Vec<&Repair> = Vec::new();
        for repair in self.0.iter().flat_map(|found| &found.repairs) {
            // Whole trees are repaired path by path; only commands are named by several checks.
            let is_command = matches!(repair, Repair::Run { .. });
            if !is_command || !repairs.contains(&repair) {
                repairs.push(repair);
            }
        }
        repairs
    }

    /// Says what was found; it is a failure where any check failed.
    pub fn say(&self, output: &Output) -> Result<(), Failure> {
        self.0.iter().for_each(|found| found.say(output));
        let [ok, skipped, warnings, failed] =
            [State::Ok, State::Skipped, State::Warning, State::Failed].map(|state| self.number(state));
        output.event(&json!({
            "event": "validated", "ok": ok, "skipped": skipped, "warnings": warnings, "failed": failed,
        }));
        let all = count(self.0.len() as u64, "check", "checks");
        let warned = if warnings > 0 {
            format!(", {}", count(warnings, "is worth a look", "are worth a look"))
        } else {
            String::new()
        };
        if failed == 0 {
            output.info(&format!("{all}, none failed{warned}"));
            return Ok(());
        }
        Err(Failure::message(Exit::General, format!("{failed} of {all} failed{warned}")))
    }

    /// The same, with advice about what can be repaired.
    pub fn say_and_advise(&self, output: &Output) -> Result<(), Failure> {
        self.say(output).map_err(|failure| {
            if self.repairs().is_empty() {
                return failure;
            }
            failure.hint("`smart-sync validate --fix` shows what can be repaired")
        })
    }
}

/// Runs `validate`.
pub fn run(args: &ValidateArgs, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let depth = if args.quick { Depth::Quick } else { Depth::Full };
    let output = surroundings.output;
    let look = || all(depth, args.target.as_deref(), Trees::Count, surroundings);
    let report = look()?;
    if !args.fix {
        return report.say_and_advise(output).map(|()| Exit::Success);
    }
    let ended = report.say(output).map(|()| Exit::Success);
    let repairs = report.repairs();
    if repairs.is_empty() {
        output.info("there is nothing that smart-sync could repair");
        return ended;
    }
    if !args.yes {
        show(&repairs, output);
        return ended;
    }
    let (restores, others): (Vec<_>, Vec<_>) = repairs.into_iter().partition(|repair| repair.restores());
    act(&restores, surroundings)?;
    if restores.is_empty() {
        act(&others, surroundings)?;
    } else {
        // What was published may be what the other repairs are for.
        let report = look()?;
        let others: Vec<_> = report.repairs().into_iter().filter(|repair| !repair.restores()).collect();
        act(&others, surroundings)?;
    }
    look()?.say(output).map(|()| Exit::Success)
}

/// Repairs, whatever comes of those before.
fn act(repairs: &[&Repair], surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let output = surroundings.output;
    for repair in repairs {
        if surroundings.interrupt.is_requested() {
            return Err(interrupted());
        }
        let done = repair.act(surroundings);
        output.event(&json!({
            "event": "repair", "repair": repair.to_string(), "done": done.is_ok(), "reason": done.as_ref().err(),
        }));
        match done {
            Ok(()) => output.info(&format!("done: {repair}")),
            Err(reason) => output.warning(&format!("not done: {repair}: {reason}")),
        }
    }
    Ok(())
}

/// Shows what would be done.
fn show(repairs: &[&Repair], output: &Output) {
    for repair in repairs.iter().take(LISTED_MAX) {
        output.info(&format!("would {repair}"));
    }
    let more = repairs.len().saturating_sub(LISTED_MAX) as u64;
    if more > 0 {
        output.info(&format!("and {}", count(more, "more like this", "more like these")));
    }
    output.info("nothing was changed; add --yes to do it");
}

/// Makes all checks: of one target's tree where one is named, else of all that are configured.
pub fn all(
    depth: Depth,
    target: Option<&Path>,
    trees: Trees,
    surroundings: &Surroundings<'_>,
) -> Result<Report, Failure> {
    let config = surroundings.config;
    let mut found = own::look(depth, surroundings)?;
    let sets = sets::chosen(config.validate_sets.as_deref(), Path::exists);
    let of_sets =
        sets.into_iter().flat_map(|set| set.items().into_iter().map(move |item| (set.name(), item)));
    let configured = config.validate.iter().map(|item| (CONFIGURED, item.clone()));
    let interrupt = surroundings.interrupt;
    let ground = Ground { base: Path::new("/"), is_changeable: true, depth, interrupt };
    for (of, item) in of_sets.chain(configured) {
        found.extend(one(of, &item, Some(ground), depth, surroundings)?);
    }
    for (target, items) in of_targets(target, surroundings) {
        let place = Place::known(&target, surroundings.state_dir);
        // What is about to be replaced, the sync itself compares with what was applied.
        if trees == Trees::Count {
            // One that cannot be looked at keeps no other check from being made.
            let verdict = drift::look(place.as_ref(), depth, surroundings);
            let verdict = match verdict {
                Err(failure) if failure.exit() == Exit::Interrupted => return Err(failure),
                verdict => verdict.unwrap_or_else(|failure| look::wrong(failure.in_one_line())),
            };
            found.push(Found::of(&target.to_string_lossy(), &drift_title(&target), verdict, Severity::Warn));
        }
        let tree = place.as_ref().and_then(tree_of);
        let ground = tree.as_ref().map(|(base, is_changeable)| Ground {
            base,
            is_changeable: *is_changeable,
            depth,
            interrupt,
        });
        for item in items {
            let of_tree = one(&target.to_string_lossy(), item, ground, depth, surroundings)?;
            found.extend(of_tree.map(|found| found.counted(trees)));
        }
    }
    Ok(Report(found))
}

fn drift_title(target: &Path) -> String {
    format!("local changes in {}", Shown(target.as_os_str().as_bytes()))
}

/// Makes a check, if it is made at this depth. Without a ground, there is nothing to look at yet.
fn one(
    of: &str,
    item: &Item,
    ground: Option<Ground<'_>>,
    depth: Depth,
    surroundings: &Surroundings<'_>,
) -> Result<Option<Found>, Failure> {
    if depth == Depth::Quick && !item.is_quick() {
        return Ok(None);
    }
    if surroundings.interrupt.is_requested() {
        return Err(interrupted());
    }
    let verdict = ground.map_or_else(
        || Verdict::Skipped("nothing was applied to the target yet".to_owned()),
        |ground| look(item, ground),
    );
    let found = Found::of(of, &item.title(), verdict, item.severity);
    Ok(Some(Found { hint: item.hint.clone(), ..found }))
}

/// Targets and the checks of their trees.
fn of_targets<'c>(
    target: Option<&'c Path>,
    surroundings: &Surroundings<'c>,
) -> impl Iterator<Item = (PathBuf, &'c [Item])> {
    let all = surroundings.config.targets.iter();
    all.filter(move |(AbsolutePath(path), _)| {
        target.is_none_or(|target| settings::is_same_target(path, target))
    })
    .map(|(AbsolutePath(path), section)| (path.clone(), section.validate.as_slice()))
}

/// Where the tree of a target is, with the link resolved that leads to the current version, and whether it may be
/// repaired in place.
fn tree_of(place: &Place) -> Option<(PathBuf, bool)> {
    let (path, is_changeable) = match place.kind {
        Kind::Generations => (place.target.join(CURRENT), false),
        _ => (place.target.clone(), true),
    };
    let tree = path.canonicalize().ok().filter(|tree| tree.is_dir())?;
    Some((tree, is_changeable))
}
