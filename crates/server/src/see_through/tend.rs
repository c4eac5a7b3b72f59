//! Going through what is published while the server serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use super::Rounds;
use crate::http::now;
use crate::priority;
use crate::realm::{Realm, timestamp};

/// How often it is looked whether the log has grown.
const POLL: Duration = Duration::from_secs(2);

/// A thread that goes through what is published; it is told to end when this goes.
pub(crate) struct Tending {
    is_stopped: Arc<AtomicBool>,
    /// Nothing is sent: the thread notices that this end has gone.
    _awake: mpsc::Sender<()>,
}

impl Drop for Tending {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// Starts the thread, unless the operator wants none of it. Nobody waits for its end: what it is about to do is done again.
pub(crate) fn tend(realm: Arc<Realm>) -> anyhow::Result<Option<Tending>> {
    if !realm.config.see_through.enabled {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("see-through-io")
        .enable_all()
        .on_thread_start(priority::lower)
        .build()
        .context("starting the thread that takes artifacts apart")?;
    let rounds = Rounds::new(Arc::clone(&realm))?;
    let is_stopped = Arc::new(AtomicBool::new(false));
    let (awake, asleep) = mpsc::channel::<()>();
    let stopped = Arc::clone(&is_stopped);
    let working = move || {
        priority::lower();
        let _runtime = runtime.enter();
        let mut size = None;
        loop {
            match realm.newest_view() {
                Ok(view) if size != Some(view.size) => {
                    let mut progress = |path: &[u8], content: &_, outcome| {
                        let content: &smart_sync_store::manifest::Content = content;
                        tracing::debug!(path = %path.escape_ascii(), id = %content.id, ?outcome, "looked at an artifact");
                    };
                    if let Err(error) = rounds.go(&view, || timestamp(now()), &stopped, &mut progress) {
                        tracing::warn!(error = format!("{error:#}"), "taking artifacts apart");
                    }
                    size = Some(view.size);
                }
                // Whoever serves requests says that the log cannot be read.
                _ => {}
            }
            if asleep.recv_timeout(POLL) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("see-through".to_owned())
        .spawn(working)
        .context("starting the thread that takes artifacts apart")?;
    Ok(Some(Tending { is_stopped, _awake: awake }))
}
