//! Evidence: what a client needs to judge for itself where a ref stands, or stood.
//!
//! A client says what it has verified before, and is sent nothing that it has; one that has everything gets the newest
//! checkpoint alone.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use smart_sync_sync::evidence::Evidence;
use smart_sync_sync::name::{Channel, RefName, decode_file_segment};
use smart_sync_sync::time::UnixTime;

use super::problem::Problem;
use super::read::{Asked, asked_channel, choose_ref, malformed, octets};
use super::{App, blocking};
use crate::realm::evidence::{Question, evidence, short_evidence};
use crate::realm::view::View;

/// What a client says of itself when it asks for an update.
#[derive(Debug, Default, Deserialize)]
pub(super) struct UpdateQuery {
    /// The manifest that its target has.
    have: Option<String>,
    /// The log size that it last verified.
    size: Option<u64>,
    /// The time as of which the ref is asked for.
    at: Option<u64>,
}

/// `GET /v1/update/<channel>/<ref>`
pub(super) async fn update(
    State(app): State<Arc<App>>,
    Path((channel, reference)): Path<(String, String)>,
    Query(query): Query<UpdateQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // The same address is that of a file in an export.
    let plain = |segment: String| decode_file_segment(&segment).map_err(|_| Problem::NotFound);
    let (channel, reference) = (plain(channel)?, plain(reference)?);
    let asked = asked_channel(&app, &headers, &channel).await?;
    let query_time =
        query.at.map(|at| UnixTime::new(at).ok_or_else(|| malformed("at is beyond the year 9999")));
    let at = query_time.transpose()?;
    blocking(move || {
        let view = app.realm.view();
        let reference = choose_ref(&app, &view, &asked, &reference)?;
        let known = known(&app, &view, &asked, &reference, &query)?;
        match (at, known) {
            (Some(at), _) => answer(&app, &view, &asked, &reference, None, Some(at)),
            (None, Known::Everything) => Ok(evidence_response(&short_evidence(&view))),
            (None, Known::Size(size)) => answer(&app, &view, &asked, &reference, Some(size), None),
            (None, Known::Nothing) => answer(&app, &view, &asked, &reference, None, None),
        }
    })
    .await
}

/// What the client has verified before.
enum Known {
    /// This very log and this very manifest.
    Everything,
    /// A smaller log.
    Size(u64),
    /// Nothing that helps.
    Nothing,
}

fn known(
    app: &App,
    view: &View,
    asked: &Asked,
    reference: &RefName,
    query: &UpdateQuery,
) -> Result<Known, Problem> {
    let Some(size) = query.size else { return Ok(Known::Nothing) };
    if size == view.size && query.have.is_some() && asked.is_visible {
        let newest = app.realm.newest(view, &asked.channel, reference)?;
        let manifest = newest.and_then(|newest| newest.publication.manifest);
        if manifest.map(|manifest| manifest.id.to_string()) == query.have {
            return Ok(Known::Everything);
        }
    }
    // A client that has seen a larger log learns from the evidence that this one is behind.
    Ok(if (1..=view.size).contains(&size) { Known::Size(size) } else { Known::Nothing })
}

/// Evidence for where a ref stands now, for a publisher who has just moved it.
pub(super) fn evidence_answer(
    app: &App,
    view: &View,
    channel: &Channel,
    reference: &RefName,
) -> Result<Response, Problem> {
    let asked = Asked { channel: channel.clone(), is_visible: true };
    answer(app, view, &asked, reference, None, None)
}

/// Evidence for where a ref stands, or stood at a time. `base` is the log size that the client knows.
fn answer(
    app: &App,
    view: &View,
    asked: &Asked,
    reference: &RefName,
    base: Option<u64>,
    at: Option<UnixTime>,
) -> Result<Response, Problem> {
    let channel = &asked.channel;
    let question = Question { channel, is_visible: asked.is_visible, reference, base, at };
    Ok(evidence_response(&evidence(&app.realm, view, question)?))
}

fn evidence_response(evidence: &Evidence) -> Response {
    octets(evidence.encode(), "no-store")
}
