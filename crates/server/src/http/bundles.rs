//! `GET /bundle/<from>/<to>`: everything that turns one manifest into another, in one answer.
//!
//! A bundle that is stored is answered as any file is. One that is being computed is sent as it grows, and its length
//! is not known at first; whoever comes back for the rest of it gets as much of that as there is. When a computation
//! breaks off, so does the answer: nobody may take it for whole.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use smart_sync_store::domain::Domain;

use super::App;
use super::conditional::{Answer, Validators, evaluate};
use super::problem::Problem;
use crate::bundles::{Reader, Refusal, Step, parse_from};

/// Stands for a length that is not known yet.
const UNKNOWN: u64 = u64::MAX;

/// `GET /bundle/<from>/<to>`
pub(super) async fn bundle(
    State(app): State<Arc<App>>,
    Path((from, to)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let from = parse_from(&from).ok_or(Problem::NotFound)?;
    let to = to.parse().map_err(|_| Problem::NotFound)?;
    let bundles = app.bundles.as_ref().ok_or(Problem::NotFound)?;
    let domain = app.domain_of_manifests(&headers, [Some(to), from].into_iter().flatten().collect()).await?;
    let step = Step { domain, from, to };
    let begun = match variant_begun(&headers) {
        Some(etag) => bundles.variant(&step, |variant| variant.etag() == etag).await,
        None => None,
    };
    let reader = match begun {
        Some(reader) => reader,
        None => bundles.get(&step).await?,
    };
    if method == Method::HEAD {
        // Who asks how long it is waits until that is known, and finds it stored when asking for it.
        reader.whole().await.map_err(broken_off)?;
    }
    answer(reader, &headers, caching(&step.domain)).await
}

/// The variant that a client has begun to read and wants the rest of.
fn variant_begun(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::RANGE)?;
    headers.get(header::IF_RANGE)?.to_str().ok()
}

async fn answer(reader: Reader, headers: &HeaderMap, caching: &'static str) -> Result<Response, Problem> {
    let mut etag = reader.variant.etag();
    let mut validators = Validators { etag: etag.clone(), modified: 0, size: UNKNOWN };
    validators.size = reader.length().unwrap_or(UNKNOWN);
    let mut decided = evaluate(headers, &validators);
    if let Answer::Part { start, .. } = decided
        && validators.size == UNKNOWN
    {
        // The last bytes of what has no end yet are not known before it has one.
        let there = if start > UNKNOWN / 2 { reader.whole().await } else { reader.beyond(start).await };
        there.map_err(broken_off)?;
        validators.size = reader.length().unwrap_or(UNKNOWN);
        decided = evaluate(headers, &validators);
    }
    let size = validators.size;
    let total = if size == UNKNOWN { "*".to_owned() } else { size.to_string() };
    let mut response = match decided {
        Answer::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Answer::PreconditionFailed => return Ok(StatusCode::PRECONDITION_FAILED.into_response()),
        Answer::RangeNotSatisfiable => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{total}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response());
        }
        Answer::Whole => body(reader, 0..size, StatusCode::OK, (size != UNKNOWN).then_some(size)),
        Answer::Part { start, end } => {
            let end =
                if size == UNKNOWN { end.min(reader.beyond(start).await.map_err(broken_off)?) } else { end };
            let mut response =
                body(reader, start..end, StatusCode::PARTIAL_CONTENT, Some(end.saturating_sub(start)));
            let range = format!("bytes {start}-{}/{total}", end.saturating_sub(1));
            insert(&mut response, header::CONTENT_RANGE, range);
            response
        }
    };
    insert(&mut response, header::ETAG, std::mem::take(&mut etag));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    Ok(response)
}

fn body(reader: Reader, range: std::ops::Range<u64>, status: StatusCode, length: Option<u64>) -> Response {
    let mut response = (status, Body::from_stream(reader.pieces(range))).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

fn insert(response: &mut Response, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

/// A smaller variant may take the place of what was answered, so whoever keeps an answer asks again whether it is
/// still that.
pub(crate) fn caching(domain: &Domain) -> &'static str {
    if *domain == Domain::public() { "public, no-cache" } else { "private, no-cache" }
}

fn broken_off(error: anyhow::Error) -> Problem {
    tracing::debug!(error = format!("{error:#}"), "a bundle broke off before it was answered");
    Problem::Busy("the bundle could not be computed")
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::TooLarge => Self::Busy("this step is too large to be computed while somebody waits"),
            Refusal::Busy => Self::Busy("too many bundles are being computed"),
            Refusal::Failed => Self::Busy("the bundle could not be computed"),
        }
    }
}
