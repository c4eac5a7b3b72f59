//! Mirrors that are asked how large the log is, so that a server which was restored from an older backup does not
//! sign a second history.
//!
//! Asking happens beside everything else; signing only looks at what was answered last. A mirror can do no harm with
//! a lie: what it shows counts only with the signature of the log key, which nobody but this server has.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::{Client, Url};
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::note::{NOTE_BYTES_MAX, Note};
use smart_sync_sync::record::Root;

use super::view::View;

/// How often the mirrors are asked.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(60);
/// How long a mirror may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The mirrors of a realm, and the largest log that one of them has.
pub(crate) struct Peers {
    urls: Vec<Url>,
    largest: Mutex<Option<Seen>>,
}

/// A checkpoint that this server has signed, and who has it.
struct Seen {
    peer: Url,
    checkpoint: Checkpoint,
}

impl Peers {
    /// The mirrors with these base URLs.
    pub(crate) fn new(urls: &[String]) -> anyhow::Result<Self> {
        let urls = urls.iter().map(|url| {
            let url = format!("{}/checkpoint", url.trim_end_matches('/'));
            Url::parse(&url).with_context(|| format!("peers in server.toml: {url:?} is not a URL"))
        });
        Ok(Self { urls: urls.collect::<Result<_, _>>()?, largest: Mutex::default() })
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// Asks every mirror once. One that does not answer is passed over: it may be away for long.
    pub(crate) async fn ask(&self, root: &Root) {
        let asking = self.urls.iter().map(|url| async move { (url, ask(url, root).await) });
        for (url, answer) in futures::future::join_all(asking).await {
            match answer {
                Ok(checkpoint) => self.note(url, checkpoint),
                Err(error) => {
                    tracing::warn!(peer = %url, error = format!("{error:#}"), "a peer did not say how large its log is");
                }
            }
        }
    }

    fn note(&self, peer: &Url, checkpoint: Checkpoint) {
        let mut largest = self.largest.lock().unwrap_or_else(PoisonError::into_inner);
        if largest.as_ref().is_none_or(|seen| seen.checkpoint.size <= checkpoint.size) {
            *largest = Some(Seen { peer: peer.clone(), checkpoint });
        }
    }

    /// Refuses to let a log grow, or be signed anew, of which a mirror has more, or something else.
    pub(super) fn check(&self, view: &View) -> Result<(), BehindPeer> {
        let largest = self.largest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Seen { peer, checkpoint }) = &*largest else { return Ok(()) };
        let differs = checkpoint.size == view.size && checkpoint.root != view.edge.root();
        if checkpoint.size > view.size || differs {
            return Err(BehindPeer { peer: peer.clone(), theirs: checkpoint.size, ours: view.size });
        }
        Ok(())
    }
}

/// A mirror has leaves that this server has lost.
#[derive(Debug, thiserror::Error)]
#[error(
    "{peer} has a log of {theirs} leaves and this server one of {ours}, signed by the same key: this server was \
     restored from an older backup. Nothing is signed until log/ is restored from that mirror"
)]
pub(crate) struct BehindPeer {
    peer: Url,
    theirs: u64,
    ours: u64,
}

async fn ask(url: &Url, root: &Root) -> anyhow::Result<Checkpoint> {
    let client = Client::builder().timeout(ANSWER_TIME).build().context("preparing for HTTP")?;
    let mut response = client.get(url.clone()).send().await.context("asking")?;
    ensure!(response.status().is_success(), "the answer was {}", response.status());
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.context("reading the answer")? {
        if bytes.len() + piece.len() > NOTE_BYTES_MAX {
            bail!("the answer is longer than a checkpoint may be");
        }
        bytes.extend_from_slice(&piece);
    }
    own_checkpoint(&bytes, root)
}

/// Reads a checkpoint that the log key of this realm has signed.
fn own_checkpoint(bytes: &[u8], root: &Root) -> anyhow::Result<Checkpoint> {
    let note = Note::parse(bytes)?;
    let checkpoint = Checkpoint::parse(note.text())?;
    ensure!(checkpoint.origin == root.origin, "it is a mirror of {}", checkpoint.origin);
    let signed = note.verified_by(&root.log.keys)?.len();
    ensure!(signed >= root.log.threshold, "its checkpoint is not signed by the log key");
    Ok(checkpoint)
}
