//! Answers that are taken as they come.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, timeout_at};

use super::{Remote, RemoteError, Traffic};
use crate::realm::directory::{Directory, ReadFileError};

/// A connection that brings less than this in the time of a stall is given up.
pub(super) const STALL_BYTES_MIN: u64 = 4096;

/// An answer that is taken as it comes.
#[derive(Debug)]
pub struct Download {
    source: Source,
    url: String,
    pub(super) start: u64,
    pub(super) tag: Option<String>,
    pub(super) is_growing: bool,
    left: u64,
    limit: u64,
    window: Window,
    stall: Duration,
    traffic: Arc<Traffic>,
    /// What was read before it was asked for.
    pub(super) ahead: Option<Bytes>,
}

/// Why a file could not be read, as an answer would be.
pub(super) fn of_file(error: ReadFileError, url: String, limit: u64) -> RemoteError {
    match error {
        ReadFileError::Absent => RemoteError::Absent { url },
        ReadFileError::TooLong => RemoteError::TooLong { url, limit },
        ReadFileError::Short => RemoteError::Wrong { url, reason: "the file ends too early".to_owned() },
        ReadFileError::Failed(source) => RemoteError::File { url, source },
    }
}

/// Where an answer comes from.
#[derive(Debug)]
pub(super) enum Source {
    Response(Response),
    File { directory: Directory, path: String, at: u64 },
}

/// Bytes of a file that are read at once.
const FILE_PIECE_BYTES: u64 = 1 << 20;

impl Download {
    /// An answer from its beginning.
    pub(super) fn new(remote: &Remote, path: &str, source: Source, limit: u64) -> Self {
        Self {
            source,
            url: remote.shown(path),
            start: 0,
            tag: None,
            is_growing: false,
            left: limit,
            limit,
            window: Window::new(remote.stall),
            stall: remote.stall,
            traffic: Arc::clone(&remote.traffic),
            ahead: None,
        }
    }

    /// Where in the whole it begins: where it was asked to go on, or at the beginning.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// What the server calls this version of it.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// How many bytes come, where the server says so.
    pub fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Response(response) => response.content_length(),
            Source::File { .. } => None,
        }
    }

    /// Whether the server did not know the end when it answered: what follows is to be asked for again.
    pub const fn is_growing(&self) -> bool {
        self.is_growing
    }

    /// The next bytes; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RemoteError> {
        if self.ahead.is_some() {
            return Ok(self.ahead.take());
        }
        let response = match &mut self.source {
            Source::Response(response) => response,
            Source::File { directory, path, at } => {
                let piece = directory.read_on(path, *at, FILE_PIECE_BYTES).await;
                let piece = piece.map_err(|error| of_file(error, self.url.clone(), self.limit))?;
                *at += piece.len() as u64;
                self.traffic.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
                return Ok(Some(piece).filter(|piece| !piece.is_empty()));
            }
        };
        loop {
            let Ok(piece) = timeout_at(self.window.end, response.chunk()).await else {
                if self.window.renew(self.stall) {
                    continue;
                }
                return Err(RemoteError::Stalled { url: self.url.clone(), seconds: self.stall.as_secs() });
            };
            let piece = piece.map_err(|source| RemoteError::Broken {
                url: self.url.clone(),
                source: source.without_url(),
            })?;
            let Some(piece) = piece else { return Ok(None) };
            let length = piece.len() as u64;
            self.left = self
                .left
                .checked_sub(length)
                .ok_or_else(|| RemoteError::TooLong { url: self.url.clone(), limit: self.limit })?;
            self.traffic.received.fetch_add(length, Ordering::Relaxed);
            self.window.bytes += length;
            return Ok(Some(piece));
        }
    }
}

/// The time in which a connection has to bring something.
#[derive(Debug)]
struct Window {
    end: Instant,
    bytes: u64,
}

impl Window {
    fn new(stall: Duration) -> Self {
        Self { end: Instant::now() + stall, bytes: 0 }
    }

    /// Begins the next window, if this one brought enough.
    fn renew(&mut self, stall: Duration) -> bool {
        let is_enough = self.bytes >= STALL_BYTES_MIN;
        *self = Self::new(stall);
        is_enough
    }
}
