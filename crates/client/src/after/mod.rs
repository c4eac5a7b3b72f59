//! What happens on a host after a new tree is in its place: commands of the host's configuration, and checks that say
//! whether all is well. Where it is not, the target goes back to the version before.
//!
//! Commands and checks stand in the configuration of the host. A channel cannot name any.

pub mod check;
pub(crate) mod pending;
pub mod process;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::versions::{CURRENT, Kind, VersionName};
use smart_sync_sync::exclude::{ExclusionError, Exclusions};

use self::check::Check;
use self::pending::{Failed, Pending};
use crate::config::Span;
use crate::failure::{Exit, Failure};
use crate::settings::{SyncMode, SyncSettings};
use crate::sync::Surroundings;
use crate::sync::place::{Label, Place};
use crate::sync::session::{Session, seconds_now};
use crate::versions::rollback::go_back;

/// How long a command may take that does not say otherwise.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Lines of a failed command that are shown.
const LINES: usize = 20;

/// A command that runs after an update, as it is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trigger {
    /// What it is called in messages.
    pub name: Option<String>,
    /// A program and its arguments.
    pub command: Vec<String>,
    /// Patterns of paths one of which has to have changed; any path where none is named.
    #[serde(default)]
    pub paths: Vec<String>,
    /// How long it may take.
    pub timeout: Option<Span>,
}

impl Trigger {
    /// Why this is not one, if it is not.
    pub fn mistake(&self) -> Option<String> {
        if self.command.is_empty() {
            return Some("the command of `run` names a program".to_owned());
        }
        self.patterns().err().map(|error| error.to_string())
    }

    fn patterns(&self) -> Result<Exclusions, ExclusionError> {
        Exclusions::new(self.paths.iter().map(String::as_str))
    }

    /// What it is called.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.command.join(" "))
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

/// What happens after an update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct After {
    /// Commands, in their order.
    pub run: Vec<Trigger>,
    /// Checks, in their order.
    pub check: Vec<Check>,
}

impl After {
    /// Whether nothing does.
    pub const fn is_empty(&self) -> bool {
        self.run.is_empty() && self.check.is_empty()
    }

    /// The commands for an update that changes these paths.
    pub fn chosen(&self, changed: Changed<'_>) -> Vec<&Trigger> {
        match changed {
            Changed::Unknown => self.run.iter().collect(),
            Changed::Paths([]) => Vec::new(),
            Changed::Paths(paths) => self.run.iter().filter(|trigger| trigger.is_for(paths)).collect(),
        }
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

/// Why commands run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Update,
    Rollback,
}

/// Notes that readers are about to be switched to a version.
pub(crate) fn arm(place: &Place, version: &Version, applied: Option<&Version>) -> Result<(), Failure> {
    let previous = applied.and_then(Version::name).map(ToString::to_string);
    let since = u64::try_from(seconds_now()).unwrap_or_default();
    Pending { manifest: version.manifest().to_string(), previous, since }.write(&place.state)
}

/// Runs the commands for what changed, and looks whether all is well. Goes back to the version before where it is not.
pub(crate) fn complete(
    session: Session<'_>,
    after: &After,
    changed: Changed<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    if after.is_empty() {
        return Ok(Exit::Success);
    }
    let session = session.reopened()?;
    let place = session.place();
    let Some(pending) = Pending::read(&place.state)? else { return Ok(Exit::Success) };
    let work = Work::new(&session, changed, Action::Update, surroundings)?;
    match work.run(after).and_then(|()| work.check(after)) {
        Ok(()) => {
            Failed::forget(&place.state, &pending.manifest)?;
            Pending::remove(&place.state)?;
            if !after.check.is_empty() {
                surroundings.output.info(&format!("{} is healthy", place.target.display()));
            }
            Ok(Exit::Success)
        }
        Err(reason) => {
            drop(work);
            undo(session, after, changed, &pending, &reason, surroundings)
        }
    }
}

/// Runs all commands and checks for the version that a target holds already, if that was not healthy and it is said to
/// try it again.
pub(crate) fn retry(
    session: Session<'_>,
    settings: &SyncSettings,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let (place, after) = (session.place(), &settings.policy.after);
    let Some(applied) = session.applied.clone().filter(|_| settings.retries_failed) else {
        return Ok(Exit::Success);
    };
    if Failed::find(&place.state, applied.manifest())?.is_none() {
        return Ok(Exit::Success);
    }
    if after.is_empty() {
        Failed::forget(&place.state, &applied.manifest().to_string())?;
        return Ok(Exit::Success);
    }
    arm(place, &applied, None)?;
    complete(session, after, Changed::Unknown, surroundings)
}

/// What became of a version that was not confirmed.
pub(crate) enum Settled<'a> {
    /// There was none.
    Nothing(Box<Session<'a>>),
    /// The target was taken back.
    Undone(Exit),
}

/// Takes a target back whose version was never confirmed. The caller has found it with nobody at work on it.
pub(crate) fn settle<'a>(
    session: Session<'a>,
    after: &After,
    surroundings: &Surroundings<'_>,
) -> Result<Settled<'a>, Failure> {
    let place = session.place();
    let Some(pending) = Pending::read(&place.state)? else { return Ok(Settled::Nothing(Box::new(session))) };
    if session.manifest().map(|manifest| manifest.to_string()).as_ref() != Some(&pending.manifest) {
        // It was interrupted before readers were switched.
        Pending::remove(&place.state)?;
        return Ok(Settled::Nothing(Box::new(session)));
    }
    let reason = "the run that applied it ended before it was confirmed";
    undo(session, after, Changed::Unknown, &pending, reason, surroundings).map(Settled::Undone)
}

fn undo(
    session: Session<'_>,
    after: &After,
    changed: Changed<'_>,
    pending: &Pending,
    reason: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let place = session.place();
    if surroundings.interrupt.is_requested() {
        // It says nothing about the version; the next run, or `recover`, decides.
        return Err(crate::interrupt::interrupted());
    }
    output.warning(&format!("{} is not healthy: {reason}", place.target.display()));
    let since = u64::try_from(seconds_now()).unwrap_or_default();
    Failed { manifest: pending.manifest.clone(), reason: reason.to_owned(), since }.note(&place.state)?;
    let previous = pending.previous.as_deref().and_then(|name| VersionName::parse(name.as_bytes()));
    let kept = session.ready().target().kept()?;
    let Some(previous) = kept.into_iter().find(|kept| Some(kept.name()) == previous.as_ref()) else {
        Pending::remove(&place.state)?;
        let text = format!(
            "{} stays at a version that is not healthy: there is none to go back to: {reason}",
            place.target.display()
        );
        let failure = Failure::message(Exit::RollbackFailed, text);
        return Err(match place.kind {
            Kind::Directory => {
                failure.hint("versions are kept by targets of the kinds generations and btrfs")
            }
            _ => failure.hint("repair what is named here, and run this again with --retry-failed"),
        });
    };
    let number = go_back(&session, &previous, surroundings).map_err(|failure| {
        failure.context(format!("going back from a version that is not healthy ({reason})"))
    })?;
    Pending::remove(&place.state)?;
    let session = session.reopened()?;
    let work = Work::new(&session, changed, Action::Rollback, surroundings)?;
    work.run(after).map_err(|reason| {
        let text = format!("{} is back at generation {number}, but {reason}", place.target.display());
        Failure::message(Exit::RollbackFailed, text)
    })?;
    output.warning(&format!(
        "{} is back at generation {number}; the version that was not healthy is not tried again without --retry-failed",
        place.target.display()
    ));
    output.event(&serde_json::json!({
        "event": "unhealthy",
        "target": place.target.to_string_lossy(),
        "manifest": format!("blake3:{}", pending.manifest),
        "reason": reason,
        "generation": number,
    }));
    Ok(Exit::RolledBack)
}

/// The same for a sync; one that only looks changes nothing.
pub(crate) fn settled<'a>(
    session: Session<'a>,
    settings: &SyncSettings,
    surroundings: &Surroundings<'_>,
) -> Result<Settled<'a>, Failure> {
    match settings.mode {
        SyncMode::Apply => settle(session, &settings.policy.after, surroundings),
        SyncMode::DryRun | SyncMode::CheckOnly => Ok(Settled::Nothing(Box::new(session))),
    }
}

/// Whether a version is not tried, because it was not healthy when it was.
pub(crate) fn refuses(
    place: &Place,
    manifest: ManifestId,
    settings: &SyncSettings,
    surroundings: &Surroundings<'_>,
) -> Result<bool, Failure> {
    if settings.mode != SyncMode::Apply || settings.retries_failed {
        return Ok(false);
    }
    let Some(failed) = Failed::find(&place.state, manifest)? else { return Ok(false) };
    surroundings.output.warning(&format!(
        "{}: this version was not healthy when it was tried ({}); --retry-failed tries it again",
        place.target.display(),
        failed.reason
    ));
    Ok(true)
}

/// Commands and checks, and what they are told.
struct Work<'a> {
    surroundings: &'a Surroundings<'a>,
    changed: Changed<'a>,
    variables: Vec<(&'static str, String)>,
    tree: PathBuf,
    /// The paths that changed, each with a NUL behind it; none where they are not known.
    list: PathBuf,
}

impl<'a> Work<'a> {
    fn new(
        session: &Session<'a>,
        changed: Changed<'a>,
        action: Action,
        surroundings: &'a Surroundings<'a>,
    ) -> Result<Self, Failure> {
        let place = session.place();
        let list = place.state.join("changed");
        let paths = if let Changed::Paths(paths) = changed { paths } else { &[] };
        fs::write(&list, paths.iter().flat_map(|path| [&**path, b"\0"]).collect::<Vec<_>>().concat())?;
        let tree = match place.kind {
            Kind::Generations => place.target.join(CURRENT),
            _ => place.target.clone(),
        };
        let label = session.applied.as_ref().and_then(Label::of);
        let manifest = session.manifest().map_or_else(String::new, |manifest| manifest.to_string());
        let mut variables = vec![
            ("SMART_SYNC_ACTION", if action == Action::Update { "update" } else { "rollback" }.to_owned()),
            ("SMART_SYNC_TARGET", place.target.to_string_lossy().into_owned()),
            ("SMART_SYNC_TREE", tree.to_string_lossy().into_owned()),
            ("SMART_SYNC_MANIFEST", manifest),
            ("SMART_SYNC_CHANGED", list.to_string_lossy().into_owned()),
        ];
        if let Some(label) = label {
            variables.extend([
                ("SMART_SYNC_CHANNEL", label.channel),
                ("SMART_SYNC_REF", label.r#ref),
                ("SMART_SYNC_COMMIT", label.commit.unwrap_or_default()),
            ]);
        }
        Ok(Self { surroundings, changed, variables, tree, list })
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir(&self.tree);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        // A token is for this program alone.
        command.env_remove("SMART_SYNC_TOKEN");
    }

    /// Runs the commands for what changed; returns why one of them did not do what it was to do.
    fn run(&self, after: &After) -> Result<(), String> {
        let output = self.surroundings.output;
        for trigger in after.chosen(self.changed) {
            let title = Shown(trigger.title().as_bytes()).to_string();
            output.info(&format!("running {title}"));
            let mut command = Command::new(&trigger.command[0]);
            command.args(&trigger.command[1..]);
            self.prepare(&mut command);
            let timeout = trigger.timeout.map_or(TIMEOUT, |span| span.0);
            let ran = process::run(&mut command, timeout, self.surroundings.interrupt)
                .map_err(|error| format!("{title} cannot be started: {error}"))?;
            if ran.left > 0 {
                output.warning(&format!(
                    "{title} had left {} running, which were ended; start services with the service manager",
                    crate::output::count(ran.left as u64, "process", "processes")
                ));
            }
            let lines = ran.last_lines(if ran.is_success() { usize::MAX } else { LINES });
            for line in lines {
                let line = format!("{title}: {}", Shown(line.as_bytes()));
                if ran.is_success() { output.detail(&line) } else { output.warning(&line) }
            }
            if !ran.is_success() {
                return Err(format!("{title} {}", ran.how(timeout)));
            }
        }
        Ok(())
    }

    /// Looks whether all is well; returns why not.
    fn check(&self, after: &After) -> Result<(), String> {
        let Surroundings { runtime, interrupt, output, .. } = self.surroundings;
        for check in &after.check {
            let title = Shown(check.title().as_bytes()).to_string();
            output.detail(&format!("checking {title}"));
            check
                .run(runtime, interrupt, |command| self.prepare(command))
                .map_err(|reason| format!("the check {title} fails: {}", Shown(reason.as_bytes())))?;
        }
        Ok(())
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        // One that stays is overwritten by the next.
        let _ = fs::remove_file(&self.list);
    }
}
