//! Requests to the API: redirects, the token, limits of size and time, retries.
//!
//! Redirects are followed here and not by the HTTP client, because each hop is a decision: the token goes to the
//! API's own origin alone, `https` never becomes `http`, and there are few hops. Bodies are counted as they arrive, after
//! decompression, so that neither a wrong Content-Length nor a compressed bomb gets past the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION};
use reqwest::{Client, Response, Url};

use super::clock::Clock;
use super::error::{Remedy, SourceError, excerpt};
use super::limits::{Verdict, judge};
use super::{Cost, Notice, Options, Tell};
use crate::server_url::is_loopback;
use crate::token::Token;

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 5;
/// How often a request is sent that may succeed when it is repeated.
const ATTEMPTS_MAX: u32 = 4;
/// The pause before the first repetition; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause before a repetition that a server may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What a connection must bring within the time of a stall. Less is no download.
const STALL_BYTES_MIN: u64 = 4096;
/// How much of an error's body is read.
const MESSAGE_BYTES_MAX: u64 = 16 << 10;

/// Sends requests.
pub(super) struct Http {
    client: Client,
    /// The API, whose origin alone is sent the token.
    home: Url,
    token: Option<Token>,
    clock: Arc<dyn Clock>,
    tell: Tell,
    stall: Duration,
    rate_limit_wait: Duration,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// A request; always a GET.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) url: Url,
    pub(super) accept: &'static str,
    /// The version that is cached.
    pub(super) etag: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// The body, and the name of this version of it.
    Body { bytes: Vec<u8>, etag: Option<String> },
    /// What is cached is the answer.
    NotModified,
    /// There is no such thing.
    Absent,
}

/// An answer whose body has not been read.
pub(super) struct Opened {
    pub(super) response: Response,
    verdict: Verdict,
}

impl Http {
    pub(super) fn new(home: &Url, options: &Options, tell: Tell) -> Result<Self, SourceError> {
        let mut client = Client::builder()
            .user_agent(concat!("smart-sync/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(Duration::from_secs(20));
        let token = options.token.clone().filter(|_| may_carry_token(home));
        if options.token.is_some() && token.is_none() {
            tell(Notice::TokenWithheld { host: host(home) });
        }
        if is_loopback(home) {
            client = client.no_proxy();
        }
        Ok(Self {
            client: client.build().map_err(SourceError::Setup)?,
            home: home.clone(),
            token,
            clock: options.clock.clone(),
            tell,
            stall: options.stall,
            rate_limit_wait: options.rate_limit_wait,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// What has been asked for and received so far.
    pub(super) fn cost(&self) -> Cost {
        Cost { requests: self.requests.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// The token and where it may be sent, for git.
    pub(super) const fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Gets a whole answer of at most `limit` bytes.
    pub(super) async fn get(&self, request: &Request, limit: u64) -> Result<Answer, SourceError> {
        self.retrying(async || {
            let Some(mut opened) = self.open(request).await? else { return Ok(Answer::Absent) };
            if opened.verdict == Verdict::NotModified {
                return Ok(Answer::NotModified);
            }
            let etag = opened.response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
            let etag = etag.map(ToOwned::to_owned);
            let mut bytes = Vec::new();
            self.read(&mut opened.response, limit, |part| {
                bytes.extend_from_slice(part);
                Ok(())
            })
            .await?;
            Ok(Answer::Body { bytes, etag })
        })
        .await
    }

    /// Repeats what may succeed when it is repeated, and waits for rate limits that end soon.
    pub(super) async fn retrying<T>(
        &self,
        work: impl AsyncFn() -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let error = match work().await {
                Ok(value) => return Ok(value),
                Err(error) if attempt == ATTEMPTS_MAX => return Err(error),
                Err(error) => error,
            };
            match error.remedy() {
                Remedy::None => return Err(error),
                Remedy::Again(asked) => {
                    (self.tell)(Notice::Retrying { error: &error });
                    self.clock.pause(asked.unwrap_or(pause).min(PAUSE_MAX)).await;
                    pause *= 2;
                }
                Remedy::Wait(until) => {
                    let wait = Duration::try_from(until - self.clock.now()).unwrap_or_default();
                    if wait > self.rate_limit_wait {
                        return Err(error);
                    }
                    (self.tell)(Notice::Waiting { error: &error });
                    self.clock.pause(wait).await;
                }
            }
            attempt += 1;
        }
    }

    /// Sends a request, follows where it leads, and judges the answer; nothing where there is no such thing.
    pub(super) async fn open(&self, request: &Request) -> Result<Option<Opened>, SourceError> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut response = self.send(&url, request).await?;
            let status = response.status().as_u16();
            let message = if matches!(status, 401 | 403 | 429) {
                self.message(&mut response).await
            } else {
                String::new()
            };
            match judge(status, response.headers(), &message, self.clock.now()) {
                Verdict::Redirect => url = next_hop(&url, response.headers().get(LOCATION))?,
                Verdict::Absent => return Ok(None),
                Verdict::Limited(until) => {
                    let has_token = self.is_home(&url) && self.token.is_some();
                    return Err(SourceError::RateLimited { host: host(&url), until, has_token });
                }
                Verdict::Transient(again_after) => {
                    return Err(SourceError::Server { url: shown(&url), status, again_after });
                }
                Verdict::Denied => return Err(SourceError::Denied { url: shown(&url), status, message }),
                Verdict::NotModified if request.etag.is_none() => {
                    return Err(not_the_api(&url, "not modified, though nothing was said to be known"));
                }
                Verdict::Unexpected => return Err(not_the_api(&url, &format!("status {status}"))),
                verdict @ (Verdict::Success | Verdict::NotModified) => {
                    return Ok(Some(Opened { response, verdict }));
                }
            }
        }
        let reason = "there are too many redirects";
        Err(SourceError::Redirect { url: shown(&request.url), to: shown(&url), reason })
    }

    /// Reads a body in parts, at most `limit` bytes of it.
    pub(super) async fn read(
        &self,
        response: &mut Response,
        limit: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), SourceError>,
    ) -> Result<u64, SourceError> {
        let url = response.url().clone();
        let too_large = || SourceError::TooLarge { url: shown(&url), limit };
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let (mut total, mut in_window) = (0u64, 0u64);
        let mut window = self.clock.timeout(self.stall);
        loop {
            let part = match select(Box::pin(response.chunk()), window).await {
                Either::Left((part, rest)) => {
                    window = rest;
                    part.map_err(|source| SourceError::Connection {
                        url: shown(&url),
                        source: source.without_url(),
                    })?
                }
                Either::Right(_) if in_window >= STALL_BYTES_MIN => {
                    (in_window, window) = (0, self.clock.timeout(self.stall));
                    continue;
                }
                Either::Right(_) => return Err(SourceError::Stalled { url: shown(&url), after: self.stall }),
            };
            let Some(part) = part else { return Ok(total) };
            (total, in_window) = (total + part.len() as u64, in_window + part.len() as u64);
            self.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
            if total > limit {
                return Err(too_large());
            }
            take(&part)?;
        }
    }

    async fn send(&self, url: &Url, request: &Request) -> Result<Response, SourceError> {
        let mut builder = self.client.get(url.clone()).header(ACCEPT, request.accept);
        if self.is_home(url) {
            builder = builder.header("X-GitHub-Api-Version", "2022-11-28");
            if let Some(token) = &self.token {
                builder = builder.header(AUTHORIZATION, authorization(token));
            }
        }
        if let Some(etag) = &request.etag {
            builder = builder.header(IF_NONE_MATCH, etag);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        match select(Box::pin(builder.send()), self.clock.timeout(self.stall)).await {
            Either::Left((answer, _)) => answer
                .map_err(|source| SourceError::Connection { url: shown(url), source: source.without_url() }),
            Either::Right(_) => Err(SourceError::Stalled { url: shown(url), after: self.stall }),
        }
    }

    /// The beginning of what an error says. Why it cannot be read does not matter beside the error.
    async fn message(&self, response: &mut Response) -> String {
        let mut bytes = Vec::new();
        let _ = self
            .read(response, MESSAGE_BYTES_MAX, |part| {
                bytes.extend_from_slice(part);
                Ok(())
            })
            .await;
        let said = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let said = said.as_ref().and_then(|value| value.get("message")).and_then(serde_json::Value::as_str);
        excerpt(said.map_or(bytes.as_slice(), str::as_bytes))
    }

    fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.home.origin()
    }
}

/// Whether an answer says that it is JSON and nothing more special.
pub(super) fn is_plain_json(response: &Response) -> bool {
    let media_type =
        response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().is_some_and(|media_type| media_type.trim() == "application/json")
}

/// The error for an answer that this API does not give.
pub(super) fn not_the_api(url: &Url, found: &str) -> SourceError {
    SourceError::NotTheApi { url: shown(url), found: found.to_owned() }
}

/// An address as it may be shown: a query may hold a signature that opens something.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Neither can be refused for a URL with a host; one without has none to hide.
    let _ = (url.set_username(""), url.set_password(None));
    url.to_string()
}

fn next_hop(from: &Url, location: Option<&HeaderValue>) -> Result<Url, SourceError> {
    let refused = |to: &[u8], reason| SourceError::Redirect { url: shown(from), to: excerpt(to), reason };
    let bytes = location.map(HeaderValue::as_bytes).unwrap_or_default();
    let text = std::str::from_utf8(bytes).map_err(|_| refused(bytes, "it is not a URL"))?;
    if text.is_empty() {
        return Err(refused(bytes, "it says nothing"));
    }
    let to = from.join(text).map_err(|_| refused(bytes, "it is not a URL"))?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        ("https", "http") => Err(refused(bytes, "it leaves the encrypted connection")),
        _ => Err(refused(bytes, "only http: and https: are followed")),
    }
}

/// A token crosses a network encrypted or not at all.
fn may_carry_token(home: &Url) -> bool {
    home.scheme() == "https" || is_loopback(home)
}

fn authorization(token: &Token) -> HeaderValue {
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", token.reveal())).expect("a token is visible ASCII");
    value.set_sensitive(true);
    value
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: &str, to: &str, expected: Result<&str, &str>) {
        let hop = next_hop(&Url::parse(from).unwrap(), Some(&HeaderValue::from_str(to).unwrap()));
        let found = hop.map(|url| url.to_string()).map_err(|error| match error {
            SourceError::Redirect { reason, .. } => reason,
            other => panic!("{other}"),
        });
        assert_eq!(found, expected.map(ToOwned::to_owned), "{from} {to}");
    }

    #[test]
    fn redirects_lead_only_where_it_is_safe() {
        check("https://a.example/x", "https://b.example/y", Ok("https://b.example/y"));
        check("https://a.example/x", "/y", Ok("https://a.example/y"));
        check("http://a.example/x", "https://b.example/y", Ok("https://b.example/y"));
        check("https://a.example/x", "http://a.example/y", Err("it leaves the encrypted connection"));
        check("http://a.example/x", "file:///etc/passwd", Err("only http: and https: are followed"));
        check("http://a.example/x", "http://", Err("it is not a URL"));
        check("http://a.example/x", "", Err("it says nothing"));
    }

    #[test]
    fn a_token_crosses_a_network_encrypted_or_not_at_all() {
        for (url, may) in [
            ("https://git.example.org/", true),
            ("http://git.example.org/", false),
            ("http://127.0.0.1:1/", true),
            ("http://[::1]:1/", true),
            ("http://localhost/", true),
            ("http://127.0.0.1.example.org/", false),
        ] {
            assert_eq!(may_carry_token(&Url::parse(url).unwrap()), may, "{url}");
        }
    }

    #[test]
    fn a_shown_address_opens_nothing() {
        let url = Url::parse("https://user:pass@a.example/x?signature=secret#y").unwrap();
        assert_eq!(shown(&url), "https://a.example/x");
    }
}
