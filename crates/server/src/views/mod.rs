//! Trees as programs of others want them, where the operator has asked for it: repositories of git, and directories
//! for rsync.
//!
//! A view is a cache of what the log and the store say, below `views/` in the data directory: what is deleted there is
//! made anew. One thread brings all of them up to each publication; requests read what is whole and never wait for
//! more than a moment.

mod content;
pub(crate) mod git;
mod history;
pub(crate) mod rsync;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::priority;
use crate::realm::Realm;
use crate::realm::view::View;
use git::GitViews;
use rsync::RsyncViews;

/// How often it is looked whether the log has grown.
const POLL: Duration = Duration::from_secs(2);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// The views of a server. The thread that looks after them ends when this goes.
pub(crate) struct Views {
    pub(crate) git: Arc<GitViews>,
    pub(crate) rsync: Arc<RsyncViews>,
    awake: SyncSender<()>,
    /// The size of the log up to which the repositories have come.
    done: watch::Receiver<u64>,
}

impl Views {
    /// Something was published.
    pub(crate) fn wake(&self) {
        // When the thread has been called already, or is at work, it looks again after that.
        let _ = self.awake.try_send(());
    }

    /// Waits until the repositories have come as far as a log of this size, or for as long as somebody may have to wait.
    pub(crate) async fn reach(&self, size: u64, within: Duration) {
        let mut done = self.done.clone();
        if *done.borrow_and_update() >= size {
            return;
        }
        self.wake();
        // What was there before is served where this is not enough.
        let _ = tokio::time::timeout(within, done.wait_for(|done| *done >= size)).await;
    }
}

/// Starts to look after the views that the configuration asks for; none, where it asks for none.
pub(crate) fn open(realm: &Arc<Realm>) -> anyhow::Result<Option<Arc<Views>>> {
    let config = &realm.config;
    let (channels, modules) = (config.git_channels()?, config.rsync_modules()?);
    let modules = if config.rsync.listen.is_empty() { BTreeMap::new() } else { modules };
    if channels.is_empty() && modules.is_empty() {
        return Ok(None);
    }
    let directory = realm.data.views();
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    // Programs that work on it have another current directory, and compare it with where they find themselves.
    let directory =
        fs::canonicalize(&directory).with_context(|| format!("opening {}", directory.display()))?;
    let lock =
        File::create(directory.join("lock")).with_context(|| format!("locking {}", directory.display()))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!(
            "another server looks after {}\nhint: stop it, or take [git] and [rsync] out of one server.toml",
            directory.display()
        )
    })?;
    let git =
        Arc::new(GitViews::new(directory.join("git"), channels, config.git.commits, config.git.requests));
    let rsync = Arc::new(RsyncViews::new(directory.join("rsync"), modules, &config.rsync));
    let tending = Tending {
        realm: Arc::clone(realm),
        git: git::Tending::new(Arc::clone(&git))?,
        rsync: rsync::Tending::new(Arc::clone(&rsync))?,
        _lock: lock,
    };
    let (awake, asleep) = mpsc::sync_channel(1);
    let (say, done) = watch::channel(0);
    start(tending, asleep, say)?;
    Ok(Some(Arc::new(Views { git, rsync, awake, done })))
}

/// What the thread works with.
struct Tending {
    realm: Arc<Realm>,
    git: git::Tending,
    rsync: rsync::Tending,
    /// Two servers on one data directory would take the views out of each other's hands.
    _lock: File,
}

impl Tending {
    /// Brings all views as far as this; whether that worked. Requests wait for the repositories alone.
    fn round(&mut self, view: &View, say: &watch::Sender<u64>) -> bool {
        let is_done = self.git.round(&self.realm, view);
        say.send_replace(view.size);
        self.rsync.round(&self.realm, view) && is_done
    }
}

/// Starts the thread. Nobody waits for its end: what it is about to do is done again.
fn start(mut tending: Tending, asleep: mpsc::Receiver<()>, say: watch::Sender<u64>) -> anyhow::Result<()> {
    let failed = "starting the thread that looks after views";
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("views-io")
        .enable_all()
        .build()
        .context(failed)?;
    let working = move || {
        let _runtime = runtime.enter();
        let (mut size, mut failed, mut is_untidy) = (0, None::<Instant>, false);
        loop {
            let view = tending.realm.view();
            let is_retry = failed.is_some_and(|failed| failed.elapsed() >= RETRY);
            if view.size != size || is_retry || tending.git.is_due() {
                failed = (!tending.round(&view, &say)).then(Instant::now);
                size = view.size;
                is_untidy = true;
            }
            if is_untidy {
                // Whoever has published may wait for what is above, and nobody for this.
                let tidying = || {
                    priority::lower();
                    tending.git.tidy()
                };
                is_untidy = thread::scope(|scope| scope.spawn(tidying).join()).unwrap_or(false);
            }
            tending.rsync.remove_old();
            if asleep.recv_timeout(POLL) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    };
    thread::Builder::new().name("views".to_owned()).spawn(working).context(failed)?;
    Ok(())
}
