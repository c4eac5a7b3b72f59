//! What is served as it lies: the log, packs and pages. The same URLs work on a plain web server.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use smart_sync_store::backend::PackFile;
use smart_sync_store::domain::Domain;
use smart_sync_store::error::StoreError;
use smart_sync_store::id::{ObjectId, PackId};
use smart_sync_store::object::ObjectKey;
use smart_sync_sync::log::tile::Tile;
use tokio::runtime::Handle;

use super::conditional::{Answer, Validators, evaluate};
use super::problem::Problem;
use super::{App, blocking};
use crate::realm::Realm;

/// Bytes of a pack that are read at once.
const PIECE: u64 = 256 << 10;

/// `GET /healthz`
pub(super) async fn health(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    app.view().await?;
    Ok("ok\n")
}

/// `GET /checkpoint`
pub(super) async fn checkpoint(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let view = app.view().await?;
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], view.checkpoint.clone())
        .into_response())
}

/// `GET /v1/unsigned-checkpoint`: the newest one, for those whose signatures it may still lack.
pub(super) async fn unsigned_checkpoint(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let view = blocking(move || Ok(app.realm.newest_view()?)).await?;
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-store")], view.checkpoint.clone())
        .into_response())
}

/// `GET /tile/…`
pub(super) async fn tile(State(app): State<Arc<App>>, Path(path): Path<String>) -> Result<Response, Problem> {
    let tile: Tile = format!("tile/{path}").parse().map_err(|_| Problem::NotFound)?;
    let bytes = blocking(move || {
        if !tile.is_within(app.realm.newest_view()?.size) {
            return Err(Problem::NotFound);
        }
        app.realm.files.tile(tile).map_err(|error| Problem::Fault(anyhow::Error::new(error)))
    })
    .await?;
    let cache = if tile.is_full() { IMMUTABLE } else { "public, max-age=60" };
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, cache)];
    Ok((headers, Bytes::from(bytes.to_vec())).into_response())
}

/// `GET /page/<page>`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(page): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id: ObjectId = page.parse().map_err(|_| Problem::NotFound)?;
    let caller = app.caller(&headers).await?;
    blocking(move || {
        for domain in app.domains_to_read(&caller)? {
            let object = app.realm.store.object(&domain, ObjectKey::page(id));
            match Handle::current().block_on(object) {
                Ok(object) => {
                    let headers = [
                        (header::CONTENT_TYPE, "application/octet-stream"),
                        (header::CACHE_CONTROL, caching(&domain)),
                    ];
                    return Ok((headers, object.into_bytes()).into_response());
                }
                Err(StoreError::Absent { .. }) => {}
                Err(error) => return Err(Problem::Fault(error.into())),
            }
        }
        Err(Problem::NotFound)
    })
    .await
}

/// `GET /pack/<pack>`
pub(super) async fn pack(
    State(app): State<Arc<App>>,
    Path(pack): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id: PackId = pack.parse().map_err(|_| Problem::NotFound)?;
    let caller = app.caller(&headers).await?;
    let realm = Arc::clone(&app.realm);
    let (file, length) = blocking(move || {
        for domain in app.domains_to_read(&caller)? {
            let found = app.realm.store.catalogue().file_of(&domain, id);
            if let Some(found) = found.map_err(|error| Problem::Fault(error.into()))? {
                return Ok(found);
            }
        }
        Err(Problem::NotFound)
    })
    .await?;
    Ok(serve_pack(realm, file, u64::from(length), &headers))
}

fn serve_pack(realm: Arc<Realm>, file: PackFile, length: u64, headers: &HeaderMap) -> Response {
    // A pack never changes, so its time does not matter to anybody.
    let validators = Validators { etag: format!("\"{}\"", file.id), modified: 0, size: length };
    let (status, range) = match evaluate(headers, &validators) {
        Answer::Whole => (StatusCode::OK, 0..length),
        Answer::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start..end),
        Answer::NotModified => return StatusCode::NOT_MODIFIED.into_response(),
        Answer::PreconditionFailed => return StatusCode::PRECONDITION_FAILED.into_response(),
        Answer::RangeNotSatisfiable => {
            let range = format!("bytes */{length}");
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response();
        }
    };
    let caching = caching(&file.domain);
    let body = Body::from_stream(pieces(realm, file, range.clone()));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(etag) = HeaderValue::try_from(validators.etag) {
        headers.insert(header::ETAG, etag);
    }
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::try_from(format!("bytes {}-{}/{length}", range.start, range.end - 1))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
    response
}

fn pieces(
    realm: Arc<Realm>,
    file: PackFile,
    range: Range<u64>,
) -> impl futures::Stream<Item = Result<Bytes, StoreError>> + Send {
    stream::try_unfold(range, move |range| {
        let (realm, file) = (Arc::clone(&realm), file.clone());
        async move {
            if range.is_empty() {
                return Ok(None);
            }
            let end = range.end.min(range.start + PIECE);
            // The pack was there when the answer began. A file that was removed meanwhile breaks the answer off.
            let piece = realm.store.backend().get_range(&file, range.start..end).await?;
            Ok(Some((piece, end..range.end)))
        }
    })
}

/// How long an answer out of a domain may be kept, and by whom.
pub(super) fn caching(domain: &Domain) -> &'static str {
    if *domain == Domain::public() { IMMUTABLE } else { "private, max-age=31536000, immutable" }
}

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
