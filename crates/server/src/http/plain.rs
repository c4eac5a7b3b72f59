//! `/CHANNEL/PATH`: the main branch of a channel without its name, for stock clients whose configuration holds one URL
//! for years.
//!
//! It is `/files/CHANNEL/main/PATH`, but that no route of the server is ever taken for a channel. A channel may have
//! others below its name; the longest name that has a main branch counts. With `/at/DATE` in front, it is what that
//! branch was then. What the branch of a mirror does not have may come from upstream.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use percent_encoding::percent_decode_str;
use smart_sync_sync::name::{Channel, RefName};
use smart_sync_sync::record::Publication;
use smart_sync_sync::time::UnixTime;

use super::files::{CHANNEL_SEGMENTS_MAX, answer, tree_view};
use super::index::{Index, Place, Row};
use super::problem::Problem;
use super::upstream::Question;
use super::{App, blocking};
use crate::realm::refs::Refs;
use crate::realm::view::View;
use crate::tokens::Caller;

/// What the paths of the server itself begin with: none of them is ever taken for a channel.
const OWN: &[&str] = &["bundle", "checkpoint", "files", "git", "healthz", "pack", "page", "tile", "v1"];
/// Begins a path that is as of a date, which follows.
const AT: &str = "at";
/// How many segments that is.
const DATE_SEGMENTS: usize = 2;

/// `GET /<channel>/<path>`
pub(super) async fn file(
    State(app): State<Arc<App>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let path = uri.path().strip_prefix('/').unwrap_or_default();
    let segments: Vec<Vec<u8>> =
        path.split('/').map(|segment| percent_decode_str(segment).collect()).collect();
    // What was encoded is not a way to write a step upwards, or a slash.
    if segments.iter().any(|segment| segment == b"." || segment == b".." || segment.contains(&b'/')) {
        return Err(Problem::NotFound);
    }
    let (at, below) = match &segments[..] {
        [at, date, below @ ..] if at == AT.as_bytes() => {
            let date = str::from_utf8(date).ok().and_then(UnixTime::parse_typed);
            (Some(date.ok_or(Problem::NotFound)?), below.to_vec())
        }
        _ => (None, segments.clone()),
    };
    let caller = app.caller(&headers).await?;
    let view = app.view().await?;
    let from_upstream = if at.is_some() { None } else { Question::of(&app, &caller, &segments) };
    let found = match (at, view.refs_at_hand()) {
        (None, Some(refs)) => find(&below, When::Now, refs, |channel| app.may_read(&caller, channel)),
        _ => find_elsewhere(Arc::clone(&app), Arc::clone(&view), caller, below, at).await?,
    };
    let place = Place::below_root(app.realm.origin.as_str(), &segments);
    let moved = || Problem::MovedToDirectory(format!("/{path}/"));
    let is_elsewhere = match (&found, &from_upstream) {
        (Found::Tree { rest, .. }, Some(question)) => *rest < question.rest,
        (Found::Names(names), Some(_)) => names.is_empty(),
        (_, None) => false,
    };
    if let Some(question) = from_upstream.as_ref().filter(|_| is_elsewhere) {
        return question.answer(&app, &method, &headers).await;
    }
    match found {
        Found::Tree { rest, .. } if rest == segments.len() => Err(moved()),
        Found::Tree { publication, rest } => {
            let mut tree = tree_view(&app, &publication, place)?;
            // What has been does not change any more.
            tree.is_immutable |= at.is_some_and(|at| at < view.heads.time);
            match (tree.answer(segments[rest..].join(&b'/'), &headers).await, &from_upstream) {
                (Err(Problem::NotFound), Some(question)) if question.rest == rest => {
                    question.answer(&app, &method, &headers).await
                }
                (answer, _) => answer?.ok_or_else(moved),
            }
        }
        Found::Names(names) if names.is_empty() => Err(Problem::NotFound),
        Found::Names(_) if !path.ends_with('/') => Err(moved()),
        Found::Names(names) => {
            let rows = names.iter().map(|name| Row::directory(name.as_bytes())).collect();
            answer(&Index::new(&place, rows), view.heads.time.seconds(), &headers)
        }
    }
}

/// Finds it where that may take longer: on a thread that may block.
async fn find_elsewhere(
    app: Arc<App>,
    view: Arc<View>,
    caller: Caller,
    below: Vec<Vec<u8>>,
    at: Option<UnixTime>,
) -> Result<Found, Problem> {
    let finding = move || {
        let refs = app.realm.refs(&view)?;
        let when = if at.is_some() { When::Then } else { When::Now };
        let found = find(&below, when, &refs, |channel| app.may_read(&caller, channel));
        match (found, at) {
            (Found::Tree { publication, rest }, Some(at)) => {
                let (channel, reference) = (&publication.channel, &publication.reference);
                let then = app.realm.newest_at(&view, channel, reference, at)?.ok_or(Problem::NotFound)?;
                // The date and the word before it are no part of the channel.
                Ok(Found::Tree { publication: Box::new(then.publication), rest: rest + DATE_SEGMENTS })
            }
            (found, _) => Ok(found),
        }
    };
    blocking(finding).await
}

/// What a path leads to.
enum Found {
    /// A channel's main branch; the path in its tree begins at this segment.
    Tree { publication: Box<Publication>, rest: usize },
    /// The next part of the names of channels that begin so.
    Names(BTreeSet<String>),
}

/// Of which time a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// A branch that was withdrawn is not there.
    Now,
    /// It may have been.
    Then,
}

fn find(segments: &[Vec<u8>], when: When, refs: &Refs, may_read: impl Fn(&Channel) -> bool) -> Found {
    let texts: Vec<&str> = segments.iter().map_while(|segment| str::from_utf8(segment).ok()).collect();
    let nothing = || Found::Names(BTreeSet::new());
    if texts.first().is_none_or(|first| OWN.contains(first)) {
        return nothing();
    }
    let main_of = |channel: &Channel| {
        let state = refs.get(channel, &RefName::branch("main").ok()?)?;
        let is_there = when == When::Then || state.publication.manifest.is_some();
        (is_there && may_read(channel)).then_some(state)
    };
    let tree = (1..=texts.len().min(CHANNEL_SEGMENTS_MAX)).rev().find_map(|rest| {
        let state = main_of(&texts[..rest].join("/").parse().ok()?)?;
        Some(Found::Tree { publication: Box::new(state.publication.clone()), rest })
    });
    tree.unwrap_or_else(|| {
        if texts.len() < segments.len() {
            return nothing();
        }
        let prefix = texts.join("/");
        let prefix = prefix.strip_suffix('/').unwrap_or(&prefix);
        let channels =
            refs.channels().map(|(channel, _)| channel).filter(|channel| main_of(channel).is_some());
        let names = channels.filter_map(|channel| {
            let below = channel.as_str().strip_prefix(prefix)?.strip_prefix('/')?;
            below.split('/').next().map(str::to_owned)
        });
        Found::Names(names.collect())
    })
}
