//! What hosts report, and reading it.
//!
//! Whoever reads reports needs a token for that; a token that hosts report with lets them read nothing. What was
//! published since is added for refs that the reader may know of, so that a report of a private channel does not tell
//! more than the host did.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use smart_sync_sync::wire::report::{
    HostName, Newest, REPORT_BYTES_MAX, Report, ReportError, ReportList, Reported,
};

use super::problem::Problem;
use super::{App, blocking, now};
use crate::hosts::{Kept, Noted};
use crate::realm::refs::Refs;
use crate::tokens::{Caller, Verb};

/// The longest body that is read.
pub(super) const BODY_BYTES_MAX: usize = REPORT_BYTES_MAX;

/// `POST /v1/hosts/<name>`: keeps what a host says of one of its targets. When this is answered with success, it is
/// durable.
pub(super) async fn report(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let caller = app.caller(&headers).await?;
    let Caller::Holder(token) = caller else {
        return Err(Problem::Unauthorized("reporting needs a token"));
    };
    let host: HostName = name.parse().map_err(|text: &str| Problem::Malformed(text.to_owned()))?;
    if !token.allows_of_host(Verb::Report, &host, now()) {
        return Err(Problem::Forbidden(format!("this token does not allow reporting for {host}")));
    }
    let report = Report::parse(&body).map_err(|error| match error {
        ReportError::TooLong => Problem::TooLarge,
        ReportError::Malformed(_) => Problem::Malformed(error.to_string()),
        ReportError::Text(_) | ReportError::Name(_) => Problem::Refused(error.to_string()),
    })?;
    blocking(move || match app.hosts.note(&host, &report, now())? {
        Noted::Kept => Ok(StatusCode::OK),
        Noted::TooManyTargets => Err(Problem::Refused(format!("{host} has reported of too many targets"))),
        Noted::TooManyReports => Err(Problem::Refused("too many hosts have reported".to_owned())),
    })
    .await
}

/// `GET /v1/hosts`: the last reports of the hosts that the token is about.
pub(super) async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = app.caller(&headers).await?;
    let Caller::Holder(token) = &caller else {
        return Err(Problem::Unauthorized("reading what hosts report needs a token"));
    };
    if !token.verbs.contains(&Verb::Hosts) {
        return Err(Problem::Forbidden("this token does not allow reading what hosts report".to_owned()));
    }
    let token = Arc::clone(token);
    blocking(move || {
        let now = now();
        let mut kept = app.hosts.all()?;
        kept.retain(|kept| token.allows_of_host(Verb::Hosts, &kept.host, now));
        let refs = app.realm.refs(&app.realm.view())?;
        let reports = kept.into_iter().map(|kept| with_newest(kept, &app, &caller, &refs)).collect();
        let json = serde_json::to_vec(&ReportList { now, reports }).map_err(anyhow::Error::from)?;
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        Ok((headers, json).into_response())
    })
    .await
}

fn with_newest(kept: Kept, app: &App, caller: &Caller, refs: &Refs) -> Reported {
    let Kept { host, received, report } = kept;
    let is_ours = report.origin == app.realm.origin.as_str();
    let asked = report.channel_and_ref().filter(|(channel, _)| is_ours && app.may_read(caller, channel));
    let newest = asked.and_then(|(channel, reference)| refs.get(&channel, &reference)).map(|state| Newest {
        seq: state.publication.seq,
        manifest: state.publication.manifest.map(|manifest| format!("blake3:{}", manifest.id)),
    });
    Reported { host, received, newest, report }
}
