//! Which refs there are, for people and scripts. It is what the server says, not what was proven.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use smart_sync_sync::name::Channel;
use smart_sync_sync::record::Publication;

use super::problem::Problem;
use super::{App, blocking};
use crate::realm::refs::RefState;

/// A ref.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RefInfo {
    channel: String,
    r#ref: String,
    kind: String,
    seq: u64,
    time: u64,
    manifest: Option<String>,
    entries: u64,
    bytes: u64,
    commit: Option<String>,
}

/// `GET /v1/refs`
pub(super) async fn all(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = app.caller(&headers).await?;
    blocking(move || {
        let refs = app.realm.refs(&app.realm.view())?;
        let visible = refs.channels().filter(|(channel, _)| app.may_read(&caller, channel));
        answer(visible.flat_map(|(_, refs)| refs))
    })
    .await
}

/// `GET /v1/refs/<channel>`: a channel that is not there, or not for this caller, has none.
pub(super) async fn of_channel(
    State(app): State<Arc<App>>,
    Path(channel): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = app.caller(&headers).await?;
    let channel: Channel = channel.parse().map_err(|_| Problem::NotFound)?;
    blocking(move || {
        let refs = app.realm.refs(&app.realm.view())?;
        answer(refs.of_channel(&channel).filter(|_| app.may_read(&caller, &channel)))
    })
    .await
}

fn answer<'a>(refs: impl Iterator<Item = &'a Arc<RefState>>) -> Result<Response, Problem> {
    let infos: Vec<_> = refs.map(|state| info(&state.publication)).collect();
    let json = serde_json::to_vec(&infos).map_err(|error| Problem::Fault(error.into()))?;
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, json).into_response())
}

fn info(publication: &Publication) -> RefInfo {
    RefInfo {
        channel: publication.channel.to_string(),
        r#ref: publication.reference.to_string(),
        kind: publication.kind.to_string(),
        seq: publication.seq,
        time: publication.time.seconds(),
        manifest: publication.manifest.map(|manifest| format!("blake3:{}", manifest.id)),
        entries: publication.content.entries,
        bytes: publication.content.bytes,
        commit: publication.git.map(|git| git.commit.to_string()),
    }
}
