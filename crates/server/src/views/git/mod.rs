//! Channels as repositories of git.
//!
//! A repository is brought up to what was published by the thread that looks after all views, and read by the git
//! program while it answers requests. When one turns out to be damaged it is made anew beside the old one, which stays
//! until the new one is whole.

mod objects;
mod pack;
pub(crate) mod program;
mod repository;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use smart_sync_store::id::ObjectId;
use smart_sync_sync::name::Channel;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};

use super::history::{has_tree, history};
use crate::realm::Realm;
use crate::realm::view::View;
use program::GitError;
use repository::{Length, Repository};

/// How often a repository is read as a whole because a request on it has failed: whoever asks can make one fail.
const CHECK_EVERY: Duration = Duration::from_secs(600);

/// The repositories of a server.
pub(crate) struct GitViews {
    directory: PathBuf,
    channels: BTreeSet<Channel>,
    /// How many publications are kept as commits.
    commits: u64,
    /// Requests that are answered at once.
    pub(crate) requests: Arc<Semaphore>,
    at_once: usize,
    /// Channels of which a request has failed.
    suspects: Mutex<BTreeSet<Channel>>,
}

/// What a repository has to do next.
enum Advance {
    /// Nothing.
    Done,
    /// It goes on from something that does not lead to what is published.
    Anew,
}

/// How a repository came to where its channel is.
enum Followed {
    /// It has gone on from where it was.
    WentOn,
    /// It is another one, which git has not packed yet.
    Made,
}

impl GitViews {
    /// The repositories of these channels, below a directory.
    pub(super) fn new(
        directory: PathBuf,
        channels: BTreeSet<Channel>,
        commits: u64,
        requests: usize,
    ) -> Self {
        let at_once = requests.clamp(1, 1024);
        let requests = Arc::new(Semaphore::new(at_once));
        Self { directory, channels, commits: commits.max(1), requests, at_once, suspects: Mutex::default() }
    }

    /// The directory of all repositories.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The name in it of a channel's repository, if the channel has one.
    pub(crate) fn name_of(&self, channel: &Channel) -> Option<String> {
        self.channels.contains(channel).then(|| name(channel))
    }

    /// The channels that have one.
    pub(crate) const fn channels(&self) -> &BTreeSet<Channel> {
        &self.channels
    }

    /// A request on a channel's repository has failed, which may be because it is damaged.
    pub(crate) fn suspect(&self, channel: &Channel) {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).insert(channel.clone());
    }

    fn path(&self, channel: &Channel) -> PathBuf {
        self.directory.join(name(channel))
    }

    /// Brings a channel's repository up to what is published.
    fn follow(&self, realm: &Realm, view: &View, channel: &Channel) -> anyhow::Result<Followed> {
        let repository = Repository::at(self.path(channel));
        if repository.exists() {
            match self.advance(&repository, realm, view, channel) {
                Ok(Advance::Done) => return Ok(Followed::WentOn),
                Ok(Advance::Anew) => {}
                Err(error) if is_damage(&error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(%channel, error, "a repository cannot be gone on with, and is made anew");
                }
                Err(error) => return Err(error),
            }
        }
        self.make(realm, view, channel)?;
        Ok(Followed::Made)
    }

    /// Makes a repository, and puts it in the place of the one that is there.
    fn make(&self, realm: &Realm, view: &View, channel: &Channel) -> anyhow::Result<()> {
        let (place, beside) = (self.path(channel), self.directory.join(format!("new-{}", name(channel))));
        remove(&beside)?;
        let made = Repository::create(beside.clone(), &format!("{} {channel}", realm.origin))?;
        self.advance(&made, realm, view, channel)?;
        if made.tip()?.is_none() {
            // The channel has no tree.
            return remove(&beside).and_then(|()| remove(&place));
        }
        remove(&place)?;
        fs::rename(&beside, &place).with_context(|| format!("placing {}", place.display()))?;
        tracing::info!(%channel, "a repository was made");
        Ok(())
    }

    /// Lets the history of a repository begin later, if it is long; whether that has to wait. A request that reads in
    /// between where it begins could take the one for the other, so that is done while there is none.
    fn shorten(&self, repository: &Repository) -> anyhow::Result<bool> {
        let length = repository.length(self.commits)?;
        let alone = u32::try_from(self.at_once).ok().and_then(|all| self.requests.try_acquire_many(all).ok());
        match (length, &alone) {
            (Length::Right, _) => Ok(false),
            (Length::Long, None) => Ok(true),
            (Length::Long, Some(_)) | (Length::TooLong, _) => {
                repository.shorten(self.commits).map(|()| false)
            }
        }
    }

    fn advance(
        &self,
        repository: &Repository,
        realm: &Realm,
        view: &View,
        channel: &Channel,
    ) -> anyhow::Result<Advance> {
        let mut tip = repository.tip()?;
        let is_tip = |leaf| tip.is_some_and(|tip| tip.leaf == leaf);
        let Some(history) = history(realm, view, channel, self.commits, |version| is_tip(version.leaf))?
        else {
            if tip.is_some() {
                repository.withdraw()?;
            }
            return Ok(Advance::Done);
        };
        if tip.is_some() && history.known.is_none() {
            return Ok(Advance::Anew);
        }
        let mut base = match history.known {
            Some(known) if has_tree(realm, &history.domain, known.manifest)? => Some(known),
            _ => None,
        };
        for version in history.new {
            let number = version.publication.seq;
            let added = repository.add(&realm.store, &history.domain, tip, base.as_ref(), &version);
            tip = Some(added.with_context(|| format!("writing number {number} of {channel} as a commit"))?);
            base = Some(version);
        }
        Ok(Advance::Done)
    }
}

/// Looks after the repositories, one round after the other.
pub(super) struct Tending {
    views: Arc<GitViews>,
    /// Channels whose repositories were made and not packed yet.
    unpacked: BTreeSet<Channel>,
    /// When repositories were last read as a whole.
    checked: Option<Instant>,
}

impl Tending {
    /// Begins; says so where there is no git.
    pub(super) fn new(views: Arc<GitViews>) -> anyhow::Result<Self> {
        if !views.channels.is_empty() {
            fs::create_dir_all(&views.directory)
                .with_context(|| format!("making {}", views.directory.display()))?;
            if let Err(error) = program::is_installed() {
                tracing::error!(error = format!("{error:#}"), "trees are not served by git");
            }
        }
        Ok(Self { views, unpacked: BTreeSet::new(), checked: None })
    }

    /// Whether there is something to do although nothing was published.
    pub(super) fn is_due(&self) -> bool {
        let has_rested = self.checked.is_none_or(|checked| checked.elapsed() >= CHECK_EVERY);
        has_rested && !self.views.suspects.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Brings all repositories up to what is published; whether that worked for all.
    pub(super) fn round(&mut self, realm: &Realm, view: &View) -> bool {
        if self.is_due() {
            self.check_suspects();
        }
        let mut is_done = true;
        for channel in &self.views.channels {
            match self.views.follow(realm, view, channel) {
                Ok(Followed::WentOn) => {}
                Ok(Followed::Made) => {
                    self.unpacked.insert(channel.clone());
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(%channel, error, "a repository does not follow its channel");
                    is_done = false;
                }
            }
        }
        is_done
    }

    /// What need not be done before what is new is served; whether a part of it has to wait.
    pub(super) fn tidy(&mut self) -> bool {
        let mut is_waiting = false;
        for channel in &self.views.channels {
            let repository = Repository::at(self.views.path(channel));
            if !repository.exists() {
                continue;
            }
            let is_unpacked = self.unpacked.remove(channel);
            let packed = if is_unpacked { repository.repack().map(|()| true) } else { repository.tidy() };
            if matches!(packed, Ok(true)) {
                tracing::info!(%channel, "a repository was packed");
            }
            match packed.and_then(|_| self.views.shorten(&repository)) {
                Ok(waits) => is_waiting |= waits,
                Err(error) => tracing::warn!(%channel, error = format!("{error:#}"), "packing a repository"),
            }
        }
        is_waiting
    }

    /// Takes away what is damaged, so that it is made anew.
    fn check_suspects(&mut self) {
        self.checked = Some(Instant::now());
        let suspects =
            std::mem::take(&mut *self.views.suspects.lock().unwrap_or_else(PoisonError::into_inner));
        for channel in suspects {
            let repository = Repository::at(self.views.path(&channel));
            if !repository.exists() {
                continue;
            }
            match repository.check() {
                Ok(()) => {}
                Err(error @ GitError::Failed { .. }) => {
                    tracing::warn!(%channel, %error, "a repository is damaged, and is made anew");
                    if let Err(error) = remove(repository.path()) {
                        tracing::error!(%channel, error = format!("{error:#}"), "removing a damaged repository");
                    }
                }
                Err(error) => tracing::error!(%channel, %error, "checking a repository"),
            }
        }
    }
}

/// The names of channels are longer than those of files may be.
fn name(channel: &Channel) -> String {
    format!("{}.git", ObjectId::of(channel.as_str().as_bytes()))
}

/// Whether git could not do something with a repository, or has found something else in it than was written.
fn is_damage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(GitError::Failed { .. } | GitError::Answer(_)))
            || cause.is::<smart_sync_store::id::ParseIdError>()
    })
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}
