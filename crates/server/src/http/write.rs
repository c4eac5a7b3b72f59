//! Requests that change something: uploads, publications, root documents, cosignatures.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use smart_sync_store::Added;
use smart_sync_store::error::StoreError;
use smart_sync_store::id::{ManifestId, ObjectId, PackId};
use smart_sync_store::manifest::Content;
use smart_sync_store::object::{ObjectKey, ObjectKind};
use smart_sync_store::pack::PACK_LEN_MAX;
use smart_sync_sync::name::Channel;
use smart_sync_sync::record::{Publication, Unverified};
use smart_sync_sync::wire::locate;
use smart_sync_sync::wire::submission::Submission;
use tokio::runtime::Handle;

use super::evidence::evidence_answer;
use super::problem::Problem;
use super::{App, KEY_BYTES, blocking, now};
use crate::realm::append::AppendError;
use crate::realm::complete::Completeness;
use crate::realm::timestamp;
use crate::tokens::{Caller, Verb};

/// `POST /v1/missing/<channel>`: which of these objects have to be sent.
pub(super) async fn missing(
    State(app): State<Arc<App>>,
    Path(channel): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, Problem> {
    let channel = parse_channel(&channel)?;
    let domain = app.domain_to_write(&app.caller(&headers).await?, &channel)?;
    if !body.len().is_multiple_of(KEY_BYTES) {
        return Err(Problem::Malformed(format!("object keys have {KEY_BYTES} bytes each")));
    }
    let keys = body.chunks_exact(KEY_BYTES).map(read_key).collect::<Result<Vec<_>, _>>()?;
    blocking(move || {
        let missing = app.realm.store.missing(&domain, &keys, timestamp(now())).map_err(store_problem)?;
        let missing: HashSet<_> = missing.into_iter().collect();
        Ok(keys.iter().map(|key| u8::from(missing.contains(key))).collect())
    })
    .await
}

/// `POST /v1/missing-contents/<channel>`: which of these contents could not be read from the channel.
pub(super) async fn missing_contents(
    State(app): State<Arc<App>>,
    Path(channel): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, Problem> {
    let channel = parse_channel(&channel)?;
    let domain = app.domain_to_write(&app.caller(&headers).await?, &channel)?;
    let wanted = locate::decode(&body).map_err(|error| Problem::Malformed(error.to_string()))?;
    let contents: Vec<Content> = wanted.into_iter().map(locate::Wanted::content).collect();
    blocking(move || {
        let missing = app.realm.store.missing_contents(&domain, &contents, timestamp(now()));
        let missing = Handle::current().block_on(missing).map_err(store_problem)?;
        let missing: HashSet<_> = missing.into_iter().collect();
        Ok(contents.iter().map(|content| u8::from(missing.contains(content))).collect())
    })
    .await
}

/// `GET /v1/has-manifest/<channel>/<manifest>`: whether a ref is this tree now, so that all of it is here and stays.
pub(super) async fn has_manifest(
    State(app): State<Arc<App>>,
    Path((channel, manifest)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<&'static str, Problem> {
    let channel = parse_channel(&channel)?;
    app.domain_to_write(&app.caller(&headers).await?, &channel)?;
    let manifest: ManifestId = manifest.parse().map_err(|error| Problem::Malformed(format!("{error}")))?;
    let is_there = blocking(move || Ok(app.realm.has_published(&channel, manifest)?)).await?;
    if is_there { Ok("1") } else { Err(Problem::NotFound) }
}

fn read_key(bytes: &[u8]) -> Result<ObjectKey, Problem> {
    let (kind, id) = bytes.split_first_chunk::<1>().ok_or_else(|| Problem::Malformed("no key".to_owned()))?;
    let kind = ObjectKind::from_code(kind[0]).map_err(|error| Problem::Malformed(error.to_string()))?;
    let id = id.try_into().map_err(|_| Problem::Malformed("an id has 32 bytes".to_owned()))?;
    Ok(ObjectKey::new(kind, ObjectId::from_bytes(id)))
}

/// `PUT /v1/pack/<channel>/<pack>`: takes a pack in. When this is answered with success, the pack is durable.
pub(super) async fn pack(
    State(app): State<Arc<App>>,
    Path((channel, pack)): Path<(String, String)>,
    headers: HeaderMap,
    request: axum::extract::Request,
) -> Result<StatusCode, Problem> {
    let channel = parse_channel(&channel)?;
    let id: PackId = pack.parse().map_err(|error| Problem::Malformed(format!("{error}")))?;
    let domain = app.domain_to_write(&app.caller(&headers).await?, &channel)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > PACK_LEN_MAX) {
        return Err(Problem::TooLarge);
    }
    // The body is read only when there is room for it; until then the sender waits.
    let _room = app.uploads.acquire().await.map_err(|_| Problem::Busy("the server is stopping"))?;
    let body = read_pack(request.into_body(), length.unwrap_or_default()).await?;
    let (realm, domain_of_pack) = (Arc::clone(&app.realm), domain.clone());
    let verified = blocking(move || {
        let verifying = realm.store.verify_pack(&domain_of_pack, body);
        Handle::current().block_on(verifying).map_err(store_problem)
    })
    .await?;
    // What it takes to rebuild a content is known of those alone that were taken apart here.
    if verified.recipes().iter().any(|recipe| recipe.is_rebuilt) {
        return Err(Problem::Refused(
            "a pack says how to rebuild a content, which only a server finds out".to_owned(),
        ));
    }
    if verified.id() != id {
        return Err(Problem::Refused(format!("this pack is {}, not {id}", verified.id())));
    }
    let added = app.realm.store.add_verified(&domain, &verified, timestamp(now())).await;
    Ok(match added.map_err(store_problem)? {
        Added::New => StatusCode::CREATED,
        Added::Known => StatusCode::OK,
    })
}

/// Reads a body into memory of the announced length: collected piece by piece, a pack would be in memory twice.
async fn read_pack(body: Body, announced: usize) -> Result<Bytes, Problem> {
    let mut pack = Vec::with_capacity(announced);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Problem::Malformed(format!("the pack did not arrive: {error}")))?;
        if pack.len() + piece.len() > PACK_LEN_MAX {
            return Err(Problem::TooLarge);
        }
        pack.extend_from_slice(&piece);
    }
    Ok(pack.into())
}

/// `POST /v1/publish`: makes a publication part of the log. When this is answered with success, it is durable.
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let caller = app.caller(&headers).await?;
    let submission = Submission::decode(&body).map_err(|error| Problem::Malformed(error.to_string()))?;
    let publication = Unverified::<Publication>::parse(&submission.note)
        .and_then(|note| note.claims())
        .map_err(|error| Problem::Refused(error.to_string()))?;
    let domain = app.domain_to_write(&caller, &publication.channel)?;
    if publication.origin != app.realm.origin {
        return Err(Problem::Refused(format!(
            "this server keeps {}, not {}",
            app.realm.origin, publication.origin
        )));
    }
    blocking(move || {
        // What costs little comes first: who may not publish, or comes too late, has no tree looked at.
        let view = app.realm.newest_view()?;
        app.realm.check_publication(&view, &submission.note, now()).map_err(append_problem)?;
        let previous = app.realm.newest(&view, &publication.channel, &publication.reference)?;
        let previous = previous.and_then(|previous| previous.publication.manifest);
        let check = Completeness { store: &app.realm.store, domain: &domain, previous, now: now() };
        check.check_uploaded(&publication)?.map_err(Problem::Refused)?;
        let appended = app.realm.append_publication(&submission.note, &submission.sidecars, now());
        let (view, index) = appended.map_err(append_problem)?;
        let (channel, reference) = (&publication.channel, &publication.reference);
        tracing::info!(%channel, %reference, index, seq = publication.seq, "published");
        if let Some(bundles) = &app.bundles {
            bundles.announce();
        }
        if let Some(views) = &app.views {
            views.wake();
        }
        evidence_answer(&app, &view, channel, reference)
    })
    .await
}

/// `POST /v1/root`: makes a root document part of the log.
pub(super) async fn root(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let now = now();
    match app.caller(&headers).await? {
        Caller::Holder(token) if token.verbs.contains(&Verb::Admin) => {}
        Caller::Holder(_) => {
            return Err(Problem::Forbidden("this token does not allow root documents".to_owned()));
        }
        Caller::Anonymous => return Err(Problem::Unauthorized("root documents need a token")),
    }
    blocking(move || {
        let view = app.realm.append_root(&body, now).map_err(append_problem)?;
        let version = view.root.record().version;
        tracing::info!(version, "a new root document is in force");
        Ok(format!("version {version} is in force\n").into_response())
    })
    .await
}

/// `POST /v1/cosignature`: takes over the signature of a clock or a witness.
pub(super) async fn cosignature(State(app): State<Arc<App>>, body: Bytes) -> Result<StatusCode, Problem> {
    blocking(move || app.realm.add_cosignature(&body).map_err(append_problem)).await?;
    Ok(StatusCode::OK)
}

fn parse_channel(segment: &str) -> Result<Channel, Problem> {
    segment.parse().map_err(|error: smart_sync_sync::name::NameError| Problem::Malformed(error.to_string()))
}

fn append_problem(error: AppendError) -> Problem {
    match error {
        AppendError::Moved(text) => Problem::Conflict(text),
        AppendError::Refused(text) => Problem::Refused(text),
        AppendError::Behind(error) => Problem::Behind(error),
        AppendError::Fault(error) => Problem::Fault(error),
    }
}

fn store_problem(error: StoreError) -> Problem {
    match error {
        StoreError::Refused(_) => Problem::Refused(format!("{:#}", anyhow::Error::new(error))),
        error => Problem::Fault(error.into()),
    }
}
