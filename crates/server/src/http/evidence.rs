//! Evidence: what a client needs to judge for itself where a ref stands, or stood.
//!
//! A client says what it has verified before, and is sent nothing that it has; one that has everything gets the newest
//! checkpoint alone.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use smart_sync_store::id::ManifestId;
use smart_sync_sync::evidence::Evidence;
use smart_sync_sync::name::{Channel, RefName, decode_file_segment};
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::wire::update::{BUNDLE_BYTES_MAX, Update};

use super::problem::Problem;
use super::read::{Asked, asked_channel, choose_ref, malformed, octets};
use super::{App, blocking};
use crate::bundles::Step;
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
    /// The manifest from which a bundle is to lead to the answer; where it is empty, the one that the client has.
    bundle: Option<String>,
}

impl UpdateQuery {
    /// Where a bundle is to begin, where one is wanted.
    fn bundle_from(&self) -> Option<ManifestId> {
        let named = self.bundle.as_deref()?;
        if named.is_empty() { self.have.as_deref()? } else { named }.parse().ok()
    }
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
    let from = query.bundle_from().filter(|_| at.is_none());
    let asking = Arc::clone(&app);
    let (evidence, to) = blocking(move || {
        let view = asking.realm.view();
        let reference = choose_ref(&asking, &view, &asked, &reference)?;
        let known = known(&asking, &view, &asked, &reference, &query)?;
        let evidence = match (at, known) {
            (Some(at), _) => found(&asking, &view, &asked, &reference, None, Some(at))?,
            (None, Known::Everything) => short_evidence(&view),
            (None, Known::Size(size)) => found(&asking, &view, &asked, &reference, Some(size), None)?,
            (None, Known::Nothing) => found(&asking, &view, &asked, &reference, None, None)?,
        };
        let to = match from.filter(|_| asked.is_visible) {
            Some(_) => asking.realm.newest(&view, &asked.channel, &reference)?,
            None => None,
        };
        Ok((evidence, to.and_then(|newest| newest.publication.manifest).map(|manifest| manifest.id)))
    })
    .await?;
    let bundle = match (from, to) {
        (Some(from), Some(to)) if from != to => bundle_at_hand(&app, &headers, from, to).await,
        _ => Vec::new(),
    };
    Ok(octets(Update { evidence, bundle }.encode(), "no-store"))
}

/// The bundle of a step, where it is stored and short enough to be sent along.
async fn bundle_at_hand(app: &Arc<App>, headers: &HeaderMap, from: ManifestId, to: ManifestId) -> Vec<u8> {
    let Some(bundles) = &app.bundles else { return Vec::new() };
    let Ok(domain) = app.domain_of_manifests(headers, vec![to, from]).await else { return Vec::new() };
    let step = Step { domain, from: Some(from), to };
    bundles.short(&step, BUNDLE_BYTES_MAX as u64).await.unwrap_or_default()
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
    Ok(octets(found(app, view, &asked, reference, None, None)?.encode(), "no-store"))
}

/// Evidence for where a ref stands, or stood at a time. `base` is the log size that the client knows.
fn found(
    app: &App,
    view: &View,
    asked: &Asked,
    reference: &RefName,
    base: Option<u64>,
    at: Option<UnixTime>,
) -> Result<Evidence, Problem> {
    let channel = &asked.channel;
    let question = Question { channel, is_visible: asked.is_visible, reference, base, at };
    Ok(evidence(&app.realm, view, question)?)
}
