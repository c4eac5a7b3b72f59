//! The sets of a profile: listing them, going back to one, and going on.

use std::path::Path;

use serde::Serialize;
use smart_sync_sync::name::Channel;

use super::between::noted;
use super::journal::{FORMAT, Journal, Reason, State, Way};
use super::members::{Members, Places};
use super::set::{Member, Set, Sets};
use super::settings::AfterPull;
use super::settle::{self, Ended, Unsettled};
use super::store::{Store, directory_of, read_journal, sets_of};
use crate::after::fate::Fate;
use crate::after::subject::Subject;
use crate::after::verdict::Health;
use crate::args::versions::RollbackArgs;
use crate::commands::Listing;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::sync::Surroundings;
use crate::sync::place::Place;
use crate::versions::hold::Hold;

/// A set, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "set")]
pub(super) struct SetEvent<'a> {
    profile: &'a str,
    set: u64,
    origin: &'a str,
    r#ref: &'a str,
    seq: u64,
    manifest: String,
    at: Option<u64>,
    applied: u64,
    by: &'a str,
    current: bool,
    held: bool,
    /// Of the one that the targets are at.
    health: Option<&'static str>,
    reason: Option<&'a str>,
    targets: Vec<TargetOfSet<'a>>,
}

/// How a set stands.
#[derive(Clone, Copy)]
pub(super) struct Standing<'a> {
    /// Whether it is what the targets are at.
    pub(super) is_current: bool,
    /// Whether it stays that.
    pub(super) is_held: bool,
    /// What was found of it, where it is what the targets are at.
    pub(super) health: Option<&'a Health>,
}

#[derive(Debug, Serialize)]
struct TargetOfSet<'a> {
    target: &'a Path,
    channel: &'a str,
    r#ref: &'a str,
    seq: u64,
    manifest: String,
    generation: Option<u64>,
}

impl<'a> SetEvent<'a> {
    /// What is said of a set.
    pub(super) fn of(set: &'a Set, standing: Standing<'a>) -> Self {
        let target = |member: &'a Member| TargetOfSet {
            target: &member.target,
            channel: &member.channel,
            r#ref: &member.r#ref,
            seq: member.seq,
            manifest: format!("blake3:{}", member.manifest),
            generation: member.generation,
        };
        Self {
            profile: &set.profile,
            set: set.number,
            origin: &set.origin,
            r#ref: &set.r#ref,
            seq: set.seq,
            manifest: format!("blake3:{}", set.manifest),
            at: set.at,
            applied: set.applied,
            by: &set.by,
            current: standing.is_current,
            held: standing.is_held,
            health: standing.health.map(Health::name),
            reason: standing.health.and_then(Health::reason),
            targets: set.members.iter().map(target).collect(),
        }
    }
}

/// Lists the sets of a profile.
pub fn list(profile: &Channel, state_dir: &Path, output: &Output) -> Result<Exit, Failure> {
    let directory = directory_of(profile, state_dir);
    let sets = sets_of(profile, state_dir)?;
    let held = Hold::read(&directory)?;
    let health = health(profile, state_dir)?;
    let waiting = switched_to(&directory)?;
    let current = waiting.as_ref().map_or(sets.current, |set| set.number);
    let mut lines = Listing::default();
    for set in sets.all.iter().chain(&waiting) {
        let is_current = set.number == current;
        let is_held = held.as_ref().is_some_and(|held| held.generation == set.number);
        if output.format() == Format::Json {
            let health = is_current.then_some(&health);
            output.event(&SetEvent::of(set, Standing { is_current, is_held, health }));
            continue;
        }
        let found = match &health {
            Health::Confirmed => "confirmed",
            Health::RolledBack(_) | Health::TakenBack(_) => "gone back to",
            Health::RollbackFailed(_) => "not healthy",
            Health::Waiting(_) | Health::RebootPending | Health::Unconfirmed | Health::Interrupted => {
                "not confirmed yet"
            }
            Health::Unchecked => "",
        };
        let marks = [(is_current, "current"), (is_held, "held"), (is_current && !found.is_empty(), found)];
        let marks: Vec<&str> = marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect();
        let marks = if marks.is_empty() { String::new() } else { format!("  ({})", marks.join(", ")) };
        lines.line(&format!("{:>4}  {}{marks}", set.number, described(set)));
        for member in &set.members {
            let generation =
                member.generation.map_or_else(String::new, |number| format!(" generation {number}"));
            lines.line(&format!(
                "      {}{generation}: {} {} number {}",
                member.target.display(),
                member.channel,
                member.r#ref,
                member.seq
            ));
        }
    }
    if sets.all.is_empty() && waiting.is_none() {
        output.info(&format!("{profile} was not pulled on this host"));
    }
    lines.print(output)?;
    if output.format() == Format::Text
        && let Some(sentence) = health.sentence(&Subject::set(profile.as_str(), &directory))
        && waiting.is_some()
    {
        output.info(&sentence);
    }
    Ok(Exit::Success)
}

/// The set that all targets were switched to, where that is not committed.
fn switched_to(directory: &Path) -> Result<Option<Set>, Failure> {
    let journal = read_journal(directory)?.filter(|journal| journal.state == State::Proving);
    Ok(journal.map(|journal| journal.set))
}

/// What was found of the set that the targets of a profile are at.
pub(super) fn health(profile: &Channel, state_dir: &Path) -> Result<Health, Failure> {
    let directory = directory_of(profile, state_dir);
    let is_open =
        |journal: &Journal| matches!(journal.state, State::Proving | State::GoingBack(Reason::Asked));
    if let Some(journal) = read_journal(&directory)?.filter(is_open) {
        return noted(&journal, &directory)?.map_or(Ok(Health::Unconfirmed), Health::on_trial);
    }
    let sets = sets_of(profile, state_dir)?;
    let id = sets.current().map_or_else(String::new, |set| set.id().to_string());
    Health::of(&directory, &id)
}

/// When a set was applied, what it is, and who had it applied.
fn described(set: &Set) -> String {
    let shown = |seconds: u64| {
        let when = i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
        when.map_or_else(String::new, |at| at.strftime("%F %H:%M:%SZ").to_string())
    };
    let at = set.at.map_or_else(String::new, |at| format!("  as of {}", shown(at)));
    let manifest = set.manifest.get(..12).unwrap_or(&set.manifest);
    let by = if set.by.is_empty() { String::new() } else { format!("  by {}", set.by) };
    format!(
        "{}  {} {} number {}{at}  manifest {manifest}{by}",
        shown(set.applied),
        set.profile,
        set.r#ref,
        set.seq
    )
}

/// Takes all targets of a profile back together: to the set of this number, else to the one before the current one.
pub fn rollback(
    profile: &Channel,
    args: &RollbackArgs,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let store = Store::open(profile, surroundings.state_dir)?;
    // Somebody who goes back has decided about a set that waits.
    let left = waiting(&store, surroundings)?;
    if args.dry_run
        && left.is_none()
        && store.journal()?.is_some_and(|journal| journal.state != State::Staging)
    {
        let text = format!("what became of the targets of {profile} is not settled, and nothing was changed");
        return Err(Failure::message(Exit::General, text)
            .hint(format!("`smart-sync recover --profile {profile}` settles it")));
    }
    if left.is_none()
        && !args.dry_run
        && let Ended::Back(exit) | Ended::Waits(exit) = settle::settle(&store, surroundings)?
    {
        return Ok(exit);
    }
    let sets = store.sets()?;
    let before = if left.is_some() { sets.current() } else { sets.before() };
    let set = choose(&sets, args.generation, before, profile)?.clone();
    let back: Vec<Way> = set.members.iter().map(way).collect();
    let places = Places::find(&set, surroundings)?;
    let mut members = Members::take(&places, surroundings)?;
    let unreachable = members.unreachable(&back)?;
    if !unreachable.is_empty() {
        let names: Vec<_> = unreachable.iter().map(|target| target.display().to_string()).collect();
        return Err(Failure::message(
            Exit::Arguments,
            format!("what set {} was is not kept by {}, and nothing was changed", set.number, names.join(", ")),
        )
        .hint(format!("versions are kept by targets of the kinds generations, btrfs, zfs and overlay; `smart-sync pull {profile} --ref REF` or `--at DATE` applies what was published then")));
    }
    if args.dry_run {
        output.info(&format!("all targets of {profile} would be at set {}: {}", set.number, described(&set)));
        if args.skip_rebuild {
            members.skip_after();
        }
        members.foresee(&back)?.iter().for_each(|line| output.info(line));
        output.info("nothing was changed");
        return Ok(Exit::Success);
    }
    drop(members);
    let after = if args.skip_rebuild { AfterPull::Nothing } else { AfterPull::All };
    let left = left.or_else(|| sets.current().cloned());
    let state = State::GoingBack(Reason::Asked);
    let journal = Journal { format: FORMAT, state, set: set.clone(), back, after };
    let ended = Unsettled { store: &store, journal: journal.clone(), surroundings }.go_to_chosen();
    settle::report_all(&journal, &ended, surroundings);
    let exit = match ended? {
        Ended::Forward => Exit::Success,
        Ended::Back(exit) | Ended::Waits(exit) => exit,
    };
    output.info(&format!("all targets of {profile} are at set {} now: {}", set.number, described(&set)));
    for target in not_in(left.as_ref(), &set) {
        output.info(&format!("{} is not in that set; it is left as it is", target.display()));
    }
    output.info(&format!("they stay there until `smart-sync resume --profile {profile}`"));
    output.event(&SetEvent::of(&set, Standing { is_current: true, is_held: true, health: None }));
    Ok(exit)
}

/// A set that all targets were switched to, and that waits for somebody or for a reboot.
fn waiting(store: &Store, surroundings: &Surroundings<'_>) -> Result<Option<Set>, Failure> {
    let Some(journal) = store.journal()?.filter(|journal| journal.state == State::Proving) else {
        return Ok(None);
    };
    let set = Unsettled { store, journal, surroundings };
    let (_, fate) = set.judged(&set.standings()?)?;
    Ok(matches!(fate, Fate::Wait(_) | Fate::AwaitReboot).then_some(set.journal.set))
}

fn choose<'s>(
    sets: &'s Sets,
    number: Option<u64>,
    before: Option<&'s Set>,
    profile: &Channel,
) -> Result<&'s Set, Failure> {
    let (found, text) = match number {
        Some(number) => (sets.find(number), format!("set {number} of {profile} is not kept")),
        None => (before, format!("no set of {profile} before the current one is kept")),
    };
    found.ok_or_else(|| {
        Failure::message(Exit::Arguments, text)
            .hint(format!("`smart-sync generations --profile {profile}` lists those that are"))
    })
}

fn way(member: &Member) -> Way {
    Way {
        target: member.target.clone(),
        version: member.version.clone(),
        manifest: Some(member.manifest.clone()),
    }
}

fn not_in<'s>(current: Option<&'s Set>, set: &Set) -> Vec<&'s Path> {
    let members = current.iter().flat_map(|current| &current.members);
    let is_gone = |member: &&Member| set.members.iter().all(|other| other.target != member.target);
    members.filter(is_gone).map(|member| &*member.target).collect()
}

/// Lets a profile be pulled again, and its targets follow their refs.
pub fn resume(profile: &Channel, state_dir: &Path, output: &Output) -> Result<Exit, Failure> {
    let store = Store::open(profile, state_dir)?;
    let sets = store.sets()?;
    for member in sets.current().iter().flat_map(|set| &set.members) {
        if let Some(place) = Place::known(&member.target, state_dir) {
            Hold::remove(&place.state)?;
        }
    }
    let was_held = Hold::remove(store.directory())?;
    let what = if was_held { "can be pulled again" } else { "was not held" };
    output.info(&format!("{profile} {what}"));
    Ok(Exit::Success)
}
