//! `mirror`: what came from the mirrors of others, and what went wrong with them.

pub(super) mod configure;
mod prune;
mod sync;

use smart_sync_store::count::counted;
use smart_sync_sync::time::UnixTime;

use super::print;
use crate::args::{Data, MirrorCommand};
use crate::data_dir::DataDir;
use crate::mirrors::{SourceStatus, State, Status, status_of};

pub(super) async fn run(command: MirrorCommand) -> anyhow::Result<()> {
    match command {
        MirrorCommand::Add(args) => configure::add(*args),
        MirrorCommand::Remove { data, name } => configure::remove(&DataDir::open(&data.path)?, &name),
        MirrorCommand::Sync(args) => sync::run(args).await,
        MirrorCommand::Prune { data, yes, name } => prune::run(&data, &name, yes).await,
        MirrorCommand::Status { data, json } => status(&data, json),
    }
}

fn status(data: &Data, json: bool) -> anyhow::Result<()> {
    let mirrors = status_of(&DataDir::open(&data.path)?)?;
    if mirrors.is_empty() && !json {
        return print(format_args!("there is no [[mirror]] in server.toml"));
    }
    for mirror in &mirrors {
        if json {
            print(format_args!("{}", serde_json::to_string(mirror)?))?;
        } else {
            show(mirror)?;
        }
    }
    Ok(())
}

fn show(mirror: &Status) -> anyhow::Result<()> {
    let Status { name, channel, kind, names_from, names, .. } = mirror;
    if let Some(names_from) = names_from {
        print(format_args!("{name} at {channel}; {names_from} names {}", counted(*names, "file", "files")))?;
        show_given(mirror)?;
    } else {
        print(format_args!("{name} at {channel}, of the kind {kind}"))?;
    }
    if names_from.is_none() || mirror.follow.is_some() {
        show_followed(mirror.follow.as_ref().unwrap_or(&State::default()), names_from.is_none())?;
    }
    for source in &mirror.sources {
        print(format_args!("  {}  {}", source.url, health(source)))?;
    }
    for event in &mirror.events {
        let source = event.source.as_deref().map(|source| format!(" {source}:")).unwrap_or_default();
        print(format_args!("  {} {}:{source} {}", time(event.time), event.file, event.text))?;
    }
    Ok(())
}

fn show_given(mirror: &Status) -> anyhow::Result<()> {
    let newest = mirror.newest.map(|newest| format!(", the last one since {}", time(newest)));
    print(format_args!(
        "  kept   {} with {}{}",
        counted(mirror.kept_files, "file", "files"),
        counted(mirror.kept_bytes, "byte", "bytes"),
        newest.unwrap_or_default()
    ))?;
    print(format_args!(
        "  given  {} with {}, of which {} did not come from upstream for it",
        counted(mirror.given_files, "file", "files"),
        counted(mirror.given_bytes, "byte", "bytes"),
        mirror.saved_bytes
    ))
}

fn show_followed(state: &State, has_tree: bool) -> anyhow::Result<()> {
    let looked = state.looked.map_or_else(|| "not yet".to_owned(), time);
    let changed = state.changed.map(|changed| format!(", last new {}", time(changed))).unwrap_or_default();
    let next = state.next.map(|next| format!(", next {}", time(next))).unwrap_or_default();
    print(format_args!("  looked {looked}{changed}{next}"))?;
    if has_tree {
        print(format_args!(
            "  has    {} with {}; {} came from upstream, {} did not have to",
            counted(state.files, "file", "files"),
            counted(state.bytes, "byte", "bytes"),
            counted(state.fetched_bytes, "byte", "bytes"),
            state.saved_bytes
        ))?;
    }
    if let Some(held) = &state.held {
        let since = state.held_since.map(|since| format!(" since {}", time(since))).unwrap_or_default();
        print(format_args!("  held{since}: {held}"))?;
    }
    match &state.error {
        Some(error) => {
            let error = error.lines().next().unwrap_or_default();
            print(format_args!("  failed {}: {error}", counted(state.failures, "time", "times")))
        }
        None => Ok(()),
    }
}

/// What an upstream has done, in a few words.
fn health(source: &SourceStatus) -> String {
    let gave = match source.files {
        0 => "gave nothing yet".to_owned(),
        files => {
            format!("gave {} and {}", counted(files, "file", "files"), counted(source.bytes, "byte", "bytes"))
        }
    };
    let worked = source.worked.map(|worked| format!(", worked {}", time(worked))).unwrap_or_default();
    let failed = match (source.failures, source.failed) {
        (0, _) | (_, None) => String::new(),
        (failures, Some(failed)) => {
            let since = if source.worked.is_some() { " since" } else { "" };
            format!(", failed {}{since}, last {}", counted(failures, "time", "times"), time(failed))
        }
    };
    format!("{gave}{worked}{failed}")
}

fn time(seconds: u64) -> String {
    UnixTime::new(seconds).map_or_else(|| seconds.to_string(), |time| time.to_string())
}
