//! One round of a mirror, by hand or by itself: what is new upstream is published, and when that is next is written down.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use smart_sync_sync::name::Channel;

use super::follow::{self, schedule, state};
use super::record::{self, Report};
use super::{Configured, Mirrors, chance, publication};
use crate::commands::Failure;
use crate::http::now;

/// The branch that a mirror is.
pub(super) const MAIN: &str = "main";
/// What events are called that are about no single file.
const ROUND: &str = "look";

/// Who hears what a round has to say.
type Hear = Box<dyn Fn(String) -> anyhow::Result<()> + Send + Sync>;

/// What a round is to do.
pub(crate) struct Order {
    /// The key that publishes, in place of the configured one.
    pub(crate) key: Option<PathBuf>,
    /// Whether what is held is taken.
    pub(crate) accept: bool,
    /// Whether everything that is named is fetched, also where that is not configured.
    pub(crate) prefetch: bool,
    /// Whether somebody waits for it, so that upstreams are asked that are left alone otherwise.
    pub(crate) is_asked: bool,
    /// Who hears of it.
    pub(crate) hear: Hear,
}

impl Order {
    /// A round that nobody waits for.
    pub(super) fn by_itself(hear: Hear) -> Self {
        Self { key: None, accept: false, prefetch: false, is_asked: false, hear }
    }

    /// Says something.
    pub(super) fn say(&self, line: String) -> anyhow::Result<()> {
        (self.hear)(line)
    }
}

impl Mirrors {
    /// Makes a round of the mirror of this name.
    pub(crate) async fn round(self: &Arc<Self>, name: &str, order: &Order) -> anyhow::Result<()> {
        let config = self.realm.config.mirrors.iter().zip(&self.all).find(|(config, _)| config.name == name);
        let (config, configured) = config
            .ok_or_else(|| Failure::Arguments(format!("there is no [[mirror]] {name:?} in server.toml")))?;
        if let Configured::Followed(followed) = configured
            && order.prefetch
        {
            let said = format!("--prefetch means nothing for the kind {}: all of it comes", followed.kind);
            return Err(Failure::Arguments(said).into());
        }
        let Some(_lock) = self.lock(configured.channel(), order.is_asked).await? else {
            // Another process is at it, and writes down when it is next.
            return Ok(());
        };
        let key = order.key.clone().or_else(|| config.key.clone());
        let key = key.unwrap_or_else(|| self.realm.data.keys().join("publish.key"));
        let done = match configured {
            Configured::Pulled(mirror) => {
                let asks_for_all = order.prefetch || config.prefetch;
                let fetched = if asks_for_all { self.prefetch(mirror, order).await } else { Ok(()) };
                // What came is published, whatever did not.
                let published =
                    tokio::task::block_in_place(|| publication::publish(&self.realm, mirror, &key, order));
                fetched.and(published)
            }
            Configured::Followed(followed) => {
                let round = follow::Round { mirrors: self, followed, order, key: &key };
                round.run().await
            }
        };
        self.write_down(name, config.every_seconds()?, &done)?;
        done.map(drop)
    }

    /// The right to be the only one who works for a channel, among all processes; none where another one has it and it is
    /// not waited for.
    async fn lock(&self, channel: &Channel, waits: bool) -> anyhow::Result<Option<File>> {
        let path = self.realm.data.cache().join(format!("mirror-{}.lock", channel.to_url_segment()));
        let locking = tokio::task::spawn_blocking(move || {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory).context("making the directory of caches")?;
            }
            let lock = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
            if waits {
                lock.lock().context("waiting for another run of the same")?;
                return Ok(Some(lock));
            }
            match lock.try_lock() {
                Ok(()) => Ok(Some(lock)),
                Err(fs::TryLockError::WouldBlock) => Ok(None),
                Err(fs::TryLockError::Error(error)) => Err(error).context("locking a mirror"),
            }
        });
        locking.await?
    }

    /// Writes down what came of a round, and when the next one is.
    fn write_down(&self, name: &str, every: Option<u64>, done: &anyhow::Result<bool>) -> anyhow::Result<()> {
        let is_held =
            |error: &anyhow::Error| matches!(error.downcast_ref::<Failure>(), Some(Failure::Held(_)));
        let failure = done.as_ref().err().filter(|error| !is_held(error)).map(|error| format!("{error:#}"));
        let mut db = self.db();
        state::change(&mut db, name, |state| {
            let now = now();
            state.looked = Some(now);
            if matches!(done, Ok(true)) {
                state.changed = Some(now);
            }
            state.failures = if failure.is_some() { state.failures.saturating_add(1) } else { 0 };
            state.error.clone_from(&failure);
            state.next = every.map(|every| schedule::next(every, state.failures, now, chance()));
        })?;
        match failure {
            Some(failure) => {
                let text = Some(failure.as_str());
                record::note(
                    &mut db,
                    &Report { mirror: name, file: ROUND, attempts: &[], failure: text, now: now() },
                )
            }
            None => Ok(()),
        }
    }
}
