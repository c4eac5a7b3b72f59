//! Files of a mirror that the tree of its channel does not have: they are here already, on their way, or can be fetched.
//!
//! A file has the same entity tag on its way and after, made of the digest that it has to have, so that whoever was cut
//! off goes on where they were. Whoever asks for the head alone has nothing fetched.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use smart_sync_store::content::name_content;
use smart_sync_store::id::to_hex;
use smart_sync_sync::kinds::pull::Expected;
use smart_sync_sync::name::Channel;

use super::conditional::Validators;
use super::problem::Problem;
use super::tree::{content_body, deliver, part_of};
use super::{App, blocking, now};
use crate::mirrors::{Failure, Flight, Mirror, Mirrors, Pulled, Status, Want};
use crate::tokens::Caller;

/// A path of a mirror.
pub(super) struct Question {
    mirrors: Arc<Mirrors>,
    mirror: Arc<Mirror>,
    /// The path below the channel begins at this segment.
    pub(super) rest: usize,
    path: Vec<u8>,
}

impl Question {
    /// What a path asks of a mirror, if it is one that the caller may read.
    pub(super) fn of(app: &App, caller: &Caller, segments: &[Vec<u8>]) -> Option<Self> {
        let mirrors = app.mirrors.as_ref()?;
        let texts: Vec<&str> = segments.iter().map_while(|segment| str::from_utf8(segment).ok()).collect();
        let (mirror, rest) = mirrors.at(&texts)?;
        let (mirrors, mirror) = (Arc::clone(mirrors), Arc::clone(mirror));
        let may_read = app.may_read(caller, &mirror.channel);
        may_read.then(|| Self { mirrors, mirror, rest, path: segments[rest..].join(&b'/') })
    }

    /// Answers it.
    pub(super) async fn answer(
        &self,
        app: &Arc<App>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        if let Some(bytes) = self.mirror.made(&self.path) {
            let content = name_content(bytes);
            let etag = format!("\"{}\"", to_hex(&content.id.as_bytes()[..16]));
            let validators = Validators { etag, modified: 0, size: content.size };
            let response = deliver(&validators, &self.path, headers, |range| part_of(bytes, &range));
            return Ok(self.cached(app, response));
        }
        let want = if method == Method::HEAD { Want::Head } else { Want::Content };
        let pulled = {
            let (mirrors, mirror, path) =
                (Arc::clone(&self.mirrors), Arc::clone(&self.mirror), self.path.clone());
            blocking(move || Ok(mirrors.pull(&mirror, &path, want, now())?)).await?
        };
        let response = match pulled {
            Pulled::Kept(kept) => {
                let validators = validators(&kept.expected, kept.time);
                let domain = app.realm.domain(&self.mirror.channel)?;
                let store = &app.realm.store;
                let body = |range| {
                    self.gives(want, &range);
                    content_body(store, &domain, kept.content, range)
                };
                deliver(&validators, kept.name.as_bytes(), headers, body)
            }
            Pulled::Coming(flight) => self.coming(flight, headers).await?,
            Pulled::Known { name, expected } => {
                deliver(&validators(&expected, now()), name.as_bytes(), headers, |_| Body::empty())
            }
            Pulled::Unknown => return Err(Problem::NotFound),
            Pulled::Learning => return Err(Problem::Busy("which files there are is being learnt")),
            Pulled::Failed(failure) => return Err(problem(failure)),
        };
        Ok(self.cached(app, response))
    }

    /// What comes, from the moment on at which something has.
    async fn coming(&self, flight: Arc<Flight>, headers: &HeaderMap) -> Result<Response, Problem> {
        flight.begun().await.map_err(problem)?;
        let validators = validators(&flight.expected, flight.time);
        let body = |range: Range<u64>| {
            self.gives(Want::Content, &range);
            Body::from_stream(Arc::clone(&flight).read(range))
        };
        Ok(deliver(&validators, flight.name.as_bytes(), headers, body))
    }

    /// Counts what is given; of a file whose head alone is asked for, that is nothing.
    fn gives(&self, want: Want, range: &Range<u64>) {
        if want == Want::Content {
            self.mirror.gives(range);
        }
    }

    fn cached(&self, app: &App, mut response: Response) -> Response {
        let value =
            if app.realm.is_private(&self.mirror.channel) { "private, no-cache" } else { "public, no-cache" };
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
        response
    }
}

/// `GET /v1/mirrors`: what is known of the mirrors that the caller may read from.
pub(super) async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = app.caller(&headers).await?;
    blocking(move || {
        let passes = |channel: &Channel| app.may_read(&caller, channel);
        let mirrors = app.mirrors.as_ref().map(|mirrors| mirrors.status(passes)).transpose()?;
        let list = MirrorList { now: now(), mirrors: mirrors.unwrap_or_default() };
        let json = serde_json::to_vec(&list).map_err(anyhow::Error::from)?;
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        Ok((headers, json).into_response())
    })
    .await
}

#[derive(Serialize)]
struct MirrorList {
    now: u64,
    mirrors: Vec<Status>,
}

fn validators(expected: &Expected, modified: u64) -> Validators {
    let etag = format!("\"{}\"", to_hex(&expected.sha512[..16]));
    Validators { etag, modified, size: expected.size }
}

fn problem(failure: Failure) -> Problem {
    match failure {
        Failure::Absent => Problem::NotFound,
        Failure::Away(seconds) => Problem::Upstream { retry_after_seconds: Some(seconds) },
        Failure::Busy => Problem::Busy("too many files are on their way"),
        Failure::Upstream => Problem::Upstream { retry_after_seconds: None },
        Failure::Local { reason, is_full: false } => Problem::Fault(anyhow::Error::msg(reason)),
        Failure::Local { reason, is_full: true } => {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            Problem::Fault(anyhow::Error::new(full).context(reason))
        }
    }
}
