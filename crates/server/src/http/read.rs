//! What clients of ours ask besides evidence: deltas, where contents lie, histories, and documents.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use smart_sync_store::codec::{put_number, put_prefixed};
use smart_sync_store::domain::Domain;
use smart_sync_store::error::Fault;
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::{Manifest, Node as TreeNode};
use smart_sync_sync::log::heads::HeadKey;
use smart_sync_sync::name::{Channel, RefName, TypedRef};
use smart_sync_sync::wire::locate::{Wanted, decode as decode_locate};
use smart_sync_sync::wire::submission::Sidecar;
use tokio::runtime::Handle;

use super::deltas::DeltaKey;
use super::problem::Problem;
use super::static_files::TEXT;
use super::tree::off_runtime;
use super::{App, blocking, now};
use crate::realm::pages::StorePages;
use crate::realm::view::View;
use crate::realm::{Published, fetch};

/// How hard a delta is compressed: it is computed for one client, who waits.
pub(crate) const DELTA_LEVEL: i32 = 3;
/// Publications in one answer.
const HISTORY_MAX: u64 = 100;

/// A ref as it was typed, without a kind: a branch if there is one, else a tag.
pub(super) fn choose_ref(app: &App, view: &View, asked: &Asked, typed: &str) -> Result<RefName, Problem> {
    let typed: TypedRef = typed.parse().map_err(|error| malformed(&format!("{error}")))?;
    let candidates = typed.candidates();
    for candidate in &candidates {
        if asked.head_key(app, candidate)?.is_some_and(|key| view.table.get(&key).is_some()) {
            return Ok(candidate.clone());
        }
    }
    candidates.into_iter().next().ok_or(Problem::NotFound)
}

/// `GET /v1/delta/<from>/<to>`
pub(super) async fn delta(
    State(app): State<Arc<App>>,
    Path((from, to)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let from: Option<ManifestId> = match from.as_str() {
        "none" => None,
        from => Some(from.parse().map_err(|_| Problem::NotFound)?),
    };
    let to: ManifestId = to.parse().map_err(|_| Problem::NotFound)?;
    let domain = app.domain_of_manifests(&headers, [Some(to), from].into_iter().flatten().collect()).await?;
    let is_public = domain == Domain::public();
    let store = Arc::clone(&app.realm.store);
    let key = DeltaKey { domain: domain.clone(), from, to };
    let computing = move || {
        let delta = fetch::delta(&store, &domain, from, to)?;
        Ok(Bytes::from(delta.encode(DELTA_LEVEL).map_err(anyhow::Error::from)?))
    };
    let bytes = app.deltas.get(key, now(), computing).await?;
    // A delta says in which packs the contents lie, and that changes when packs are rewritten.
    let cache = if is_public { "public, max-age=60" } else { "private, max-age=60" };
    Ok(octets(bytes, cache))
}

/// `POST /v1/locate`
pub(super) async fn locate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let wanted = decode_locate(&body).map_err(|error| malformed(&error.to_string()))?;
    let caller = app.caller(&headers).await?;
    let wanted: Vec<_> = wanted.into_iter().map(Wanted::content).collect();
    blocking(move || {
        // One answer speaks of one domain: the first that has something of what is asked for.
        for domain in app.domains_to_read(&caller)? {
            let map = fetch::locate(&app.realm.store, &domain, &wanted)?;
            if !map.contents.is_empty() {
                return Ok(octets(map.encode(), "no-store"));
            }
        }
        Ok(octets(smart_sync_sync::wire::fetch_map::FetchMap::default().encode(), "no-store"))
    })
    .await
}

/// `GET /v1/content/<content>/<size>`: a content as it is, for who cannot rebuild it, or would take longer for that.
pub(super) async fn content(
    State(app): State<Arc<App>>,
    Path((id, size)): Path<(String, u64)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = id.parse().map_err(|_| Problem::NotFound)?;
    let caller = app.caller(&headers).await?;
    let wanted = Wanted { id, size }.content();
    let store = Arc::clone(&app.realm.store);
    let domain = blocking(move || {
        for domain in app.domains_to_read(&caller)? {
            match Handle::current().block_on(app.realm.store.laid_out(&domain, &wanted)) {
                Ok(_) => return Ok(domain),
                Err(error) if error.fault() == Fault::Absent => {}
                Err(error) => return Err(anyhow::Error::from(error).into()),
            }
        }
        Err(Problem::NotFound)
    })
    .await?;
    let stream =
        off_runtime(store.read_content(&domain, wanted, 0..size).boxed(), size).inspect_err(|error| {
            tracing::error!(error = %error, "reading a content that is being served");
        });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_LENGTH, HeaderValue::from(size)),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// Which publications of a ref are asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct HistoryQuery {
    before: Option<u64>,
}

/// `GET /v1/history/<channel>/<ref>`: the notes of a ref's publications, newest first, each with its place in the
/// log and its length in front. A reader who knows the newest one by its proof follows the rest by their hashes, and
/// finds their places proven by the log's tiles.
pub(super) async fn history(
    State(app): State<Arc<App>>,
    Path((channel, reference)): Path<(String, String)>,
    Query(query): Query<HistoryQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = asked_channel(&app, &headers, &channel).await?;
    blocking(move || {
        let view = app.realm.view();
        let reference = choose_ref(&app, &view, &asked, &reference)?;
        let key = asked.head_key(&app, &reference)?.ok_or(Problem::NotFound)?;
        let leaves = app.realm.index().history(&key, query.before, HISTORY_MAX, view.size)?;
        let mut out = Vec::new();
        for (_, leaf) in leaves {
            let published = app.realm.published(leaf, view.size)?;
            put_number(&mut out, leaf);
            put_prefixed(&mut out, &published.bytes);
            put_prefixed(&mut out, published.opening.as_ref().map_or(&[], |opening| &opening.random));
            put_prefixed(&mut out, published.opening.as_ref().map_or(&[], |opening| &opening.note));
        }
        if out.is_empty() { Err(Problem::NotFound) } else { Ok(octets(out, "no-cache")) }
    })
    .await
}

/// `GET /v1/time/<channel>/<ref>/<seq>`: the second as of which the ref was this publication, as a number.
pub(super) async fn time(
    State(app): State<Arc<App>>,
    Path((channel, reference, seq)): Path<(String, String, u64)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = asked_channel(&app, &headers, &channel).await?;
    blocking(move || {
        let view = app.realm.view();
        let reference = choose_ref(&app, &view, &asked, &reference)?;
        let key = asked.head_key(&app, &reference)?.ok_or(Problem::NotFound)?;
        let index = app.realm.index();
        let found = index.history(&key, Some(seq.saturating_add(1)), 1, view.size)?;
        let leaf = found.first().filter(|(found, _)| *found == seq).ok_or(Problem::NotFound)?.1;
        let time = index.heads_after(leaf, view.size)?.ok_or(Problem::NotFound)?;
        let headers = [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")];
        Ok((headers, format!("{time}\n")).into_response())
    })
    .await
}

/// `GET /v1/root/<version>`
pub(super) async fn root(
    State(app): State<Arc<App>>,
    Path(version): Path<String>,
) -> Result<Response, Problem> {
    let version = match version.as_str() {
        "latest" => None,
        version => Some(version.parse().map_err(|_| Problem::NotFound)?),
    };
    blocking(move || {
        let view = app.realm.view();
        let leaf = app.realm.index().root(version, view.size)?.ok_or(Problem::NotFound)?;
        let note = app.realm.files.leaf(leaf, view.size)?;
        Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], note).into_response())
    })
    .await
}

/// `GET /v1/signed/<channel>/<ref>/<file>`: the publication, the tree's checksums, and signatures of both that other
/// programs check.
pub(super) async fn signed(
    State(app): State<Arc<App>>,
    Path((channel, reference, file)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = asked_channel(&app, &headers, &channel).await?;
    blocking(move || {
        let view = app.realm.view();
        let reference = choose_ref(&app, &view, &asked, &reference)?;
        let head = asked.head_key(&app, &reference)?.and_then(|key| view.table.get(&key));
        let newest = app.realm.published(head.ok_or(Problem::NotFound)?.index, view.size)?;
        let bytes = match file.as_str() {
            "publication" => newest.note().to_vec(),
            "SUMS" => sums(&app, &newest)?.into_bytes(),
            // The name becomes that of a file.
            name if Sidecar::NAMES.contains(&name) => {
                app.realm.sidecar(&newest.leaf, name)?.ok_or(Problem::NotFound)?
            }
            _ => return Err(Problem::NotFound),
        };
        Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-cache")], bytes).into_response())
    })
    .await
}

/// The tree as `b3sum` prints it.
fn sums(app: &App, published: &Published) -> Result<String, Problem> {
    let manifest = published.publication.manifest.ok_or(Problem::NotFound)?;
    let domain = app.realm.domain(&published.publication.channel)?;
    let pages = StorePages::new(Arc::clone(&app.realm.store), domain);
    let fault = |error| Problem::Fault(anyhow::Error::new(error));
    let manifest = Manifest::open(pages, manifest.id, Some(manifest.bytes)).map_err(fault)?;
    let mut out = String::new();
    for entry in &manifest {
        let entry = entry.map_err(fault)?;
        if let TreeNode::File(content) = &entry.node {
            let line = smart_sync_sync::sums::line(entry.path.as_bytes(), &content.id);
            // Writing to a string does not fail.
            let _ = out.write_str(&line);
        }
    }
    Ok(out)
}

/// The channel of a request.
pub(super) struct Asked {
    pub(super) channel: Channel,
    /// Whether the caller may know of it. What is not visible is answered as what does not exist: a name that is
    /// tried out must not show by its answer that it is the name of something.
    pub(super) is_visible: bool,
}

impl Asked {
    /// The key of a ref of the channel; none where the caller can learn of no such ref.
    pub(super) fn head_key(&self, app: &App, reference: &RefName) -> anyhow::Result<Option<HeadKey>> {
        if self.is_visible { app.realm.head_key(&self.channel, reference) } else { Ok(None) }
    }
}

pub(super) async fn asked_channel(
    app: &Arc<App>,
    headers: &HeaderMap,
    segment: &str,
) -> Result<Asked, Problem> {
    let caller = app.caller(headers).await?;
    let channel: Channel = segment.parse().map_err(|_| Problem::NotFound)?;
    let is_visible = app.may_read(&caller, &channel);
    Ok(Asked { channel, is_visible })
}

pub(super) fn octets(bytes: impl Into<Bytes>, cache: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, cache)];
    (headers, bytes.into()).into_response()
}

pub(super) fn malformed(text: &str) -> Problem {
    Problem::Malformed(text.to_owned())
}
