//! Channels as directories that rsync gives out.
//!
//! Each version is a directory of its own, a generation, which never changes once it has its name. The configuration
//! of rsync names the newest one of each channel; rsync reads it for each connection, so that a transfer sees one
//! version from its beginning to its end, and the next one sees the next. A file that did not change is the same file
//! in both, with the same time.

mod config;
mod generation;
pub(crate) mod listen;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use rustix::process::geteuid;
use smart_sync_store::id::{ObjectId, to_hex};
use smart_sync_sync::name::Channel;
use tokio::time::{Duration, Instant};

use super::history::{Version, history};
use crate::config::RsyncConfig;
use crate::durable;
use crate::realm::Realm;
use crate::realm::view::View;
use generation::{Base, build};

/// Versions that are gone through to find out when each file has changed last.
const VERSIONS_MAX: u64 = 1000;
/// Begins the name of a generation that is being made or removed.
const UNFINISHED: &str = "unfinished-";

/// The directories of a server.
pub(crate) struct RsyncViews {
    directory: PathBuf,
    modules: BTreeMap<String, Channel>,
    grace: Duration,
}

impl RsyncViews {
    /// The directories for these modules, below a directory.
    pub(super) fn new(directory: PathBuf, modules: BTreeMap<String, Channel>, config: &RsyncConfig) -> Self {
        let grace = Duration::from_secs(config.grace_minutes.saturating_mul(60));
        Self { directory, modules, grace }
    }

    /// What rsync is told.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("rsyncd.conf")
    }

    /// Where rsync says what went wrong.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Writes what rsync is told, with the newest generation of each channel.
    fn write_config(&self, current: &BTreeMap<Channel, PathBuf>) -> anyhow::Result<()> {
        if self.modules.is_empty() {
            return Ok(());
        }
        let modules: Vec<(&str, &Path)> = (self.modules.iter())
            .filter_map(|(name, channel)| Some((name.as_str(), current.get(channel)?.as_path())))
            .collect();
        let text = config::text(&modules, geteuid().is_root())?;
        durable::write(&self.config(), &text)
    }

    fn generations(&self, channel: &Channel) -> PathBuf {
        // The names of channels are longer than those of files may be.
        self.directory.join(ObjectId::of(channel.as_str().as_bytes()).to_string())
    }
}

/// Looks after the directories, one round after the other.
pub(super) struct Tending {
    views: Arc<RsyncViews>,
    /// The newest generation of each channel.
    current: BTreeMap<Channel, PathBuf>,
    /// Generations that others have taken the place of, and when that was seen.
    replaced: BTreeMap<PathBuf, Instant>,
}

impl Tending {
    /// Begins with what is there. What was not finished goes.
    pub(super) fn new(views: Arc<RsyncViews>) -> anyhow::Result<Self> {
        let mut replaced = BTreeMap::new();
        if !views.modules.is_empty() {
            fs::create_dir_all(&views.directory)
                .with_context(|| format!("making {}", views.directory.display()))?;
        }
        for channel in views.modules.values().collect::<BTreeSet<_>>() {
            let directory = views.generations(channel);
            fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
            for found in entries(&directory)? {
                if is_unfinished(&found) {
                    remove(&found)?;
                } else {
                    replaced.insert(found, Instant::now());
                }
            }
        }
        views.write_config(&BTreeMap::new())?;
        Ok(Self { views, current: BTreeMap::new(), replaced })
    }

    /// Makes a generation of what is newest in each channel; whether that worked for all.
    pub(super) fn round(&mut self, realm: &Realm, view: &View) -> bool {
        let channels: BTreeSet<Channel> = self.views.modules.values().cloned().collect();
        let mut is_done = true;
        for channel in channels {
            if let Err(error) = self.follow(realm, view, &channel) {
                tracing::error!(%channel, error = format!("{error:#}"), "rsync does not follow a channel");
                is_done = false;
            }
        }
        is_done
    }

    fn follow(&mut self, realm: &Realm, view: &View, channel: &Channel) -> anyhow::Result<()> {
        let directory = self.views.generations(channel);
        let is_there = |version: &Version| directory.join(name(version)).is_dir();
        let Some(history) = history(realm, view, channel, VERSIONS_MAX, is_there)? else {
            return self.switch(channel, None);
        };
        let known = history.known.as_ref().map(|known| (directory.join(name(known)), known));
        if let Some((known, _)) = &known
            && (history.new.is_empty() || !self.current.contains_key(channel))
        {
            // After a start, what was given out before is given out until the next one is there.
            self.switch(channel, Some(known))?;
        }
        let Some(newest) = history.new.last() else { return Ok(()) };
        let place = directory.join(name(newest));
        let beside = directory.join(format!("{UNFINISHED}{}", name(newest)));
        remove(&beside)?;
        let base = known.as_ref().map(|(directory, version)| Base { directory, version });
        build(realm, &history.domain, base, &history.new, &beside)
            .with_context(|| format!("laying out {channel} for rsync"))?;
        fs::rename(&beside, &place).with_context(|| format!("placing {}", place.display()))?;
        self.switch(channel, Some(&place))
    }

    /// Lets rsync give out another generation of a channel from now on, or none.
    fn switch(&mut self, channel: &Channel, newest: Option<&Path>) -> anyhow::Result<()> {
        let before = self.current.get(channel).cloned();
        if before.as_deref() == newest {
            return Ok(());
        }
        let mut current = self.current.clone();
        match newest {
            Some(newest) => current.insert(channel.clone(), newest.to_owned()),
            None => current.remove(channel),
        };
        self.views.write_config(&current)?;
        self.current = current;
        self.replaced.retain(|path, _| Some(path.as_path()) != newest);
        self.replaced.extend(before.map(|before| (before, Instant::now())));
        let generation = newest.and_then(Path::file_name).unwrap_or_default();
        tracing::info!(%channel, generation = %generation.display(), "rsync gives out another version");
        Ok(())
    }

    /// Removes the generations whose time is over, also those that somebody still reads.
    pub(super) fn remove_old(&mut self) {
        let grace = self.views.grace;
        let is_over = |since: &Instant| since.elapsed() >= grace;
        let over: Vec<_> =
            self.replaced.iter().filter(|(_, since)| is_over(since)).map(|(old, _)| old.clone()).collect();
        for old in over {
            self.replaced.remove(&old);
            // Once it is not whole any more, it must not have its name.
            let Some(name) = old.file_name() else { continue };
            let beside = old.with_file_name(format!("{UNFINISHED}{}", name.display()));
            let moved = fs::rename(&old, &beside).with_context(|| format!("removing {}", old.display()));
            if let Err(error) = moved.and_then(|()| remove(&beside)) {
                tracing::warn!(error = format!("{error:#}"), "removing a version that rsync gave out");
            }
        }
    }
}

/// The name of a generation: the number of the publication, for people, and the beginning of its leaf.
fn name(version: &Version) -> String {
    format!("{}-{}", version.publication.seq, to_hex(&version.leaf.as_bytes()[..8]))
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()))
}

fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
    });
    entries.with_context(|| format!("reading {}", directory.display()))
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}
