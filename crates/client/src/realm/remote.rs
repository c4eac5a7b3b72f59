//! Speaking to a server, or reading an export: requests with bounds on everything that comes back.
//!
//! A server is not trusted, not even to end an answer: every body has a length it may not exceed, every wait has an
//! end, and a connection that brings next to nothing is given up. What an answer says is judged by whoever asked.

mod download;
mod error;
mod events;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_RANGE, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, Url};
use smart_sync_store::pack::PACK_LEN_MAX;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use self::download::Download;
use self::download::{Source, of_file};
pub use self::error::{OTHER_ANSWER_HINT, RemoteError};
pub use self::events::Events;
use super::directory::{Directory, ReadFileError};
use crate::failure::{Exit, Failure};
use crate::server_url::{ServerUrl, is_loopback};
use crate::settings::{NetworkSettings, TokenWay};
use crate::token::Token;

/// How long making a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Redirects that are followed, within one server's scheme and host.
const REDIRECTS_MAX: usize = 5;
/// A server that answers so soon is near, and the way to it most likely fast.
const NEAR: Duration = Duration::from_millis(5);
/// The bytes of an answer that room is made for because it announces them.
const ANNOUNCED_BYTES_MAX: u64 = 8 << 20;
/// The number of bytes of an upload that are handed to the connection at once.
const PIECE_BYTES: usize = 64 * 1024;
/// The most bytes of an error's text that are read.
const ERROR_BYTES_MAX: usize = 4096;

/// What was sent and received, over all connections of a run.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    /// The number of requests.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that were received.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that were sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// One server, or one export.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Client,
    /// Where the files are, if they are on this machine.
    directory: Option<Directory>,
    /// What a server without ranges sent last.
    whole: Arc<Whole>,
    /// For what the usual bound on silence does not allow for: the answer to an upload comes when the server has
    /// looked at everything, and events when there are any.
    patient: Client,
    base: ServerUrl,
    token: Option<Token>,
    stall: Duration,
    traffic: Arc<Traffic>,
    soonest: Arc<Soonest>,
}

/// The microseconds after which an answer began, of the soonest one.
#[derive(Debug)]
struct Soonest(AtomicU64);

impl Default for Soonest {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Soonest {
    fn note(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_min(micros, Ordering::Relaxed);
    }

    fn is_at_most(&self, time: Duration) -> bool {
        u128::from(self.0.load(Ordering::Relaxed)) <= time.as_micros()
    }
}

/// A pack that a server sent as a whole, because it does not know ranges: the next ones are mostly of the same pack.
#[derive(Debug, Default)]
struct Whole {
    is_usual: AtomicBool,
    last: Mutex<Option<(String, Bytes)>>,
}

impl Remote {
    /// Prepares to speak to a server. Nothing is sent yet.
    pub fn new(
        base: ServerUrl,
        token: Option<Token>,
        network: NetworkSettings,
        traffic: Arc<Traffic>,
    ) -> Result<Self, Failure> {
        let stall = network.stall;
        if token.is_some() {
            check_token_way(&base, network.token_way)?;
        }
        let builder = || {
            let builder = Client::builder();
            // What is sent to this machine shall not leave it.
            let builder = if is_loopback(base.as_url()) { builder.no_proxy() } else { builder };
            builder
                .connect_timeout(CONNECT_TIME)
                // What is measured and bounded is what travels.
                .no_gzip()
                .redirect(redirects())
                .pool_idle_timeout(Duration::from_secs(8))
                .tcp_nodelay(true)
        };
        let failed = |error| Failure::new(Exit::General, error).context("preparing for HTTP");
        let client = builder().read_timeout(stall).build().map_err(failed)?;
        let patient = builder().build().map_err(failed)?;
        let directory = base.directory().map(Directory::new);
        let (whole, soonest) = (Arc::default(), Arc::default());
        Ok(Self { client, directory, whole, patient, base, token, stall, traffic, soonest })
    }

    /// Its address.
    pub const fn base(&self) -> &ServerUrl {
        &self.base
    }

    /// Whether the server has answered as soon as only one in the same network does.
    pub fn is_near(&self) -> bool {
        self.soonest.is_at_most(NEAR)
    }

    /// What was sent and received.
    pub const fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Asks for something of at most `limit` bytes. `path` is encoded already.
    pub async fn get(&self, path: &str, limit: u64) -> Result<Bytes, RemoteError> {
        if let Some(directory) = &self.directory {
            return self.count_file(directory.read(path, limit).await, path, limit);
        }
        let request = self.request(Method::GET, path)?;
        self.exchange(request, path, limit).await
    }

    /// Sends a body and returns the answer, of at most `limit` bytes.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
        limit: u64,
    ) -> Result<Bytes, RemoteError> {
        let body = body.into();
        let request = self.request(method, path)?;
        self.traffic.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        let request = request.body(body);
        self.exchange(request, path, limit).await
    }

    /// Sends a body that may be large. The server has to take some of it all the time, and then to answer within
    /// `patience`.
    pub async fn upload(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
        limit: u64,
    ) -> Result<Bytes, RemoteError> {
        let length = body.len() as u64;
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&taken);
        let pieces = (0..body.len()).step_by(PIECE_BYTES).map(move |start| {
            let piece = body.slice(start..(start + PIECE_BYTES).min(body.len()));
            counted.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok::<_, std::io::Error>(piece)
        });
        let request = self
            .request_by(&self.patient, method, path)?
            .header(CONTENT_LENGTH, length)
            .body(Body::wrap_stream(stream::iter(pieces)));
        let mut answer = std::pin::pin!(self.begin(request, path));
        let mut before = 0;
        let response = loop {
            let wait = if before < length { self.stall } else { patience };
            if let Ok(answer) = timeout(wait, &mut answer).await {
                break answer?;
            }
            let now = taken.load(Ordering::Relaxed);
            if now == before {
                return Err(RemoteError::Unanswered { url: self.shown(path), seconds: wait.as_secs() });
            }
            before = now;
        };
        self.traffic.sent.fetch_add(length, Ordering::Relaxed);
        self.body(response, path, limit).await
    }

    /// Asks for a range of bytes and returns exactly those.
    pub async fn get_range(&self, path: &str, start: u64, end: u64) -> Result<Bytes, RemoteError> {
        if let Some(directory) = &self.directory {
            return self.count_file(directory.read_range(path, start, end).await, path, end);
        }
        let wrong = |reason: String| RemoteError::Wrong { url: self.shown(path), reason };
        if self.whole.is_usual.load(Ordering::Relaxed) {
            return self.range_of_whole(path, start, end).await;
        }
        let range = format!("bytes={start}-{}", end - 1);
        let range = HeaderValue::try_from(range).map_err(|error| wrong(error.to_string()))?;
        let response = self.begin(self.request(Method::GET, path)?.header(RANGE, range), path).await?;
        if response.status() == StatusCode::OK && !is_page_for_people(&response) {
            drop(response);
            self.whole.is_usual.store(true, Ordering::Relaxed);
            return self.range_of_whole(path, start, end).await;
        }
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(wrong(format!("it is {} and not a range", response.status())));
        }
        let expected = format!("bytes {start}-{}/", end - 1);
        let found =
            response.headers().get("content-range").and_then(|value| value.to_str().ok()).unwrap_or("");
        if !found.starts_with(&expected) {
            return Err(wrong(format!("it says {found:?} where {expected:?} was asked for")));
        }
        let bytes = self.body(response, path, end - start).await?;
        if bytes.len() as u64 == end - start {
            Ok(bytes)
        } else {
            Err(wrong(format!("{} of {} bytes came", bytes.len(), end - start)))
        }
    }

    /// Listens to the events of something.
    pub async fn events(&self, path: &str) -> Result<Events, RemoteError> {
        // Of a stream that is quiet for long, its own bound on silence is what counts.
        let request = self.request_by(&self.patient, Method::GET, path)?;
        let response = self.begin(request, path).await?;
        Ok(Events::new(response, self.shown(path), Arc::clone(&self.traffic)))
    }

    /// How many bytes something has, where the server says so.
    pub async fn length_of(&self, path: &str) -> Result<Option<u64>, RemoteError> {
        let response = self.begin(self.request(Method::HEAD, path)?, path).await?;
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Ok(length.and_then(|length| length.parse().ok()))
    }

    /// Asks for something that is taken as it comes, of at most `limit` bytes. With a place to go on at and the tag of
    /// what came before, it goes on there if that is still the same; see [`Download::start`].
    pub async fn download(
        &self,
        path: &str,
        resume: Option<(u64, &str)>,
        limit: u64,
    ) -> Result<Download, RemoteError> {
        if let Some(directory) = &self.directory {
            self.traffic.requests.fetch_add(1, Ordering::Relaxed);
            let source = Source::File { directory: directory.clone(), path: path.to_owned(), at: 0 };
            let mut download = Download::new(self, path, source, limit);
            // A file that is not there is told of now.
            download.ahead = download.next().await?;
            return Ok(download);
        }
        let mut request = self.request(Method::GET, path)?;
        if let Some((start, tag)) = resume {
            request = request.header(RANGE, format!("bytes={start}-")).header(IF_RANGE, tag);
        }
        let response = self.begin(request, path).await?;
        let mut is_growing = false;
        let start = match resume {
            Some((start, _)) if response.status() == StatusCode::PARTIAL_CONTENT => {
                let found = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let expected = format!("bytes {start}-");
                if !found.is_some_and(|found| found.starts_with(&expected)) {
                    let reason = format!("it says {found:?} where {expected:?} was asked for");
                    return Err(RemoteError::Wrong { url: self.shown(path), reason });
                }
                is_growing = found.is_some_and(|found| found.ends_with("/*"));
                start
            }
            _ => 0,
        };
        let tag = response.headers().get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut download = Download::new(self, path, Source::Response(response), limit);
        (download.start, download.tag, download.is_growing) = (start, tag, is_growing);
        Ok(download)
    }

    /// A range of what a server without ranges sends as a whole. It is asked for once, however many ranges of it are
    /// wanted at the same time.
    async fn range_of_whole(&self, path: &str, start: u64, end: u64) -> Result<Bytes, RemoteError> {
        let mut last = self.whole.last.lock().await;
        let bytes = match &*last {
            Some((of, bytes)) if of == path => bytes.clone(),
            _ => {
                // Two packs need not be in memory at once.
                *last = None;
                let request = self.request(Method::GET, path)?;
                let bytes = self.exchange(request, path, PACK_LEN_MAX as u64).await?;
                *last = Some((path.to_owned(), bytes.clone()));
                bytes
            }
        };
        drop(last);
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let Some((start, end)) = range.filter(|(_, end)| *end <= bytes.len()) else {
            let reason = format!("it has {} bytes, and {start} to {end} were asked for", bytes.len());
            return Err(RemoteError::Wrong { url: self.shown(path), reason });
        };
        Ok(bytes.slice(start..end))
    }

    /// Counts a file that was read like an answer, and says why another was not.
    fn count_file(
        &self,
        read: Result<Bytes, ReadFileError>,
        path: &str,
        limit: u64,
    ) -> Result<Bytes, RemoteError> {
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        let bytes = read.map_err(|error| of_file(error, self.shown(path), limit))?;
        self.traffic.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, RemoteError> {
        self.request_by(&self.client, method, path)
    }

    fn request_by(&self, client: &Client, method: Method, path: &str) -> Result<RequestBuilder, RemoteError> {
        if self.directory.is_some() {
            return Err(RemoteError::OnlyFiles { url: self.shown(path) });
        }
        let url = self
            .base
            .as_url()
            .join(path)
            .map_err(|error| RemoteError::Wrong { url: self.shown(path), reason: error.to_string() })?;
        let request = client.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }

    async fn exchange(&self, request: RequestBuilder, path: &str, limit: u64) -> Result<Bytes, RemoteError> {
        let response = self.begin(request, path).await?;
        self.body(response, path, limit).await
    }

    /// Sends a request and returns the answer to it if it is a success.
    async fn begin(&self, request: RequestBuilder, path: &str) -> Result<Response, RemoteError> {
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let response = request
            .send()
            .await
            .map_err(|source| RemoteError::Network { url: self.shown(path), source: source.without_url() })?;
        self.soonest.note(asked.elapsed());
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = self.body(response, path, ERROR_BYTES_MAX as u64).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
        Err(RemoteError::Status { url: self.shown(path), status, text })
    }

    async fn body(&self, response: Response, path: &str, limit: u64) -> Result<Bytes, RemoteError> {
        let url = self.shown(path);
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(RemoteError::TooLong { url, limit });
        }
        // What is announced is made room for at once, within reason: growing would take twice the room.
        let announced = response.content_length().unwrap_or(0).min(ANNOUNCED_BYTES_MAX);
        let mut bytes = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        let mut download = Download::new(self, path, Source::Response(response), limit);
        while let Some(piece) = download.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// The address of something, without the query: what is asked does not help a reader, and may hold a signature.
    fn shown(&self, path: &str) -> String {
        format!("{}/{}", self.base, path.split('?').next().unwrap_or_default())
    }
}

/// Whether it is what a proxy or a misconfigured web server says in place of a file.
fn is_page_for_people(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

/// A token crosses a network encrypted, unless the host's administrator has said otherwise.
fn check_token_way(server: &ServerUrl, way: TokenWay) -> Result<(), Failure> {
    if way == TokenWay::Any || server.is_confidential() {
        return Ok(());
    }
    Err(Failure::message(
        Exit::Permission,
        format!("the token is not sent to {server}: everybody on the way there could read it"),
    )
    .hint("name the server with https:, or leave the token out if the server is public")
    .hint("for a network that is trusted, set `allow = [\"token-over-http\"]` in [network] of the configuration"))
}

/// A redirect may lead to another place of the same server, or from http to https; nowhere else: the token would go
/// with it, and the address that was typed would not be the one that is spoken to.
fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let is_allowed = attempt.previous().last().is_some_and(|from| may_lead(from, attempt.url()));
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("too many redirects")
        } else if is_allowed {
            attempt.follow()
        } else {
            attempt.error("a redirect to another server is not followed")
        }
    })
}

fn may_lead(from: &Url, to: &Url) -> bool {
    let is_same_host = from.host_str() == to.host_str();
    let is_same_origin = is_same_host
        && from.scheme() == to.scheme()
        && from.port_or_known_default() == to.port_or_known_default();
    is_same_origin || is_same_host && from.scheme() == "http" && to.scheme() == "https"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: &str, to: &str, expected: bool) {
        assert_eq!(may_lead(&from.parse().unwrap(), &to.parse().unwrap()), expected, "{from} to {to}");
    }

    #[test]
    fn a_token_crosses_a_network_encrypted_unless_it_is_allowed_otherwise() {
        for (url, way, is_sent) in [
            ("https://sync.example.org", TokenWay::Confidential, true),
            ("http://localhost:8080", TokenWay::Confidential, true),
            ("http://sync.example.org", TokenWay::Confidential, false),
            ("http://sync.example.org", TokenWay::Any, true),
        ] {
            let checked = check_token_way(&url.parse().unwrap(), way);
            assert_eq!(checked.is_ok(), is_sent, "{url} {way:?}");
            if let Err(failure) = checked {
                assert_eq!((failure.exit(), failure.hints().len()), (Exit::Permission, 2), "{url}");
            }
        }
    }

    #[test]
    fn a_redirect_stays_with_its_server() {
        check("http://a.example/x", "http://a.example/y", true);
        check("http://a.example/x", "https://a.example/x", true);
        check("https://a.example/x", "http://a.example/x", false);
        check("http://a.example/x", "http://b.example/x", false);
        check("http://a.example/x", "http://a.example:81/x", false);
        check("http://a.example/x", "file:///etc/passwd", false);
    }
}
