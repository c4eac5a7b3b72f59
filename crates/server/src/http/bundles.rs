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
    let from = parse_from(&from).map_err(|_| Problem::NotFound)?;
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
        reader.whole().await.map_err(|error| broken_off(&error))?;
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
        there.map_err(|error| broken_off(&error))?;
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
            let end = if size == UNKNOWN {
                end.min(reader.beyond(start).await.map_err(|error| broken_off(&error))?)
            } else {
                end
            };
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

fn broken_off(error: &anyhow::Error) -> Problem {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles::fake::{Order, Place, until};
    use crate::bundles::step::tests::step;
    use axum::http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};

    /// An answer in short: status, length, range, body.
    async fn ask(reader: &Reader, fields: &[(header::HeaderName, &str)]) -> (u16, String, String, String) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let response = answer(reader.clone(), &headers, "public, no-cache").await.unwrap();
        let (head, body) = response.into_parts();
        let header =
            |name| head.headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
        let (length, range) = (header(header::CONTENT_LENGTH), header(header::CONTENT_RANGE));
        let status = head.status.as_u16();
        if [200, 206, 304].contains(&status) {
            assert_eq!(header(header::ETAG), reader.variant.etag());
            assert_eq!(header(header::CACHE_CONTROL), "public, no-cache");
        }
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (status, length, range, String::from_utf8(body.to_vec()).unwrap())
    }

    fn expected(status: u16, length: &str, range: &str, body: &str) -> (u16, String, String, String) {
        (status, length.to_owned(), range.to_owned(), body.to_owned())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_growing_bundle_is_answered_as_far_as_it_has_come() {
        let place = Place::new().await;
        let orders = place.fake.order();
        let growing = place.bundles.get(&step(1, 2)).await.unwrap();
        orders.send(Order::Write(b"0123456789".to_vec())).unwrap();
        growing.beyond(9).await.unwrap();
        let etag = growing.variant.etag();
        let part = |part, range, body: &str| expected(206, part, range, body);
        for (asked, answer) in [
            ("bytes=4-", part("6", "bytes 4-9/*", "456789")),
            ("bytes=4-5", part("2", "bytes 4-5/*", "45")),
            ("bytes=8-100", part("2", "bytes 8-9/*", "89")),
        ] {
            assert_eq!(ask(&growing, &[(RANGE, asked)]).await, answer);
            assert_eq!(ask(&growing, &[(RANGE, asked), (IF_RANGE, &etag)]).await, answer);
        }
        assert_eq!(ask(&growing, &[(IF_NONE_MATCH, &etag)]).await, expected(304, "", "", ""));
        // A range beyond what there is waits for it; so does one from the end.
        let waiting = |asked: &'static str| {
            let growing = growing.clone();
            tokio::spawn(async move { ask(&growing, &[(RANGE, asked)]).await })
        };
        let (next, last, never) = (waiting("bytes=10-"), waiting("bytes=-3"), waiting("bytes=99-"));
        let whole = tokio::spawn({
            let growing = growing.clone();
            async move { ask(&growing, &[]).await }
        });
        orders.send(Order::Write(b"ab".to_vec())).unwrap();
        let next = next.await.unwrap();
        assert!(
            next == part("2", "bytes 10-11/*", "ab") || next == part("1", "bytes 10-10/*", "a"),
            "{next:?}"
        );
        orders.send(Order::End).unwrap();
        assert_eq!(last.await.unwrap(), part("3", "bytes 9-11/12", "9ab"));
        assert_eq!(never.await.unwrap(), expected(416, "", "bytes */12", ""));
        let whole = whole.await.unwrap();
        assert_eq!((whole.0, whole.3), (200, "0123456789ab".to_owned()));
        assert_eq!(ask(&growing, &[]).await, expected(200, "12", "", "0123456789ab"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stored_bundle_is_answered_as_a_file_is() {
        let place = Place::new().await;
        let orders = place.fake.order();
        let first = place.bundles.get(&step(1, 2)).await.unwrap();
        orders.send(Order::Write(b"0123456789".to_vec())).unwrap();
        orders.send(Order::End).unwrap();
        first.whole().await.unwrap();
        until(|| !place.bundles.variants(&step(1, 2)).is_empty()).await;
        let stored = place.bundles.get(&step(1, 2)).await.unwrap();
        let etag = stored.variant.etag();
        for (fields, answer) in [
            (vec![], expected(200, "10", "", "0123456789")),
            (vec![(RANGE, "bytes=4-")], expected(206, "6", "bytes 4-9/10", "456789")),
            (vec![(RANGE, "bytes=4-"), (IF_RANGE, &etag)], expected(206, "6", "bytes 4-9/10", "456789")),
            (vec![(RANGE, "bytes=4-"), (IF_RANGE, "\"best-x\"")], expected(200, "10", "", "0123456789")),
            (vec![(RANGE, "bytes=10-")], expected(416, "", "bytes */10", "")),
            (vec![(IF_NONE_MATCH, &etag)], expected(304, "", "", "")),
            (vec![(IF_MATCH, "\"best-x\"")], expected(412, "", "", "")),
        ] {
            assert_eq!(ask(&stored, &fields).await, answer, "{fields:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_breaks_off_with_the_computation() {
        let place = Place::new().await;
        let orders = place.fake.order();
        let growing = place.bundles.get(&step(1, 2)).await.unwrap();
        orders.send(Order::Write(b"half of".to_vec())).unwrap();
        let response = answer(growing.clone(), &HeaderMap::new(), "private, no-cache").await.unwrap();
        let beyond = tokio::spawn({
            let growing = growing.clone();
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=100-"))]);
            async move { answer(growing, &headers, "private, no-cache").await.map(drop) }
        });
        drop(orders);
        assert!(axum::body::to_bytes(response.into_body(), 1 << 20).await.is_err());
        assert!(matches!(beyond.await.unwrap(), Err(Problem::Busy(_))));
    }

    #[test]
    fn only_who_wants_the_rest_of_a_variant_gets_that_one() {
        let headers = |fields: &[(header::HeaderName, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            fields.collect::<HeaderMap>()
        };
        let both = headers(&[(RANGE, "bytes=5-"), (IF_RANGE, "\"quick-1\"")]);
        assert_eq!(variant_begun(&both), Some("\"quick-1\""));
        assert_eq!(variant_begun(&headers(&[(IF_RANGE, "\"quick-1\"")])), None);
        assert_eq!(variant_begun(&headers(&[(RANGE, "bytes=5-")])), None);
    }
}
