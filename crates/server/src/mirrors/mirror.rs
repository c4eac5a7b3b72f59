//! A mirror whose files come when they are asked for, as it is configured.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use smart_sync_sync::kinds::pull::PullThrough;
use smart_sync_sync::kinds::{self, ArtifactKind};
use smart_sync_sync::name::{Channel, Kind};

use super::health::Standing;
use super::marks::{Mark, Marks};
use super::upstreams::{self, Source, Turns};
use crate::config::MirrorConfig;

/// A channel whose files come from upstream when they are asked for.
pub(crate) struct Mirror {
    /// What the operator calls it.
    pub(crate) name: String,
    /// Where it is served.
    pub(crate) channel: Channel,
    pub(super) kind: &'static dyn ArtifactKind,
    pub(super) pull: &'static dyn PullThrough,
    pub(super) names: NamesFrom,
    pub(super) sources: Vec<Source>,
    pub(super) marks: Mutex<Marks>,
    given: Given,
}

/// What clients were given and was not written down yet.
#[derive(Debug, Default)]
struct Given {
    files: AtomicU64,
    bytes: AtomicU64,
}

/// Where it is written which files there are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum NamesFrom {
    /// In the newest tree of the branch `main` of a channel of this server.
    Channel(Channel),
    /// In a directory of this machine.
    Directory(PathBuf),
}

impl NamesFrom {
    /// What it is called where the names are kept.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Channel(channel) => channel.to_string(),
            Self::Directory(path) => path.display().to_string(),
        }
    }
}

impl Mirror {
    /// Reads what is configured, and gives each new host so many turns.
    pub(super) fn new(config: &MirrorConfig, per_host: usize, turns: &mut Turns) -> anyhow::Result<Self> {
        let MirrorConfig { name, channel, kind, names_from, .. } = config;
        let kind: Kind = kind.parse().with_context(|| format!("kind = {kind:?}"))?;
        let found = kinds::find(&kind).and_then(|kind| Some((kind, kind.pull_through()?)));
        let Some((known, pull)) = found else {
            bail!("kind = \"{kind}\": files of this kind cannot be fetched one by one");
        };
        let hint = "hint: name a channel with an ebuild tree, or a directory that begins with a slash";
        let names_from = names_from
            .as_deref()
            .with_context(|| format!("names-from says which files there are\n{hint}"))?;
        let is_other = config.newest.is_some()
            || config.current.is_some()
            || config.allow_unsigned
            || config.digests.is_some()
            || config.digests_file.is_some()
            || !(config.architectures.is_empty() && config.variants.is_empty() && config.keyring.is_empty());
        ensure!(
            !is_other,
            "of the kind {kind} everything comes that names-from names, and is what is said there"
        );
        let names = if names_from.starts_with('/') {
            NamesFrom::Directory(PathBuf::from(names_from))
        } else {
            let hint = "it is a channel, or a directory that begins with a slash";
            NamesFrom::Channel(
                names_from.parse().with_context(|| format!("names-from = {names_from:?}: {hint}"))?,
            )
        };
        Ok(Self {
            name: name.clone(),
            channel: channel.parse().with_context(|| format!("channel = {channel:?}"))?,
            kind: known,
            pull,
            names,
            sources: upstreams::of(config, per_host, turns)?,
            marks: Mutex::default(),
            given: Given::default(),
        })
    }

    /// Notes that a client is given a part of a file.
    pub(crate) fn gives(&self, range: &Range<u64>) {
        self.given.files.fetch_add(u64::from(range.start == 0), Relaxed);
        self.given.bytes.fetch_add(range.end - range.start, Relaxed);
    }

    /// The files and bytes that were given since this was last asked.
    pub(super) fn take_given(&self) -> Option<(u64, u64)> {
        let given = (self.given.files.swap(0, Relaxed), self.given.bytes.swap(0, Relaxed));
        (given != (0, 0)).then_some(given)
    }

    /// Whether something was noted of a file and still holds.
    pub(super) fn is_marked(&self, sha512: &[u8; 64], mark: Mark, now: u64) -> bool {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).holds(sha512, mark, now)
    }

    /// Notes something of a file.
    pub(super) fn mark(&self, sha512: &[u8; 64], mark: Mark, now: u64) {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).note(sha512, mark, now);
    }

    /// Where each upstream stands for a file, of which each was asked so often and gave something the last time.
    pub(super) fn standings(&self, sha512: &[u8; 64], tries: &[(u32, bool)], now: u64) -> Vec<Standing> {
        let standing = |(at, (source, (tries, has_given))): (usize, (&Source, &(u32, bool)))| Standing {
            until: source.left_alone_until(),
            is_wrong: self.is_marked(sha512, Mark::Wrong(at), now),
            tries: *tries,
            has_given: *has_given,
        };
        self.sources.iter().zip(tries).enumerate().map(standing).collect()
    }
}
