//! A server as the place where a tree is published to.
//!
//! A request that fails in passing is made again, a few times and each time later: what arrived is not sent twice,
//! because a pack that is there is answered as one, and the next run asks again for what is missing.

use std::time::Duration;

use bytes::Bytes;
use indicatif::HumanBytes;
use reqwest::{Method, StatusCode};
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Content, ManifestSummary};
use smart_sync_store::object::ObjectKey;
use smart_sync_store::pack::VerifiedPack;
use smart_sync_sync::ingest::{Destination, DestinationError};
use smart_sync_sync::name::Channel;
use smart_sync_sync::wire::locate::{self, Wanted};

use crate::commands::wait_for;
use crate::failure::{Exit, Failure};
use crate::realm::remote::{Remote, RemoteError};
use crate::sync::Surroundings;

/// How long is waited before a request is made again.
const DELAYS_SECONDS: [u64; 4] = [1, 3, 8, 20];
/// How long a server may take to write a pack down.
const PACK_PATIENCE: Duration = Duration::from_secs(300);

/// What is done with packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packs {
    /// They are uploaded.
    Send,
    /// They are counted.
    Count,
}

/// A channel of a server.
pub(super) struct NetworkDestination<'a> {
    remote: &'a Remote,
    surroundings: &'a Surroundings<'a>,
    channel: String,
    packs: Packs,
    sent: u64,
    failure: Option<Failure>,
}

impl<'a> NetworkDestination<'a> {
    pub(super) fn new(
        remote: &'a Remote,
        surroundings: &'a Surroundings<'a>,
        channel: &Channel,
        packs: Packs,
    ) -> Self {
        let channel = channel.to_url_segment();
        Self { remote, surroundings, channel, packs, sent: 0, failure: None }
    }

    /// Why the last request failed, with its exit status and hints.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Whether the server has this manifest with all that it refers to.
    pub(super) fn has_manifest(&mut self, manifest: ManifestId) -> Result<bool, DestinationError> {
        let (remote, path) = (self.remote, format!("v1/has-manifest/{}/{manifest}", self.channel));
        let request = async || match remote.get(&path, 16).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        };
        self.ask(request, |answer| Ok(answer?))
    }

    fn ask<T>(
        &mut self,
        request: impl AsyncFn() -> Result<T, RemoteError>,
        judge: impl FnOnce(Result<T, RemoteError>) -> Result<T, Failure>,
    ) -> Result<T, DestinationError> {
        let surroundings = self.surroundings;
        let answer = wait_for(surroundings, async { judge(patiently(surroundings, request).await) });
        answer.map_err(|failure| self.keep(failure))
    }

    /// Which of so many things are missing: one byte for each.
    fn ask_for_missing(
        &mut self,
        path: &str,
        body: &Bytes,
        asked: usize,
    ) -> Result<Vec<bool>, DestinationError> {
        let remote = self.remote;
        let request = async || remote.send(Method::POST, path, body.clone(), asked as u64).await;
        let answer = self.ask(request, |answer| Ok(answer?))?;
        let answers: Option<Vec<bool>> = (answer.iter())
            .map(|byte| match byte {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            })
            .collect();
        match answers {
            Some(answers) if answers.len() == asked => Ok(answers),
            _ => Err(self.keep(Failure::message(
                Exit::Network,
                format!("{}/{path} did not answer for each of {asked} things", remote.base()),
            ))),
        }
    }

    fn keep(&mut self, failure: Failure) -> DestinationError {
        let message = failure.messages().next().unwrap_or_default();
        self.failure = Some(failure);
        message.into()
    }
}

impl Destination for NetworkDestination<'_> {
    fn missing(&mut self, keys: &[ObjectKey]) -> Result<Vec<bool>, DestinationError> {
        let mut body = Vec::with_capacity(keys.len() * 33);
        for key in keys {
            body.push(key.kind.code());
            body.extend_from_slice(key.id.as_bytes());
        }
        self.ask_for_missing(&format!("v1/missing/{}", self.channel), &body.into(), keys.len())
    }

    fn missing_contents(&mut self, contents: &[Content]) -> Result<Vec<bool>, DestinationError> {
        let wanted: Vec<Wanted> =
            contents.iter().map(|content| Wanted { id: content.id, size: content.size }).collect();
        let path = format!("v1/missing-contents/{}", self.channel);
        self.ask_for_missing(&path, &locate::encode(&wanted).into(), contents.len())
    }

    fn has_manifest(&mut self, manifest: &ManifestSummary) -> Result<bool, DestinationError> {
        NetworkDestination::has_manifest(self, manifest.id)
    }

    fn put_pack(&mut self, pack: &VerifiedPack) -> Result<(), DestinationError> {
        let (id, bytes) = (pack.id(), pack.bytes());
        let length = bytes.len() as u64;
        self.sent += length;
        if self.packs == Packs::Count {
            return Ok(());
        }
        let (remote, path) = (self.remote, format!("v1/pack/{}/{id}", self.channel));
        let request = async || remote.upload(Method::PUT, &path, bytes.clone(), PACK_PATIENCE, 4096).await;
        self.ask(request, |answer| Ok(answer?))?;
        self.surroundings.output.info(&format!("uploaded {}", HumanBytes(self.sent)));
        Ok(())
    }
}

/// Makes a request until it succeeds, fails for good, or was made often enough.
pub(super) async fn patiently<T>(
    surroundings: &Surroundings<'_>,
    request: impl AsyncFn() -> Result<T, RemoteError>,
) -> Result<T, RemoteError> {
    for seconds in DELAYS_SECONDS {
        match request().await {
            Err(error) if error.is_passing() => {
                surroundings.output.warning(&format!("{error}; trying again in {seconds} s"));
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            answer => return answer,
        }
    }
    request().await
}
