//! What kernels a channel has, and which of them this host runs.

use std::collections::BTreeMap;

use indicatif::HumanBytes;
use smart_sync_store::manifest::{Content, TreePath};
use smart_sync_sync::kinds::kernels::shelf::{INDEX, Shelf, Shelved, split};
use smart_sync_sync::kinds::kernels::version::Version;
use smart_sync_sync::time::UnixTime;

use super::branch;
use crate::after::trigger::kernel::running;
use crate::args::kernel::KernelListArgs;
use crate::args::sync::ChannelArgs;
use crate::commands::contents::{Contents, files_of};
use crate::commands::{Listing, open_realm, wait_for};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Format;
use crate::realm::locate::Tree;
use crate::realm::resolve::Resolved;
use crate::sync::Surroundings;

/// The largest index of kernels that is read.
const INDEX_BYTES_MAX: u64 = 4 << 20;
/// The letters of a time that are its date.
const DATE_LETTERS: usize = 10;

/// Lists them, the newest version first.
pub(super) fn list(
    args: &KernelListArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let tree = ChannelArgs {
        reference: Some(branch("main", args.channel.at)?),
        channel: args.channel.channel.clone(),
        servers: args.channel.servers.clone(),
        max_age: args.channel.max_age,
        at: None,
    };
    let (realm, settings) = open_realm(&tree, config, surroundings)?;
    let resolving = realm.resolve(&settings.channel, &settings.reference, None, surroundings.output);
    let resolved = wait_for(surroundings, resolving)?;
    let files = files_of(&resolved.verified, &resolved.remotes, surroundings)?;
    let shelf = shelf(&resolved, &files, surroundings)?;
    let mut sizes: BTreeMap<Version, u64> = BTreeMap::new();
    for (path, content) in &files {
        if let Some((_, version, _)) = split(path) {
            *sizes.entry(version).or_default() += content.size;
        }
    }
    let running = running();
    let rows = shelf.versions.iter().rev().map(|(version, shelved)| Row {
        version,
        shelved,
        bytes: sizes.get(version).copied().unwrap_or_default(),
        is_newest: shelf.newest() == Some(version),
        runs_here: shelved.release.as_str() == running,
    });
    if surroundings.output.format() == Format::Json {
        rows.for_each(|row| surroundings.output.event(&row.as_json()));
        return Ok(Exit::Success);
    }
    let mut listing = Listing::default();
    rows.for_each(|row| listing.line(row.to_line().trim_end()));
    listing.print(surroundings.output)?;
    Ok(Exit::Success)
}

/// A kernel, as it is shown.
struct Row<'a> {
    version: &'a Version,
    shelved: &'a Shelved,
    bytes: u64,
    is_newest: bool,
    runs_here: bool,
}

impl Row<'_> {
    fn to_line(&self) -> String {
        let Shelved { state, release, built } = self.shelved;
        let date = UnixTime::new(*built).map(|time| time.to_string());
        let date = date.as_deref().and_then(|date| date.get(..DATE_LETTERS)).unwrap_or_default();
        let mut line = format!(
            "{:<28} {state:<10} {:>11}  {date:<10}",
            self.version,
            HumanBytes(self.bytes).to_string()
        );
        if self.is_newest {
            line += "  newest";
        }
        if self.runs_here {
            line += "  runs here";
        }
        if release != self.version {
            line += "  calls itself ";
            line += release.as_str();
        }
        line
    }

    fn as_json(&self) -> serde_json::Value {
        serde_json::json!({
            "event": "kernel",
            "version": self.version.as_str(),
            "release": self.shelved.release.as_str(),
            "state": self.shelved.state.to_string(),
            "bytes": self.bytes,
            "built": self.shelved.built,
            "newest": self.is_newest,
            "running": self.runs_here,
        })
    }
}

/// What its index says.
fn shelf(
    resolved: &Resolved,
    files: &BTreeMap<TreePath, Content>,
    surroundings: &Surroundings<'_>,
) -> Result<Shelf, Failure> {
    let channel = &resolved.verified.publication.record().channel;
    let wrong = |reason: String| {
        Failure::message(Exit::General, format!("{channel} holds no kernels: {reason}"))
            .hint("`smart-sync kernel publish DIR --channel …` publishes some")
    };
    let path = TreePath::new(INDEX.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    let index = files.get(&path).filter(|content| content.size <= INDEX_BYTES_MAX);
    let index = *index.ok_or_else(|| wrong(format!("it has no {INDEX}")))?;
    let trees = vec![Tree::of(&resolved.verified)];
    let mut found = Contents::new(&resolved.remotes, trees, surroundings).small(&[index])?;
    Shelf::of(files.keys(), &found.remove(&index.id).unwrap_or_default()).map_err(wrong)
}
