//! The versions of a target: listing them, going back and on, and letting them go.

mod choose;
pub mod hold;
pub(crate) mod in_use;
pub(crate) mod rollback;

use std::path::{Path, PathBuf};

use serde::Serialize;
use smart_sync_sync::apply::error::ApplyError;
use smart_sync_sync::apply::lock::Holder;
use smart_sync_sync::apply::run::{ReadyTarget, Target};
use smart_sync_sync::apply::versions::{Kept, VersionName, prune};

use self::hold::Hold;
use crate::after::ballast;
use crate::after::pending::{Failed, Pending};
use crate::after::verdict::Verdict;
use crate::after::{self, Settled};
use crate::commands::Listing;
use crate::failure::{Exit, Failure};
use crate::hosts::report;
use crate::output::{Format, Output, count};
use crate::profile;
use crate::profile::between::OnTrial;
use crate::settings::{TargetPolicy, Validation};
use crate::sync::Surroundings;
use crate::sync::kept_contents::retain_contents;
use crate::sync::place::{Label, Place};
use crate::sync::session::Session;

pub use self::rollback::rollback;

/// A version, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "generation")]
#[expect(clippy::struct_excessive_bools, reason = "programs are told each of them by its name")]
struct GenerationEvent<'a> {
    target: &'a str,
    generation: u64,
    name: &'a str,
    manifest: String,
    current: bool,
    pinned: bool,
    held: bool,
    confirmed: bool,
    #[serde(flatten)]
    label: Option<Label>,
}

/// A target of which nothing changes while this is held.
struct Opened {
    place: Place,
    ready: ReadyTarget,
    kept: Vec<Kept>,
    current: Option<VersionName>,
}

impl Opened {
    fn open(target: &Path, state_dir: &Path) -> Result<Self, Failure> {
        let place = Place::find(target, state_dir)?;
        let locked =
            place.open()?.lock(&Holder::this_process("smart-sync", crate::sync::session::seconds_now()))?;
        let (ready, _) = profile::store::recover(&place, locked)?;
        let kept = ready.target().kept()?;
        if !ready.target().keeps_versions() {
            return Err(keeps_none(&place.target));
        }
        let current = ready.target().applied()?.and_then(|version| version.name().cloned());
        Ok(Self { place, ready, kept, current })
    }

    fn is_current(&self, kept: &Kept) -> bool {
        self.current.as_ref() == Some(kept.name())
    }

    fn get(&self, number: u64) -> Result<&Kept, Failure> {
        self.kept
            .iter()
            .find(|kept| kept.number == number)
            .ok_or_else(|| not_kept(number, &self.place.target))
    }
}

fn keeps_none(target: &Path) -> Failure {
    Failure::message(Exit::Arguments, format!("{} is changed in place: no versions of it are kept", target.display()))
        .hint("sync an earlier ref instead, such as `--ref main@2026-11-01`; or sync to a new directory with --kind")
}

/// Opens a target to look at its versions.
pub(crate) fn open(target: &Path, state_dir: &Path) -> Result<(Place, Target), Failure> {
    let place = Place::find(target, state_dir)?;
    let opened = place.open()?;
    if opened.keeps_versions() { Ok((place, opened)) } else { Err(keeps_none(&place.target)) }
}

pub(crate) fn not_kept(number: u64, target: &Path) -> Failure {
    let message = format!("generation {number} of {} is not kept", target.display());
    Failure::message(Exit::Arguments, message).hint("`smart-sync generations` lists those that are")
}

/// Lists the versions of a target.
pub fn list(target: &Path, state_dir: &Path, output: &Output) -> Result<Exit, Failure> {
    let opened = Opened::open(target, state_dir)?;
    let held = Hold::read(&opened.place.state)?;
    let verdict = Verdict::read(&opened.place.state)?;
    let pending = Pending::read(&opened.place.state)?.map(|pending| pending.manifest);
    let mut lines = Listing::default();
    for kept in &opened.kept {
        let is_held = held.as_ref().is_some_and(|held| held.generation == kept.number);
        let is_current = opened.is_current(kept);
        if output.format() == Format::Json {
            output.event(&GenerationEvent {
                target: &opened.place.target.to_string_lossy(),
                generation: kept.number,
                name: kept.name().as_str(),
                manifest: format!("blake3:{}", kept.version.manifest()),
                current: is_current,
                pinned: kept.is_pinned,
                held: is_held,
                confirmed: verdict.is_confirmed(kept.name()),
                label: Label::of(&kept.version),
            });
            continue;
        }
        let marks = [
            (is_current, "current"),
            (is_held, "held"),
            (kept.is_pinned, "pinned"),
            (verdict.is_confirmed(kept.name()), "confirmed"),
            (is_current && pending == Some(kept.version.manifest().to_string()), "not confirmed yet"),
            (Failed::find(&opened.place.state, kept.version.manifest())?.is_some(), "not healthy"),
        ];
        let marks: Vec<&str> = marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect();
        let marks = if marks.is_empty() { String::new() } else { format!("  ({})", marks.join(", ")) };
        lines.line(&format!("{:>4}  {}{marks}", kept.number, described(kept)));
    }
    if opened.kept.is_empty() {
        output.info(&format!("nothing was applied to {} yet", opened.place.target.display()));
    }
    lines.print(output)?;
    Ok(Exit::Success)
}

/// When a version was applied, what it is, and who had it applied.
fn described(kept: &Kept) -> String {
    let manifest = kept.version.manifest().to_string();
    let Some(label) = Label::of(&kept.version) else { return format!("manifest {manifest}") };
    let when = i64::try_from(label.applied).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    let when = when.map_or_else(String::new, |at| at.strftime("%F %H:%M:%SZ  ").to_string());
    let from =
        if label.channel.is_empty() { label.origin } else { format!("{} {}", label.channel, label.r#ref) };
    let number = if label.channel.is_empty() { String::new() } else { format!(" number {}", label.seq) };
    let commit = label
        .commit
        .map_or_else(String::new, |commit| format!("  commit {}", &commit[..commit.len().min(12)]));
    let by = if label.by.is_empty() { String::new() } else { format!("  by {}", label.by) };
    format!("{when}{from}{number}{commit}  manifest {}{by}", &manifest[..12])
}

/// Pins a version, or takes that back.
pub fn pin(
    target: &Path,
    number: u64,
    is_pinned: bool,
    state_dir: &Path,
    output: &Output,
) -> Result<Exit, Failure> {
    let opened = Opened::open(target, state_dir)?;
    opened.ready.pin(opened.get(number)?, is_pinned)?;
    let what = if is_pinned { "is kept until it is unpinned" } else { "is kept like any other" };
    output.info(&format!("generation {number} of {} {what}", opened.place.target.display()));
    Ok(Exit::Success)
}

/// Removes older versions, or says which.
pub fn prune(
    target: &Path,
    policy: &TargetPolicy,
    newest: Option<usize>,
    is_certain: bool,
    state_dir: &Path,
    output: &Output,
) -> Result<Exit, Failure> {
    let opened = Opened::open(target, state_dir)?;
    let held = Hold::read(&opened.place.state)?;
    let held =
        opened.kept.iter().find(|kept| held.as_ref().is_some_and(|held| held.generation == kept.number));
    let pending = Pending::read(&opened.place.state)?.and_then(|pending| pending.previous);
    let before = opened.kept.iter().find(|kept| Some(kept.name().as_str()) == pending.as_deref());
    let needed = profile::store::needed(&opened.place, &opened.kept)?;
    let anyway = kept_anyway(&opened.kept, &opened.place.state)?;
    let named = [held, before].into_iter().flatten().map(Kept::name).chain(&needed).chain(anyway);
    let named: Vec<&VersionName> = named.collect();
    let newest = newest.unwrap_or(policy.keep);
    let gone = prune::plan(&opened.kept, opened.current.as_ref(), newest, &named);
    for kept in &gone {
        output.info(&format!("generation {}: {}", kept.number, described(kept)));
    }
    let number = count(gone.len() as u64, "generation", "generations");
    if !is_certain && !gone.is_empty() {
        output.info(&format!("{number} would be removed; nothing was changed; add --yes to do it"));
        return Ok(Exit::Success);
    }
    for kept in &gone {
        opened.ready.remove_version(kept)?;
    }
    retain_contents(&opened.ready, &opened.place.state)?;
    opened.ready.prune_left(newest)?;
    output.info(&format!("{number} removed"));
    Ok(Exit::Success)
}

/// The versions that stay however many are kept: the one that was confirmed last, and those that are in use.
pub(crate) fn kept_anyway<'k>(kept: &'k [Kept], state: &Path) -> Result<Vec<&'k VersionName>, Failure> {
    let verdict = Verdict::read(state)?;
    let confirmed = kept.iter().map(Kept::name).filter(|name| verdict.is_confirmed(name));
    Ok(confirmed.chain(in_use::in_use(kept)).collect())
}

/// Lets a target follow its ref again.
pub fn resume(target: &Path, state_dir: &Path, output: &Output) -> Result<Exit, Failure> {
    let place = Place::find(target, state_dir)?;
    let was_held = Hold::remove(&place.state)?;
    let what = if was_held { "follows its ref again" } else { "was not held" };
    output.info(&format!("{} {what}", place.target.display()));
    Ok(Exit::Success)
}

/// Settles what interrupted runs left of targets, and does nothing else. A version that was not confirmed is taken back.
pub fn recover(
    targets: &[(PathBuf, TargetPolicy)],
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let mut ended = Exit::Success;
    for (target, policy) in targets {
        // What was never synced has nothing to be settled.
        let Some(place) = Place::known(target, surroundings.state_dir) else { continue };
        let recovered = recover_one(&place, policy, surroundings);
        report::after(target, &recovered, surroundings);
        ended = ended.and(surroundings.output.ended(recovered));
    }
    Ok(ended)
}

fn recover_one(
    place: &Place,
    policy: &TargetPolicy,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    // It says itself what was interrupted.
    let session = match Session::begin(place, policy, Validation::TrustStat, output) {
        Err(failure) if matches!(failure.cause(), Some(ApplyError::Locked(_))) => {
            // A run that is at work was not interrupted.
            output.info(&failure.in_one_line());
            return Ok(Exit::Success);
        }
        Err(failure) if failure.is_full() => {
            // Room was set aside for a target that has to go back.
            ballast::release(&place.state);
            Session::begin(place, policy, Validation::TrustStat, output)?
        }
        begun => begun?,
    };
    let was_interrupted = session.was_interrupted;
    if let Some(set) = OnTrial::of(place)? {
        let subject = set.subject();
        output.info(&format!(
            "{}: it is settled with {subject}: `smart-sync recover {}`",
            place.target.display(),
            subject.typed()
        ));
        return Ok(Exit::Success);
    }
    // What was received is used by the next run.
    if !session.has_stage()? {
        session.ready().discard_next()?;
    }
    match after::settle(session, &policy.after, surroundings)? {
        Settled::Undone(exit) | Settled::Waits(exit) => return Ok(exit),
        Settled::Nothing(_) if !was_interrupted => {
            output.info(&format!("{}: nothing was interrupted", place.target.display()));
        }
        Settled::Nothing(_) | Settled::Confirmed(_) => {}
    }
    Ok(Exit::Success)
}
