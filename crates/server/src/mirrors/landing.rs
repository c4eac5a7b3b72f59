//! From the first who asks for a file to the moment when it is here to stay, or nobody waits for it any more.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use tempfile::TempDir;

use super::fetch::Fetch;
use super::flight::{Failure, Flight};
use super::kept::{self, Kept};
use super::mirror::Mirror;
use super::record::{self, Attempt, Report};
use super::{Key, Mirrors, keep};
use crate::http::now;

/// A flight that is brought to its end, whatever happens on the way.
pub(super) struct Landing {
    pub(super) mirrors: Arc<Mirrors>,
    pub(super) key: Key,
    pub(super) flight: Arc<Flight>,
}

impl Landing {
    /// Fetches the file into a directory of its own, lets those who wait have it, and keeps it.
    pub(super) async fn land(self, mirror: Arc<Mirror>, directory: TempDir) {
        let (mirrors, flight) = (&self.mirrors, &self.flight);
        let mut attempts = Vec::new();
        let fetched = {
            // The turns are never taken away.
            let outside = &mirrors.outside;
            let _turn = outside.turns.acquire().await;
            let (client, stall, room) = (&outside.client, outside.stall, &*mirrors.incoming);
            let fetch = Fetch { client, mirror: &mirror, flight, stall, room };
            fetch.run(&mut attempts).await
        };
        self.note(&mirror, attempts, fetched.as_ref().err()).await;
        let source = match fetched {
            Ok(source) => source,
            Err(failure) => {
                let (mirror, file) = (&mirror.name, &flight.name);
                tracing::warn!(
                    mirror,
                    file,
                    %failure,
                    "a file did not come from upstream; nothing of it is kept"
                );
                return flight.fail(failure);
            }
        };
        flight.release();
        let keeping = {
            let (mirrors, flight, mirror) = (Arc::clone(mirrors), Arc::clone(flight), Arc::clone(&mirror));
            tokio::task::spawn_blocking(move || mirrors.keep(&mirror, &flight, directory.path(), source))
        };
        let kept = keeping.await.map_err(anyhow::Error::from).and_then(|kept| kept);
        if let Err(error) = kept {
            let (mirror, file, error) = (&mirror.name, &flight.name, format!("{error:#}"));
            tracing::error!(mirror, file, error, "a file came from upstream and could not be kept");
        }
    }

    /// Writes down what was done for the file.
    async fn note(&self, mirror: &Arc<Mirror>, attempts: Vec<Attempt>, failure: Option<&Failure>) {
        let failure = failure.map(ToString::to_string);
        let (mirrors, flight, mirror) =
            (Arc::clone(&self.mirrors), Arc::clone(&self.flight), Arc::clone(mirror));
        let noting = tokio::task::spawn_blocking(move || {
            let (mirror, file, failure) = (&*mirror.name, &*flight.name, failure.as_deref());
            let report = Report { mirror, file, attempts: &attempts, failure, now: now() };
            record::note(&mut mirrors.db(), &report)
        });
        if let Err(error) = noting.await.map_err(anyhow::Error::from).and_then(|noted| noted) {
            tracing::error!(error = format!("{error:#}"), "writing down what happened with upstreams");
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.mirrors.flights().remove(&self.key);
        // One that was given up in the middle says so to those who wait.
        self.flight.fail(Failure::Upstream);
        self.flight.land();
    }
}

impl Mirrors {
    /// Makes what has come durable, and remembers that it is there. On a thread of the runtime that may block.
    fn keep(&self, mirror: &Mirror, flight: &Flight, directory: &Path, source: String) -> anyhow::Result<()> {
        let content = keep::store(&self.realm, &mirror.channel, directory, now())?;
        ensure!(content.size == flight.expected.size, "{} changed before it was kept", flight.name);
        let (name, expected) = (flight.name.clone(), flight.expected);
        let kept = Kept { name, expected, content, time: flight.time, source };
        kept::note(&self.db(), &mirror.channel, &kept)?;
        let (mirror, file, bytes, upstream) = (&mirror.name, &kept.name, content.size, &kept.source);
        tracing::info!(
            mirror,
            file,
            bytes,
            upstream,
            "a file came from upstream, is what it has to be, and stays"
        );
        Ok(())
    }
}
