//! `ledger`: what was placed on this host outside of targets that are all ours, and giving back what stood there.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::apply::ledger::{Condition, Entries, Entry, HostPath, Ledger, Owner, Thing, read};
use smart_sync_sync::apply::lock::Holder;
use smart_sync_sync::apply::overlay::owner_of;
use smart_sync_sync::apply::step::Steps;
use smart_sync_sync::apply::versions::Kind;

use super::Listing;
use crate::args::ledger::{LedgerCommand, RemoveArgs};
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output, count};
use crate::sync::place::{Place, ledger_directory};
use crate::sync::session::{kept_in_backup, seconds_now, stamp};

/// What of the state of a target stays when it is taken away.
const STAYS: [&str; 2] = ["backups", "lock"];

/// A path, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "placed")]
struct PlacedEvent<'a> {
    path: &'a str,
    owner: &'a str,
    placed: Option<&'static str>,
    before: Option<&'static str>,
    pending: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<String>,
}

impl<'a> PlacedEvent<'a> {
    fn of(path: &'a str, entry: &'a Entry) -> Self {
        Self {
            path,
            owner: entry.owner.as_str(),
            placed: entry.placed.as_ref().map(Thing::name),
            before: entry.former.as_ref().map(Thing::name),
            pending: entry.pending.is_some(),
            condition: None,
            lost: None,
        }
    }
}

/// Runs one of the commands.
pub fn run(command: &LedgerCommand, state_dir: &Path, output: &Output) -> Result<Exit, Failure> {
    match command {
        LedgerCommand::List(args) => list(args.target.as_deref(), state_dir, output),
        LedgerCommand::Verify(args) => verify(args.target.as_deref(), state_dir, output),
        LedgerCommand::Remove(args) => remove(args, state_dir, output),
    }
}

fn list(target: Option<&Path>, state_dir: &Path, output: &Output) -> Result<Exit, Failure> {
    let entries = read(&ledger_directory(state_dir))?;
    let owner = target.map(chosen).transpose()?;
    let mut lines = Listing::default();
    for (path, entry) in of_owner(&entries, owner.as_ref()) {
        let shown = Shown(path.as_bytes()).to_string();
        if output.format() == Format::Json {
            output.event(&PlacedEvent::of(&shown, entry));
            continue;
        }
        let placed = entry.placed.as_ref().map_or("nothing yet", Thing::name);
        let before = entry.former.as_ref().map_or("nothing", Thing::name);
        let pending = if entry.pending.is_some() { "; to be completed" } else { "" };
        lines.line(&format!("{shown}  {placed}, where {before} stood; {}{pending}", entry.owner.as_str()));
    }
    if entries.is_empty() {
        output.info("nothing was placed outside of targets");
    }
    lines.print(output)?;
    Ok(Exit::Success)
}

fn verify(target: Option<&Path>, state_dir: &Path, output: &Output) -> Result<Exit, Failure> {
    let directory = ledger_directory(state_dir);
    if read(&directory)?.is_empty() {
        output.info("nothing was placed outside of targets");
        return Ok(Exit::Success);
    }
    let owner = target.map(chosen).transpose()?;
    let ledger =
        Ledger::lock(&directory, &Holder::this_process("smart-sync", seconds_now()), &Steps::default())?;
    let (mut well, mut differ, mut lost) = (0, 0, 0);
    for (path, entry) in of_owner(ledger.entries(), owner.as_ref()) {
        let shown = Shown(path.as_bytes()).to_string();
        let found = ledger.verify(path, entry)?;
        if found.condition == Condition::Placed {
            well += 1;
        } else {
            differ += 1;
            output.info(&format!("{}: {shown}", found.condition.name()));
        }
        if found.lost.is_some() {
            lost += 1;
            output.warning(&format!("what stood there before is gone or damaged where it is kept: {shown}"));
        }
        output.event(&PlacedEvent {
            condition: Some(found.condition.name()),
            lost: found.lost.map(|content| format!("blake3:{content}")),
            ..PlacedEvent::of(&shown, entry)
        });
    }
    output.info(&format!("{} as placed", count(well, "path is", "paths are")));
    if lost > 0 {
        let lost = count(lost, "path", "paths");
        return Err(Failure::message(Exit::General, format!("what stood at {lost} cannot be given back"))
            .hint("put these files back from a backup of your own before the overlay is taken away"));
    }
    if differ > 0 {
        output.info(&format!(
            "{}; the next sync restores what it placed",
            count(differ, "path differs", "paths differ")
        ));
        return Ok(Exit::Drift);
    }
    Ok(Exit::Success)
}

fn remove(args: &RemoveArgs, state_dir: &Path, output: &Output) -> Result<Exit, Failure> {
    let place = Place::find(&args.target, state_dir)?;
    let target = place.target.display();
    if place.kind != Kind::Overlay {
        let message = format!("{target} is no overlay: it is kept as `{}`", place.kind.name());
        return Err(Failure::message(Exit::Arguments, message)
            .hint("`smart-sync ledger list` says what was placed, and by which target"));
    }
    let locked = place.open()?.lock(&Holder::this_process("smart-sync", seconds_now()))?;
    let (ready, _) = locked.recover()?;
    let entries = read(&ledger_directory(state_dir))?;
    let owner = chosen(&place.target)?;
    let mut number = 0;
    for (path, entry) in of_owner(&entries, Some(&owner)) {
        number += 1;
        let what = match (&entry.placed, &entry.former) {
            (_, Some(_)) => "restore",
            (Some(Thing::Directory { .. }), None) => "rmdir",
            (_, None) => "delete",
        };
        output.info(&format!("{what:<9}{}", Shown(path.as_bytes())));
    }
    let paths = count(number, "path", "paths");
    if !args.yes {
        output.info(&format!("{paths} would be given back; nothing was changed; add --yes to do it"));
        return Ok(Exit::Success);
    }
    let (_, saved) = ready.take_away(&stamp())?;
    forget(&place.state).map_err(|error| {
        Failure::from(error).context(format!("removing the state of {target} in {}", place.state.display()))
    })?;
    if !saved.backed_up.is_empty() {
        output.info(&kept_in_backup(saved.backed_up.len(), &place));
    }
    output.info(&format!("{paths} given back; {target} is as it would be without this overlay"));
    Ok(Exit::Success)
}

/// Removes what is known of a target that holds nothing any more.
fn forget(state: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(state)? {
        let entry = entry?;
        if STAYS.iter().any(|stays| entry.file_name() == *stays) {
            continue;
        }
        let path: PathBuf = entry.path();
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The owner that a target is.
fn chosen(target: &Path) -> Result<Owner, Failure> {
    let found = target.canonicalize().unwrap_or_else(|_| target.to_owned());
    owner_of(&found).ok_or_else(|| Failure::message(Exit::Arguments, "the path of the target is too long"))
}

fn of_owner<'e>(
    entries: &'e Entries,
    owner: Option<&'e Owner>,
) -> impl Iterator<Item = (&'e HostPath, &'e Entry)> {
    entries.iter().filter(move |(_, entry)| owner.is_none_or(|owner| entry.owner == *owner))
}
